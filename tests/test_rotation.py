"""Keys that change: one card, one key on disk, and nothing signed by both."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from node.core.amendment import AddMembers
from node.core.card import Card
from node.core.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from node.core.merkle import EMPTY_ROOT
from node.core.witness import accept_cosignatures
from node.daemon.building import Daemon
from node.errors import GovernanceError, StoreError, UnconfirmedError, UserError
from node.identity import propose_identity
from node.keyfiles import is_certificate_of
from node.rotation import TLS_PATIENCE
from node.store.membership import MembershipStore
from tests.alliance import drafts
from tests.builders import Lab, build_card, sign_card
from tests.rotating import NAMES, Rotating, RotatingAlliance, cosigned, push
from tests.sync.equivocation import contact


class TestLog:
    def test_the_next_checkpoint_is_by_the_new_key(self, jinan: Rotating) -> None:
        push(jinan, 3, "A")
        before, old, checkpoint = (
            jinan.files.path("log").read_bytes(),
            jinan.signer("log").key,
            jinan.member.ledger.checkpoint,
        )
        card = jinan.rotation.rotate("log")
        assert [(f.key, f.size, f.root) for f in card.former_log_keys] == [(old, 3, checkpoint.root)]
        assert card.log_key == jinan.signer("log").key != old
        assert jinan.member.ledger.log.head is not None
        assert jinan.member.ledger.log.head.note.signatures_of(old), "what stands at the rotation stays as it is"
        push(jinan, 2, "B")
        assert jinan.member.ledger.log.head.note.signatures_of(card.log_key)
        assert [signed.size for signed in jinan.checkpoints()] == [3, 5]
        jinan.require_sound()
        assert jinan.names() == NAMES and before not in {path.read_bytes() for path in jinan.files.present()}

    def test_an_empty_log(self, jinan: Rotating) -> None:
        for _ in range(3):
            jinan.rotation.rotate("log")
        card = jinan.member.membership.own_card[1]
        assert [(f.size, f.root) for f in card.former_log_keys] == [(0, EMPTY_ROOT)] * 3
        push(jinan, 1, "A")
        jinan.require_sound()

    def test_a_restart_goes_on(self, jinan: Rotating) -> None:
        push(jinan, 2, "A")
        jinan.rotation.rotate("log")
        push(jinan, 2, "B")
        assert jinan.restart() == []
        push(jinan, 1, "C")
        jinan.require_sound()
        assert jinan.member.ledger.log.head_size == 5

    def test_a_full_list_is_refused_and_leaves_the_key(self, jinan: Rotating) -> None:
        for _ in range(100):
            jinan.rotation.rotate("log")
        held = jinan.member.membership.own_card
        with pytest.raises(GovernanceError, match="cannot be changed"):
            jinan.rotation.rotate("log")
        assert jinan.member.membership.own_card == held and jinan.names() == NAMES
        push(jinan, 1, "A")
        jinan.require_sound()


class TestOlderHome:
    def test_a_home_that_is_older_than_its_card_rotates_to_a_key_of_its_own(self, trio: RotatingAlliance) -> None:
        """Its key files were restored: the card that peers told names a log key that is gone. What waits is signed anew."""
        jinan = trio["jinan"]
        push(jinan, 2, "A")
        held = {path: path.read_bytes() for path in jinan.files.present()}
        card = jinan.rotation.rotate("log")
        push(jinan, 1, "B")
        for path, raw in held.items():
            path.write_bytes(raw)
        lost = card.log_key
        jinan.member.ledger.change_key(lambda log: (jinan.signer("log"), log.head_size))
        jinan.member.ledger._may_sign = lambda: jinan.member.membership.own_card[1].log_key == jinan.member.ledger.log_key
        push(jinan, 1, "C")
        log = jinan.member.ledger.log
        assert (log.signed_size, log.head_size) == (3, 4), "nothing is signed with a key that the card does not name"
        newest = jinan.rotation.rotate("log", without_peers=True)
        assert [(former.key, former.size) for former in newest.former_log_keys][1:] == [(lost, 3)]
        assert jinan.member.ledger.log.signed_size == 4
        jinan.require_sound()


class TestWitness:
    def test_what_it_signed_counts_until_the_change(self, trio: RotatingAlliance) -> None:
        jinan, qingdao = trio["jinan"], trio["qingdao"]
        push(qingdao, 2, "Q")
        trio.simulated.catch_up("jinan", "qingdao")
        jinan.member.exchange.cosign_head(qingdao.member.lab.origin)
        jinan.member.clock.turn(90)
        old = jinan.signer("witness")
        card = jinan.rotation.rotate("witness")
        assert [former.key for former in card.former_witness_keys] == [old.key]
        assert card.former_witness_keys[0].until == jinan.member.clock().replace(microsecond=0)
        alliance = jinan.member.membership.joined
        note = jinan.member.store.checkpoints.find(jinan.member.mirror_of("qingdao").id, 2)
        assert note is not None and list(accept_cosignatures(alliance, "qingdao", note)) == ["jinan"]
        jinan.member.clock.turn(1)
        # The old key signs no more in this node, and what a thief signs with it later does not count.
        push(qingdao, 1, "R")
        trio.simulated.catch_up("jinan", "qingdao")
        jinan.member.exchange.cosign_head(qingdao.member.lab.origin)
        newer = jinan.member.store.checkpoints.find(jinan.member.mirror_of("qingdao").id, 3)
        assert newer is not None
        counted = accept_cosignatures(alliance, "qingdao", newer)
        assert counted["jinan"].key == card.witness_key
        jinan.require_sound()

    @pytest.mark.parametrize("ahead_s", [0, 3600])
    def test_a_clock_that_was_ahead_takes_nothing_back(self, trio: RotatingAlliance, ahead_s: int) -> None:
        jinan, qingdao, clock = trio["jinan"], trio["qingdao"], trio.simulated.clock
        push(qingdao, 2, "Q")
        trio.simulated.catch_up("jinan", "qingdao")
        clock.turn(ahead_s)
        assert jinan.member.exchange.cosign_head(qingdao.member.lab.origin)
        signed_at = clock()
        clock.turn(-ahead_s)
        clock.turn(60)
        ended = jinan.rotation.rotate("witness").former_witness_keys[0].until
        assert ended == max(signed_at, clock()).replace(microsecond=0)
        contact(trio.simulated, "qingdao", "jinan")
        assert trio.tell_card("jinan", "qingdao", "yantai") == []
        note = qingdao.member.store.checkpoints.find(qingdao.member.ledger.log.id, 2)
        assert note is not None
        assert list(accept_cosignatures(qingdao.member.membership.joined, "qingdao", note)) == ["jinan"]
        # The next key is judged by its own times: it ends when it is retired, not when the one before was.
        clock.turn(60)
        assert jinan.rotation.rotate("witness").former_witness_keys[1].until == clock().replace(microsecond=0)

    @pytest.mark.parametrize("ahead", [timedelta(days=1, seconds=1), timedelta(days=365 * 73)])
    def test_no_end_lies_further_ahead_than_a_day(self, trio: RotatingAlliance, ahead: timedelta) -> None:
        """The clock stood years ahead once. What was cosigned then is given up, and the next key cosigns it."""
        jinan, qingdao, clock = trio["jinan"].member, trio["qingdao"], trio.simulated.clock
        jinan.membership.subscribe(jinan.exchange.forget_void_cosignatures)
        push(qingdao, 2, "Q")
        trio.simulated.catch_up("jinan", "qingdao")
        clock.turn(ahead.total_seconds())
        assert jinan.exchange.cosign_head(qingdao.member.lab.origin)
        clock.turn(-ahead.total_seconds())
        contact(trio.simulated, "qingdao", "jinan")
        ended = trio["jinan"].rotation.rotate("witness").former_witness_keys[0].until
        assert ended == clock().replace(microsecond=0)
        clock.turn(60)
        assert trio.tell_card("jinan", "qingdao", "yantai") == []
        assert jinan.exchange.cosign_head(qingdao.member.lab.origin)
        contact(trio.simulated, "qingdao", "jinan")
        note = qingdao.member.store.checkpoints.find(qingdao.member.ledger.log.id, 2)
        assert note is not None
        counted = accept_cosignatures(qingdao.member.membership.joined, "qingdao", note)
        assert {name: item.time for name, item in counted.items()} == {"jinan": int(clock().timestamp())}


class TestTls:
    def test_the_old_certificate_stays_until_everybody_has_the_card(self, trio: RotatingAlliance, jinan: Rotating) -> None:
        old = jinan.rotation.tls_key_pem
        card = jinan.rotation.rotate("tls")
        assert [is_certificate_of(der, jinan.files.load_tls(path)) for der, path in zip(
            card.tls_certificates, (jinan.files.path("tls"), jinan.files.next_path("tls")), strict=True
        )] == [True, True]  # fmt: skip
        assert jinan.rotation.tls_waits_for() == ["qingdao", "yantai"]
        jinan.spread.note("qingdao", card.seq)
        jinan.spread.note("yantai", card.seq - 1)
        assert not jinan.rotation.advance_tls() and jinan.rotation.tls_key_pem == old
        assert jinan.rotation.tls_waits_for() == ["yantai"]
        jinan.spread.note("yantai", card.seq)
        assert jinan.rotation.advance_tls() and jinan.rotation.tls_key_pem != old
        newest = jinan.member.membership.own_card[1]
        assert newest.tls_certificates == card.tls_certificates[1:] and newest.seq > card.seq
        assert jinan.names() == NAMES and not jinan.rotation.advance_tls() and not jinan.rotation.tls_is_changing
        assert is_certificate_of(newest.tls_certificates[0], jinan.files.load_tls(jinan.files.path("tls")))

    def test_a_head_wakes_it_only_while_it_is_under_way(self, jinan: Rotating) -> None:
        woken = asyncio.Event()
        daemon = cast(Daemon, SimpleNamespace(rotation=jinan.rotation, tls_work=woken))
        Daemon._notice_tls(daemon)
        assert not woken.is_set()
        jinan.rotation.rotate("tls")
        Daemon._notice_tls(daemon)
        assert woken.is_set()

    def test_thirty_days_are_enough(self, jinan: Rotating) -> None:
        card = jinan.rotation.rotate("tls")
        jinan.member.clock.turn(TLS_PATIENCE.total_seconds() - 60)
        assert not jinan.rotation.advance_tls()
        # A card that changes something else meanwhile does not begin the time anew.
        jinan.member.membership.reissue_card(name="New name", region=card.region, endpoints=card.endpoints)
        jinan.member.clock.turn(120)
        assert jinan.rotation.advance_tls()

    def test_a_second_rotation_waits_for_the_first(self, jinan: Rotating) -> None:
        held = jinan.rotation.rotate("tls")
        with pytest.raises(GovernanceError, match="waits for qingdao, yantai"):
            jinan.rotation.rotate("tls")
        assert jinan.member.membership.own_card[1] == held

    def test_it_goes_on_after_a_restart(self, jinan: Rotating) -> None:
        card = jinan.rotation.rotate("tls")
        assert jinan.restart() == [] and "tls.next.pem" in jinan.names()
        for name in ("qingdao", "yantai"):
            jinan.spread.note(name, card.seq)
        assert jinan.rotation.advance_tls() and jinan.names() == NAMES

    def test_a_rotation_whose_key_was_lost_begins_again(self, jinan: Rotating) -> None:
        lost = jinan.rotation.rotate("tls")
        jinan.files.next_path("tls").unlink()
        jinan.member.clock.turn(TLS_PATIENCE.total_seconds() + 60)
        assert not jinan.rotation.advance_tls()
        self.require_begun_again(jinan, lost)

    def test_so_does_one_whose_next_key_is_of_an_older_one(self, jinan: Rotating) -> None:
        """A backup from the middle of an earlier rotation, in a home that has heard of its newer card."""
        first = jinan.rotation.rotate("tls")
        old = jinan.files.next_path("tls").read_bytes()
        jinan.files.drop_next("tls")
        lost = jinan.rotation.rotate("tls")
        jinan.files.next_path("tls").write_bytes(old)
        assert lost.tls_certificates[1] != first.tls_certificates[1]
        jinan.member.clock.turn(TLS_PATIENCE.total_seconds() + 60)
        assert not jinan.rotation.advance_tls()
        self.require_begun_again(jinan, lost)

    def require_begun_again(self, jinan: Rotating, lost: Card) -> None:
        """The same certificate is presented, with a new one to come; and that rotation ends as any other."""
        card = jinan.member.membership.own_card[1]
        assert card.tls_certificates[0] == lost.tls_certificates[0] and card.tls_certificates[1] != lost.tls_certificates[1]
        for name in ("qingdao", "yantai"):
            jinan.spread.note(name, card.seq)
        assert jinan.rotation.advance_tls() and jinan.names() == NAMES
        assert jinan.member.membership.own_card[1].tls_certificates == card.tls_certificates[1:]

    def test_key_files_that_are_newer_than_the_database(self, jinan: Rotating) -> None:
        """The rotation was over when the keys were copied; the database still names both certificates."""
        card = jinan.rotation.rotate("tls")
        jinan.files.promote("tls")
        jinan.restart()
        for name in ("qingdao", "yantai"):
            jinan.spread.note(name, card.seq)
        assert jinan.rotation.advance_tls() and jinan.names() == NAMES
        newest = jinan.member.membership.own_card[1]
        assert newest.tls_certificates == card.tls_certificates[1:] and jinan.rotation.lost_roles() == []

    def test_a_newer_card_that_names_the_waiting_key_alone(self, jinan: Rotating) -> None:
        """A home from the middle of a rotation hears that it has ended; no restart is needed."""
        card, old = jinan.rotation.rotate("tls"), jinan.rotation.tls_key_pem
        jinan.member.membership.issue_card(lambda held: replace(held, tls_certificates=card.tls_certificates[1:]))
        assert jinan.rotation.lost_roles() == ["tls"]
        assert jinan.rotation.advance_tls() and jinan.rotation.tls_key_pem != old
        assert jinan.rotation.lost_roles() == [] and jinan.names() == NAMES and not jinan.rotation.advance_tls()

    def test_a_next_key_that_no_card_names_is_not_presented(self, jinan: Rotating) -> None:
        old = jinan.rotation.tls_key_pem
        jinan.lose("tls")
        jinan.files.write(jinan.files.next_path("tls"), ec.generate_private_key(ec.SECP256R1()))
        assert not jinan.rotation.advance_tls() and jinan.rotation.lost_roles() == ["tls"]
        assert jinan.rotation.tls_key_pem != old and "tls.next.pem" in jinan.names()

    def test_alone_there_is_nobody_to_wait_for(self, tmp_path: Path) -> None:
        alliance = RotatingAlliance(tmp_path, 1)
        card = alliance["jinan"].rotation.rotate("tls")
        assert len(card.tls_certificates) == 1 and alliance["jinan"].names() == NAMES
        alliance.close()


class TestRefusals:
    @pytest.mark.parametrize("role", ["log", "witness", "tls"])
    def test_a_home_that_may_be_old_signs_no_card(self, trio: RotatingAlliance, role: str) -> None:
        jinan = trio["jinan"]
        push(jinan, 2, "A")
        jinan.restart()
        jinan.member.reopen()  # unconfirmed, as after every start
        jinan._wire()
        held, files = jinan.member.membership.own_card, {path: path.read_bytes() for path in jinan.files.present()}
        with pytest.raises(UnconfirmedError):
            jinan.rotation.rotate(role)
        with pytest.raises(UnconfirmedError):
            jinan.rotation.revoke_log(2)
        assert jinan.member.membership.own_card == held
        assert {path: path.read_bytes() for path in jinan.files.present()} == files

    @pytest.mark.parametrize("role", ["log", "witness", "tls"])
    def test_no_key_changes_while_an_identity_key_waits_for_the_council(self, jinan: Rotating, role: str) -> None:
        """The card that the council has names the next `seq`; another one with it would be evidence against the member."""
        held = jinan.member.membership.own_card
        propose_identity(jinan.files, held)
        with pytest.raises(GovernanceError, match="identity key") as refused:
            jinan.rotation.rotate(role)
        assert "roster rekey" in refused.value.hint
        with pytest.raises(GovernanceError, match="identity key"):
            jinan.rotation.revoke_log(2)
        assert jinan.member.membership.own_card == held

    @pytest.mark.parametrize("role", ["", "identity", "LOG"])
    def test_other_roles(self, jinan: Rotating, role: str) -> None:
        with pytest.raises(UserError, match=r"no .* key that can be rotated"):
            jinan.rotation.rotate(role)

    def test_a_key_of_the_database_that_failed_is_taken_away(self, jinan: Rotating, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise StoreError("no space left on device")

        monkeypatch.setattr(MembershipStore, "save_card", refuse)
        for role in ("log", "witness", "tls"):
            with pytest.raises(StoreError):
                jinan.rotation.rotate(role)
            assert jinan.names() == NAMES
        monkeypatch.undo()
        push(jinan, 1, "A")
        jinan.require_sound()


class TestRevoking:
    def test_what_the_key_signed_beyond_is_signed_again(self, jinan: Rotating) -> None:
        for prefix in "ABC":
            push(jinan, 2, prefix)
        cosigned(jinan, 6, "qingdao")  # one of two that a quorum would need, were it two
        before = jinan.checkpoints()
        quorum = jinan.member.membership.joined.roster.quorum
        assert quorum == 1
        with pytest.raises(GovernanceError, match="cosigned the log up to size 6") as refusal:
            jinan.rotation.revoke_log(4)
        assert "--size 6" in refusal.value.hint and jinan.names() == NAMES
        jinan.rotation.revoke_log(6)
        jinan.require_sound()
        assert [bytes(signed) for signed in jinan.checkpoints()] == [bytes(signed) for signed in before]

    def test_beyond_what_was_seen(self, jinan: Rotating) -> None:
        for prefix in "ABC":
            push(jinan, 2, prefix)
        cosigned(jinan, 2, "qingdao")
        before, old = jinan.checkpoints(), jinan.signer("log").key
        card = jinan.rotation.revoke_log(3)  # no checkpoint of its own: any size that was good
        after = jinan.checkpoints()
        assert [(signed.size, signed.root) for signed in after] == [(signed.size, signed.root) for signed in before]
        assert [bool(signed.note.signatures_of(old)) for signed in after] == [True, False, False]
        assert card.former_log_keys[-1].size == 3
        jinan.require_sound()
        log = jinan.member.ledger.log
        held = jinan.member.store.checkpoints.find(log.id, 2)
        assert held is not None and len(held.note.signatures) == 2, "cosignatures stay"
        assert log.head_note == bytes(after[-1])

    def test_what_a_quorum_holds_may_be_cosigned(self, jinan: Rotating) -> None:
        for prefix in "ABC":
            push(jinan, 2, prefix)
        at = {signed.size: bytes(signed) for signed in jinan.checkpoints()}
        jinan.member.confirmation.accept_told("qingdao", at[4])
        held = jinan.member.membership.own_card
        with pytest.raises(GovernanceError, match="hold the log up to size 4 and may have cosigned") as refusal:
            jinan.rotation.revoke_log(3)
        assert refusal.value.hint.endswith("keys revoke log --size 4")
        assert jinan.member.membership.own_card == held and jinan.names() == NAMES
        assert jinan.rotation.revoke_log(4).former_log_keys[-1].size == 4
        jinan.require_sound()

    @pytest.mark.parametrize(("size", "why"), [(7, "signed up to size 6"), (1, "in use since size 2")])
    def test_impossible_sizes(self, jinan: Rotating, size: int, why: str) -> None:
        push(jinan, 2, "A")
        jinan.rotation.rotate("log")
        push(jinan, 4, "B")
        held = jinan.member.membership.own_card
        with pytest.raises(GovernanceError, match=why):
            jinan.rotation.revoke_log(size)
        assert jinan.member.membership.own_card == held and jinan.names() == NAMES
        jinan.require_sound()

    def test_the_note_that_peers_are_told_is_the_new_one(self, jinan: Rotating) -> None:
        push(jinan, 4, "A")
        (told,) = jinan.member.exchange.held_notes()
        jinan.rotation.revoke_log(0)
        (renewed,) = jinan.member.exchange.held_notes()
        assert parse_checkpoint(told).checkpoint == parse_checkpoint(renewed).checkpoint and told != renewed

    def test_what_a_thief_made_of_our_log_says_nothing_about_this_home(self, trio: RotatingAlliance) -> None:
        """A peer that still holds the thief's longer history must not make this node believe that it was rolled back."""
        jinan = trio["jinan"]
        push(jinan, 4, "A")
        stolen = sign_checkpoint(Checkpoint(jinan.member.lab.origin, 9, bytes(32)), jinan.signer("log"))
        own = jinan.member.ledger.log.head_note
        jinan.rotation.revoke_log(2)
        confirmation = jinan.member.confirmation
        confirmation.accept_told("qingdao", bytes(stolen))
        confirmation.accept_told("yantai", own)  # signed with the revoked key too, but by us
        assert confirmation.confirmed and confirmation.longer is None and confirmation.conflict is None


def test_the_time_of_a_rotation_is_read_from_the_certificate(jinan: Rotating) -> None:
    card = jinan.rotation.rotate("tls")
    deadline = jinan.rotation._tls_deadline(card.tls_certificates[-1])
    assert abs(deadline - jinan.member.clock() - TLS_PATIENCE) < timedelta(seconds=1)


@pytest.mark.parametrize("days", [20, 33])
def test_a_revocation_minds_what_an_earlier_quorum_may_have_seen(trio: RotatingAlliance, days: int) -> None:
    """Where one witness was enough when the log grew, its cosignature may be on the way, and it would refuse the card."""
    sim, author, witness = trio.simulated, trio["yantai"].member, trio["qingdao"].member
    labs = [Lab(name, author.lab.alliance) for name in ("dezhou", "heze")]
    sim["jinan"].membership.amend(AddMembers(tuple(sign_card(build_card(lab), lab) for lab in labs)))
    for member in (witness, author):
        assert member.membership.accept_update(*sim.exported("jinan")).changed
    assert author.membership.joined.roster.quorum == 2
    sim.clock.turn(days * 86400)
    author.confirm()
    author.push(*drafts(3))
    for name in ("jinan", "qingdao"):
        sim.catch_up(name, "yantai")
        assert sim[name].exchange.cosign_head(author.ledger.origin)
        contact(sim, "yantai", name)
    author.push(*drafts(2, "LATE"))
    sim.catch_up("qingdao", "yantai")
    assert witness.exchange.cosign_head(author.ledger.origin)
    sim.meet("yantai", "jinan", "qingdao")
    if days < 31:
        with pytest.raises(GovernanceError, match="hold the log up to size 5 and may have cosigned it"):
            trio["yantai"].rotation.revoke_log(3)
    trio["yantai"].rotation.revoke_log(5 if days < 31 else 3)
    assert trio.tell_card("yantai", "qingdao", "jinan") == []
