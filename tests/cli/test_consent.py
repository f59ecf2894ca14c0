"""Before what cannot be taken back a person is asked; a script is not."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from cli.governance import OFFLINE_RISK
from labmesh.v1 import node_pb2
from tests.cli.conftest import init, run
from tests.cli.fake_node import FakeNode

ROOT = Path(__file__).parents[2]
ID = "jinan/result/WJ-1"
ASKING = {
    ("erase", ID, "--reason", "x"): "EraseRecord",
    ("keys", "revoke", "log", "--size", "3"): "RevokeLogKey",
    ("confirm",): "ConfirmLog",
    ("confirm", "--lost"): "ConfirmLost",
}
"""Commands that ask, by the call that they then make."""


@pytest.fixture
def asked(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    """A node that refuses nothing, and a person at a terminal."""
    node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(erased=[f"{ID}@1"])
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(state="degraded", lost=3)
    node.answers["ConfirmLog"] = node_pb2.ConfirmLogResponse(size=3)
    node.answers["ConfirmLost"] = node_pb2.ConfirmLostResponse(total=3)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    return node


def _changes(node: FakeNode) -> list[str]:
    """The calls that change something."""
    return [
        type(call).__name__.removesuffix("Request")
        for call in node.calls
        if not isinstance(call, node_pb2.GetStatusRequest) and not getattr(call, "preview", False)
    ]


@pytest.mark.parametrize("typed", ["n\n", "N\n", "\n", ""], ids=["n", "N", "return", "ctrl-d"])
@pytest.mark.parametrize("args", ASKING, ids=" ".join)
def test_a_person_declines(asked: FakeNode, node_home: Path, args: tuple[str, ...], typed: str) -> None:
    ended = run(*args, home=node_home, stdin=typed)
    assert ended.exit_code == 1 and "\nerror: not confirmed; nothing was changed\nhint: when you are sure" in ended.err
    assert ended.out == "" and _changes(asked) == []


@pytest.mark.parametrize("args", ASKING, ids=" ".join)
def test_what_is_typed_without_a_terminal_is_done(node: FakeNode, node_home: Path, args: tuple[str, ...]) -> None:
    node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(erased=[f"{ID}@1"])
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(state="degraded", lost=3)
    node.answers["ConfirmLog"] = node_pb2.ConfirmLogResponse(size=3)
    node.answers["ConfirmLost"] = node_pb2.ConfirmLostResponse(total=3)
    ended = run(*args, home=node_home)
    assert _changes(node) == [ASKING[args]] and "[y/N]" not in ended.err


@pytest.mark.parametrize("args", ASKING, ids=" ".join)
def test_a_program_is_not_asked(asked: FakeNode, node_home: Path, args: tuple[str, ...]) -> None:
    ended = run(*args, "--json", home=node_home, stdin="n\n")
    assert _changes(asked) == [ASKING[args]] and "[y/N]" not in ended.err


def test_a_removal_is_asked_for_and_declined(founded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("card", "-o", tmp_path / "q.card", home=init(tmp_path / "qingdao", "qingdao")).exit_code == 0
    assert run("roster", "add", tmp_path / "q.card", home=founded).exit_code == 0
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    ended = run("roster", "remove", "qingdao", "--offline", home=founded, stdin="n\n")
    assert ended.exit_code == 1 and "nothing was changed" in ended.err
    assert run("roster", "show", "--json", home=founded).document["version"] == 2


INTERRUPT = b"\x03"


@pytest.mark.parametrize(
    ("key", "exit_code", "said"),
    [(b"\x04", 1, "nothing was changed"), (INTERRUPT, 130, "interrupted"), (b"n\n", 1, "nothing")],
)
def test_keys_on_a_real_terminal(founded: Path, tmp_path: Path, key: bytes, exit_code: int, said: str) -> None:
    assert run("card", "-o", tmp_path / "q.card", home=init(tmp_path / "qingdao", "qingdao")).exit_code == 0
    assert run("roster", "add", tmp_path / "q.card", home=founded).exit_code == 0
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", "--home", str(founded), "roster", "renew"],
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])},
        preexec_fn=_take_terminal,
    ) as process:
        os.close(secondary)
        try:
            shown = _read_until(primary, b"[y/N]")
            os.write(primary, key)
            shown += _read_until(primary, None, again=INTERRUPT if key == INTERRUPT else b"")
            assert process.wait(30) == exit_code, shown
        finally:
            process.kill()
    os.close(primary)
    words = re.sub(r"\s+", " ", shown.decode())
    assert said in words and OFFLINE_RISK[:40] in words
    assert run("roster", "show", "--json", home=founded).document["version"] == 2


def _take_terminal() -> None:
    """Make the terminal on stdin that of a new session, so that its keys raise signals, also where tests ignore them."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _read_until(terminal: int, wanted: bytes | None, *, again: bytes = b"") -> bytes:
    """What is shown up to `wanted`; with None, up to the end. Presses `again` whenever nothing is shown for two seconds.

    Python notices a Ctrl-C that comes between the question and the reading of its answer only when that reading ends. A
    person presses the key once more.
    """
    shown, patience = b"", 15
    while wanted is None or wanted not in shown:
        if not select.select([terminal], [], [], 2)[0]:
            patience -= 1
            assert patience, shown
            os.write(terminal, again)
            continue
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break  # Linux: the other side is closed
        if not piece:
            break
        shown += piece
    return shown
