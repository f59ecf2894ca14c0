"""Times: one spelling each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given

from node.core.times import format_milliseconds, format_seconds, parse_milliseconds, parse_seconds
from node.errors import FormatError
from tests.core import strategies


@given(strategies.moments)
def test_round_trip(moment: datetime) -> None:
    for format_, parse, unit in (
        (format_milliseconds, parse_milliseconds, timedelta(milliseconds=1)),
        (format_seconds, parse_seconds, timedelta(seconds=1)),
    ):
        text = format_(moment)
        parsed = parse(text)
        assert format_(parsed) == text
        assert timedelta(0) <= moment - parsed < unit


def test_other_zones_are_written_in_utc() -> None:
    beijing = datetime(2026, 1, 1, 7, 59, 59, 999999, tzinfo=timezone(timedelta(hours=8)))
    assert format_milliseconds(beijing) == "2025-12-31T23:59:59.999Z"
    assert format_seconds(beijing) == "2025-12-31T23:59:59Z"


def test_parsed_times_are_in_utc() -> None:
    assert parse_milliseconds("2026-11-20T08:30:00.123Z") == datetime(2026, 11, 20, 8, 30, 0, 123000, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-20",
        "2026-11-20 08:30:00Z",
        "2026-11-20t08:30:00z",
        "2026-11-20T08:30:00",
        "2026-11-20T08:30:00+00:00",
        "2026-11-20T08:30Z",
        "2026-11-20T08:30:00.123Z",
        "2026-11-20T08:30:00Z\n",
        " 2026-11-20T08:30:00Z",
        "2026-11-31T08:30:00Z",
        "2026-02-29T08:30:00Z",
        "2026-13-01T08:30:00Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T23:60:00Z",
        "2026-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "+2026-11-20T08:30:00Z",
        "２０２６-11-20T08:30:00Z",
    ],
)
def test_other_spellings_of_seconds_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_seconds(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T08:30:00Z",
        "2026-11-20T08:30:00.12Z",
        "2026-11-20T08:30:00.1234Z",
        "2026-11-20T08:30:00,123Z",
        "2026-11-20T24:00:00.000Z",
    ],
)
def test_other_spellings_of_milliseconds_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_milliseconds(text)
