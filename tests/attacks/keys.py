"""Keys: those under which one signature fits every message, one key in two places, and keys whose time is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

from node.core.alliance import format_card
from node.core.bundle import Bundle
from node.core.card import CARD_TYPE, FormerLogKey, FormerWitnessKey, card_content
from node.core.checkpoint import Checkpoint, cosign_checkpoint, sign_checkpoint
from node.core.keys import LOW_ORDER_ENCODINGS, TYPE_LOG, TYPE_WITNESS, Signer, VerifierKey, format_base64
from tests.alliance import NOON
from tests.attacks.scene import (
    JINAN,
    QINGDAO,
    SEEN,
    SIZE,
    STRANGER,
    WEIFANG,
    YANTAI,
    Scene,
    dump_tables,
    signed_by_jinan,
)
from tests.attacks.surfaces import BUNDLE, CALL, CARD, PROPERTY
from tests.attacks.table import attack
from tests.builders import Lab, build_roster, certificate, sign_card, sign_content, sign_roster
from tests.sync.equivocation import open_session

FAMILY = "keys"
NOON_S = int(NOON.timestamp())


def next_card(scene: Scene, lab: Lab = YANTAI, **changes: Any) -> bytes:
    """The card that could follow a member's newest, with `changes`, signed as it should be."""
    return sign_card(changed_card(scene, lab, **changes), lab)


def changed_card(scene: Scene, lab: Lab = YANTAI, **changes: Any):
    envelope, card = scene.joined.cards[lab.member]
    return replace(card, **{"seq": card.seq + 1, "previous": envelope.hash, **changes})


def with_line(bundle: Bundle, scene: Scene, lab: Lab, time: int = NOON_S, *, lines: int = 1, **cards: bytes) -> Bundle:
    """The bundle whose newest checkpoint has a further cosignature, and the cards that go with it."""
    line = cosign_checkpoint(scene.checkpoint().checkpoint, lab.witness, time).line
    held = {lab.member: format_card(scene.joined.cards[lab.member])} if lab.member in scene.joined.cards else {}
    proof = bundle.proof + f"{line}\n".encode() * lines
    return replace(bundle, proof=proof, cards={**bundle.cards, **held, **cards})


def low_order(number: int, raw: bytes) -> None:
    def a_log_key_of_low_order(scene):
        content = card_content(changed_card(scene))
        content["log_key"] = str(VerifierKey(YANTAI.origin, TYPE_LOG, raw))
        return sign_content(content, CARD_TYPE, YANTAI.sign)

    a_log_key_of_low_order.__name__ += f"_{number}"
    attack(FAMILY, CARD, "FORMAT", "one signature would fit every message")(a_log_key_of_low_order)


for _number, _raw in enumerate(sorted(LOW_ORDER_ENCODINGS), 1):
    low_order(_number, _raw)


@attack(FAMILY, CARD, "FORMAT", "low order")
def a_witness_key_of_low_order(scene):
    content = card_content(changed_card(scene))
    content["witness_key"] = str(VerifierKey(YANTAI.witness.key.name, TYPE_WITNESS, bytes(32)))
    return sign_content(content, CARD_TYPE, YANTAI.sign)


@attack(FAMILY, CARD, "FORMAT", "identity_key.*low order")
def an_identity_key_of_low_order(scene):
    content = card_content(changed_card(scene)) | {"identity_key": format_base64(bytes(32))}
    return sign_content(content, CARD_TYPE, YANTAI.sign)


@attack(FAMILY, CARD, "FORMAT", "one key serves in two roles")
def one_key_for_log_and_cosignatures(scene):
    return next_card(scene, witness_key=replace(YANTAI.witness.key, public_key=YANTAI.log.key.public_key))


@attack(FAMILY, CARD, "FORMAT", "one key serves in two roles")
def the_identity_key_as_log_key(scene):
    return next_card(scene, log_key=replace(YANTAI.log.key, public_key=YANTAI.identity_key))


@attack(FAMILY, CARD, "FORMAT", "signature type 4, 1 is needed|has signature type")
def a_witness_key_as_log_key(scene):
    return next_card(scene, log_key=YANTAI.witness.key)


@attack(FAMILY, CARD, "FORMAT", "the name must be")
def a_log_key_in_another_members_name(scene):
    return next_card(scene, log_key=JINAN.log.key)


@attack(FAMILY, CARD, "FORMAT", "drops a log key")
def a_log_key_that_vanishes(scene):
    return next_card(scene, log_key=replace(YANTAI, generation=2).log.key)


@attack(FAMILY, CARD, "SIGNATURE", "not signed by the identity key")
def a_card_that_another_member_signed(scene):
    return sign_card(changed_card(scene), QINGDAO)


@attack(FAMILY, CARD, "SIGNATURE", "not signed by the identity key")
def a_card_with_an_identity_key_of_its_own(scene):
    return sign_card(changed_card(scene, identity_key=STRANGER.identity_key), STRANGER)


@attack(FAMILY, CARD, "GOVERNANCE", "two different cards with seq 1")
def two_cards_of_one_number(scene):
    return next_card(scene, seq=1, previous=None, name="Another Yantai Institute")


@attack(FAMILY, CARD, "GOVERNANCE", "does not follow the held one")
def a_card_that_follows_no_other(scene):
    return next_card(scene, previous="0" * 64)


@attack(FAMILY, CARD, "GOVERNANCE", "not in the roster")
def a_card_of_a_stranger(scene):
    return sign_card(changed_card(scene, member="zibo", **_names_of(STRANGER)), STRANGER)


def _names_of(lab: Lab) -> dict[str, Any]:
    return {
        "identity_key": lab.identity_key,
        "log_key": lab.log.key,
        "witness_key": lab.witness.key,
        "tls_certificates": (lab.certificate,),
    }


@attack(FAMILY, CARD, "FORMAT", "the certificate is not for yantai")
def the_certificate_of_another_member(scene):
    return next_card(scene, tls_certificates=(JINAN.certificate,))


@attack(FAMILY, CARD, "FORMAT", "not ECDSA on P-256")
def a_certificate_on_another_curve(scene):
    return next_card(scene, tls_certificates=(certificate("x.example", curve="secp384r1"),))


@attack(FAMILY, BUNDLE, "cosignatures", "no active member has the witness key of .*weifang")
def a_cosignature_by_a_former_member(bundle, scene):
    return with_line(bundle, scene, WEIFANG)


@attack(FAMILY, BUNDLE, "cosignatures", "no active member has the witness key")
def a_cosignature_by_a_stranger(bundle, scene):
    return with_line(bundle, scene, STRANGER)


@attack(FAMILY, BUNDLE, "cosignatures", "jinan cannot count")
def a_cosignature_by_the_author_itself(bundle, scene):
    return with_line(bundle, scene, JINAN)


@attack(FAMILY, BUNDLE, "cosignatures", "yantai cannot count")
def one_member_cosigns_twice(bundle, scene):
    return with_line(bundle, scene, YANTAI, NOON_S + 1)


@attack(FAMILY, BUNDLE, "cosignatures", "the cosignature of (qingdao|yantai) cannot count")
def one_key_under_two_names(bundle, scene):
    """qingdao's next card has yantai's witness key; both names stand under the checkpoint."""
    former = FormerWitnessKey(QINGDAO.witness.key, NOON + timedelta(days=1))
    shared = replace(QINGDAO.witness, key=replace(QINGDAO.witness.key, public_key=YANTAI.witness.key.public_key))
    card = changed_card(scene, QINGDAO, witness_key=shared.key, former_witness_keys=(former,))
    line = cosign_checkpoint(scene.checkpoint().checkpoint, replace(shared, sign=YANTAI.witness.sign), NOON_S).line
    proof = bundle.proof + f"{line}\n".encode()
    return replace(bundle, proof=proof, cards={**bundle.cards, "qingdao": sign_card(card, QINGDAO)})


@attack(FAMILY, BUNDLE, "cosignatures", "the cosignature of qingdao cannot count")
def anothers_cosignature_given_again(bundle, scene):
    """qingdao's next card names yantai's witness key as a former one, and yantai's cosignature stands under both names."""
    borrowed = replace(QINGDAO.witness.key, public_key=YANTAI.witness.key.public_key)
    former = (FormerWitnessKey(borrowed, NOON + timedelta(days=1)),)
    card = changed_card(scene, QINGDAO, former_witness_keys=former)
    line = cosign_checkpoint(scene.checkpoint().checkpoint, Signer(borrowed, YANTAI.witness.sign), NOON_S).line
    lines = bundle.proof.splitlines(keepends=True)
    others = b"".join(each for each in lines if not each.startswith(f"\u2014 {borrowed.name} ".encode()))
    return replace(bundle, proof=others + f"{line}\n".encode(), cards={**bundle.cards, "qingdao": sign_card(card, QINGDAO)})


@attack(FAMILY, BUNDLE, "cosignatures", "retired before")
def a_witness_key_used_after_its_time(bundle, scene):
    fresh = replace(QINGDAO, generation=2).witness.key
    former = FormerWitnessKey(QINGDAO.witness.key, NOON - timedelta(seconds=1))
    card = next_card(scene, QINGDAO, witness_key=fresh, former_witness_keys=(former,))
    return with_line(bundle, scene, QINGDAO, qingdao=card)


@attack(FAMILY, BUNDLE, "checkpoint", "does not cover this root|no signature by a known key")
def a_log_key_used_beyond_its_size(bundle, scene):
    former = FormerLogKey(JINAN.log.key, 10, bytes(32))
    card = next_card(scene, JINAN, log_key=replace(JINAN, generation=2).log.key, former_log_keys=(former,))
    return replace(bundle, cards={**bundle.cards, "jinan": card})


@attack(FAMILY, BUNDLE, "cards", "not signed by the identity key")
def a_card_in_a_bundle_signed_by_another(bundle, scene):
    return replace(bundle, cards={**bundle.cards, "jinan": sign_card(changed_card(scene, JINAN), YANTAI)})


@attack(FAMILY, BUNDLE, "cards", "is the card of another member")
def a_card_under_another_name(bundle, scene):
    cards = dict(bundle.cards)
    cards["qingdao"] = cards.pop("yantai")
    return replace(bundle, cards=cards)


@attack(FAMILY, BUNDLE, "roster", "no roster in the file has the fingerprint")
def a_whole_alliance_of_ones_own(bundle, scene):
    return replace(bundle, rosters=(sign_roster(build_roster([JINAN, YANTAI]), JINAN),))


@attack(FAMILY, CARD, "GOVERNANCE", "the log key in the card of yantai signs for jinan already")
def another_members_log_key_copied(scene):
    copied = replace(YANTAI.log.key, public_key=JINAN.log.key.public_key)
    former = FormerLogKey(YANTAI.log.key, 0, sha256(b"").digest())
    return next_card(scene, log_key=copied, former_log_keys=(former,))


@attack(FAMILY, CARD, "FORMAT", "puts a former log key before the one that it still uses")
def a_former_key_that_was_never_used(scene):
    former = FormerLogKey(replace(YANTAI, generation=3).log.key, 0, sha256(b"").digest())
    return next_card(scene, former_log_keys=(former,))


@attack(FAMILY, CARD, "FORMAT", "drops a witness key")
def a_witness_key_that_vanishes(scene):
    return next_card(scene, witness_key=replace(YANTAI, generation=2).witness.key)


def end_key_of_jinan(scene: Scene, size: int) -> bytes:
    """The card by which jinan ends its log key: what that key signs beyond `size` is a thief's."""
    root = scene.jinan.store.logs.tree(scene.jinan.ledger.log.id).root(size)
    former = FormerLogKey(scene.joined.card("jinan").log_key, size, root)
    return next_card(scene, JINAN, log_key=replace(JINAN, generation=2).log.key, former_log_keys=(former,))


@attack(FAMILY, CALL, "SIGNATURE", "no signature by a known key|does not verify")
def a_thief_goes_on_with_a_revoked_log_key(scene):
    """Nothing of its longer history is taken from whoever serves it."""
    with scene.undone():
        assert scene.reader.membership.accept_update([], [end_key_of_jinan(scene, SEEN)]).faults == ()
        before = dump_tables(scene.reader.store)
        try:
            open_session(scene.alliance, "qingdao", "jinan").apply(signed_by_jinan(SIZE + 5, bytes(32)))
        finally:
            assert dump_tables(scene.reader.store) == before


@attack(FAMILY, PROPERTY, "", "")
def a_note_of_a_former_member_beyond_its_cut(scene):
    """Weifang was removed with an empty log: what its key signs from then on is not even remembered."""
    note = bytes(sign_checkpoint(Checkpoint(WEIFANG.origin, 5, bytes(32)), WEIFANG.log))
    assert scene.reader.exchange.accept_notes([note], peer="yantai") == (0, [])
    assert scene.reader.exchange.unreached.count(WEIFANG.origin) == 0
    assert not scene.reader.exchange.cosign_head(WEIFANG.origin)
