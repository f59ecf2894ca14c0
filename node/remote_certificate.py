"""The certificate that lab systems on other machines see: made by this node, or by the lab's own authority.

The node's own one is self-signed, for the names in the settings. Whoever connects needs it (`remote.crt`) to know the node:
so it is made again only when it lacks a name, and then with the same key.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.config import RemoteSettings
from node.errors import ConfigError
from node.keyfiles import NO_KEY

CERTIFICATE_NAME = "remote.crt"
KEY_NAME = "remote.pem"
LIFETIME = timedelta(days=3650)

_EVERYWHERE = {"0.0.0.0", "[::]"}


@dataclass(frozen=True, slots=True)
class RemoteCertificate:
    """A certificate that fits its key, both as PEM; the DNS names and addresses it is for; when it ends."""

    chain_pem: bytes
    key_pem: bytes
    names: tuple[str, ...]
    expires: datetime


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    """Where the certificate and its key lie."""

    chain_path: Path
    key_path: Path

    def state(self) -> tuple[tuple[int, int], ...]:
        """Changes when a file is replaced, written or made readable."""
        try:
            found = [path.stat() for path in (self.chain_path, self.key_path)]
        except OSError:
            return ()
        return tuple((item.st_ino, item.st_ctime_ns) for item in found)

    def load(self) -> RemoteCertificate:
        """Read both files.

        Raises:
            ConfigError: one is missing, unreadable or open to others, or they do not belong together.
        """
        chain_pem, key_pem = _read(self.chain_path), _read_secret(self.key_path)
        try:
            certificate = x509.load_pem_x509_certificates(chain_pem)[0]
            names = certificate_names(certificate)
        except (ValueError, x509.DuplicateExtension, x509.InvalidVersion) as error:
            raise ConfigError(f"{self.chain_path} is not a certificate in PEM", hint="see remote.certificate") from error
        if not names:
            raise ConfigError(
                f"the certificate {self.chain_path} is for no DNS name and no address",
                hint="it needs a subject alternative name",
            )
        if _public_bytes(certificate.public_key()) != _public_bytes(_parse_key(key_pem, self.key_path).public_key()):
            raise ConfigError(
                f"the certificate {self.chain_path} does not belong to the key {self.key_path}",
                hint="the certificate itself comes first in its file, then those of the authority",
            )
        return RemoteCertificate(chain_pem, key_pem, names, certificate.not_valid_after_utc)


def prepare_files(settings: RemoteSettings, home: Path, *, now: datetime) -> RemoteFiles:
    """The files that the settings name; without names, those in the home, which are made where they lack something.

    Raises:
        ConfigError: the settings name no host, or what is there cannot be used.
    """
    if settings.certificate:
        return RemoteFiles(home / settings.certificate, home / settings.key)
    files = RemoteFiles(home / CERTIFICATE_NAME, home / "keys" / KEY_NAME)
    names = _wanted_names(settings)
    if not files.key_path.exists():
        key_pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(files.key_path, key_pem, 0o600)
    if not files.chain_path.exists() or not set(names) <= set(files.load().names):
        key = _parse_key(_read_secret(files.key_path), files.key_path)
        _write(files.chain_path, build_certificate(key, names, now).public_bytes(Encoding.PEM), 0o644)
    return files


def build_certificate(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, names: Sequence[str], now: datetime
) -> x509.Certificate:
    """A self-signed certificate for these names. A day's grace before `now` allows for slow clocks."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Labmesh remote port")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and addresses in a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))


def _wanted_names(settings: RemoteSettings) -> tuple[str, ...]:
    host = settings.listen.rpartition(":")[0]
    names = [*settings.names, *([] if host in _EVERYWHERE else [host])]
    if not names:
        raise ConfigError(
            f"remote.names is empty, and remote.listen = {settings.listen!r} names no host to recognise this node by",
            hint='name in labmesh.toml what lab systems connect to, for example names = ["node.lab.example", "10.0.0.5"]',
        )
    return tuple(dict.fromkeys(_plain(name) for name in names))


def _plain(name: str) -> str:
    """One spelling for each name: addresses as Python writes them, DNS names in lower case."""
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return name.lower()


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _parse_key(raw: bytes, path: Path) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(raw, password=None)
    except TypeError as error:
        raise ConfigError(f"{path} has a passphrase", hint="the key of the remote port must be without one") from error
    except NO_KEY as error:
        raise ConfigError(
            f"{path} is not a private key in PEM", hint="see remote.key, or restore it from a backup"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ConfigError(f"{path} is neither an ECDSA nor an RSA key, and gRPC takes no other", hint="see remote.key")
    return key


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="see [remote] in labmesh.toml") from error


def _read_secret(path: Path) -> bytes:
    raw = _read(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path} can be read by others", hint=f"type: chmod 600 {shlex.quote(str(path))}")
    return raw


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole, never open to others in between."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
