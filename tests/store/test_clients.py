"""Clients and pushes in every store: one class, run on each implementation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.core.record import parse_record
from node.errors import ConflictError, UnauthenticatedError
from node.store import Store
from node.store.clients import StoredClient, StoredPush
from node.store.logs import LogState, NewEntry
from tests.builders import kinds, record_bytes
from tests.store.conftest import OpenStore
from tests.store.filling import NOW_MS, OwnLog

LIMS = StoredClient("lims", "push", ("capability", "result"), b"\x01" * 32, NOW_MS)
READER = StoredClient("reader", "read", (), b"\x02" * 32, NOW_MS + 1)


class Own(OwnLog):
    """An own log whose appends name a client."""

    def append_as(self, client: str, count: int) -> LogState:
        """Append `count` records in a client's name."""
        low = self.memory.size
        drafts = [record_bytes(self.lab.member, f"WJ-{low + i:06d}") for i in range(count)]
        memory = self.memory
        signed = memory.append(*drafts)
        entries = [
            NewEntry(memory.commitments[i], memory.salts[i], parse_record(memory.records[i], author="jinan", kinds=kinds()))
            for i in range(low, memory.size)
        ]
        frontier, tiles = self.state.staged.extend(memory.commitments[low:])
        self.state = self.store.logs.append(
            self.state, entries, frontier=frontier, tiles=tiles, signed=signed, now_ms=NOW_MS + low, client=client
        )
        return self.state


class TestClients:
    def test_what_is_saved_is_loaded_by_name(self, opened: OpenStore) -> None:
        opened.store.clients.save_new(READER)
        opened.store.clients.save_new(LIMS)
        for store in (opened.store, opened.reopen()):
            assert store.clients.load_all() == [LIMS, READER]

    def test_a_name_is_used_once(self, store: Store) -> None:
        store.clients.save_new(LIMS)
        for revoked in (False, True):
            if revoked:
                assert store.clients.save_revocation("lims", now_ms=NOW_MS)
            before = store.clients.load_all()
            with pytest.raises(ConflictError, match="lims already"):
                store.clients.save_new(replace(READER, name="lims"))
            assert store.clients.load_all() == before

    def test_a_revocation_is_final_and_keeps_its_time(self, opened: OpenStore) -> None:
        clients = opened.store.clients
        clients.save_new(LIMS)
        clients.save_new(READER)
        assert clients.save_revocation("lims", now_ms=NOW_MS + 5)
        assert not clients.save_revocation("lims", now_ms=NOW_MS + 9)
        assert not clients.save_revocation("nobody", now_ms=NOW_MS)
        assert opened.reopen().clients.load_all() == [replace(LIMS, revoked_ms=NOW_MS + 5), READER]

    def test_a_use_is_noted_for_one_client(self, opened: OpenStore) -> None:
        opened.store.clients.save_new(LIMS)
        opened.store.clients.save_new(READER)
        opened.store.clients.save_use("reader", now_ms=NOW_MS + 7)
        opened.store.clients.save_use("nobody", now_ms=NOW_MS + 7)
        assert opened.reopen().clients.load_all() == [LIMS, replace(READER, last_used_ms=NOW_MS + 7)]


class TestPushes:
    def test_each_entry_knows_its_push(self, opened: OpenStore) -> None:
        own = Own(opened.store)
        opened.store.clients.save_new(LIMS)
        own.append_as("", 2)
        own.append_as("lims", 3)
        own.append_as("", 1)
        expected = [StoredPush(0, 2, "", NOW_MS)] * 2 + [StoredPush(2, 3, "lims", NOW_MS + 2)] * 3
        expected += [StoredPush(5, 1, "", NOW_MS + 5)]
        for store in (opened.store, opened.reopen()):
            assert [store.clients.find_push(own.state.id, index) for index in range(6)] == expected
            assert store.clients.find_push(own.state.id, 6) is None
            assert store.clients.find_push(own.state.id + 1, 0) is None

    def test_entries_from_before_pushes_were_noted(self, store: Store) -> None:
        own = Own(store)
        own.append_numbered(3)
        with store.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM push")
        store.clients.save_new(LIMS)
        own.append_as("lims", 1)
        assert [store.clients.find_push(own.state.id, index) is None for index in range(4)] == [True, True, True, False]

    @pytest.mark.parametrize("client", ["lims", "nobody"])
    def test_who_was_revoked_appends_nothing(self, opened: OpenStore, client: str) -> None:
        own = Own(opened.store)
        opened.store.clients.save_new(LIMS)
        before = own.append_as("lims", 2)
        opened.store.clients.save_revocation("lims", now_ms=NOW_MS)
        with pytest.raises(UnauthenticatedError, match="was revoked; nothing was appended"):
            own.append_as(client, 2)
        for store in (opened.store, opened.reopen()):
            assert store.logs.load_log(before.id) == before
            assert store.clients.find_push(before.id, 2) is None
            with store.database.read() as connection:
                assert connection.exec_driver_sql("SELECT count(*) FROM entry").scalar() == 2
                assert connection.exec_driver_sql("SELECT count(*) FROM opening").scalar() == 2
