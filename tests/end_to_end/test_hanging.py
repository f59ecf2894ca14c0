"""A daemon that hangs: every command says so soon, and what to end."""

from __future__ import annotations

import signal
import time

import orjson

from node.errors import HANGS
from tests.end_to_end.nursery import run_labmesh

SOON_S = 9.0


def test_commands_do_not_wait_for_a_daemon_that_is_stopped(make_mesh, tmp_path):
    jinan = make_mesh("jinan")["jinan"].start()
    batch = tmp_path / "batch.json"
    batch.write_text('{"kind":"result","records":[]}')
    jinan.running.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        done = run_labmesh("--home", jinan.home.path, "--json", "push", "--kind", "result", batch)
        assert time.monotonic() - started < SOON_S
        said = done.stderr.decode()
        assert done.returncode == 3 and f"(pid {jinan.running.pid}) {HANGS}" in said, said
        assert f"kill {jinan.running.pid}" in said and f"{jinan.home.path} run" in said
        started = time.monotonic()
        done = run_labmesh("--home", jinan.home.path, "--json", "doctor")
        assert time.monotonic() - started < SOON_S
    finally:
        jinan.running.send_signal(signal.SIGCONT)
    findings = orjson.loads(done.stdout)["findings"]
    assert [finding["check"] for finding in findings if HANGS in finding["message"]] == ["daemon"]
    assert not any("another program" in finding["message"] + finding["hint"] for finding in findings)
    assert jinan.stop() == 0
