"""A home's alliance without the database library."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from node.errors import GovernanceError, HomeError
from node.store import DATABASE_NAME
from node.store.glance import read_alliance
from tests.alliance import SimulatedAlliance
from tests.new_stores import new_store


@pytest.fixture
def alliance(tmp_path: Path):
    made = SimulatedAlliance(tmp_path, 3)
    yield made
    made.close()


def test_it_is_what_the_store_loads(alliance: SimulatedAlliance) -> None:
    for member in alliance.members.values():
        assert read_alliance(member.path / DATABASE_NAME) == member.store.membership.load_alliance()


def test_nothing_joined_yet(tmp_path: Path) -> None:
    new_store(tmp_path / "home").close()
    assert read_alliance(tmp_path / "home" / DATABASE_NAME) is None


def test_no_home_and_no_database(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="is not the home of a node"):
        read_alliance(tmp_path / DATABASE_NAME)
    for content in (b"", b"no database at all" * 100):
        (tmp_path / DATABASE_NAME).write_bytes(content)
        with pytest.raises(HomeError, match="cannot be read"):
            read_alliance(tmp_path / DATABASE_NAME)


def test_a_bad_card_costs_only_itself(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    alliance["jinan"].store.database.backup(copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE card SET envelope = x'7b7d' WHERE member = 'qingdao'")
        connection.commit()
    found = read_alliance(copy)
    assert found is not None and sorted(found.cards) == ["jinan", "yantai"]


def test_a_chain_that_does_not_reach_the_pin(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    alliance["jinan"].store.database.backup(copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE node SET fingerprint = '00'")
        connection.commit()
    with pytest.raises(GovernanceError, match="fingerprint"):
        read_alliance(copy)


def test_it_loads_no_database_library() -> None:
    code = "import sys, node.store.glance; sys.exit(bool({'sqlalchemy', 'sqlmodel', 'alembic'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode == 0


def test_the_package_names_what_it_has_and_nothing_else() -> None:
    import node.store

    for name in node.store.__all__:
        assert getattr(node.store, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = node.store.nothing
