"""Signed notes: one form is taken, and a known key's signature must be right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.keys import TYPE_LOG, Signer, VerifierKey, format_base64
from node.core.note import (
    NOTE_SIZE_MAX,
    SIGNATURES_MAX,
    Note,
    SignatureLine,
    format_note,
    parse_note,
    verify_note,
)
from node.errors import FormatError, SignatureError
from tests.builders import signer
from tests.core import strategies

ALICE = signer("a.example/alice", TYPE_LOG, "alice")
BOB = signer("a.example/bob", TYPE_LOG, "bob")
TEXT = "first line\n\nthird line\n"


def line_by(who: Signer, text: str = TEXT) -> SignatureLine:
    return SignatureLine(who.key.name, who.key.key_id, who.sign(text.encode()))


def signed(*who: Signer, text: str = TEXT) -> Note:
    return Note(text, tuple(line_by(one, text) for one in who))


GOOD = bytes(signed(ALICE))


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), max_size=20), max_size=5).filter(any),
    st.lists(strategies.signature_lines, min_size=1, max_size=5),
)
def test_round_trip(lines: list[str], signatures: list[SignatureLine]) -> None:
    note = Note("\n".join(lines) + "\n", tuple(signatures))
    raw = format_note(note)
    assert parse_note(raw) == note
    assert format_note(parse_note(raw)) == raw == bytes(note)


@given(st.data())
def test_no_single_byte_can_change_without_notice(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    changed = GOOD[:at] + bytes([GOOD[at] ^ data.draw(st.integers(1, 255))]) + GOOD[at + 1 :]
    with pytest.raises((FormatError, SignatureError)):
        verify_note(parse_note(changed), [ALICE.key])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_note_or_refused(tail: bytes) -> None:
    raw = b"text\n\n\xe2\x80\x94 n " + tail
    try:
        assert format_note(parse_note(raw)) == raw
    except FormatError as error:
        assert error.message


def test_the_text_may_hold_empty_lines() -> None:
    assert parse_note(GOOD).text == TEXT
    assert verify_note(parse_note(GOOD), [ALICE.key]) == [ALICE.key]


SIGNATURE = str(line_by(ALICE, "text\n")).encode()

NOT_NOTES = {
    "empty": b"",
    "text only": b"text\n",
    "no signature": b"text\n\n",
    "no text": b"\n\n" + SIGNATURE + b"\n",
    "only signatures": SIGNATURE + b"\n",
    "no empty line": b"text\n" + SIGNATURE + b"\n",
    "no final newline": b"text\n\n" + SIGNATURE,
    "two final newlines": b"text\n\n" + SIGNATURE + b"\n\n",
    "empty line between signatures": b"text\n\n" + SIGNATURE + b"\n\n" + SIGNATURE,
    "CRLF": b"text\r\n\r\n" + SIGNATURE + b"\r\n",
    "CR in the text": b"te\rxt\n\n" + SIGNATURE + b"\n",
    "tab": b"te\txt\n\n" + SIGNATURE + b"\n",
    "NUL": b"te\x00xt\n\n" + SIGNATURE + b"\n",
    "not UTF-8": b"te\xffxt\n\n" + SIGNATURE + b"\n",
    "surrogate": b"te\xed\xa0\x80xt\n\n" + SIGNATURE + b"\n",
    "hyphen instead of a dash": b"text\n\n- n " + format_base64(bytes(68)).encode() + b"\n",
    "en dash": "text\n\n\u2013 n ".encode() + format_base64(bytes(68)).encode() + b"\n",
    "two spaces": b"text\n\n" + SIGNATURE.replace(b" ", b"  ", 1) + b"\n",
    "trailing space": b"text\n\n" + SIGNATURE + b" \n",
    "no name": "text\n\n\u2014  ".encode() + format_base64(bytes(68)).encode() + b"\n",
    "name with plus": "text\n\n\u2014 a+b ".encode() + format_base64(bytes(68)).encode() + b"\n",
    "no-break space in the name": "text\n\n\u2014 a\u00a0b ".encode() + format_base64(bytes(68)).encode() + b"\n",
    "no base64": "text\n\n\u2014 n\n".encode(),
    "empty base64": "text\n\n\u2014 n \n".encode(),
    "key id only": "text\n\n\u2014 n AAAAAA==\n".encode(),
    "non-canonical base64": "text\n\n\u2014 n AAAAAAB=\n".encode(),
    "unpadded base64": "text\n\n\u2014 n AAAAAAA\n".encode(),
    "URL base64": "text\n\n\u2014 n AAAAAAA-_w==\n".encode(),
    "junk after the signatures": b"text\n\n" + SIGNATURE + b"\njunk\n",
    "junk before the signatures": b"text\n\njunk\n" + SIGNATURE + b"\n",
}


def test_the_note_to_be_broken_is_good() -> None:
    assert parse_note(b"text\n\n" + SIGNATURE + b"\n") == signed(ALICE, text="text\n")


@pytest.mark.parametrize("raw", NOT_NOTES.values(), ids=NOT_NOTES)
def test_other_notes_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_note(raw)


def unknown_lines(count: int) -> tuple[SignatureLine, ...]:
    return tuple(SignatureLine(f"n{i}", bytes(4), b"\x01") for i in range(count))


def test_64_signatures_are_the_most() -> None:
    assert len(parse_note(format_note(Note(TEXT, unknown_lines(SIGNATURES_MAX)))).signatures) == 64
    with pytest.raises(FormatError, match="65"):
        parse_note(format_note(Note(TEXT, unknown_lines(65))))


def test_16_kib_are_the_most() -> None:
    frame = len(format_note(Note("\n", unknown_lines(1))))
    largest = format_note(Note("x" * (NOTE_SIZE_MAX - frame) + "\n", unknown_lines(1)))
    assert len(largest) == 16384
    assert format_note(parse_note(largest)) == largest
    with pytest.raises(FormatError, match="16385"):
        parse_note(b"x" + largest)


def test_two_known_keys() -> None:
    note = signed(ALICE, BOB)
    assert verify_note(note, [ALICE.key, BOB.key]) == [ALICE.key, BOB.key]
    assert verify_note(note, [BOB.key]) == [BOB.key]


def test_a_key_counts_once() -> None:
    assert verify_note(signed(ALICE, ALICE), [ALICE.key, ALICE.key]) == [ALICE.key]


def test_an_unknown_key_is_ignored() -> None:
    wrong = SignatureLine("a.example/other", b"\x01\x02\x03\x04", bytes(64))
    assert verify_note(Note(TEXT, (wrong, line_by(ALICE))), [ALICE.key]) == [ALICE.key]


def test_no_known_key() -> None:
    with pytest.raises(SignatureError, match="no signature by a known key"):
        verify_note(signed(BOB), [ALICE.key])
    with pytest.raises(SignatureError):
        verify_note(signed(BOB), [])


def test_a_known_key_with_a_wrong_signature_spoils_the_note() -> None:
    wrong = SignatureLine(BOB.key.name, BOB.key.key_id, ALICE.sign(TEXT.encode()))
    for signatures in [(wrong,), (line_by(ALICE), wrong), (line_by(ALICE), line_by(BOB), wrong)]:
        with pytest.raises(SignatureError, match="does not verify"):
            verify_note(Note(TEXT, signatures), [ALICE.key, BOB.key])


def test_another_name_with_the_same_key_id_is_not_the_key() -> None:
    line = SignatureLine(BOB.key.name, ALICE.key.key_id, ALICE.sign(TEXT.encode()))
    note = Note(TEXT, (line,))
    assert note.signatures_of(ALICE.key) == note.signatures_of(BOB.key) == []
    with pytest.raises(SignatureError, match="no signature by a known key"):
        verify_note(note, [ALICE.key, BOB.key])


def test_a_signature_of_another_text() -> None:
    with pytest.raises(SignatureError):
        verify_note(Note(TEXT, (line_by(ALICE, "other\n"),)), [ALICE.key])


def test_a_key_under_another_name_has_another_id() -> None:
    renamed = VerifierKey("a.example/mallory", TYPE_LOG, ALICE.key.public_key)
    assert signed(ALICE).signatures_of(renamed) == []
