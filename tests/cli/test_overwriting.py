"""No command writes over a file, unless --force says so."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from cli.files import new_secret_file, write_output
from cli.main import COMMANDS, labmesh
from cli.outcome import UsageFault
from labmesh.v1 import node_pb2
from tests.cli.conftest import init, run, run_offline
from tests.cli.fake_node import FakeNode

WITHOUT_A_NODE = [
    ("card", "-o"),
    ("backup",),
    ("keys", "identity", "-o"),
    ("roster", "export", "-o"),
    ("roster", "renew", "-o"),
]
FROM_A_NODE = {
    ("prove", "jinan/result/1", "-o"): ("ExportBundle", b"a bundle of some bytes"),
    ("evidence", "export", "0123456789abcdef", "-o"): ("ExportEvidence", b"evidence of some bytes"),
    ("client", "add", "lims", "--role", "push", "-o"): ("AddClient", node_pb2.AddClientResponse(token="lmt_x")),
}


def _writers() -> list[tuple[str, click.Command]]:
    """Every command with an option -o, and `backup`."""
    found = []
    for name in COMMANDS:
        command = labmesh.get_command(click.Context(labmesh), name)
        assert command is not None
        parts = command.commands if isinstance(command, click.Group) else {"": command}
        found += [(f"{name} {part}".strip(), each) for part, each in parts.items()]
    return [(name, each) for name, each in found if name == "backup" or any("-o" in option.opts for option in each.params)]


@pytest.mark.parametrize(("name", "command"), _writers(), ids=[name for name, _ in _writers()])
def test_every_command_that_writes_a_file_takes_force(name: str, command: click.Command) -> None:
    assert any("--force" in option.opts for option in command.params)


def test_the_commands_that_write_files_are_those_tried_here() -> None:
    tried = {" ".join(args[:-1]) for args in WITHOUT_A_NODE} | {"backup"}
    assert {"card", "backup", "keys identity", "roster export", "roster renew"} <= tried
    assert {name for name, _ in _writers()} >= {"prove", "evidence export", "client add", "roster sign", "roster proposal"}


@pytest.mark.parametrize("args", WITHOUT_A_NODE, ids=" ".join)
def test_a_file_that_is_there_stays(founded: Path, tmp_path: Path, args: tuple[str, ...]) -> None:
    file = tmp_path / "out"
    file.write_text("mine")
    ended = run(*args, file, "--json", home=founded)
    assert ended.exit_code == 2 and ended.error["message"] == f"{file} exists already; nothing was written"
    assert "another name" in ended.error["hint"] and "--force" in ended.error["hint"]
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]
    assert run(*args, file, "--force", "--json", home=founded).exit_code == 0
    if args[1:2] not in [("renew",), ("quorum",)]:  # one signature is enough there, so no file is needed
        assert file.read_bytes() not in (b"", b"mine")


@pytest.mark.parametrize("args", FROM_A_NODE, ids=" ".join)
def test_a_node_is_not_even_asked(node: FakeNode, node_home: Path, tmp_path: Path, args: tuple[str, ...]) -> None:
    method, answer = FROM_A_NODE[args]
    node.answers[method] = answer
    file = tmp_path / "out"
    file.write_text("mine")
    ended = run(*args, file, "--json", home=node_home)
    assert ended.exit_code == 2 and "--force" in ended.error["hint"] and node.calls == []
    assert file.read_text() == "mine"
    assert run(*args, file, "--force", "--json", home=node_home).exit_code == 0
    assert file.read_bytes() not in (b"", b"mine") and list(tmp_path.iterdir()) == [file]


def test_a_proposal_is_written_over_another_file_only_when_told(founded: Path, tmp_path: Path) -> None:
    assert run("card", "-o", tmp_path / "q.card", home=init(tmp_path / "qingdao", "qingdao")).exit_code == 0
    assert run("roster", "add", tmp_path / "q.card", home=founded).exit_code == 0
    file = tmp_path / "p.json"
    file.write_text("mine")
    args = ("roster", "council", "jinan", "qingdao", "--threshold", "2", "-o", file, "--json")
    assert run_offline(*args, home=founded).error["message"].endswith("nothing was written")
    assert run("roster", "proposal", home=founded).exit_code == 1, "nothing was signed"
    assert run_offline(*args, "--force", home=founded).document["proposal"] == str(file)
    again = run("roster", "proposal", "-o", file, "--json", home=founded)
    assert again.exit_code == 2 and "--force" in again.error["hint"]
    assert run("roster", "proposal", "-o", file, "--force", home=founded).exit_code == 0


@pytest.mark.parametrize("args", [("backup",), ("keys", "identity", "-o"), ("roster", "proposal", "-o")], ids=" ".join)
def test_what_is_a_file_is_not_printed(founded: Path, args: tuple[str, ...]) -> None:
    ended = run(*args, "-", "--json", home=founded)
    assert ended.exit_code in (1, 2) and ended.error["hint"]
    assert not Path("-").exists()


def test_the_files_of_a_home_are_safe_from_force(founded: Path) -> None:
    before = (founded / "labmesh.sqlite").read_bytes()
    for args in (("card", "-o"), ("backup",), ("roster", "export", "-o")):
        ended = run(*args, founded / "labmesh.sqlite", "--force", "--json", home=founded)
        assert ended.exit_code == 2 and "home of a node" in ended.error["message"]
    assert (founded / "labmesh.sqlite").read_bytes() == before


def _write(name: str, replace: bool) -> None:
    write_output(name, b"new", replace=replace)


def _write_secret(name: str, replace: bool) -> None:
    with new_secret_file(name, replace=replace) as write:
        write(b"new")


@pytest.mark.parametrize(("write", "mode"), [(_write, 0o644), (_write_secret, 0o600)])
def test_the_modes_of_what_is_written(tmp_path: Path, write: Callable[[str, bool], None], mode: int) -> None:
    file = tmp_path / "out"
    write(str(file), False)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", mode)
    file.write_bytes(b"mine")
    file.chmod(0o640)
    with pytest.raises(UsageFault, match="exists already"):
        write(str(file), False)
    assert file.read_bytes() == b"mine"
    write(str(file), True)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", mode)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_appears_in_the_middle_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "out"
    monkeypatch.setattr("cli.files.os.fchmod", lambda *_: file.write_text("theirs"))
    with pytest.raises(UsageFault, match="exists already"):
        write_output(str(file), b"new", replace=False)
    assert file.read_text() == "theirs" and list(tmp_path.iterdir()) == [file]


def test_a_secret_that_was_not_written_costs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("mine")
    with pytest.raises(RuntimeError), new_secret_file(str(file), replace=True):
        raise RuntimeError
    assert file.read_text() == "mine" and list(tmp_path.iterdir()) == [file]
