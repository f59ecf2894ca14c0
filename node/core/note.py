"""C2SP signed notes: a text, an empty line, and signature lines `— name base64(key id ‖ signature)`.

The parser is strict: what it returns re-formats to the same bytes, or it refuses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from node.core.keys import VerifierKey, format_base64, is_key_name, parse_base64, verify_signature
from node.errors import FormatError, SignatureError

NOTE_SIZE_MAX = 16 * 1024
SIGNATURES_MAX = 64

_DASH = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature line: key name, 4-byte key id, and what follows it (64 bytes, or 72 with a time stamp)."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        """The line without its newline."""
        return f"{_DASH}{self.name} {format_base64(self.key_id + self.signature)}"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note. `text` ends in a newline; nothing in it is verified yet."""

    text: str
    signatures: tuple[SignatureLine, ...]

    def __bytes__(self) -> bytes:
        """The note as it travels."""
        return format_note(self)

    def signatures_of(self, key: VerifierKey) -> list[SignatureLine]:
        """The lines that claim to be by `key`."""
        return [line for line in self.signatures if line.name == key.name and line.key_id == key.key_id]


def format_note(note: Note) -> bytes:
    """The bytes of a note."""
    lines = "".join(f"{line}\n" for line in note.signatures)
    return f"{note.text}\n{lines}".encode()


def parse_note(raw: bytes) -> Note:
    """Parse a signed note of at most 16 KiB and 64 signature lines.

    Raises:
        FormatError: not a note in its one canonical form.
    """
    if len(raw) > NOTE_SIZE_MAX:
        raise FormatError(f"a note of {len(raw)} bytes; at most {NOTE_SIZE_MAX} are taken")
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("a note that is not UTF-8") from error
    if any((c < " " and c != "\n") for c in whole):
        raise FormatError("a note with control characters")
    text, separator, tail = whole.rpartition("\n\n")
    if not separator or not text or not tail.endswith("\n"):
        raise FormatError("a note without text, empty line and signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise FormatError(f"a note with {len(lines)} signature lines; at most {SIGNATURES_MAX} are taken")
    note = Note(text + "\n", tuple(_parse_line(line) for line in lines))
    if format_note(note) != raw:
        raise FormatError("a note that is not in canonical form")
    return note


def verify_note(note: Note, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
    """Verify the plain signatures (type 0x01) of known keys; unknown lines are ignored.

    Returns the keys that signed, each once. A known key with a wrong signature spoils the whole note.

    Raises:
        SignatureError: a known key's signature is wrong, or no known key signed.
    """
    signed: list[VerifierKey] = []
    for key in keys:
        for line in note.signatures_of(key):
            verify_signature(key.public_key, line.signature, note.text.encode())
            if key not in signed:
                signed.append(key)
    if not signed:
        raise SignatureError("the note has no signature by a known key")
    return signed


def _parse_line(line: str) -> SignatureLine:
    if not line.startswith(_DASH):
        raise FormatError("a signature line that does not begin with an em dash and a space")
    name, space, encoded = line[len(_DASH) :].partition(" ")
    if not space or not is_key_name(name):
        raise FormatError("a signature line without a proper key name")
    raw = parse_base64(encoded)
    if len(raw) < 5:
        raise FormatError("a signature line without a signature")
    return SignatureLine(name, raw[:4], raw[4:])
