"""Cut what a lab system wrote into single records. Nothing is judged here: the node does that, for every way in.

A file that begins with `[` is one JSON array; one that begins with `{` is one object, or JSON Lines; anything else is cut
into lines and left to the node to refuse. Each record keeps its exact text, so that the node sees a doubled name or the
zeros of a decimal as they were written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NoReturn

import orjson

RECORD_SIZE_MAX = 1024 * 1024
CUT_SIZE = 2 * RECORD_SIZE_MAX + 1  # of a record that is far too large, so much is sent: enough to be refused
LINES_LOOKED_AT = 200
CSV_LOOKED_AT = 64 * 1024

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_SPACES = re.compile(r"[ \t\r\n]*")
_SEPARATORS = (b",", b";", b"\t")
RECORD_FORM = 'a record is one JSON object a line, {"key": "…", "body": {…}}; see labmesh push --help and the README'
_CSV_FAULT = "this looks like CSV (a table with separators), which push does not take yet: " + RECORD_FORM
_LINE_FAULT = "this line is no JSON object: " + RECORD_FORM
_OTHER_FILES = {
    b"PK\x03\x04": "this is a ZIP or XLSX file; push JSON or JSON Lines",
    b"\xff\xfe": "this is UTF-16; save it as UTF-8",
    b"\xfe\xff": "this is UTF-16; save it as UTF-8",
}
# Numbers stay text: only where each record ends is of interest.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record as it was written: its bytes, and its line (for an array: its number), from 1.

    `fault` is set where this file, not the record, is wrong; the node refuses such bytes, but could not say why.
    """

    raw: bytes
    line: int
    fault: str = ""


def split_records(content: bytes) -> Iterator[RawRecord]:
    """The records in a file, in order."""
    content = content.removeprefix(_BYTE_ORDER_MARK)
    for signature, fault in _OTHER_FILES.items():
        if content.startswith(signature):
            return iter([RawRecord(content[:CUT_SIZE], 1, fault)])
    start = content.lstrip(_SPACE)[:1]
    if start == b"[":
        return iter(_split_array(content))
    if start == b"{" and _is_one_object(content):
        line = 1 + content[: content.index(b"{")].count(b"\n")
        return iter([_build(content.strip(_SPACE), line)])
    if _looks_like_csv(content):
        return iter([RawRecord(content[:CUT_SIZE], 1, _CSV_FAULT)])
    return _split_lines(content)


def compact(raw: bytes) -> bytes:
    """The record without the spaces between its parts, so that the node reads it faster; its meaning stays to the letter.

    Where that cannot be promised (a doubled name, a floating-point number, no JSON) the bytes stay as they are.
    """
    try:
        if orjson.dumps(orjson.loads(raw)) == raw:
            return raw
        return orjson.dumps(_EXACT_DECODER.decode(raw.decode()))
    except (ValueError, TypeError, RecursionError):
        return raw


def _refuse_doubled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a doubled name")
    return members


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(text)


_EXACT_DECODER = json.JSONDecoder(
    object_pairs_hook=_refuse_doubled, parse_float=_refuse_number, parse_constant=_refuse_number
)


def _split_lines(content: bytes) -> Iterator[RawRecord]:
    for number, line in enumerate(BytesIO(content), 1):
        raw = line.strip(_SPACE)
        if raw.startswith(b"{"):
            yield _build(raw, number)
        elif raw:
            yield RawRecord(raw[:CUT_SIZE], number, _LINE_FAULT)


def _split_array(content: bytes) -> list[RawRecord]:
    try:
        text = content.decode("utf-8")
        return [_build(item.encode(), number) for number, item in enumerate(_cut_items(text), 1)]
    except UnicodeDecodeError as error:
        fault = f"not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        fault = f"not a JSON array: {error.msg} at line {error.lineno} column {error.colno}"
    except (RecursionError, ValueError) as error:
        fault = f"not a JSON array: {error}"
    return [RawRecord(content[:CUT_SIZE], 1, fault)]


def _cut_items(text: str) -> Iterator[str]:
    """The text of each item of the array that `text` is."""
    position = _skip_spaces(text, text.index("[") + 1)
    if text[position : position + 1] != "]":
        while True:
            _, end = _DECODER.raw_decode(text, position)
            yield text[position:end]
            position = _skip_spaces(text, end)
            if text[position : position + 1] != ",":
                break
            position = _skip_spaces(text, position + 1)
    if text[position : position + 1] != "]":
        raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
    if (end := _skip_spaces(text, position + 1)) != len(text):
        raise json.JSONDecodeError("Extra text after the array", text, end)


def _skip_spaces(text: str, position: int) -> int:
    match = _SPACES.match(text, position)
    assert match is not None  # the pattern matches the empty text
    return match.end()


def _looks_like_csv(content: bytes) -> bool:
    """Whether the file begins with two lines that are no JSON objects or arrays and share a separator."""
    lines = [line for line in content[:CSV_LOOKED_AT].splitlines() if line.strip()][:2]
    if len(lines) < 2 or any(line.lstrip(_SPACE)[:1] in (b"{", b"[") for line in lines):
        return False
    return any(separator in lines[0] and separator in lines[1] for separator in _SEPARATORS)


def _is_one_object(content: bytes) -> bool:
    """Whether the whole file is one object, perhaps a broken one, and not JSON Lines."""
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        lines = [line.strip(_SPACE) for line, _ in zip(BytesIO(content), range(LINES_LOOKED_AT), strict=False)]
        written = [line for line in lines if line]
        whole = sum(line.startswith(b"{") and line.endswith(b"}") for line in written)
        return len(written) > 1 and 2 * whole < len(written)
    return True


def _build(raw: bytes, line: int) -> RawRecord:
    if len(raw) < CUT_SIZE:
        return RawRecord(raw, line)
    fault = f"the record has {len(raw)} bytes; at most {RECORD_SIZE_MAX} are possible, larger content belongs into a blob"
    return RawRecord(raw[:CUT_SIZE], line, fault)
