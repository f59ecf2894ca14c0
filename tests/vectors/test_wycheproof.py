"""Ed25519 verifications of C2SP/wycheproof (Apache-2.0)."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from node.core.keys import verify_signature
from node.errors import SignatureError


def accepts(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        verify_signature(key, signature, message)
    except SignatureError:
        return False
    return True


def library_accepts(key: bytes, signature: bytes, message: bytes) -> bool:
    """What the library says by itself, without our check of the key."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def test_ed25519(vectors: Path) -> None:
    suite = json.loads((vectors / "wycheproof" / "ed25519_test.json").read_text())
    cases = [
        (
            test["tcId"],
            bytes.fromhex(group["publicKey"]["pk"]),
            bytes.fromhex(test["sig"]),
            bytes.fromhex(test["msg"]),
            test["result"],
        )
        for group in suite["testGroups"]
        for test in group["tests"]
    ]
    assert len(cases) == suite["numberOfTests"] == 151
    assert {result for *_, result in cases} == {"valid", "invalid"}
    ours = {number: accepts(key, signature, message) for number, key, signature, message, _ in cases}
    assert ours == {number: result == "valid" for number, *_, result in cases}
    assert ours == {number: library_accepts(key, signature, message) for number, key, signature, message, _ in cases}
