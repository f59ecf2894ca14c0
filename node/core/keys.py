"""Ed25519 keys as they appear in text, and the signatures made with them.

One key has one role. Identity and council keys are written as base64 of the 32 raw bytes; log and witness keys as C2SP
signed-note *verifier keys* (vkeys), `name+hex(key id)+base64(type ‖ key)`. Every key that enters is refused if it is one
of the 14 encodings of a point of low order: with such a key one fixed signature verifies on any message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from node.errors import FormatError, SignatureError

KEY_SIZE = 32
SIGNATURE_SIZE = 64
TYPE_LOG = 0x01
TYPE_WITNESS = 0x04

Sign = Callable[[bytes], bytes]

# What Python makes of a command line that is not UTF-8 (lone surrogates) has no bytes that could be hashed.
_NEVER = frozenset(["\x7f", *map(chr, range(0xD800, 0xE000))])

# y-coordinates of the eight points of small order, little-endian, with their non-canonical spellings; each also with the
# sign bit set (C2SP/CCTV, and Taming the many EdDSAs, table 1).
_LOW_ORDER_Y = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
LOW_ORDER_ENCODINGS = frozenset(
    raw[:31] + bytes([raw[31] | sign]) for raw in map(bytes.fromhex, _LOW_ORDER_Y) for sign in (0, 0x80)
)


def format_base64(raw: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(raw).decode("ascii")


def parse_base64(text: str) -> bytes:
    """Parse base64 in its one canonical form.

    Raises:
        FormatError: not base64, or another spelling of the same bytes.
    """
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError) as error:
        raise FormatError("not base64") from error
    if format_base64(raw) != text:
        raise FormatError("not canonical base64")
    return raw


def accept_public_key(raw: bytes) -> bytes:
    """Return `raw` if it may be used as an Ed25519 public key.

    Raises:
        FormatError: wrong size, or a point of low order.
    """
    if len(raw) != KEY_SIZE:
        raise FormatError(f"an Ed25519 public key has 32 bytes, this one {len(raw)}")
    if raw in LOW_ORDER_ENCODINGS:
        raise FormatError("a public key of low order is refused: one signature would fit every message")
    return raw


def parse_public_key(text: str) -> bytes:
    """Parse an identity or council key: base64 of 32 bytes.

    Raises:
        FormatError: not canonical base64, wrong size, or of low order.
    """
    return accept_public_key(parse_base64(text))


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Verify one Ed25519 signature.

    Raises:
        SignatureError: it does not verify.
    """
    try:
        _public_key(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError("the Ed25519 signature does not verify") from error


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named public key with its signature type: 0x01 for checkpoints, 0x04 for cosignatures."""

    name: str
    signature_type: int
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes by which a signature line refers to this key."""
        return key_id(self.name, self.signature_type, self.public_key)

    def __str__(self) -> str:
        """The vkey text."""
        return f"{self.name}+{self.key_id.hex()}+{format_base64(bytes([self.signature_type]) + self.public_key)}"


@dataclass(frozen=True, slots=True)
class Signer:
    """A verifier key and the function that signs for it; the private key itself stays outside the core."""

    key: VerifierKey
    sign: Sign


def key_id(name: str, signature_type: int, public_key: bytes) -> bytes:
    """C2SP signed-note key id: the first 4 bytes of SHA-256(name ‖ 0x0A ‖ type ‖ key)."""
    return sha256(name.encode() + b"\n" + bytes([signature_type]) + public_key).digest()[:4]


def is_key_name(name: str) -> bool:
    """Whether `name` may name a key: not empty, no white space, plus sign or control character, and UTF-8 can write it."""
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " or c in _NEVER for c in name)


def parse_verifier_key(text: str, *, signature_type: int | None = None) -> VerifierKey:
    """Parse a vkey and verify its key id; with `signature_type`, refuse another type.

    Raises:
        FormatError: not a vkey, its id does not fit, another type, or a key of low order.
    """
    name, _, rest = text.partition("+")
    id_text, _, key_text = rest.partition("+")
    raw = parse_base64(key_text)
    if not is_key_name(name) or len(raw) != 1 + KEY_SIZE or raw[0] not in (TYPE_LOG, TYPE_WITNESS):
        raise FormatError(f"{text[:120]!r} is not a verifier key of type 1 or 4")
    key = VerifierKey(name, raw[0], accept_public_key(raw[1:]))
    if str(key) != text or key.key_id.hex() != id_text:
        raise FormatError(f"the key id in {text[:120]!r} does not belong to its key")
    if signature_type not in (None, key.signature_type):
        raise FormatError(f"{text[:120]!r} has signature type {key.signature_type}, {signature_type} is needed")
    return key


@lru_cache(maxsize=1024)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(accept_public_key(raw))
