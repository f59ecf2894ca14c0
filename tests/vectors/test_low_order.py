"""The low-order Ed25519 encodings of C2SP/CCTV (BSD)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.core.keys import (
    LOW_ORDER_ENCODINGS,
    TYPE_LOG,
    TYPE_WITNESS,
    VerifierKey,
    accept_public_key,
    format_base64,
    parse_public_key,
    parse_verifier_key,
)
from node.errors import FormatError


def load(vectors: Path) -> list[bytes]:
    texts = json.loads((vectors / "low-order" / "low-order-encodings.json").read_text())["low_order_encodings"]
    return [bytes.fromhex(text) for text in texts]


def test_the_list_is_the_same(vectors: Path) -> None:
    published = load(vectors)
    assert len(published) == len(set(published)) == 14
    assert set(published) == LOW_ORDER_ENCODINGS


def test_each_is_refused_wherever_a_key_enters(vectors: Path) -> None:
    for raw in load(vectors):
        with pytest.raises(FormatError, match="low order"):
            accept_public_key(raw)
        with pytest.raises(FormatError, match="low order"):
            parse_public_key(format_base64(raw))
        for signature_type in (TYPE_LOG, TYPE_WITNESS):
            with pytest.raises(FormatError, match="low order"):
                parse_verifier_key(str(VerifierKey("example.org/log", signature_type, raw)))
