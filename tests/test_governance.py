"""A council of several: proposals on their way, what a home remembers of its signatures, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labmesh.v1 import peer_pb2
from node.audit import build_bundle
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
from node.core.bundle import Bundle
from node.core.card import CARD_TYPE, card_content
from node.core.checkpoint import parse_checkpoint
from node.core.entry import LogPage
from node.core.merkle import EMPTY_ROOT
from node.core.names import parse_record_id
from node.core.proof import parse_tlog_proof
from node.core.proposal import Proposal, format_proposal, parse_proposal
from node.core.roster import Head, parse_roster
from node.cutoff import find_other_histories
from node.errors import FormatError, GovernanceError, NotFoundError, StoreError
from node.lab.text import query_expression
from node.membership import ROSTER_LIFETIME, Ballot, Membership
from node.rpc.convert import message_from_wire
from node.rpc.log_stream import LogStream
from node.store.membership import MembershipStore, SignedVersion
from node.store.records import Filter
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts
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
from tests.verifiers import agreed_verdict

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


def spread(alliance: SimulatedAlliance, source: str) -> None:
    """Everyone hears what one member holds."""
    for member in alliance.members.values():
        assert member.membership.accept_update(*alliance.exported(source)).faults == ()


def prove(member: SimulatedMember, key: str) -> Bundle:
    """The bundle of one record of qingdao."""
    record_id, joined = parse_record_id(f"qingdao/result/{key}"), member.membership.joined
    return build_bundle(member.store, joined, record_id, member=member.name, ceiling=member.confirmation.ceiling)


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


class TestRemoval:
    """Beyond the head that the roster names nothing counts, whatever this node had verified."""

    def test_records_from_the_cut_on_are_neither_listed_nor_found_nor_proven(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(5))

        def keys(name: str) -> list[str]:
            return [stored.key for stored in made[name].store.records.list(Filter(author="qingdao"), limit=50).records]

        for reader in ("jinan", "yantai"):
            made.catch_up(reader, "qingdao")
            assert made[reader].store.search.advance() == 5
        head = made["jinan"].store.logs.head_of("qingdao", 3)
        made["jinan"].membership.amend(RemoveMember("qingdao", head))
        spread(made, "jinan")
        for reader in ("jinan", "yantai"):
            member = made[reader]
            assert keys(reader) == ["WJ-000000", "WJ-000001", "WJ-000002"]
            assert member.store.records.count() == 3
            member.store.search.advance()
            hits = member.store.records.search(query_expression("0.10"), Filter(), limit=50).records
            assert sorted(hit.index for hit in hits) == [0, 1, 2]
            for key in ("WJ-000003", "WJ-000004@1"):
                assert member.store.records.find(parse_record_id(f"qingdao/result/{key}")) is None
                with pytest.raises(NotFoundError):
                    prove(member, key)
            fingerprint = member.membership.joined.fingerprint
            assert agreed_verdict(prove(member, "WJ-000002"), fingerprint=fingerprint, kinds=member.kinds).verified
            assert list(find_other_histories(made[reader].store, made[reader].membership.joined)) == []
        made["yantai"].reopen()
        assert keys("yantai") == ["WJ-000000", "WJ-000001", "WJ-000002"]

    def test_the_removed_member_s_own_records_stay_and_its_pushes_are_taken(self, tmp_path: Path) -> None:
        """What its laboratories measured is theirs, whatever the alliance decides; but nobody accepts a proof of it."""
        made = SimulatedAlliance(tmp_path, 3)
        qingdao = made["qingdao"]
        qingdao.push(*drafts(3))
        made["jinan"].membership.amend(RemoveMember("qingdao", Head(2, qingdao.store.logs.tree(1).root(2))))
        spread(made, "jinan")
        assert qingdao.push(*drafts(1, "LATER")).accepted == 1
        qingdao.reopen()
        qingdao.confirm()
        listed = qingdao.store.records.list(Filter(author="qingdao"), limit=50).records
        assert [stored.key for stored in listed] == ["WJ-000000", "WJ-000001", "WJ-000002", "LATER-000000"]
        fingerprint = qingdao.membership.joined.fingerprint
        assert agreed_verdict(prove(qingdao, "WJ-000001"), fingerprint=fingerprint, kinds=qingdao.kinds).verified
        for key in ("WJ-000002", "LATER-000000"):
            with pytest.raises(NotFoundError, match="ends the log of qingdao at size 2"):
                prove(qingdao, key)

    def test_nothing_beyond_the_cut_is_told_served_or_cosigned(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        jinan, yantai, origin = made["jinan"], made["yantai"], made["qingdao"].lab.origin
        for prefix in "AB":
            made["qingdao"].push(*drafts(2, prefix))
            for reader in ("jinan", "yantai"):
                made.catch_up(reader, "qingdao")
        beyond = jinan.exchange.held_notes()
        jinan.membership.amend(RemoveMember("qingdao", jinan.store.logs.head_of("qingdao", 3)))
        spread(made, "jinan")

        def told(member: SimulatedMember) -> list[int]:
            notes = map(parse_checkpoint, member.exchange.held_notes())
            return [signed.size for signed in notes if signed.origin == origin]

        assert told(jinan) == told(yantai) == [2], "the largest checkpoint that does not go beyond"
        assert yantai.exchange.tellable_size(yantai.mirror_of("qingdao")) == 3
        assert not yantai.exchange.cosign_head(origin)
        assert yantai.exchange.accept_notes(beyond, peer="jinan") == (0, []) and yantai.evidence.pieces() == ()
        request = peer_pb2.ReadLogRequest(origin=origin, follow=True, entries_max=1000)
        stream = LogStream(jinan.store, request, reader="yantai", ceiling=jinan.exchange.tellable_size)
        messages = [message_from_wire(message) for message in (*stream.advance(), *stream.advance())]
        assert [parse_checkpoint(item).size for item in messages if isinstance(item, bytes)] == [2]
        assert [len(item.openings) for item in messages if isinstance(item, LogPage)] == [2]
        # A bundle rests on a checkpoint that counts, where one is held.
        newest = parse_tlog_proof(prove(jinan, "A-000001").proof.decode())
        assert parse_checkpoint(newest.checkpoint.encode()).size == 2
        # None ends between this entry and the cut: the next one proves it, and says nothing of what lies beyond.
        assert agreed_verdict(
            prove(jinan, "B-000000"), fingerprint=jinan.membership.joined.fingerprint, kinds=jinan.kinds
        ).verified

    def test_an_open_stream_goes_no_further(self, tmp_path: Path) -> None:
        """It had announced more when the cut came: the rest of those entries is not sent, nor what is opened late."""
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(1200))
        jinan, origin = made["jinan"], made["qingdao"].lab.origin
        made.catch_up("jinan", "qingdao")
        request = peer_pb2.ReadLogRequest(origin=origin, follow=True, entries_max=10_000)
        stream = LogStream(jinan.store, request, reader="yantai", ceiling=jinan.exchange.tellable_size)
        assert len(stream.advance()) == 2
        jinan.membership.amend(RemoveMember("qingdao", jinan.store.logs.head_of("qingdao", 1100)))
        assert stream.advance() == [] == stream.advance()

    def test_another_history_than_the_one_that_ends_is_neither_told_nor_proven(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(4))
        yantai = made["yantai"]
        made.catch_up("yantai", "qingdao")
        made["jinan"].membership.amend(RemoveMember("qingdao", Head(3, bytes(32))))
        spread(made, "jinan")
        assert yantai.exchange.tellable_size(yantai.mirror_of("qingdao")) == 0
        assert all(parse_checkpoint(note).origin != made["qingdao"].lab.origin for note in yantai.exchange.held_notes())
        with pytest.raises(NotFoundError, match="another history of the log of qingdao"):
            prove(yantai, "WJ-000000")

    def test_without_a_head_everyone_keeps_what_it_had_verified(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(2))
        made.catch_up("yantai", "qingdao")
        made["jinan"].membership.amend(RemoveMember("qingdao", None))
        spread(made, "jinan")
        assert made["yantai"].store.records.count() == 2

    def test_a_remover_that_verified_nothing_lets_nothing_count(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(2))
        made.catch_up("yantai", "qingdao")
        head = made["jinan"].store.logs.head_of("qingdao")
        made["jinan"].membership.amend(RemoveMember("qingdao", head))
        spread(made, "jinan")
        joined = made["yantai"].membership.joined
        assert joined.roster.members["qingdao"].cut == Head(0, EMPTY_ROOT)
        assert made["yantai"].store.records.count() == 0
        with pytest.raises(NotFoundError):
            prove(made["yantai"], "WJ-000000")
        assert list(find_other_histories(made["yantai"].store, joined)) == []

    def test_a_node_with_another_history_raises_an_alarm(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(4))
        made.catch_up("yantai", "qingdao")
        made["jinan"].membership.amend(RemoveMember("qingdao", Head(3, bytes(32))))
        spread(made, "jinan")
        (sentence,) = find_other_histories(made["yantai"].store, made["yantai"].membership.joined)
        assert "qingdao" in sentence and "size 3" in sentence and "two histories" in sentence
        assert list(find_other_histories(made["jinan"].store, made["jinan"].membership.joined)) == []

    def test_a_smaller_head_must_be_verified_here(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 2)
        made["qingdao"].push(*drafts(2))
        logs = made["jinan"].store.logs
        assert logs.head_of("qingdao") == Head(0, EMPTY_ROOT)
        with pytest.raises(NotFoundError, match="0 entries of qingdao are verified here, not 1"):
            logs.head_of("qingdao", 1)
        made.catch_up("jinan", "qingdao")
        assert logs.head_of("qingdao", 2) == logs.head_of("qingdao")
        assert logs.head_of("qingdao", 0) == Head(0, made["qingdao"].store.logs.tree(1).root(0))
        with pytest.raises(NotFoundError):
            logs.head_of("qingdao", 3)


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
