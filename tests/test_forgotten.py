"""A home that has forgotten a card of its own: whatever its people typed meanwhile, what peers hold brings it back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from node.core.alliance import format_card
from node.core.amendment import ReplaceIdentity, SeatCouncil
from node.core.card import CARD_TYPE, Card, card_content
from node.core.dsse import build_envelope, format_envelope
from node.core.succession import LEAP_MIN, continues
from node.errors import GovernanceError, SignatureError
from node.identity import propose_identity
from node.lost_keys import describe_lost_role
from tests.alliance import drafts
from tests.rotating import Rotating, RotatingAlliance

PEERS = ("qingdao", "yantai")


@pytest.fixture
def jinan(trio: RotatingAlliance) -> Rotating:
    node = trio["jinan"]
    node.member.push(*drafts(2, "A"))
    node.member.confirmation._overridden = False
    for peer in PEERS:
        node.member.confirmation.accept_told(peer, b"")
    return node


def forget(trio: RotatingAlliance, folder: Path, *changed: str) -> Card:
    """Peers take cards with new keys, and the home goes back to before them, with its present key files."""
    jinan = trio["jinan"]
    backup = jinan.member.snapshot(folder / "backup")
    for role in changed:
        jinan.rotation.rotate(role)
        assert trio.tell_card("jinan", *PEERS) == []
        for peer in PEERS:
            jinan.spread.note(peer, own_card(jinan).seq)
        jinan.rotation.advance_tls()
    assert trio.tell_card("jinan", *PEERS) == []
    card = own_card(jinan)
    go_back(jinan, backup)
    return card


def go_back(jinan: Rotating, backup: Path) -> None:
    """An old database with the present keys; a person types `labmesh confirm`."""
    jinan.member.roll_back(backup)
    jinan.member.confirm()
    jinan.lose()


def own_card(node: Rotating) -> Card:
    return node.member.membership.own_card[1]


def join_export(trio: RotatingAlliance, peer: str = "qingdao") -> None:
    """`labmesh roster export` at a peer, `labmesh join` at the home."""
    trio["jinan"].member.membership.import_alliance(*trio.simulated.exported(peer), fingerprint=None)


def former_keys(card: Card) -> tuple[object, ...]:
    return card.log_key, card.former_log_keys, card.witness_key, card.former_witness_keys


def require_back(trio: RotatingAlliance, *roles: str) -> None:
    """Every peer takes the newest card, and there is no key left that cannot be replaced."""
    assert trio.tell_card("jinan", *PEERS) == []
    jinan = trio["jinan"]
    for peer in PEERS:
        jinan.member.confirmation.accept_told(peer, b"")
    for role in jinan.rotation.lost_roles():
        jinan.rotation.rotate(role)
    jinan.rotation.rotate("witness")
    assert trio.tell_card("jinan", *PEERS) == []
    assert {trio[peer].member.membership.joined.card("jinan") for peer in PEERS} == {own_card(jinan)}
    assert not any(trio[peer].member.evidence.pieces() for peer in PEERS)
    jinan.member.reopen()
    assert own_card(jinan) == jinan.member.membership.joined.card("jinan")


def test_the_alarm_says_first_to_take_what_a_peer_holds() -> None:
    said = describe_lost_role("tls")
    steps = [said.index(step) for step in ("roster export -o FILE", "join FILE", "keys rotate tls --without-peers")]
    assert steps == sorted(steps)


class TestJoining:
    @pytest.mark.parametrize("times", [1, 2])
    def test_a_new_certificate_first_and_a_peers_export_afterwards(
        self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path, times: int
    ) -> None:
        told = forget(trio, tmp_path, "witness", "log", "tls")
        for _ in range(times):
            jinan.lose("tls")
            jinan.rotation.rotate("tls", without_peers=True)
        assert any("former" in fault for fault in trio.tell_card("jinan", *PEERS))
        leapt = own_card(jinan)
        join_export(trio)
        taken = own_card(jinan)
        assert former_keys(taken) == former_keys(told) and taken.seq >= leapt.seq + LEAP_MIN
        assert (taken.tls_certificates, taken.endpoints) == (leapt.tls_certificates, leapt.endpoints)
        join_export(trio)
        assert own_card(jinan) == taken, "once is enough"
        require_back(trio)

    def test_a_peers_export_first(self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path) -> None:
        told = forget(trio, tmp_path, "witness", "tls")
        join_export(trio)
        assert own_card(jinan) == told
        require_back(trio)

    def test_after_a_person_confirmed_and_changed_settings(
        self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path
    ) -> None:
        forget(trio, tmp_path, "witness")
        jinan.member.membership.reissue_card(name="Moved", region="CN-37", endpoints=("198.51.100.9:7000",), leap=True)
        assert trio.tell_card("jinan", "qingdao") != []
        join_export(trio)
        assert own_card(jinan).name == "Moved"
        require_back(trio)

    @pytest.mark.parametrize("role", ["witness", "log"])
    def test_keys_that_ended_in_two_ways(self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path, role: str) -> None:
        """After `labmesh confirm` the forgotten key was rotated once more: a person's file decides for what peers hold."""
        told = forget(trio, tmp_path, role)
        jinan.member.clock.turn(60)
        parted = jinan.rotation.rotate(role, without_peers=role == "log")
        assert not continues(parted, told) and not continues(told, parted) and trio.tell_card("jinan", *PEERS) != []
        update = jinan.member.membership.accept_update(*trio.simulated.exported("qingdao"))
        assert own_card(jinan) == parted and not update.changed, "no peer decides that"
        join_export(trio)
        assert former_keys(own_card(jinan)) == former_keys(told) and jinan.rotation.lost_roles() == [role]
        require_back(trio)
        jinan.require_sound()

    def test_of_two_lives_the_one_with_the_greater_seq(
        self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path
    ) -> None:
        """One backup, restored twice: what the first life signed is what peers hold, and its `seq` may be greater."""
        backup = jinan.member.snapshot(tmp_path / "twice")
        go_back(jinan, backup)
        told = jinan.rotation.rotate("witness")
        assert trio.tell_card("jinan", *PEERS) == []
        go_back(jinan, backup)
        for peer in PEERS:
            jinan.member.confirmation.accept_told(peer, b"")
        jinan.member.clock.turn(60)
        assert jinan.rotation.rotate("witness").seq < told.seq and not continues(told, own_card(jinan))
        join_export(trio)
        assert own_card(jinan).seq >= told.seq + LEAP_MIN
        require_back(trio)

    def test_not_where_the_log_here_is_another_one(self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path) -> None:
        backup, old = jinan.member.snapshot(tmp_path / "backup"), jinan.files.path("log").read_bytes()
        jinan.member.push(*drafts(2, "B"))
        jinan.rotation.rotate("log")
        assert trio.tell_card("jinan", *PEERS) == []
        jinan.files.path("log").write_bytes(old)
        go_back(jinan, backup)
        jinan.member.push(*drafts(3, "C"))
        jinan.member.membership.issue_card(lambda card: replace(card, name="Moved"), leap=True)
        held = own_card(jinan)
        with pytest.raises(GovernanceError, match="another root") as refused:
            join_export(trio)
        assert "roster settle" in refused.value.hint and own_card(jinan) == held


class TestHearing:
    def test_a_peer_tells_what_continues_the_card_here(
        self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path
    ) -> None:
        """After `labmesh confirm`: nobody has to notice, for the next contact asks for the own card, too."""
        told = forget(trio, tmp_path, "witness", "log")
        jinan.member.membership.issue_card(lambda card: replace(card, name="Moved"), leap=True)
        trio.simulated.follow("jinan", "qingdao", lambda _: own_card(jinan).former_log_keys)
        assert former_keys(own_card(jinan)) == former_keys(told) and own_card(jinan).name == "Moved"
        require_back(trio)

    def test_older_cards_change_nothing(self, trio: RotatingAlliance, jinan: Rotating) -> None:
        older = [jinan.member.card]
        for role in ("witness", "log", "witness"):
            jinan.rotation.rotate(role)
            older.append(jinan.member.card)
        held = jinan.member.membership.own_card
        for raw in older:
            assert not jinan.member.membership.accept_update([], [raw]).changed
            jinan.member.membership.import_alliance([], [raw], fingerprint=None)
        assert jinan.member.membership.own_card == held

    def test_nobody_else_speaks_for_this_home(self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path) -> None:
        told = forget(trio, tmp_path, "witness")
        jinan.member.membership.issue_card(lambda card: replace(card, name="Moved"), leap=True)
        held = jinan.member.membership.own_card
        forged = format_envelope(build_envelope(card_content(told), CARD_TYPE, trio["qingdao"].member.lab.sign))
        update = jinan.member.membership.accept_update([], [forged])
        assert update.faults and not update.changed
        with pytest.raises(SignatureError):
            jinan.member.membership.import_alliance([], [forged], fingerprint=None)
        jinan.member.membership.import_alliance([], [trio["qingdao"].member.card], fingerprint=None)
        assert jinan.member.membership.own_card == held and format_card(held) == jinan.member.card


class TestForkedCards:
    """A quorum that had missed a card confirms a home that has forgotten it: it uses the `seq` again."""

    @staticmethod
    def fork(trio: RotatingAlliance, folder: Path, ours: str, theirs: str, *, more: bool) -> Card:
        """Qingdao holds one card, yantai another of the same `seq`; with `more`, the home has signed the next one, too."""
        jinan = trio["jinan"]
        backup = jinan.member.snapshot(folder / "fork")
        change(jinan, theirs, "Theirs")
        told = own_card(jinan)
        assert trio.tell_card("jinan", "qingdao") == []
        go_back(jinan, backup)
        all_told(jinan)
        jinan.member.clock.turn(60)
        change(jinan, ours, "Ours")
        assert own_card(jinan).seq == told.seq and own_card(jinan) != told
        if more:
            change(jinan, "", "More")
        assert trio.tell_card("jinan", "yantai") == []
        assert trio.tell_card("jinan", "qingdao") != [], "it refuses the other side's"
        return told

    @pytest.mark.parametrize("more", [False, True])
    @pytest.mark.parametrize(("ours", "theirs"), [("", ""), ("", "witness"), ("witness", ""), ("", "log"), ("log", "")])
    def test_one_contact_ends_it_on_both_sides(
        self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path, ours: str, theirs: str, more: bool
    ) -> None:
        told = self.fork(trio, tmp_path, ours, theirs, more=more)
        held = own_card(jinan)
        trio.simulated.follow("jinan", "qingdao", lambda _: own_card(jinan).seq >= told.seq + LEAP_MIN)
        assert former_keys(own_card(jinan)) == former_keys(told if theirs else held)
        assert own_card(jinan).name == held.name and jinan.member.alarms == []
        assert trio.tell_card("jinan", *PEERS) == []
        assert {trio[peer].member.membership.joined.card("jinan") for peer in PEERS} == {own_card(jinan)}
        settled = own_card(jinan)
        for card in (told, held):  # who is behind tells it again
            raw = format_envelope(build_envelope(card_content(card), CARD_TYPE, jinan.member.lab.sign))
            assert not jinan.member.membership.accept_update([], [raw]).changed
        assert own_card(jinan) == settled
        all_told(jinan)
        for role in jinan.rotation.lost_roles() or ["witness"]:
            jinan.rotation.rotate(role)
        assert trio.tell_card("jinan", *PEERS) == [], "and so are those that follow"
        jinan.require_sound()

    @pytest.mark.parametrize("more", [False, True])
    def test_a_person_may_bring_it(self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path, more: bool) -> None:
        told = self.fork(trio, tmp_path, "", "witness", more=more)
        join_export(trio)
        assert former_keys(own_card(jinan)) == former_keys(told)
        assert trio.tell_card("jinan", *PEERS) == []

    @pytest.mark.parametrize("more", [False, True])
    @pytest.mark.parametrize("role", ["witness", "log"])
    def test_where_both_end_one_key_no_card_can_follow_both(
        self, trio: RotatingAlliance, jinan: Rotating, tmp_path: Path, role: str, more: bool
    ) -> None:
        """The lists of former keys only grow: a person chooses, and who holds the other one says so."""
        told = self.fork(trio, tmp_path, role, role, more=more)
        held = own_card(jinan)
        update = jinan.member.membership.accept_update(*trio.simulated.exported("qingdao"))
        assert not update.changed and own_card(jinan) == held
        assert (len(update.faults), len(update.conflicts)) == ((1, 0) if more else (0, 1))
        assert all("labmesh join FILE" in fault and "labmesh keys identity" in fault for fault in update.faults)
        join_export(trio)
        assert former_keys(own_card(jinan)) == former_keys(told)
        assert trio.tell_card("jinan", "qingdao") == [] and trio.tell_card("jinan", "yantai") != []
        self.rekey(trio)

    @staticmethod
    def rekey(trio: RotatingAlliance) -> None:
        """A new identity key ends it, at whoever holds which card."""
        jinan, (first, second) = trio["jinan"], (trio[peer].member.membership for peer in PEERS)
        raw = propose_identity(jinan.files, jinan.member.membership.own_card)
        first.sign_proposal(jinan.member.membership.amend(SeatCouncil(("jinan", *PEERS), 2)).proposal)
        second.accept_update(trio.simulated.exported("qingdao")[0], [])
        second.sign_proposal(first.amend(ReplaceIdentity("jinan", raw)).proposal)
        assert first.accept_update(*trio.simulated.exported("yantai")).faults == ()
        assert [format_card(council.joined.cards["jinan"]) for council in (first, second)] == [raw, raw]


def all_told(jinan: Rotating) -> None:
    jinan.member.confirmation._overridden = False
    for peer in PEERS:
        jinan.member.confirmation.accept_told(peer, b"")


def change(jinan: Rotating, role: str, name: str) -> None:
    """Another card: with another key, or another name."""
    if role:
        jinan.rotation.rotate(role)
    else:
        jinan.member.membership.issue_card(lambda card: replace(card, name=name))
