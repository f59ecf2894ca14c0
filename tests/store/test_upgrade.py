"""Migrations: they make the schema that the models describe, and an older home is backed up before it is changed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, inspect, text
from sqlmodel import SQLModel

from node.errors import HomeError, StoreError
from node.store import DATABASE_NAME, create_store, open_store
from node.store.database import SCHEMA_REVISION, read_revision
from node.store.upgrade import MIGRATIONS, migrate, upgrade
from tests.alliance import list_all
from tests.store.filling import OwnLog
from tests.store.test_database import stamp

NEXT = '''"""One more table.

Revision ID: 9000
Revises: {down}
"""

import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "{down}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("novelty", sa.Column("id", sa.Integer(), primary_key=True))
    {more}
'''


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    store = create_store(path)
    OwnLog(store).append_numbered(2)
    store.close()
    return path


@pytest.fixture
def connection(home: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{home / DATABASE_NAME}", poolclass=NullPool)
    with engine.connect() as opened:
        yield opened


def more_migrations(tmp_path: Path, more: str = "") -> Path:
    """The migrations of a later version: one more."""
    copy = tmp_path / "100% later"
    shutil.copytree(MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "versions" / "9000_next.py").write_text(NEXT.format(down=SCHEMA_REVISION, more=more), encoding="utf-8")
    return copy


class TestSchema:
    def test_the_migrations_make_what_the_models_describe(self, connection: Connection) -> None:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) == []

    def test_partial_indexes_have_the_conditions_of_the_models(self, connection: Connection, tmp_path: Path) -> None:
        engine = create_engine(f"sqlite:///{tmp_path / 'models.sqlite'}", poolclass=NullPool)
        SQLModel.metadata.create_all(engine)

        def statements(found: Connection) -> list[str]:
            query = text("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name")
            return list(found.execute(query).scalars())

        with engine.connect() as fresh:
            expected = statements(fresh)
        assert statements(connection) == expected
        assert sum(" WHERE status" in statement for statement in expected) == 2

    def test_primary_keys_are_those_of_the_models(self, connection: Connection) -> None:
        for table in SQLModel.metadata.sorted_tables:
            found = inspect(connection).get_pk_constraint(table.name)["constrained_columns"]
            assert found == [column.name for column in table.primary_key.columns]

    def test_the_software_knows_the_newest_migration(self) -> None:
        script = ScriptDirectory(str(MIGRATIONS))
        assert script.get_heads() == [SCHEMA_REVISION]

    def test_every_migration_is_named_after_its_revision(self) -> None:
        for revision in ScriptDirectory(str(MIGRATIONS)).walk_revisions():
            assert Path(revision.path).name.startswith(f"{revision.revision}_")


class TestUpgrade:
    def test_an_older_home_is_backed_up_and_migrated(self, home: Path, tmp_path: Path) -> None:
        path, backups = home / DATABASE_NAME, home / "backups"
        backup = upgrade(path, backups, migrations=more_migrations(tmp_path), revision="9000")
        assert backup is not None
        assert read_revision(path) == "9000"
        assert read_revision(backup) == SCHEMA_REVISION
        assert backup.parent == backups
        assert (backup.stat().st_mode & 0o777, backups.stat().st_mode & 0o777) == (0o600, 0o700)
        stamp(path, SCHEMA_REVISION)
        restored = tmp_path / "restored"
        restored.mkdir()
        shutil.copy(backup, restored / DATABASE_NAME)
        for folder in (home, restored):
            store = open_store(folder)
            assert len(list_all(store)) == 2
            store.close()

    def test_a_current_home_is_left_alone(self, home: Path) -> None:
        before = (home / DATABASE_NAME).read_bytes()
        assert upgrade(home / DATABASE_NAME, home / "backups") is None
        assert (home / DATABASE_NAME).read_bytes() == before
        assert not (home / "backups").exists()

    def test_a_newer_home_is_refused(self, home: Path) -> None:
        stamp(home / DATABASE_NAME, "9999")
        before = (home / DATABASE_NAME).read_bytes()
        with pytest.raises(HomeError, match="newer Labmesh"):
            upgrade(home / DATABASE_NAME, home / "backups")
        assert (home / DATABASE_NAME).read_bytes() == before
        assert not (home / "backups").exists()

    def test_no_home(self, tmp_path: Path) -> None:
        with pytest.raises(HomeError, match="there is no database"):
            upgrade(tmp_path / DATABASE_NAME, tmp_path / "backups")
        assert list(tmp_path.iterdir()) == []

    def test_a_migration_that_fails_changes_nothing(self, home: Path, tmp_path: Path) -> None:
        path = home / DATABASE_NAME
        migrations = more_migrations(tmp_path, more='op.execute("INSERT INTO missing VALUES (1)")')
        with pytest.raises(StoreError):
            upgrade(path, home / "backups", migrations=migrations, revision="9000")
        assert read_revision(path) == SCHEMA_REVISION
        store = open_store(home)
        assert len(list_all(store)) == 2
        store.close()
        assert upgrade(path, home / "backups", migrations=more_migrations(tmp_path / "again"), revision="9000") is not None

    def test_migrating_twice_is_migrating_once(self, home: Path) -> None:
        migrate(home / DATABASE_NAME)
        assert read_revision(home / DATABASE_NAME) == SCHEMA_REVISION

    def test_a_home_of_0002_keeps_its_logs_and_has_noted_nothing_as_seen(self, home: Path) -> None:
        path = home / DATABASE_NAME
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("ALTER TABLE log DROP COLUMN seen_size")
        stamp(path, "0002")
        assert upgrade(path, home / "backups") is not None
        assert read_revision(path) == SCHEMA_REVISION
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT DISTINCT seen_size FROM log").fetchall() == [(0,)]
        store = open_store(home)
        assert len(list_all(store)) == 2
        store.close()
