"""The private keys on disk: `keys/<name>.pem`, PKCS#8 PEM, mode 0600, all under one passphrase or none.

A key that takes another's place is written as `<name>.next.pem` first, then the card that names it is saved, then the file
is renamed over the old one. Wherever a crash falls, the card says which of the two counts (`settle_keys`).
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.core.card import Card
from node.core.certificate import certificate_name, certificate_subject
from node.errors import HomeError
from node.placement import sync_folder

KEY_NAMES = ("identity", "log", "witness", "tls")
CERTIFICATE_LIFETIME = timedelta(days=3650)
CERTIFICATE_GRACE = timedelta(days=1)
PASSPHRASE_HINT = "set LABMESH_PASSPHRASE, or name a file with --passphrase-file FILE"

NO_KEY = (ValueError, TypeError, UnsupportedAlgorithm, InternalError)
"""What the library makes of a file that is no private key, or one of a kind or on a curve that it does not know."""

_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The key files of one home, and the passphrase that opens them (None: they have none)."""

    folder: Path
    passphrase: bytes | None = None

    def path(self, name: str) -> Path:
        """Where a key lies."""
        return self.folder / f"{name}.pem"

    def next_path(self, name: str) -> Path:
        """Where the key lies that is to take its place."""
        return self.folder / f"{name}.next.pem"

    def present(self) -> Iterator[Path]:
        """Every key file there is, current and next."""
        for name in KEY_NAMES:
            yield from (path for path in (self.path(name), self.next_path(name)) if path.exists())

    def protected(self) -> bool:
        """Whether any key is under a passphrase.

        Raises:
            HomeError: a key cannot be read, or others can read it.
        """
        contents = [read_private_file(path) for path in self.present()]  # all of them, so that one that is open is told
        return any(map(is_protected, contents))

    def load_ed25519(self, path: Path) -> Ed25519PrivateKey:
        """An identity, log or witness key.

        Raises:
            HomeError: it is missing, open to others, locked, or no such key.
        """
        key = self._load(path)
        if not isinstance(key, Ed25519PrivateKey):
            raise HomeError(f"{path} is not an Ed25519 key", hint=_move_away(path))
        return key

    def load_tls(self, path: Path) -> ec.EllipticCurvePrivateKey:
        """A TLS key.

        Raises:
            HomeError: it is missing, open to others, locked, or no such key.
        """
        key = self._load(path)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise HomeError(f"{path} is not an ECDSA key", hint=_move_away(path))
        return key

    def write(self, path: Path, key: PrivateKey) -> None:
        """Write a key to a file of its own; on disk when this returns.

        Raises:
            FileExistsError: there is such a file already.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(format_key(key, self.passphrase))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.folder)

    def protect(self, passphrase: bytes | None) -> int:
        """Put every key under a passphrase, or under none; returns how many files were written anew.

        All of them are written beside before the first is renamed. Where a crash left some files done, the same call
        finishes the rest: a file that `passphrase` opens already stays.

        Raises:
            HomeError: a key is missing or open to others, or the held passphrase does not open it.
        """
        for name in KEY_NAMES:
            read_private_file(self.path(name))
        drafts = [draft for path in self.present() if (draft := self._draft(path, passphrase)) is not None]
        for draft in drafts:
            draft.replace(draft.with_suffix(".pem"))
        sync_folder(self.folder)
        return len(drafts)

    def _draft(self, path: Path, passphrase: bytes | None) -> Path | None:
        """A file beside, with the key of `path` under another passphrase; None when it is under that one already."""
        raw = read_private_file(path)
        if passphrase is None and not is_protected(raw):
            return None
        if passphrase is not None and is_protected(raw) and _opens(raw, passphrase):
            return None
        key, draft = self._load(path), path.with_suffix(".draft")
        assert isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey)
        draft.unlink(missing_ok=True)
        replace(self, passphrase=passphrase).write(draft, key)
        return draft

    def promote(self, name: str) -> None:
        """Put the next key in the place of the current one, which is gone then."""
        self.next_path(name).replace(self.path(name))
        sync_folder(self.folder)

    def drop_next(self, name: str) -> None:
        """Take away a next key that nothing names."""
        self.next_path(name).unlink(missing_ok=True)
        sync_folder(self.folder)

    def _load(self, path: Path) -> object:
        raw = read_private_file(path)
        if is_protected(raw) and self.passphrase is None:
            raise HomeError(f"{path} is protected by a passphrase", hint=PASSPHRASE_HINT)
        try:
            return serialization.load_pem_private_key(raw, self.passphrase if is_protected(raw) else None)
        except NO_KEY as error:
            if is_protected(raw):
                raise HomeError(f"the passphrase does not open {path}", hint="try again; capitals matter") from error
            raise HomeError(f"{path} is not a private key in PEM", hint=_move_away(path)) from error


def _move_away(path: Path) -> str:
    """What to type when a key file is no key: a home without it runs, and says how another takes its place."""
    return f"restore it from a backup; if there is none: mv {path} {path}.bad, and then: labmesh run"


def _opens(raw: bytes, passphrase: bytes) -> bool:
    try:
        serialization.load_pem_private_key(raw, passphrase)
    except NO_KEY:
        return False
    return True


def read_private_file(path: Path) -> bytes:
    """The bytes of a file that only its owner may read.

    Raises:
        HomeError: others may, or it cannot be read.
    """
    try:
        require_private(path, 0o600)
        return path.read_bytes()
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror}", hint="restore it from a backup") from error


def require_private(path: Path, mode: int) -> None:
    """Refuse a file or folder that is open to more people than `mode` says.

    Raises:
        HomeError: it is.
        OSError: it is not there.
    """
    found = stat.S_IMODE(path.stat().st_mode)
    if found & 0o077 & ~mode:
        raise HomeError(f"{path} can be read by others", hint=f"type: chmod {mode & 0o700:o} {shlex.quote(str(path))}")


def is_protected(raw: bytes) -> bool:
    """Whether a key file is under a passphrase."""
    return raw.startswith(_ENCRYPTED)


def format_key(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """A key as PKCS#8 PEM."""
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def settle_keys(files: KeyFiles, card: Card) -> list[str]:
    """Finish or undo what a crash cut off: the newest card says which key counts. Returns what was done, in words.

    Raises:
        HomeError: a key cannot be opened.
    """
    done = []
    for name, public in (("log", card.log_key.public_key), ("witness", card.witness_key.public_key)):
        if files.next_path(name).exists():
            done.append(_settle_ed25519(files, name, public))
    if files.next_path("tls").exists():
        done.append(_settle_tls(files, card))
    return [item for item in done if item]


def build_certificate(key: ec.EllipticCurvePrivateKey, alliance: str, member: str, now: datetime) -> bytes:
    """A self-signed certificate (DER) for TLS between nodes. A day's grace before `now` allows for slow clocks."""
    dns_name = certificate_name(alliance, member)
    subject = certificate_subject(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CERTIFICATE_GRACE)
        .not_valid_after(now + CERTIFICATE_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def is_certificate_of(der: bytes, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether this is a certificate of the key's public half."""
    return x509.load_der_x509_certificate(der).public_key() == key.public_key()


def _settle_ed25519(files: KeyFiles, name: str, named: bytes) -> str:
    # The current key first: it tells a wrong passphrase from a next key that a crash left half-written.
    if files.path(name).exists() and _public(files, files.path(name)) == named:
        files.drop_next(name)
        return f"an unused {name} key was removed"
    if _public(files, files.next_path(name)) == named:
        files.promote(name)
        return f"the rotation of the {name} key was finished"
    return ""


def _public(files: KeyFiles, path: Path) -> bytes:
    return files.load_ed25519(path).public_key().public_bytes_raw()


def _settle_tls(files: KeyFiles, card: Card) -> str:
    current = files.load_tls(files.path("tls")) if files.path("tls").exists() else None
    if current is None or not any(is_certificate_of(der, current) for der in card.tls_certificates):
        coming = files.load_tls(files.next_path("tls"))
        if any(is_certificate_of(der, coming) for der in card.tls_certificates):
            files.promote("tls")
            return "the rotation of the TLS key was finished"
        return ""
    if len(card.tls_certificates) == 1:
        files.drop_next("tls")
        return "an unused tls key was removed"
    return ""
