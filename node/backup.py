"""One file that holds a node: database, settings, and, if wanted, the private keys under a passphrase.

The file is a ZIP with stored members: `manifest.json`, `labmesh.sqlite`, `labmesh.toml`, and `keys/<name>.pem`. The manifest
names every other member with its SHA-256. A restored home is older than what its node published since; what the node does
about that stands in `node.confirmation`. The search index is not in a backup: it is made again.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import orjson

from node.backup_keys import KEY_MEMBER, KEYS_NONE, AskPassphrase, collect_keys, read_keys, restore_keys
from node.clock import Clock, milliseconds, utc_now
from node.config import CONFIG_NAME
from node.core.canonical import dumps_canonical
from node.core.keys import format_base64
from node.core.times import format_milliseconds
from node.errors import HomeError
from node.home import Home, move_in
from node.placement import create_private, put_in_place, sync_folder
from node.store import DATABASE_NAME
from node.store.snapshot import RevokedClient, copy_database, read_facts, require_intact, revoke_clients

FORMAT = "labmesh-backup/1"
MANIFEST_NAME = "manifest.json"
MANIFEST_SIZE_MAX = 64 * 1024
_CHUNK = 1024 * 1024
# KeyError: a member that is not there. NotImplementedError, RuntimeError: compressed or encrypted in ways not used here.
_DAMAGED = (BadZipFile, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError, OverflowError, zlib.error)

ATTEMPTS = 20
RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `files` gives size and SHA-256 (hex) of every other member; `root` is base64.

    `keys` is `none`, `wrapped` (under the backup's passphrase) or `as at home` (they had a passphrase already).
    """

    format: str
    member: str
    alliance: str
    schema: str
    size: int
    root: str
    made: str
    keys: str
    files: dict[str, dict[str, int | str]]


def has_protected_keys(home: Home) -> bool:
    """Whether the private keys in a home lie under a passphrase.

    Raises:
        HomeError: they cannot be read.
    """
    return any(b"ENCRYPTED" in raw for raw in read_keys(home.path / "keys").values())


def create_backup(
    home: Home, target: Path, *, keys: bool, passphrase: bytes | None, made: datetime, replace: bool = False
) -> Manifest:
    """Write a backup of a home, whether its node runs or not. The file appears whole, or not at all.

    Args:
        home: the home.
        target: the file to be made.
        keys: whether the private keys are in it, too.
        passphrase: what these are put under; not used where they have a passphrase already.
        made: now.
        replace: whether a file that is there already gives way, once the new one is whole.

    Raises:
        HomeError: something is there already, or the home cannot be read.
        StoreError: the database cannot be copied.
    """
    home.require()
    if target.exists() and not (replace and target.is_file()):
        raise _taken(target)
    if not target.parent.is_dir():
        raise HomeError(f"there is no folder {target.parent}", hint="make it, or name another file")
    with tempfile.TemporaryDirectory(prefix=f".{target.name[:50]}-", dir=target.parent) as folder:
        database, draft = Path(folder) / DATABASE_NAME, Path(folder) / "draft"
        _copy_between_rotations(home, database, keys=keys)
        require_intact(database)
        key_members = collect_keys(home, passphrase) if keys else (KEYS_NONE, {})
        manifest = _write(draft, database, home.config_path, key_members, made)
        try:
            put_in_place(draft, target, replace=replace)
        except FileExistsError:
            raise _taken(target) from None
    return manifest


def read_manifest(path: Path) -> Manifest:
    """What a backup says of itself; its members are not looked at yet.

    Raises:
        HomeError: it is no backup, or of a newer kind.
    """
    with _open(path) as archive:
        return _read_manifest(archive, path)


def _ignore_lost(_role: str) -> None:
    """Whoever starts the home is told by its node."""


def _ignore_revoked(_client: RevokedClient) -> None:
    """Whoever starts the home reads it in `labmesh client list`."""


def restore_backup(
    path: Path,
    target: Path,
    *,
    keys_from: Path | None,
    ask_passphrase: AskPassphrase,
    on_lost: Callable[[str], None] = _ignore_lost,
    on_revoked: Callable[[RevokedClient], None] = _ignore_revoked,
    clock: Clock = utc_now,
) -> Manifest:
    """Make a home from a backup. It appears whole, or not at all; nothing may be there.

    Every client in it is revoked: one may have been revoked since the backup, and nobody can tell the home.

    The log, witness or TLS key may be older or newer than the card in the database: a newer card may come from the peers,
    and a lost key can be rotated. The identity key must be the card's, so that these are the keys of this home.

    Args:
        path: the backup.
        target: the folder of the home.
        keys_from: a folder with the private keys; None to take them from the backup.
        ask_passphrase: called once where the keys are protected.
        on_lost: called with each role whose key is not the one in the card.
        on_revoked: called with each client that was not revoked yet when the backup was made.
        clock: gives the time of the revocation.

    Raises:
        HomeError: something is there already; the backup is damaged, or not of this software; a key is missing, or the
            identity key is another one.
    """
    _require_vacant(target)
    with _drafted(target) as draft:
        manifest = _extract_home(path, draft, keys_needed=keys_from is None)
        lost = restore_keys(draft, manifest.keys, keys_from, ask_passphrase)
        revoked = revoke_clients(draft / DATABASE_NAME, now_ms=milliseconds(clock()))
    for role in lost:
        on_lost(role)
    for client in revoked:
        on_revoked(client)
    return manifest


def _require_vacant(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise HomeError(
            f"{target} exists already; nothing was changed",
            hint="name another --home, or move this one away first; never let two homes of one member run",
        )


@contextmanager
def _drafted(target: Path) -> Iterator[Path]:
    """A folder in which a home is made; it becomes the home when the block ends, and is gone when the block fails."""
    there = target.is_dir()
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".restore-", dir=target if there else target.parent))
    try:
        yield draft
        move_in(draft, target) if there else draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _extract_home(path: Path, draft: Path, *, keys_needed: bool) -> Manifest:
    """Put what is in a backup into the draft, verified; refuses one without the keys that are needed."""
    with _open(path) as archive:
        manifest = _read_manifest(archive, path)
        if keys_needed and manifest.keys == KEYS_NONE:
            raise HomeError(f"{path} holds no private keys", hint="name the folder where they were kept: --keys DIR")
        _extract(archive, manifest, draft)
    return manifest


def _taken(target: Path) -> HomeError:
    return HomeError(f"{target} exists already; nothing was written", hint="choose another name")


def _write(
    draft: Path, database: Path, settings: Path, key_members: tuple[str, dict[str, bytes]], made: datetime
) -> Manifest:
    facts, files = read_facts(database), {}
    with create_private(draft) as file, ZipFile(file, "w", ZIP_STORED) as archive:
        for source, name in ((database, DATABASE_NAME), (settings, CONFIG_NAME)):
            with source.open("rb") as content:
                files[name] = _add(archive, name, content)
        for name, raw in sorted(key_members[1].items()):
            archive.writestr(_member(f"keys/{name}"), raw)
            files[f"keys/{name}"] = {"size": len(raw), "sha256": sha256(raw).hexdigest()}
        manifest = Manifest(
            FORMAT,
            facts.member,
            facts.alliance,
            facts.revision,
            facts.size,
            format_base64(facts.root),
            format_milliseconds(made),
            key_members[0],
            files,
        )
        archive.writestr(_member(MANIFEST_NAME), dumps_canonical(asdict(manifest)))
        archive.close()
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _member(name: str) -> ZipInfo:
    member = ZipInfo(name)
    member.external_attr = (stat.S_IFREG | 0o600) << 16
    return member


def _add(archive: ZipFile, name: str, content: IO[bytes]) -> dict[str, int | str]:
    digest, size = sha256(), 0
    with archive.open(_member(name), "w", force_zip64=True) as target:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            target.write(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


def _open(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except _DAMAGED as error:
        raise HomeError(f"{path} is not a backup: {error}", hint="it may have been cut off; use another one") from error


def _read_manifest(archive: ZipFile, path: Path) -> Manifest:
    try:
        if archive.getinfo(MANIFEST_NAME).file_size > MANIFEST_SIZE_MAX:
            raise ValueError("the manifest is too large")
        content = orjson.loads(archive.read(MANIFEST_NAME))
        if content["format"] != FORMAT:
            raise HomeError(f"{path} is of the kind {content['format']!r}; this Labmesh knows {FORMAT}")
        manifest = Manifest(**content)
        for name, facts in manifest.files.items():
            if name not in (DATABASE_NAME, CONFIG_NAME) and not KEY_MEMBER.fullmatch(name):
                raise ValueError(f"a member {name!r}")
            int(facts["size"]), str(facts["sha256"])
        if not {DATABASE_NAME, CONFIG_NAME} <= set(manifest.files):
            raise ValueError("the database or the settings are missing")
    except (*_DAMAGED, TypeError, AttributeError, OSError) as error:
        raise HomeError(f"{path} is not a backup: {error}", hint="use another file") from error
    return manifest


def _extract(archive: ZipFile, manifest: Manifest, draft: Path) -> None:
    """Write the members of the manifest into the draft and verify them."""
    (draft / "keys").mkdir(mode=0o700)
    for name, facts in manifest.files.items():
        digest, left = sha256(), int(facts["size"])
        with create_private(draft / name) as target:
            for chunk in _read_member(archive, name):
                left -= len(chunk)
                if left < 0:
                    break
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        if left or digest.hexdigest() != facts["sha256"]:
            raise HomeError(f"the backup is damaged: {name} is not what the manifest says", hint="use another backup")
    database = draft / DATABASE_NAME
    require_intact(database)
    facts_now = read_facts(database)
    if (facts_now.member, facts_now.alliance, facts_now.revision) != (manifest.member, manifest.alliance, manifest.schema):
        raise HomeError("the backup is damaged: its database is not the one of the manifest", hint="use another backup")


def _read_member(archive: ZipFile, name: str) -> Iterator[bytes]:
    """The content of a member, in pieces; what the library makes of a damaged file has many names."""
    try:
        with archive.open(name) as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except (*_DAMAGED, OSError) as error:
        raise HomeError(f"the backup is damaged: {name}: {error}", hint="use another backup") from error


def _copy_between_rotations(home: Home, database: Path, *, keys: bool) -> None:
    """Copy the database while the keys stay the same, for a restored home must have the keys that its card names."""
    folder = home.path / "keys"
    for _ in range(ATTEMPTS):
        before = read_keys(folder) if keys else {}
        database.unlink(missing_ok=True)
        database.touch(mode=0o600)
        copy_database(home.database_path, database)
        # Asked before the keys are read again: a next key is there until it is renamed, and then the keys differ.
        waiting = keys and any((folder / f"{name}.next.pem").exists() for name in ("log", "witness"))
        if not keys or (not waiting and read_keys(folder) == before):
            return
        time.sleep(RETRY_S)
    raise HomeError(
        "the keys of this home are being changed, so no backup was made",
        hint="try again in a minute; if nobody changes keys, restart the node: it sorts them out",
    )
