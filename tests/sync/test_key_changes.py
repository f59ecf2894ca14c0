"""Peers whose mirrors stand before, at or beyond a change of the author's log key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.audit import build_bundle
from node.core.bundle import format_bundle, parse_bundle
from node.core.card import FormerLogKey
from node.core.checkpoint import Checkpoint, sign_checkpoint
from node.core.mirror import StagingLimits
from node.core.names import parse_record_id
from node.disowning import find_disowned
from node.errors import GovernanceError, SplitViewError, UnconfirmedError, UserError
from node.sync.peers import Alarms
from node.sync.revoked import forget_uncounted
from tests.alliance import list_all, visible, wait_until
from tests.builders import kinds, sign_card
from tests.rotating import RotatingAlliance
from tests.sync.key_changes import card_of, cosign_by, mirror, push, require_followed
from tests.verifiers import agreed_verdict


@pytest.fixture
def alliance(rotating: RotatingAlliance) -> RotatingAlliance:
    return rotating


@pytest.mark.parametrize("entries_max", [1, 2, 3, 1000])
@pytest.mark.parametrize("held", [0, 2, 3, 5])
def test_a_mirror_catches_up_through_rotations(alliance: RotatingAlliance, held: int, entries_max: int) -> None:
    """From before, at and after the first rotation; by steps that end at it, and by one that leads over both."""
    limits = {"limits": StagingLimits(entries=entries_max)}
    for size, prefix in ((2, "A"), (1, "B")):
        push(alliance, size, prefix)
        if alliance["jinan"].member.ledger.log.head_size == held:
            alliance.simulated.catch_up("qingdao", "jinan")
    alliance["jinan"].rotation.rotate("log")
    push(alliance, 1, "C")
    push(alliance, 1, "D")
    if held == 5:
        alliance.simulated.catch_up("qingdao", "jinan")
    alliance["jinan"].rotation.rotate("log")
    alliance["jinan"].rotation.rotate("log")
    for prefix in "EFG":
        push(alliance, 1, prefix)
    if entries_max == 1:
        # The author announces checkpoints at pushes only: a step of two entries is the smallest it has at first.
        limits = {"limits": StagingLimits(entries=2)}
    state = alliance.simulated.catch_up("qingdao", "jinan", **limits)
    assert state.state == "connected" and state.verified == 8
    assert [former.size for former in card_of(alliance, "qingdao").former_log_keys] == [3, 5, 5]
    require_followed(alliance, "qingdao")


def test_a_connected_peer_goes_on_without_a_pause(alliance: RotatingAlliance) -> None:
    """The announcement by the new key may arrive before the card does; the reader asks again at once."""
    push(alliance, 2, "A")
    alliance.simulated.catch_up("qingdao", "jinan")

    async def work() -> Any:
        import asyncio

        async with alliance.simulated.following("qingdao", "jinan") as state:
            await wait_until(lambda: state.verified == 2 and state.state == "connected")
            await asyncio.to_thread(alliance["jinan"].rotation.rotate, "log")
            await asyncio.to_thread(push, alliance, 1, "B")
            await wait_until(lambda: state.verified == 3)
            return state.state

    assert alliance.simulated.run(work) == "connected"
    require_followed(alliance, "qingdao")


def lose_what_yantai_holds(alliance: RotatingAlliance, backup: Path) -> None:
    """Jinan is rolled back to three entries that all hold, without its log key; yantai alone holds two more."""
    jinan, simulated = alliance["jinan"], alliance.simulated
    push(alliance, 3, "COMMON")
    for peer in ("qingdao", "weifang", "yantai"):
        simulated.catch_up(peer, "jinan")
    jinan.member.snapshot(backup)
    push(alliance, 2, "ONLY")
    simulated.catch_up("yantai", "jinan")
    jinan.member.roll_back(backup)
    jinan.lose("log")


def test_a_lost_log_key_waits_for_the_peer_that_holds_more(alliance: RotatingAlliance, tmp_path: Path) -> None:
    """A quorum holds the common entries, and yantai, which is away, two more that were acknowledged."""
    jinan, simulated = alliance["jinan"], alliance.simulated
    lose_what_yantai_holds(alliance, tmp_path / "backup")
    simulated.meet("jinan", "qingdao", "weifang")
    held = jinan.member.membership.own_card
    assert jinan.member.confirmation.confirmed
    with pytest.raises(UnconfirmedError, match="yantai did not tell") as refused:
        jinan.rotation.rotate("log")
    assert "qingdao" not in refused.value.message and "--without-peers" in str(refused.value.hint)
    assert jinan.member.membership.own_card == held
    simulated.meet("jinan", "yantai")
    card = jinan.rotation.rotate("log")
    assert card.former_log_keys[-1].size == 5 and "ONLY-000001" in {row.key for row in list_all(jinan.member.store)}
    assert not alliance.tell_card("jinan", "qingdao", "yantai", "weifang")
    jinan.require_sound()


def test_ending_a_lost_log_key_waits_for_the_peer_that_holds_more(alliance: RotatingAlliance, tmp_path: Path) -> None:
    """As a rotation does: no key vouches for what only yantai holds beyond the size that is named."""
    jinan, simulated = alliance["jinan"], alliance.simulated
    lose_what_yantai_holds(alliance, tmp_path / "backup")
    held = jinan.member.membership.own_card
    with pytest.raises(UnconfirmedError, match="so no card is signed"):
        jinan.rotation.revoke_log(3)
    simulated.meet("jinan", "qingdao", "weifang")
    with pytest.raises(UnconfirmedError, match="yantai did not tell") as refused:
        jinan.rotation.revoke_log(3)
    assert "labmesh keys revoke log --size 3 --without-peers" in str(refused.value.hint)
    jinan.member.confirmation.accept_told("yantai", simulated["yantai"].exchange.note_for("jinan"))
    assert jinan.member.confirmation.peers_heard() == {"qingdao", "weifang"}, "yantai has not given it back"
    jinan.member.confirmation.keep()
    with pytest.raises(UnconfirmedError, match="yantai did not tell"):
        jinan.rotation.revoke_log(3)
    assert jinan.member.membership.own_card == held
    simulated.meet("jinan", "yantai")
    card = jinan.rotation.revoke_log(3)
    assert card.former_log_keys[-1].size == 3 and "ONLY-000001" in {row.key for row in list_all(jinan.member.store)}
    assert not alliance.tell_card("jinan", "qingdao", "yantai", "weifang")
    for reader in ("qingdao", "yantai", "weifang"):
        simulated.catch_up(reader, "jinan")
        require_followed(alliance, reader)
    jinan.require_sound()


def test_a_lost_log_key_is_ended_without_a_peer_where_a_person_says_so(alliance: RotatingAlliance) -> None:
    jinan, simulated = alliance["jinan"], alliance.simulated
    push(alliance, 3, "COMMON")
    with pytest.raises(UserError, match="lost log key") as refused:
        jinan.rotation.revoke_log(2, without_peers=True)
    assert str(refused.value.hint) == "type: labmesh keys revoke log --size 2"
    jinan.lose("log")
    simulated.meet("jinan", "qingdao", "weifang")
    assert jinan.rotation.revoke_log(2, without_peers=True).former_log_keys[-1].size == 2
    assert jinan.rotation.lost_roles() == []


def test_a_lost_log_key_goes_on_without_a_peer_where_a_person_says_so(alliance: RotatingAlliance) -> None:
    jinan, simulated = alliance["jinan"], alliance.simulated
    push(alliance, 3, "COMMON")
    for peer in ("qingdao", "weifang"):
        simulated.catch_up(peer, "jinan")
    with pytest.raises(UserError, match="lost log key"):
        jinan.rotation.rotate("log", without_peers=True)
    jinan.lose("log")
    simulated.meet("jinan", "qingdao", "weifang")
    for role in ("witness", "log"):
        if role == "witness":
            with pytest.raises(UserError, match="lost log key"):
                jinan.rotation.rotate(role, without_peers=True)
        else:
            assert jinan.rotation.rotate(role, without_peers=True).former_log_keys[-1].size == 3
    assert jinan.rotation.lost_roles() == []


def test_a_log_that_does_not_pass_through_the_root_that_its_card_names(
    alliance: RotatingAlliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries have the signed root at the end, but not the root at which the card ends the old key."""
    jinan = alliance["jinan"]
    push(alliance, 2, "A")
    alliance.simulated.catch_up("qingdao", "jinan")
    push(alliance, 3, "B")
    real = jinan.rotation._former_log_key
    monkeypatch.setattr(jinan.rotation, "_former_log_key", lambda *state: replace(real(*state), root=bytes(32)))
    jinan.rotation.rotate("log")
    push(alliance, 2, "C")
    before = visible(alliance["qingdao"].member.store)
    for _ in range(2):  # the second time from what was staged
        state = alliance.simulated.follow("qingdao", "jinan", lambda state: state.state == "refused")
        assert state.reason == "SIGNATURE" and "at size 5 with another root" in state.error
    assert visible(alliance["qingdao"].member.store) == before


class TestRevoked:
    """Jinan ends its key at size 2; four entries beyond were signed with it, and some peers have verified them."""

    @pytest.fixture
    def revoked(self, alliance: RotatingAlliance) -> RotatingAlliance:
        push(alliance, 2, "A")
        for name in ("qingdao", "yantai"):
            alliance.simulated.catch_up(name, "jinan")
        cosign_by(alliance, "qingdao", "yantai")
        push(alliance, 1, "B")
        push(alliance, 3, "C")
        alliance.simulated.catch_up("qingdao", "jinan")
        cosign_by(alliance, "qingdao")
        alliance["jinan"].rotation.revoke_log(2)
        return alliance

    def test_what_a_peer_holds_beyond_counts_until_the_card_comes_and_again_when_the_new_key_has_signed(
        self, revoked: RotatingAlliance
    ) -> None:
        qingdao = revoked["qingdao"].member
        before = visible(qingdao.store)
        assert not revoked.tell_card("jinan", "qingdao")
        assert forget_uncounted(qingdao.store, qingdao.exchange, card_of(revoked, "qingdao"))
        assert not forget_uncounted(qingdao.store, qingdao.exchange, card_of(revoked, "qingdao")), "once is enough"
        assert [item.key for item in list_all(qingdao.store)] == ["A-000000", "A-000001"]
        revoked.simulated.catch_up("qingdao", "jinan")
        require_followed(revoked, "qingdao")
        assert [item.record for item in visible(qingdao.store).records] == [item.record for item in before.records]

    def test_peers_behind_and_ahead_go_on(self, revoked: RotatingAlliance) -> None:
        push(revoked, 1, "D")
        peers = ("qingdao", "yantai", "weifang")
        for name in peers:
            revoked.simulated.catch_up(name, "jinan")
            require_followed(revoked, name)
        assert {name: mirror(revoked, name).head_size for name in peers} == dict.fromkeys(peers, 7)

    def test_a_peer_proves_no_more_than_the_card_vouches_for(self, revoked: RotatingAlliance) -> None:
        qingdao = revoked["qingdao"].member
        revoked.tell_card("jinan", "qingdao")
        # In this moment the entries beyond are still held.

        def bundle(key: str) -> bytes:
            record = parse_record_id(f"jinan/result/{key}")
            joined = qingdao.membership.joined
            return format_bundle(build_bundle(qingdao.store, joined, record, member="qingdao", ceiling=0))

        fingerprint = qingdao.membership.joined.fingerprint
        seen = agreed_verdict(parse_bundle(bundle("A-000001")), fingerprint=fingerprint, kinds=kinds())
        assert seen.verified and seen.quorum_met and seen.signed_size == 2
        with pytest.raises(UnconfirmedError):
            bundle("C-000000")
        push(revoked, 1, "D")
        revoked.simulated.catch_up("qingdao", "jinan")
        for key in ("A-000000", "B-000000", "C-000002", "D-000000"):
            verdict = agreed_verdict(parse_bundle(bundle(key)), fingerprint=fingerprint, kinds=kinds())
            assert verdict.verified and verdict.signed_size == 7

    def test_the_author_is_confirmed_by_a_peer_that_holds_the_old_head(self, revoked: RotatingAlliance) -> None:
        jinan = revoked["jinan"]
        jinan.member.reopen()
        jinan._wire()
        told = revoked["qingdao"].member.exchange.note_for("jinan")
        assert jinan.member.confirmation.accept_told("qingdao", told)
        assert jinan.member.confirmation.ceiling == 6 and jinan.member.confirmation.conflict is None

    def test_an_old_note_of_a_third_peer_is_no_split_view(self, revoked: RotatingAlliance) -> None:
        revoked.tell_card("jinan", "qingdao", "weifang")
        notes = revoked["qingdao"].member.exchange.held_notes()
        for name in ("weifang", "jinan"):
            assert revoked[name].member.exchange.accept_notes(notes, peer="qingdao")[1] == []


class TestDisowning:
    """What a quorum has cosigned stays, whatever the author's card says."""

    @pytest.fixture
    def seen(self, alliance: RotatingAlliance) -> RotatingAlliance:
        for prefix in "AB":
            push(alliance, 2, prefix)
            for name in ("qingdao", "yantai", "weifang"):
                alliance.simulated.catch_up(name, "jinan")
        cosign_by(alliance, "qingdao", "yantai")
        push(alliance, 2, "C")
        alliance.simulated.catch_up("qingdao", "jinan")
        return alliance

    def disown(self, alliance: RotatingAlliance, size: int, root: bytes | None = None) -> list[str]:
        """A dishonest author signs a card that ends its key at `size`; returns what the peers say."""
        jinan = alliance["jinan"].member
        tree = jinan.store.logs.tree(jinan.ledger.log.id)
        held = jinan.membership.own_card[1]
        key = replace(jinan.lab, generation=2).log.key
        former = FormerLogKey(held.log_key, size, tree.root(size) if root is None else root)
        jinan.membership._objector = None
        jinan.membership.issue_card(lambda card: replace(card, log_key=key, former_log_keys=(*card.former_log_keys, former)))
        return alliance.tell_card("jinan", "qingdao", "yantai", "weifang")

    @pytest.mark.parametrize("size", [0, 1, 2, 3])
    def test_a_card_that_disowns_what_a_quorum_has_seen(self, seen: RotatingAlliance, size: int) -> None:
        held = {name: card_of(seen, name) for name in ("qingdao", "yantai", "weifang")}
        before = {name: visible(seen[name].member.store) for name in held}
        faults = self.disown(seen, size)
        assert len(faults) == 3
        assert all(f"ends a log key at size {size}, but a quorum" in fault and "size 4" in fault for fault in faults)
        assert {name: card_of(seen, name) for name in held} == held
        assert {name: visible(seen[name].member.store) for name in held} == before

    def test_no_lesser_fault_hides_the_attempt(self, seen: RotatingAlliance) -> None:
        """Of each member a node keeps one alarm for each kind of fault, so this one is a kind of its own."""
        alarms, jinan = Alarms(), seen["jinan"].member
        lesser = sign_card(replace(jinan.membership.own_card[1], seq=2, previous="0" * 64), jinan.lab)
        worse = self.disown(seen, 3)[0]
        seen.simulated.tampering.cards = lambda cards: [lesser, *cards]
        seen.simulated.follow("qingdao", "jinan", lambda state: alarms.sentences(), on_alarm=alarms.raise_told)
        said = "jinan signed a card that cannot be taken: "
        assert alarms.sentences() == [f"{said}the card of jinan with seq 2 does not follow the held one", f"{said}{worse}"]

    @pytest.mark.parametrize("size", [4, 5, 6])
    def test_a_card_that_keeps_it(self, seen: RotatingAlliance, size: int) -> None:
        assert self.disown(seen, size) == []

    @pytest.mark.parametrize("size", [4, 6])
    def test_another_root_than_the_verified_one(self, seen: RotatingAlliance, size: int) -> None:
        """Whoever has verified that far refuses; who has not cannot know, and finds out when it gets there."""
        faults = self.disown(seen, size, bytes(32))
        assert len(faults) == (3 if size == 4 else 1)
        assert all("with another root than its log has there" in fault for fault in faults)

    def test_what_was_seen_stays_seen_when_its_witnesses_are_removed(self, seen: RotatingAlliance) -> None:
        qingdao = seen["qingdao"].member
        joined = qingdao.membership.joined
        former = FormerLogKey(joined.card("jinan").log_key, 2, qingdao.store.logs.tree(mirror(seen, "qingdao").id).root(2))
        card = replace(joined.card("jinan"), log_key=replace(seen["jinan"].member.lab, generation=2).log.key)
        card = replace(card, former_log_keys=(former,))
        assert find_disowned(qingdao.store, joined, joined.card("jinan"), card)
        for name in ("yantai", "qingdao"):  # both cosigned; they were members then
            seen["jinan"].member.membership.remove_member(name)
        assert find_disowned(qingdao.store, seen["jinan"].member.membership.joined, joined.card("jinan"), card)

    def test_the_author_s_own_node_refuses_to_sign_such_a_card(self, seen: RotatingAlliance) -> None:
        with pytest.raises(GovernanceError, match="cosigned the log up to size 4"):
            seen["jinan"].rotation.revoke_log(3)

    def test_a_thief_with_the_old_key_convinces_nobody(self, seen: RotatingAlliance) -> None:
        """After the revocation a checkpoint by the stolen key, larger or of another history, is nobody's."""
        jinan = seen["jinan"]
        thief = jinan.signer("log")
        jinan.rotation.revoke_log(4)
        seen.tell_card("jinan", "qingdao", "yantai", "weifang")
        for size, root in ((5, bytes(32)), (9, bytes(32))):
            note = bytes(sign_checkpoint(Checkpoint(jinan.member.lab.origin, size, root), thief))
            for name in ("qingdao", "yantai", "weifang"):
                assert seen[name].member.exchange.accept_notes([note], peer="qingdao") == (0, [])

    def test_two_histories_under_a_valid_key_are_still_a_split_view(self, seen: RotatingAlliance) -> None:
        jinan = seen["jinan"]
        thief = jinan.signer("log")
        jinan.rotation.revoke_log(4)
        seen.tell_card("jinan", "yantai")
        note = bytes(sign_checkpoint(Checkpoint(jinan.member.lab.origin, 2, bytes(32)), thief))
        _, splits = seen["yantai"].member.exchange.accept_notes([note], peer="qingdao")
        assert [type(split) for split in splits] == [SplitViewError]
