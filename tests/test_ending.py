"""A removal ends a log with the history that survives, whatever the remover holds of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.core.amendment import NameSurvivor, RemoveMember, SeatCouncil
from node.core.merkle import EMPTY_ROOT
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
