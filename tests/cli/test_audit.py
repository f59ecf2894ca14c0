"""`audit`, through a node, and on the database itself when no node runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from cli.commands.audit import command
from labmesh.v1 import node_pb2
from node.errors import NotFoundError
from tests.cli.conftest import init, run
from tests.cli.fake_node import serve


@pytest.fixture
def home(tmp_path):
    return init(tmp_path / "home")


def report(*checks: tuple[str, bool, int, str]) -> list[node_pb2.AuditLogResponse]:
    found = [node_pb2.AuditCheck(name=name, ok=ok, count=count, detail=detail) for name, ok, count, detail in checks]
    return [
        node_pb2.AuditLogResponse(progress=node_pb2.AuditProgress(done=7, total=9)),
        node_pb2.AuditLogResponse(
            report=node_pb2.AuditReport(
                member="qingdao",
                origin="quality.jinan.example/log/qingdao",
                size=9,
                root=bytes(32),
                verified=all(check.ok for check in found),
                checks=found,
            )
        ),
    ]


def test_the_json_of_a_report_from_the_node(home):
    with serve(home / "labmesh.sock") as fake:
        fake.answers["AuditLog"] = report(("entries", True, 9, ""), ("tiles", True, 0, ""))
        ended = run("audit", "qingdao", "--json", home=home)
        assert fake.calls == [node_pb2.AuditLogRequest(member="qingdao")]
    assert ended.exit_code == 0 and ended.err == ""
    assert ended.document == {
        "member": "qingdao",
        "origin": "quality.jinan.example/log/qingdao",
        "size": 9,
        "root": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "verified": True,
        "checks": [
            {"check": "entries", "ok": True, "count": 9, "detail": ""},
            {"check": "tiles", "ok": True, "count": 0, "detail": ""},
        ],
    }


def test_people_see_a_table_and_what_to_do(home):
    with serve(home / "labmesh.sock") as fake:
        fake.answers["AuditLog"] = report(("entries", True, 9, ""), ("tiles", False, 2, "tile 1 is missing"))
        ended = run("audit", "qingdao", home=home)
    assert ended.exit_code == 1
    assert "entries  ok" in ended.out and "tiles    FAILED" in ended.out and "tile 1 is missing" in ended.out
    assert "NOT VERIFIED: quality.jinan.example/log/qingdao of size 9" in ended.out
    assert f"labmesh --home {home} doctor" in ended.out and f"labmesh --home {home} restore" in ended.out


def test_what_the_node_refuses(home):
    with serve(home / "labmesh.sock") as fake:
        fake.answers["AuditLog"] = NotFoundError("no log of dezhou is held here", hint="type: labmesh peers")
        ended = run("audit", "dezhou", "--json", home=home)
    assert ended.exit_code == 1 and ended.error["hint"] == "type: labmesh peers"


def test_without_a_node_the_database_is_read(home):
    assert run("roster", "create", "--title", "Test", home=home).exit_code == 0
    with closing(sqlite3.connect(home / "labmesh.sqlite")) as connection:
        connection.execute(
            "INSERT OR IGNORE INTO log (origin, member, head_size, head_note, head_frontier, head_ms, staged_size, "
            "staged_frontier, staged_bytes, last_sequence) VALUES ('quality.jinan.example/log/jinan', 'jinan', 0, x'', "
            "x'', 0, 0, x'', 0, 0)"
        )
        connection.commit()
    ended = run("audit", "jinan", "--json", home=home)
    assert ended.exit_code == 0, ended
    assert ended.document["verified"] is True and ended.document["size"] == 0 and ended.err == ""
    people = run("audit", "jinan", home=home)
    assert "verified: quality.jinan.example/log/jinan of size 0" in people.out
    assert "the node is not running" in people.err


def test_a_log_that_is_not_held(home):
    ended = run("audit", "dezhou", "--json", home=home)
    assert ended.exit_code == 1 and "no log of dezhou" in ended.error["message"]


def test_the_own_log_before_the_node_has_ever_run(home):
    ended = run("audit", "jinan", "--json", home=home)
    assert ended.exit_code == 1 and "labmesh run" in ended.error["hint"]


def test_a_name_that_is_none(home):
    assert run("audit", "Not A Member", home=home).exit_code == 2


def test_no_home(tmp_path):
    ended = run("audit", "jinan", "--json", home=tmp_path / "none")
    assert ended.exit_code == 1 and " init …" in ended.error["hint"]


def test_the_help_says_that_it_changes_nothing():
    assert "Changes nothing" in " ".join((command.help or "").split())
