"""Copies of a database, and what is noticed of a damaged one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from node.core.card import CARD_TYPE
from node.errors import HomeError, StoreError
from node.store import DATABASE_NAME, Store
from node.store.clients import StoredClient
from node.store.database import SCHEMA_REVISION
from node.store.snapshot import RevokedClient, copy_database, read_facts, require_intact, require_readable, revoke_clients
from tests.builders import build_card, sign_card
from tests.store.conftest import OpenStore
from tests.store.filling import JINAN, OwnLog


@pytest.fixture
def filled(store: Store) -> OwnLog:
    """A member's store with three entries."""
    store.membership.save_identity("jinan", JINAN.alliance, created_ms=1)
    store.membership.save_card("jinan", 1, sign_card(build_card(JINAN), JINAN), CARD_TYPE)
    own = OwnLog(store)
    own.append_numbered(3)
    return own


def test_a_copy_is_of_one_moment_and_needs_no_other_file(opened: OpenStore, filled: OwnLog, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    copy_database(opened.path / DATABASE_NAME, target)
    filled.append_numbered(2)
    facts = read_facts(target)
    assert (facts.member, facts.alliance, facts.revision, facts.size) == ("jinan", JINAN.alliance, SCHEMA_REVISION, 3)
    assert facts.root == filled.memory.checkpoint(3).root
    assert facts.card == sign_card(build_card(JINAN), JINAN)
    require_intact(target)
    require_readable(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "home"]
    assert read_facts(opened.path / DATABASE_NAME).size == 5


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    (tmp_path / "no").write_bytes(b"no database" * 200)
    with pytest.raises(StoreError):
        copy_database(tmp_path / "no", tmp_path / "copy")


def test_facts_of_what_is_no_node(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other")) as connection:
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(HomeError, match="is not the database of a Labmesh node"):
        read_facts(tmp_path / "other")


@pytest.mark.parametrize("table", ["node", "roster", "card", "log"])
def test_each_small_table_is_looked_at(opened: OpenStore, filled: OwnLog, table: str) -> None:
    path = opened.path / DATABASE_NAME
    opened.store.close()
    require_readable(path)
    with closing(sqlite3.connect(path)) as connection:
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    raw = bytearray(path.read_bytes())
    raw[(root - 1) * page : (root - 1) * page + 64] = b"\xa5" * 64
    path.write_bytes(raw)
    with pytest.raises(HomeError, match="is damaged") as caught:
        require_readable(path)
    assert "restore FILE" in caught.value.hint
    with pytest.raises(HomeError):
        require_intact(path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(HomeError, match="is empty") as caught:
        require_readable(tmp_path / "empty")
    assert "restore FILE" in caught.value.hint


def test_every_client_of_a_copy_is_revoked_once(opened: OpenStore, filled: OwnLog, tmp_path: Path) -> None:
    filled.store.clients.save_new(StoredClient("lims", "push", ("capability", "result"), bytes(32), 1))
    filled.store.clients.save_new(StoredClient("gone", "read", (), bytes([1]) * 32, 1, revoked_ms=2))
    target = tmp_path / "copy"
    copy_database(opened.path / DATABASE_NAME, target)
    assert revoke_clients(target, now_ms=3) == [RevokedClient("lims", "push", ("capability", "result"))]
    assert revoke_clients(target, now_ms=4) == []
    with closing(sqlite3.connect(target)) as connection:
        found = connection.execute("SELECT name, revoked_ms FROM client ORDER BY name").fetchall()
    assert found == [("gone", 2), ("lims", 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "home"]
    assert [client.revoked_ms for client in filled.store.clients.load_all()] == [2, None]


def test_before_there_were_clients_none_is_revoked(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old")) as connection:
        connection.execute("CREATE TABLE t (a)")
    assert revoke_clients(tmp_path / "old", now_ms=1) == []
