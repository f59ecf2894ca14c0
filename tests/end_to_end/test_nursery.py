"""What is forked from the nursery lives and ends like a process of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.end_to_end.harness import eventually, open_mesh
from tests.end_to_end.nursery import Child, run_labmesh


def test_a_command_has_its_arguments_streams_and_exit_code(tmp_path: Path) -> None:
    good = run_labmesh("--help")
    assert (good.returncode, good.stderr) == (0, b"")
    assert good.stdout.startswith(b"Usage: labmesh")
    bad = run_labmesh("--home", tmp_path / "没有", "status")
    assert (bad.returncode, bad.stdout) == (3, b"")
    assert "没有".encode() in bad.stderr and b"Traceback" not in bad.stderr


def test_a_command_has_the_environment_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABMESH_HOME", str(tmp_path / "first"))
    assert b"first" in run_labmesh("status").stderr
    assert b"second" in run_labmesh("status", env={"LABMESH_HOME": str(tmp_path / "second")}).stderr
    assert os.environ["LABMESH_HOME"] == str(tmp_path / "first")


def test_two_do_not_share_a_process() -> None:
    with open_mesh("jinan", "qingdao") as mesh:
        mesh.start()
        jinan, qingdao = mesh["jinan"], mesh["qingdao"]
        assert len({jinan.running.pid, qingdao.running.pid, os.getpid()}) == 3
        child = jinan.running
        assert child.poll() is None
        with pytest.raises(AssertionError, match="runs still"):
            child.wait(0)
        os.kill(child.pid, signal.SIGKILL)
        assert eventually(child.poll, "the process has ended") == -signal.SIGKILL
        child.kill()  # a second time it is no fault, and hits nobody
        assert child.wait() == -signal.SIGKILL
        assert qingdao.running.poll() is None


def test_what_it_writes_is_there_when_it_has_ended(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as stdout, (tmp_path / "err").open("wb") as stderr:
        child = Child("--no-such-option", stdout=stdout, stderr=stderr)
    assert child.wait() == 2
    assert (tmp_path / "out").read_bytes() == b""
    assert b"--no-such-option" in (tmp_path / "err").read_bytes()
