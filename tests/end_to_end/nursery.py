"""Processes of `labmesh`, forked from one that has imported everything already.

Nine tenths of what a daemon or a command takes to start are imports. The nursery imports once and does nothing else: it has
no thread, no channel and no open file of a node, so what is forked from it begins as a new interpreter would, and it ends as
one does. `tests/cli/test_main.py` and `tests/end_to_end/test_keys.py` start the command as an admin does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
COMMAND_PATIENCE_S = 60.0
REQUEST_MAX_BYTES = 256 * 1024
CODE_BYTES = 2


class Child:
    """A running `labmesh`, with what the tests need of `subprocess.Popen`."""

    def __init__(self, *args: object, stdout: IO[bytes], stderr: IO[bytes], env: Mapping[str, str] | None = None) -> None:
        """Start `labmesh` with these arguments and no standard input; `env` is added to this process's environment."""
        environment = {**os.environ, "PYTHONPATH": PATHS, **(env or {})}
        request = json.dumps([[str(word) for word in args], environment]).encode()
        self._told, tell = os.pipe()
        try:
            socket.send_fds(_nursery(), [request], [stdout.fileno(), stderr.fileno(), tell])
        finally:
            os.close(tell)
        self._code: int | None = None
        self.pid = int.from_bytes(os.read(self._told, 4), "big")
        """The process id."""

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._await_end(0)

    def wait(self, patience_s: float = COMMAND_PATIENCE_S) -> int:
        """Wait for its end; returns the exit code."""
        code = self._await_end(patience_s)
        assert code is not None, f"process {self.pid} runs still after {patience_s} s"
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def _await_end(self, patience_s: float) -> int | None:
        if self._code is None and select.select([self._told], [], [], patience_s)[0]:
            raw = os.read(self._told, CODE_BYTES)
            assert len(raw) == CODE_BYTES, "whoever watched the process has gone"
            os.close(self._told)
            self._code = int.from_bytes(raw, "big", signed=True)
        return self._code


def run_labmesh(*args: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run `labmesh` to its end in a process of its own, without standard input."""
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        child = Child(*args, stdout=stdout, stderr=stderr, env=env)
        try:
            code = child.wait()
        finally:
            child.kill()
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(["labmesh", *map(str, args)], code, stdout.read(), stderr.read())


@lru_cache(maxsize=1)
def _nursery() -> socket.socket:
    """The socket of the one nursery of this test process; it ends when the socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = f"from {__name__} import wait_for_work; wait_for_work({theirs.fileno()}); from cli.main import main; main()"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": PATHS},
        )

    @atexit.register
    def close() -> None:
        ours.close()
        process.wait()

    return ours


# What runs in the nursery


def wait_for_work(number: int) -> None:
    """Fork a process for every request on the socket; returns in each of these, ready to be `labmesh`, and nowhere else."""
    _import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=number) as requests:
        while True:
            raw, files, _, _ = socket.recv_fds(requests, REQUEST_MAX_BYTES, 3)
            if not raw:
                os._exit(0)
            if os.fork() == 0:
                break
            for file in files:
                os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stdout, stderr, tell = files
    if (child := os.fork()) != 0:
        _watch(child, tell)
    for file, stream in ((stdout, 1), (stderr, 2)):
        os.dup2(file, stream)
    for file in files:
        os.close(file)
    arguments, environment = json.loads(raw)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["labmesh", *arguments]


def _import_everything() -> None:
    from cli.main import COMMANDS

    for name in ("node.daemon", "node.rpc.node_client", *(f"cli.commands.{name}" for name in COMMANDS)):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _watch(child: int, tell: int) -> None:
    """Tell who asked for a process its id, and how it ended; does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(tell, child.to_bytes(4, "big"))
    _, status = os.waitpid(child, 0)
    with suppress(BrokenPipeError):  # nobody may ask any more
        os.write(tell, os.waitstatus_to_exitcode(status).to_bytes(CODE_BYTES, "big", signed=True))
    os._exit(0)
