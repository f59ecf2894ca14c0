"""Notes: another spelling of the same checkpoint, which two parsers could read differently, although its author signs it."""

from __future__ import annotations

from node.core.checkpoint import parse_checkpoint
from node.core.keys import format_base64
from node.core.note import SignatureLine
from tests.attacks.scene import JINAN, QINGDAO, YANTAI, signed_by_jinan
from tests.attacks.surfaces import NOTE
from tests.attacks.table import attack

FAMILY = "notes"


def resigned(text: str) -> bytes:
    """Any text as a note that jinan has signed."""
    line = SignatureLine(JINAN.origin, JINAN.log.key.key_id, JINAN.log.sign(text.encode()))
    return f"{text}\n{line}\n".encode()


def spelled(note: bytes, *, size: str) -> bytes:
    """The note with its size written in another way, and signed again."""
    text = note.decode().partition("\n\n")[0] + "\n"
    return resigned(text.replace("\n11\n", f"\n{size}\n"))


@attack(FAMILY, NOTE, "MALFORMED", "'007' is not a log size")
def a_leading_zero(note):
    return spelled(note, size="007")


@attack(FAMILY, NOTE, "MALFORMED", r"'\+7' is not a log size")
def a_plus_sign(note):
    return spelled(note, size="+7")


@attack(FAMILY, NOTE, "MALFORMED", "'7_3' is not a log size")
def an_underscore_between_digits(note):
    return spelled(note, size="7_3")


@attack(FAMILY, NOTE, "MALFORMED", "is not a log size")
def full_width_digits(note):
    return spelled(note, size="１１")


@attack(FAMILY, NOTE, "MALFORMED", "is not a log size")
def a_space_before_the_size(note):
    return spelled(note, size=" 11")


@attack(FAMILY, NOTE, "MALFORMED", "is not a log size")
def a_size_of_ten_thousand_digits(note):
    return spelled(note, size="9" * 10_000)


@attack(FAMILY, NOTE, "MALFORMED", "canonical base64")
def a_root_in_base64_that_is_not_canonical(note):
    root = parse_checkpoint(note).root
    text = format_base64(root)
    other = text[:-2] + chr(ord(text[-2]) + 1) + "="
    return resigned(f"{JINAN.origin}\n11\n{other}\n")


@attack(FAMILY, NOTE, "MALFORMED", "base64|32 bytes")
def a_root_of_thirty_one_bytes(note):
    return resigned(f"{JINAN.origin}\n11\n{format_base64(bytes(31))}\n")


@attack(FAMILY, NOTE, "MALFORMED", "control characters")
def lines_that_end_in_cr_lf(note):
    return note.replace(b"\n", b"\r\n")


@attack(FAMILY, NOTE, "MALFORMED", "without text, empty line and signature lines")
def a_missing_newline_at_the_end(note):
    return note[:-1]


@attack(FAMILY, NOTE, "MALFORMED", "without text, empty line and signature lines|em dash")
def an_additional_newline_at_the_end(note):
    return note + b"\n"


@attack(FAMILY, NOTE, "MALFORMED", "three lines")
def an_extension_line(note):
    return resigned(note.decode().partition("\n\n")[0] + "\nextension\n")


@attack(FAMILY, NOTE, "MALFORMED", "not UTF-8")
def bytes_that_are_not_text(note):
    return b"\xff" + note


@attack(FAMILY, NOTE, "MALFORMED", "at most 64")
def a_hundred_signatures(note):
    text, line = note.decode().split("\n\n")
    return f"{text}\n\n{line * 100}".encode()


@attack(FAMILY, NOTE, "MALFORMED", "at most 16384")
def a_mebibyte(note):
    return note + b"\n" * 2**20


@attack(FAMILY, NOTE, "SIGNATURE", "does not verify")
def a_known_key_with_a_bad_signature_beside_the_good_one(note):
    return note + f"{SignatureLine(JINAN.origin, JINAN.log.key.key_id, bytes(64))}\n".encode()


@attack(FAMILY, NOTE, "SIGNATURE", "does not verify")
def a_flipped_bit_in_the_signature(note):
    other = b"B" if note[-20:-19] == b"A" else b"A"  # any base64 digit but the one that stands there
    return note[:-20] + other + note[-19:]


@attack(FAMILY, NOTE, "SIGNATURE", "no signature by a known key")
def a_key_id_that_is_not_the_keys(note):
    text = note.decode().partition("\n\n")[0] + "\n"
    line = SignatureLine(JINAN.origin, bytes(4), JINAN.log.sign(text.encode()))
    return f"{text}\n{line}\n".encode()


@attack(FAMILY, NOTE, "SIGNATURE", "no signature by a known key")
def a_signature_by_somebody_else_in_the_authors_name(note):
    text = note.decode().partition("\n\n")[0] + "\n"
    line = SignatureLine(JINAN.origin, QINGDAO.log.key.key_id, QINGDAO.log.sign(text.encode()))
    return f"{text}\n{line}\n".encode()


@attack(FAMILY, NOTE, "SIGNATURE", "no signature by a known key")
def a_cosignature_in_the_place_of_the_signature(note):
    text = note.decode().partition("\n\n")[0] + "\n"
    line = SignatureLine(YANTAI.witness.key.name, YANTAI.witness.key.key_id, bytes(8) + YANTAI.witness.sign(text.encode()))
    return f"{text}\n{line}\n".encode()


@attack(FAMILY, NOTE, "MALFORMED", "a checkpoint of quality.jinan.example/log/qingdao was announced")
def anothers_origin(note):
    return signed_by_jinan(11, parse_checkpoint(note).root, origin=QINGDAO.origin)


@attack(FAMILY, NOTE, "MALFORMED", "a checkpoint of quality.jinan.example/log/Jinan was announced")
def an_origin_in_other_letters(note):
    return signed_by_jinan(11, parse_checkpoint(note).root, origin=JINAN.origin.replace("/jinan", "/Jinan"))


@attack(FAMILY, NOTE, "MALFORMED", "announced checkpoint")
def nothing_at_all(note):
    return b""
