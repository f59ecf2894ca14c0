"""A council of several: proposals on their way, what a home remembers of its signatures, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.core.alliance import format_roster
from node.core.amendment import (
    AddMembers,
    Amendment,
    RemoveMember,
    Renew,
    ReplaceIdentity,
    SeatCouncil,
    SetQuorum,
    SetThreshold,
)
from node.core.card import CARD_TYPE, card_content
from node.core.proposal import Proposal, format_proposal, parse_proposal
from node.core.roster import parse_roster
from node.errors import FormatError, GovernanceError, StoreError
from node.membership import ROSTER_LIFETIME, Ballot, Membership
from node.store.membership import MembershipStore, SignedVersion
from tests.alliance import SimulatedAlliance, SimulatedMember, spread
from tests.builders import (
    Lab,
    build_card,
    build_labs,
    build_roster,
    public_key,
    sign_card,
    sign_content,
    sign_roster,
    sign_with,
)

LINYI = Lab("linyi")
CARD = sign_card(build_card(LINYI), LINYI)


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Jinan, qingdao, yantai and weifang; the first three are the council, and two must sign."""
    made = SimulatedAlliance(tmp_path, 4)
    seated = made["jinan"].membership.amend(SeatCouncil(("jinan", "qingdao", "yantai"), 2))
    ballot = made["qingdao"].membership.sign_proposal(seated.proposal)
    assert ballot.complete
    spread(made, "qingdao")
    yield made
    for member in made.members.values():
        member.store.close()


def versions(alliance: SimulatedAlliance) -> dict[str, int]:
    return {name: member.membership.joined.roster.version for name, member in alliance.members.items()}


def refused(member: SimulatedMember, act: Any, *args: Any) -> GovernanceError:
    """A refused signature changes nothing, in the process or in the store, and remembers nothing."""
    before, signed = member.membership.joined, member.store.membership.load_signed(4)
    with pytest.raises(GovernanceError) as caught:
        act(*args)
    assert member.membership.joined == before == member.store.membership.load_alliance()
    assert member.store.membership.load_signed(4) == signed
    return caught.value


class TestOneSignature:
    def test_it_is_in_force_at_once_and_remembered_in_the_same_transaction(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 2)
        jinan = made["jinan"]
        ballot = jinan.membership.amend(AddMembers((CARD,)))
        assert (ballot.complete, ballot.have, ballot.needed) == (True, 1, 1)
        assert ballot.alliance == jinan.membership.joined == jinan.store.membership.load_alliance()
        for version in (1, 2, 3):
            signed = jinan.store.membership.load_signed(version)
            assert signed is not None
            assert signed.hash == ballot.alliance.rosters[version - 1][0].hash
        assert jinan.membership.open_proposal() is None

    @pytest.mark.parametrize(
        "amendment",
        [Renew(), SetQuorum(2), SeatCouncil(("qingdao", "jinan"), 2), RemoveMember("qingdao"), AddMembers((CARD,))],
        ids=lambda amendment: type(amendment).__name__,
    )
    def test_each_change_is_taken_by_everyone(self, tmp_path: Path, amendment: Amendment) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made.clock.turn(3600)
        ballot = made["jinan"].membership.amend(amendment)
        if not ballot.complete:
            ballot = made["qingdao"].membership.sign_proposal(ballot.proposal)
            spread(made, "qingdao")
        roster = ballot.alliance.roster
        assert (roster.version, roster.expires - roster.issued) == (3, ROSTER_LIFETIME)
        spread(made, "jinan")
        assert set(versions(made).values()) == {3}
        assert {member.membership.joined.fingerprint for member in made.members.values()} == {ballot.alliance.fingerprint}

    def test_who_has_no_seat(self, alliance: SimulatedAlliance) -> None:
        weifang = alliance["weifang"]
        error = refused(weifang, weifang.membership.amend, Renew())
        assert "does not sit on the council" in error.message
        assert "jinan, qingdao, yantai" in error.hint


class TestProposing:
    def test_nothing_is_in_force_until_the_threshold_is_met(self, alliance: SimulatedAlliance) -> None:
        jinan, yantai = alliance["jinan"], alliance["yantai"]
        told: list[int] = []
        jinan.membership.subscribe(lambda: told.append(1))
        ballot = jinan.membership.amend(AddMembers((CARD,)))
        assert (ballot.complete, ballot.have, ballot.needed, told) == (False, 1, 2, [])
        assert set(versions(alliance).values()) == {3}
        assert jinan.membership.open_proposal() == ballot
        done = yantai.membership.sign_proposal(ballot.proposal)
        assert (done.complete, done.have, done.needed) == (True, 2, 2)
        assert done.alliance.roster.version == 4
        assert done.alliance.card("linyi") == build_card(LINYI)
        spread(alliance, "yantai")
        assert set(versions(alliance).values()) == {4}
        assert jinan.membership.open_proposal() is None

    def test_it_survives_the_end_of_the_process(self, alliance: SimulatedAlliance) -> None:
        jinan = alliance["jinan"]
        ballot = jinan.membership.amend(Renew())
        jinan.reopen()
        assert jinan.membership.open_proposal() == ballot

    def test_nobody_signs_two_rosters_of_one_version(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        first = jinan.membership.amend(Renew())
        alliance.clock.turn(1)
        for change in (Renew(), SetQuorum(3), AddMembers((CARD,))):
            error = refused(jinan, jinan.membership.amend, change)
            assert "has signed another roster of version 4 already" in error.message
            assert "labmesh roster proposal" in error.hint
        other = qingdao.membership.amend(SetQuorum(3))
        assert "another roster of version 4" in refused(jinan, jinan.membership.sign_proposal, other.proposal).message
        assert "another roster of version 4" in refused(qingdao, qingdao.membership.sign_proposal, first.proposal).message
        jinan.reopen()
        assert "another roster of version 4" in refused(jinan, jinan.membership.sign_proposal, other.proposal).message
        alliance["yantai"].membership.sign_proposal(other.proposal)
        spread(alliance, "yantai")
        assert versions(alliance)["jinan"] == 4
        assert not jinan.membership.amend(Renew()).complete, "the next version is a new chance"

    def test_signing_the_same_again_is_fine(self, alliance: SimulatedAlliance) -> None:
        """A crash between remembering and writing the file leaves the file without the signature."""
        three = alliance["jinan"].membership.amend(SetThreshold(3)).proposal
        once = alliance["qingdao"].membership.sign_proposal(three)
        again = alliance["qingdao"].membership.sign_proposal(three)
        assert once == again
        assert (once.have, once.needed) == (2, 3)

    def test_already_signed(self, alliance: SimulatedAlliance) -> None:
        jinan = alliance["jinan"]
        ballot = jinan.membership.amend(Renew())
        assert (
            "jinan has signed this proposal already"
            in refused(jinan, jinan.membership.sign_proposal, ballot.proposal).message
        )

    def test_a_member_outside_both_councils(self, alliance: SimulatedAlliance) -> None:
        ballot = alliance["jinan"].membership.amend(Renew())
        weifang = alliance["weifang"]
        assert "sits neither on" in refused(weifang, weifang.membership.sign_proposal, ballot.proposal).message

    def test_a_new_council_member_counts_for_the_new_council(self, alliance: SimulatedAlliance) -> None:
        ballot = alliance["jinan"].membership.amend(SeatCouncil(("weifang", "yantai"), 2))
        assert (ballot.have, ballot.needed) == (1, 3)
        second = alliance["weifang"].membership.sign_proposal(ballot.proposal)
        assert (second.have, second.needed, second.complete) == (2, 3, False)
        assert alliance["yantai"].membership.sign_proposal(second.proposal).complete

    def test_a_complete_proposal_is_imported_like_any_roster(self, alliance: SimulatedAlliance) -> None:
        ballot = alliance["jinan"].membership.amend(AddMembers((CARD,)))
        complete = parse_proposal(alliance["qingdao"].membership.sign_proposal(ballot.proposal).proposal)
        weifang = alliance["weifang"].membership
        weifang.import_alliance([complete.roster], complete.cards, fingerprint=None)
        assert (weifang.joined.roster.version, weifang.joined.card("linyi").member) == (4, "linyi")
        with pytest.raises(GovernanceError, match="1 of the 2 signatures") as caught:
            incomplete = parse_proposal(ballot.proposal)
            alliance["yantai"].membership.import_alliance([incomplete.roster], [], fingerprint=None)
        assert "labmesh roster sign FILE" in caught.value.hint

    def test_rubbish(self, alliance: SimulatedAlliance) -> None:
        with pytest.raises(FormatError):
            alliance["jinan"].membership.sign_proposal(b"{}")

    def test_what_thresholds_could_carry_but_nobody_honest_signs(self, alliance: SimulatedAlliance) -> None:
        """Jinan seats a key that is no member's."""
        held = alliance["jinan"].membership.joined
        council = (*held.roster.council[:2], public_key("puppet"))
        roster = replace(held.roster, version=4, previous=held.fingerprint, council=council)
        raw = format_proposal(Proposal(sign_roster(roster, alliance["jinan"].lab)))
        qingdao = alliance["qingdao"]
        assert "no active member's identity key" in refused(qingdao, qingdao.membership.sign_proposal, raw).message


class TestCrashes:
    """The signature leaves only after it was remembered: at whatever write the process ends."""

    def test_before_the_claim_is_durable_no_signature_leaves(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        jinan = alliance["jinan"]

        def power_cut(*_: object, **__: object) -> None:
            raise StoreError("the disk is gone")

        monkeypatch.setattr(MembershipStore, "save_signed", power_cut)
        with pytest.raises(StoreError):
            jinan.membership.amend(Renew())
        monkeypatch.undo()
        jinan.reopen()
        assert jinan.store.membership.load_signed(4) is None
        assert not jinan.membership.amend(SetQuorum(3)).complete

    def test_claim_and_publication_are_one_transaction(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Were they two, a crash between them would bind the home to a roster that nobody has."""
        ballot = alliance["jinan"].membership.amend(Renew())
        qingdao = alliance["qingdao"]

        def power_cut(*_: object) -> None:
            raise StoreError("the disk is gone")

        monkeypatch.setattr("node.store.membership._save_cuts", power_cut)
        with pytest.raises(StoreError):
            qingdao.membership.sign_proposal(ballot.proposal)
        monkeypatch.undo()
        qingdao.reopen()
        assert qingdao.membership.joined.roster.version == 3
        assert qingdao.store.membership.load_signed(4) is None
        assert qingdao.membership.sign_proposal(ballot.proposal).complete

    def test_the_store_refuses_the_second_hash(self, alliance: SimulatedAlliance) -> None:
        store = alliance["jinan"].store.membership
        store.save_signed(SignedVersion(9, "a" * 64, b"one"))
        store.save_signed(SignedVersion(9, "a" * 64, b"one, with more signatures"))
        with pytest.raises(GovernanceError):
            store.save_signed(SignedVersion(9, "b" * 64, b"two"))
        with pytest.raises(GovernanceError):
            store.require_unsigned(9, "b" * 64)
        store.require_unsigned(9, "a" * 64)
        store.require_unsigned(10, "b" * 64)
        assert store.load_signed(9) == SignedVersion(9, "a" * 64, b"one, with more signatures")
        assert store.load_signed(10) is None


class TestIdentity:
    def test_a_stolen_key_counts_no_longer(self, alliance: SimulatedAlliance) -> None:
        new = public_key("yantai begins again")
        card = build_card(alliance["yantai"].lab, identity_key=new, name="Yantai, again")
        raw = sign_content(card_content(card), CARD_TYPE, sign_with("yantai begins again"))
        ballot = alliance["jinan"].membership.amend(ReplaceIdentity("yantai", raw))
        thief = alliance["yantai"].membership
        done = alliance["qingdao"].membership.sign_proposal(ballot.proposal)
        assert done.complete
        assert done.alliance.roster.council[2] == new
        assert done.alliance.card("yantai").name == "Yantai, again"
        spread(alliance, "qingdao")
        with pytest.raises(GovernanceError, match="does not sit on the council"):
            thief.amend(Renew())
        stale = sign_card(build_card(alliance["yantai"].lab, name="Thief"), alliance["yantai"].lab)
        assert not alliance["jinan"].membership.accept_update([], [stale]).changed
        assert alliance["jinan"].membership.joined.card("yantai").name == "Yantai, again"
        alliance["jinan"].reopen()
        assert alliance["jinan"].membership.joined.card("yantai").name == "Yantai, again"


class TestExpiry:
    def test_a_backdated_newcomer_is_not_signed_after_the_expiry(self, alliance: SimulatedAlliance) -> None:
        """The time in a roster is its maker's word; what counts is when it is signed."""
        proposed = alliance["jinan"].membership.amend(AddMembers((CARD,))).proposal
        alliance.clock.turn(ROSTER_LIFETIME.total_seconds())
        error = refused(alliance["qingdao"], alliance["qingdao"].membership.sign_proposal, proposed)
        assert "admits nobody new: not linyi" in error.message and "labmesh roster renew" in error.hint

    def test_an_expired_roster_admits_nobody_and_can_be_renewed(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 2)
        jinan = made["jinan"].membership
        jinan.add_members([CARD])
        newcomer = SimulatedMember(LINYI, tmp_path / "linyi", clock=made.clock)
        made.clock.turn(ROSTER_LIFETIME.total_seconds())
        with pytest.raises(GovernanceError, match="expired on 2028-11-19, and admits nobody new") as caught:
            newcomer.membership.import_alliance(*made.exported("jinan"), fingerprint=None)
        assert "labmesh roster renew" in caught.value.hint
        assert newcomer.membership.alliance is None
        assert newcomer.store.membership.load_alliance() is None
        assert made["qingdao"].membership.accept_update(*made.exported("jinan")).changed, "known members go on"
        assert jinan.amend(Renew()).complete
        newcomer.membership.import_alliance(*made.exported("jinan"), fingerprint=None)
        assert newcomer.membership.joined.roster.version == 4
        newcomer.store.close()


def test_a_fork_is_told_as_pairs(alliance: SimulatedAlliance) -> None:
    """Two council members who sign twice: whoever hears of both has the pairs, and keeps what it held first."""
    jinan, qingdao = alliance["jinan"].lab, alliance["qingdao"].lab
    held = alliance["weifang"].membership.joined
    one, other = (
        sign_roster(replace(held.roster, version=4, previous=held.fingerprint, title=title), jinan, qingdao)
        for title in ("One", "Another")
    )
    weifang = alliance["weifang"].membership
    assert weifang.accept_update([one], []).changed
    update = weifang.accept_update([*map(format_roster, held.rosters), other], [])
    assert (update.changed, update.conflicts) == (False, ((one, other),))
    assert weifang.joined.roster.title == "One"


def test_the_founding_roster_is_signed_once(tmp_path: Path) -> None:
    (lab,) = build_labs(1)
    member = SimulatedMember(lab, tmp_path / "home")
    member.membership.found("Once")
    signed = member.store.membership.load_signed(1)
    assert signed is not None
    assert parse_roster(parse_proposal(signed.proposal).roster)[1].title == "Once"
    with pytest.raises(GovernanceError):
        raw = sign_roster(build_roster([lab], title="Twice"), lab)
        member.store.membership.require_unsigned(1, parse_roster(raw)[0].hash)
    member.store.close()


def test_a_ballot_is_complete_when_nothing_is_missing(alliance: SimulatedAlliance) -> None:
    held = alliance["jinan"].membership.joined
    assert [Ballot(held, b"", have, 2).complete for have in (0, 1, 2, 3)] == [False, False, True, True]
    assert isinstance(alliance["jinan"].membership, Membership)
