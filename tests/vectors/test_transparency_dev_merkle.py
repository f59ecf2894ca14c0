"""Inclusion and consistency proofs of transparency-dev/merkle (Apache-2.0)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from node.core.merkle import verify_consistency, verify_leaf_inclusion
from node.errors import ProofError

# Its roots have 12 bytes and are only compared with one another; a hash has 32 bytes here, so the proof is refused.
SHORT_ROOTS = "consistency/additional/sizes-are-equal-one-and-proof-is-empty.json"


def load_cases(vectors: Path, kind: str) -> dict[str, Any]:
    folder = vectors / "transparency-dev-merkle" / "testdata"
    files = sorted((folder / kind).rglob("*.json"))
    return {path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in files}


def decode(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def accepts_inclusion(case: Any) -> bool:
    path = [decode(step) for step in case["proof"] or []]
    try:
        verify_leaf_inclusion(decode(case["leafHash"]), case["leafIdx"], case["treeSize"], path, decode(case["root"]))
    except ProofError:
        return False
    return True


def accepts_consistency(case: Any) -> bool:
    proof = [decode(step) for step in case["proof"] or []]
    try:
        verify_consistency(case["size1"], case["size2"], proof, decode(case["root1"]), decode(case["root2"]))
    except ProofError:
        return False
    return True


def test_inclusion(vectors: Path) -> None:
    cases = load_cases(vectors, "inclusion")
    assert len(cases) == 98
    assert sum(not case["wantErr"] for case in cases.values()) >= 6
    assert {name: accepts_inclusion(case) for name, case in cases.items()} == {
        name: not case["wantErr"] for name, case in cases.items()
    }


def test_consistency(vectors: Path) -> None:
    cases = load_cases(vectors, "consistency")
    assert len(cases) == 98
    assert sum(not case["wantErr"] for case in cases.values()) >= 4
    short = cases.pop(SHORT_ROOTS)
    assert {name: accepts_consistency(case) for name, case in cases.items()} == {
        name: not case["wantErr"] for name, case in cases.items()
    }
    assert len(decode(short["root1"])) == 12
    assert not short["wantErr"]
    assert not accepts_consistency(short)
