"""Two changes of one version, each with a part of the signatures: refusals lead out, and no crash breaks the word given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labmesh.v1 import node_pb2
from node.core.amendment import AddMembers, Renew, SeatCouncil, SetQuorum
from node.core.proposal import parse_proposal
from node.core.roster import parse_roster
from node.errors import FormatError, GovernanceError, StoreError, UnconfirmedError
from node.store.membership import MembershipStore, SignedVersion
from tests.alliance import SimulatedAlliance, SimulatedMember
from tests.attacks.calling import call, caller, node_servicer, refused
from tests.builders import Lab, build_card, sign_card

LINYI = Lab("linyi")
CARD = sign_card(build_card(LINYI), LINYI)


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


def refusal(member: SimulatedMember, raw: bytes) -> GovernanceError:
    with pytest.raises(GovernanceError) as caught:
        member.membership.refuse_proposal(raw)
    return caught.value


def test_the_way_out_of_two_of_two(alliance: SimulatedAlliance) -> None:
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    first, second = jinan.membership.amend(Renew()).proposal, qingdao.membership.amend(SetQuorum(2)).proposal
    with pytest.raises(GovernanceError) as caught:
        jinan.membership.sign_proposal(second)
    assert "made at" in caught.value.message
    assert "either qingdao must sign it, or qingdao refuse it (who type: labmesh roster refuse FILE)" in caught.value.hint
    assert "qingdao must refuse it before jinan may sign" in refusal(jinan, first).message

    said = qingdao.membership.refuse_proposal(first)
    assert (said.missing, said.released) == (0, False)
    jinan.reopen()
    free = jinan.membership.refuse_proposal(said.proposal)
    assert (free.missing, free.released, free.proposal) == (0, True, said.proposal)
    assert jinan.membership.open_proposal() is None
    assert jinan.membership.sign_proposal(second).complete
    spread(alliance, "jinan")
    assert {member.membership.joined.roster.version for member in alliance.members.values()} == {4}
    assert not any(member.evidence.pieces() for member in alliance.members.values())


def test_a_home_keeps_its_word(alliance: SimulatedAlliance) -> None:
    """Whichever copy of the file it is shown, with its refusal or without."""
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    first = jinan.membership.amend(Renew()).proposal
    said = qingdao.membership.refuse_proposal(first)
    qingdao.reopen()
    for raw in (first, said.proposal):
        with pytest.raises(GovernanceError, match=r"has refused this roster|can never be in force"):
            qingdao.membership.sign_proposal(raw)
        assert qingdao.membership.refuse_proposal(raw) == said
    assert len(parse_proposal(said.proposal).refusals) == 1
    jinan.membership.refuse_proposal(said.proposal)
    for raw in (first, said.proposal):
        with pytest.raises(GovernanceError, match=r"jinan has signed this proposal already|can never be in force"):
            jinan.membership.sign_proposal(raw)
    with pytest.raises(GovernanceError, match="can never be in force"):
        jinan.store.membership.require_unsigned(4, hash_of(first))
    assert jinan.membership.refuse_proposal(said.proposal).released, "to type it again does no harm"


def hash_of(raw: bytes) -> str:
    return parse_roster(parse_proposal(raw).roster)[0].hash


def test_who_signed_never_refuses(alliance: SimulatedAlliance) -> None:
    """Also when the file that it is shown lacks its signature."""
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    wide = jinan.membership.amend(SeatCouncil(("jinan", "qingdao", "yantai"), 3)).proposal
    signed = qingdao.membership.sign_proposal(wide)
    assert (signed.have, signed.needed) == (2, 3)
    assert "qingdao has signed this roster" in refusal(qingdao, wide).message
    with pytest.raises(GovernanceError, match="cannot say that it never will"):
        qingdao.store.membership.save_refused(SignedVersion(4, hash_of(wide), wide))
    said = alliance["yantai"].membership.refuse_proposal(signed.proposal)
    assert said.missing == 0, "the new council cannot do without yantai, so the old one is not locked by having signed"
    for member in (jinan, qingdao):
        assert member.membership.refuse_proposal(said.proposal).released
        assert member.membership.review_open() is None


def test_the_refusal_leaves_only_when_it_is_remembered(alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    first = jinan.membership.amend(Renew()).proposal

    def power_cut(*_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(MembershipStore, "save_refused", power_cut)
    with pytest.raises(StoreError):
        qingdao.membership.refuse_proposal(first)
    monkeypatch.undo()
    qingdao.reopen()
    assert qingdao.membership.sign_proposal(first).complete, "nothing was said"


def test_a_release_that_was_not_remembered_binds_still(alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    first = jinan.membership.amend(Renew()).proposal
    said = qingdao.membership.refuse_proposal(first)

    def power_cut(*_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(MembershipStore, "save_released", power_cut)
    with pytest.raises(StoreError):
        jinan.membership.refuse_proposal(said.proposal)
    monkeypatch.undo()
    jinan.reopen()
    with pytest.raises(GovernanceError, match="has signed another roster of version 4 already"):
        jinan.membership.amend(SetQuorum(2))
    assert jinan.membership.refuse_proposal(said.proposal).released
    assert not jinan.membership.amend(SetQuorum(2)).complete


def test_what_cannot_be_refused(alliance: SimulatedAlliance) -> None:
    jinan, qingdao, yantai = (alliance[name] for name in ("jinan", "qingdao", "yantai"))
    first = jinan.membership.amend(AddMembers((CARD,))).proposal
    assert "sits neither on" in refusal(yantai, first).message
    with pytest.raises(FormatError):
        qingdao.membership.refuse_proposal(b"{}")
    complete = qingdao.membership.sign_proposal(first).proposal
    assert "in force already" in refusal(qingdao, complete).message
    assert "carries every signature" in refusal(jinan, complete).message


def test_a_home_that_may_be_older_than_its_word_refuses_nothing(alliance: SimulatedAlliance) -> None:
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    first = jinan.membership.amend(Renew()).proposal
    qingdao.reopen()
    request = node_pb2.RefuseRosterRequest(file=first)
    error = refused(node_servicer(qingdao).RefuseRoster(request, caller()))
    assert error.reason == UnconfirmedError.reason
    qingdao.confirm()
    answer = call(node_servicer(qingdao).RefuseRoster(request, caller()))
    assert (answer.missing, answer.released) == (0, False)
    assert parse_proposal(answer.file).refusals
    back = call(node_servicer(jinan).RefuseRoster(node_pb2.RefuseRosterRequest(file=answer.file), caller()))
    assert back.released


class TestStore:
    """What the database keeps of a home's word, version by version."""

    ONE, TWO = SignedVersion(9, "a" * 64, b"one"), SignedVersion(9, "b" * 64, b"two")

    def test_a_released_one_makes_room_and_is_never_signed_again(self, alliance: SimulatedAlliance) -> None:
        store = alliance["jinan"].store.membership
        store.save_signed(self.ONE)
        with pytest.raises(GovernanceError, match="another roster of version 9"):
            store.save_signed(self.TWO)
        store.save_released(self.ONE)
        assert store.load_signed(9) is None
        assert store.has_signed(9, self.ONE.hash)
        with pytest.raises(GovernanceError, match="can never be in force"):
            store.save_signed(self.ONE)
        store.save_signed(self.TWO)
        assert store.load_signed(9) == self.TWO
        with pytest.raises(GovernanceError, match="another roster of version 9"):
            store.require_unsigned(9, "c" * 64)

    def test_what_is_refused_is_not_signed_and_the_other_way_round(self, alliance: SimulatedAlliance) -> None:
        store = alliance["jinan"].store.membership
        store.save_refused(self.ONE)
        store.save_refused(SignedVersion(9, self.ONE.hash, b"one, with more refusals"))
        for act in (store.save_signed, lambda it: store.require_unsigned(it.version, it.hash)):
            with pytest.raises(GovernanceError, match="has refused this roster of version 9, and never signs it"):
                act(self.ONE)
        store.save_signed(self.TWO)
        with pytest.raises(GovernanceError, match="has signed this roster of version 9"):
            store.save_refused(self.TWO)
        store.save_signed(SignedVersion(10, self.ONE.hash, b"another version"))
        assert not store.has_signed(9, self.ONE.hash)
        assert store.load_open_roster(11) is None

    def test_the_open_roster(self, alliance: SimulatedAlliance) -> None:
        jinan = alliance["jinan"]
        assert jinan.membership.open_roster() is None
        proposed = jinan.membership.amend(SetQuorum(2)).proposal
        roster = parse_roster(parse_proposal(proposed).roster)[1]
        assert jinan.membership.open_roster() == jinan.store.membership.load_open_roster(4) == roster
