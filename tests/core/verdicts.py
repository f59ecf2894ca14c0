"""A bundle in which all is well, and the verdict on it once something is not."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from node.core.bundle import Bundle
from node.core.checkpoint import SignedCheckpoint, sign_checkpoint
from node.core.keys import Signer
from node.core.proof import format_tlog_proof, parse_tlog_proof
from node.core.verdict import STEPS, Verdict
from tests.builders import NOW_S, BundleCase, Lab, MemoryLog, build_bundle_case, build_labs, cosign, kinds, record_bytes
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


def case_with_record(raw: bytes, **blobs: bytes) -> BundleCase:
    """The good case with another record, truly committed to and signed."""
    log = MemoryLog(JINAN)
    log.append(record_bytes(key="first"), raw)
    first = cosign(log.checkpoint(), {QINGDAO: NOW_S, YANTAI: NOW_S})
    log.append_numbered(2)
    return replace(good_case(), log=log, first=first, newest=cosign(log.checkpoint(), {QINGDAO: NOW_S}), blobs=blobs)


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
