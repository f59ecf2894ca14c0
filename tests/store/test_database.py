"""SQLite itself: the pragmas in force, one transaction at a time, versions refused with the right hint."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import text

from node.errors import MAKE_HOME, HomeError, StoreError
from node.store import DATABASE_NAME, SEARCH_NAME, Store, create_store, open_store
from node.store.database import SCHEMA_REVISION, read_revision
from node.store.search import sqlite_has_fts5
from tests.alliance import list_all
from tests.new_stores import new_store
from tests.store.filling import OwnLog


def stamp(path: Path, revision: str | None) -> None:
    """Say that another version made this database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        if revision is None:
            connection.execute("DROP TABLE alembic_version")
        else:
            connection.execute("UPDATE alembic_version SET version_num=?", (revision,))
        connection.commit()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store = new_store(tmp_path / "home")
    OwnLog(store).append_numbered(1)
    store.close()
    return tmp_path / "home"


class TestPragmas:
    @pytest.mark.parametrize("write", [True, False], ids=["writer", "reader"])
    def test_what_was_committed_survives_a_power_cut(self, store: Store, write: bool) -> None:
        with (store.database.write if write else store.database.read)() as connection:
            found = {
                name: connection.execute(text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
            }
        assert found == {
            "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 10000
        }  # fmt: skip

    def test_readers_cannot_write(self, store: Store) -> None:
        with pytest.raises(StoreError, match="readonly"), store.database.read() as connection:
            connection.execute(text("DELETE FROM log"))

    def test_the_library_can_search(self, store: Store) -> None:
        assert sqlite_has_fts5(store.database)

    def test_a_new_database_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        create_store(tmp_path).close()
        for name in (DATABASE_NAME, SEARCH_NAME):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


class TestTransactions:
    def test_what_raises_is_rolled_back(self, store: Store) -> None:
        own = OwnLog(store)
        with pytest.raises(ZeroDivisionError), store.database.write() as connection:
            connection.execute(text("UPDATE log SET head_size = 5"))
            raise ZeroDivisionError
        assert store.logs.load_log(own.state.id).head_size == 0

    def test_a_reader_sees_one_moment(self, store: Store) -> None:
        own = OwnLog(store)
        own.append_numbered(1)
        with store.database.read() as connection:
            count = text("SELECT count(*) FROM opening")
            before = connection.execute(count).scalar()
            own.append_numbered(1)
            assert connection.execute(count).scalar() == before == 1
        assert len(list_all(store)) == 2

    def test_one_writer_at_a_time(self, store: Store) -> None:
        entered = threading.Event()

        def write() -> None:
            with store.database.write():
                entered.set()

        thread = threading.Thread(target=write)
        with store.database.write():
            thread.start()
            assert not entered.wait(0.05)
        assert entered.wait(10)
        thread.join()

    def test_a_full_disk_is_an_error_of_the_store(self, store: Store) -> None:
        own = OwnLog(store)
        own.append_numbered(1)
        with store.database.write() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar()
            connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        with pytest.raises(StoreError, match="full"):
            own.append_numbered(2000)
        assert [stored.key for stored in list_all(store)] == ["WJ-000000"]
        assert store.logs.load_log(own.state.id) == own.state

    def test_a_backup_is_whole_while_the_store_is_in_use(self, store: Store, tmp_path: Path) -> None:
        own = OwnLog(store)
        own.append_numbered(3)
        (tmp_path / "copy").mkdir()
        store.database.backup(tmp_path / "copy" / DATABASE_NAME)
        own.append_numbered(1)
        copy = open_store(tmp_path / "copy")
        assert len(list_all(copy)) == 3
        copy.close()


class TestVersions:
    def test_the_current_version_opens(self, home: Path) -> None:
        assert read_revision(home / DATABASE_NAME) == SCHEMA_REVISION
        store = open_store(home)
        assert len(list_all(store)) == 1
        store.close()

    @pytest.mark.parametrize(
        ("revision", "message", "hint"),
        [
            ("9999", "newer Labmesh", "install that version again"),
            ("0000", "older Labmesh", "labmesh upgrade"),
            (None, "older Labmesh", "labmesh upgrade"),
        ],
    )
    def test_another_version_is_refused_and_not_touched(
        self, home: Path, revision: str | None, message: str, hint: str
    ) -> None:
        path = home / DATABASE_NAME
        stamp(path, revision)
        before = sha256(path.read_bytes()).digest()
        with pytest.raises(HomeError, match=message) as caught:
            open_store(home)
        assert hint in caught.value.hint
        assert SCHEMA_REVISION in caught.value.message
        assert sha256(path.read_bytes()).digest() == before

    def test_no_database(self, tmp_path: Path) -> None:
        with pytest.raises(HomeError, match="there is no database") as caught:
            open_store(tmp_path)
        assert caught.value.hint == MAKE_HOME
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_no_database(self, home: Path) -> None:
        path = home / DATABASE_NAME
        path.write_bytes(b"this is no database" * 100)
        with pytest.raises(HomeError, match="is damaged: file is not a database") as caught:
            open_store(home)
        assert "backup" in caught.value.hint
        assert path.read_bytes() == b"this is no database" * 100
