"""Records and drafts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.canonical import parse_canonical
from node.core.names import RecordId, key_fault
from node.core.record import (
    RECORD_SIZE_MAX,
    Draft,
    Record,
    build_record,
    may_read,
    parse_draft,
    parse_record,
    validate_record,
)
from node.errors import InvalidRecordError, NotFoundError
from tests.builders import kinds, record_bytes, record_content
from tests.core import strategies

PUBLISHED = datetime(2026, 11, 20, 8, 30, 0, 123456, tzinfo=UTC)


def parse(raw: bytes, author: str = "jinan") -> Record:
    return parse_record(raw, author=author, kinds=kinds())


def build(draft: Draft, kind: str = "result", revision: int = 1) -> Record:
    return build_record(draft, author="jinan", kind=kind, revision=revision, published=PUBLISHED, kinds=kinds())


def paths(caught: pytest.ExceptionInfo[InvalidRecordError]) -> list[str]:
    return sorted(violation.path for violation in caught.value.violations)


@given(
    strategies.record_keys,
    st.dictionaries(strategies.names, strategies.values, max_size=4),
    st.none() | st.sets(strategies.members.filter(lambda m: m != "jinan"), max_size=4).map(sorted).map(tuple),
    st.none() | strategies.record_ids.map(lambda i: RecordId(i.author, i.kind, i.key)),
    st.integers(1, 2**53 - 1),
    strategies.moments,
)
def test_round_trip(
    key: str, body: Any, audience: tuple[str, ...] | None, thread: RecordId | None, revision: int, published: datetime
) -> None:
    draft = Draft(key, body, audience, None if thread is None else str(thread), f"jinan/notice/{key}@1")
    record = build_record(draft, author="jinan", kind="notice", revision=revision, published=published, kinds=kinds())
    assert parse(record.raw) == record
    assert parse_canonical(record.raw) == record.content
    assert (record.key, record.revision, record.kind, record.understood) == (key, revision, "notice", True)
    assert record.audience == (("*",) if audience is None else audience)


def test_the_bytes_of_a_record() -> None:
    record = build(Draft("济-1", {"value": "0.10"}, ("qingdao", "yantai")), revision=2)
    assert record.raw.decode() == (
        '{"audience":["qingdao","yantai"],"author":"jinan","body":{"value":"0.10"},"key":"济-1","kind":"result",'
        '"published":"2026-11-20T08:30:00.123Z","revision":2,"schema":"result/1"}'
    )
    assert record.id == RecordId("jinan", "result", "济-1")


def test_the_newest_schema_is_taken() -> None:
    assert build(Draft("a", {}), kind="notice").content["schema"] == "notice/2"


def test_an_unknown_kind_cannot_be_built() -> None:
    with pytest.raises(NotFoundError):
        build(Draft("a", {}), kind="recipe")


def test_an_unknown_kind_is_kept_but_not_understood() -> None:
    record = parse(record_bytes(kind="recipe", schema="recipe/1", body={"any": "thing"}))
    assert not record.understood
    assert record.kind == "recipe"
    assert not parse(record_bytes(kind="result", schema="result/2", body={"any": "thing"})).understood


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"author": "qingdao"}, "/author"),
        ({"key": "a@b"}, "/key"),
        ({"key": "e\u0301"}, "/key"),
        ({"key": " a"}, "/key"),
        ({"key": "a\u200bb"}, "/key"),
        ({"schema": "notice/1"}, "/schema"),
        ({"kind": "res", "schema": "result/1"}, "/schema"),
        ({"audience": ["*", "qingdao"]}, "/audience"),
        ({"audience": ["*", "*"]}, "/audience"),
        ({"audience": ["jinan"]}, "/audience"),
        ({"audience": ["yantai", "qingdao"]}, "/audience"),
        ({"audience": ["qingdao", "qingdao"]}, "/audience"),
        ({"audience": ["Qingdao"]}, "/audience"),
        ({"audience": [""]}, "/audience"),
        ({"thread": "qingdao/order/ a"}, "/thread"),
        ({"thread": "qingdao/order/e\u0301"}, "/thread"),
        ({"replaces": "jinan/result/a\x7f@1"}, "/replaces"),
        ({"published": "2026-11-20T08:30:00.123z"}, "/published"),
        ({"published": "2026-11-31T08:30:00.123Z"}, "/published"),
        ({"published": "2026-11-20 08:30:00.123Z"}, "/published"),
        ({"body": {"value": 1}}, "/body/value"),
    ],
    ids=str,
)
def test_rules(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        parse(record_bytes(**changes))
    assert paths(caught) == [path]


def test_every_broken_rule_is_told() -> None:
    content = record_content(author="qingdao", key="a@b", audience=["jinan", "*"], thread="x/y/ z")
    violations = validate_record(content, author="jinan", kinds=kinds())
    assert [violation.path for violation in violations] == ["/author", "/key", "/audience", "/thread"]


def test_only_canonical_bytes_are_a_record() -> None:
    raw = record_bytes()
    for other in (raw + b"\n", raw.replace(b":", b": ", 1), raw.replace(b"jinan", b"\\u006ainan", 1), b"[]", b"", b"null"):
        with pytest.raises(InvalidRecordError):
            parse(other)


def test_one_mebibyte_is_the_most() -> None:
    frame = len(record_bytes(kind="notice", schema="notice/1", body={"x": ""}))

    def sized(size: int) -> bytes:
        return record_bytes(kind="notice", schema="notice/1", body={"x": "y" * (size - frame)})

    largest = sized(RECORD_SIZE_MAX)
    assert len(largest) == 1024 * 1024
    assert parse(largest).raw == largest
    with pytest.raises(InvalidRecordError, match="1048577 bytes"):
        parse(sized(RECORD_SIZE_MAX + 1))
    with pytest.raises(InvalidRecordError, match="blob"):
        build(Draft("a", {"x": "y" * RECORD_SIZE_MAX}), kind="notice")


@given(st.data())
def test_a_changed_byte_never_gives_the_same_record(data: st.DataObject) -> None:
    raw = record_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    try:
        assert parse(changed).raw == changed != raw
    except InvalidRecordError as error:
        assert error.violations


def test_the_statement_leaves_out_what_the_daemon_sets() -> None:
    one = parse(record_bytes(published="2026-11-20T08:30:00.123Z"))
    two = parse(record_bytes(published="2026-11-21T08:30:00.123Z", revision=7))
    assert one.statement() == two.statement() == {"audience": ["*"], "body": {"value": "0.10", "unit": "mg/L"}}
    other: list[dict[str, Any]] = [
        {"audience": []},
        {"thread": "jinan/result/a"},
        {"replaces": "jinan/result/a@1"},
        {"body": {"value": "0.1"}},
    ]
    for changes in other:
        assert parse(record_bytes(**changes)).statement() != one.statement()


@pytest.mark.parametrize(
    ("audience", "reader", "allowed"),
    [
        (["*"], "qingdao", True),
        ([], "qingdao", False),
        ([], "jinan", True),
        (["qingdao"], "qingdao", True),
        (["qingdao"], "yantai", False),
        (["qingdao"], "jinan", True),
        (["qingdao"], "qing", False),
        (["qingdao"], "*", False),
    ],
)
def test_may_read(audience: list[str], reader: str, allowed: bool) -> None:
    assert may_read(audience, author="jinan", reader=reader) is allowed


# Drafts


def test_a_draft() -> None:
    assert parse_draft({"key": "a", "body": {"x": 1}}) == Draft("a", {"x": 1})
    full = {
        "key": "a",
        "body": {},
        "audience": ["yantai", "qingdao"],
        "thread": "jinan/result/a",
        "replaces": "jinan/result/a@1",
        "revision": 3,
    }
    assert parse_draft(full) == Draft("a", {}, ("qingdao", "yantai"), "jinan/result/a", "jinan/result/a@1", 3)
    assert parse_draft({"key": "a", "body": {}, "audience": []}).audience == ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], [""]),
        (None, [""]),
        ("a", [""]),
        ({}, ["", ""]),
        ({"key": "a"}, [""]),
        ({"body": {}}, [""]),
        ({"key": 1, "body": []}, ["/body", "/key"]),
        ({"key": "a", "body": {}, "kind": "result"}, ["/kind"]),
        ({"key": "a", "body": {}, "a/b~c": 1}, ["/a~1b~0c"]),
        ({"key": "a", "body": {}, "revision": True}, ["/revision"]),
        ({"key": "a", "body": {}, "revision": "1"}, ["/revision"]),
        ({"key": "a", "body": {}, "audience": "*"}, ["/audience"]),
        ({"key": "a", "body": {}, "audience": None}, ["/audience"]),
        ({"key": "a", "body": {}, "audience": ["a", 1]}, ["/audience"]),
        ({"key": "a", "body": {}, "thread": None}, ["/thread"]),
        ({"key": None, "extra": 1, "audience": [1]}, ["", "/audience", "/extra", "/key"]),
    ],
    ids=str,
)
def test_a_draft_tells_all_its_violations(content: Any, expected: list[str]) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        parse_draft(content)
    assert paths(caught) == expected


@pytest.mark.parametrize(
    ("draft", "path"),
    [
        (Draft("", {"value": "1"}), "/key"),
        (Draft("a@1", {"value": "1"}), "/key"),
        (Draft("a", {}), "/body"),
        (Draft("a", {"value": "1"}, ("jinan",)), "/audience"),
        (Draft("a", {"value": "1"}, ("qingdao", "qingdao")), "/audience"),
        (Draft("a", {"value": "1"}, thread="a"), "/thread"),
        (Draft("a", {"value": "1"}, replaces="jinan/result/a"), "/replaces"),
    ],
    ids=str,
)
def test_a_bad_draft_is_not_built(draft: Draft, path: str) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        build(draft)
    assert paths(caught) == [path]


@given(st.text(max_size=210))
def test_a_record_takes_a_key_exactly_when_it_has_no_fault(key: str) -> None:
    try:
        assert build(Draft(key, {"value": "1"})).key == key
        assert key_fault(key) is None
    except InvalidRecordError as error:
        assert key_fault(key) is not None
        assert {violation.path for violation in error.violations} == {"/key"}
