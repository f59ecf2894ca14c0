"""A home that lacks keys of its card: what it leaves undone, and how another key takes a lost one's place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.core.amendment import RemoveMember
from node.core.card import parse_card
from node.core.checkpoint import Checkpoint
from node.core.keys import Signer
from node.core.succession import LEAP_MIN, vouched_size
from node.core.witness import accept_cosignatures
from node.errors import GovernanceError, UnconfirmedError, UserError
from node.keyfiles import is_certificate_of
from node.lost_keys import describe_lost_role, find_lost_roles
from node.membership import IdentityKey
from node.rotation import ROLES
from node.rpc.tls import presented_certificate
from tests.alliance import SimulatedMember, drafts
from tests.builders import build_labs
from tests.rotating import NAMES, Rotating, RotatingAlliance, push


def all_told(node: Rotating) -> None:
    """Every peer has told what it holds of the log."""
    for peer in ("qingdao", "yantai"):
        node.member.confirmation.accept_told(peer, b"")


def unconfirmed(node: Rotating) -> None:
    """As after a start: no peer has told anything."""
    node.member.confirmation._overridden = False
    assert not node.member.confirmation.confirmed


def card_of(trio: RotatingAlliance, reader: str) -> int:
    return trio[reader].member.membership.joined.card("jinan").seq


class TestFinding:
    @pytest.mark.parametrize("lost", [(), ("log",), ("witness",), ("tls",), ("log", "tls"), ROLES])
    def test_each_role_is_looked_at(self, jinan: Rotating, lost: tuple[str, ...]) -> None:
        assert jinan.rotation.lost_roles() == []
        jinan.lose(*lost)
        assert jinan.rotation.lost_roles() == list(lost)

    def test_while_a_certificate_changes_either_key_is_right(self, jinan: Rotating) -> None:
        card = jinan.rotation.rotate("tls")
        for path in (jinan.files.path("tls"), jinan.files.next_path("tls")):
            found = find_lost_roles(
                card, log_key=card.log_key, witness_key=card.witness_key, tls_key=jinan.files.load_tls(path)
            )
            assert found == []

    @pytest.mark.parametrize("role", ROLES)
    def test_it_is_said_what_to_type(self, role: str) -> None:
        assert f"labmesh keys rotate {role}" in describe_lost_role(role)


class TestLog:
    def test_what_waits_is_signed_by_the_next_key(self, jinan: Rotating) -> None:
        push(jinan, 2, "A")
        lost = jinan.member.membership.own_card[1].log_key
        jinan.lose("log")
        push(jinan, 1, "B")
        assert not jinan.member.ledger.sign_head() and jinan.member.ledger.log.signed_size == 2
        all_told(jinan)
        card = jinan.rotation.rotate("log")
        assert [(former.key, former.size) for former in card.former_log_keys] == [(lost, 2)]
        assert jinan.member.ledger.log.signed_size == 3 and jinan.rotation.lost_roles() == []
        jinan.require_sound()

    def test_checkpoints_are_not_renewed_by_a_key_that_the_card_does_not_name(self, jinan: Rotating) -> None:
        push(jinan, 2, "A")
        jinan.rotation.revoke_log(1)
        head = jinan.member.ledger.log.head_note
        jinan.lose("log")
        # The head as the revoked key had signed it, as after a crash: the key that must sign it again is gone.
        jinan.member.ledger.renew_checkpoints(1)
        other = jinan.member.ledger.log.head_note
        assert other != head and not jinan.rotation.renew_checkpoints()
        assert jinan.member.ledger.log.head_note == other

    def test_entries_that_a_former_key_signed_must_come_back_first(
        self, jinan: Rotating, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        push(jinan, 2, "A")
        jinan.rotation.rotate("log")
        former = jinan.member.membership.own_card[1].former_log_keys[0]
        own = jinan.member.membership.own_card
        ahead = replace(own[1], former_log_keys=(replace(former, size=5),))
        monkeypatch.setattr(jinan.member.membership, "_own_card", (own[0], ahead))
        with pytest.raises(GovernanceError, match="holds only 2 signed entries") as refused:
            jinan.rotation.rotate("log")
        assert "labmesh peers" in refused.value.hint and jinan.names() == NAMES

    def test_a_next_key_that_the_card_does_not_name_is_in_nobodys_way(self, jinan: Rotating) -> None:
        """Both files are of a rotation before the one that the card is of."""
        jinan.files.write(jinan.files.next_path("log"), Ed25519PrivateKey.generate())
        jinan.lose("log")
        assert jinan.restart() == []
        jinan.lose()
        all_told(jinan)
        jinan.rotation.rotate("log")
        assert jinan.rotation.lost_roles() == [] and jinan.names() == NAMES

    @pytest.mark.parametrize("name", ["log", "witness", "tls"])
    def test_a_crash_of_the_rotation_is_healed_although_the_old_file_is_gone(self, jinan: Rotating, name: str) -> None:
        before = jinan.files.path(name).read_bytes()
        jinan.files.path(name).rename(jinan.files.next_path(name))
        assert jinan.restart() and jinan.names() == NAMES
        assert jinan.files.path(name).read_bytes() == before

    def test_a_size_beyond_the_log_is_refused_with_what_to_type(self, jinan: Rotating) -> None:
        push(jinan, 2, "A")
        with pytest.raises(GovernanceError, match="signed up to size 2") as refused:
            jinan.rotation.revoke_log(99999999)
        assert "revoke log --size 2" in refused.value.hint and "rotate log" in refused.value.hint


def test_without_its_witness_key_a_node_cosigns_nothing(trio: RotatingAlliance) -> None:
    jinan, qingdao = trio["jinan"], trio["qingdao"]
    push(qingdao, 2, "Q")
    trio.simulated.catch_up("jinan", "qingdao")
    held: Signer = jinan.signer("witness")
    jinan.lose("witness")
    assert not jinan.member.exchange.cosign_head(qingdao.member.lab.origin)
    card = jinan.rotation.rotate("witness")
    assert [former.key.public_key for former in card.former_witness_keys] == [held.key.public_key]
    assert jinan.member.exchange.cosign_head(qingdao.member.lab.origin)
    jinan.require_sound()


def test_what_a_rolled_back_home_cosigned_with_a_retired_key_is_forgotten(trio: RotatingAlliance, tmp_path: Path) -> None:
    """It counts for nobody, and would stand where the next key's cosignature belongs."""
    jinan, qingdao = trio["jinan"], trio["qingdao"]
    push(qingdao, 2, "Q")
    trio.simulated.catch_up("jinan", "qingdao")
    backup, old = jinan.member.snapshot(tmp_path / "backup"), jinan.files.path("witness").read_bytes()
    jinan.rotation.rotate("witness")
    told = jinan.member.card
    jinan.member.clock.turn(60)
    jinan.member.roll_back(backup)
    jinan.files.path("witness").write_bytes(old)
    jinan.lose()
    member, origin = jinan.member, qingdao.member.lab.origin
    member.membership.subscribe(member.exchange.forget_void_cosignatures)
    log = member.mirror_of("qingdao")

    def cosigned() -> dict[str, int]:
        return member.store.checkpoints.largest_cosigned(log.id, ["jinan"])

    assert not member.exchange.cosign_head(origin)
    member.confirm()
    assert member.exchange.cosign_head(origin) and cosigned() == {"jinan": 2}
    member.membership.import_alliance([], [told], fingerprint=None)
    assert cosigned() == {} and not member.exchange.cosign_head(origin)
    assert not member.confirmation.confirmed, "the word was given without the card"
    member.confirm()
    jinan.rotation.rotate("witness")
    assert member.exchange.cosign_head(origin) and cosigned() == {"jinan": 2}
    signed = member.store.checkpoints.find(log.id, 2)
    assert signed is not None and list(accept_cosignatures(member.membership.joined, "qingdao", signed)) == ["jinan"]


def test_a_home_from_before_a_revocation_takes_over_what_was_signed_again(trio: RotatingAlliance, tmp_path: Path) -> None:
    jinan, qingdao = trio["jinan"], trio["qingdao"]
    for prefix in "ABC":
        push(jinan, 2, prefix)
    backup, old = jinan.member.snapshot(tmp_path / "backup"), jinan.files.path("log").read_bytes()
    jinan.rotation.revoke_log(1)
    trio.simulated.catch_up("qingdao", "jinan")
    jinan.member.roll_back(backup)
    jinan.files.path("log").write_bytes(old)
    jinan.lose()
    assert len(jinan.checkpoints()) == 3 and jinan.rotation.lost_roles() == []
    # It hears of the card, and is told what qingdao holds.
    trio.simulated.follow("jinan", "qingdao", lambda _: [signed.size for signed in jinan.checkpoints()] == [6])
    assert jinan.rotation.lost_roles() == ["log"]
    card = jinan.member.membership.own_card[1]
    assert jinan.member.ledger.log.head is not None and vouched_size(card, jinan.member.ledger.log.head) is None
    all_told(jinan)
    jinan.rotation.rotate("log")
    push(jinan, 1, "D")
    jinan.require_sound()
    trio.simulated.catch_up("qingdao", "jinan")
    trio.simulated.catch_up("yantai", "jinan")
    assert trio["yantai"].member.mirror_of("jinan").head_size == 7
    assert not qingdao.member.alarms and not qingdao.member.evidence.pieces()


class TestTls:
    def test_a_node_shows_a_certificate_that_nobody_trusts(self, jinan: Rotating) -> None:
        """So that it runs, and serves its own people."""
        held = jinan.member.membership.own_card[1]
        assert jinan.rotation.presentable_card() == held
        jinan.lose("tls")
        shown = jinan.rotation.presentable_card()
        assert shown.tls_certificates == jinan.rotation.presentable_card().tls_certificates != held.tls_certificates
        assert presented_certificate(jinan.rotation.tls_key_pem, shown.tls_certificates) == shown.tls_certificates[0]
        assert jinan.member.membership.own_card[1] == held, "it is signed by nobody"

    def test_a_new_key_without_peers(self, trio: RotatingAlliance) -> None:
        jinan = trio["jinan"]
        held = jinan.member.membership.own_card[1]
        jinan.lose("tls")
        unconfirmed(jinan)
        with pytest.raises(UnconfirmedError) as refused:
            jinan.rotation.rotate("tls")
        assert "--without-peers" in refused.value.hint and "labmesh join" in refused.value.hint
        card = jinan.rotation.rotate("tls", without_peers=True)
        assert card.seq > held.seq + LEAP_MIN and len(card.tls_certificates) == 1
        assert is_certificate_of(card.tls_certificates[0], jinan.files.load_tls(jinan.files.path("tls")))
        assert jinan.rotation.presentable_card() == card and jinan.names() == NAMES
        assert replace(card, seq=1, previous=None, issued=held.issued, tls_certificates=held.tls_certificates) == held
        assert trio.tell_card("jinan", "qingdao", "yantai") == []
        assert card_of(trio, "qingdao") == card_of(trio, "yantai") == card.seq
        assert not jinan.rotation.advance_tls()
        # The same backup again, an hour later: another `seq`, which peers take, too.
        jinan.member.clock.turn(3600)
        jinan.lose("tls")
        again = jinan.rotation.rotate("tls", without_peers=True)
        assert again.seq > card.seq and trio.tell_card("jinan", "qingdao") == []

    def test_a_card_that_the_lost_home_had_signed_is_no_evidence(self, trio: RotatingAlliance, tmp_path: Path) -> None:
        jinan, qingdao = trio["jinan"], trio["qingdao"]
        backup = jinan.member.snapshot(tmp_path / "backup")
        newest = jinan.member.membership.issue_card(lambda card: replace(card, name="Before the loss"))
        assert trio.tell_card("jinan", "qingdao") == []
        told = jinan.member.card
        jinan.member.roll_back(backup)
        jinan.lose("tls")
        unconfirmed(jinan)
        jinan.member.membership.import_alliance([], [told], fingerprint=None)
        assert jinan.member.membership.own_card[1] == newest
        jinan.rotation.rotate("tls", without_peers=True)
        assert trio.tell_card("jinan", "qingdao", "yantai") == []
        assert qingdao.member.membership.joined.card("jinan").name == "Before the loss"
        assert not qingdao.member.evidence.pieces()

    def test_peers_that_can_connect_are_asked(self, jinan: Rotating) -> None:
        held = jinan.member.membership.own_card
        for confirmed in (True, False):
            if not confirmed:
                unconfirmed(jinan)
            with pytest.raises(GovernanceError, match="can connect") as refused:
                jinan.rotation.rotate("tls", without_peers=True)
            assert "roster export" in refused.value.hint
        for role in ("log", "witness"):
            with pytest.raises(UserError, match="only the TLS key and a lost log key"):
                jinan.rotation.rotate(role, without_peers=True)
        assert jinan.member.membership.own_card == held and jinan.names() == NAMES

    def test_an_expired_certificate_lets_nobody_in_either(self, jinan: Rotating) -> None:
        expiry = jinan.rotation._expiry(jinan.member.membership.own_card[1])
        jinan.member.clock.turn((expiry - jinan.member.clock()).total_seconds())
        unconfirmed(jinan)
        card = jinan.rotation.rotate("tls", without_peers=True)
        assert len(card.tls_certificates) == 1 and jinan.names() == NAMES


def test_after_a_persons_word_instead_of_the_peers_each_card_leaps(jinan: Rotating) -> None:
    confirmation = jinan.member.confirmation

    def presumed() -> bool:
        return confirmation.confirmed and confirmation.presumed

    assert presumed()
    held = jinan.member.membership.own_card[1]
    assert jinan.rotation.rotate("witness").seq > held.seq + LEAP_MIN
    confirmation.accept_told("qingdao", b"")
    assert not presumed()
    held = jinan.member.membership.own_card[1]
    assert jinan.rotation.rotate("log").seq == held.seq + 1


@pytest.mark.parametrize("ahead", [0, 2**30])
def test_one_backup_restored_twice_signs_no_two_cards_of_one_seq(jinan: Rotating, tmp_path: Path, ahead: int) -> None:
    """Although the clock stands still, and although the held `seq` is ahead of it."""
    if ahead:
        own = jinan.member.membership.own_card
        jinan.member.membership._own_card = (own[0], replace(own[1], seq=ahead))
        jinan.member.membership.issue_card(lambda card: card)
    backup, seqs = jinan.member.snapshot(tmp_path / "backup"), set()
    for life in range(3):
        jinan.member.roll_back(backup)
        seqs.add(jinan.member.membership.issue_card(lambda card: replace(card, name=f"Life {life}"), leap=True).seq)  # noqa: B023
    assert len(seqs) == 3 and min(seqs) > ahead


def test_with_another_identity_key_no_key_changes(jinan: Rotating) -> None:
    held = jinan.member.membership.own_card
    other = Ed25519PrivateKey.generate()
    jinan.member.membership._identity = IdentityKey(other.public_key().public_bytes_raw(), other.sign)
    for role in ROLES:
        with pytest.raises(GovernanceError, match="is not the one in its card") as refused:
            jinan.rotation.rotate(role)
        assert "labmesh keys identity" in refused.value.hint and "labmesh roster rekey" in refused.value.hint
    assert jinan.member.membership.own_card == held
    assert parse_card(jinan.member.card)[0].hash == held[0].hash


def go_back_behind_a_rotation(trio: RotatingAlliance, backup: Path) -> Checkpoint:
    """Jinan's database is older than its key files and than what qingdao holds; yantai missed all of it. Returns that."""
    jinan = trio["jinan"]
    push(jinan, 2, "A")
    trio.simulated.catch_up("yantai", "jinan")
    jinan.member.snapshot(backup)
    jinan.rotation.rotate("log")
    push(jinan, 2, "C")
    published = jinan.member.ledger.checkpoint
    assert trio.tell_card("jinan", "qingdao") == []
    trio.simulated.catch_up("qingdao", "jinan")
    jinan.member.roll_back(backup)
    jinan.lose()

    def sign_waiting() -> None:
        jinan.member.ledger.sign_head()

    jinan.member.membership.subscribe(sign_waiting)  # as the daemon does
    return published


def state(node: Rotating) -> tuple[bool, bool]:
    """Whether it is confirmed, and whether by a person's word alone."""
    return node.member.confirmation.confirmed, node.member.confirmation.presumed


@pytest.mark.parametrize("how", ["contact", "file"])
@pytest.mark.parametrize("asked", ["a person", "a peer"])
def test_what_waits_for_a_lost_key_is_not_signed_because_the_card_comes(
    trio: RotatingAlliance, tmp_path: Path, asked: str, how: str
) -> None:
    """The card makes the key in the home the log's again, and proves that who let the home sign did not know of it."""
    published = go_back_behind_a_rotation(trio, tmp_path / "backup")
    jinan = trio["jinan"]
    if asked == "a person":
        jinan.member.confirm()
    else:
        trio.simulated.meet("jinan", "yantai")
    assert state(jinan) == (True, asked == "a person") and jinan.rotation.lost_roles() == ["log"]
    push(jinan, 2, "W")
    exported = trio.simulated.exported("qingdao")
    if how == "file":
        jinan.member.membership.import_alliance(*exported, fingerprint=None)
    else:
        assert jinan.member.membership.accept_update(*exported, teller="qingdao").changed
        trio.simulated.meet("jinan", "yantai")
    assert jinan.rotation.lost_roles() == [] and jinan.member.ledger.log.signed_size == 2
    assert state(jinan) == (False, False), "qingdao, who has shown the card, has still to tell what it holds"
    trio.simulated.meet("jinan", "qingdao")
    assert state(jinan) == (True, False) and jinan.member.ledger.log.signed_size == 6
    assert {signed.size: signed.root for signed in jinan.checkpoints()}[4] == published.root
    jinan.require_sound()


def test_who_showed_the_card_is_waited_for_while_it_is_a_member_and_a_person_may_go_on(
    trio: RotatingAlliance, tmp_path: Path
) -> None:
    go_back_behind_a_rotation(trio, tmp_path / "backup")
    confirmation, simulated = trio["jinan"].member.confirmation, trio.simulated
    trio["jinan"].member.membership.accept_update(*simulated.exported("qingdao"), teller="qingdao")
    simulated.meet("jinan", "yantai")
    assert state(trio["jinan"]) == (False, False)
    confirmation.override()
    simulated.meet("jinan", "yantai")
    assert state(trio["jinan"]) == (True, True), "yantai alone makes nothing certain"
    trio["jinan"].member.membership.amend(RemoveMember("qingdao"))
    assert state(trio["jinan"]) == (True, False)


def test_who_showed_the_card_is_waited_for_once(trio: RotatingAlliance, tmp_path: Path) -> None:
    """When the home asks again for another reason, the quorum is enough."""
    go_back_behind_a_rotation(trio, tmp_path / "backup")
    jinan, simulated = trio["jinan"], trio.simulated
    jinan.member.membership.accept_update(*simulated.exported("qingdao"), teller="qingdao")
    simulated.meet("jinan", "qingdao")
    jinan.member.confirmation.doubt("")
    assert state(jinan) == (False, False)
    trio.tell_card("jinan", "yantai")
    simulated.catch_up("yantai", "jinan")
    simulated.meet("jinan", "yantai")
    assert state(jinan) == (True, False)


def test_a_vote_in_the_middle_of_it_keeps_nothing(trio: RotatingAlliance, tmp_path: Path) -> None:
    """A complete change of the roster keeps a process confirmed that was so before; not one that is asking again."""
    go_back_behind_a_rotation(trio, tmp_path / "backup")
    jinan = trio["jinan"].member
    trio.simulated.meet("jinan", "yantai")
    jinan.membership.accept_update(*trio.simulated.exported("qingdao"), teller="qingdao")
    jinan.confirmation.keep()
    assert not jinan.confirmation.confirmed


@pytest.mark.parametrize("teller", ["qingdao", "yantai", ""])
def test_a_home_that_lost_nothing_stays_confirmed(trio: RotatingAlliance, teller: str) -> None:
    """Its newest card, or an older one, comes back to it at each contact whose cards differ."""
    jinan = trio["jinan"]
    push(jinan, 2, "A")
    cards = [jinan.member.card]
    for role in ("log", "witness", "tls"):
        jinan.rotation.rotate(role)
        cards.append(jinan.member.card)
    doubts: list[str] = []
    jinan.member.membership.subscribe_replaced(doubts.append)
    for card in cards:
        if teller:
            jinan.member.membership.accept_update([], [card], teller=teller)
        else:
            jinan.member.membership.import_alliance([], [card], fingerprint=None)
    assert doubts == [] and jinan.member.confirmation.confirmed and jinan.member.push(*drafts(1, "B")).signed


def test_a_word_from_before_the_alliance_was_joined_again_is_forgotten(trio: RotatingAlliance, tmp_path: Path) -> None:
    """A database from before `join` asks nobody; the file that it joins with brings its newest card."""
    lab = build_labs(4)[3]
    alone = SimulatedMember(lab, tmp_path / "alone", clock=trio.simulated.clock)
    before = alone.snapshot(tmp_path / "before")
    trio["jinan"].member.membership.add_members([alone.card])
    rosters, cards = trio.simulated.exported("jinan")
    alone.membership.import_alliance(rosters, cards, fingerprint=None)
    alone.membership.issue_card(lambda card: replace(card, name="Another"))
    trio["jinan"].member.membership.accept_update([], [alone.card], teller=lab.member)
    rosters, cards = trio.simulated.exported("jinan")
    alone.roll_back(before)
    alone.confirm()
    alone.membership.import_alliance(rosters, cards, fingerprint=None)
    assert alone.membership.own_card[1].name == "Another" and not alone.confirmation.confirmed
    # A home that joins for the first time has forgotten nothing.
    doubts: list[str] = []
    new = SimulatedMember(build_labs(5)[4], tmp_path / "new", clock=trio.simulated.clock)
    new.membership.subscribe_replaced(doubts.append)
    trio["jinan"].member.membership.add_members([new.card])
    new.membership.import_alliance(*trio.simulated.exported("jinan"), fingerprint=None)
    assert doubts == [] and new.membership.own_card[1].seq == 1
    for member in (alone, new):
        member.store.close()
