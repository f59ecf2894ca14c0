"""One push before the log is asked: every refusal of a record by itself, with its number and path."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from node import push as push_module
from node.core.kinds import Kinds
from node.core.record import RECORD_SIZE_MAX
from node.errors import LimitError, NotFoundError
from node.push import ERRORS_MAX, PushCall, PushError, PushOptions
from tests.alliance import NOON, draft, drafts
from tests.builders import SCHEMAS, kinds

MEMBERS = ("jinan", "qingdao", "yantai")


def begin(*, kind: str = "result", **options: Any) -> PushCall:
    return PushCall(PushOptions(kind, **options), author="jinan", kinds=kinds(), arrived=NOON, members=lambda: MEMBERS)


def errors_of(*records: bytes, **options: Any) -> list[PushError]:
    call = begin(**options)
    call.add(records)
    assert {error.record for error in call.errors} == call.rejected
    assert len(call.candidates) + len(call.rejected) == len(records)
    return call.errors


def nested(depth: int) -> bytes:
    return b'{"key":"A","body":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


# Each of these has one fault: record, path, part of the message.
REFUSED: list[tuple[str, bytes, str, str]] = [
    ("nothing", b"", "", "not JSON"),
    ("cut off", b'{"key":"A","body":{"value":"1"}', "", "not JSON: "),
    ("two values", b'{"key":"A","body":{"value":"1"}} {}', "", "not JSON: "),
    ("not UTF-8", b'{"key":"\xff","body":{"value":"1"}}', "", "not UTF-8 at byte 8"),
    ("a byte order mark", b"\xef\xbb\xbf" + draft("A"), "", "not JSON: "),
    ("not a number", b'{"key":"A","body":{"value":NaN}}', "", "NaN is not JSON"),
    ("infinity", b'{"key":"A","body":{"value":-Infinity}}', "", "-Infinity is not JSON"),
    ("a float", b'{"key":"A","body":{"value":"1","count":1.50}}', "/body/count", 'for example "1.50"'),
    ("an exponent", b'{"key":"A","body":{"value":"1","count":1e3}}', "/body/count", "floating-point number"),
    ("a huge integer", b'{"key":"A","body":{"value":"1","count":9007199254740992}}', "/body/count", "beyond"),
    ("a name twice", b'{"key":"A","body":{"value":"1","value":"2"}}', "", "'value' stands twice"),
    ("a lone surrogate", b'{"key":"A","body":{"value":"\\ud800"}}', "/body/value", "lone surrogate"),
    ("too deep", nested(70), "/body" + "/a" * 63, "nested deeper than 64"),
    ("a list", b"[]", "", "not an object"),
    ("no key", b'{"body":{"value":"1"}}', "", "'key' is missing"),
    ("no body", b'{"key":"A"}', "", "'body' is missing"),
    ("an unknown member", draft("A", author="jinan"), "/author", "unknown member"),
    ("a key that is no text", b'{"key":7,"body":{"value":"1"}}', "/key", "must be text"),
    ("a revision that is true", draft("A", revision=True), "/revision", "must be an integer"),
    ("revision 0", draft("A", revision=0), "/revision", "count from 1"),
    ("a negative revision", draft("A", revision=-3), "/revision", "count from 1"),
    ("an audience that is text", draft("A", audience="*"), "/audience", "must be a list of member ids"),
    ("an audience of numbers", draft("A", audience=[1]), "/audience", "must be a list of member ids"),
    ("a control character", draft("A\u0007B"), "/key", "control"),
    ("a line break", draft("A\nB"), "/key", "control"),
    ("an invisible character", draft("A\u200bB"), "/key", "control"),
    ("a key with @", draft("A@2"), "/key", "'@'"),
    ("a key with a space in front", draft(" A"), "/key", "begin or end with a space"),
    ("a key that is not NFC", draft("cafe\u0301"), "/key", "normalisation form C"),
    ("an empty key", draft(""), "/key", ""),
    ("a key of 201 characters", draft("x" * 201), "/key", ""),
    (
        "an unknown member in the audience",
        draft("A", audience=["qingdao", "weifang"]),
        "/audience",
        "weifang is not a member",
    ),
    ("everyone and one more", draft("A", audience=["*", "qingdao"]), "/audience", "'*' stands alone"),
    ("the author in the audience", draft("A", audience=["jinan"]), "/audience", "jinan is the author"),
    ("a member twice", draft("A", audience=["qingdao", "qingdao"]), "/audience", "each member once"),
    ("a thread that is no id", draft("A", thread="WJ-1"), "/thread", ""),
    ("a replaced record without revision", draft("A", replaces="jinan/result/WJ-1"), "/replaces", ""),
    ("2 MiB", draft("A", "x" * (2 * RECORD_SIZE_MAX)), "", f"at most {RECORD_SIZE_MAX}"),
]


@pytest.mark.parametrize(("record", "path", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_record_is_refused(record: bytes, path: str, message: str) -> None:
    good = draft("GOOD")
    errors = errors_of(good, record, good)
    assert errors
    for error in errors:
        assert (error.record, error.path) == (2, path)
        assert error.message
    assert any(message in error.message for error in errors)


def test_every_violation_of_the_schema_is_told_with_its_path() -> None:
    body = {"unit": 5, "notes": ["a", 7], "colour/blue": "x"}
    errors = errors_of(orjson.dumps({"key": "A", "body": body}))
    assert {error.path for error in errors} == {"/body", "/body/unit", "/body/notes/1"}
    assert len(errors) == 4
    messages = " ".join(error.message for error in errors)
    assert '"value" is a required property' in messages
    assert "colour/blue" in messages


def test_a_good_record_becomes_a_candidate() -> None:
    call = begin(audience=("qingdao", "yantai"))
    call.add([draft("A"), draft("B", audience=["yantai"], thread="jinan/result/T"), draft("C", audience=[])])
    assert [candidate.number for candidate in call.candidates] == [1, 2, 3]
    assert [candidate.content["audience"] for candidate in call.candidates] == [["qingdao", "yantai"], ["yantai"], []]
    assert call.candidates[1].content["thread"] == "jinan/result/T"
    assert {candidate.content["published"] for candidate in call.candidates} == {"2026-11-20T12:00:00.000Z"}
    assert {(candidate.content["author"], candidate.content["schema"]) for candidate in call.candidates} == {
        ("jinan", "result/1")
    }


@pytest.mark.parametrize("named", [["*"], ["qingdao"], ["qingdao", "yantai"]])
def test_a_record_cannot_be_for_more_than_its_call(named: list[str]) -> None:
    for audience in ((), ("yantai",)):
        (error,) = errors_of(draft("A", audience=named), audience=audience)
        assert (error.path, "which the call's audience is not" in error.message) == ("/audience", True)


def test_everyone_is_the_default_audience() -> None:
    call = begin()
    call.add([draft("A")])
    assert call.candidates[0].content["audience"] == ["*"]


def test_the_audience_of_the_call_is_judged_too() -> None:
    assert [error.path for error in errors_of(draft("A"), audience=("weifang",))] == ["/audience"]


def test_new_records_are_written_under_the_newest_schema() -> None:
    call = begin(kind="notice")
    call.add([b'{"key":"A","body":{}}'])
    assert call.candidates[0].content["schema"] == "notice/2"


def test_an_unknown_kind_is_refused_before_anything_is_read() -> None:
    with pytest.raises(NotFoundError, match="there is no kind 'resutl'") as caught:
        begin(kind="resutl")
    assert "notice, result" in caught.value.hint


def test_kinds_that_are_not_pushed_are_not_offered() -> None:
    shipped = Kinds({**SCHEMAS, "grant/1": {}, "erasure/1": {}})
    with pytest.raises(NotFoundError) as caught:
        PushCall(PushOptions("resutl"), author="jinan", kinds=shipped, arrived=NOON, members=lambda: MEMBERS)
    assert caught.value.hint == "the kinds are notice, result"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "nobody else belongs to it yet"),
        (["yantai", "qingdao"], "the others are qingdao, yantai"),
        ([f"lab-{i}" for i in range(20)] + ["weihai"], "like it are weihai"),
        ([f"lab-{i}" for i in range(20)], "its 20 others: labmesh roster show"),
    ],
)
def test_an_unknown_reader_is_answered_with_the_known_ones(members: list[str], words: str) -> None:
    call = PushCall(PushOptions("result"), author="jinan", kinds=kinds(), arrived=NOON, members=lambda: [*members, "jinan"])
    call.add([draft("A", audience=["weihei"])])
    assert call.errors[0].message == f"weihei is not a member of the alliance; {words}"


def test_a_call_takes_a_limited_number_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "CALL_RECORDS_MAX", 3)
    call = begin()
    call.add(drafts(2))
    call.add(drafts(1))
    with pytest.raises(LimitError, match="at most 3 records") as caught:
        call.add(drafts(1))
    assert "split the file" in caught.value.hint


def test_a_call_takes_a_limited_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(draft("A"))
    monkeypatch.setattr(push_module, "CALL_BYTES_MAX", 2 * size)
    call = begin()
    call.add([draft("A"), draft("B")])
    with pytest.raises(LimitError, match=f"{2 * size} bytes; nothing was appended"):
        call.add([b" "])


def test_the_errors_are_limited_but_the_rejections_are_counted() -> None:
    call = begin()
    call.add([b"{}"] * (ERRORS_MAX + 10))
    assert len(call.rejected) == ERRORS_MAX + 10
    assert len(call.errors) == ERRORS_MAX
    assert {error.record for error in call.errors} == set(range(1, ERRORS_MAX // 2 + 1))
