"""The verdict: a good bundle verifies, what it says then, and that no byte of it can change."""

from __future__ import annotations

import io
import random
import zipfile
from dataclasses import replace
from datetime import timedelta

import pytest

from node.core.bundle import format_bundle, parse_bundle
from node.core.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from node.core.verdict import STEPS, verdict_content
from node.errors import FormatError
from tests.builders import (
    NOW_S,
    START,
    Lab,
    build_bundle_case,
    build_card,
    build_labs,
    build_roster_chain,
    cosign,
    record_bytes,
    sign_card,
)
from tests.core.verdicts import (
    JINAN,
    QINGDAO,
    YANTAI,
    assert_fails_at,
    case_with_record,
    good_case,
    misnamed,
    verdict_on,
    with_checkpoint,
)

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
