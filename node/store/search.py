"""The search index: a file of its own, filled in batches behind verification, made again whenever it is lost.

It holds terms and positions, no records. How far it has come is written in the same transaction as the terms, so a crash
neither skips nor doubles a record. Terms of an erased record are found by its position, for its text is gone by then.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import orjson
from sqlalchemy import func, select, text

from node.errors import StoreError
from node.lab.text import index_terms, searchable_texts
from node.store.database import Database, connect_alone, store_errors, truncate_log
from node.store.tables import STATUS_VISIBLE, LogRow, OpeningRow, position_of, table_of

FORMAT = 2
BATCH = 500

_LOG, _OPENING = table_of(LogRow), table_of(OpeningRow)
_LOGS = select(_LOG.c.id, _LOG.c.head_size, _LOG.c.last_sequence).where(_LOG.c.member != "")
_SCHEMA = f"""
CREATE VIRTUAL TABLE term USING fts5(words, bigrams, content='', tokenize="ascii tokenchars '-./'");
CREATE TABLE progress (log_id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
PRAGMA user_version={FORMAT};
"""


def prepare_search_file(path: Path, database_path: Path) -> None:
    """Make the index file where it is missing, damaged, of another format, or ahead of the database."""
    if _is_current(path, database_path):
        return
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.executescript(_SCHEMA)
    path.chmod(0o600)


class SearchIndex:
    """Fills the index from the store. One thread at a time."""

    def __init__(self, database: Database, path: Path) -> None:
        """Read openings from `database`, write terms to the index file at `path`."""
        self._database, self._path = database, path
        # What is being indexed was read before: an erasure must not be swept in between.
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, timeout=10, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA secure_delete=ON")
        # The index may lose its last batches in a power cut: they are made again.
        self._connection.execute("PRAGMA synchronous=NORMAL")

    def advance(self) -> int:
        """Index one batch of each log; returns how many records were looked at (0 when nothing waits)."""
        with self._lock:
            return sum(self._advance_log(*log) for log in self._logs())

    def remove(self, positions: Sequence[int]) -> None:
        """Take out everything about these entries: their terms in every segment, and what old segments left in the file.

        Raises:
            StoreError: the index refused.
        """
        with self._lock, store_errors(), closing(connect_alone(self._path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            terms = _terms_of(connection, positions)
            connection.executemany("INSERT INTO term(term, rowid, words, bigrams) VALUES ('delete', ?, ?, ?)", terms)
            # Only a single segment has no terms that a newer one has deleted.
            connection.execute("INSERT INTO term(term) VALUES ('optimize')")
            connection.execute("COMMIT")
            connection.execute("VACUUM")

    def truncate(self) -> bool:
        """Cut the index's write-ahead log to nothing; False while a reader needs what is in it."""
        with self._lock, store_errors(), closing(connect_alone(self._path)) as connection:
            return truncate_log(connection)

    @contextmanager
    def remade(self) -> Iterator[None]:
        """Nothing is indexed in the block, and everything again after it: there, positions are given to other records.

        Raises:
            StoreError: the index refused.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("INSERT INTO term(term) VALUES ('delete-all')")
                self._connection.execute("DELETE FROM progress")
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise StoreError(f"the search index refused: {error}") from error
            yield

    def backlog(self) -> int:
        """How many verified records are still to be looked at."""
        return sum(self._count_waiting(*log) for log in self._logs())

    def close(self) -> None:
        """Close the index file."""
        self._connection.close()

    def _logs(self) -> Iterator[tuple[int, int, int]]:
        """Number, head size, and the last sequence number of each log."""
        with self._database.read() as connection:
            rows = connection.execute(_LOGS).all()
        return ((log_id, size, last) for log_id, size, last in rows)

    def _count_waiting(self, log_id: int, head_size: int, last: int) -> int:
        done = self._progress(log_id)
        if done >= last:
            return 0
        here = (_OPENING.c.log_id == log_id) & (_OPENING.c.sequence > done)
        statement = select(func.count()).where(here, _OPENING.c.position < position_of(log_id, head_size))
        with self._database.read() as connection:
            return connection.execute(statement).scalar_one()

    def _advance_log(self, log_id: int, head_size: int, last: int) -> int:
        done = self._progress(log_id)
        if done >= last:
            return 0
        statement = (
            select(_OPENING.c.position, _OPENING.c.sequence, _OPENING.c.status, _OPENING.c.key, _OPENING.c.record)
            .where(_OPENING.c.log_id == log_id, _OPENING.c.sequence > done)
            .order_by(_OPENING.c.sequence)
            .limit(BATCH)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        end = position_of(log_id, head_size)
        covered = []
        for row in rows:
            if row.position >= end:
                break
            covered.append(row)
        if covered:
            self._write(log_id, covered[-1].sequence, [tuple(row) for row in covered])
        elif not rows:
            self._write(log_id, last, [])
        return len(covered)

    def _write(self, log_id: int, sequence: int, rows: list[tuple[int, int, int, str | None, bytes]]) -> None:
        terms = []
        # A grant gives an entry a new sequence number, and nothing new to find.
        held = _indexed(self._connection, [row[0] for row in rows])
        for position, _, status, key, record in rows:
            if status == STATUS_VISIBLE and position not in held:
                found = index_terms([key or "", *searchable_texts(orjson.loads(record)["body"])])
                terms.append((position, found.words, found.bigrams))
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO term(rowid, words, bigrams) VALUES (?, ?, ?)", terms)
            self._connection.execute("INSERT OR REPLACE INTO progress VALUES (?, ?)", (log_id, sequence))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise StoreError(f"the search index refused: {error}") from error

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _progress(self, log_id: int) -> int:
        with store_errors():
            row = self._connection.execute("SELECT sequence FROM progress WHERE log_id=?", (log_id,)).fetchone()
        return int(row[0]) if row else 0


def _indexed(connection: sqlite3.Connection, positions: Sequence[int]) -> set[int]:
    """Those of the positions that have terms."""
    marks = ",".join("?" * len(positions))
    with store_errors():
        return {row[0] for row in connection.execute(f"SELECT id FROM term_docsize WHERE id IN ({marks})", positions)}


def _terms_of(connection: sqlite3.Connection, positions: Sequence[int]) -> list[tuple[int, str, str]]:
    """Position, words and bigrams as they were indexed, put together again from the index; reads all of it."""
    held = _indexed(connection, positions)
    if not held:
        return []
    connection.execute("CREATE VIRTUAL TABLE temp.instance USING fts5vocab(main, term, instance)")
    columns: dict[tuple[int, str], list[str]] = defaultdict(list)
    marks = ",".join("?" * len(held))
    found = connection.execute(
        f"SELECT doc, col, term FROM temp.instance WHERE doc IN ({marks}) ORDER BY offset", list(held)
    )
    for position, column, term in found:
        columns[position, column].append(term)
    connection.execute("DROP TABLE temp.instance")
    return [(item, " ".join(columns[item, "words"]), " ".join(columns[item, "bigrams"])) for item in sorted(held)]


def _is_current(path: Path, database_path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(path)) as connection:
            current = connection.execute("PRAGMA user_version").fetchone()[0] == FORMAT
            connection.execute("ATTACH DATABASE ? AS store", (str(database_path),))
            # A database restored from a backup will give the same positions to other records.
            ahead = connection.execute(
                "SELECT 1 FROM progress LEFT JOIN store.log ON id = log_id WHERE sequence > coalesce(last_sequence, -1)"
            ).fetchone()
            return bool(current) and ahead is None
    except sqlite3.DatabaseError:
        return False


def sqlite_has_fts5(database: Database) -> bool:
    """Whether the SQLite library was built with FTS5, without which nothing can be searched."""
    with database.read() as connection:
        options = connection.execute(text("PRAGMA compile_options")).scalars().all()
    return "ENABLE_FTS5" in options
