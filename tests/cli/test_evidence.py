"""`evidence`: list and export through the node, verify offline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cli.governance import read_held_alliance
from labmesh.v1 import node_pb2
from node.core.alliance import format_card, format_roster
from node.core.card import FormerLogKey
from node.core.checkpoint import Checkpoint, sign_checkpoint
from node.core.evidence import Evidence, build_split_view, format_evidence
from node.core.misconduct import STEPS, find_settlement, judge_evidence
from node.core.roster import Head
from node.errors import NotFoundError, StoreError
from node.home import Home
from tests.builders import build_card, sign_card
from tests.cli.conftest import run
from tests.cli.fake_node import FakeNode
from tests.evidence_cases import ALLIANCE, JINAN, KINDS, build_fork, same_size, split_view, two_sizes

FINGERPRINT = ALLIANCE.fingerprint
ID = "ab" * 32
PIECE = node_pb2.EvidenceView(
    id=ID, kind="split-view", member="jinan", found="2026-11-20T12:00:00.000Z", summary="jinan signed two histories"
)


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    return tmp_path / "no-home"


def write(folder: Path, evidence: Evidence | bytes) -> Path:
    file = folder / "case.labevidence"
    file.write_bytes(evidence if isinstance(evidence, bytes) else format_evidence(evidence))
    return file


class TestList:
    def test_as_json(self, node: FakeNode, node_home: Path) -> None:
        settled = node_pb2.EvidenceView(id="cd" * 32, kind="card", member="yantai", settled="yantai was removed")
        node.answers["ListEvidence"] = node_pb2.ListEvidenceResponse(evidence=[PIECE, settled])
        ended = run("evidence", "list", "--json", home=node_home)
        assert ended.exit_code == 0
        first, second = ended.document["evidence"]
        assert first == {
            "id": ID,
            "kind": "split-view",
            "member": "jinan",
            "found": "2026-11-20T12:00:00.000Z",
            "summary": "jinan signed two histories",
            "settled": None,
        }
        assert second["settled"] == "yantai was removed"

    def test_for_people(self, node: FakeNode, node_home: Path) -> None:
        node.answers["ListEvidence"] = node_pb2.ListEvidenceResponse(evidence=[PIECE])
        shown = run("evidence", "list", home=node_home).out
        assert ID[:16] in shown and "jinan signed two histories" in shown
        typed = f"labmesh --home '{node_home}'"
        assert f"Give it to the council: {typed} evidence export ID -o FILE" in shown
        assert "a council member types: labmesh roster settle FILE --keep first|second" in shown
        assert "a council member types: labmesh roster remove MEMBER" in shown, "which may be none of this home's people"

    @pytest.mark.parametrize("kind", ["contradiction", "roster", "card"])
    def test_only_of_two_histories_one_can_survive(self, node: FakeNode, node_home: Path, kind: str) -> None:
        other = node_pb2.EvidenceView(id=ID, kind=kind, member="jinan", summary="jinan signed two")
        settled = node_pb2.EvidenceView(id="cd" * 32, kind="split-view", member="yantai", settled="yantai was removed")
        node.answers["ListEvidence"] = node_pb2.ListEvidenceResponse(evidence=[other, settled])
        shown = run("evidence", "list", home=node_home).out
        assert "evidence export ID" in shown and "roster remove MEMBER" in shown and "roster settle" not in shown

    def test_what_is_settled_needs_nothing_more(self, node: FakeNode, node_home: Path) -> None:
        settled = node_pb2.EvidenceView(id=ID, kind="split-view", member="yantai", settled="yantai was removed")
        node.answers["ListEvidence"] = node_pb2.ListEvidenceResponse(evidence=[settled])
        shown = run("evidence", "list", home=node_home).out
        assert "yantai was removed" in shown and "labmesh" not in shown.replace(str(node_home), "")

    def test_none(self, node: FakeNode, node_home: Path) -> None:
        node.answers["ListEvidence"] = node_pb2.ListEvidenceResponse()
        assert run("evidence", "list", "--json", home=node_home).document == {"evidence": []}
        assert "No evidence" in run("evidence", "list", home=node_home).out

    def test_without_a_node(self, home: Path) -> None:
        ended = run("evidence", "list", "--json", home=home)
        assert (ended.exit_code, ended.out) == (3, "")
        assert "labmesh" in ended.err


class TestExport:
    def test_the_file_is_what_the_node_gives(self, node: FakeNode, node_home: Path, tmp_path: Path) -> None:
        raw = format_evidence(two_sizes())
        node.answers["ExportEvidence"] = raw
        file = tmp_path / "case.labevidence"
        ended = run("evidence", "export", ID.upper(), "-o", file, "--json", home=node_home)
        assert (ended.exit_code, ended.document) == (0, {"id": ID.upper(), "file": str(file), "size": len(raw)})
        assert file.read_bytes() == raw
        assert node.calls[-1].id == ID
        shown = run("evidence", "export", ID[:8], "-o", file, "--force", home=node_home).out
        assert f"labmesh evidence verify {file} --fingerprint HEX" in shown

    def test_an_unknown_id(self, node: FakeNode, node_home: Path, tmp_path: Path) -> None:
        node.answers["ExportEvidence"] = NotFoundError("no piece of evidence has the id ab", hint="labmesh evidence list")
        ended = run("evidence", "export", "ab", "-o", tmp_path / "x", "--json", home=node_home)
        assert (ended.exit_code, ended.error["reason"]) == (1, "NOT_FOUND")
        assert not (tmp_path / "x").exists()

    def test_not_to_the_terminal(self, node: FakeNode, node_home: Path) -> None:
        assert run("evidence", "export", ID, "-o", "-", home=node_home).exit_code == 2

    def test_a_node_that_fails(self, node: FakeNode, node_home: Path, tmp_path: Path) -> None:
        node.answers["ExportEvidence"] = StoreError("the disk is full")
        assert run("evidence", "export", ID, "-o", tmp_path / "x", home=node_home).exit_code == 1


class TestVerify:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_without_a_home(self, kind: str, nowhere: Path, tmp_path: Path) -> None:
        file = write(tmp_path, KINDS[kind]())
        ended = run("evidence", "verify", file, "--fingerprint", FINGERPRINT, "--json", home=nowhere)
        assert ended.exit_code == 0, ended
        content = ended.document
        assert list(content) == ["verified", "kind", "member", "summary", "steps"]
        assert (content["verified"], content["kind"]) == (True, KINDS[kind]().kind)
        assert [step["step"] for step in content["steps"]] == list(STEPS)
        assert not nowhere.exists()

    def test_a_far_node_in_the_environment_has_no_say(self, tmp_path: Path) -> None:
        file, far = write(tmp_path, same_size()), {"LABMESH_REMOTE": "lab:7444"}
        assert run("evidence", "verify", file, "--fingerprint", FINGERPRINT, env=far).exit_code == 0
        ended = run("evidence", "verify", file, env=far)
        assert ended.exit_code == 2 and "no fingerprint was given" in ended.err

    def test_for_people(self, nowhere: Path, tmp_path: Path) -> None:
        file = write(tmp_path, same_size())
        shown = run("evidence", "verify", file, "--fingerprint", FINGERPRINT, home=nowhere).out
        assert "proves misconduct" in shown and "jinan signed two different roots for size 5 of its log" in shown
        assert all(f"ok     {step}" in shown for step in STEPS)

    def test_what_proves_nothing(self, nowhere: Path, tmp_path: Path) -> None:
        log = build_fork(JINAN, 9, 5)[0]
        honest = replace(same_size(), statements={name: bytes(log.checkpoint()) for name in ("first.note", "second.note")})
        file = write(tmp_path, honest)
        ended = run("evidence", "verify", file, "--fingerprint", FINGERPRINT, home=nowhere)
        assert ended.exit_code == 1
        assert "PROVES NOTHING" in ended.out and "FAILED conflict" in ended.out and "one history" in ended.out

    def test_a_bundle_is_checked_with_another_command(self, nowhere: Path, tmp_path: Path) -> None:
        ended = run("evidence", "verify", write(tmp_path, b"PK\x03\x04"), "--fingerprint", FINGERPRINT, home=nowhere)
        assert ended.exit_code == 1 and "a bundle is checked with: labmesh verify FILE" in ended.out

    @pytest.mark.parametrize("raw", [b"", b"nonsense", b"PK\x03\x04", format_evidence(two_sizes())[:-1]])
    def test_a_file_that_is_none(self, raw: bytes, nowhere: Path, tmp_path: Path) -> None:
        ended = run("evidence", "verify", write(tmp_path, raw), "--fingerprint", FINGERPRINT, "--json", home=nowhere)
        assert (ended.exit_code, ended.document["verified"], ended.document["kind"]) == (1, False, None)
        assert "not readable evidence" in ended.document["steps"][0]["detail"]

    def test_another_fingerprint(self, nowhere: Path, tmp_path: Path) -> None:
        ended = run("evidence", "verify", write(tmp_path, same_size()), "--fingerprint", "0" * 64, "--json", home=nowhere)
        assert (ended.exit_code, ended.document["steps"][0]["ok"]) == (1, False)

    def test_without_a_fingerprint_and_a_home(self, nowhere: Path, tmp_path: Path) -> None:
        ended = run("evidence", "verify", write(tmp_path, same_size()), "--json", home=nowhere)
        assert ended.exit_code == 2
        assert "--fingerprint HEX" in ended.error["hint"]

    def test_a_missing_file(self, nowhere: Path) -> None:
        assert run("evidence", "verify", "no-such-file", "--fingerprint", FINGERPRINT, home=nowhere).exit_code == 2


class TestVerifyAtHome:
    """A home that has joined the alliance gives the fingerprint, and its newer cards count."""

    @pytest.fixture
    def joined(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
        from cli.governance import HeldAlliance
        from node.store.membership import NodeIdentity

        held = [ALLIANCE]
        identity = NodeIdentity("qingdao", ALLIANCE.name, FINGERPRINT)
        monkeypatch.setattr("cli.governance.read_held_alliance", lambda _home: HeldAlliance(identity, b"", held[0]))
        (tmp_path / "home").mkdir()
        return held  # type: ignore[return-value]

    def test_the_home_gives_the_fingerprint(self, joined: list[object], tmp_path: Path) -> None:
        assert run("evidence", "verify", write(tmp_path, same_size()), home=tmp_path / "home").exit_code == 0

    def test_a_key_that_was_stolen(self, joined: list[object], tmp_path: Path) -> None:
        honest, thief = build_fork(JINAN, 3, 6, 9)
        file = write(tmp_path, split_view((honest, thief)))
        former = FormerLogKey(JINAN.log.key, 6, honest.tree.root(6))
        newer = replace(JINAN, generation=2)
        card = build_card(
            JINAN, log_key=newer.log.key, former_log_keys=(former,), seq=2, previous=ALLIANCE.cards["jinan"][0].hash
        )
        joined[0] = ALLIANCE.accept_card(sign_card(card, JINAN))
        ended = run("evidence", "verify", file, "--json", home=tmp_path / "home")
        assert (ended.exit_code, [step["ok"] for step in ended.document["steps"]]) == (1, [True, True, True, False, None])
        # Who knows nothing of the newer card sees what was signed.
        assert run("evidence", "verify", file, "--fingerprint", FINGERPRINT, home=tmp_path / "no-home").exit_code == 0

    def test_a_file_that_convinces_nobody_else_does_not_verify_here(self, joined: list[object], tmp_path: Path) -> None:
        spoiled = replace(same_size(), cards={"jinan": format_card(ALLIANCE.cards["qingdao"])})
        assert run("evidence", "verify", write(tmp_path, spoiled), home=tmp_path / "home").exit_code == 1

    def test_a_home_of_another_alliance_has_nothing_to_say(self, founded: Path, tmp_path: Path) -> None:
        file = write(tmp_path, same_size())
        assert run("evidence", "verify", file, "--fingerprint", FINGERPRINT, home=founded).exit_code == 0
        assert run("evidence", "verify", file, home=founded).exit_code == 1
        assert format_roster(ALLIANCE.rosters[0]) == same_size().rosters[0]


class TestSettle:
    """`roster settle`: the council, here jinan itself, chooses one of the two histories."""

    @pytest.fixture
    def case(self, founded: Path, tmp_path: Path) -> tuple[Path, Evidence]:
        held, keys = read_held_alliance(Home(founded)).alliance, Home(founded).load_keys("jinan", ALLIANCE.name)
        assert held is not None
        one, other = (sign_checkpoint(Checkpoint(keys.log.key.name, 5, bytes([i]) * 32), keys.log) for i in (1, 2))
        evidence = build_split_view(held, "jinan", one, other)
        return write(tmp_path, evidence), evidence

    @pytest.mark.parametrize(("keep", "root"), [("first", bytes([1]) * 32), ("second", bytes([2]) * 32)])
    def test_either_history_can_survive(self, founded: Path, case: tuple[Path, Evidence], keep: str, root: bytes) -> None:
        ended = run("roster", "settle", case[0], "--keep", keep, "--json", home=founded)
        assert (ended.exit_code, ended.document["version"]) == (0, 2), ended
        held = read_held_alliance(Home(founded)).alliance
        assert held is not None and held.roster.members["jinan"].head == Head(5, root)
        assert find_settlement(judge_evidence(case[1], held=held), held)

    def test_what_is_settled_is_said_to_be_when_it_is_checked(self, founded: Path, case: tuple[Path, Evidence]) -> None:
        assert "It is settled" not in run("evidence", "verify", case[0], home=founded).out
        assert run("roster", "settle", case[0], "--keep", "first", home=founded).exit_code == 0
        ended = run("evidence", "verify", case[0], home=founded)
        assert ended.exit_code == 0 and "proves misconduct" in ended.out
        assert "It is settled by roster version 2: the roster names the history that survives, up to size 5." in ended.out

    def test_not_twice(self, founded: Path, case: tuple[Path, Evidence]) -> None:
        run("roster", "settle", case[0], "--keep", "first", home=founded)
        ended = run("roster", "settle", case[0], "--keep", "second", "--json", home=founded)
        assert (ended.exit_code, ended.error["reason"]) == (1, "GOVERNANCE")
        assert "up to size 5 already" in ended.error["message"]

    def test_a_file_that_proves_nothing_here(self, founded: Path, tmp_path: Path) -> None:
        ended = run("roster", "settle", write(tmp_path, same_size()), "--keep", "first", "--json", home=founded)
        assert (ended.exit_code, ended.error["reason"]) == (1, "VERIFICATION")

    def test_a_contradiction_has_no_two_histories(self, founded: Path, monkeypatch, tmp_path: Path) -> None:
        held = replace(read_held_alliance(Home(founded)), alliance=ALLIANCE)
        monkeypatch.setattr("cli.settlement.read_held_alliance", lambda _home: held)
        ended = run("roster", "settle", write(tmp_path, KINDS["contradiction"]()), "--keep", "first", "--json", home=founded)
        assert ended.exit_code == 1
        assert "labmesh roster remove jinan" in ended.error["hint"]

    def test_what_to_keep_must_be_said(self, founded: Path, case: tuple[Path, Evidence]) -> None:
        assert run("roster", "settle", case[0], home=founded).exit_code == 2
        assert run("roster", "settle", case[0], "--keep", "both", home=founded).exit_code == 2
        told = run("roster", "settle", case[0], "--json", home=founded).error
        assert told["message"] == "Missing option '--keep'. Choose from: first, second", "on one line, without tabs"

    def test_a_file_that_is_no_evidence(self, founded: Path, tmp_path: Path) -> None:
        (tmp_path / "thing").write_text("{}")
        told = run("roster", "settle", tmp_path / "thing", "--keep", "first", "--json", home=founded).error
        assert "thing is no evidence" in told["message"] and "labmesh evidence export ID -o FILE" in told["hint"]
