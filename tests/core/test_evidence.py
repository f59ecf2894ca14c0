"""Evidence as a file: one form of ZIP, names that say the kind, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.alliance import load_alliance
from node.core.archive import format_archive, parse_archive
from node.core.dsse import parse_envelope
from node.core.evidence import (
    CONSISTENCY_MAX,
    EVIDENCE_SIZE_MAX,
    Consistency,
    Evidence,
    build_conflicts,
    build_split_view,
    council_keys,
    format_consistency,
    format_evidence,
    identity_keys,
    parse_consistency,
    parse_evidence,
)
from node.core.misconduct import judge_evidence
from node.core.proof import parse_tlog_proof
from node.core.roster import ROSTER_TYPE
from node.errors import FormatError
from tests.builders import NOW_S, build_card, build_roster, build_roster_chain, cosign, sign_card, sign_roster
from tests.core import strategies
from tests.evidence_cases import (
    ALLIANCE,
    JINAN,
    KINDS,
    LABS,
    QINGDAO,
    YANTAI,
    build_fork,
    other_card,
    other_roster,
    said_twice,
    split_view,
    two_sizes,
)


def members_of(evidence: Evidence) -> dict[str, bytes]:
    return parse_archive(
        format_evidence(evidence), noun="evidence", size_max=EVIDENCE_SIZE_MAX, member_size_max=lambda _: EVIDENCE_SIZE_MAX
    )


contents = st.binary(max_size=40)
STATEMENTS: dict[str, list[str]] = {
    "split-view": ["first.note", "second.note"],
    "contradiction": ["first.json", "first.tlog-proof", "second.json", "second.tlog-proof"],
    "roster": ["first.roster", "second.roster"],
    "card": ["first.card", "second.card"],
}


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    kind = draw(st.sampled_from(list(STATEMENTS)))
    names = [*STATEMENTS[kind], *(["consistency.txt"] if kind == "split-view" and draw(st.booleans()) else [])]
    cards = {draw(strategies.members): draw(contents)} if kind in ("split-view", "contradiction") else {}
    rosters = draw(st.lists(contents, min_size=1, max_size=12).map(tuple))
    return Evidence(kind, rosters, {name: draw(contents) for name in names}, cards)  # type: ignore[arg-type]


class TestForm:
    @given(evidences())
    def test_round_trip(self, evidence: Evidence) -> None:
        raw = format_evidence(evidence)
        assert parse_evidence(raw) == evidence
        assert format_evidence(parse_evidence(raw)) == raw

    @pytest.mark.parametrize("kind", KINDS)
    def test_round_trip_of_real_ones(self, kind: str) -> None:
        evidence = KINDS[kind]()
        assert parse_evidence(format_evidence(evidence)) == evidence

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_members(self, kind: str) -> None:
        evidence = KINDS[kind]()
        names = {"README.txt", "roster/1.json", *STATEMENTS[evidence.kind]}
        names |= {"cards/jinan.json"} if evidence.kind in ("split-view", "contradiction") else set()
        names |= {"consistency.txt"} if kind == "two sizes" else set()
        assert set(members_of(evidence)) == names

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_readme_names_every_statement(self, kind: str) -> None:
        members = members_of(KINDS[kind]())
        readme = members["README.txt"].decode()
        assert "labmesh evidence verify" in readme
        for name in members:
            if name.startswith(("first", "second")):
                assert name in readme

    def test_the_words_of_the_readme_are_free(self) -> None:
        evidence = two_sizes()
        assert parse_evidence(format_archive({**members_of(evidence), "README.txt": b"another"})) == evidence

    Change = Callable[[dict[str, bytes]], object]

    @pytest.mark.parametrize(
        "change",
        {
            "no README": lambda members: members.pop("README.txt"),
            "no roster": lambda members: members.pop("roster/1.json"),
            "a gap in the rosters": lambda members: members.update({"roster/3.json": b""}),
            "a roster with a leading zero": lambda members: members.update({"roster/02.json": b""}),
            "no card": lambda members: members.pop("cards/jinan.json"),
            "two cards": lambda members: members.update({"cards/qingdao.json": b""}),
            "one statement": lambda members: members.pop("second.note"),
            "an unknown member": lambda members: members.update({"notes.txt": b""}),
            "statements of two kinds": lambda members: members.update({"first.card": b"", "second.card": b""}),
            "a proof alone": lambda members: [members.pop("first.note"), members.pop("second.note")],
        }.items(),
        ids=lambda item: item[0],
    )
    def test_other_members_are_refused(self, change: tuple[str, Change]) -> None:
        members = members_of(two_sizes())
        change[1](members)
        with pytest.raises(FormatError):
            parse_evidence(format_archive(members))

    def test_bytes_beside_the_members_and_other_headers_are_refused(self) -> None:
        raw = format_evidence(two_sizes())
        for other in (raw + b"x", b"x" + raw, raw[:10] + b"\x21" + raw[11:], b"", b"PK", raw[: len(raw) // 2]):
            with pytest.raises(FormatError):
                parse_evidence(other)

    def test_a_huge_file_is_refused_unread(self) -> None:
        with pytest.raises(FormatError, match="at most"):
            parse_evidence(bytes(EVIDENCE_SIZE_MAX + 1))


class TestConsistency:
    @given(strategies.hashes, st.lists(strategies.hashes, max_size=20).map(tuple))
    def test_round_trip(self, root: bytes, path: tuple[bytes, ...]) -> None:
        text = format_consistency(Consistency(root, path))
        assert parse_consistency(text.encode()) == Consistency(root, path)
        assert format_consistency(parse_consistency(text.encode())) == text

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\n",
            b"AAAA\n",
            format_consistency(Consistency(bytes(32), ())).encode()[:-1],
            format_consistency(Consistency(bytes(32), ())).encode() + b"\n",
            format_consistency(Consistency(bytes(32), ())).encode().replace(b"=", b""),
            format_consistency(Consistency(bytes(32), ())).encode().replace(b"\n", b"\r\n"),
            format_consistency(Consistency(bytes(32), (bytes(31),))).encode(),
            format_consistency(Consistency(bytes(32), (bytes(32),) * CONSISTENCY_MAX)).encode(),
            "é\n".encode(),
        ],
    )
    def test_anything_else_is_refused(self, raw: bytes) -> None:
        with pytest.raises(FormatError):
            parse_consistency(raw)


class TestSplitView:
    def test_the_file_is_the_same_whoever_makes_it(self) -> None:
        """Cosignatures, and which note was held, depend on who found it: they are left out, or put in order."""
        small, large = build_fork(JINAN, 2, 5, 9)
        one, other = small.checkpoint(), large.checkpoint()
        wanted = format_evidence(build_split_view(ALLIANCE, "jinan", one, other, large.tree))
        cosigned = cosign(one, {QINGDAO: NOW_S, YANTAI: NOW_S})
        assert format_evidence(build_split_view(ALLIANCE, "jinan", other, cosigned, large.tree)) == wanted

    def test_two_sizes_need_the_log(self) -> None:
        small, large = build_fork(JINAN, 2, 5, 9)
        with pytest.raises(FormatError):
            build_split_view(ALLIANCE, "jinan", small.checkpoint(), large.checkpoint())

    def test_equal_sizes_need_no_proof(self) -> None:
        evidence = split_view(build_fork(JINAN, 0, 4, 4))
        assert set(evidence.statements) == {"first.note", "second.note"}


class TestContradiction:
    def test_the_entries_stand_in_order_under_one_note(self) -> None:
        said = said_twice()
        assert said.evidence(4, 1) == said.evidence(1, 4)
        proofs = [parse_tlog_proof(said.evidence(1, 4).statements[f"{n}.tlog-proof"].decode()) for n in ("first", "second")]
        assert [(proof.index, proof.extra) for proof in proofs] == [(1, said.log.salts[1]), (4, said.log.salts[4])]
        assert proofs[0].checkpoint == proofs[1].checkpoint == bytes(said.signed).decode()


class TestConflict:
    def test_only_the_common_signature_is_kept(self) -> None:
        held, other = sign_roster(build_roster(LABS), JINAN, QINGDAO), other_roster((YANTAI, JINAN))
        (evidence,) = build_conflicts(ALLIANCE, (held, other))
        envelopes = [parse_envelope(raw, ROSTER_TYPE)[0] for raw in evidence.statements.values()]
        assert [len(envelope.signatures) for envelope in envelopes] == [1, 1]
        assert all(envelope.signers([JINAN.identity_key]) for envelope in envelopes)
        assert build_conflicts(ALLIANCE, (other, held)) == [evidence]

    def test_each_key_that_signed_both_has_a_piece_of_its_own(self) -> None:
        alliance = load_alliance(build_roster_chain(LABS))
        pair = [sign_roster(replace(alliance.roster, title=title), *LABS) for title in ("One", "Other")]
        found = build_conflicts(alliance, pair)
        assert sorted(judge_evidence(piece, held=alliance).member for piece in found) == ["jinan", "qingdao", "yantai"]
        for piece in found:
            envelopes = [parse_envelope(raw, ROSTER_TYPE)[0] for raw in piece.statements.values()]
            assert [len(envelope.signatures) for envelope in envelopes] == [1, 1]

    def test_without_a_common_key_there_is_nothing(self) -> None:
        held = sign_roster(build_roster(LABS), JINAN)
        assert build_conflicts(ALLIANCE, (held, other_roster((QINGDAO,)))) == []
        card = sign_card(build_card(QINGDAO), QINGDAO)
        assert build_conflicts(ALLIANCE, (card, sign_card(build_card(QINGDAO, name="Another"), YANTAI))) == []

    def test_a_stranger_proves_nothing(self) -> None:
        stranger = replace(QINGDAO, member="heze")
        assert build_conflicts(ALLIANCE, (other_card(stranger), other_card(stranger, name="Another"))) == []

    def test_a_roster_and_a_card_are_no_pair(self) -> None:
        with pytest.raises(FormatError):
            build_conflicts(ALLIANCE, (other_roster(), other_card()))

    def test_whose_signatures_count(self) -> None:
        alliance = load_alliance(build_roster_chain(LABS))
        founder, council = {JINAN.identity_key}, {lab.identity_key for lab in LABS}
        assert council_keys(alliance, 1) == founder
        assert council_keys(alliance, 2) == council_keys(alliance, 3) == council
        assert council_keys(alliance, 4) == council_keys(alliance, 0) == council_keys(alliance, -1) == set()
        assert identity_keys(alliance, "yantai") == {YANTAI.identity_key}
        assert identity_keys(alliance, "heze") == set()
