"""Two changes of one version, each with a part of the signatures: a withdrawal leads out, and no crash halves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labmesh.v1 import node_pb2
from node.core.amendment import Renew, SeatCouncil, SetQuorum
from node.core.conflict import find_roster_conflict
from node.core.proposal import parse_proposal
from node.core.roster import parse_roster
from node.errors import GovernanceError, StoreError, UnconfirmedError
from node.store.membership import MembershipStore, SignedVersion
from tests.alliance import SimulatedAlliance, SimulatedMember
from tests.attacks.calling import call, caller, node_servicer, refused


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Jinan, qingdao and weifang; the council is jinan and qingdao, and both must sign."""
    made = SimulatedAlliance(tmp_path, 3)
    seated = made["jinan"].membership.amend(SeatCouncil(("jinan", "qingdao"), 2))
    assert made["qingdao"].membership.sign_proposal(seated.proposal).complete
    spread(made, "qingdao")
    yield made
    made.close()


def spread(alliance: SimulatedAlliance, source: str) -> None:
    for member in alliance.members.values():
        assert member.membership.accept_update(*alliance.exported(source)).faults == ()


def hash_of(raw: bytes) -> str:
    return parse_roster(parse_proposal(raw).roster)[0].hash


def refusal(member: SimulatedMember, roster_hash: str) -> GovernanceError:
    with pytest.raises(GovernanceError) as caught:
        member.membership.withdraw_proposal(roster_hash)
    return caught.value


def test_the_way_out_of_two_of_two(alliance: SimulatedAlliance) -> None:
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    first, second = jinan.membership.amend(Renew()).proposal, qingdao.membership.amend(SetQuorum(2)).proposal
    with pytest.raises(GovernanceError) as caught:
        jinan.membership.sign_proposal(second)
    assert caught.value.message.count("made at 20") == 2
    assert "qingdao can put the first in force" in caught.value.hint
    assert caught.value.hint.endswith("give it up: labmesh roster withdraw")

    assert jinan.membership.withdraw_proposal(hash_of(first)) == 4
    jinan.reopen()
    assert jinan.membership.open_proposal() is None
    assert jinan.membership.open_roster() is None
    assert jinan.membership.sign_proposal(second).complete
    spread(alliance, "jinan")
    assert {member.membership.joined.roster.version for member in alliance.members.values()} == {4}
    assert not any(member.evidence.pieces() for member in alliance.members.values())


def test_who_kept_a_copy_can_prove_it(alliance: SimulatedAlliance) -> None:
    """However few signed with it: what the person at the terminal is told."""
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    first, second = jinan.membership.amend(Renew()).proposal, qingdao.membership.amend(SetQuorum(2)).proposal
    jinan.membership.withdraw_proposal(hash_of(first))
    jinan.membership.sign_proposal(second)
    kept = parse_proposal(first).roster
    assert find_roster_conflict(jinan.membership.joined, kept) is not None
    spread(alliance, "jinan")
    update = qingdao.membership.accept_update([kept], [])
    qingdao.evidence.accept_conflicts(update.conflicts)
    assert [piece.member for piece in qingdao.evidence.pieces() if piece.stands] == ["jinan"]


def test_a_signed_roster_binds_until_it_is_withdrawn(alliance: SimulatedAlliance) -> None:
    jinan = alliance["jinan"]
    first = jinan.membership.amend(Renew()).proposal
    jinan.reopen()
    with pytest.raises(GovernanceError, match="nobody signs two of one version"):
        jinan.membership.amend(SetQuorum(2))
    assert "is another one than was shown" in refusal(jinan, "0" * 64).message
    jinan.membership.withdraw_proposal(hash_of(first))
    assert "has signed no proposal of roster version 4" in refusal(jinan, hash_of(first)).message
    assert not jinan.membership.amend(SetQuorum(2)).complete


def test_what_is_in_force_is_not_withdrawn(alliance: SimulatedAlliance) -> None:
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    first = jinan.membership.amend(Renew()).proposal
    assert qingdao.membership.sign_proposal(first).complete
    assert "version 5" in refusal(qingdao, hash_of(first)).message
    spread(alliance, "qingdao")
    assert "version 5" in refusal(jinan, hash_of(first)).message


def test_a_withdrawn_roster_is_signed_again_unless_another_was_since(alliance: SimulatedAlliance) -> None:
    """From a copy that has the signature already, with no second one of the same key."""
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    first = jinan.membership.amend(Renew()).proposal
    jinan.membership.withdraw_proposal(hash_of(first))
    again = jinan.membership.sign_proposal(first)
    assert (again.have, again.proposal) == (1, first)
    with pytest.raises(GovernanceError, match="jinan has signed this proposal already"):
        jinan.membership.sign_proposal(first)
    jinan.membership.withdraw_proposal(hash_of(first))
    second = jinan.membership.amend(SetQuorum(2)).proposal
    jinan.membership.withdraw_proposal(hash_of(second))
    with pytest.raises(GovernanceError, match="has withdrawn this roster of version 4, and signed another one since"):
        jinan.membership.sign_proposal(first)
    assert jinan.membership.sign_proposal(second).have == 1
    assert qingdao.membership.sign_proposal(second).complete


def test_a_withdrawal_that_was_not_remembered_binds_still(
    alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    jinan = alliance["jinan"]
    first = jinan.membership.amend(Renew()).proposal

    def power_cut(*_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(MembershipStore, "save_withdrawn", power_cut)
    with pytest.raises(StoreError):
        jinan.membership.withdraw_proposal(hash_of(first))
    monkeypatch.undo()
    jinan.reopen()
    with pytest.raises(GovernanceError, match="has signed another roster of version 4 already"):
        jinan.membership.amend(SetQuorum(2))
    jinan.membership.withdraw_proposal(hash_of(first))
    assert not jinan.membership.amend(SetQuorum(2)).complete


def test_a_home_that_may_be_older_than_its_word_withdraws_nothing(alliance: SimulatedAlliance) -> None:
    jinan = alliance["jinan"]
    first = jinan.membership.amend(Renew()).proposal
    jinan.reopen()
    request = node_pb2.WithdrawRosterRequest(hash=hash_of(first))
    error = refused(node_servicer(jinan).WithdrawRoster(request, caller()))
    assert error.reason == UnconfirmedError.reason
    jinan.confirm()
    assert call(node_servicer(jinan).WithdrawRoster(request, caller())).version == 4
    assert jinan.membership.open_proposal() is None


class TestStore:
    """What the database keeps of a home's word, version by version."""

    ONE, TWO, THREE = (SignedVersion(9, letter * 64, letter.encode()) for letter in "abc")

    def test_a_withdrawn_one_makes_room_and_stays_known(self, alliance: SimulatedAlliance) -> None:
        store = alliance["jinan"].store.membership
        store.save_signed(self.ONE)
        for act in (store.save_signed, lambda it: store.require_unsigned(it.version, it.hash)):
            with pytest.raises(GovernanceError, match=r"another roster of version 9 already \(aaaaaaaaaaaa…\)"):
                act(self.TWO)
        store.save_withdrawn(self.ONE)
        assert store.load_signed(9) is None
        assert store.load_withdrawn(9) == [self.ONE]
        store.save_signed(self.TWO)
        store.save_signed(SignedVersion(9, self.TWO.hash, b"two, with more signatures"))
        assert store.load_signed(9) == SignedVersion(9, self.TWO.hash, b"two, with more signatures")
        with pytest.raises(GovernanceError, match="another roster of version 9"):
            store.require_unsigned(9, self.ONE.hash)
        assert store.load_withdrawn(9) == [self.ONE]

    def test_only_the_last_one_is_taken_up_again(self, alliance: SimulatedAlliance) -> None:
        store = alliance["jinan"].store.membership
        for signed in (self.THREE, self.ONE, self.TWO):  # not in the order of their hashes
            store.save_signed(signed)
            store.save_withdrawn(signed)
        assert store.load_withdrawn(9) == [self.THREE, self.ONE, self.TWO]
        for earlier in (self.ONE, self.THREE):
            with pytest.raises(GovernanceError, match="signed another one since"):
                store.save_signed(earlier)
        store.save_signed(self.TWO)
        assert store.load_signed(9) == self.TWO
        assert not store.is_withdrawn(9, self.TWO.hash)

    def test_versions_are_apart(self, alliance: SimulatedAlliance) -> None:
        store = alliance["jinan"].store.membership
        store.save_signed(self.ONE)
        store.save_signed(SignedVersion(10, self.TWO.hash, b"ten"))
        store.save_withdrawn(self.ONE)
        assert store.load_signed(10) is not None
        assert store.load_withdrawn(10) == []
        assert not store.is_withdrawn(10, self.ONE.hash)
        assert store.load_open_roster(11) is None

    def test_the_open_roster(self, alliance: SimulatedAlliance) -> None:
        jinan = alliance["jinan"]
        assert jinan.membership.open_roster() is None
        proposed = jinan.membership.amend(SetQuorum(2)).proposal
        roster = parse_roster(parse_proposal(proposed).roster)[1]
        assert jinan.membership.open_roster() == jinan.store.membership.load_open_roster(4) == roster
