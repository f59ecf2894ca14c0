"""DSSE envelopes."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.canonical import dumps_canonical
from node.core.dsse import (
    ENVELOPE_SIZE_MAX,
    SIGNATURES_MAX,
    Envelope,
    build_envelope,
    format_envelope,
    parse_envelope,
    pre_authentication_encoding,
)
from node.errors import FormatError, InvalidRecordError
from tests.builders import public_key, sign_with
from tests.core import strategies

TYPE = "application/vnd.labmesh.test+json"
CONTENT = {"b": [1, "两"], "a": None}
ENVELOPE = build_envelope(CONTENT, TYPE, sign_with("a"), sign_with("b"))


@given(strategies.values, st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=4))
def test_round_trip(content: Any, signatures: list[bytes]) -> None:
    envelope = Envelope(dumps_canonical(content), TYPE, tuple(signatures))
    raw = format_envelope(envelope)
    assert parse_envelope(raw, TYPE) == (envelope, content)
    assert format_envelope(parse_envelope(raw, TYPE)[0]) == raw


def test_the_encoding_is_the_one_of_the_specification() -> None:
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == expected


def test_lengths_are_counted_in_bytes() -> None:
    assert pre_authentication_encoding("两", "济南".encode()) == b"DSSEv1 3 \xe4\xb8\xa4 6 " + "济南".encode()


def test_signers_are_distinct_keys_with_a_valid_signature() -> None:
    keys = [public_key(label) for label in "abc"]
    assert ENVELOPE.signers(keys) == {public_key("a"), public_key("b")}
    assert ENVELOPE.signers(keys[2:]) == set()
    again = ENVELOPE.with_signature(sign_with("a")).with_signature(sign_with("a"))
    assert len(again.signers(keys)) == 2


def test_a_signature_covers_payload_and_type() -> None:
    keys = [public_key("a")]
    assert Envelope(ENVELOPE.payload, TYPE, ENVELOPE.signatures).signers(keys) == set(keys)
    assert Envelope(ENVELOPE.payload + b" ", TYPE, ENVELOPE.signatures).signers(keys) == set()
    assert Envelope(ENVELOPE.payload, TYPE + "x", ENVELOPE.signatures).signers(keys) == set()


def test_the_hash_is_of_the_payload_alone() -> None:
    assert ENVELOPE.hash == ENVELOPE.with_signature(sign_with("c")).hash
    assert build_envelope({}, TYPE).hash == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_content_that_json_cannot_hold_is_not_signed() -> None:
    with pytest.raises(InvalidRecordError):
        build_envelope({"a": 1.5}, TYPE, sign_with("a"))


def members(**changes: Any) -> dict[str, Any]:
    signature = {"sig": base64.b64encode(bytes(64)).decode()}
    content = {"payload": base64.b64encode(b"{}").decode(), "payloadType": TYPE, "signatures": [signature], **changes}
    return {name: value for name, value in content.items() if value is not None}


SIGNATURE = base64.b64encode(bytes(64)).decode()

BROKEN: dict[str, Any] = {
    "list": [],
    "text": "x",
    "null": None,
    "no payload": members(payload=None),
    "no type": members(payloadType=None),
    "no signatures": members(signatures=None),
    "unknown member": members(extra=1),
    "keyid": members(signatures=[{"keyid": "a", "sig": SIGNATURE}]),
    "no sig": members(signatures=[{}]),
    "signature as text": members(signatures=[SIGNATURE]),
    "sig of another type": members(signatures=[{"sig": 1}]),
    "short signature": members(signatures=[{"sig": base64.b64encode(bytes(63)).decode()}]),
    "long signature": members(signatures=[{"sig": base64.b64encode(bytes(65)).decode()}]),
    "non-canonical signature": members(signatures=[{"sig": SIGNATURE[:-3] + "B=="}]),
    "URL base64": members(signatures=[{"sig": "_" + SIGNATURE[1:]}]),
    "empty list of signatures": members(signatures=[]),
    "too many signatures": members(signatures=[{"sig": SIGNATURE}] * (SIGNATURES_MAX + 1)),
    "signatures as object": members(signatures={"sig": SIGNATURE}),
    "payload as object": members(payload={}),
    "type as number": members(payloadType=1),
    "another type": members(payloadType=TYPE + "x"),
    "payload not base64": members(payload="{}"),
    "payload not JSON": members(payload=base64.b64encode(b"{").decode()),
    "payload not canonical": members(payload=base64.b64encode(b"{ }").decode()),
    "payload with a float": members(payload=base64.b64encode(b"[1.5]").decode()),
    "payload with a doubled name": members(payload=base64.b64encode(b'{"a":1,"a":1}').decode()),
    "empty payload": members(payload=""),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_other_envelopes_are_refused(content: Any) -> None:
    assert parse_envelope(dumps_canonical(members()), TYPE)[1] == {}
    with pytest.raises(FormatError):
        parse_envelope(dumps_canonical(content), TYPE)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b" " + raw,
        lambda raw: raw + b"\n",
        lambda raw: raw.replace(b":", b": "),
        lambda raw: raw.replace(b"/vnd", b"\\/vnd"),
    ],
)
def test_another_spelling_is_refused(change: Any) -> None:
    with pytest.raises(FormatError):
        parse_envelope(change(dumps_canonical(members())), TYPE)


def test_one_mebibyte_is_the_most() -> None:
    with pytest.raises(FormatError, match="at most"):
        parse_envelope(b"x" * (ENVELOPE_SIZE_MAX + 1), TYPE)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_envelope_or_refused(raw: bytes) -> None:
    try:
        assert format_envelope(parse_envelope(raw, TYPE)[0]) == raw
    except FormatError as error:
        assert error.message
