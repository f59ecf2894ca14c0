"""Entries of the own log that nobody can open: what a person has seen is remembered, and only that."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from node.core.entry import Opening
from node.core.mirror import AcceptedOpening
from node.core.record import parse_record
from node.errors import ConflictError
from node.store import Store
from node.store.logs import LogState
from node.store.losses import Losses, forget_seen
from tests.builders import MemoryLog, kinds, record_bytes
from tests.store.filling import NOW_MS, OwnLog
from tests.store.test_rebase import drop, keep, stage


@pytest.fixture
def own(store: Store) -> OwnLog:
    """Five published entries."""
    made = OwnLog(store)
    made.append_numbered(5)
    return made


def lose(store: Store, *indexes: int) -> None:
    """Delete openings, as a restore of an older copy does."""
    with store.database.write() as connection:
        for index in indexes:
            connection.execute(text(f"DELETE FROM opening WHERE position & 1099511627775 = {index}"))


def give_back(store: Store, own: OwnLog, index: int) -> LogState:
    raw = own.memory.records[index]
    record = parse_record(raw, author="jinan", kinds=kinds())
    accepted = AcceptedOpening(Opening(index, own.memory.salts[index], raw), record)
    return store.rebase.save_openings(own.state, [accepted], settle=keep)


def test_nothing_is_lost(store: Store, own: OwnLog) -> None:
    assert store.losses.count(own.state) == Losses(0, 0)
    assert store.losses.save_seen(own.state, total=0, now_ms=NOW_MS) == Losses(0, 0)


def test_what_is_seen_is_counted_and_marked(store: Store, own: OwnLog) -> None:
    lose(store, 0, 2)
    assert store.losses.count(own.state) == Losses(2, 0)
    assert store.losses.save_seen(own.state, total=2, now_ms=NOW_MS) == Losses(2, 2)
    assert store.losses.count(own.state).unseen == 0
    assert store.losses.seen_among(own.state, [0, 1, 2, 3]) == {0, 2}
    assert [index for index, _ in store.rebase.read_unopened(own.state, start=0, limit=9)] == [0, 2]


def test_what_is_lost_later_is_new_also_when_as_much_came_back(store: Store, own: OwnLog) -> None:
    lose(store, 0, 2)
    store.losses.save_seen(own.state, total=2, now_ms=NOW_MS)
    state = give_back(store, own, 2)
    assert store.losses.count(state) == Losses(1, 1)
    lose(store, 3)
    assert store.losses.count(state) == Losses(2, 1)
    assert store.losses.save_seen(state, total=2, now_ms=NOW_MS + 1) == Losses(2, 2)


def test_more_than_a_person_was_told_of_is_not_seen(store: Store, own: OwnLog) -> None:
    lose(store, 0, 2)
    with pytest.raises(ConflictError, match=r"2 entries .* not 1") as refused:
        store.losses.save_seen(own.state, total=1, now_ms=NOW_MS)
    assert "labmesh list --lost" in refused.value.hint
    assert store.losses.count(own.state) == Losses(2, 0)


def test_entries_that_give_way_are_not_seen(store: Store, own: OwnLog) -> None:
    lose(store, 0, 2, 4)
    store.losses.save_seen(own.state, total=3, now_ms=NOW_MS)
    with store.database.write() as connection:
        forget_seen(connection, own.state, 2)
    assert store.losses.seen_among(own.state, range(5)) == {0}


def test_a_recovery_forgets_what_was_seen_beyond_its_base(store: Store, own: OwnLog) -> None:
    base = own.state.head
    longer = MemoryLog(own.lab)
    longer.append(*own.memory.records)
    longer.append(record_bytes("jinan", "L"))
    lose(store, 0)
    store.losses.save_seen(own.state, total=1, now_ms=NOW_MS)
    with store.database.write() as connection:  # seen beyond the base, by whatever way
        position = own.state.id << 40 | 5
        connection.execute(text(f"INSERT INTO acknowledgement VALUES ({position}, 'jinan', 1)"))
    staging = stage(store, own, longer, base=base)
    signed = longer.checkpoint()
    state = store.rebase.take_back(own.state, staging, signed, contained=5, settle=drop, now_ms=NOW_MS)
    lose(store, 5)
    assert store.losses.count(state) == Losses(2, 1)
