"""The private keys that a backup holds, on their way out of a home and into another."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from node.core.card import Card, parse_card
from node.errors import HomeError
from node.home import Home
from node.keyfiles import NO_KEY, read_private_file
from node.placement import create_private
from node.store import DATABASE_NAME
from node.store.snapshot import read_facts

KEYS_NONE, KEYS_WRAPPED, KEYS_AS_AT_HOME = "none", "wrapped", "as at home"
KEY_MEMBER = re.compile(r"keys/[a-z0-9][a-z0-9.-]{0,60}\.pem")
_PLAIN = serialization.NoEncryption()

AskPassphrase = Callable[[], bytes]
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def collect_keys(home: Home, passphrase: bytes | None) -> tuple[str, dict[str, bytes]]:
    """What a backup takes of a home's keys: how they are kept (`KEYS_WRAPPED`, `KEYS_AS_AT_HOME`), and the files by name.

    Args:
        home: the home.
        passphrase: what wraps keys that are open at home; protected ones stay under their own.

    Raises:
        HomeError: a key cannot be read, or would leave the home in the open.
    """
    found = read_keys(home.path / "keys")
    protected = {name: raw for name, raw in found.items() if b"ENCRYPTED" in raw}
    if protected:
        # A key that is open at home (of the remote port, which can be made again) does not leave it.
        return KEYS_AS_AT_HOME, protected
    if not passphrase:
        raise HomeError("the private keys leave the home only under a passphrase")
    return KEYS_WRAPPED, {
        name: _format_key(_parse_key(name, raw, None), serialization.BestAvailableEncryption(passphrase))
        for name, raw in found.items()
    }


def restore_keys(draft: Path, kept: str, keys_from: Path | None, ask_passphrase: AskPassphrase) -> list[str]:
    """Put the keys into the draft, and compare them with its card; returns the roles whose key is another one.

    Args:
        draft: the home that is being made.
        kept: how the backup holds the keys, one of the `KEYS_` words.
        keys_from: a folder that holds the keys instead.
        ask_passphrase: asked for what opens them, if something has to be.

    Raises:
        HomeError: a key is missing, cannot be opened, or is not that of the card's member.
    """
    folder = draft / "keys"
    if keys_from is not None:
        for path in folder.iterdir():
            path.unlink()
        for name, raw in read_keys(keys_from).items():
            _write_key(folder / name, raw)
    found = read_keys(folder)
    passphrase = ask_passphrase() if any(b"ENCRYPTED" in raw for raw in found.values()) else None
    opened = {name: _parse_key(name, raw, passphrase) for name, raw in found.items()}
    lost = _compare_keys(parse_card(read_facts(draft / DATABASE_NAME).card)[1], opened)
    if keys_from is None and kept == KEYS_WRAPPED:
        for name, key in opened.items():
            (folder / name).unlink()
            _write_key(folder / name, _format_key(key, _PLAIN))
    return lost


def _compare_keys(card: Card, keys: dict[str, PrivateKey]) -> list[str]:
    lost = []
    wanted = {
        "identity.pem": {card.identity_key},
        "log.pem": {card.log_key.public_key},
        "witness.pem": {card.witness_key.public_key},
        "tls.pem": {_public(x509.load_der_x509_certificate(der).public_key()) for der in card.tls_certificates},
    }
    for name, allowed in wanted.items():
        if name not in keys:
            raise HomeError(f"the key {name} is missing", hint="name the folder that holds all of them: --keys DIR")
        if _public(keys[name].public_key()) in allowed:
            continue
        if name == "identity.pem":
            raise HomeError(
                f"{name} is not the key in the card of {card.member}",
                hint="use the keys as they were when the backup was made",
            )
        lost.append(name.removesuffix(".pem"))
    return lost


def _public(key: object) -> bytes:
    if isinstance(key, Ed25519PublicKey):
        return key.public_bytes_raw()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b""  # none that a card names


def read_keys(folder: Path) -> dict[str, bytes]:
    """The private keys in a folder, by file name.

    Raises:
        HomeError: there are none, or one can be read by others; the hint mends it.
    """
    try:
        found = {
            path.name: read_private_file(path)
            for path in sorted(folder.iterdir())
            if KEY_MEMBER.fullmatch(f"keys/{path.name}")
        }
    except OSError as error:
        raise HomeError(f"{error.filename} cannot be read: {error.strerror}", hint="name the folder of the keys") from error
    if not found:
        raise HomeError(f"{folder} holds no private keys", hint="name the folder that holds them")
    return found


def _parse_key(name: str, raw: bytes, passphrase: bytes | None) -> PrivateKey:
    protected = b"ENCRYPTED" in raw
    try:
        key = serialization.load_pem_private_key(raw, password=passphrase if protected else None)
    except NO_KEY as error:
        if protected:
            raise HomeError(
                f"the passphrase does not open {name}",
                hint="it is the one that the keys had then; --passphrase-file FILE goes first, then the variable "
                "LABMESH_BACKUP_PASSPHRASE, and last the prompt: correct the one that was taken",
            ) from error
        raise HomeError(f"{name} is not a private key in PEM", hint="use another backup") from error
    if not isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise HomeError(f"{name} is not a key of a Labmesh node", hint="use another backup")
    return key


def _format_key(key: PrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _write_key(path: Path, raw: bytes) -> None:
    with create_private(path) as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
