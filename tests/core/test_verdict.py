"""The verdict: a good bundle verifies, and each of the eight steps fails by its own mutation."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

import pytest

from node.core.bundle import Bundle, format_bundle, parse_bundle
from node.core.card import FormerLogKey, FormerWitnessKey
from node.core.checkpoint import Checkpoint, SignedCheckpoint, cosign_checkpoint, parse_checkpoint, sign_checkpoint
from node.core.keys import TYPE_WITNESS, Signer, VerifierKey
from node.core.note import Note
from node.core.proof import TlogProof, format_tlog_proof, parse_tlog_proof
from node.core.roster import Head
from node.core.verdict import STEPS, Verdict, verdict_content
from node.errors import FormatError
from tests.builders import (
    BLOB,
    NOW_S,
    START,
    BundleCase,
    Lab,
    MemoryLog,
    build_bundle_case,
    build_card,
    build_labs,
    build_log,
    build_members,
    build_roster_chain,
    cosign,
    kinds,
    record_bytes,
    sign_card,
    sign_roster,
)
from tests.verifiers import agreed_verdict

JINAN, QINGDAO, YANTAI = LABS = build_labs(3)


@lru_cache(maxsize=1)
def good_case() -> BundleCase:
    return build_bundle_case()


def verdict_on(bundle: Bundle, fingerprint: str | None = None) -> Verdict:
    return agreed_verdict(bundle, fingerprint=good_case().fingerprint if fingerprint is None else fingerprint, kinds=kinds())


def assert_fails_at(verdict: Verdict, step: str) -> str:
    """Every step before holds, this one fails, no later one is reached; nothing is claimed. Returns what it says."""
    at = STEPS.index(step)
    assert [one.ok for one in verdict.steps] == [True] * at + [False] + [None] * (len(STEPS) - at - 1)
    assert [one.step for one in verdict.steps] == list(STEPS)
    assert not verdict.verified
    assert not verdict.quorum_met
    assert verdict.cosigners == {}
    assert verdict.seen_by is None
    assert verdict.steps[at].detail
    return verdict.steps[at].detail


# What holds


def test_a_good_bundle() -> None:
    verdict = verdict_on(good_case().bundle())
    assert [step.ok for step in verdict.steps] == [True] * 8, verdict.steps
    assert verdict.verified
    assert verdict.signer == "jinan"
    assert verdict.signed_size == 5
    assert verdict.record["key"] == "WJ-BLOB"
    assert (verdict.quorum_needed, verdict.quorum_met) == (2, True)
    assert verdict.cosigners == {"qingdao": NOW_S + 7, "yantai": NOW_S + 3}
    assert verdict.seen_by == NOW_S + 7


def test_a_good_bundle_as_a_file() -> None:
    assert verdict_on(parse_bundle(format_bundle(good_case().bundle()))).verified


def test_the_verdict_as_json() -> None:
    content = verdict_content(verdict_on(good_case().bundle()))
    assert sorted(content) == [
        "cosigners", "quorum", "record", "roster", "seen_by", "signed_size", "signer", "steps", "verified",
    ]  # fmt: skip
    assert content["cosigners"] == [
        {"member": "qingdao", "time": "2026-11-20T08:30:07Z"},
        {"member": "yantai", "time": "2026-11-20T08:30:03Z"},
    ]
    assert content["quorum"] == {"needed": 2, "met": True}
    assert content["roster"] == {"version": 2, "expires": "2027-01-01T00:00:00Z"}
    assert content["seen_by"] == "2026-11-20T08:30:07Z"
    assert [step["step"] for step in content["steps"]] == list(STEPS)
    assert content["verified"] is True


def test_a_refusal_as_json() -> None:
    content = verdict_content(verdict_on(good_case().bundle(), "00" * 32))
    assert content["verified"] is False
    assert content["roster"] is content["record"] is content["signer"] is content["seen_by"] is None
    assert content["cosigners"] == []
    assert [step["ok"] for step in content["steps"]] == [False] + [None] * 7


@pytest.mark.parametrize("version", [1, 2])
def test_any_version_serves_as_fingerprint(version: int) -> None:
    fingerprint = good_case().alliance.rosters[version - 1][0].hash
    assert verdict_on(good_case().bundle(), fingerprint).verified


@pytest.mark.parametrize(
    ("quorum", "times", "seen_by"),
    [
        (1, {1: 70, 2: 30}, 30),
        (2, {1: 70, 2: 30}, 70),
        (3, {1: 70, 2: 30, 3: 50}, 70),
        (2, {1: 70, 2: 30, 3: 50}, 50),
        (1, {1: 70, 2: 30, 3: 50}, 30),
    ],
)
def test_seen_by_is_the_quorum_th_smallest_time(quorum: int, times: dict[int, int], seen_by: int) -> None:
    labs = build_labs(4)
    case = good_case()
    cosigned = cosign(case.log.checkpoint(3), {labs[i]: NOW_S + seconds for i, seconds in times.items()})
    cards = {lab.member: sign_card(build_card(lab), lab) for lab in labs}
    other = replace(
        case, labs=labs, rosters=build_roster_chain(labs, quorum=quorum, threshold=3), cards=cards, first=cosigned
    )
    verdict = verdict_on(other.bundle(), other.fingerprint)
    assert verdict.verified, verdict.steps
    assert verdict.seen_by == NOW_S + seen_by
    assert verdict.quorum_met


def test_an_unmet_quorum_verifies_and_says_so() -> None:
    case = good_case()
    few = replace(
        case,
        first=cosign(case.log.checkpoint(3), {QINGDAO: NOW_S}),
        newest=cosign(case.log.checkpoint(), {QINGDAO: NOW_S + 9}),
    )
    verdict = verdict_on(few.bundle())
    assert verdict.verified
    assert (verdict.quorum_needed, verdict.quorum_met, verdict.seen_by) == (2, False, None)
    assert verdict.cosigners == {"qingdao": NOW_S}


def test_cosigners_of_two_checkpoints_do_not_add_up_to_a_quorum() -> None:
    case = good_case()
    split = replace(
        case, first=cosign(case.log.checkpoint(3), {QINGDAO: NOW_S}), newest=cosign(case.log.checkpoint(), {YANTAI: NOW_S})
    )
    verdict = verdict_on(split.bundle())
    assert verdict.verified
    assert not verdict.quorum_met
    assert sorted(verdict.cosigners) == ["qingdao", "yantai"]


def test_without_a_first_proof_nothing_is_said_about_when() -> None:
    verdict = verdict_on(replace(good_case().bundle(), first_proof=None))
    assert verdict.verified
    assert verdict.quorum_met
    assert verdict.seen_by is None
    assert verdict.cosigners == {"qingdao": NOW_S + 60, "yantai": NOW_S + 61}


def test_without_any_cosignature() -> None:
    case = replace(good_case(), newest=good_case().log.checkpoint())
    verdict = verdict_on(replace(case.bundle(), first_proof=None))
    assert verdict.verified
    assert (verdict.quorum_met, verdict.cosigners) == (False, {})


def test_both_proofs_may_be_of_one_checkpoint() -> None:
    case = replace(good_case(), first=good_case().newest)
    assert verdict_on(case.bundle()).verified


def test_blobs_may_be_left_out() -> None:
    verdict = verdict_on(replace(good_case().bundle(), blobs={}))
    assert verdict.verified
    assert verdict.steps[7].detail.startswith("0 of 1")


def test_an_unknown_schema_is_reported_and_fails_nothing() -> None:
    bundle = case_with_record(record_bytes(kind="recipe", schema="recipe/1", body={"any": 1})).bundle()
    verdict = verdict_on(bundle)
    assert verdict.verified
    assert "not known here" in verdict.steps[6].detail


def test_an_expired_roster_fails_nothing() -> None:
    case = build_bundle_case(expires=START + timedelta(seconds=1))
    assert verdict_on(case.bundle(), case.fingerprint).verified


def case_with_record(raw: bytes, **blobs: bytes) -> BundleCase:
    """The good case with another record, truly committed to and signed."""
    log = MemoryLog(JINAN)
    log.append(record_bytes(key="first"), raw)
    first = cosign(log.checkpoint(), {QINGDAO: NOW_S, YANTAI: NOW_S})
    log.append_numbered(2)
    return replace(good_case(), log=log, first=first, newest=cosign(log.checkpoint(), {QINGDAO: NOW_S}), blobs=blobs)


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
    assert "is a key of qingdao already" in assert_fails_at(verdict_on(shared_witness()), "cards")


# Step 3


def resigned_checkpoint(signed: SignedCheckpoint, signer: Signer, **changes: Any) -> SignedCheckpoint:
    return sign_checkpoint(replace(signed.checkpoint, **changes), signer)


def misnamed(lab: Lab) -> Signer:
    """Another member's log key under jinan's origin."""
    return replace(lab.log, key=replace(lab.log.key, name=JINAN.origin))


def with_checkpoint(signed: SignedCheckpoint, *, first: bool = False, case: BundleCase | None = None) -> Bundle:
    """The good bundle with another checkpoint in one of its proofs, whose path is left as it was."""
    bundle = (case or good_case()).bundle()
    raw = bundle.first_proof if first else bundle.proof
    assert raw is not None
    changed = replace(parse_tlog_proof(raw.decode()), checkpoint=bytes(signed).decode())
    text = format_tlog_proof(changed).encode()
    return replace(bundle, first_proof=text) if first else replace(bundle, proof=text)


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


# Step 5


def with_proof(bundle: Bundle, *, first: bool = False, **changes: Any) -> Bundle:
    raw = bundle.first_proof if first else bundle.proof
    assert raw is not None
    text = format_tlog_proof(replace(parse_tlog_proof(raw.decode()), **changes)).encode()
    return replace(bundle, first_proof=text) if first else replace(bundle, proof=text)


def other_entry(case: BundleCase) -> bytes:
    return format_tlog_proof(case.log.proof(0, case.first)).encode()


COMMITMENT_FAULTS: dict[str, Callable[[BundleCase], Bundle]] = {
    "no salt": lambda c: with_proof(c.bundle(), extra=None),
    "an empty salt": lambda c: with_proof(c.bundle(), extra=b""),
    "a short salt": lambda c: with_proof(c.bundle(), extra=bytes(31)),
    "a long salt": lambda c: with_proof(c.bundle(), extra=bytes(33)),
    "another salt in the newest": lambda c: with_proof(c.bundle(), extra=bytes(32)),
    "another salt in the first": lambda c: with_proof(c.bundle(), first=True, extra=bytes(32)),
    "another entry in the first": lambda c: replace(c.bundle(), first_proof=other_entry(c)),
}


@pytest.mark.parametrize("make", COMMITMENT_FAULTS.values(), ids=COMMITMENT_FAULTS)
def test_step_5_commitment(make: Callable[[BundleCase], Bundle]) -> None:
    assert_fails_at(verdict_on(make(good_case())), "commitment")


# Step 6


def without_first(bundle: Bundle) -> Bundle:
    return replace(bundle, first_proof=None)


def path_of(raw: bytes) -> tuple[bytes, ...]:
    return parse_tlog_proof(raw.decode()).path


INCLUSION_FAULTS: dict[str, Callable[[Bundle], Bundle]] = {
    "another record": lambda b: replace(b, record=good_case().log.records[0]),
    "a changed record": lambda b: replace(b, record=b.record.replace(b"0.10", b"0.11")),
    "a record in another spelling": lambda b: replace(b, record=b.record + b"\n"),
    "another salt": lambda b: without_first(with_proof(b, extra=bytes(32))),
    "another index": lambda b: without_first(with_proof(b, index=2)),
    "an index beyond the log": lambda b: without_first(with_proof(b, index=5)),
    "a hash dropped": lambda b: with_proof(b, path=path_of(b.proof)[:-1]),
    "a hash added": lambda b: with_proof(b, path=(*path_of(b.proof), bytes(32))),
    "hashes swapped": lambda b: with_proof(b, path=path_of(b.proof)[::-1]),
    "no hashes": lambda b: with_proof(b, path=()),
    "the first's path in the newest": lambda b: with_proof(b, path=path_of(b.first_proof or b"")),
    "the newest's path in the first": lambda b: with_proof(b, first=True, path=path_of(b.proof)),
    "a checkpoint that does not cover it": lambda b: uncovered(b),
}


def uncovered(bundle: Bundle) -> Bundle:
    return with_proof(without_first(bundle), checkpoint=bytes(good_case().log.checkpoint(1)).decode(), path=())


@pytest.mark.parametrize("mutate", INCLUSION_FAULTS.values(), ids=INCLUSION_FAULTS)
def test_step_6_inclusion(mutate: Callable[[Bundle], Bundle]) -> None:
    detail = assert_fails_at(verdict_on(mutate(good_case().bundle())), "inclusion")
    assert "of jinan is not in the checkpoint of size" in detail


def test_step_6_a_record_of_another_log_with_its_own_salt() -> None:
    other = build_log(QINGDAO, 5)
    proof = TlogProof(1, tuple(good_case().log.tree.inclusion(1, 5)), bytes(good_case().newest).decode(), other.salts[1])
    bundle = replace(
        good_case().bundle(), record=other.records[1], proof=format_tlog_proof(proof).encode(), first_proof=None
    )
    assert_fails_at(verdict_on(bundle), "inclusion")


# Step 7


@pytest.mark.parametrize(
    "raw",
    [
        record_bytes().replace(b":", b": ", 1),
        record_bytes() + b"\n",
        record_bytes("qingdao"),
        record_bytes(body={"value": 1}),
        record_bytes(schema="notice/1"),
        record_bytes(key="a@b"),
        record_bytes(audience=["yantai", "qingdao"]),
        b"[]",
        b"",
        b"\xff",
    ],
    ids=ascii,
)
def test_step_7_schema(raw: bytes) -> None:
    assert_fails_at(verdict_on(case_with_record(raw).bundle()), "schema")


# Step 8

OTHER_BLOB = b"another"


def blob_case(**changes: Any) -> BundleCase:
    blob = {"name": "a", "sha256": sha256(BLOB).hexdigest(), "size": len(BLOB), "type": "a/b", **changes}
    return case_with_record(record_bytes(blobs=[blob]), **{sha256(BLOB).hexdigest(): BLOB})


def with_blobs(blobs: dict[str, bytes]) -> Callable[[Bundle], Bundle]:
    return lambda b: replace(b, blobs=blobs)


BLOB_FAULTS: dict[str, Callable[[Bundle], Bundle]] = {
    "altered": with_blobs({sha256(BLOB).hexdigest(): BLOB[:-1] + b"!"}),
    "cut short": with_blobs({sha256(BLOB).hexdigest(): BLOB[:-1]}),
    "one that the record does not name": with_blobs({sha256(OTHER_BLOB).hexdigest(): OTHER_BLOB}),
    "one more": with_blobs({sha256(BLOB).hexdigest(): BLOB, sha256(OTHER_BLOB).hexdigest(): OTHER_BLOB}),
    "another under its name": with_blobs({sha256(BLOB).hexdigest(): OTHER_BLOB}),
}


@pytest.mark.parametrize("mutate", BLOB_FAULTS.values(), ids=BLOB_FAULTS)
def test_step_8_blobs(mutate: Callable[[Bundle], Bundle]) -> None:
    assert_fails_at(verdict_on(mutate(good_case().bundle())), "blobs")


def test_step_8_the_size_that_the_record_names() -> None:
    assert verdict_on(blob_case().bundle()).verified
    assert_fails_at(verdict_on(blob_case(size=len(BLOB) + 1).bundle()), "blobs")


def test_step_8_a_blob_of_a_record_that_names_none() -> None:
    bundle = case_with_record(record_bytes(), **{sha256(BLOB).hexdigest(): BLOB}).bundle()
    assert_fails_at(verdict_on(bundle), "blobs")


# Every byte


def members_of(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(members: dict[str, bytes]) -> bytes:
    """The members with their true checksums, so that only the cryptography can refuse."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            archive.writestr(name, members[name])
    return buffer.getvalue()


def refused(raw: bytes) -> bool:
    try:
        bundle = parse_bundle(raw)
    except FormatError:
        return True
    return not verdict_on(bundle).verified


def test_no_byte_of_a_bundle_can_change_without_notice() -> None:
    rng = random.Random(500)
    members = members_of(format_bundle(good_case().bundle()))
    assert not refused(zip_of(members))
    places = [(name, at) for name, raw in members.items() if name != "README.txt" for at in range(len(raw))]
    survivors = []
    for name, at in rng.sample(places, 500):
        raw = members[name]
        changed = raw[:at] + bytes([raw[at] ^ rng.randint(1, 255)]) + raw[at + 1 :]
        if not refused(zip_of({**members, name: changed})):
            survivors.append((name, at))
    assert survivors == []


def test_no_member_can_be_cut_short_or_made_longer() -> None:
    members = members_of(format_bundle(good_case().bundle()))
    for name, raw in members.items():
        if name != "README.txt":
            for changed in (raw[:-1], raw + b"\n", raw + b" ", b"\n" + raw, raw + raw):
                assert refused(zip_of({**members, name: changed})), name


def test_a_checkpoint_that_was_never_signed_over_the_true_log() -> None:
    """The same entries in a log of the attacker's own, under the member's name."""
    case = good_case()
    forged = sign_checkpoint(Checkpoint(JINAN.origin, 5, case.newest.root), misnamed(Lab("mallory")))
    assert parse_checkpoint(bytes(forged)).root == case.newest.root
    assert_fails_at(verdict_on(with_checkpoint(forged)), "checkpoint")
