"""Certificates in cards: one form, which only their key can have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from node.core.certificate import certificate_name, certificate_subject, parse_certificate, require_name
from node.core.keys import format_base64
from node.errors import FormatError

KEY = ec.derive_private_key(12345, ec.SECP256R1())
OTHER = ec.derive_private_key(54321, ec.SECP256R1())
NAME = certificate_name("quality.jinan.example", "jinan")
OWN = certificate_subject(KEY.public_key())


def build(
    *,
    subject: x509.Name = OWN,
    issuer: x509.Name = OWN,
    names: list[x509.GeneralName] | None = None,
    signer: ec.EllipticCurvePrivateKey = KEY,
    padding: int = 0,
) -> str:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName(names or [x509.DNSName(NAME)]), critical=False)
    )
    if padding:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(padding))
        builder = builder.add_extension(extension, critical=False)
    return format_base64(builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER))


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def test_an_honest_certificate() -> None:
    der = parse_certificate(build())
    assert format_base64(der) == build() or x509.load_der_x509_certificate(der).subject == OWN
    require_name(der, NAME)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (build(subject=common_name("jinan")), "subject and issuer"),
        (build(subject=certificate_subject(OTHER.public_key())), "subject and issuer"),
        (build(issuer=certificate_subject(OTHER.public_key())), "subject and issuer"),
        (build(signer=OTHER), "not signed by its own key"),
        (build(padding=2000), "at most 2048"),
        (format_base64(b"no certificate"), "not an X.509 certificate"),
        ("%%%", "base64"),
    ],
    ids=["a chosen subject", "anothers subject", "another issuer", "another signer", "too large", "no DER", "no base64"],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_certificate(text)


@pytest.mark.parametrize(
    "names",
    [
        [x509.DNSName("other.labmesh.invalid")],
        [x509.DNSName(NAME), x509.DNSName("other.labmesh.invalid")],
        [x509.DNSName(NAME), x509.RFC822Name("a@b.example")],
    ],
    ids=["another", "two", "a second of another type"],
)
def test_the_name_is_exactly_one(names: list[x509.GeneralName]) -> None:
    with pytest.raises(FormatError, match="not for"):
        require_name(parse_certificate(build(names=names)), NAME)


def test_a_subject_in_bytes_that_are_no_text_is_refused() -> None:
    raw = bytearray(parse_certificate(build()))
    at = bytes(raw).index(OWN.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value.encode())  # type: ignore[union-attr]
    raw[at] = 0xFF
    with pytest.raises(FormatError):
        parse_certificate(format_base64(bytes(raw)))
