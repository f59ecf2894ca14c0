"""`list`, `search`, `show`, `status`, `peers`, `prove` and `confirm`, against a node that answers what the test says."""

from __future__ import annotations

import pytest

from labmesh.v1 import node_pb2
from node.core.canonical import dumps_canonical
from node.errors import FormatError, NotFoundError, UnconfirmedError
from tests.builders import record_content
from tests.cli.conftest import run

VISIBLE, RESTRICTED, ERASED, QUARANTINED = 1, 2, 3, 4
ORIGIN = "quality.jinan.example/log/jinan"


def _view(content=None, *, raw=None, status=VISIBLE, reason="", age=61.5):
    content = record_content() if content is None else content
    return node_pb2.RecordView(
        record=dumps_canonical(content) if raw is None else raw,
        id="jinan/result/WJ-2026-000001",
        index=3,
        origin=ORIGIN,
        checkpoint_age_s=age,
        status=status,
        reason=reason,
    )


PLACE = {"id": "jinan/result/WJ-2026-000001", "index": 3, "origin": ORIGIN, "checkpoint_age_s": 61.5}


@pytest.mark.parametrize("command", [["list"], ["search", "水分"]])
class TestPages:
    def _answer(self, node, command, views, token=""):
        name, kind = (
            ("ListRecords", node_pb2.ListRecordsResponse)
            if command == ["list"]
            else ("SearchRecords", node_pb2.SearchRecordsResponse)
        )
        node.answers[name] = kind(records=views, next_page_token=token)

    def test_json(self, node, node_home, command):
        self._answer(node, command, [_view()], "p7")
        ended = run(*command, "--json", home=node_home)
        assert ended.exit_code == 0
        assert ended.document == {"records": [{**record_content(), **PLACE}], "next": "p7"}

    def test_the_options_travel(self, node, node_home, command):
        self._answer(node, command, [])
        options = ("--kind", "result", "--author", "zibo", "--limit", "7", "--after", "p9")
        assert run(*command, *options, home=node_home).exit_code == 0
        call = node.calls[-1]
        assert (call.kind, call.author, call.page_size, call.page_token) == ("result", "zibo", 7, "p9")

    def test_no_hit_is_no_failure(self, node, node_home, command):
        self._answer(node, command, [])
        assert run(*command, "--json", home=node_home).document == {"records": [], "next": None}
        assert run(*command, home=node_home).out == "No record.\n"
        assert node.calls[-1].page_size == 50

    def test_people_get_a_table(self, node, node_home, command):
        self._answer(node, command, [_view(record_content(body={"a": "\x1b]0;evil\x07\u202e"}))], "p7")
        ended = run(*command, home=node_home)
        header, line = ended.out.splitlines()
        assert header.split() == ["ID", "REVISION", "PUBLISHED", "VERIFIED", "AGO", "CONTENT"]
        assert "2026-11-20 08:30:00" in line and "1 min" in line
        assert not {"\x1b", "\x07", "\u202e"} & set(ended.out)
        assert "--after p7" in ended.err

    def test_a_wrong_cursor(self, node, node_home, command):
        for name in ("ListRecords", "SearchRecords"):
            node.answers[name] = FormatError("'x' is not a cursor of this list")
        ended = run(*command, "--after", "x", "--json", home=node_home)
        assert ended.exit_code == 1 and ended.error["reason"] == "FORMAT"


@pytest.mark.parametrize(
    ("kind", "body", "line"),
    [
        (
            "capability",
            {"object": "食品", "parameter": "水分", "methods": [{"standard": "GB 5009.3"}, {"standard": "GB 5413"}]},
            "食品 / 水分 / GB 5009.3, GB 5413",
        ),
        ("result", {"sample": {"id": "S1", "description": "red\nwine"}, "results": [1, 2]}, "red wine: 2 results"),
        ("result", {"sample": {"id": "S1"}, "results": [1]}, "S1: 1 result"),
        ("result", {"sample": "odd"}, '{"sample":"odd"}'),
        ("notice", {"a": 1}, '{"a":1}'),
        ("capability", {"methods": [3]}, '{"methods":[3]}'),
    ],
)
def test_one_line_of_content(node, node_home, kind, body, line):
    view = _view(record_content(kind=kind, schema=f"{kind}/1", body=body))
    node.answers["ListRecords"] = node_pb2.ListRecordsResponse(records=[view])
    assert run("list", home=node_home).out.splitlines()[1].endswith(f"  {line}")


def test_show(node, node_home):
    node.answers["GetRecord"] = node_pb2.GetRecordResponse(record=_view())
    ended = run("show", "jinan/result/WJ-2026-000001", "--json", home=node_home)
    assert ended.document == {**record_content(), **PLACE, "status": "visible"}
    assert node.calls[-1].id == "jinan/result/WJ-2026-000001"
    shown = run("show", "jinan/result/WJ-2026-000001", home=node_home).out
    assert '"value": "0.10"' in shown and ORIGIN in shown


def test_show_an_erased_record(node, node_home):
    node.answers["GetRecord"] = node_pb2.GetRecordResponse(record=_view(raw=b"", status=ERASED))
    ended = run("show", "x/result/y", "--json", home=node_home)
    assert ended.exit_code == 0 and ended.document == {**PLACE, "status": "erased"}
    assert "erased" in run("show", "x/result/y", home=node_home).out


@pytest.mark.parametrize(
    "raw", [b"\xff\x00", b"[1]", b'{"body":3,"index":99,"status":"visible"}', b"[" * 1000 + b"]" * 1000]
)
def test_show_a_quarantined_record(node, node_home, raw):
    view = _view(raw=raw, status=QUARANTINED, reason="not canonical \x1b[2J")
    node.answers["GetRecord"] = node_pb2.GetRecordResponse(record=view)
    content = run("show", "x/result/y", "--json", home=node_home).document
    assert (content["status"], content["index"], content["reason"]) == ("quarantined", 3, "not canonical \x1b[2J")
    shown = run("show", "x/result/y", home=node_home)
    assert shown.exit_code == 0 and "\x1b" not in shown.out


def test_show_what_is_for_others(node, node_home):
    node.answers["GetRecord"] = node_pb2.GetRecordResponse(record=_view(raw=b"", status=RESTRICTED))
    ended = run("show", "x/result/y", "--json", home=node_home)
    assert ended.exit_code == 1 and ended.error["reason"] == "NOT_FOUND"


def test_show_what_is_not_there(node, node_home):
    node.answers["GetRecord"] = NotFoundError("there is no record x/result/y here", hint="type: labmesh list")
    ended = run("show", "x/result/y", home=node_home)
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err == f"error: there is no record x/result/y here\nhint: type: labmesh --home '{node_home}' list\n"


def _status(**changes):
    peers = [
        node_pb2.PeerStatus(
            member="qingdao",
            state="connected",
            size=9,
            verified=8,
            behind=1,
            last_contact="2026-11-20T08:30:00.000Z",
            clock_offset_ms=-1500,
            quarantined=2,
        ),
        node_pb2.PeerStatus(member="zibo", state="offline", error="zibo cannot be reached", reason="PEER_UNREACHABLE"),
    ]
    fields = {
        "member": "jinan",
        "alliance": "quality.jinan.example",
        "fingerprint": "ab" * 32,
        "roster_version": 2,
        "state": "ready",
        "size": 7,
        "root": bytes(range(32)),
        "records": 16,
        "peers": peers,
        "alarms": ["qingdao signed two histories"],
        "index_backlog": 5,
        "version": "0.1.0",
        "confirmed": True,
        **changes,
    }
    return node_pb2.GetStatusResponse(**fields)


def test_status(node, node_home):
    node.answers["GetStatus"] = _status()
    content = run("status", "--json", home=node_home).document
    assert list(content) == (
        [
            "member",
            "alliance",
            "fingerprint",
            "roster_version",
            "state",
            "size",
            "root",
            "records",
            "peers",
            "alarms",
            "index_backlog",
            "version",
            "remote",
            "kinds",
            "lost",
            "lost_seen",
            "confirmed",
        ]
    )
    assert content["confirmed"] is True
    assert content["root"] == "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert content["peers"][0] == {
        "member": "qingdao",
        "state": "connected",
        "size": 9,
        "verified": 8,
        "behind": 1,
        "last_contact": "2026-11-20T08:30:00.000Z",
        "error": None,
    }
    assert content["peers"][1]["last_contact"] is None
    assert content["peers"][1]["error"] == "zibo cannot be reached"


def test_status_for_people_shows_every_alarm(node, node_home):
    node.answers["GetStatus"] = _status()
    shown = run("status", home=node_home).out
    assert "qingdao signed two histories" in shown and "zibo cannot be reached" in shown and "abab abab" in shown


def test_status_before_an_alliance(node, node_home):
    node.answers["GetStatus"] = _status(fingerprint="", roster_version=0, peers=[], alarms=[])
    assert run("status", "--json", home=node_home).document["fingerprint"] is None
    shown = run("status", home=node_home).out
    assert "roster create" in shown and "not in an alliance yet" in shown


def test_the_status_of_a_client_for_some_kinds_names_what_it_is_not_told(node, node_home):
    peer = node_pb2.PeerStatus(member="qingdao", state="connected")
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(member="jinan", state="ready", kinds=["result"], peers=[peer])
    content = run("status", "--json", home=node_home).document
    assert (content["kinds"], content["records"], content["index_backlog"]) == (["result"], None, None)
    assert [content["peers"][0][name] for name in ("size", "verified", "behind")] == [None, None, None]
    shown = run("status", home=node_home).out
    assert "not told to a client for result" in shown and "qingdao  connected" in shown
    assert run("peers", "--json", home=node_home).document["peers"][0]["quarantined"] is None
    assert run("peers", home=node_home).exit_code == 0


def test_peers(node, node_home):
    node.answers["GetStatus"] = _status()
    first, second = run("peers", "--json", home=node_home).document["peers"]
    assert (first["clock_offset_ms"], first["quarantined"], first["member"]) == (-1500, 2, "qingdao")
    assert (second["clock_offset_ms"], second["quarantined"], second["last_contact"]) == (None, 0, None)
    assert "-1.5 s" in run("peers", home=node_home).out
    node.answers["GetStatus"] = _status(peers=[])
    assert run("peers", "--json", home=node_home).document == {"peers": []}
    assert run("peers", home=node_home).out == "No other member yet.\n"


def test_prove_writes_the_file_whole(node, node_home, tmp_path):
    raw = bytes(range(256)) * 3
    node.answers["ExportBundle"] = raw
    file = tmp_path / "one.labmesh"
    ended = run("prove", "jinan/result/1", "-o", file, "--json", home=node_home)
    assert ended.document == {"id": "jinan/result/1", "file": str(file), "size": len(raw)}
    assert file.read_bytes() == raw
    assert "labmesh verify" in run("prove", "jinan/result/1", "-o", file, "--force", home=node_home).out
    assert list(tmp_path.iterdir()) == [file]


def test_prove_refused_leaves_no_file(node, node_home, tmp_path):
    node.answers["ExportBundle"] = UnconfirmedError("too few peers", hint="labmesh confirm")
    ended = run("prove", "jinan/result/1", "-o", tmp_path / "one.labmesh", "--json", home=node_home)
    assert ended.exit_code == 1 and ended.error["reason"] == "UNCONFIRMED"
    assert list(tmp_path.iterdir()) == []


def test_prove_does_not_print_a_zip(node_home):
    assert run("prove", "jinan/result/1", "-o", "-", home=node_home).exit_code == 2


@pytest.mark.parametrize("state", ["unconfirmed", "degraded", "recovering", "ready"])
@pytest.mark.parametrize("confirmed", [False, True])
def test_confirm_says_what_is_risked(node, node_home, state, confirmed):
    """Also where a lost key or another member's histories make the state another one."""
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(state=state, confirmed=confirmed)
    node.answers["ConfirmLog"] = node_pb2.ConfirmLogResponse(size=12)
    ended = run("confirm", "--json", home=node_home)
    assert ended.document == {"size": 12, "waiting": 0}
    assert ("two histories" in ended.err) != confirmed


def test_confirm_says_what_waits_all_the_same(node, node_home):
    node.answers["GetStatus"] = node_pb2.GetStatusResponse(state="degraded")
    node.answers["ConfirmLog"] = node_pb2.ConfirmLogResponse(
        size=110, waiting=5, waits_for="a key is lost; type: labmesh keys rotate log"
    )
    ended = run("confirm", home=node_home)
    assert ended.out == "Published up to entry 110.\n" and ended.exit_code == 0
    assert "5 more are stored and not published: a key is lost; type: labmesh" in ended.err
    assert run("confirm", "--json", home=node_home).document == {"size": 110, "waiting": 5}


def test_a_fault_of_the_node_is_one_line(node, node_home):
    ended = run("status", "--json", home=node_home)
    assert ended.exit_code == 1 and ended.error["reason"] == "INTERNAL"


@pytest.mark.parametrize("command", [["show"], ["search"]])
def test_arguments_that_are_not_utf8(node_home, command):
    assert run(*command, "\udcff", "--json", home=node_home).exit_code == 2
