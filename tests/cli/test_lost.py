"""`labmesh list --lost`, and what `push` says while nothing is published."""

from __future__ import annotations

from pathlib import Path

from labmesh.v1 import node_pb2
from tests.cli.conftest import run
from tests.cli.fake_node import FakeNode

LOST = node_pb2.ListLostResponse(
    entries=[node_pb2.LostEntry(index=5, commitment=bytes(32), checkpoint_size=8)], next_page_token="i6", total=2
)


def test_lost_entries_as_json(node_home: Path, node: FakeNode) -> None:
    node.answers["ListLost"] = LOST
    ended = run("list", "--lost", "--limit", "1", "--after", "i5", "--json", home=node_home)
    entry = {"index": 5, "commitment": "A" * 43 + "=", "checkpoint": 8}
    assert ended.document == {"lost": [entry], "total": 2, "next": "i6"}
    assert (node.calls[-1].page_size, node.calls[-1].page_token) == (1, "i5")


def test_lost_entries_for_people(node_home: Path, node: FakeNode) -> None:
    node.answers["ListLost"] = LOST
    ended = run("list", "--lost", home=node_home)
    assert ended.out.splitlines()[1].split() == ["5", "A" * 43 + "=", "8"]
    assert "2 entries were published before this home was restored" in ended.err
    assert "--after i6" in ended.err
    node.answers["ListLost"] = node_pb2.ListLostResponse()
    assert run("list", "--lost", home=node_home).out == "No entry of the own log is lost.\n"


def test_lost_entries_have_no_kind(node_home: Path) -> None:
    ended = run("list", "--lost", "--kind", "result", "--json", home=node_home)
    assert (ended.exit_code, ended.error["reason"]) == (2, "USAGE")
    assert "nobody knows what a lost entry says" in ended.error["message"]


def test_push_says_that_nothing_is_published_yet(node_home: Path, node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"key": "A", "body": {}}')
    checkpoint = node_pb2.PushedCheckpoint(origin="o", size=1, root=bytes(32))
    for unsigned in (True, False):
        node.answers["Push"] = node_pb2.PushResponse(accepted=1, checkpoint=checkpoint, unsigned=unsigned)
        for options in ((), ("--json",)):
            ended = run("push", tmp_path / "r.json", "--kind", "result", *options, home=node_home)
            assert ended.exit_code == 0
            assert ("Not published yet" in ended.err) == unsigned
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
