"""Checkpoints and cosignatures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.checkpoint import (
    SIZE_MAX,
    TIME_MAX,
    Checkpoint,
    cosign_checkpoint,
    cosigned_message,
    parse_checkpoint,
    parse_checkpoint_body,
    sign_checkpoint,
    verify_checkpoint,
    verify_cosignature,
)
from node.core.keys import TYPE_LOG, TYPE_WITNESS, Signer, VerifierKey, format_base64
from node.core.merkle import EMPTY_ROOT
from node.core.note import Note, SignatureLine
from node.errors import FormatError, SignatureError
from tests.builders import NOW_S, build_labs, public_key, sign_with, signer
from tests.core import strategies

JINAN, QINGDAO, YANTAI = build_labs(3)
ROOT = bytes(range(32))
CHECKPOINT = Checkpoint(JINAN.origin, 7, ROOT)
SIGNED = sign_checkpoint(CHECKPOINT, JINAN.log)


@given(strategies.checkpoints)
def test_body_round_trip(checkpoint: Checkpoint) -> None:
    text = checkpoint.body()
    assert parse_checkpoint_body(text) == checkpoint
    assert parse_checkpoint_body(text).body() == text


@given(strategies.checkpoints.filter(lambda c: "+" not in c.origin and not any(map(str.isspace, c.origin))))
def test_signed_round_trip(checkpoint: Checkpoint) -> None:
    author = signer(checkpoint.origin, TYPE_LOG, "author")
    raw = bytes(sign_checkpoint(checkpoint, author))
    signed = parse_checkpoint(raw)
    assert bytes(signed) == raw
    assert (signed.origin, signed.size, signed.root) == (checkpoint.origin, checkpoint.size, checkpoint.root)
    assert verify_checkpoint(signed, author.key) == checkpoint


def test_the_bytes_are_those_of_the_specification() -> None:
    assert CHECKPOINT.body() == f"quality.jinan.example/log/jinan\n7\n{format_base64(ROOT)}\n"
    line = f"— {JINAN.origin} {format_base64(JINAN.log.key.key_id + JINAN.log.sign(CHECKPOINT.body().encode()))}\n"
    assert bytes(SIGNED).decode() == f"{CHECKPOINT.body()}\n{line}"


def body(origin: str = "o", size: str = "7", root: str = format_base64(ROOT), rest: str = "") -> str:
    return f"{origin}\n{size}\n{root}\n{rest}"


def test_the_body_to_be_broken_is_good() -> None:
    assert parse_checkpoint_body(body()) == Checkpoint("o", 7, ROOT)


OTHER_SIZES = [
    *["", "007", "+7", "-7", "7_3", "7.0", "7e0", "0x7", " 7", "7 ", "00", "-0", "1,000"],
    *["\uff17", "\u0667", "\u4e03"],
    *[str(SIZE_MAX + 1), "9" * 19, "9" * 20, "9" * 5000],
]


@pytest.mark.parametrize("size", OTHER_SIZES, ids=lambda size: ascii(size[:30]))
def test_other_sizes_are_refused(size: str) -> None:
    with pytest.raises(FormatError):
        parse_checkpoint_body(body(size=size))


def test_the_largest_size() -> None:
    assert parse_checkpoint_body(body(size=str(SIZE_MAX))).size == 2**40 - 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n\n",
        body(origin=""),
        body()[:-1],
        body(rest="extension\n"),
        body(rest="\n"),
        body(rest="x"),
        body(root=""),
        body(root=format_base64(ROOT[:31])),
        body(root=format_base64(ROOT + b"\x00")),
        body(root=format_base64(ROOT).rstrip("=")),
        body(root=format_base64(ROOT)[:-2] + "9="),
        body(root=format_base64(ROOT) + " "),
        body(root="!" * 44),
        body(size="0"),
        body(size="0", root=format_base64(bytes(32))),
        body().replace("\n", "\r\n"),
        body(origin="a\nb"),
    ],
    ids=ascii,
)
def test_other_bodies_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_checkpoint_body(text)


def test_an_empty_log_has_the_root_of_nothing() -> None:
    assert parse_checkpoint_body(body(size="0", root=format_base64(EMPTY_ROOT))).size == 0


def test_a_checkpoint_needs_the_log_key_of_its_origin() -> None:
    for wrong in (JINAN.witness, QINGDAO.log, signer("other", TYPE_LOG, "x")):
        with pytest.raises(SignatureError):
            sign_checkpoint(CHECKPOINT, wrong)


@pytest.mark.parametrize(
    "key",
    [
        QINGDAO.log.key,
        JINAN.witness.key,
        VerifierKey(JINAN.origin, TYPE_WITNESS, JINAN.log.key.public_key),
        VerifierKey(QINGDAO.origin, TYPE_LOG, JINAN.log.key.public_key),
        VerifierKey(JINAN.origin, TYPE_LOG, public_key("other")),
    ],
)
def test_another_key_does_not_verify_it(key: VerifierKey) -> None:
    assert verify_checkpoint(SIGNED, JINAN.log.key) == CHECKPOINT
    with pytest.raises(SignatureError):
        verify_checkpoint(SIGNED, key)


def test_another_members_signature_under_my_origin() -> None:
    forged = sign_checkpoint(CHECKPOINT, Signer(VerifierKey(JINAN.origin, TYPE_LOG, public_key("m")), sign_with("m")))
    with pytest.raises(SignatureError):
        verify_checkpoint(forged, JINAN.log.key)
    disguised = SignatureLine(JINAN.origin, JINAN.log.key.key_id, forged.note.signatures[0].signature)
    with pytest.raises(SignatureError):
        verify_checkpoint(replace(forged, note=Note(forged.note.text, (disguised,))), JINAN.log.key)


def test_a_size_cannot_be_changed_under_a_signature() -> None:
    raw = bytes(SIGNED).replace(b"\n7\n", b"\n8\n", 1)
    with pytest.raises(SignatureError):
        verify_checkpoint(parse_checkpoint(raw), JINAN.log.key)


def test_parse_checkpoint_is_as_strict_as_its_parts() -> None:
    for raw in (bytes(SIGNED)[:-1], bytes(SIGNED).replace(b"\n7\n", b"\n07\n", 1), bytes(SIGNED).replace(b"\n", b"\r\n")):
        with pytest.raises(FormatError):
            parse_checkpoint(raw)


# Cosignatures


@given(st.integers(1, TIME_MAX), strategies.checkpoints)
def test_cosignature_round_trip(time: int, checkpoint: Checkpoint) -> None:
    made = cosign_checkpoint(checkpoint, QINGDAO.witness, time)
    assert (made.key, made.time) == (QINGDAO.witness.key, time)
    assert verify_cosignature(checkpoint, made.line, QINGDAO.witness.key) == made
    assert len(made.line.signature) == 72


def test_the_cosigned_bytes_are_those_of_the_specification() -> None:
    assert cosigned_message(CHECKPOINT, 1679315147) == f"cosignature/v1\ntime 1679315147\n{CHECKPOINT.body()}".encode()
    line = cosign_checkpoint(CHECKPOINT, QINGDAO.witness, 258).line
    assert line.signature[:8] == b"\x00\x00\x00\x00\x00\x00\x01\x02"


def with_time(line: SignatureLine, time: int) -> SignatureLine:
    return replace(line, signature=time.to_bytes(8, "big") + line.signature[8:])


def test_a_cosignature_binds_time_checkpoint_and_key() -> None:
    line = cosign_checkpoint(CHECKPOINT, QINGDAO.witness, NOW_S).line
    key = QINGDAO.witness.key
    verify_cosignature(CHECKPOINT, line, key)
    wrong = [
        (replace(CHECKPOINT, size=8), line, key),
        (replace(CHECKPOINT, root=bytes(32)), line, key),
        (replace(CHECKPOINT, origin=QINGDAO.origin), line, key),
        (CHECKPOINT, with_time(line, NOW_S - 1), key),
        (CHECKPOINT, replace(line, signature=line.signature[8:]), key),
        (CHECKPOINT, replace(line, signature=line.signature + b"\x00"), key),
        (CHECKPOINT, replace(line, signature=line.signature[:-1] + bytes([line.signature[-1] ^ 1])), key),
        (CHECKPOINT, replace(line, key_id=bytes(4)), key),
        (CHECKPOINT, replace(line, name=YANTAI.witness.key.name), key),
        (CHECKPOINT, line, YANTAI.witness.key),
        (CHECKPOINT, line, QINGDAO.log.key),
        (CHECKPOINT, line, VerifierKey(key.name, TYPE_LOG, key.public_key)),
    ]
    for checkpoint, wrong_line, wrong_key in wrong:
        with pytest.raises(SignatureError):
            verify_cosignature(checkpoint, wrong_line, wrong_key)


@pytest.mark.parametrize("time", [0, 2**63, 2**64 - 1])
def test_impossible_times_are_refused_even_when_signed(time: int) -> None:
    line = cosign_checkpoint(CHECKPOINT, QINGDAO.witness, time).line
    with pytest.raises(SignatureError, match="no possible time"):
        verify_cosignature(CHECKPOINT, line, QINGDAO.witness.key)


def test_only_a_witness_key_cosigns() -> None:
    with pytest.raises(SignatureError):
        cosign_checkpoint(CHECKPOINT, QINGDAO.log, NOW_S)


def test_a_checkpoint_signature_is_no_cosignature_and_the_reverse() -> None:
    line = cosign_checkpoint(CHECKPOINT, JINAN.witness, NOW_S).line
    with pytest.raises(SignatureError):
        verify_checkpoint(replace(SIGNED, note=Note(SIGNED.note.text, (line,))), JINAN.log.key)
    with pytest.raises(SignatureError):
        verify_cosignature(CHECKPOINT, SIGNED.note.signatures[0], JINAN.log.key)


def test_lines_are_added_once_and_taken_away_again() -> None:
    lines = tuple(cosign_checkpoint(CHECKPOINT, lab.witness, NOW_S).line for lab in (QINGDAO, YANTAI))
    cosigned = SIGNED.with_lines(lines).with_lines(lines[:1])
    assert cosigned.note.signatures == (*SIGNED.note.signatures, *lines)
    assert parse_checkpoint(bytes(cosigned)) == cosigned
    assert cosigned.signed_by(JINAN.log.key) == SIGNED
