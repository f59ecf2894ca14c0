"""Signed notes of the C2SP specification (CC BY 4.0) and of golang/mod (BSD-3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.core.keys import parse_verifier_key
from node.core.note import parse_note, verify_note
from node.errors import FormatError, SignatureError

# Notes that C2SP accepts and our stricter rules refuse, each with its reason: none of the published ones. Ours differ
# in size (16 KiB, 64 signatures) and in refusing a second spelling, and no published note that verifies has either.
STRICTER: dict[str, str] = {}


def load(vectors: Path) -> Any:
    return json.loads((vectors / "signed-note" / "notes.json").read_text("utf-8"))


def raw_of(case: Any) -> bytes:
    return bytes.fromhex(case["note_hex"]) if "note_hex" in case else str(case["note"]).encode()


def outcome(case: Any) -> tuple[str, list[str]]:
    """What our parser and verifier say, in the words of the vectors."""
    keys = [parse_verifier_key(text) for text in case["vkeys"]]
    try:
        note = parse_note(raw_of(case))
    except FormatError:
        return "malformed", []
    assert bytes(note) == raw_of(case)
    known = any(note.signatures_of(key) for key in keys)
    try:
        return "ok", [key.name for key in verify_note(note, keys)]
    except SignatureError:
        return "invalid-signature" if known else "unverified", []


def test_notes(vectors: Path) -> None:
    cases = load(vectors)["cases"]
    assert len(cases) == 14
    expected = {case["name"]: (case["want"], case.get("verified", [])) for case in cases}
    assert STRICTER.keys() <= expected.keys()
    expected |= {name: ("malformed", []) for name in STRICTER}
    assert {case["name"]: outcome(case) for case in cases} == expected


def test_every_outcome_occurs(vectors: Path) -> None:
    wants = {case["want"] for case in load(vectors)["cases"]}
    assert wants == {"ok", "unverified", "malformed", "invalid-signature"}


def test_bad_vkeys(vectors: Path) -> None:
    texts = load(vectors)["bad_vkeys"]
    assert texts
    for text in texts:
        with pytest.raises(FormatError):
            parse_verifier_key(text)
