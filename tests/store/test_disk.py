"""A disk that takes no more: told in words, remembered, and forgotten with the next write that succeeds."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from node.errors import StoreError
from node.store.database import Database
from node.store.disk import DISK_HINT, WriteFaults, is_disk_fault

MIB = 1024 * 1024


@pytest.fixture
def database(tmp_path: Path):
    database = Database(tmp_path / "labmesh.sqlite")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE t (x BLOB)"))
    yield database
    database.close()


def fill(database: Database, size: int) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (zeroblob(:size))"), {"size": size})


def limit_pages(database: Database, pages: int) -> None:
    """As a disk would: SQLite says that it is full. Pages that exist stay."""
    with database._writer.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")


def count_rows(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM t")).scalar_one())


def test_a_full_disk_raises_an_alarm_until_a_write_has_succeeded(database: Database, caplog):
    limit_pages(database, 50)
    with caplog.at_level(logging.WARNING), pytest.raises(StoreError) as caught:
        fill(database, MIB)
    assert caught.value.hint == DISK_HINT and "disk is full" in caught.value.message
    assert [record.message.split()[0] for record in caplog.records] == ["event=write_failed"]
    assert "disk is full" in database.write_faults.sentences()[0]
    assert count_rows(database) == 0
    with database.write() as connection:  # reaches no disk, so it proves nothing
        connection.execute(text("SELECT count(*) FROM t"))
    assert database.write_faults.sentences()
    limit_pages(database, 1_000_000)
    fill(database, MIB)
    assert database.write_faults.sentences() == [] and count_rows(database) == 1


def test_other_faults_are_not_the_disk_s(database: Database, caplog):
    with pytest.raises(StoreError) as caught, database.write() as connection:
        connection.execute(text("INSERT INTO missing VALUES (1)"))
    assert "no such table" in caught.value.message and caught.value.hint == ""
    assert database.write_faults.sentences() == [] and caplog.records == []


def test_an_alarm_outlasts_a_write_that_fails_for_another_reason(database: Database):
    limit_pages(database, 50)
    with pytest.raises(StoreError):
        fill(database, MIB)
    with pytest.raises(StoreError), database.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        connection.execute(text("INSERT INTO missing VALUES (1)"))
    assert database.write_faults.sentences() and count_rows(database) == 0


@pytest.mark.parametrize(
    ("code", "is_disk"),
    [
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_IOERR_FSYNC, True),
        (sqlite3.SQLITE_READONLY, True),
        (sqlite3.SQLITE_CANTOPEN, True),
        (sqlite3.SQLITE_BUSY, False),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, False),
    ],
)
def test_codes(code: int, is_disk: bool):
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    assert is_disk_fault(error) is is_disk
    faults = WriteFaults()
    faults.note_failure(error)
    assert bool(faults.sentences()) is is_disk


def test_an_error_without_a_code_is_no_disk_fault():
    assert not is_disk_fault(sqlite3.OperationalError("x")) and not is_disk_fault(None)
