"""Names: alliances, members, kinds, keys, record ids, and the log and witness names made of them.

Rules: DESIGN sections 3 and 4. Every name is plain ASCII except a record's key, which is NFC Unicode.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from node.errors import FormatError

MEMBER_PATTERN = r"[a-z0-9][a-z0-9-]{0,30}"
KIND_PATTERN = r"[a-z][a-z0-9-]{0,30}"
KEY_LENGTH_MAX = 200
SHOWN_MAX = 80 + KEY_LENGTH_MAX

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ALLIANCE = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_MEMBER = re.compile(MEMBER_PATTERN)
_KIND = re.compile(KIND_PATTERN)


def parse_alliance(text: str) -> str:
    """Return `text` if it is an alliance name: DNS-like, lower-case, at least two labels, at most 200 characters.

    Raises:
        FormatError: it is not.
    """
    if len(text) > 200 or not _ALLIANCE.fullmatch(text):
        raise FormatError(
            f"{_shown(text)} is not an alliance name",
            hint="use a DNS-like lower-case name, for example quality.jinan.example",
        )
    return text


def parse_member(text: str) -> str:
    """Return `text` if it is a member id.

    Raises:
        FormatError: it is not.
    """
    if not _MEMBER.fullmatch(text):
        raise FormatError(
            f"{_shown(text)} is not a member id",
            hint="use 1 to 31 characters of a-z, 0-9 and '-', not starting with '-', for example jinan",
        )
    return text


def parse_kind(text: str) -> str:
    """Return `text` if it can name a kind.

    Raises:
        FormatError: it cannot.
    """
    if not _KIND.fullmatch(text):
        raise FormatError(f"{_shown(text)} is not a kind name", hint="for example capability or result")
    return text


def _shown(text: str) -> str:
    """A refused text for a message: a megabyte of it would help nobody."""
    return repr(text) if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]!r}…"


def key_fault(key: str) -> str | None:
    """Say what is wrong with a record's key, or None when nothing is."""
    if not key or len(key) > KEY_LENGTH_MAX:
        return f"the key must have 1 to {KEY_LENGTH_MAX} characters, this one has {len(key)}"
    if "@" in key:
        return "the key must not contain '@', which separates the revision"
    if key[0].isspace() or key[-1].isspace():
        return "the key must not begin or end with a space"
    if key.isascii() and key.isprintable():
        return None
    if any(unicodedata.category(character)[0] == "C" for character in key):
        return "the key must not contain control or unassigned characters"
    if not unicodedata.is_normalized("NFC", key):
        return "the key must be in Unicode normalisation form C"
    return None


@dataclass(frozen=True, slots=True)
class RecordId:
    """`<author>/<kind>/<key>`, with `@<revision>` where one revision is meant."""

    author: str
    kind: str
    key: str
    revision: int | None = None

    def __str__(self) -> str:
        """The id as it is written."""
        suffix = "" if self.revision is None else f"@{self.revision}"
        return f"{self.author}/{self.kind}/{self.key}{suffix}"


def parse_record_id(text: str) -> RecordId:
    """Parse a record id, with or without a revision.

    Raises:
        FormatError: the text is not a record id.
    """
    head, at, revision_text = text.partition("@")
    parts = head.split("/", 2)
    hint = "an id looks like jinan/result/WJ-2024-000123, or …@2 for one revision"
    if len(parts) != 3:
        raise FormatError(f"{_shown(text)} is not a record id", hint=hint)
    author, kind, key = parse_member(parts[0]), parse_kind(parts[1]), parts[2]
    if fault := key_fault(key):
        raise FormatError(f"{_shown(text)} is not a record id: {fault}", hint=hint)
    if not at:
        return RecordId(author, kind, key)
    if not re.fullmatch(r"[1-9][0-9]{0,15}", revision_text):
        raise FormatError(f"{_shown(text)} does not end in a revision number", hint=hint)
    return RecordId(author, kind, key, int(revision_text))


def log_origin(alliance: str, member: str) -> str:
    """The origin of a member's log, which is also the name of its log key."""
    return f"{alliance}/log/{member}"


def witness_name(alliance: str, member: str) -> str:
    """The name of a member's witness key."""
    return f"{alliance}/witness/{member}"
