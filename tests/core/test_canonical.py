"""Canonical JSON: one spelling is taken, all others are refused, and a naive encoder agrees."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.canonical import (
    DEPTH_MAX,
    INTEGER_MAX,
    escape_pointer,
    format_canonical,
    parse_canonical,
    parse_strict,
    walk_violations,
)
from node.errors import InvalidRecordError
from tests.core import naive, strategies


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


def refusal(parse: Any, raw: bytes) -> InvalidRecordError:
    with pytest.raises(InvalidRecordError) as caught:
        parse(raw)
    return caught.value


@given(strategies.values)
def test_a_naive_encoder_writes_the_same_bytes(value: Any) -> None:
    assert format_canonical(value) == naive.encode(value)


@given(strategies.values)
def test_round_trip(value: Any) -> None:
    raw = naive.encode(value)
    assert parse_canonical(raw) == value
    assert format_canonical(parse_canonical(raw)) == raw


def test_every_character_of_the_basic_plane_is_written_like_the_naive_encoder() -> None:
    for start in range(0, 0x10000, 0x400):
        if 0xD800 <= start < 0xE000:
            continue
        text = "".join(map(chr, range(start, start + 0x400)))
        value = {text: text + "\U0001f9ea"}
        raw = naive.encode(value)
        assert format_canonical(value) == raw
        assert parse_canonical(raw) == value


@given(st.lists(strategies.names, unique=True, max_size=12))
def test_names_are_sorted_alike_by_code_point_utf8_and_utf16(names: list[str]) -> None:
    by_utf16 = sorted(names, key=lambda name: name.encode("utf-16-be"))
    assert sorted(names) == by_utf16 == sorted(names, key=lambda name: name.encode())
    assert list(json.loads(format_canonical(dict.fromkeys(names)))) == by_utf16


NOT_CANONICAL = {
    "empty": b"",
    "space": b'{"a": 1}',
    "leading space": b' {"a":1}',
    "trailing newline": b'{"a":1}\n',
    "trailing bytes": b'{"a":1}{}',
    "trailing NUL": b'{"a":1}\x00',
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "order": b'{"b":1,"a":2}',
    "duplicate name": b'{"a":1,"a":2}',
    "duplicate name, same value": b'{"a":1,"a":1}',
    "duplicate name, escaped": b'{"a":1,"\\u0061":1}',
    "nested duplicate name": b'{"a":[{"b":1,"b":1}]}',
    "float": b'{"a":1.5}',
    "integral float": b'{"a":1.0}',
    "integral float in a list": b"[1.0]",
    "negative float": b"[-0.5]",
    "negative zero": b'{"a":-0}',
    "negative zero float": b'{"a":-0.0}',
    "exponent": b'{"a":1e5}',
    "capital exponent": b'{"a":1E5}',
    "large exponent": b'{"a":1e22}',
    "large exponent, as orjson writes it": b"[1e+22]",
    "small exponent": b'{"a":1e-7}',
    "float of 16 digits": b"[1234567890123456.0]",
    "float behind an escaped quote": b'["\\"",1.5]',
    "float behind two escaped quotes": b'["\\"\\"",1.5]',
    "float behind a name with an escaped quote": b'{"\\"":0,"a":1.5}',
    "float behind an escaped backslash": b'["\\\\",1.5]',
    "float behind an escaped backslash and quote": b'["\\\\\\"",1e16]',
    "float behind text": b'["1",1.5,"2"]',
    "float before an escaped quote": b'[1.5,"\\""]',
    "NaN": b'{"a":NaN}',
    "Infinity": b"[Infinity]",
    "minus Infinity": b"[-Infinity]",
    "leading zero": b'{"a":01}',
    "plus": b'{"a":+1}',
    "2^53": b'{"a":9007199254740992}',
    "-2^53": b'{"a":-9007199254740992}',
    "2^53 alone": b"9007199254740992",
    "2^63": b'{"a":9223372036854775808}',
    "2^64": b'{"a":18446744073709551616}',
    "a hundred digits": b"[" + b"9" * 100 + b"]",
    "top-level float": b"1.5",
    "escaped ASCII": b'{"a":"\\u0041"}',
    "escaped Chinese": b'{"a":"\\u6c34"}',
    "escaped solidus": b'{"a":"\\/"}',
    "escaped newline, long form": b'{"a":"\\u000a"}',
    "capital escape": b'{"a":"\\u001F"}',
    "escaped delete": b'{"a":"\\u007f"}',
    "escaped surrogate pair": b'{"a":"\\ud83e\\uddea"}',
    "raw control character": b'{"a":"\x01"}',
    "lone high surrogate": b'{"a":"\\ud800"}',
    "lone low surrogate": b'{"a":"\\udc00"}',
    "surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "invalid UTF-8": b'{"a":"\xff"}',
    "name above U+FFFF": '{"\U00010000":1}'.encode(),
    "nested name above U+FFFF": '{"a":[{"b\U0010ffff":1}]}'.encode(),
    "comment": b'{"a":1}//',
    "trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "bare word": b"nul",
    "depth 65 of lists": nested(65),
    "depth 65 of objects": nested(65, '{"a":', "}").replace(b":}", b":1}"),
    "depth 300": nested(300),
    "depth 100000": nested(100_000),
}


@pytest.mark.parametrize("raw", NOT_CANONICAL.values(), ids=NOT_CANONICAL)
def test_other_spellings_are_refused(raw: bytes) -> None:
    error = refusal(parse_canonical, raw)
    assert error.violations


CANONICAL: dict[bytes, Any] = {
    b"{}": {},
    b"[]": [],
    b"null": None,
    b'""': "",
    b"0": 0,
    b'{"a":"1.0"}': {"a": "1.0"},
    b'{"a":":1.5,[2e9"}': {"a": ":1.5,[2e9"},
    b'[":1234567890123456789,-1.0e5"]': [":1234567890123456789,-1.0e5"],
    b'["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["]': ["[" * 68],
    b'{"a":9007199254740991,"b":-9007199254740991}': {"a": INTEGER_MAX, "b": -INTEGER_MAX},
    '["\U0001f9ea"]'.encode(): ["\U0001f9ea"],
    '{"\uffff":"\x7f\u2028"}'.encode(): {"\uffff": "\x7f\u2028"},
    b'["\\b\\t\\n\\f\\r\\"\\\\/\\u0000\\u001f"]': ['\b\t\n\f\r"\\/\x00\x1f'],
}


@pytest.mark.parametrize("raw", CANONICAL, ids=ascii)
def test_look_alikes_are_taken(raw: bytes) -> None:
    assert parse_canonical(raw) == CANONICAL[raw]
    assert parse_strict(raw) == CANONICAL[raw]
    assert format_canonical(CANONICAL[raw]) == raw


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth_64_is_the_last_one(opening: str, closing: str) -> None:
    raw = nested(DEPTH_MAX - 1, opening, closing).decode()
    deepest = raw.replace(opening + closing, opening + "[]" + closing).encode()
    assert parse_canonical(deepest) == parse_strict(deepest)
    for parse in (parse_canonical, parse_strict):
        error = refusal(parse, deepest.replace(b"[]", b"[[]]"))
        assert "64" in error.message


@given(st.binary(max_size=40))
def test_any_bytes_are_canonical_or_refused(raw: bytes) -> None:
    try:
        value = parse_canonical(raw)
    except InvalidRecordError:
        return
    assert naive.encode(value) == raw


@given(strategies.values, st.data())
def test_no_single_byte_can_change_without_notice(value: Any, data: st.DataObject) -> None:
    raw = naive.encode(value)
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    try:
        assert naive.encode(parse_canonical(changed)) == changed
    except InvalidRecordError as error:
        assert error.violations


beyond_limits = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(INTEGER_MAX + 1, 2**64 - 1)
    | st.integers(-(2**63), -INTEGER_MAX - 1)
)
number_like = st.sampled_from(
    ["1.5", ",1.5", "[2e9", ":1e5}", 'a"b1.5', "\\", '\\"', "T00:00:00.000Z", "e", "0e0", "{[", "\n1.5", "\U0001f9ea"]
)
laid_traps = st.recursive(
    strategies.scalars | number_like | beyond_limits,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strategies.names | number_like, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=300)
@given(laid_traps)
def test_the_quick_look_at_the_bytes_misses_nothing_that_the_walk_finds(value: Any) -> None:
    """`value` may break any limit at any place; its bytes are as orjson writes them, so only the limits can refuse."""
    raw = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    expected = walk_violations(value)
    for parse in (parse_canonical, parse_strict):
        if expected:
            error = refusal(parse, raw)
            if parse is parse_strict:
                assert [one.path for one in error.violations] == [one.path for one in expected]
        else:
            assert parse(raw) == value


# parse_strict: as people write it


@given(strategies.values, st.sampled_from([None, 0, 1, 4]), st.booleans(), st.randoms(use_true_random=False))
def test_strict_takes_any_order_spacing_and_escapes(value: Any, indent: int | None, ascii_only: bool, rng: Any) -> None:
    text = json.dumps(shuffled(value, rng), indent=indent, ensure_ascii=ascii_only)
    assert parse_strict(text.encode()) == value


def test_strict_takes_spaces_without_reading_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python's own encoder writes, and what people indent; only a backslash or a fault is worth a slower look."""
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("read again"))
    value = {"a b": ["c, d", {"é : {": 1}, [], {}, True, None, -5], "": " [ \t"[:3]}
    for raw in (
        json.dumps(value, ensure_ascii=False),
        json.dumps(value, ensure_ascii=False, indent="\t"),
        '\r\n{ "a" :1 }\n',
    ):
        assert parse_strict(raw.encode())


def shuffled(value: Any, rng: Any) -> Any:
    if isinstance(value, list):
        return [shuffled(item, rng) for item in value]
    if isinstance(value, dict):
        names = list(value)
        rng.shuffle(names)
        return {name: shuffled(value[name], rng) for name in names}
    return value


@pytest.mark.parametrize("number", ["1.0", "1.5", "-0.0", "1e5", "1E-7", "1e400", "-12.50"])
@pytest.mark.parametrize("template", ['{"a":[{"b/c":%s}]}', '{ "a": [ {"b/c": %s} ] }', '{"z":1,"a":[{"b/c":%s}]}'])
def test_strict_says_where_a_float_stands_and_shows_it(number: str, template: str) -> None:
    error = refusal(parse_strict, (template % number).encode())
    assert [violation.path for violation in error.violations] == ["/a/0/b~1c"]
    assert "floating-point" in error.message


def test_strict_shows_the_digits_that_were_written() -> None:
    assert '"0.10"' in refusal(parse_strict, b'{ "a": 0.10 }').message


def test_strict_reports_every_float_at_once() -> None:
    error = refusal(parse_strict, b'{ "b": 1.5, "a": [2.5, 3, 4e0], "c": {"d": "5.5"} }')
    assert [violation.path for violation in error.violations] == ["/a/0", "/a/2", "/b"]


@pytest.mark.parametrize("template", ['{"a":%s}', '{ "a" : %s }'])
@pytest.mark.parametrize("number", [2**53, -(2**53), 2**63, 2**64, 10**100])
def test_strict_refuses_big_integers_with_their_path(template: str, number: int) -> None:
    error = refusal(parse_strict, (template % number).encode())
    assert [violation.path for violation in error.violations] == ["/a"]
    assert "2^53" in error.message


STRICTLY_REFUSED = {
    name: NOT_CANONICAL[name]
    for name in (
        "empty",
        "trailing bytes",
        "trailing NUL",
        "byte order mark",
        "duplicate name",
        "duplicate name, same value",
        "duplicate name, escaped",
        "nested duplicate name",
        "NaN",
        "Infinity",
        "minus Infinity",
        "leading zero",
        "plus",
        "2^53 alone",
        "top-level float",
        "raw control character",
        "lone high surrogate",
        "lone low surrogate",
        "surrogate in UTF-8",
        "overlong UTF-8",
        "invalid UTF-8",
        "name above U+FFFF",
        "nested name above U+FFFF",
        "comment",
        "trailing comma",
        "single quotes",
        "bare word",
        "depth 65 of lists",
        "depth 65 of objects",
        "depth 300",
        "depth 100000",
    )
} | {
    "integer of 5000 digits": b"[" + b"9" * 5000 + b"]",
    "spaced duplicate name": b'{ "a": 1, "a": 2 }',
    "spaced lone surrogate in a name": b'{ "\\ud800": 1 }',
    "spaced depth 65": b" " + nested(65),
}


@pytest.mark.parametrize("raw", STRICTLY_REFUSED.values(), ids=STRICTLY_REFUSED)
def test_strict_refuses_what_could_not_be_made_canonical(raw: bytes) -> None:
    assert refusal(parse_strict, raw).violations


def test_strict_names_the_doubled_member_and_the_line() -> None:
    assert "'key'" in refusal(parse_strict, b'{"key":1,"body":{},"key":2}').message
    assert "line 2 column" in refusal(parse_strict, b'{"key":1,\n"body":}').message
    assert "byte 5" in refusal(parse_strict, b'["abc\xff"]').message


def test_strict_takes_minus_zero_as_the_integer_zero() -> None:
    assert format_canonical(parse_strict(b"[-0]")) == b"[0]"


@given(st.binary(max_size=40))
def test_strict_returns_only_what_can_be_made_canonical(raw: bytes) -> None:
    try:
        value = parse_strict(raw)
    except InvalidRecordError:
        return
    assert parse_canonical(format_canonical(value)) == value


# Values that never were text


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": 1.0}, "/a"),
        ({"a": float("nan")}, "/a"),
        ({"a": [INTEGER_MAX + 1]}, "/a/0"),
        ({"a": b"bytes"}, "/a"),
        ({"a": (1,)}, "/a"),
        ({"a~b": {1}}, "/a~0b"),
        ({"a": "\ud800"}, "/a"),
        ({1: 1}, ""),
        ({"x": {"\U00010000": 1}}, "/x"),
        ({"x": {"\udfff": 1}}, "/x"),
    ],
)
def test_format_refuses_what_json_cannot_hold(value: Any, path: str) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        format_canonical(value)
    assert [violation.path for violation in caught.value.violations] == [path]


def test_walk_finds_nothing_in_what_parses() -> None:
    assert walk_violations({"a": [True, False, None, 0, "", {"b": INTEGER_MAX}]}) == []


@given(st.text(max_size=20))
def test_pointer_escapes_can_be_undone(name: str) -> None:
    escaped = escape_pointer(name)
    assert "/" not in escaped
    assert escaped.replace("~1", "/").replace("~0", "~") == name
