"""A node's home: the folder with its keys, settings and database. Made once by `init`, opened by everything else.

labmesh.toml          settings
labmesh.sqlite        the store; search.sqlite beside it can be lost
keys/                 identity, log, witness and tls keys (PKCS#8 PEM, mode 0600); see node.keyfiles
labmesh.sock          the daemon's socket, while it runs
labmesh.lock          held by whoever writes
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.clock import milliseconds, utc_now
from node.config import CONFIG_NAME, Settings, format_settings, load_settings, parse_listen
from node.core.card import CARD_TYPE, Card, card_content, parse_card, parse_endpoint
from node.core.dsse import build_envelope, format_envelope
from node.core.keys import TYPE_LOG, TYPE_WITNESS, Signer, VerifierKey
from node.core.names import log_origin, parse_alliance, parse_member, witness_name
from node.errors import HomeError
from node.identity import NEW_IDENTITY
from node.keyfiles import KEY_NAMES, KeyFiles, build_certificate, format_key, require_private
from node.membership import IdentityKey
from node.store import DATABASE_NAME, Store, create_store, open_store

SOCKET_PATH_MAX = 100


@dataclass(frozen=True, slots=True)
class Keys:
    """The private keys of a home, as functions that sign; the TLS key as PEM without a passphrase, as gRPC wants it."""

    identity: IdentityKey
    log: Signer
    witness: Signer
    tls_key_pem: bytes


@dataclass(frozen=True, slots=True)
class Home:
    """Paths inside a home. Nothing is opened yet."""

    path: Path

    @property
    def config_path(self) -> Path:
        """The settings file."""
        return self.path / CONFIG_NAME

    @property
    def database_path(self) -> Path:
        """The database."""
        return self.path / DATABASE_NAME

    @property
    def socket_path(self) -> Path:
        """The daemon's socket."""
        return self.path / "labmesh.sock"

    @property
    def lock_path(self) -> Path:
        """The file whose lock says that somebody writes."""
        return self.path / "labmesh.lock"

    @property
    def backups_path(self) -> Path:
        """Where `upgrade` puts the database as it was."""
        return self.path / "backups"

    def key_path(self, name: str) -> Path:
        """A private key's file."""
        return self.path / "keys" / f"{name}.pem"

    def require(self) -> None:
        """Refuse a folder that is not a home.

        Raises:
            HomeError: there is no home here.
        """
        missing = [path.name for path in (self.config_path, self.database_path) if not path.is_file()]
        if missing and (self.path / "keys").is_dir():
            raise HomeError(
                f"{self.path} is a home without {' and '.join(missing)}; keep the folder, its keys cannot be made again",
                hint="restore the file from a backup; config/labmesh.toml in the sources shows what the settings look like",
            )
        if missing:
            raise HomeError(
                f"{self.path} is not the home of a Labmesh node",
                hint=f"type: labmesh --home {shlex.quote(str(self.path))} init …   or name another home",
            )

    def load_settings(self) -> Settings:
        """The settings.

        Raises:
            ConfigError: they are wrong.
        """
        return load_settings(self.config_path)

    def key_files(self, passphrase: bytes | None = None) -> KeyFiles:
        """The files of the private keys."""
        return KeyFiles(self.path / "keys", passphrase)

    def load_keys(self, member: str, alliance: str, passphrase: bytes | None = None) -> Keys:
        """The private keys.

        Where the log, witness or TLS key is gone, a key that no card names stands in: the node runs without what it would
        sign, until it is rotated (`node.lost_keys`).

        Raises:
            HomeError: the identity key is missing, or a key is unreadable, readable by others, or under another passphrase.
        """
        files = self.key_files(passphrase)
        if not files.path("identity").exists():
            raise HomeError(
                f"{files.path('identity')} is missing: without it no card and no roster can be signed",
                hint=f"restore it from a backup; if it is lost: {NEW_IDENTITY}; then start again",
            )
        identity, log, witness = (
            files.load_ed25519(files.path(name)) if files.path(name).exists() else Ed25519PrivateKey.generate()
            for name in KEY_NAMES[:3]
        )
        has_tls = files.path("tls").exists()
        tls = files.load_tls(files.path("tls")) if has_tls else ec.generate_private_key(ec.SECP256R1())
        log_key = VerifierKey(log_origin(alliance, member), TYPE_LOG, log.public_key().public_bytes_raw())
        witness_key = VerifierKey(witness_name(alliance, member), TYPE_WITNESS, witness.public_key().public_bytes_raw())
        return Keys(
            IdentityKey(identity.public_key().public_bytes_raw(), identity.sign),
            Signer(log_key, log.sign),
            Signer(witness_key, witness.sign),
            format_key(tls),
        )

    def require_private(self) -> None:
        """Refuse a home that other accounts may look into. A group may pass through to the socket (mode 0710).

        Raises:
            HomeError: they may.
        """
        for path, mode in self.private_paths():
            if path.exists():
                require_private(path, mode)

    def private_paths(self) -> list[tuple[Path, int]]:
        """What must be closed to others, each with the most permissive mode it may have."""
        keys = [(path, 0o600) for path in self.key_files().present()]
        return [(self.path, 0o710), (self.path / "keys", 0o700), (self.database_path, 0o600), *keys]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home's write lock.

        Raises:
            HomeError: another process holds it.
        """
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise HomeError(
                    f"another process is using {self.path}",
                    hint="a daemon runs already: labmesh status; for what needs it stopped, stop it first",
                ) from error
            yield
        finally:
            os.close(descriptor)

    def open_store(self) -> Store:
        """The store.

        Raises:
            HomeError: it is missing or of another version.
        """
        self.require()
        return open_store(self.path)


def create_home(
    path: Path,
    *,
    member: str,
    alliance: str,
    name: str,
    region: str,
    address: str,
    listen: str | None = None,
    passphrase: bytes | None = None,
) -> Card:
    """Make a home: keys, certificate, first card, database and settings. It appears whole, or not at all.

    With a passphrase the private keys are protected by it.

    Raises:
        HomeError: something is there already.
        FormatError: a name or address is not in the right form.
        ConfigError: `listen` is not an address.
    """
    parse_member(member), parse_alliance(alliance), parse_endpoint(address)
    listen = parse_listen(listen or "0.0.0.0:" + address.rpartition(":")[2])
    if len(os.fsencode(Home(path).socket_path)) > SOCKET_PATH_MAX:
        raise HomeError(f"the path {path} is too long for a Unix socket", hint="choose a shorter --home")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise HomeError(f"{path} exists already; nothing was changed", hint="choose another --home, or remove it yourself")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder that somebody made for us may be the only place where we can write: then the draft lies in it.
    there = path.is_dir()
    draft = Path(tempfile.mkdtemp(prefix=".init-", dir=path if there else path.parent))
    try:
        card = _fill(Home(draft), member, alliance, name, region, address, passphrase)
        settings = format_settings(name=name, region=region, address=address, listen=listen)
        (draft / CONFIG_NAME).write_text(settings, encoding="utf-8")
        load_settings(draft / CONFIG_NAME)
        move_in(draft, path) if there else draft.rename(path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return card


def move_in(draft: Path, path: Path) -> None:
    """Move a finished draft into its empty folder; the settings last, without which it is no home."""
    for item in sorted(draft.iterdir(), key=lambda item: item.name == CONFIG_NAME):
        item.rename(path / item.name)
    draft.rmdir()
    path.chmod(0o700)


def _fill(home: Home, member: str, alliance: str, name: str, region: str, address: str, passphrase: bytes | None) -> Card:
    (home.path / "keys").mkdir(mode=0o700)
    files = home.key_files(passphrase)
    for key_name in KEY_NAMES[:3]:
        files.write(files.path(key_name), Ed25519PrivateKey.generate())
    tls_key = ec.generate_private_key(ec.SECP256R1())
    files.write(files.path("tls"), tls_key)
    keys, now = home.load_keys(member, alliance, passphrase), utc_now()
    card = Card(
        alliance=alliance,
        member=member,
        name=name,
        region=region,
        identity_key=keys.identity.public_key,
        seq=1,
        previous=None,
        issued=now.replace(microsecond=0),
        endpoints=(address,),
        log_key=keys.log.key,
        witness_key=keys.witness.key,
        former_log_keys=(),
        former_witness_keys=(),
        tls_certificates=(build_certificate(tls_key, alliance, member, now),),
    )
    raw = format_envelope(build_envelope(card_content(card), CARD_TYPE, keys.identity.sign))
    parse_card(raw)
    store = create_store(home.path)
    try:
        store.membership.save_identity(member, alliance, created_ms=milliseconds(now))
        store.membership.save_card(member, 1, raw, CARD_TYPE)
    finally:
        store.close()
    return card
