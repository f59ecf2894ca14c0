"""Keys in text: base64, vkeys, and the encodings that are refused."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.keys import (
    LOW_ORDER_ENCODINGS,
    TYPE_LOG,
    TYPE_WITNESS,
    VerifierKey,
    accept_public_key,
    format_base64,
    is_key_name,
    key_id,
    parse_base64,
    parse_public_key,
    parse_verifier_key,
    verify_signature,
)
from node.errors import FormatError, SignatureError
from tests.builders import public_key, sign_with
from tests.core import strategies

KEY = VerifierKey("a.example/log/jinan", TYPE_LOG, public_key("x"))
P = 2**255 - 19


def low_order_encodings() -> set[bytes]:
    """Computed from the curve: y of the points of order 1, 2, 4 and 8, their spellings at or above p, both signs."""
    d = -121665 * pow(121666, -1, P) % P
    # Twice a point of order 8 has order 4 and y = 0, so x^2 = -y^2, and the curve's equation is d y^4 + 2 y^2 - 1 = 0.
    ys = {0, 1, P - 1}
    root = square_root((1 + d) % P)
    for sign in (1, -1):
        y2 = (sign * root - 1) * pow(d, -1, P) % P
        if (y := square_root(y2, missing=-1)) >= 0:
            ys |= {y, P - y}
    spellings = {y + k * P for y in ys for k in (0, 1) if y + k * P < 2**255}
    return {(y | sign << 255).to_bytes(32, "little") for y in spellings for sign in (0, 1)}


def square_root(a: int, missing: int | None = None) -> int:
    for candidate in (pow(a, (P + 3) // 8, P), pow(a, (P + 3) // 8, P) * pow(2, (P - 1) // 4, P) % P):
        if candidate * candidate % P == a % P:
            return candidate
    if missing is None:
        raise ArithmeticError("no square root")
    return missing


def test_low_order_encodings_are_those_of_the_curve() -> None:
    computed = low_order_encodings()
    assert len(LOW_ORDER_ENCODINGS) == 14
    assert computed == LOW_ORDER_ENCODINGS


@pytest.mark.parametrize("raw", sorted(LOW_ORDER_ENCODINGS), ids=bytes.hex)
def test_low_order_keys_are_refused_wherever_keys_enter(raw: bytes) -> None:
    with pytest.raises(FormatError, match="low order"):
        accept_public_key(raw)
    with pytest.raises(FormatError, match="low order"):
        parse_public_key(format_base64(raw))
    for signature_type in (TYPE_LOG, TYPE_WITNESS):
        with pytest.raises(FormatError, match="low order"):
            parse_verifier_key(str(VerifierKey("a", signature_type, raw)))
    with pytest.raises((FormatError, SignatureError)):
        verify_signature(raw, bytes([1]) + bytes(63), b"any message")


@given(st.binary(max_size=60))
def test_base64_round_trip(raw: bytes) -> None:
    text = format_base64(raw)
    assert text == base64.b64encode(raw).decode()
    assert parse_base64(text) == raw
    assert format_base64(parse_base64(text)) == text


@given(st.text(alphabet="AQgw+/=-_ \n\té1", max_size=12))
def test_base64_has_one_spelling(text: str) -> None:
    try:
        assert format_base64(parse_base64(text)) == text
    except FormatError as error:
        assert "base64" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "AA",
        "AAA",
        "AA=",
        "AA==\n",
        " AA==",
        "AB==",
        "AAB=",
        "AA===",
        "AAAA====",
        "A-_A",
        "AA==AA==",
        "é",
        "ＡＡ==",
        "A\u200bAAA",
        "====",
    ],
)
def test_other_base64_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_base64(text)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_public_key_has_32_bytes(size: int) -> None:
    with pytest.raises(FormatError, match="32 bytes"):
        accept_public_key(b"\x07" * size)


@given(strategies.public_keys)
def test_public_key_round_trip(raw: bytes) -> None:
    assert parse_public_key(format_base64(raw)) == raw


@given(strategies.verifier_keys)
def test_vkey_round_trip(key: VerifierKey) -> None:
    text = str(key)
    assert parse_verifier_key(text) == key
    assert str(parse_verifier_key(text)) == text
    assert parse_verifier_key(text, signature_type=key.signature_type) == key


def test_the_key_id_is_the_hash_of_name_type_and_key() -> None:
    typed = b"\x01" + public_key("x")
    expected = sha256(b"a.example/log/jinan\n" + typed).digest()[:4]
    assert KEY.key_id == key_id(KEY.name, TYPE_LOG, KEY.public_key) == expected
    assert str(KEY) == f"a.example/log/jinan+{expected.hex()}+{format_base64(typed)}"


def test_the_key_id_differs_by_role() -> None:
    assert KEY.key_id != VerifierKey(KEY.name, TYPE_WITNESS, KEY.public_key).key_id


def vkey(name: str = "n", signature_type: int = 1, key: bytes = b"\x07" * 32, key_hex: str | None = None) -> str:
    identifier = key_id(name, signature_type, key).hex() if key_hex is None else key_hex
    return f"{name}+{identifier}+{format_base64(bytes([signature_type]) + key)}"


SEVENS = b"\x07" * 32
SEVENS_ID = key_id("n", 1, SEVENS).hex()
SEVENS_TEXT = format_base64(b"\x01" + SEVENS)


def test_the_vkey_to_be_broken_is_good() -> None:
    assert parse_verifier_key(vkey()).name == "n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n",
        "n+",
        "++",
        vkey(name=""),
        vkey(name="a b"),
        vkey(name="a\u3000b"),
        vkey(name="a\nb"),
        vkey(name="a\x7fb"),
        vkey(name="a\x00b"),
        vkey(signature_type=0),
        vkey(signature_type=2),
        vkey(signature_type=5),
        vkey(key=b"\x07" * 31),
        vkey(key=b"\x07" * 33),
        vkey(key=b""),
        vkey(key_hex="00000000"),
        vkey(key_hex=""),
        vkey().replace("n+", "n+0"),
        vkey()[2:],
        vkey() + "\n",
        " " + vkey(),
        vkey() + "+",
        vkey().rstrip("=") + "===",
        f"n+{SEVENS_ID.upper()}+{SEVENS_TEXT}",
        f"n+{SEVENS_ID}+{SEVENS_TEXT[:-1]}d",
    ],
    ids=ascii,
)
def test_other_vkeys_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_verifier_key(text)


def test_a_vkey_of_the_other_role_is_refused() -> None:
    assert parse_verifier_key(str(KEY), signature_type=TYPE_LOG) == KEY
    with pytest.raises(FormatError, match="type 1"):
        parse_verifier_key(str(KEY), signature_type=TYPE_WITNESS)


@pytest.mark.parametrize("name", ["a", "a/b.c-d", "济南", "a\u200bb"])
def test_key_names(name: str) -> None:
    assert is_key_name(name)


@pytest.mark.parametrize("name", ["", "a+b", "a b", "a\u00a0b", "a\u2028b", "a\tb", "a\x7fb", "a\udcf1b", "\ud800"])
def test_other_key_names_are_refused(name: str) -> None:
    assert not is_key_name(name)


def test_a_signature_verifies_only_for_its_key_and_message() -> None:
    signature = sign_with("x")(b"message")
    verify_signature(public_key("x"), signature, b"message")
    for arguments in [
        (public_key("y"), signature, b"message"),
        (public_key("x"), signature, b"massage"),
        (public_key("x"), signature[:-1], b"message"),
        (public_key("x"), signature + b"\x00", b"message"),
        (public_key("x"), b"", b"message"),
        (public_key("x"), bytes([signature[0] ^ 1]) + signature[1:], b"message"),
    ]:
        with pytest.raises(SignatureError):
            verify_signature(*arguments)


def test_a_signature_cannot_be_changed_by_adding_the_group_order() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    signature = sign_with("x")(b"message")
    shifted = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(SignatureError):
        verify_signature(public_key("x"), signature[:32] + shifted.to_bytes(32, "little"), b"message")
