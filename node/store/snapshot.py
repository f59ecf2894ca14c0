"""Copies of the database: made while it is in use, examined without being opened as a store, of any schema version."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.core.merkle import parse_frontier
from node.errors import FormatError, HomeError
from node.store.database import RESTORE_HINT, SCHEMA_REVISION, read_revision, store_errors

_SMALL_TABLES = ("node", "roster", "card", "log")


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """Whose database it is and how far its log goes. `size` counts entries that are not signed yet, too."""

    revision: str
    member: str
    alliance: str
    card: bytes
    size: int
    root: bytes


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as of one moment, whether a node writes to it or not (SQLite's online backup).

    Raises:
        StoreError: it cannot be read, or the copy cannot be written.
    """
    with store_errors(), closing(sqlite3.connect(source, timeout=10)) as database, closing(sqlite3.connect(target)) as copy:
        database.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")


def read_facts(path: Path) -> DatabaseFacts:
    """What a database says of itself.

    Raises:
        HomeError: it is no database of a node, or of a newer version of the software.
    """
    revision = read_revision(path)
    if revision is None:
        raise HomeError(f"{path} is not the database of a Labmesh node", hint="use another backup")
    if revision > SCHEMA_REVISION:
        raise HomeError(
            f"the database was made by a newer Labmesh (schema {revision}; this one knows {SCHEMA_REVISION})",
            hint="install that version first",
        )
    with _read(path) as database:
        member, alliance = database.execute("SELECT member, alliance FROM node").fetchone()
        newest = "SELECT envelope FROM card WHERE member=? ORDER BY seq DESC LIMIT 1"
        card = database.execute(newest, (member,)).fetchone()[0]
        log = database.execute("SELECT head_size, head_frontier FROM log WHERE member=?", (member,)).fetchone()
        size, frontier = log or (0, b"")
        return DatabaseFacts(revision, member, alliance, card, size, parse_frontier(size, frontier).root())


@dataclass(frozen=True, slots=True)
class RevokedClient:
    """A lab system whose token is not taken any more; `kinds` is empty for all."""

    name: str
    role: str
    kinds: tuple[str, ...]


def revoke_clients(path: Path, *, now_ms: int) -> list[RevokedClient]:
    """Revoke every client in a copy of a database that was not revoked yet; returns these, by name.

    Raises:
        StoreError: the copy cannot be changed.
    """
    with store_errors(), closing(sqlite3.connect(path, timeout=10)) as database, database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE type='table' AND name='client'").fetchone():
            return []
        active = database.execute("SELECT name, role, kinds FROM client WHERE revoked_ms IS NULL ORDER BY name").fetchall()
        database.execute("UPDATE client SET revoked_ms=? WHERE revoked_ms IS NULL", (now_ms,))
    return [RevokedClient(name, role, tuple(filter(None, kinds.split(",")))) for name, role, kinds in active]


def require_intact(path: Path) -> None:
    """Refuse a damaged database; reads all of it.

    Raises:
        HomeError: it is damaged.
    """
    with _read(path) as database:
        found = [str(row[0]) for row in database.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise HomeError(f"the database is damaged: {'; '.join(found)}", hint="use another backup")


def require_readable(path: Path) -> None:
    """Refuse a database that a node cannot begin to work with. Reads the file's header and the small tables only.

    Raises:
        HomeError: it is empty, shorter than its header says, or one of these tables is damaged.
    """
    if path.stat().st_size == 0:
        raise HomeError(f"{path} is empty", hint=RESTORE_HINT)
    try:
        with closing(sqlite3.connect(path, timeout=10)) as database:
            for table in _SMALL_TABLES:
                found = database.execute(f"PRAGMA quick_check({table})").fetchone()[0]
                if found != "ok":
                    raise HomeError(f"{path} is damaged: table {table}: {' '.join(found.split())}", hint=RESTORE_HINT)
    except sqlite3.DatabaseError as error:
        raise HomeError(f"{path} is damaged: {error}", hint=RESTORE_HINT) from error


@contextmanager
def _read(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True, timeout=10)) as database:
            yield database
    except (sqlite3.Error, FormatError, TypeError) as error:
        raise HomeError(f"the database cannot be read: {error}", hint="use another backup") from error
