"""Canonical JSON: RFC 8785, restricted so that two encoders cannot disagree (DESIGN section 4).

No floating-point numbers, integers within ±(2^53-1), member names in the basic multilingual plane, no duplicate
names, no lone surrogates, depth at most 64. Within these limits sorting by code point, by UTF-8 byte and by UTF-16 unit
is the same, and so is every encoder's output.

`orjson` takes duplicate names in silence, reads deeper than it writes and reads big integers as floats. Re-encoding and
comparing catches the first, the walk below the others; the walk runs only when a cheap look at the bytes cannot rule
them out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NoReturn

import orjson

from node.errors import InvalidRecordError, Violation

DEPTH_MAX = 64
INTEGER_MAX = 2**53 - 1

Json = Any

_EXPONENT = re.compile(rb"[0-9]e")
_LEAD_BYTES_ABOVE_U_FFFF = bytes(range(0xF0, 0xF5))
_SPACES = b" \t\r\n"
_STRICT = orjson.OPT_STRICT_INTEGER
_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


def format_canonical(value: Json) -> bytes:
    """Encode a value that `walk_violations` accepts.

    Raises:
        InvalidRecordError: the value cannot be written canonically.
    """
    if violations := walk_violations(value):
        raise InvalidRecordError(violations)
    return dumps_canonical(value)


def dumps_canonical(value: Json) -> bytes:
    """Encode a value whose parts are already known to be canonical."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def parse_canonical(raw: bytes) -> Json:
    """Parse bytes that must be canonical; anything else is refused.

    Raises:
        InvalidRecordError: not JSON, or not in the one canonical form.
    """
    try:
        value = orjson.loads(raw)
        again = orjson.dumps(value, option=_SORTED)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError) as error:
        raise InvalidRecordError([Violation("", f"not canonical JSON: {error}")]) from error
    if again != raw:
        raise InvalidRecordError(
            [Violation("", "not canonical JSON: re-encoding gives other bytes (order, spaces, escapes or a duplicate name)")]
        )
    if _may_break_limits(raw) and (violations := walk_violations(value)):
        raise InvalidRecordError(violations)
    return value


def parse_strict(raw: bytes) -> Json:
    """Parse JSON as people write it (any order, any spacing), and refuse what could not be made canonical.

    Raises:
        InvalidRecordError: not JSON, or duplicate names, floats, integers out of range, too deep.
    """
    try:
        value = orjson.loads(raw)
        written = orjson.dumps(value, option=_STRICT)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        value, written = None, b""
    # What orjson writes again as it stands, but for spaces, has no name twice.
    if not written or written not in (raw, _without_spaces(raw)):
        value, written = _parse_slowly(raw)
    if (not written or _may_break_limits(written)) and (violations := walk_violations(value)):
        raise InvalidRecordError(violations)
    return value


def walk_violations(value: Json) -> list[Violation]:
    """Every place in a parsed value that canonical JSON does not allow."""
    found: list[Violation] = []
    stack: list[tuple[str, int, Json]] = [("", 1, value)]
    while stack:
        path, depth, item = stack.pop()
        if not isinstance(item, dict | list):
            if fault := _scalar_fault(item):
                found.append(Violation(path, fault))
        elif depth > DEPTH_MAX:
            found.append(Violation(path, f"nested deeper than {DEPTH_MAX} levels"))
        elif isinstance(item, list):
            stack.extend((f"{path}/{i}", depth + 1, member) for i, member in enumerate(item))
        else:
            for name, member in item.items():
                if fault := _name_fault(name):
                    found.append(Violation(path, fault))
                else:
                    stack.append((f"{path}/{escape_pointer(name)}", depth + 1, member))
    return sorted(found, key=lambda violation: violation.path)


def escape_pointer(name: str) -> str:
    """Escape a member name for use in a JSON pointer (RFC 6901 section 3)."""
    return name if name.isalnum() else name.replace("~", "~0").replace("/", "~1")


def _name_fault(name: object) -> str | None:
    if not isinstance(name, str):
        return f"the member name {name!r} is not text"
    if not name.isascii() and any(character > "\uffff" or "\ud800" <= character <= "\udfff" for character in name):
        return f"the member name {name!r} has a character above U+FFFF"
    return None


def _may_break_limits(raw: bytes) -> bool:
    """Whether a value may hold a float, be too deep, or have a name above U+FFFF; integers were judged by the encoder.

    `raw` is as orjson writes it. Between the quotes that no backslash escapes lie structure and numbers, nothing else.
    """
    if b"\\" in raw:
        return True
    structure = b"".join(raw.split(b'"')[::2])
    if b"." in structure or (b"e" in structure and _EXPONENT.search(structure)):
        return True
    if structure.count(b"{") + structure.count(b"[") > DEPTH_MAX:
        return True
    return not raw.isascii() and len(raw.translate(None, _LEAD_BYTES_ABOVE_U_FFFF)) != len(raw)


def _without_spaces(raw: bytes) -> bytes:
    """Without the spaces between tokens; where a backslash may hide the end of a text, as it is."""
    if b"\\" in raw:
        return raw
    parts = raw.split(b'"')
    parts[::2] = b'"'.join(parts[::2]).translate(None, _SPACES).split(b'"')
    return b'"'.join(parts)


def _scalar_fault(item: Json) -> str | None:
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, float | _Float):  # before text, because _Float is a kind of str
        return f'the number {item} is a floating-point number; write decimals as strings, for example "{item}"'
    if isinstance(item, str):
        return "text with a lone surrogate" if not item.isascii() and any("\ud800" <= c <= "\udfff" for c in item) else None
    if isinstance(item, int):
        return None if abs(item) <= INTEGER_MAX else f"the integer {item} is beyond ±(2^53-1); write it as a string"
    return f"a value of type {type(item).__name__} is not JSON"


class _Float(str):
    """A floating-point number as it was written, kept so that the refusal can say where it stands."""


def _parse_slowly(raw: bytes) -> tuple[Json, bytes]:
    """The value, and as orjson writes it; nothing where it cannot, or has floating-point numbers, which stay as written."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRecordError([Violation("", f"not UTF-8 at byte {error.start}; save the file as UTF-8")]) from error
    floats: list[_Float] = []

    def keep(number: str) -> _Float:
        floats.append(_Float(number))
        return floats[-1]

    try:
        value = json.loads(text, object_pairs_hook=_object_without_duplicates, parse_float=keep, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidRecordError([Violation("", f"not JSON: {error.msg} at {where}")]) from error
    except RecursionError as error:
        raise InvalidRecordError([Violation("", f"nested deeper than {DEPTH_MAX} levels")]) from error
    except ValueError as error:
        raise InvalidRecordError([Violation("", f"not JSON: {error}")]) from error
    try:
        return value, b"" if floats else orjson.dumps(value, option=_STRICT)
    except orjson.JSONEncodeError:
        return value, b""


def _object_without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise InvalidRecordError([Violation("", f"the member name {twice!r} stands twice in one object")])
    return result


def _refuse(constant: str) -> NoReturn:
    raise InvalidRecordError([Violation("", f"{constant} is not JSON; say in words why there is no value")])
