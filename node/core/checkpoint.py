"""Checkpoints (C2SP tlog-checkpoint) and cosignatures (C2SP tlog-cosignature).

A checkpoint commits a member to the first `size` entries of its log. A cosignature is another member's statement that
it verified this checkpoint as an extension of all it saw before, and when.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from node.core.keys import (
    SIGNATURE_SIZE,
    TYPE_LOG,
    TYPE_WITNESS,
    Signer,
    VerifierKey,
    format_base64,
    parse_base64,
    verify_signature,
)
from node.core.merkle import EMPTY_ROOT, HASH_SIZE
from node.core.note import Note, SignatureLine, parse_note, verify_note
from node.errors import FormatError, SignatureError

SIZE_MAX = 2**40 - 1
TIME_MAX = 2**63 - 1

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Size and root hash of a log. `size` is below 2^40, which at a thousand entries a second lasts 34 years."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """The signed text."""
        return f"{self.origin}\n{self.size}\n{format_base64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's verified statement: it held this checkpoint at `time` (seconds since 1970)."""

    key: VerifierKey
    time: int
    line: SignatureLine


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with the note it came in. The note's signatures are verified only by the `verify_` functions."""

    checkpoint: Checkpoint
    note: Note

    @property
    def size(self) -> int:
        """Number of entries the root commits to."""
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        """The root hash."""
        return self.checkpoint.root

    @property
    def origin(self) -> str:
        """The log's origin."""
        return self.checkpoint.origin

    def __bytes__(self) -> bytes:
        """The note as it travels."""
        return bytes(self.note)

    def with_lines(self, lines: tuple[SignatureLine, ...]) -> SignedCheckpoint:
        """The same checkpoint with these signature lines added, each once."""
        known = dict.fromkeys((*self.note.signatures, *lines))
        return replace(self, note=replace(self.note, signatures=tuple(known)))

    def signed_by(self, key: VerifierKey) -> SignedCheckpoint:
        """The same checkpoint with nothing but the first of `key`'s signatures: an author may make any number."""
        return replace(self, note=replace(self.note, signatures=tuple(self.note.signatures_of(key)[:1])))


def parse_checkpoint_body(text: str) -> Checkpoint:
    """Parse the three lines of a checkpoint; extension lines are refused.

    Raises:
        FormatError: not a checkpoint in its one canonical form.
    """
    parts = text.split("\n")
    if len(parts) != 4 or parts[3] or not parts[0]:
        raise FormatError("a checkpoint has exactly three lines: origin, size and root")
    if not _SIZE.fullmatch(parts[1]) or int(parts[1]) > SIZE_MAX:
        raise FormatError(f"{parts[1][:40]!r} is not a log size")
    root = parse_base64(parts[2])
    if len(root) != HASH_SIZE:
        raise FormatError("the root hash does not have 32 bytes")
    checkpoint = Checkpoint(parts[0], int(parts[1]), root)
    if checkpoint.size == 0 and root != EMPTY_ROOT:
        raise FormatError("the root of an empty log is the hash of nothing")
    if checkpoint.body() != text:
        raise FormatError("a checkpoint that is not in canonical form")
    return checkpoint


def parse_checkpoint(raw: bytes) -> SignedCheckpoint:
    """Parse a signed checkpoint; signatures are not verified here.

    Raises:
        FormatError: not a checkpoint note.
    """
    note = parse_note(raw)
    return SignedCheckpoint(parse_checkpoint_body(note.text), note)


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> SignedCheckpoint:
    """Sign with the log key, whose name is the origin."""
    _require(signer.key, TYPE_LOG, checkpoint.origin)
    signature = signer.sign(checkpoint.body().encode())
    line = SignatureLine(signer.key.name, signer.key.key_id, signature)
    return SignedCheckpoint(checkpoint, Note(checkpoint.body(), (line,)))


def verify_checkpoint(signed: SignedCheckpoint, key: VerifierKey) -> Checkpoint:
    """Verify the author's signature.

    Raises:
        SignatureError: another origin, no signature by `key`, or a wrong one.
    """
    if key.name != signed.origin or key.signature_type != TYPE_LOG:
        raise SignatureError(f"the log key of {key.name} cannot sign a checkpoint of {signed.origin}")
    verify_note(signed.note, [key])
    return signed.checkpoint


def cosign_checkpoint(checkpoint: Checkpoint, signer: Signer, time: int) -> Cosignature:
    """Cosign with the witness key at `time` (seconds since 1970)."""
    _require(signer.key, TYPE_WITNESS, signer.key.name)
    signature = signer.sign(cosigned_message(checkpoint, time))
    line = SignatureLine(signer.key.name, signer.key.key_id, time.to_bytes(8, "big") + signature)
    return Cosignature(signer.key, time, line)


def verify_cosignature(checkpoint: Checkpoint, line: SignatureLine, key: VerifierKey) -> Cosignature:
    """Verify one cosignature line by a known witness key.

    Raises:
        SignatureError: the line is not by this key, or does not verify.
    """
    _require(key, TYPE_WITNESS, line.name)
    if line.key_id != key.key_id or len(line.signature) != 8 + SIGNATURE_SIZE:
        raise SignatureError(f"the signature line of {line.name} is not a cosignature by its witness key")
    time = int.from_bytes(line.signature[:8], "big")
    if not 0 < time <= TIME_MAX:
        raise SignatureError(f"the cosignature of {line.name} has no possible time")
    verify_signature(key.public_key, line.signature[8:], cosigned_message(checkpoint, time))
    return Cosignature(key, time, line)


def cosigned_message(checkpoint: Checkpoint, time: int) -> bytes:
    """The bytes that a cosignature signs."""
    return f"cosignature/v1\ntime {time}\n{checkpoint.body()}".encode()


def _require(key: VerifierKey, signature_type: int, name: str) -> None:
    if key.signature_type != signature_type or key.name != name:
        raise SignatureError(f"the key {key.name} of type {key.signature_type} cannot sign as {name}")
