"""tlog-proof texts of transparency-dev/formats (Apache-2.0): syntax, with a placeholder for the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.core.proof import format_tlog_proof, parse_tlog_proof
from node.errors import FormatError


def load(vectors: Path, which: str) -> Any:
    return json.loads((vectors / "tlog-proof" / "format-cases.json").read_text("utf-8"))[which]


def test_valid(vectors: Path) -> None:
    cases = load(vectors, "valid")
    assert len(cases) == 3
    for case in cases:
        proof = parse_tlog_proof(case["text"])
        assert proof.index == case["index"]
        assert [step.hex() for step in proof.path] == case["hashes"]
        assert proof.checkpoint == case["text"].partition("\n\n")[2]
        assert (proof.extra is not None) == ("\nextra " in case["text"])
        assert format_tlog_proof(proof) == case["text"]


def test_invalid(vectors: Path) -> None:
    cases = load(vectors, "invalid")
    assert len(cases) == 7
    for case in cases:
        with pytest.raises(FormatError):
            parse_tlog_proof(case["text"])
