"""A removal ends a log with the history that survives, whatever the remover holds of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.core.amendment import NameSurvivor, RemoveMember, Renew, SeatCouncil, build_successor
from node.core.merkle import EMPTY_ROOT
from node.core.proposal import Proposal, format_proposal
from node.core.roster import Head
from node.disowning import Objector
from node.ending import choose_end, find_other_history
from node.errors import GovernanceError, NotFoundError
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts
from tests.builders import MemoryLog, record_bytes
from tests.sync.equivocation import contact, show

LIAR, REMOVER, OTHER, THIRD = "qingdao", "jinan", "yantai", "weifang"


def objector_of(member: SimulatedMember) -> Objector:
    return Objector(member.store, lambda: member.membership.alliance, ahead=member.exchange.ahead.size_of)


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    made = SimulatedAlliance(tmp_path / "alliance", 4)
    for member in made.members.values():
        member.membership._objector = objector_of(member)
    yield made
    made.close()


def two_histories(alliance: SimulatedAlliance, common: int = 0) -> tuple[MemoryLog, MemoryLog]:
    """Of six entries each, the first `common` alike."""
    lab = alliance[LIAR].lab
    logs = (MemoryLog(lab), MemoryLog(lab))
    for value, log in enumerate(logs):
        for i in range(6):
            log.append(record_bytes(LIAR, f"A{i}", body={"value": "0" if i < common else str(value)}))
    return logs


def settle(alliance: SimulatedAlliance, log: MemoryLog, size: int = 6) -> Head:
    head = Head(size, log.checkpoint(size).root)
    alliance[REMOVER].membership.amend(NameSurvivor(LIAR, head))
    return head


def end_of(member: SimulatedMember, size: int | None = None) -> Head:
    return choose_end(member.store, member.membership.joined, LIAR, size)


@pytest.mark.parametrize("shown", [3, 6], ids=["the mirror ends before", "the mirror is the other history"])
def test_who_holds_the_other_history_names_the_survivor(alliance: SimulatedAlliance, shown: int) -> None:
    losing, surviving = two_histories(alliance)
    remover = alliance[REMOVER]
    show(alliance, REMOVER, losing, shown)
    head = settle(alliance, surviving)
    assert end_of(remover) == end_of(remover, 6) == head
    ballot = remover.membership.amend(RemoveMember(LIAR, end_of(remover)))
    assert ballot.alliance.roster.members[LIAR].cut == head


def test_a_smaller_end_is_refused(alliance: SimulatedAlliance) -> None:
    losing, surviving = two_histories(alliance)
    remover = alliance[REMOVER]
    show(alliance, REMOVER, losing, 3)
    settle(alliance, surviving)
    with pytest.raises(GovernanceError, match="up to size 6, and would now name size 2"):
        remover.membership.amend(RemoveMember(LIAR, end_of(remover, 2)))
    with pytest.raises(NotFoundError, match="3 entries of qingdao are verified here, not 7"):
        end_of(remover, 7)


def test_more_of_the_other_history_is_refused_to_the_proposer_and_to_the_signer(alliance: SimulatedAlliance) -> None:
    """Settled at size 4, where the histories differ, while six entries of the loser are held."""
    losing, surviving = two_histories(alliance, common=2)
    for name in (REMOVER, OTHER):
        show(alliance, name, losing, 6)
    settle(alliance, surviving, 4)
    remover, other = alliance[REMOVER], alliance[OTHER]
    with pytest.raises(GovernanceError, match="another history than the one that the roster names up to size 4"):
        remover.membership.amend(RemoveMember(LIAR, end_of(remover, 6)))
    other.membership.accept_update(*alliance.exported(REMOVER))
    seated = remover.membership.amend(SeatCouncil((REMOVER, OTHER), 2))
    assert other.membership.sign_proposal(seated.proposal).complete
    remover.membership.accept_update(*alliance.exported(OTHER))
    remover.membership._objector = None  # an older version of the software
    ballot = remover.membership.amend(RemoveMember(LIAR, Head(6, losing.checkpoint(6).root)))
    assert not ballot.complete
    with pytest.raises(GovernanceError, match="another history than the one that the roster names up to size 4"):
        other.membership.sign_proposal(ballot.proposal)


def test_more_of_the_survivor_ends_where_it_is_verified(alliance: SimulatedAlliance) -> None:
    _, surviving = two_histories(alliance)
    remover = alliance[REMOVER]
    show(alliance, REMOVER, surviving, 6)
    settle(alliance, surviving, 4)
    whole = Head(6, surviving.checkpoint(6).root)
    assert end_of(remover) == whole
    assert end_of(remover, 5) == Head(5, surviving.checkpoint(5).root)
    assert find_other_history(remover.store, remover.membership.joined, LIAR, whole) is None
    assert remover.membership.amend(RemoveMember(LIAR, whole)).alliance.roster.members[LIAR].cut == whole


def test_without_a_settlement_it_is_what_is_verified(alliance: SimulatedAlliance) -> None:
    author, remover = alliance[LIAR], alliance[REMOVER]
    author.push(*drafts(5))
    alliance.catch_up(REMOVER, LIAR)
    assert end_of(remover) == remover.store.logs.head_of(LIAR) and end_of(remover).size == 5
    assert end_of(remover, 2).size == 2


@pytest.fixture
def cosigned(alliance: SimulatedAlliance) -> SimulatedAlliance:
    """Two members have cosigned five entries, and the remover, whose node could not read them, was told so."""
    author = alliance[LIAR]
    author.push(*drafts(5))
    for name in (OTHER, THIRD):
        alliance.catch_up(name, LIAR)
        assert alliance[name].exchange.cosign_head(author.ledger.origin)
        contact(alliance, LIAR, name)
    contact(alliance, OTHER, THIRD)
    contact(alliance, REMOVER, OTHER)
    assert alliance[REMOVER].store.logs.head_of(LIAR) == Head(0, EMPTY_ROOT)
    return alliance


class TestBelowTheQuorum:
    """What a quorum has cosigned is not made unprovable by a remover that does not know it."""

    MATCH = "end the log of qingdao at size 0, but a quorum cosigned it up to size 5"

    def test_the_proposer_is_told(self, cosigned: SimulatedAlliance) -> None:
        remover = cosigned[REMOVER]
        with pytest.raises(GovernanceError, match=self.MATCH) as caught:
            remover.membership.amend(RemoveMember(LIAR, end_of(remover)))
        assert "labmesh roster remove qingdao --head-size 0" in caught.value.hint
        assert LIAR in remover.membership.joined.active_members()

    def test_a_person_may_name_the_size(self, cosigned: SimulatedAlliance) -> None:
        remover = cosigned[REMOVER]
        ballot = remover.membership.amend(RemoveMember(LIAR, end_of(remover, 0), by_hand=True))
        assert ballot.alliance.roster.members[LIAR].cut == Head(0, EMPTY_ROOT)

    def test_who_has_read_that_far_may_remove(self, cosigned: SimulatedAlliance) -> None:
        remover = cosigned[REMOVER]
        cosigned.catch_up(REMOVER, LIAR)
        assert remover.membership.amend(RemoveMember(LIAR, end_of(remover))).complete
        assert remover.membership.joined.roster.members[LIAR].cut == cosigned[OTHER].store.logs.head_of(LIAR)

    def test_the_signer_is_told_too(self, cosigned: SimulatedAlliance) -> None:
        remover, other = cosigned[REMOVER], cosigned[OTHER]
        seated = remover.membership.amend(SeatCouncil((REMOVER, OTHER), 2))
        other.membership.accept_update(*cosigned.exported(REMOVER))
        assert other.membership.sign_proposal(seated.proposal).complete
        remover.membership.accept_update(*cosigned.exported(OTHER))
        ballot = remover.membership.amend(RemoveMember(LIAR, end_of(remover, 0), by_hand=True))
        for size in (None, 1, 5):
            with pytest.raises(GovernanceError, match=self.MATCH) as caught:
                other.membership.sign_proposal(ballot.proposal, head_size=size)
            assert "labmesh roster sign FILE --head-size 0" in caught.value.hint
        assert other.membership.sign_proposal(ballot.proposal, head_size=0).complete

    def test_fewer_than_a_quorum_are_no_reason(self, alliance: SimulatedAlliance) -> None:
        author, remover = alliance[LIAR], alliance[REMOVER]
        author.push(*drafts(5))
        alliance.catch_up(OTHER, LIAR)
        assert alliance[OTHER].exchange.cosign_head(author.ledger.origin)
        contact(alliance, REMOVER, OTHER)
        assert remover.exchange.ahead.size_of(remover.membership.joined, LIAR) == 0
        assert remover.membership.amend(RemoveMember(LIAR, end_of(remover))).complete

    def test_what_was_told_before_a_settlement_is_forgotten(self, cosigned: SimulatedAlliance) -> None:
        remover = cosigned[REMOVER]
        assert remover.exchange.ahead.size_of(remover.membership.joined, LIAR) == 5
        _, surviving = two_histories(cosigned)
        settle(cosigned, surviving, 4)
        assert remover.exchange.ahead.size_of(remover.membership.joined, LIAR) == 0


def seat_two(alliance: SimulatedAlliance) -> tuple[SimulatedMember, SimulatedMember]:
    """The remover and another on the council, who both must sign; the remover's software looks at nothing."""
    remover, other = alliance[REMOVER], alliance[OTHER]
    seated = remover.membership.amend(SeatCouncil((REMOVER, OTHER), 2))
    other.membership.accept_update(*alliance.exported(REMOVER))
    assert other.membership.sign_proposal(seated.proposal).complete
    remover.membership.accept_update(*alliance.exported(OTHER))
    remover.membership._objector = None
    return remover, other


class TestAnotherRoot:
    """Who signs holds the head against what its own node has verified: a wrong root makes all of the log unprovable."""

    MATCH = "but this node has verified .* there: .* nothing that qingdao has said in the history held here could be proved"

    @pytest.mark.parametrize("size", [5, 4])
    def test_an_end_is_refused_unless_a_person_names_it(self, cosigned: SimulatedAlliance, size: int) -> None:
        remover, other = seat_two(cosigned)
        ballot = remover.membership.amend(RemoveMember(LIAR, Head(size, b"\7" * 32)))
        for named in (None, size - 1):
            with pytest.raises(GovernanceError, match=self.MATCH) as caught:
                other.membership.sign_proposal(ballot.proposal, head_size=named)
            assert "labmesh evidence list" in caught.value.hint
            assert f"labmesh roster sign FILE --head-size {size}" in caught.value.hint
        assert other.store.membership.load_signed(ballot.alliance.roster.version + 1) is None
        assert other.membership.sign_proposal(ballot.proposal, head_size=size).complete

    def test_so_is_one_that_is_named_after_the_removal(self, cosigned: SimulatedAlliance) -> None:
        remover, other = seat_two(cosigned)
        ended = other.membership.sign_proposal(remover.membership.amend(RemoveMember(LIAR)).proposal)
        assert ended.complete and ended.alliance.roster.members[LIAR].cut is None
        remover.membership.accept_update(*cosigned.exported(OTHER))
        renewed, _ = build_successor(remover.membership.joined, Renew(), now=cosigned.clock().replace(microsecond=0))
        line = replace(renewed.members[LIAR], head=Head(5, b"\7" * 32))
        raw = remover.membership._sign_roster(replace(renewed, members={**renewed.members, LIAR: line}))
        with pytest.raises(GovernanceError, match=self.MATCH):
            other.membership.sign_proposal(format_proposal(Proposal(raw)))

    def test_what_is_verified_is_signed(self, cosigned: SimulatedAlliance) -> None:
        remover, other = seat_two(cosigned)
        ballot = remover.membership.amend(RemoveMember(LIAR, end_of(other)))
        assert other.membership.sign_proposal(ballot.proposal).complete

    def test_an_end_beside_the_survivor_is_refused_whatever_a_person_says(self, alliance: SimulatedAlliance) -> None:
        losing, surviving = two_histories(alliance, common=2)
        settle(alliance, surviving, 4)
        alliance[OTHER].membership.accept_update(*alliance.exported(REMOVER))
        show(alliance, OTHER, surviving, 6)
        remover, other = seat_two(alliance)
        ballot = remover.membership.amend(RemoveMember(LIAR, Head(6, losing.checkpoint(6).root)))
        for named in (None, 6):
            with pytest.raises(GovernanceError, match="another history than the one that the roster names up to size 4"):
                other.membership.sign_proposal(ballot.proposal, head_size=named)

    def test_who_holds_what_was_given_up_signs_the_end_of_the_survivor(self, alliance: SimulatedAlliance) -> None:
        losing, surviving = two_histories(alliance, common=2)
        show(alliance, OTHER, losing, 6)
        settle(alliance, surviving, 4)
        remover, other = seat_two(alliance)
        assert other.store.logs.head_of(LIAR) == Head(6, losing.checkpoint(6).root)
        ballot = remover.membership.amend(RemoveMember(LIAR, Head(6, surviving.checkpoint(6).root)))
        assert other.membership.sign_proposal(ballot.proposal).complete

    @pytest.mark.parametrize("held", [6, 3, 0])
    def test_a_survivor_is_looked_at_too(self, alliance: SimulatedAlliance, held: int) -> None:
        """The council must be able to choose the history that a signer does not hold; but the signer knows it."""
        losing, surviving = two_histories(alliance)
        show(alliance, OTHER, losing, held)
        remover, other = seat_two(alliance)
        head = Head(6, surviving.checkpoint(6).root)
        ballot = remover.membership.amend(NameSurvivor(LIAR, head))
        if held == 6:
            with pytest.raises(GovernanceError, match=self.MATCH) as caught:
                other.membership.sign_proposal(ballot.proposal)
            assert "labmesh roster sign FILE --head-size 6" in caught.value.hint
        named = 6 if held == 6 else None
        assert other.membership.sign_proposal(ballot.proposal, head_size=named).alliance.roster.members[LIAR].head == head
