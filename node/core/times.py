"""Times as they are written in records, cards and rosters: UTC, `2026-11-20T08:30:00.123Z` or without the fraction."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from node.errors import FormatError

# The hour is looked at here because newer Pythons take 24:00 for the next day's midnight, a second spelling.
_SECOND = r"\d{4}-\d\d-\d\dT(?!24)\d\d:\d\d:\d\d"
_MILLISECONDS = re.compile(_SECOND + r"\.\d{3}Z", re.ASCII)
_SECONDS = re.compile(_SECOND + "Z", re.ASCII)


@lru_cache(maxsize=256)  # all records of a push have one time
def format_milliseconds(moment: datetime) -> str:
    """Three decimals, as in a record's `published`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_seconds(moment: datetime) -> str:
    """Whole seconds, as in cards and rosters."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@lru_cache(maxsize=256)
def parse_milliseconds(text: str) -> datetime:
    """Parse a time with three decimals.

    Raises:
        FormatError: another form, or a date that does not exist.
    """
    return _parse(text, _MILLISECONDS)


def parse_seconds(text: str) -> datetime:
    """Parse a time in whole seconds.

    Raises:
        FormatError: another form, or a date that does not exist.
    """
    return _parse(text, _SECONDS)


def _parse(text: str, pattern: re.Pattern[str]) -> datetime:
    if not pattern.fullmatch(text):
        raise FormatError(f"{text[:40]!r} is not a UTC time")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise FormatError(f"{text!r} is not a time that exists") from error
