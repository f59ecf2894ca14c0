"""The verdict's steps 1 to 4: the roster, the cards, the checkpoint and its cosignatures each fail by their own mutation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from node.core.bundle import Bundle
from node.core.card import FormerLogKey, FormerWitnessKey
from node.core.checkpoint import SignedCheckpoint, cosign_checkpoint
from node.core.keys import TYPE_WITNESS, Signer, VerifierKey
from node.core.note import Note
from node.core.proof import format_tlog_proof
from node.core.roster import Head
from tests.builders import (
    NOW_S,
    START,
    BundleCase,
    Lab,
    build_bundle_case,
    build_card,
    build_labs,
    build_log,
    build_members,
    build_roster_chain,
    cosign,
    sign_card,
    sign_roster,
)
from tests.core.verdicts import (
    JINAN,
    LABS,
    QINGDAO,
    YANTAI,
    assert_fails_at,
    good_case,
    misnamed,
    resigned_checkpoint,
    verdict_on,
    with_checkpoint,
)

# Step 1


def resigned(version: int, *labs: Lab) -> tuple[bytes, ...]:
    rosters = [sign_roster(roster, *labs) for _, roster in good_case().alliance.rosters]
    return tuple(raw if i == version else good_case().rosters[i - 1] for i, raw in enumerate(rosters, 1))


ROSTER_FAULTS: dict[str, Callable[[Bundle], Bundle]] = {
    "no roster": lambda b: replace(b, rosters=()),
    "only the second": lambda b: replace(b, rosters=b.rosters[1:]),
    "only the first, where the second is pinned": lambda b: replace(b, rosters=b.rosters[:1]),
    "in another order": lambda b: replace(b, rosters=b.rosters[::-1]),
    "the first twice": lambda b: replace(b, rosters=(b.rosters[0], *b.rosters)),
    "signed by too few": lambda b: replace(b, rosters=resigned(2, JINAN)),
    "signed by strangers": lambda b: replace(b, rosters=resigned(2, Lab("x"), Lab("y"), Lab("z"))),
    "the first signed by another": lambda b: replace(b, rosters=resigned(1, QINGDAO)),
    "not a roster": lambda b: replace(b, rosters=(b.cards["jinan"], b.rosters[1])),
    "not JSON": lambda b: replace(b, rosters=(b.rosters[0], b"{")),
    "another alliance": lambda b: replace(b, rosters=tuple(build_roster_chain(build_labs(3, "other.example")))),
}


@pytest.mark.parametrize("mutate", ROSTER_FAULTS.values(), ids=ROSTER_FAULTS)
def test_step_1_roster(mutate: Callable[[Bundle], Bundle]) -> None:
    assert_fails_at(verdict_on(mutate(good_case().bundle())), "roster")


@pytest.mark.parametrize("wrong", ["00" * 32, "", "FFFF"])
def test_step_1_fingerprint(wrong: str) -> None:
    verdict = verdict_on(good_case().bundle(), wrong)
    assert "fingerprint" in assert_fails_at(verdict, "roster")


def test_step_1_the_fingerprint_in_capitals_is_another() -> None:
    assert_fails_at(verdict_on(good_case().bundle(), good_case().fingerprint.upper()), "roster")


# Step 2


def with_cards(**cards: bytes) -> Callable[[Bundle], Bundle]:
    return lambda b: replace(b, cards={**b.cards, **cards})


CARD_FAULTS: dict[str, Callable[[Bundle], Bundle]] = {
    "no card of the author": lambda b: replace(b, cards={m: raw for m, raw in b.cards.items() if m != "jinan"}),
    "no card": lambda b: replace(b, cards={}),
    "signed by another member": with_cards(jinan=sign_card(build_card(JINAN), QINGDAO)),
    "under another's name": lambda b: replace(b, cards={"jinan": b.cards["qingdao"], "qingdao": b.cards["jinan"]}),
    "one card under two names": lambda b: replace(b, cards={**b.cards, "yantai": b.cards["qingdao"]}),
    "the card of a stranger": with_cards(dezhou=sign_card(build_card(Lab("dezhou")), Lab("dezhou"))),
    "another alliance's card": with_cards(
        jinan=sign_card(build_card(Lab("jinan", "other.example")), Lab("jinan", "other.example"))
    ),
    "a roster for a card": lambda b: replace(b, cards={**b.cards, "jinan": b.rosters[0]}),
    "not JSON": with_cards(jinan=b"{"),
}


@pytest.mark.parametrize("mutate", CARD_FAULTS.values(), ids=CARD_FAULTS)
def test_step_2_cards(mutate: Callable[[Bundle], Bundle]) -> None:
    assert_fails_at(verdict_on(mutate(good_case().bundle())), "cards")


PROOF_TEXTS: dict[str, bytes] = {
    "empty": b"",
    "no UTF-8": b"\xff",
    "no proof": b"hello\n\nnote\n",
    "no checkpoint in it": b"c2sp.org/tlog-proof@v1\nindex 1\n\nnote\n",
    "CRLF": b"c2sp.org/tlog-proof@v1\r\nindex 1\r\n\r\nnote\r\n",
}


@pytest.mark.parametrize("raw", PROOF_TEXTS.values(), ids=PROOF_TEXTS)
def test_step_2_the_proofs_must_parse_to_tell_whose_card_is_needed(raw: bytes) -> None:
    bundle = good_case().bundle()
    assert "record.tlog-proof" in assert_fails_at(verdict_on(replace(bundle, proof=raw)), "cards")
    assert "first.tlog-proof" in assert_fails_at(verdict_on(replace(bundle, first_proof=raw)), "cards")


def test_step_2_a_log_of_no_member() -> None:
    stranger = build_log(Lab("dezhou"), 2)
    proof = format_tlog_proof(stranger.proof(1, stranger.checkpoint())).encode()
    assert "dezhou" in assert_fails_at(verdict_on(replace(good_case().bundle(), proof=proof)), "cards")


def shared_witness() -> Bundle:
    """Yantai's card names qingdao's witness key as its own."""
    shared = Signer(VerifierKey(YANTAI.witness.key.name, TYPE_WITNESS, QINGDAO.witness.key.public_key), QINGDAO.witness.sign)
    case = good_case()
    cards = {**case.cards, "yantai": sign_card(build_card(YANTAI, witness_key=shared.key), YANTAI)}
    newest = cosign(case.log.checkpoint(), {QINGDAO: NOW_S})
    line = cosign_checkpoint(newest.checkpoint, shared, NOW_S).line
    return replace(replace(case, cards=cards, newest=newest.with_lines((line,))).bundle(), first_proof=None)


def test_step_2_one_key_for_two_members() -> None:
    """No card proves a right to a key, so it is the second line by one key that cannot count."""
    assert "cannot count" in assert_fails_at(verdict_on(shared_witness()), "cosignatures")


# Step 3


def unsigned(signed: SignedCheckpoint) -> SignedCheckpoint:
    return replace(signed, note=Note(signed.note.text, signed.note.signatures[1:]))


CHECKPOINT_FAULTS: dict[str, Callable[[BundleCase], Bundle]] = {
    "by another member": lambda c: with_checkpoint(resigned_checkpoint(c.newest, misnamed(QINGDAO))),
    "by another member, the first": lambda c: with_checkpoint(resigned_checkpoint(c.first, misnamed(QINGDAO)), first=True),
    "by a later key": lambda c: with_checkpoint(resigned_checkpoint(c.newest, replace(JINAN, generation=2).log)),
    "without the author's signature": lambda c: with_checkpoint(unsigned(c.newest)),
    "without the author's signature, the first": lambda c: with_checkpoint(unsigned(c.first), first=True),
    "the first is the larger one": lambda c: replace(c, first=c.newest, newest=c.first).bundle(),
    "the first is of another log": lambda c: with_checkpoint(build_log(QINGDAO, 3).checkpoint(), first=True),
    "two roots for one size": lambda c: with_checkpoint(
        resigned_checkpoint(c.newest, JINAN.log, root=bytes(32)), first=True
    ),
}


@pytest.mark.parametrize("make", CHECKPOINT_FAULTS.values(), ids=CHECKPOINT_FAULTS)
def test_step_3_checkpoint(make: Callable[[BundleCase], Bundle]) -> None:
    assert_fails_at(verdict_on(make(good_case())), "checkpoint")


@pytest.mark.parametrize(
    ("retired_at", "root_fits", "holds"), [(3, True, False), (5, True, True), (5, False, False), (9, True, True)]
)
def test_step_3_the_key_must_be_valid_at_the_size(retired_at: int, root_fits: bool, holds: bool) -> None:
    case = good_case()
    root = case.log.tree.root(min(retired_at, 5)) if root_fits else bytes(32)
    second = replace(JINAN, generation=2)
    card = build_card(second, former_log_keys=(FormerLogKey(JINAN.log.key, retired_at, root),))
    bundle = replace(case.bundle(), cards={**case.cards, "jinan": sign_card(card, JINAN)})
    if holds:
        assert verdict_on(bundle).verified
    else:
        assert_fails_at(verdict_on(bundle), "checkpoint")


def case_with_head(head: Head) -> BundleCase:
    members = build_members(LABS)
    cut = replace(members["jinan"], status="removed", left=START + timedelta(days=3), head=head)
    return build_bundle_case(members={**members, "jinan": cut})


@pytest.mark.parametrize(("size", "holds"), [(0, False), (1, False), (2, True), (4, True), (9, True)])
def test_step_3_nothing_beyond_the_roster_s_cut_counts(size: int, holds: bool) -> None:
    case = case_with_head(Head(size, good_case().log.tree.root(min(size, 5))))
    verdict = verdict_on(case.bundle(), case.fingerprint)
    if holds:
        assert verdict.verified
    else:
        assert f"at size {size}" in assert_fails_at(verdict, "checkpoint")


@pytest.mark.parametrize("size", [3, 5])
def test_step_3_at_the_roster_s_cut_only_its_root_counts(size: int) -> None:
    case = case_with_head(Head(size, bytes(32)))
    assert "another history" in assert_fails_at(verdict_on(case.bundle(), case.fingerprint), "checkpoint")


# Step 4


def retired_witness() -> Bundle:
    case = good_case()
    second = replace(QINGDAO, generation=2)
    card = build_card(
        QINGDAO, witness_key=second.witness.key, former_witness_keys=(FormerWitnessKey(QINGDAO.witness.key, START),)
    )
    return replace(case, cards={**case.cards, "qingdao": sign_card(card, QINGDAO)}).bundle()


def two_generations() -> Bundle:
    """Qingdao cosigns with its retired key, while that was valid, and again with its new one."""
    case, second = good_case(), replace(QINGDAO, generation=2)
    former = FormerWitnessKey(QINGDAO.witness.key, datetime.fromtimestamp(NOW_S + 100, UTC))
    card = build_card(
        second, former_witness_keys=(former,), log_key=QINGDAO.log.key, tls_certificates=(QINGDAO.certificate,)
    )
    newest = cosign(case.log.checkpoint(), {QINGDAO: NOW_S, second: NOW_S + 200})
    cards = {**case.cards, "qingdao": sign_card(card, QINGDAO)}
    return replace(case, cards=cards, newest=newest).bundle()


def doubled_author() -> Bundle:
    newest = good_case().newest
    lines = (*newest.note.signatures, newest.note.signatures[0])
    return with_checkpoint(replace(newest, note=Note(newest.note.text, lines)))


COSIGNATURE_FAULTS: dict[str, Callable[[BundleCase], Bundle]] = {
    "a stranger": lambda c: with_checkpoint(cosign(c.newest, {Lab("dezhou"): NOW_S})),
    "a stranger on the first": lambda c: with_checkpoint(cosign(c.first, {Lab("dezhou"): NOW_S}), first=True),
    "the author itself": lambda c: with_checkpoint(cosign(c.newest, {JINAN: NOW_S})),
    "one member twice": lambda c: with_checkpoint(cosign(c.newest, {QINGDAO: NOW_S + 1000})),
    "a cosignature of another checkpoint": lambda c: with_checkpoint(c.newest.with_lines(c.first.note.signatures[1:2])),
    "a key that was retired before": lambda c: retired_witness(),
    "one member with two keys": lambda c: two_generations(),
    "the author's signature twice": lambda c: doubled_author(),
    "no card of a cosigner": lambda c: replace(c.bundle(), cards={m: r for m, r in c.cards.items() if m != "yantai"}),
    "a changed time": lambda c: replace(c.bundle(), proof=with_changed_time(c)),
}


def with_changed_time(case: BundleCase) -> bytes:
    signed = case.newest
    line = signed.note.signatures[1]
    earlier = replace(line, signature=(NOW_S - 10**6).to_bytes(8, "big") + line.signature[8:])
    note = Note(signed.note.text, (signed.note.signatures[0], earlier))
    return with_checkpoint(replace(signed, note=note)).proof


@pytest.mark.parametrize("make", COSIGNATURE_FAULTS.values(), ids=COSIGNATURE_FAULTS)
def test_step_4_cosignatures(make: Callable[[BundleCase], Bundle]) -> None:
    assert_fails_at(verdict_on(make(good_case())), "cosignatures")


def test_step_4_a_removed_member() -> None:
    members = build_members(LABS)
    gone = replace(members["yantai"], status="removed", left=START + timedelta(days=3))
    case = build_bundle_case(members={**members, "yantai": gone})
    assert "no active member" in assert_fails_at(verdict_on(case.bundle(), case.fingerprint), "cosignatures")
