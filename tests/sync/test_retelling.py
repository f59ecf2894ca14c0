"""Evidence that a peer holds in another form is told and judged once, whatever cards its liar makes; but never missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import delete

from node import evidence as evidence_module
from node.core.amendment import Renew
from node.core.evidence import Evidence, build_conflicts, format_evidence
from node.core.misconduct import Judgement, judge_evidence
from node.errors import VerificationError
from node.held_evidence import basis_of
from node.passed_over import PASSED_OVER_MAX, PassedFile
from node.store.tables import EvidenceRow, table_of
from tests.alliance import SimulatedAlliance, SimulatedMember
from tests.builders import Lab, sign_card, sign_roster
from tests.evidence_cases import build_fork
from tests.sync.disputes import JINAN, YANTAI
from tests.sync.equivocation import contact, holders, show

WITNESSES = ("qingdao", "yantai", "weifang")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the kind of each file that any node judges because it was told or found."""
    kinds: list[str] = []

    def judge(evidence: Evidence, **trusted: object) -> Judgement:
        kinds.append(evidence.kind)
        return judge_evidence(evidence, **trusted)  # type: ignore[arg-type]

    monkeypatch.setattr(evidence_module, "judge_evidence", judge)
    return kinds


def accuse_in_two_forms(alliance: SimulatedAlliance) -> None:
    """Qingdao and weifang prove jinan's split view by other notes."""
    one, other = build_fork(JINAN, 2, 5, 5)
    for name, note in (("qingdao", other.checkpoint()), ("weifang", build_fork(JINAN, 2, 5, 3)[1].checkpoint())):
        show(alliance, name, one)
        alliance[name].exchange.accept_notes([bytes(note)], peer="yantai")
    assert len({alliance[name].evidence.pieces()[0].id for name in ("qingdao", "weifang")}) == 2


def issue_card(lab: Lab, *readers: SimulatedMember) -> None:
    """One more card of a member, which these members take."""
    envelope, card = readers[0].membership.joined.cards[lab.member]
    raw = sign_card(replace(card, seq=card.seq + 1, previous=envelope.hash), lab)
    for reader in readers:
        assert reader.membership.accept_update([], [raw]).changed
        reader.evidence.refresh()


def two_rosters(reader: SimulatedMember, version: int) -> bytes:
    """A file that accuses jinan of two rosters of a version."""
    alliance = reader.membership.joined
    roster = alliance.rosters[version - 1][1]
    pair = [sign_roster(replace(roster, title=title), JINAN) for title in ("One", "Other")]
    (piece,) = build_conflicts(alliance, pair)
    return format_evidence(piece)


@pytest.mark.parametrize("author", [JINAN, YANTAI], ids=["the liar's cards", "the cards of somebody else"])
def test_ever_new_cards_have_nothing_told_or_judged_again(four: SimulatedAlliance, judged: list[str], author: Lab) -> None:
    accuse_in_two_forms(four)
    for _ in range(2):
        for pair in permutations(WITNESSES, 2):
            contact(four, *pair)
    assert holders(four, "jinan") == list(WITNESSES)
    judged.clear()
    four.reported.clear()
    for _ in range(3):
        four.clock.turn(60)
        issue_card(author, *(four[name] for name in WITNESSES))
        for caller, server in permutations(WITNESSES, 2):
            assert four[server].evidence.untold(caller) == []
            contact(four, caller, server)
    assert (four.reported, judged) == ([], [])
    assert holders(four, "jinan") == list(WITNESSES)


def test_what_was_held_instead_is_gone_and_the_other_is_told_again(four: SimulatedAlliance) -> None:
    """As when a record in it was erased: nobody goes free because of what is held no more."""
    accuse_in_two_forms(four)
    contact(four, "qingdao", "weifang")
    contact(four, "qingdao", "weifang")
    weifang, (piece,) = four["weifang"], four["qingdao"].evidence.pieces()
    assert piece.id in weifang.evidence.known_ids("qingdao")
    with weifang.store.evidence._database.write() as connection:
        connection.execute(delete(table_of(EvidenceRow)))
    weifang.evidence.forget_dropped()
    assert piece.id not in weifang.evidence.known_ids("qingdao")
    four.reported.clear()
    for _ in range(2):
        contact(four, "qingdao", "weifang")
    assert holders(four, "jinan") == ["qingdao", "weifang"]
    assert [held.id for held in weifang.evidence.pieces()] == [piece.id]


def test_what_finds_no_room_is_judged_once_until_there_is_room(
    alliance: SimulatedAlliance, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_module, "HELD_MAX", 1)
    reader = alliance["qingdao"]
    held, more = two_rosters(reader, 1), two_rosters(reader, 2)
    assert reader.evidence.accept(held, peer="yantai") and reader.evidence.accept(more, peer="yantai")
    for _ in range(2):
        alliance.clock.turn(60)
        issue_card(JINAN, reader)
        assert reader.evidence.accept(more, peer="yantai")
    assert judged == ["roster", "roster"]
    with reader.store.evidence._database.write() as connection:
        connection.execute(delete(table_of(EvidenceRow)))
    reader.evidence.forget_dropped()
    assert reader.evidence.accept(more, peer="yantai")
    assert [piece.judgement.subject for piece in reader.evidence.pieces()] == ["roster 2"]


@pytest.mark.parametrize("instead", [frozenset({"gone"}), frozenset()], ids=["others stood for them", "they proved nothing"])
def test_pieces_and_rosters_are_looked_at_once_for_however_many_files(
    alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch, instead: frozenset[str]
) -> None:
    """Two peers may each have told hundreds, and all wait meanwhile who need the lock."""
    keeper, looks = alliance["qingdao"].evidence, Counter[str]()
    for peer in ("jinan", "yantai"):
        for i in range(PASSED_OVER_MAX):
            keeper._passed_over.add(f"{i}", PassedFile("jinan", ("roster", "card"), instead), peer=peer)

    def counted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (looks.update([name]), work(*given))[1]

    monkeypatch.setattr(keeper, "_standing", counted("pieces", keeper._standing))
    monkeypatch.setattr(evidence_module, "basis_of", counted("rosters", basis_of))
    keeper.forget_dropped()
    assert (keeper._passed_over.told_by("jinan"), keeper._passed_over.told_by("yantai")) == ([], [])
    assert looks == ({"pieces": 1} if instead else {"pieces": 1, "rosters": 1})


def test_what_proves_nothing_is_judged_again_under_another_roster_alone(
    alliance: SimulatedAlliance, judged: list[str]
) -> None:
    reader = alliance["qingdao"]
    joined = reader.membership.joined
    roster = sign_roster(joined.rosters[0][1], JINAN)
    raw = format_evidence(*build_conflicts(joined, (roster, roster)))
    with pytest.raises(VerificationError, match="say the same"):
        reader.evidence.accept(raw, peer="yantai")
    issue_card(JINAN, reader)
    assert reader.evidence.accept(raw, peer="yantai") and judged == ["roster"]
    alliance["jinan"].membership.amend(Renew())
    newest = alliance.exported("jinan")[0]
    assert reader.membership.accept_update(newest, []).changed
    reader.evidence.refresh()
    with pytest.raises(VerificationError, match="say the same"):
        reader.evidence.accept(raw, peer="yantai")
    assert reader.evidence.pieces() == ()
