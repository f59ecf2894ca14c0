"""SQLite through SQLAlchemy: connections, durability, schema version, and the one write lock.

Every write runs in `Database.write()`: one transaction, begun IMMEDIATE, one at a time in this process. WAL with
`synchronous=FULL`: when a transaction has returned, a power cut does not undo it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from node.errors import MAKE_HOME, HomeError, StoreError
from node.store.disk import DISK_HINT, WriteFaults, is_disk_fault

SCHEMA_REVISION = "0003"
RESTORE_HINT = "keep this home as it is, and restore a backup into a new one: labmesh --home DIR restore FILE"

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",
    "PRAGMA busy_timeout=10000",
    "PRAGMA cache_size=-16384",
    "PRAGMA wal_autocheckpoint=4000",
)


class Database:
    """An open database file."""

    def __init__(self, path: Path, *, attach: dict[str, Path] | None = None) -> None:
        """Open `path`; `attach` names further files that every connection sees under a schema name."""
        self.path = path
        self._attach = attach or {}
        self._lock = threading.RLock()
        self._compiled: dict[tuple[str, tuple[str, ...], str], str] = {}
        self.write_faults = WriteFaults()
        self._writer = self._create_engine(pool_size=1, attach=False)
        self._reader = self._create_engine(pool_size=8, attach=True)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction; committed when the block ends, rolled back when it raises.

        Raises:
            StoreError: the database refused.
        """
        with self._lock, store_errors(), self._noted_faults(), self._writer.connect() as connection:
            before = _count_changes(connection)
            with connection.begin():
                yield connection
            if _count_changes(connection) > before:
                self.write_faults.note_success()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One read transaction: everything read in the block is from one moment.

        Raises:
            StoreError: the database refused.
        """
        with store_errors(), self._reader.connect() as connection, connection.begin():
            yield connection

    def insert_rows(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
        *,
        prefix: str = "",
    ) -> int:
        """Insert tuples in one batch; returns how many rows were written. `columns` name them in the table's order.

        The statement is compiled once and the tuples go to the driver as they are: per-row parameter dictionaries
        cost more than the insertion itself.
        """
        if not rows:
            return 0
        compiled_key = (table.name, tuple(columns), prefix)
        if compiled_key not in self._compiled:
            statement = insert(table).prefix_with(prefix) if prefix else insert(table)
            compiled = statement.compile(self._writer, column_keys=list(columns))
            if compiled.positiontup != list(columns):
                raise StoreError(f"the columns of {table.name} stand in the order {compiled.positiontup}")
            self._compiled[compiled_key] = str(compiled)
        return connection.exec_driver_sql(self._compiled[compiled_key], list(rows)).rowcount

    def close(self) -> None:
        """Close every connection."""
        self._writer.dispose()
        self._reader.dispose()

    def backup(self, target: Path) -> None:
        """Copy the whole database to `target` while it is in use (SQLite's online backup)."""
        with store_errors(), closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)

    def rewrite(self) -> None:
        """Write the whole file anew (VACUUM), so that it holds live rows and nothing else; writers wait meanwhile."""
        with self._lock, store_errors(), closing(connect_alone(self.path)) as connection:
            connection.execute("VACUUM")

    def truncate(self) -> bool:
        """Move the write-ahead log into the file and cut it to nothing; False while a reader needs what is in it."""
        with self._lock, store_errors(), closing(connect_alone(self.path)) as connection:
            return truncate_log(connection)

    @contextmanager
    def _noted_faults(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                self.write_faults.note_failure(error.orig)
            raise

    def _create_engine(self, *, pool_size: int, attach: bool) -> Engine:
        engine = create_engine(
            sqlite_url(self.path),
            pool_size=pool_size,
            max_overflow=8,
            hide_parameters=True,  # they hold records and salts, and an error's text ends up in logs
            connect_args={"check_same_thread": False, "timeout": 10},
        )
        event.listen(engine, "connect", self._configure_reader if attach else self._configure_writer)
        event.listen(engine, "begin", _begin_read if attach else _begin_write)
        return engine

    def _configure_writer(self, connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not begin transactions of its own: `_begin_read` and `_begin_write` do.
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    def _configure_reader(self, connection: sqlite3.Connection, record: object) -> None:
        self._configure_writer(connection, record)
        # Only readers see the attached files: BEGIN IMMEDIATE would lock them all.
        for name, path in self._attach.items():
            connection.execute(f"ATTACH DATABASE ? AS {name}", (str(path),))
        connection.execute("PRAGMA query_only=ON")


def sqlite_url(path: Path) -> URL:
    """The address of a database file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path))


def require_revision(path: Path) -> None:
    """Refuse a database that is not of exactly this software's schema.

    Raises:
        HomeError: missing, older, newer, or not a Labmesh database.
    """
    if not path.is_file():
        raise HomeError(
            f"there is no database {path}",
            hint=MAKE_HOME,
        )
    found = read_revision(path)
    if found == SCHEMA_REVISION:
        return
    if found is not None and found > SCHEMA_REVISION:
        raise HomeError(
            f"{path} was made by a newer Labmesh (schema {found}; this one knows {SCHEMA_REVISION})",
            hint="install that version again, or restore a backup made before the upgrade",
        )
    raise HomeError(
        f"{path} was made by an older Labmesh (schema {found or 'none'}; this one needs {SCHEMA_REVISION})",
        hint="type: labmesh upgrade",
    )


def read_revision(path: Path) -> str | None:
    """The schema revision of a database file; None when it has none.

    Raises:
        HomeError: the file is not a SQLite database.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise HomeError(f"{path} is empty", hint=RESTORE_HINT)
    try:
        with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True, timeout=10)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='alembic_version'").fetchone():
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return str(row[0]) if row else None
    except sqlite3.DatabaseError as error:
        raise HomeError(f"{path} is not a readable database: {error}", hint=RESTORE_HINT) from error


def connect_alone(path: Path) -> sqlite3.Connection:
    """A connection of its own, for what cannot run inside the transactions of the others."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.execute("PRAGMA secure_delete=ON")
    return connection


def truncate_log(connection: sqlite3.Connection) -> bool:
    """Checkpoint with TRUNCATE; False while a reader needs an older page."""
    # Waiting here would keep writers waiting, too.
    connection.execute("PRAGMA busy_timeout=100")
    busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return busy == 0


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the driver's errors into `StoreError`, without the statement's parameters."""
    try:
        yield
    except DBAPIError as error:
        hint = DISK_HINT if is_disk_fault(error.orig) else ""
        raise StoreError(f"the database refused: {error.orig}", hint=hint) from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        hint = DISK_HINT if is_disk_fault(error) else ""
        raise StoreError(f"the database refused: {type(error).__name__}: {error}", hint=hint) from error


def _count_changes(connection: Connection) -> int:
    """Rows changed on this connection since it was opened."""
    changes: int = connection.connection.driver_connection.total_changes  # type: ignore[union-attr]
    return changes


def _begin_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_write(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
