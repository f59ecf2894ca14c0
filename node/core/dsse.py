"""DSSE v1.0.2 envelopes around canonical JSON: how cards and rosters are signed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from node.core.canonical import Json, dumps_canonical, format_canonical, parse_canonical
from node.core.keys import SIGNATURE_SIZE, Sign, format_base64, parse_base64, verify_signature
from node.errors import FormatError, InvalidRecordError, SignatureError

ENVELOPE_SIZE_MAX = 1024 * 1024
SIGNATURES_MAX = 256


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope: the payload's bytes, its type, and raw 64-byte signatures, none of them verified."""

    payload: bytes
    payload_type: str
    signatures: tuple[bytes, ...]

    @property
    def hash(self) -> str:
        """Lower-case hex SHA-256 of the payload: how cards and rosters are named."""
        return sha256(self.payload).hexdigest()

    def signers(self, keys: Iterable[bytes]) -> set[bytes]:
        """Which of these public keys have a valid signature on the envelope; distinct by key bytes."""
        message = pre_authentication_encoding(self.payload_type, self.payload)
        return {key for key in keys if any(_verifies(key, signature, message) for signature in self.signatures)}

    def with_only(self, keys: Iterable[bytes]) -> Envelope:
        """The same envelope with one valid signature of each of these keys that signed, and nothing else."""
        kept: dict[bytes, bytes] = {}
        for signature in self.signatures:
            alone = Envelope(self.payload, self.payload_type, (signature,))
            kept |= {key: signature for key in alone.signers(keys) if key not in kept}
        return Envelope(self.payload, self.payload_type, tuple(dict.fromkeys(kept.values())))

    def with_signature(self, sign: Sign) -> Envelope:
        """The same envelope with one more signature."""
        signature = sign(pre_authentication_encoding(self.payload_type, self.payload))
        return Envelope(self.payload, self.payload_type, (*self.signatures, signature))


def build_envelope(content: Json, payload_type: str, *signs: Sign) -> Envelope:
    """Canonical JSON in an envelope, signed by each of `signs`."""
    envelope = Envelope(format_canonical(content), payload_type, ())
    for sign in signs:
        envelope = envelope.with_signature(sign)
    return envelope


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """PAE: the only bytes that a DSSE signature covers."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def format_envelope(envelope: Envelope) -> bytes:
    """The envelope as canonical JSON."""
    return dumps_canonical(
        {
            "payload": format_base64(envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": [{"sig": format_base64(signature)} for signature in envelope.signatures],
        }
    )


def parse_envelope(raw: bytes, payload_type: str) -> tuple[Envelope, Json]:
    """Parse an envelope of one payload type; returns it and the parsed payload.

    Raises:
        FormatError: not canonical, other members, another type, or more than 1 MiB.
    """
    if len(raw) > ENVELOPE_SIZE_MAX:
        raise FormatError(f"an envelope of {len(raw)} bytes; at most {ENVELOPE_SIZE_MAX} are taken")
    try:
        outer = parse_canonical(raw)
        envelope = _parse_members(outer)
        content = parse_canonical(envelope.payload)
    except InvalidRecordError as error:
        raise FormatError(f"not a signed envelope: {error.message}") from error
    if envelope.payload_type != payload_type:
        raise FormatError(f"an envelope of type {envelope.payload_type[:80]!r} where {payload_type!r} is needed")
    return envelope, content


def _parse_members(outer: Json) -> Envelope:
    if not isinstance(outer, dict) or set(outer) != {"payload", "payloadType", "signatures"}:
        raise FormatError("a signed envelope has exactly the members payload, payloadType and signatures")
    payload, payload_type, entries = outer["payload"], outer["payloadType"], outer["signatures"]
    if not isinstance(payload, str) or not isinstance(payload_type, str) or not isinstance(entries, list):
        raise FormatError("a member of the signed envelope has the wrong type")
    if not 0 < len(entries) <= SIGNATURES_MAX:
        raise FormatError(f"a signed envelope with {len(entries)} signatures")
    return Envelope(parse_base64(payload), payload_type, tuple(_parse_signature(entry) for entry in entries))


def _parse_signature(entry: Json) -> bytes:
    if not isinstance(entry, dict) or set(entry) != {"sig"} or not isinstance(entry["sig"], str):
        raise FormatError("a signature in the envelope has other members than sig")
    signature = parse_base64(entry["sig"])
    if len(signature) != SIGNATURE_SIZE:
        raise FormatError("a signature in the envelope does not have 64 bytes")
    return signature


def _verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        verify_signature(key, signature, message)
    except SignatureError:
        return False
    return True
