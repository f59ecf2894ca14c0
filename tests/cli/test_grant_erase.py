"""`labmesh grant`, `labmesh erase`, and `labmesh show` of what is granted or erased."""

from __future__ import annotations

from pathlib import Path

import pytest

from labmesh.v1 import node_pb2
from node.errors import ConflictError, NotFoundError, UserError
from tests.builders import record_bytes
from tests.cli.conftest import run
from tests.cli.fake_node import FakeNode

ID = "jinan/result/WJ-2026-000001"
ERASED = node_pb2.RecordView(
    id=ID,
    index=7,
    origin="quality.jinan.example/log/jinan",
    status=node_pb2.RECORD_STATUS_ERASED,
    erased=node_pb2.ErasureView(
        at="2026-11-20T12:00:00.000Z", reason="客户要求", index=9, revision=2, acknowledged=["qingdao"], missing=["yantai"]
    ),
)


def granted(*members: str, readers: tuple[str, ...] = ("qingdao", "yantai")) -> node_pb2.GrantRecordResponse:
    return node_pb2.GrantRecordResponse(id=f"{ID}@1", index=7, granted=members, readers=readers)


class TestGrant:
    def test_what_is_asked_and_said(self, node: FakeNode, node_home: Path) -> None:
        node.answers["GrantRecord"] = granted("yantai")
        ended = run("grant", ID, "--to", " yantai,qingdao,yantai", home=node_home)
        assert (ended.exit_code, ended.err) == (0, "")
        assert ended.out == f"{ID}@1 may now be read by yantai, too; its readers now: qingdao, yantai.\n"
        assert node.calls == [node_pb2.GrantRecordRequest(id=ID, members=["qingdao", "yantai"])]

    def test_as_json(self, node: FakeNode, node_home: Path) -> None:
        node.answers["GrantRecord"] = granted("yantai")
        ended = run("grant", ID, "--to", "yantai", "--json", home=node_home)
        assert ended.document == {"id": f"{ID}@1", "index": 7, "granted": ["yantai"], "readers": ["qingdao", "yantai"]}

    def test_nothing_to_do(self, node: FakeNode, node_home: Path) -> None:
        node.answers["GrantRecord"] = granted()
        ended = run("grant", ID, "--to", "yantai", home=node_home)
        assert (ended.exit_code, "by its author, this member, and qingdao, yantai already" in ended.out) == (0, True)
        node.answers["GrantRecord"] = granted(readers=("*",))
        ended = run("grant", ID, "--to", "yantai", home=node_home)
        assert (ended.exit_code, "for the whole alliance" in ended.out) == (0, True)

    def test_to_the_author_itself(self, node: FakeNode, node_home: Path) -> None:
        node.answers["GrantRecord"] = node_pb2.GrantRecordResponse(id=f"{ID}@1")
        assert run("grant", ID, "--to", "jinan", home=node_home).out == (
            f"Nothing to do: {ID}@1 may be read by its author, this member, already.\n"
        )

    @pytest.mark.parametrize("to", ["", ",", "yantai,", "yantai,,qingdao"])
    def test_a_name_is_missing(self, node: FakeNode, node_home: Path, to: str) -> None:
        ended = run("grant", ID, "--to", to, home=node_home)
        assert (ended.exit_code, ended.out, node.calls) == (2, "", [])
        assert "--to qingdao,yantai" in ended.err

    def test_nobody_is_named(self, node: FakeNode, node_home: Path) -> None:
        ended = run("grant", ID, home=node_home)
        assert (ended.exit_code, "Missing option '--to'" in ended.err) == (2, True)

    def test_a_refusal(self, node: FakeNode, node_home: Path) -> None:
        node.answers["GrantRecord"] = ConflictError("was erased", hint="what is erased stays so")
        ended = run("grant", ID, "--to", "yantai", "--json", home=node_home)
        assert (ended.exit_code, ended.error["reason"], ended.error["hint"]) == (1, "CONFLICT", "what is erased stays so")

    def test_the_help_says_what_a_revision_does(self) -> None:
        assert "has to be granted again" in " ".join(run("grant", "--help").out.split())


class TestErase:
    def test_what_is_asked_and_said(self, node: FakeNode, node_home: Path) -> None:
        node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(erased=[f"{ID}@1", f"{ID}@2"], readers=["qingdao"])
        ended = run("erase", ID, "--reason", " 客户要求 ", home=node_home)
        assert (ended.exit_code, ended.err) == (0, "")
        assert f"Erased here: {ID}@1, {ID}@2." in ended.out
        assert f"qingdao will delete it, too; who has done so says: labmesh --home '{node_home}' show {ID}" in ended.out
        assert "Backups made before still hold it." in ended.out
        assert node.calls == [node_pb2.EraseRecordRequest(id=ID, reason="客户要求")]

    def test_as_json(self, node: FakeNode, node_home: Path) -> None:
        node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(already=[f"{ID}@1"])
        ended = run("erase", ID, "--reason", "x", "--json", home=node_home)
        assert ended.document == {"erased": [], "already": [f"{ID}@1"], "readers": []}

    def test_again(self, node: FakeNode, node_home: Path) -> None:
        node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(already=[f"{ID}@1"])
        ended = run("erase", ID, "--reason", "x", home=node_home)
        assert (ended.exit_code, ended.out) == (0, f"Nothing to do: {ID}@1 was erased before.\n")

    def test_of_a_record_for_nobody_else(self, node: FakeNode, node_home: Path) -> None:
        node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(erased=[f"{ID}@1"])
        ended = run("erase", ID, "--reason", "x", "--yes", home=node_home)
        assert "nobody else knows, so a node restored from one must erase it again" in ended.out

    def test_again_for_whom_no_erasure_told(self, node: FakeNode, node_home: Path) -> None:
        node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(already=[f"{ID}@1"], readers=["yantai"])
        ended = run("erase", ID, "--reason", "x", home=node_home)
        told = "Erased here before; yantai, who did not hear of it, will delete it, too.\n"
        assert (ended.exit_code, ended.out) == (0, told)

    @pytest.mark.parametrize(("typed", "done"), [("n\n", False), ("\n", False), ("", False), ("y\n", True)])
    def test_a_person_is_asked(
        self, node: FakeNode, node_home: Path, monkeypatch: pytest.MonkeyPatch, typed: str, done: bool
    ) -> None:
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
        node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(erased=[f"{ID}@1"], readers=["qingdao"])
        ended = run("erase", ID, "--reason", "x", home=node_home, stdin=typed)
        assert f"To be erased here and at qingdao: {ID}@1." in ended.err
        assert [call.preview for call in node.calls] == ([True, False] if done else [True])
        assert ended.exit_code == (0 if done else 1)

    def test_nobody_is_asked_with_yes(self, node: FakeNode, node_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
        node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(erased=[f"{ID}@1"])
        assert run("erase", ID, "--reason", "x", "--yes", home=node_home).exit_code == 0
        assert [call.preview for call in node.calls] == [False]

    def test_many_revisions_are_not_all_named(self, node: FakeNode, node_home: Path) -> None:
        node.answers["EraseRecord"] = node_pb2.EraseRecordResponse(erased=[f"{ID}@{i}" for i in range(1, 31)])
        assert f"{ID}@10 and 20 more." in run("erase", ID, "--reason", "x", home=node_home).out

    @pytest.mark.parametrize("reason", ["", "   "])
    def test_no_reason(self, node: FakeNode, node_home: Path, reason: str) -> None:
        ended = run("erase", ID, "--reason", reason, home=node_home)
        assert (ended.exit_code, "the reason is empty" in ended.err, node.calls) == (2, True, [])

    @pytest.mark.parametrize("error", [NotFoundError("no such record", hint="type: labmesh list"), UserError("not own")])
    def test_a_refusal(self, node: FakeNode, node_home: Path, error: UserError) -> None:
        node.answers["EraseRecord"] = error
        ended = run("erase", ID, "--reason", "x", home=node_home)
        assert (ended.exit_code, ended.out, error.message in ended.err) == (1, "", True)

    def test_the_help_says_what_stays(self) -> None:
        text = " ".join(run("erase", "--help").out.split())
        assert "else every revision" in text
        assert "Backups made before keep it" in text


class TestShow:
    def test_an_erased_record(self, node: FakeNode, node_home: Path) -> None:
        node.answers["GetRecord"] = node_pb2.GetRecordResponse(record=ERASED)
        ended = run("show", ID, "--json", home=node_home)
        assert ended.exit_code == 0
        assert ended.document == {
            "author": "jinan",
            "kind": "result",
            "key": "WJ-2026-000001",
            "revision": 2,
            "id": ID,
            "index": 7,
            "origin": "quality.jinan.example/log/jinan",
            "checkpoint_age_s": 0.0,
            "status": "erased",
            "erased": {
                "at": "2026-11-20T12:00:00.000Z",
                "reason": "客户要求",
                "index": 9,
                "acknowledged": ["qingdao"],
                "missing": ["yantai"],
            },
        }

    def test_an_erased_record_for_people(self, node: FakeNode, node_home: Path) -> None:
        node.answers["GetRecord"] = node_pb2.GetRecordResponse(record=ERASED)
        lines = run("show", ID, home=node_home).out.splitlines()
        assert lines[0] == f"{ID}  (erased)"
        assert "erased     2026-11-20T12:00:00.000Z by entry 9: 客户要求" in lines
        assert "deleted at qingdao" in lines
        assert "not yet at yantai" in lines

    def test_a_granted_record(self, node: FakeNode, node_home: Path) -> None:
        view = node_pb2.RecordView(
            record=record_bytes(audience=["qingdao"]), id=ID, status=node_pb2.RECORD_STATUS_VISIBLE, granted=["yantai"]
        )
        node.answers["GetRecord"] = node_pb2.GetRecordResponse(record=view)
        assert run("show", ID, "--json", home=node_home).document["granted"] == ["yantai"]
        lines = run("show", ID, home=node_home).out.splitlines()
        assert 'audience   ["qingdao"]' in lines
        assert 'granted    ["yantai"]' in lines
