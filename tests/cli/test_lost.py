"""`labmesh list --lost`, and what `push` says while nothing is published."""

from __future__ import annotations

from pathlib import Path

from labmesh.v1 import node_pb2
from tests.cli.conftest import run
from tests.cli.fake_node import FakeNode

LOST = node_pb2.ListLostResponse(
    entries=[node_pb2.LostEntry(index=5, commitment=bytes(32), checkpoint_size=8, seen=True)], next_page_token="i6", total=2
)


def test_lost_entries_as_json(node_home: Path, node: FakeNode) -> None:
    node.answers["ListLost"] = LOST
    ended = run("list", "--lost", "--limit", "1", "--after", "i5", "--json", home=node_home)
    entry = {"index": 5, "commitment": "A" * 43 + "=", "checkpoint": 8, "seen": True}
    assert ended.document == {"lost": [entry], "total": 2, "next": "i6"}
    assert (node.calls[-1].page_size, node.calls[-1].page_token) == (1, "i5")


def test_lost_entries_for_people(node_home: Path, node: FakeNode) -> None:
    node.answers["ListLost"] = LOST
    ended = run("list", "--lost", home=node_home)
    assert ended.out.splitlines()[1].split() == ["5", "A" * 43 + "=", "8", "yes"]
    assert "2 entries were published before this home was restored" in ended.err
    assert "One of them may have been the erasure of a record that nobody else could read" in ended.err
    assert "--after i6" in ended.err and "confirm --lost" not in ended.err
    unseen = node_pb2.LostEntry(index=5, commitment=bytes(32), checkpoint_size=8)
    node.answers["ListLost"] = node_pb2.ListLostResponse(entries=[unseen], total=1)
    assert f"labmesh --home '{node_home}' confirm --lost" in run("list", "--lost", home=node_home).err
    assert run("list", "--lost", home=node_home).err.startswith("1 entry was published before this home was restored")
    node.answers["ListLost"] = node_pb2.ListLostResponse()
    assert run("list", "--lost", home=node_home).out == "No entry of the own log is lost.\n"


def test_lost_entries_have_no_kind(node_home: Path) -> None:
    ended = run("list", "--lost", "--kind", "result", "--json", home=node_home)
    assert (ended.exit_code, ended.error["reason"]) == (2, "USAGE")
    assert "nobody knows what a lost entry says" in ended.error["message"]


def test_what_is_lost_is_seen(node_home: Path, node: FakeNode) -> None:
    """Who may still give entries back is named before; the node hears how many the person was told of."""
    peers = [
        node_pb2.PeerStatus(member="qingdao", state="offline"),
        node_pb2.PeerStatus(member="weifang", state="connected"),
    ]
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(state="ready", lost=3, lost_seen=1, peers=peers)
    node.answers["ConfirmLost"] = node_pb2.ConfirmLostResponse(total=3)
    ended = run("confirm", "--lost", home=node_home)
    assert (ended.exit_code, node.calls[-1]) == (0, node_pb2.ConfirmLostRequest(total=3))
    assert ended.out.startswith("3 lost entries are seen") and "weifang" not in ended.err
    assert ended.err == "qingdao may still give entries back, but is not connected now.\n"
    assert run("confirm", "--lost", "--json", home=node_home).document == {"lost": 3}


def test_one_entry_is_one_entry(node_home: Path, node: FakeNode) -> None:
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(state="ready", lost=1, size=1)
    node.answers["ConfirmLost"] = node_pb2.ConfirmLostResponse(total=1)
    assert run("confirm", "--lost", home=node_home).out.startswith("1 lost entry is seen: ")
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(state="ready", lost=1, lost_seen=1, size=1)
    shown = run("status", home=node_home).out
    assert "lost         1 entry of the own log" in shown and "own log      1 entry, root" in shown


def test_nothing_is_lost(node_home: Path, node: FakeNode) -> None:
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(state="unconfirmed")
    node.answers["ConfirmLost"] = node_pb2.ConfirmLostResponse()
    ended = run("confirm", "--lost", home=node_home)
    assert (ended.exit_code, ended.out, ended.err) == (0, "No entry of the own log is lost.\n", "")
    assert not any(isinstance(call, node_pb2.ConfirmLogRequest) for call in node.calls)  # it publishes nothing


def test_status_counts_what_is_lost_and_seen(node_home: Path, node: FakeNode) -> None:
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(member="jinan", state="ready", lost=3, lost_seen=2)
    document = run("status", "--json", home=node_home).document
    assert (document["lost"], document["lost_seen"]) == (3, 2)
    assert "lost         2 entries of the own log that nobody can open" in run("status", home=node_home).out
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(member="jinan", state="ready", kinds=["method"])
    assert run("status", "--json", home=node_home).document["lost"] is None


def test_push_says_that_nothing_is_published_yet(node_home: Path, node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"key": "A", "body": {}}')
    checkpoint = node_pb2.PushedCheckpoint(origin="o", size=1, root=bytes(32))
    for unsigned in (True, False):
        node.answers["Push"] = node_pb2.PushResponse(
            accepted=1, checkpoint=checkpoint, unsigned=unsigned, waits_for="peers are away"
        )
        for options in ((), ("--json",)):
            ended = run("push", tmp_path / "r.json", "--kind", "result", *options, home=node_home)
            assert ended.exit_code == 0
            assert ("not published yet: peers are away\n" in ended.err) == unsigned
            assert "unsigned" not in ended.out


def test_push_says_that_the_member_was_removed(node_home: Path, node: FakeNode, tmp_path: Path) -> None:
    """Data is taken all the same, so it is no failure; and nobody is promised that it will be published."""
    (tmp_path / "r.json").write_text('{"key": "A", "body": {}}')
    checkpoint = node_pb2.PushedCheckpoint(origin="o", size=1, root=bytes(32))
    removed = "jinan was removed from a.example; ask the council (qingdao)"
    node.answers["Push"] = node_pb2.PushResponse(accepted=1, checkpoint=checkpoint, unsigned=True, warnings=[removed])
    for options in ((), ("--json",)):
        ended = run("push", tmp_path / "r.json", "--kind", "result", *options, home=node_home)
        assert ended.exit_code == 0
        assert ended.err == f"Stored here, but not taken by the alliance: {removed}.\n"
        assert "removed" not in ended.out and ("accepted" in ended.out) == bool(options)
