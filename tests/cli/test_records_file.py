"""Cutting files into records: every record once, with its exact meaning and its line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import records_file
from cli.push_input import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Place, PushInput
from cli.records_file import CUT_SIZE, RawRecord, compact, split_records
from node.core.canonical import parse_strict
from node.core.record import RECORD_SIZE_MAX
from node.errors import InvalidRecordError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
RECORDS = st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4)
BREAKS = st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"])


def _split(content: bytes) -> list[RawRecord]:
    return list(split_records(content))


def _outcome(raw: bytes) -> object:
    """What the node makes of the bytes."""
    try:
        return parse_strict(raw)
    except InvalidRecordError as error:
        return error.violations


def test_the_limit_is_the_one_of_records():
    assert records_file.RECORD_SIZE_MAX == RECORD_SIZE_MAX


@given(st.lists(RECORDS, min_size=2, max_size=6), st.data())
def test_json_lines(records, data):
    text, lines, line = "", [], 1
    for record in records:
        lines.append(line)
        ending = data.draw(BREAKS)
        text += json.dumps(record, ensure_ascii=data.draw(st.booleans())) + ending
        line += ending.count("\n")
    found = _split(text.encode())
    assert [json.loads(record.raw) for record in found] == records
    assert [record.line for record in found] == lines


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 0, 1, 4]), st.booleans())
def test_an_array(values, indent, bom):
    content = json.dumps(values, indent=indent).encode()
    found = _split((b"\xef\xbb\xbf" if bom else b"") + content)
    assert [json.loads(record.raw) for record in found] == values
    assert [record.line for record in found] == list(range(1, len(values) + 1))


@given(RECORDS, st.sampled_from([None, 0, 2]), st.sampled_from(["", "\n", "\n\n  "]))
def test_one_object_in_any_layout(record, indent, before):
    content = before + json.dumps(record, indent=indent) + "\n"
    (found,) = _split(content.encode())
    assert json.loads(found.raw) == record
    assert found.line == 1 + before.count("\n")


@given(st.binary(max_size=200))
def test_nothing_that_is_not_blank_is_lost_or_raises(content):
    found = _split(content)
    assert bool(found) == bool(content.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")) or found == []
    assert all(record.raw and record.line >= 1 for record in found)


@given(RECORDS, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
def test_compacting_changes_no_judgement(record, escaped, separators):
    raw = json.dumps(record, ensure_ascii=escaped, separators=separators).encode()
    assert _outcome(compact(raw)) == _outcome(raw)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0e.-1 ab', max_size=40).map(str.encode))
def test_compacting_anything_changes_no_judgement(raw):
    assert _outcome(compact(raw)) == _outcome(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": 1.50}',
        b'{"a": 1e2}',
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b'{"a": 123456789012345678901234567890}',
        b"{" + b'"a": {' * 300 + b"}" * 301,
        b"[" * 100_000,
        b"nonsense",
        b"\xff",
    ],
)
def test_what_the_node_must_see_is_not_touched(raw):
    assert compact(raw) == raw


def test_spaces_go_where_nothing_else_changes():
    assert compact(b'{ "b" : [1, 2],\t"a": "x y" }') == b'{"b":[1,2],"a":"x y"}'


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"[]", b" [ ] \n"])
def test_nothing(content):
    assert _split(content) == []


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"[1,2", "line 1 column 5"),
        (b'[\n{"key":"a"}\n{"key":"b"}]', "line 3 column 1"),
        (b"[1,]", "line 1 column"),
        (b"[1] 2", "Extra text"),
        (b'["\xff"]', "not UTF-8 at byte 2"),
        (b"[" * 100_000, "not a JSON array"),
        (b"PK\x03\x04...", "XLSX"),
        ("[1]".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_one_faulty_record(content, named):
    (found,) = _split(content)
    assert named in found.fault and found.line == 1
    assert isinstance(_outcome(found.raw), tuple) or not isinstance(_outcome(found.raw), dict)


def test_a_broken_object_over_many_lines_is_one_record():
    (found,) = _split(b'{\n  "key": "a",\n  "body": {,}\n}\n')
    assert found.raw.startswith(b"{\n") and found.line == 1


def test_a_broken_line_among_others_is_one_of_many():
    assert [record.line for record in _split(b'{"key":\n{"key":"b"}\n{"key":"c"}\n')] == [1, 2, 3]


def test_a_record_that_is_far_too_large_is_cut_and_says_its_size():
    raw = b'{"key":"' + b"x" * (3 * 1024 * 1024) + b'"}'
    (found,) = _split(raw)
    assert len(found.raw) == CUT_SIZE and f"{len(raw)} bytes" in found.fault


def _joined(source: PushInput) -> list[bytes]:
    return [raw for batch in source.batches() for raw in batch]


def test_batches_are_bounded_by_number_and_size():
    small = b'{"key":"a"}\n' * 2500
    source = PushInput([("a", small)])
    assert [len(batch) for batch in source.batches()] == [BATCH_RECORDS_MAX, BATCH_RECORDS_MAX, 500]
    large = b'{"key":"' + b"x" * 300_000 + b'"}\n'
    sizes = [sum(map(len, batch)) for batch in PushInput([("a", large * 10)]).batches()]
    assert max(sizes) <= BATCH_BYTES_MAX and len(sizes) == 4


def test_every_number_leads_back_to_its_place():
    source = PushInput([("none", b""), ("a", b'{"k":1}\n\n{"k":2}\n'), ("b", b"[3,4]"), ("c", b"[5"), ("empty", b"\n")])
    assert _joined(source) == [b'{"k":1}', b'{"k":2}', b"3", b"4", b"[5"]
    assert [source.locate(number) for number in range(1, 5)] == [Place("a", 1), Place("a", 3), Place("b", 1), Place("b", 2)]
    assert source.locate(5).file == "c" and "not a JSON array" in source.locate(5).fault
    assert source.locate(0) == source.locate(6) == Place("", 0)


def test_progress_counts_every_byte_that_is_sent():
    heard: list[int] = []
    source = PushInput([("a", b'{"k":1}\n' * 3000)])
    sent = sum(len(raw) for batch in source.batches(heard.append) for raw in batch)
    assert sum(heard) == sent


@pytest.mark.parametrize(
    "content", ["key,body\na,b\n", "报告;结果\n1;2", "\ufeffkey\tvalue\r\na\tb\r\n", "\n\n a,b\n\n1,2", '"a","b"\n"1","2"']
)
def test_a_table_is_named(content):
    (found,) = _split(content.encode())
    assert "looks like CSV" in found.fault and found.line == 1


@pytest.mark.parametrize(
    "content", ["nonsense", "a,b", "key\nvalue", '{"a":1},\n{"b":2}', "[1,\n2]", '"a"\n"b"', "a,b\nc;d"]
)
def test_what_is_no_table(content):
    assert not any("CSV" in record.fault for record in _split(content.encode()))
