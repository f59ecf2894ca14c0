"""Strict reading of the members of a signed JSON object: exact names, exact types, one error that says which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from node.core.canonical import Json
from node.errors import FormatError

T = TypeVar("T")

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def _is_line(text: str) -> bool:
    """Whether a text has no control characters; the ideographic space stands in Chinese names."""
    return text.replace("\u3000", " ").isprintable()


class Fields:
    """The members of one JSON object, named in errors by `what`."""

    def __init__(self, what: str, value: Json, required: Iterable[str], optional: Iterable[str] = ()) -> None:
        """Refuse anything but an object with the required members and no others than the optional ones.

        Raises:
            FormatError: a member is missing or unknown.
        """
        if not isinstance(value, dict):
            raise FormatError(f"{what} is not an object")
        needed = set(required)
        if missing := sorted(needed - value.keys()):
            raise FormatError(f"{what} lacks {', '.join(missing)}")
        if unknown := sorted(value.keys() - needed - set(optional)):
            raise FormatError(f"{what} has unknown members: {', '.join(unknown)[:200]}")
        self._what, self._value = what, value

    def __contains__(self, name: str) -> bool:
        """Whether an optional member is there."""
        return name in self._value

    def text(self, name: str, *, length_max: int = 200) -> str:
        """A string that is not blank, has no control characters, and is at most `length_max` long."""
        value = self._value[name]
        if not isinstance(value, str) or not value.strip() or len(value) > length_max or not _is_line(value):
            raise self._error(name, f"is not a line of 1 to {length_max} characters")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer within bounds."""
        value = self._value[name]
        if type(value) is not int or not low <= value <= high:
            raise self._error(name, f"is not an integer from {low} to {high}")
        return value

    def optional_hash(self, name: str) -> str | None:
        """64 lower-case hex digits, or null."""
        value = self._value[name]
        if value is None:
            return None
        if not isinstance(value, str) or not _HASH.fullmatch(value):
            raise self._error(name, "is not a SHA-256 in lower-case hex")
        return value

    def is_null(self, name: str) -> bool:
        """Whether the member is null."""
        return self._value[name] is None

    def parsed(self, name: str, parse: Callable[[str], T]) -> T:
        """A string through `parse`, whose FormatError is told with the member's name."""
        return self._parse(name, self._value[name], parse)

    def texts(self, name: str, parse: Callable[[str], T], *, least: int, most: int) -> tuple[T, ...]:
        """A list of distinct strings, each through `parse`."""
        values = self.objects(name, least=least, most=most)
        if not all(isinstance(value, str) for value in values) or len(set(values)) != len(values):
            raise self._error(name, "is not a list of distinct strings")
        return tuple(self._parse(name, value, parse) for value in values)

    def objects(self, name: str, *, least: int, most: int) -> list[Json]:
        """A list of `least` to `most` values of any type."""
        values = self._value[name]
        if not isinstance(values, list) or not least <= len(values) <= most:
            raise self._error(name, f"is not a list of {least} to {most}")
        return values

    def mapping(self, name: str) -> dict[str, Json]:
        """A nested object."""
        value = self._value[name]
        if not isinstance(value, dict):
            raise self._error(name, "is not an object")
        return value

    def _parse(self, name: str, value: Json, parse: Callable[[str], T]) -> T:
        if not isinstance(value, str):
            raise self._error(name, "is not text")
        try:
            return parse(value)
        except FormatError as error:
            raise self._error(name, error.message) from error

    def _error(self, name: str, message: str) -> FormatError:
        return FormatError(f"{self._what}: {name}: {message}")
