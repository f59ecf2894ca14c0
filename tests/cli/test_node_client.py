"""The client of the own node: who does not answer, and why."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from labmesh.v1 import node_pb2
from node.errors import HANGS, PeerUnreachableError, UserError
from node.home import Home
from node.rpc import connection, node_client
from node.rpc.node_client import NodeClient
from tests.cli.conftest import init, run
from tests.cli.fake_node import serve


def _refusal(path: Path) -> PeerUnreachableError:
    with pytest.raises(PeerUnreachableError) as caught, NodeClient(path):
        pass
    return caught.value


def test_no_socket(node_home):
    (node_home / "labmesh.toml").touch()
    error = _refusal(node_home / "labmesh.sock")
    assert error.message == f"the node is not running (no answer on {node_home}/labmesh.sock)"
    assert error.hint == f"type: labmesh --home '{node_home}' run"


def test_no_home(node_home):
    assert "init" in _refusal(node_home / "none" / "labmesh.sock").hint


@pytest.mark.parametrize("leave", ["socket", "file", "folder"])
def test_a_socket_that_was_left_behind(node_home, leave):
    path = node_home / "labmesh.sock"
    if leave == "socket":
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(path))
            old.listen()
    elif leave == "file":
        path.touch()
    else:
        path.mkdir()
    assert _refusal(path).message == f"the node is not running (no answer on {path})"
    ended = run("status", "--json", home=node_home)
    assert (ended.exit_code, ended.out) == (3, "") and "run" in ended.err


def test_a_process_that_hangs_is_told_from_a_node_that_does_not_run(node_home, monkeypatch):
    monkeypatch.setattr(connection, "GREETING_S", 0.2)
    path = node_home / "labmesh.sock"
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(path))
        stuck.listen(1)
        error = _refusal(path)
        assert f"(pid {os.getpid()}) {HANGS}" in error.message
        assert f"kill {os.getpid()}" in error.hint and f"labmesh --home '{node_home}' run" in error.hint
        with ExitStack() as waiting:  # until nobody is let in any more
            for _ in range(4):
                other = waiting.enter_context(socket.socket(socket.AF_UNIX))
                other.setblocking(False)
                other.connect_ex(str(path))
            assert HANGS in _refusal(path).message


def test_a_change_of_the_roster_is_told_of_a_process_that_hangs(node_home, monkeypatch):
    """Whoever has the lock and greets nobody will not end by itself: it is not waited for."""
    monkeypatch.setattr(connection, "GREETING_S", 0.2)
    home = Home(init(node_home / "home"))
    with socket.socket(socket.AF_UNIX) as stuck, home.lock():
        stuck.bind(str(home.socket_path))
        stuck.listen()
        ended = run("roster", "create", "--title", "t", home=home.path)
    assert (ended.exit_code, ended.out) == (3, "")
    assert f"error: a process (pid {os.getpid()}) {HANGS}" in ended.err and "no node answers there" not in ended.err


def test_a_node_that_answers_late_is_waited_for(node, node_home, monkeypatch):
    """Only the greeting is short."""
    monkeypatch.setattr(connection, "GREETING_S", 0.2)
    node.delay_s, node.answers["GetStatus"] = 0.6, node_pb2.GetStatusResponse(member="jinan")
    with NodeClient(node_home / "labmesh.sock") as client:
        assert client.get_status().member == "jinan"


def test_a_path_that_is_too_long_for_a_socket(tmp_path):
    assert "not running" in _refusal(tmp_path / ("x" * 200) / "labmesh.sock").message


def test_a_socket_of_another_account(monkeypatch, node_home):
    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    error = _refusal(node_home / "labmesh.sock")
    assert "may not use" in error.message and "socket_group" in error.hint


@pytest.mark.parametrize("name", ["plain", "with space", "100%", "h#ash", "que?ry", "济南"])
def test_any_path_will_do(node_home, name):
    (node_home / name).mkdir()
    path = node_home / name / "labmesh.sock"
    with serve(path) as fake, NodeClient(path) as node:
        fake.answers["GetStatus"] = node_pb2.GetStatusResponse(member="jinan")
        assert node.get_status().member == "jinan"


def test_a_relative_path(node, node_home, monkeypatch):
    monkeypatch.chdir(node_home)
    node.answers["ConfirmLog"] = node_pb2.ConfirmLogResponse(size=3)
    with NodeClient(Path("labmesh.sock")) as client:
        assert client.confirm_log().size == 3


def test_a_node_that_ends_while_it_is_asked(node_home):
    path = node_home / "labmesh.sock"
    (node_home / "labmesh.toml").touch()
    with serve(path) as fake:
        client = NodeClient(path)
        client.__enter__()
        fake.answers["GetStatus"] = node_pb2.GetStatusResponse()
        client.get_status()
    with pytest.raises(PeerUnreachableError, match="not running"):
        client.get_status()
    client.__exit__(None, None, None)


def test_the_fault_of_the_one_who_gives_records_is_told(node, node_home):
    def batches():
        yield [b"{}"]
        raise UserError("the file ended in between")

    node.answers["Push"] = node_pb2.PushResponse()
    with NodeClient(node_home / "labmesh.sock") as client, pytest.raises(UserError, match="ended in between"):
        client.push(node_pb2.PushOptions(kind="result"), batches())


def test_a_push_that_does_not_move_is_given_up(monkeypatch, node, node_home):
    import threading

    monkeypatch.setattr(node_client, "STALL_S", 0.1)
    released = threading.Event()
    monkeypatch.setattr(node, "Push", lambda requests, context: released.wait(30) and node_pb2.PushResponse())
    with serve(node_home / "other.sock") as slow:
        monkeypatch.setattr(slow, "_answer", lambda name, context: released.wait(30))
        with NodeClient(node_home / "other.sock") as client, pytest.raises(PeerUnreachableError, match="did not answer"):
            client.push(node_pb2.PushOptions(kind="result"), [[b"{}"]])
        released.set()


def test_many_batches_arrive_in_order(node, node_home):
    node.answers["Push"] = node_pb2.PushResponse(accepted=3)
    records = [[os.urandom(700_000)] for _ in range(20)]
    with NodeClient(node_home / "labmesh.sock") as client:
        assert client.push(node_pb2.PushOptions(kind="result"), records).accepted == 3
    assert [list(message.batch.records) for message in node.calls[0][1:]] == records


def test_alliances_travel(node, node_home):
    node.answers["ExportAlliance"] = node_pb2.ExportAllianceResponse(rosters=[b"r"], cards=[b"c", b"d"])
    node.answers["ImportAlliance"] = node_pb2.ImportAllianceResponse(version=2, fingerprint="ab")
    with NodeClient(node_home / "labmesh.sock") as client:
        rosters, cards = client.export_alliance()
        assert (rosters, cards) == ([b"r"], [b"c", b"d"])
        assert client.import_alliance(rosters, cards, fingerprint="ff") == (2, "ab")
    assert node.calls[-1].fingerprint == "ff"
