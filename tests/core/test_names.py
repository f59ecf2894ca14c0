"""Names and record ids; the cases of keys are real Unicode ones."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.names import (
    KEY_LENGTH_MAX,
    RecordId,
    key_fault,
    log_origin,
    parse_alliance,
    parse_kind,
    parse_member,
    parse_record_id,
    witness_name,
)
from node.errors import FormatError
from tests.core import strategies


@pytest.mark.parametrize("text", ["a.b", "quality.jinan.example", "x1-y.z9", "a" * 63 + ".b", "1.2"])
def test_alliance_names(text: str) -> None:
    assert parse_alliance(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quality",
        "Quality.example",
        "quality.example.",
        ".example",
        "a..b",
        "-a.b",
        "a-.b",
        "a_b.c",
        "a.b\n",
        "a.b ",
        "济南.example",
        "a.\uff11",
        "a" * 64 + ".b",
        ".".join(["abcdefghi"] * 21),
        "a/b.c",
        "a+b.c",
    ],
)
def test_other_alliance_names_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_alliance(text)


@pytest.mark.parametrize("text", ["a", "0", "jinan", "lab-7", "a-", "a" * 31])
def test_member_ids(text: str) -> None:
    assert parse_member(text) == text


@pytest.mark.parametrize("text", ["", "-a", "A", "a_b", "a" * 32, "jinan\n", "ji nan", "a/b", "*", "é", "\uff11", "a\x00"])
def test_other_member_ids_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_member(text)


@pytest.mark.parametrize("text", ["a", "result", "risk-alert", "a1", "a" * 31])
def test_kinds(text: str) -> None:
    assert parse_kind(text) == text


@pytest.mark.parametrize("text", ["", "1a", "-a", "Result", "a" * 32, "result\n", "result/1"])
def test_other_kinds_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_kind(text)


GOOD_KEYS = {
    "ASCII": "WJ-2024-000123",
    "one character": "x",
    "with a space inside": "GB 5009.12",
    "with a solidus": "scope/2024/17",
    "Chinese": "济质检（2024）第000123号",
    "composed": "é",
    "astral": "\U00020000",
    "200 characters": "x" * 200,
    "200 astral code points": "\U00020000" * 200,
    "ideographic space inside": "水\u3000铅",
    "punctuation": "a!#$%&'*+,-.:;<=>?[]^_`{|}~",
}


@pytest.mark.parametrize("key", GOOD_KEYS.values(), ids=GOOD_KEYS)
def test_keys(key: str) -> None:
    assert key_fault(key) is None


BAD_KEYS = {
    "empty": ("", "1 to 200"),
    "201 characters": ("x" * 201, "1 to 200"),
    "201 astral code points": ("\U00020000" * 201, "1 to 200"),
    "at sign": ("a@b", "'@'"),
    "leading space": (" a", "space"),
    "trailing space": ("a ", "space"),
    "leading ideographic space": ("\u3000水", "space"),
    "trailing no-break space": ("水\u00a0", "space"),
    "only a space": (" ", "space"),
    "newline inside": ("a\nb", "control"),
    "NUL": ("a\x00b", "control"),
    "delete": ("a\x7fb", "control"),
    "C1 control": ("a\x85b", "control"),
    "zero-width space": ("a\u200bb", "control"),
    "zero-width joiner": ("水\u200d铅", "control"),
    "byte order mark": ("\ufeffa", "control"),
    "right-to-left override": ("a\u202eb", "control"),
    "soft hyphen": ("a\u00adb", "control"),
    "private use": ("\ue000", "control"),
    "unassigned": ("a\u0378", "control"),
    "noncharacter": ("a\uffff", "control"),
    "lone surrogate": ("a\ud800b", "control"),
    "decomposed": ("e\u0301", "normalisation"),
    "compatibility ideograph": ("\uf900", "normalisation"),
    "Hangul jamo": ("\u1112\u1161\u11ab", "normalisation"),
    "angstrom sign": ("\u212b", "normalisation"),
}


@pytest.mark.parametrize(("key", "because"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_other_keys_are_refused_with_the_reason(key: str, because: str) -> None:
    fault = key_fault(key)
    assert fault is not None
    assert because in fault


@given(st.text(max_size=205))
def test_key_rules_restated(key: str) -> None:
    allowed = (
        0 < len(key) <= KEY_LENGTH_MAX
        and "@" not in key
        and key == key.strip()
        and not any(unicodedata.category(c).startswith("C") for c in key)
        and unicodedata.normalize("NFC", key) == key
    )
    assert (key_fault(key) is None) == allowed


@given(strategies.record_ids)
def test_record_id_round_trip(record_id: RecordId) -> None:
    text = str(record_id)
    assert parse_record_id(text) == record_id
    assert str(parse_record_id(text)) == text


@given(st.text(alphabet="ab/@10- é\n", max_size=20))
def test_record_id_text_is_one_of_a_kind(text: str) -> None:
    try:
        assert str(parse_record_id(text)) == text
    except FormatError as error:
        assert error.hint


def test_a_key_may_contain_a_solidus() -> None:
    assert parse_record_id("jinan/result/a/b@3") == RecordId("jinan", "result", "a/b", 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "jinan",
        "jinan/result",
        "jinan/result/",
        "/result/a",
        "jinan//a",
        "Jinan/result/a",
        "jinan/Result/a",
        "jinan/result/a@",
        "jinan/result/a@0",
        "jinan/result/a@01",
        "jinan/result/a@+1",
        "jinan/result/a@-1",
        "jinan/result/a@1_0",
        "jinan/result/a@1 ",
        "jinan/result/a@\uff11",
        "jinan/result/a@1@2",
        "jinan/result/a@12345678901234567",
        "jinan/result/e\u0301",
        "jinan/result/ a",
        "jinan/result/a\n",
    ],
)
def test_other_record_ids_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_record_id(text)


def test_origins_of_log_and_witness_differ() -> None:
    assert log_origin("a.example", "jinan") == "a.example/log/jinan"
    assert witness_name("a.example", "jinan") == "a.example/witness/jinan"


@pytest.mark.parametrize("parse", [parse_alliance, parse_member, parse_kind, parse_record_id])
def test_a_refusal_quotes_no_more_than_a_person_can_read(parse) -> None:
    with pytest.raises(FormatError) as refused:
        parse("\udcf1" * 100_000)
    assert len(refused.value.message) < 2500
    with pytest.raises(FormatError, match="'Not one!' is not a"):
        parse("Not one!")
