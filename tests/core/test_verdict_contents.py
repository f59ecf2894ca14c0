"""The verdict's steps 5 to 8: commitment, inclusion, schema and blobs each fail by their own mutation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from node.core.bundle import Bundle
from node.core.proof import TlogProof, format_tlog_proof, parse_tlog_proof
from tests.builders import BLOB, BundleCase, build_log, record_bytes
from tests.core.verdicts import QINGDAO, assert_fails_at, case_with_record, good_case, verdict_on

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
