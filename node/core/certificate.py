"""TLS certificates as they stand in cards: self-signed, ECDSA P-256, with a subject that only their key can have.

A TLS library finds a trusted root by its subject. If a member could choose its certificate's subject, it could put
itself in front of another's, or write one that the library cannot read. So the subject and the issuer are exactly one common
name, made from the key.
"""

from __future__ import annotations

from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from node.core.keys import parse_base64
from node.errors import FormatError

CERTIFICATE_SIZE_MAX = 2048

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def certificate_name(alliance: str, member: str) -> str:
    """The DNS name in a member's certificate, which a caller demands when it connects.

    An alliance name may be as long as a DNS name may be, so the alliance stands in it as a hash.
    """
    return f"{member}.{sha256(alliance.encode()).hexdigest()[:16]}.labmesh.invalid"


def certificate_subject(key: ec.EllipticCurvePublicKey) -> x509.Name:
    """The only subject and issuer that a certificate of this key may have."""
    digest = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, digest[:40])])


def parse_certificate(text: str) -> bytes:
    """Parse a certificate: base64 of DER, at most 2 KiB, self-signed on P-256 under the subject of its key.

    Raises:
        FormatError: anything else.
    """
    der = parse_base64(text)
    if len(der) > CERTIFICATE_SIZE_MAX:
        raise FormatError(f"the certificate has {len(der)} bytes; at most {CERTIFICATE_SIZE_MAX} are taken")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise FormatError("the certificate's key is not ECDSA on P-256")
        wanted = certificate_subject(key).public_bytes()
        if certificate.subject.public_bytes() != wanted or certificate.issuer.public_bytes() != wanted:
            raise FormatError("the certificate's subject and issuer are not the name made from its key")
        certificate.verify_directly_issued_by(certificate)
        _ = certificate.extensions
    except _UNREADABLE as error:
        raise FormatError("not an X.509 certificate in DER") from error
    except InvalidSignature as error:
        raise FormatError("the certificate is not signed by its own key") from error
    return der


def require_name(der: bytes, name: str) -> None:
    """Refuse a certificate whose subject alternative name is not exactly this DNS name.

    Raises:
        FormatError: it is not.
    """
    try:
        extension = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except _UNREADABLE as error:
        raise FormatError("tls_certificates: no readable subject alternative name") from error
    if list(extension.value) != [x509.DNSName(name)]:
        raise FormatError(f"tls_certificates: the certificate is not for {name}")
