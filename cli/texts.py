"""Small values on the command line: text, fingerprints, and how they are written for people."""

from __future__ import annotations

import os
import re
from typing import Any

import click

from cli.outcome import UsageFault
from node.core.names import parse_kind, parse_member
from node.errors import FormatError

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class TextType(click.ParamType[str]):
    """Text that is sent on, so it must be UTF-8."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take the bytes that the shell passed as UTF-8, also where the locale says ASCII; refuse others."""
        try:
            return os.fsencode(str(value)).decode("utf-8")
        except UnicodeError:
            self.fail("not UTF-8; set the terminal to UTF-8", param, ctx)


class KindType(TextType):
    """The name of a kind; whether it exists is the node's business."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what cannot name a kind."""
        try:
            return parse_kind(super().convert(value, param, ctx))
        except FormatError as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)


class QuorumType(click.ParamType[int]):
    """A quorum: a number from 1, or `default`, which is 0 here."""

    name = "quorum"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Refuse what is neither."""
        if value == "default":
            return 0
        if not (str(value).isascii() and str(value).isdigit() and 0 < int(value) <= 1000):
            self.fail(f"{str(value)[:40]!r} is neither a number from 1 to 1000 nor the word default", param, ctx)
        return int(value)


class MemberType(TextType):
    """A member's id; whether it is in the alliance is the node's business."""

    name = "member"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what cannot be a member's id."""
        try:
            return parse_member(super().convert(value, param, ctx))
        except FormatError as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)


TEXT, KIND, MEMBER, QUORUM = TextType(), KindType(), MemberType(), QuorumType()


def parse_fingerprint(text: str) -> str:
    """A fingerprint as people copy it: spaces, colons and capitals do not matter.

    Raises:
        UsageFault: it does not have 64 hexadecimal digits.
    """
    plain = re.sub(r"[\s:]", "", text).lower()
    if not _FINGERPRINT.fullmatch(plain):
        raise UsageFault(
            f"the fingerprint must have 64 hexadecimal digits; this one has {len(plain)} characters",
            hint="ask a member you know for it: labmesh roster show prints it",
        )
    return plain


def format_fingerprint(fingerprint: str) -> str:
    """A fingerprint in groups of four, for reading aloud."""
    return " ".join(fingerprint[i : i + 4] for i in range(0, len(fingerprint), 4))


def count(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_entries(number: int, adjective: str = "") -> str:
    """`1 entry`, `2,000 lost entries`."""
    return f"{number:,} {adjective}{' ' if adjective else ''}{'entry' if number == 1 else 'entries'}"


def format_age(seconds: float) -> str:
    """An age in one unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def format_size(size_bytes: int) -> str:
    """A size in one unit."""
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    scaled = size_bytes / 1024
    for unit in ("KiB", "MiB"):
        if scaled < 1024:
            return f"{scaled:.1f} {unit}"
        scaled /= 1024
    return f"{scaled:.1f} GiB"
