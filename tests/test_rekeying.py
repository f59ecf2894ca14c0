"""A new identity key takes back nothing that its member has signed, whether its home forgot it or its people lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.core.alliance import format_card
from node.core.amendment import ReplaceIdentity
from node.core.card import CARD_TYPE, Card, FormerLogKey, card_content, parse_card
from node.core.dsse import build_envelope, format_envelope
from node.core.quorums import Quorum
from node.core.succession import SignedCard
from node.disowning import find_unnamed
from node.errors import GovernanceError, SignatureError
from node.identity import propose_identity
from node.store.checkpoints import CheckpointStore
from node.sync.evidence import open_surviving
from node.sync.revoked import forget_all_uncounted, forget_uncounted
from tests.alliance import drafts, visible
from tests.rotating import RotatingAlliance

READERS = ("jinan", "yantai")


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[RotatingAlliance]:
    """Qingdao has rotated its log key at size 3; both others have cosigned three entries of each key."""
    made = RotatingAlliance(tmp_path / "alliance", 3)
    qingdao = made["qingdao"].member
    qingdao.push(*drafts(3, "A"))
    tell(made)
    qingdao.snapshot(tmp_path / "old")
    made["qingdao"].rotation.rotate("log")
    qingdao.push(*drafts(3, "B"))
    assert not made.tell_card("qingdao", *READERS)
    tell(made)
    yield made
    made.close()


def tell(alliance: RotatingAlliance, *, cosigned: bool = True) -> None:
    for name in READERS:
        alliance.simulated.catch_up(name, "qingdao")
        if cosigned:
            alliance[name].member.exchange.cosign_head(alliance["qingdao"].member.lab.origin)
    for reader, other in (READERS, READERS[::-1]):
        alliance[reader].member.exchange.accept_notes(alliance[other].member.exchange.held_notes(), peer=other)


def sign_first(own: SignedCard, **changes: object) -> bytes:
    """The next card, under another identity key."""
    key = Ed25519PrivateKey.generate()
    envelope, card = own
    identity = key.public_key().public_bytes_raw()
    card = replace(card, identity_key=identity, seq=card.seq + 1, previous=envelope.hash, **changes)  # type: ignore[arg-type]
    return format_envelope(build_envelope(card_content(card), CARD_TYPE, key.sign))


def other_log_key(alliance: RotatingAlliance, card: Card) -> dict[str, object]:
    return {"log_key": replace(card.log_key, public_key=Ed25519PrivateKey.generate().public_key().public_bytes_raw())}


def rekey_blindly(alliance: RotatingAlliance, raw: bytes) -> tuple[str, ...]:
    """The council does not look; returns what yantai says to the card, which has looked."""
    jinan = alliance["jinan"].member
    jinan.membership._objector = None
    jinan.membership.amend(ReplaceIdentity("qingdao", raw))
    return alliance["yantai"].member.membership.accept_update(*alliance.simulated.exported("jinan")).faults


def held_sizes(alliance: RotatingAlliance) -> dict[str, int]:
    """How much of qingdao's log each reader holds."""
    return {name: alliance[name].member.mirror_of("qingdao").head_size for name in READERS}


def require_nothing_lost(alliance: RotatingAlliance, raw: bytes, match: str) -> None:
    before = {name: visible(alliance[name].member.store) for name in READERS}
    for name in READERS:
        objector = alliance[name].member.membership._objector
        assert objector is not None
    with pytest.raises(GovernanceError, match=match) as refused:
        alliance["jinan"].member.membership.amend(ReplaceIdentity("qingdao", raw))
    assert "labmesh join FILE" in refused.value.hint and "keys identity" in refused.value.hint
    faults = rekey_blindly(alliance, raw)
    assert len(faults) == 1 and "does not name the log key" in faults[0]
    assert "qingdao" not in alliance["yantai"].member.membership.joined.cards
    sentences = []
    for name in READERS:
        member = alliance[name].member
        sentences += forget_all_uncounted(member.store, member.exchange, member.membership)
    assert {name: visible(alliance[name].member.store) for name in READERS} == before
    assert len(sentences) == 1 and "that is kept" in sentences[0], "the one that took the card says so"


def test_a_home_that_was_restored_from_before_a_rotation(alliance: RotatingAlliance, tmp_path: Path) -> None:
    qingdao = alliance["qingdao"]
    qingdao.member.roll_back(tmp_path / "old")
    qingdao.files.path("identity").unlink()
    raw = propose_identity(qingdao.files, qingdao.member.membership.own_card)
    assert parse_card(raw)[1].former_log_keys == (), "the home has forgotten its second key"
    require_nothing_lost(alliance, raw, "of what a quorum has cosigned at size 6")
    assert held_sizes(alliance) == {"jinan": 6, "yantai": 6}


def test_the_way_that_the_hint_names(alliance: RotatingAlliance, tmp_path: Path) -> None:
    qingdao = alliance["qingdao"]
    qingdao.member.roll_back(tmp_path / "old")
    stale = propose_identity(qingdao.files, qingdao.member.membership.own_card)
    jinan = alliance["jinan"].member.membership
    with pytest.raises(GovernanceError, match="does not name the log key"):
        jinan.amend(ReplaceIdentity("qingdao", stale))
    qingdao.member.membership.import_alliance(*alliance.simulated.exported("jinan"), fingerprint=None)
    raw = propose_identity(qingdao.files, qingdao.member.membership.own_card)
    jinan.amend(ReplaceIdentity("qingdao", raw))
    update = alliance["yantai"].member.membership.accept_update(*alliance.simulated.exported("jinan"))
    assert update.changed and not update.faults


def test_a_liar_who_leaves_its_former_keys_out(alliance: RotatingAlliance) -> None:
    own = alliance["qingdao"].member.membership.own_card
    raw = sign_first(own, former_log_keys=(), **other_log_key(alliance, own[1]))
    require_nothing_lost(alliance, raw, "cosigned at size 3")
    assert held_sizes(alliance) == {"jinan": 6, "yantai": 6}


def test_what_a_quorum_has_seen_is_read_in_one_query(alliance: RotatingAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands of such checkpoints; the smallest that is not vouched for is named."""
    jinan, own = alliance["jinan"].member, alliance["qingdao"].member.membership.own_card
    log = jinan.mirror_of("qingdao")
    seen = jinan.store.checkpoints.load_seen(log.id, [Quorum(1, frozenset(READERS), None)])
    assert [signed.size for signed in seen] == [3, 6]
    assert [signed.root for signed in seen] == [jinan.store.logs.tree(log.id).root(size) for size in (3, 6)]
    assert jinan.store.checkpoints.load_seen(log.id, [Quorum(3, frozenset(READERS), None)]) == []
    liar = replace(own[1], former_log_keys=(), **other_log_key(alliance, own[1]))  # type: ignore[arg-type]

    def one_by_one(*_: object) -> None:
        raise AssertionError("a checkpoint was read by itself")

    monkeypatch.setattr(CheckpointStore, "find", one_by_one)
    assert "at size 3" in (find_unnamed(jinan.store, jinan.membership.joined, liar) or "")
    assert find_unnamed(jinan.store, jinan.membership.joined, own[1]) is None


def test_a_liar_who_leaves_only_the_first_one_out(alliance: RotatingAlliance) -> None:
    own = alliance["qingdao"].member.membership.own_card
    with pytest.raises(GovernanceError, match="cosigned at size 3"):
        alliance["jinan"].member.membership.amend(ReplaceIdentity("qingdao", sign_first(own, former_log_keys=())))


@pytest.mark.parametrize("size", [3, 5])
def test_a_liar_who_ends_its_key_below_what_a_quorum_has_seen(alliance: RotatingAlliance, size: int) -> None:
    own = alliance["qingdao"].member.membership.own_card
    tree = alliance["jinan"].member.store.logs.tree(alliance["jinan"].member.mirror_of("qingdao").id)
    ended = (*own[1].former_log_keys, FormerLogKey(own[1].log_key, size, tree.root(size)))
    raw = sign_first(own, former_log_keys=ended, **other_log_key(alliance, own[1]))
    with pytest.raises(GovernanceError, match="cosigned at size 6"):
        alliance["jinan"].member.membership.amend(ReplaceIdentity("qingdao", raw))
    assert any("cosigned at size 6" in fault for fault in rekey_blindly(alliance, raw))


def test_what_nobody_has_cosigned_can_be_ended_but_not_left_out(alliance: RotatingAlliance) -> None:
    qingdao, jinan = alliance["qingdao"].member, alliance["jinan"].member
    qingdao.push(*drafts(2, "C"))
    tell(alliance, cosigned=False)
    own = qingdao.membership.own_card
    tree = jinan.store.logs.tree(jinan.mirror_of("qingdao").id)
    former = FormerLogKey(own[1].log_key, 6, tree.root(6))
    ended = (*own[1].former_log_keys, former)
    raw = sign_first(own, former_log_keys=ended, **other_log_key(alliance, own[1]))
    jinan.membership.amend(ReplaceIdentity("qingdao", raw))
    assert forget_uncounted(jinan.store, jinan.exchange, jinan.membership.joined.card("qingdao"))
    assert jinan.mirror_of("qingdao").head_size == 6


def test_a_thief_who_signs_one_more_card_keeps_the_member_s_own_out_of_nothing(alliance: RotatingAlliance) -> None:
    """The thief of the identity key rotates the log key: that says nothing of what was signed before."""
    qingdao, jinan = alliance["qingdao"].member, alliance["jinan"].member
    own = qingdao.membership.own_card
    raw = sign_first(own)
    tree = jinan.store.logs.tree(jinan.mirror_of("qingdao").id)
    former = (*own[1].former_log_keys, FormerLogKey(own[1].log_key, 6, tree.root(6)))
    qingdao.membership.issue_card(lambda card: replace(card, former_log_keys=former, **other_log_key(alliance, card)))  # type: ignore[arg-type]
    assert not alliance.tell_card("qingdao", *READERS)
    jinan.membership.amend(ReplaceIdentity("qingdao", raw))
    update = alliance["yantai"].member.membership.accept_update(*alliance.simulated.exported("jinan"))
    assert update.changed and not update.faults
    assert format_card(jinan.membership.joined.cards["qingdao"]) == raw


def test_a_witness_key_whose_cosignatures_are_held(alliance: RotatingAlliance) -> None:
    qingdao, jinan = alliance["qingdao"].member, alliance["jinan"].member
    jinan.push(*drafts(1, "J"))
    alliance.simulated.catch_up("qingdao", "jinan")
    assert qingdao.exchange.cosign_head(jinan.lab.origin)
    assert jinan.exchange.accept_notes(qingdao.exchange.held_notes(), peer="qingdao")[0]
    own = qingdao.membership.own_card
    other = replace(own[1].witness_key, public_key=Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(GovernanceError, match="witness key of every cosignature"):
        jinan.membership.amend(ReplaceIdentity("qingdao", sign_first(own, witness_key=other)))
    jinan.membership.amend(ReplaceIdentity("qingdao", sign_first(own)))


def test_a_log_that_nothing_vouches_for_is_kept_and_not_read_on(alliance: RotatingAlliance) -> None:
    jinan = alliance["jinan"].member
    own = alliance["qingdao"].member.membership.own_card[1]
    card = replace(own, former_log_keys=(), **other_log_key(alliance, own))  # type: ignore[arg-type]
    before = visible(jinan.store)
    assert not forget_uncounted(jinan.store, jinan.exchange, card)
    with pytest.raises(SignatureError, match="that is kept"):
        open_surviving(jinan.store, jinan.exchange, card)
    assert visible(jinan.store) == before
