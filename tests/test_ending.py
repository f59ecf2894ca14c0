"""A removal ends a log with the history that survives, whatever the remover holds of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.core.amendment import NameSurvivor, RemoveMember, SeatCouncil
from node.core.roster import Head
from node.disowning import Objector
from node.ending import choose_end, find_other_history
from node.errors import GovernanceError, NotFoundError
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts
from tests.builders import MemoryLog, record_bytes
from tests.sync.equivocation import show

LIAR, REMOVER, OTHER = "qingdao", "jinan", "yantai"


def objector_of(member: SimulatedMember) -> Objector:
    return Objector(member.store, lambda: member.membership.alliance)


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
