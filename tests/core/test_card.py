"""Cards: form, roles of keys, certificates, and which log key holds at which size."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.card import (
    CARD_TYPE,
    Card,
    FormerLogKey,
    FormerWitnessKey,
    card_content,
    parse_card,
    parse_endpoint,
    verify_card,
)
from node.core.certificate import certificate_name
from node.core.dsse import format_envelope
from node.core.keys import LOW_ORDER_ENCODINGS, TYPE_LOG, TYPE_WITNESS, VerifierKey, format_base64
from node.core.roster import ROSTER_TYPE
from node.errors import FormatError, SignatureError
from tests.builders import (
    ALLIANCE,
    START,
    Lab,
    build_card,
    build_labs,
    certificate,
    public_key,
    sign_card,
    sign_content,
    sign_with,
)
from tests.core import strategies

LAB = Lab("jinan")
OTHER = Lab("qingdao")
NAME = certificate_name(ALLIANCE, "jinan")
ROOT = bytes(range(32))
OLD_LOG = VerifierKey(LAB.origin, TYPE_LOG, public_key("old log"))
OLDER_LOG = VerifierKey(LAB.origin, TYPE_LOG, public_key("older log"))
OLD_WITNESS = VerifierKey(LAB.witness.key.name, TYPE_WITNESS, public_key("old witness"))


def rotated_card() -> Card:
    return build_card(
        LAB,
        seq=3,
        previous="ab" * 32,
        former_log_keys=(FormerLogKey(OLDER_LOG, 5, ROOT), FormerLogKey(OLD_LOG, 9, ROOT[::-1])),
        former_witness_keys=(FormerWitnessKey(OLD_WITNESS, START),),
        tls_certificates=(certificate(NAME), certificate(NAME, label="next")),
    )


def parse_content(**changes: Any) -> Card:
    content = {**card_content(build_card(LAB)), **changes}
    return parse_card(sign_content(content, CARD_TYPE, LAB.sign))[1]


@pytest.mark.parametrize("card", [build_card(LAB), rotated_card(), build_card(LAB, endpoints=())])
def test_round_trip(card: Card) -> None:
    raw = sign_card(card, LAB)
    envelope, parsed = parse_card(raw)
    assert parsed == card
    assert format_envelope(envelope) == raw
    assert sign_card(parsed, LAB) == raw
    verify_card(envelope, parsed, LAB.identity_key)


@given(
    strategies.members,
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=30),
    st.integers(2, 2**31),
    strategies.moments,
    st.lists(st.sampled_from(["a.example:1", "10.0.0.1:65535", "[2001:db8::1]:7443"]), unique=True),
    st.lists(
        st.tuples(strategies.public_keys, st.integers(0, 2**40), strategies.hashes), max_size=3, unique_by=lambda f: f[0]
    ),
)
def test_round_trip_of_any_card(
    member: str, name: str, seq: int, issued: Any, endpoints: list[str], former: list[tuple[bytes, int, bytes]]
) -> None:
    lab = Lab(member)
    keys = tuple(
        FormerLogKey(VerifierKey(lab.origin, TYPE_LOG, key), size, root)
        for key, size, root in sorted(former, key=lambda one: one[1])
    )
    card = build_card(
        lab,
        name=name,
        seq=seq,
        previous="00" * 32,
        issued=issued.replace(microsecond=0),
        endpoints=tuple(endpoints),
        former_log_keys=keys,
    )
    raw = sign_card(card, lab)
    assert parse_card(raw)[1] == card
    assert sign_card(parse_card(raw)[1], lab) == raw


def test_origin_and_keys() -> None:
    card = rotated_card()
    assert card.origin == "quality.jinan.example/log/jinan"
    assert card.witness_keys() == (LAB.witness.key, OLD_WITNESS)


BROKEN: dict[str, dict[str, Any]] = {
    "alliance of one label": {"alliance": "jinan"},
    "another alliance": {"alliance": "other.example"},
    "member in capitals": {"member": "Jinan"},
    "another member": {"member": "qingdao"},
    "empty name": {"name": ""},
    "blank name": {"name": "   "},
    "name with newline": {"name": "a\nb"},
    "name with a zero-width space": {"name": "a\u200bb"},
    "name of 201 characters": {"name": "x" * 201},
    "name as number": {"name": 1},
    "region of 101 characters": {"region": "x" * 101},
    "identity key as vkey": {"identity_key": str(LAB.log.key)},
    "identity key of 31 bytes": {"identity_key": format_base64(bytes(31))},
    "identity key unpadded": {"identity_key": format_base64(LAB.identity_key).rstrip("=")},
    "seq 0": {"seq": 0},
    "seq true": {"seq": True},
    "seq as text": {"seq": "1"},
    "seq beyond 2^31": {"seq": 2**31 + 1, "previous": "00" * 32},
    "first card with a predecessor": {"previous": "00" * 32},
    "later card without one": {"seq": 2},
    "previous in capitals": {"seq": 2, "previous": "AB" * 32},
    "previous too short": {"seq": 2, "previous": "ab" * 31},
    "previous as number": {"seq": 2, "previous": 0},
    "issued with milliseconds": {"issued": "2026-01-01T00:00:00.000Z"},
    "issued in another zone": {"issued": "2026-01-01T08:00:00+08:00"},
    "endpoints as text": {"endpoints": "a.example:1"},
    "endpoint twice": {"endpoints": ["a.example:1", "a.example:1"]},
    "nine endpoints": {"endpoints": [f"a.example:{i}" for i in range(1, 10)]},
    "endpoint without port": {"endpoints": ["a.example"]},
    "endpoint as number": {"endpoints": [1]},
    "log key of the witness type": {"log_key": str(VerifierKey(LAB.origin, TYPE_WITNESS, public_key("l")))},
    "log key of another member": {"log_key": str(OTHER.log.key)},
    "log key raw": {"log_key": format_base64(LAB.log.key.public_key)},
    "log key as number": {"log_key": 1},
    "witness key of the log type": {"witness_key": str(VerifierKey(LAB.witness.key.name, TYPE_LOG, public_key("w")))},
    "witness key of another member": {"witness_key": str(OTHER.witness.key)},
    "log key as witness key": {"witness_key": str(VerifierKey(LAB.witness.key.name, TYPE_WITNESS, LAB.log.key.public_key))},
    "former log key also current": {"former_log_keys": [{"key": str(LAB.log.key), "size": 1, "root": format_base64(ROOT)}]},
    "former log key twice": {
        "former_log_keys": [{"key": str(OLD_LOG), "size": size, "root": format_base64(ROOT)} for size in (1, 2)]
    },
    "former log keys shrink": {
        "former_log_keys": [
            {"key": str(OLD_LOG), "size": 9, "root": format_base64(ROOT)},
            {"key": str(OLDER_LOG), "size": 5, "root": format_base64(ROOT)},
        ]
    },
    "former log key of another name": {
        "former_log_keys": [{"key": str(OTHER.log.key), "size": 1, "root": format_base64(ROOT)}]
    },
    "former log key with a short root": {
        "former_log_keys": [{"key": str(OLD_LOG), "size": 1, "root": format_base64(ROOT[:31])}]
    },
    "former log key of negative size": {"former_log_keys": [{"key": str(OLD_LOG), "size": -1, "root": format_base64(ROOT)}]},
    "former log key without root": {"former_log_keys": [{"key": str(OLD_LOG), "size": 1}]},
    "former log key with more": {
        "former_log_keys": [{"key": str(OLD_LOG), "size": 1, "root": format_base64(ROOT), "until": None}]
    },
    "former log keys as object": {"former_log_keys": {}},
    "former log key as text": {"former_log_keys": [str(OLD_LOG)]},
    "former witness key also current": {
        "former_witness_keys": [{"key": str(LAB.witness.key), "until": "2026-01-01T00:00:00Z"}]
    },
    "former witness key of another name": {
        "former_witness_keys": [{"key": str(OTHER.witness.key), "until": "2026-01-01T00:00:00Z"}]
    },
    "former witness key that was a log key": {
        "former_witness_keys": [
            {
                "key": str(VerifierKey(LAB.witness.key.name, TYPE_WITNESS, LAB.log.key.public_key)),
                "until": "2026-01-01T00:00:00Z",
            }
        ]
    },
    "former witness key without end": {"former_witness_keys": [{"key": str(OLD_WITNESS), "until": None}]},
    "no certificate": {"tls_certificates": []},
    "three certificates": {"tls_certificates": [format_base64(certificate(NAME, label=label)) for label in ("a", "b", "c")]},
    "certificate twice": {"tls_certificates": [format_base64(LAB.certificate)] * 2},
    "certificate not base64": {"tls_certificates": ["-----BEGIN CERTIFICATE-----"]},
    "certificate not DER": {"tls_certificates": [format_base64(b"not DER")]},
    "certificate with a trailing byte": {"tls_certificates": [format_base64(LAB.certificate + b"\x00")]},
    "certificate on P-384": {"tls_certificates": [format_base64(certificate(NAME, curve="secp384r1"))]},
    "certificate for another member": {"tls_certificates": [format_base64(OTHER.certificate)]},
    "certificate with two names": {"tls_certificates": [format_base64(certificate(NAME, "a.example"))]},
    "certificate without names": {"tls_certificates": [format_base64(certificate())]},
    "second certificate for another member": {
        "tls_certificates": [format_base64(LAB.certificate), format_base64(OTHER.certificate)]
    },
    "unknown member": {"comment": "hello"},
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN)
def test_other_cards_are_refused(changes: dict[str, Any]) -> None:
    assert parse_content() == build_card(LAB)
    with pytest.raises(FormatError):
        parse_content(**changes)


@pytest.mark.parametrize("name", sorted(card_content(build_card(LAB))))
def test_every_member_is_needed(name: str) -> None:
    content = card_content(build_card(LAB))
    del content[name]
    with pytest.raises(FormatError, match=name):
        parse_card(sign_content(content, CARD_TYPE, LAB.sign))


@pytest.mark.parametrize("raw", sorted(LOW_ORDER_ENCODINGS), ids=bytes.hex)
def test_keys_of_low_order_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError, match="low order"):
        parse_content(log_key=str(VerifierKey(LAB.origin, TYPE_LOG, raw)))
    with pytest.raises(FormatError, match="low order"):
        parse_content(identity_key=format_base64(raw))
    with pytest.raises(FormatError, match="low order"):
        parse_content(witness_key=str(VerifierKey(LAB.witness.key.name, TYPE_WITNESS, raw)))


def test_a_roster_is_not_a_card() -> None:
    with pytest.raises(FormatError):
        parse_card(sign_content(card_content(build_card(LAB)), ROSTER_TYPE, LAB.sign))


@pytest.mark.parametrize("content", [[], "card", None, {}])
def test_a_card_is_an_object(content: Any) -> None:
    with pytest.raises(FormatError):
        parse_card(sign_content(content, CARD_TYPE, LAB.sign))


def test_only_the_identity_key_signs() -> None:
    for label in (OTHER.identity_label, f"{LAB.origin}/1"):
        envelope, card = parse_card(sign_content(card_content(build_card(LAB)), CARD_TYPE, sign_with(label)))
        with pytest.raises(SignatureError, match="identity key"):
            verify_card(envelope, card, LAB.identity_key)


def test_a_card_that_names_another_identity_key_than_the_roster() -> None:
    envelope, card = parse_card(sign_card(build_card(LAB, identity_key=OTHER.identity_key), LAB))
    for key in (LAB.identity_key, OTHER.identity_key):
        with pytest.raises(SignatureError, match="identity key"):
            verify_card(envelope, card, key)


def test_the_identity_key_has_no_second_role() -> None:
    key = LAB.identity_key
    for changes in (
        {"log_key": VerifierKey(LAB.origin, TYPE_LOG, key)},
        {"witness_key": VerifierKey(LAB.witness.key.name, TYPE_WITNESS, key)},
        {"former_log_keys": (FormerLogKey(VerifierKey(LAB.origin, TYPE_LOG, key), 1, ROOT),)},
        {"former_witness_keys": (FormerWitnessKey(VerifierKey(LAB.witness.key.name, TYPE_WITNESS, key), START),)},
    ):
        with pytest.raises(FormatError, match="two roles"):
            parse_card(sign_card(build_card(LAB, **changes), LAB))


def test_log_key_at() -> None:
    card = rotated_card()
    other = bytes(32)
    for size in range(5):
        assert card.log_key_at(size, other) == OLDER_LOG
    assert card.log_key_at(5, ROOT) == OLDER_LOG
    for size in range(6, 9):
        assert card.log_key_at(size, other) == OLD_LOG
    assert card.log_key_at(9, ROOT[::-1]) == OLD_LOG
    for size in (10, 11, 2**39):
        assert card.log_key_at(size, other) == LAB.log.key


@pytest.mark.parametrize(("size", "root"), [(5, ROOT[::-1]), (9, ROOT), (9, bytes(32))])
def test_at_the_last_size_of_a_former_key_only_its_root_counts(size: int, root: bytes) -> None:
    with pytest.raises(SignatureError, match="retired"):
        rotated_card().log_key_at(size, root)


@pytest.mark.parametrize(
    "text",
    ["a:1", "lab.example:7443", "10.0.0.1:65535", "[::1]:7443", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:80", "A-b.C:9"],
)
def test_endpoints(text: str) -> None:
    assert parse_endpoint(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        ":1",
        "a:",
        "a:0",
        "a:65536",
        "a:99999",
        "a:100000",
        "a:-1",
        "a:+1",
        "a:\uff11",
        "a:1\n",
        " a:1",
        "a b:1",
        "-a:1",
        "a-:1",
        ".a:1",
        "::1:7443",
        "[]:1",
        "[::1]",
        "[::g]:1",
        "http://a:1",
        "a/b:1",
        "济南:1",
        "a" * 254 + ":1",
    ],
)
def test_other_endpoints_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_endpoint(text)


def test_a_certificate_name_holds_the_longest_alliance() -> None:
    longest = ".".join(["a" * 63] * 3)
    name = certificate_name(longest, "m" * 31)
    assert name.startswith("m" * 31 + ".")
    assert len(name) < 100
    assert name != certificate_name("a" + longest[1:-1], "m" * 31)


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(der: bytes) -> bytes:
        assert old in der
        return der.replace(old, new, 1)

    return change


P256_OID, VERSION_3 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("a003020102")

ODD_CERTIFICATES: dict[str, Callable[[bytes], bytes]] = {
    "an unknown version": replaced(VERSION_3, VERSION_3[:-1] + b"\x06"),
    "an unknown curve": replaced(P256_OID, P256_OID[:-1] + b"\x7f"),
    "an unknown kind of key": replaced(bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d027f")),
    "a name that is no DNS name": replaced(b"\x82" + bytes([len(NAME)]), b"\xa3" + bytes([len(NAME)])),
    "another form of point": replaced(P256_OID + b"\x03\x42\x00\x04", P256_OID + b"\x03\x42\x00\x05"),
}


@pytest.mark.parametrize("change", ODD_CERTIFICATES.values(), ids=ODD_CERTIFICATES)
def test_certificates_that_no_library_likes_are_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(FormatError):
        parse_content(tls_certificates=[format_base64(change(certificate(NAME)))])


def test_any_damaged_certificate_is_taken_or_refused() -> None:
    der = certificate(NAME)
    content = card_content(build_card(LAB))
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of serial numbers and dates that it deprecates
        for at in range(len(der)):
            damaged = der[:at] + bytes([der[at] ^ (1 << at % 8)]) + der[at + 1 :]
            content["tls_certificates"] = [base64.b64encode(damaged).decode()]
            try:
                parse_card(sign_content(content, CARD_TYPE, LAB.sign))
            except FormatError:
                refused += 1
    assert refused > 50


def test_a_card_says_when_its_witness_key_ended() -> None:
    until = START + timedelta(days=3)
    card = replace(rotated_card(), former_witness_keys=(FormerWitnessKey(OLD_WITNESS, until),))
    assert parse_card(sign_card(card, LAB))[1].former_witness_keys[0].until == until
    assert build_labs(1)[0].member == card.member
