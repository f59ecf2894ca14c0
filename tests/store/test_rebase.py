"""The own log below what was not published: what is written, what is refused, and what never becomes visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from sqlalchemy import text

from node.core.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from node.core.entry import Opening
from node.core.mirror import AcceptedOpening, Mirror
from node.core.record import parse_record
from node.errors import StoreError
from node.store import Store
from node.store.following import Key, Said, Unpublished
from node.store.logs import LogState, NewEntry
from tests.alliance import list_all
from tests.builders import MemoryLog, build_card, kinds, record_bytes
from tests.store.filling import JINAN, NOW_MS, OwnLog


def keep(items: Sequence[Unpublished], _: Mapping[Key, Sequence[Said]], __: int = 0) -> list[NewEntry | None]:
    """Let every entry follow as it is."""
    entries: list[NewEntry | None] = []
    for item in items:
        assert item.commitment is not None
        record = parse_record(item.raw, author="jinan", kinds=kinds())
        entries.append(NewEntry(item.commitment, item.salt, record))
    return entries


def drop(items: Sequence[Unpublished], _: Mapping[Key, Sequence[Said]], __: int = 0) -> list[NewEntry | None]:
    """Let nothing follow."""
    return [None for _ in items]


def append_unsigned(own: OwnLog, *records: bytes) -> LogState:
    """Entries under no checkpoint, which the log in memory does not have."""
    branch = MemoryLog(own.lab)
    branch.append(*own.memory.records, *records)
    low = own.memory.size
    entries = [
        NewEntry(branch.commitments[i], branch.salts[i], parse_record(branch.records[i], author="jinan", kinds=kinds()))
        for i in range(low, branch.size)
    ]
    frontier, tiles = own.state.staged.extend(branch.commitments[low:])
    own.state = own.store.logs.append(own.state, entries, frontier=frontier, tiles=tiles, signed=None, now_ms=NOW_MS)
    return own.state


def stage(store: Store, own: OwnLog, log: MemoryLog, *, base: SignedCheckpoint | None) -> LogState:
    """Stage what `log` has beyond `base`, as a recovery does."""
    staging = store.rebase.open_staging(own.state, base)
    mirror = Mirror(build_card(own.lab), reader="jinan", kinds=kinds(), head=base, staged=staging.staged)
    mirror.accept_announcement(bytes(log.checkpoint()))
    while mirror.staged.size < log.size:
        low = mirror.staged.size
        page = mirror.accept_page(log.page(low, min(log.size, low + 1000)), lambda _: None)
        staging = store.logs.stage(staging, page, server="")
    return staging


@pytest.fixture
def own(store: Store) -> OwnLog:
    """Three published entries."""
    made = OwnLog(store)
    made.append_numbered(3)
    return made


@pytest.fixture
def longer(own: OwnLog) -> MemoryLog:
    """The same log as it was published later: 600 entries."""
    log = MemoryLog(own.lab)
    log.append(*own.memory.records)
    log.append(*(record_bytes("jinan", f"L-{i}") for i in range(597)))
    return log


class TestSignedHead:
    def test_entries_that_no_checkpoint_covers_are_seen_and_signed_later(self, store: Store, own: OwnLog) -> None:
        state = append_unsigned(own, record_bytes("jinan", "A"), record_bytes("jinan", "B"))
        assert (state.head_size, state.signed_size, store.rebase.signed_sizes(state)) == (5, 3, [3])
        assert [stored.key for stored in list_all(store)][3:] == ["A", "B"]
        checkpoint = Checkpoint(state.origin, 5, state.head_frontier.root())
        signed = store.rebase.save_signed_head(state, sign_checkpoint(checkpoint, JINAN.log), now_ms=NOW_MS)
        assert signed == store.logs.load_log(state.id)
        assert (signed.signed_size, store.rebase.signed_sizes(signed)) == (5, [3, 5])

    def test_a_checkpoint_over_some_of_them(self, store: Store, own: OwnLog) -> None:
        state = append_unsigned(own, record_bytes("jinan", "A"), record_bytes("jinan", "B"))
        checkpoint = Checkpoint(state.origin, 4, store.logs.tree(state.id).root(4))
        signed = store.rebase.save_signed_head(state, sign_checkpoint(checkpoint, JINAN.log), now_ms=NOW_MS)
        assert (signed.head_size, signed.signed_size) == (5, 4)

    @pytest.mark.parametrize("size", [0, 3, 6])
    def test_a_checkpoint_that_covers_nothing_new_is_refused(self, store: Store, own: OwnLog, size: int) -> None:
        state = append_unsigned(own, record_bytes("jinan", "A"))
        root = store.logs.tree(state.id).root(size) if size < 4 else bytes(32)
        signed = sign_checkpoint(Checkpoint(state.origin, size, root), JINAN.log)
        with pytest.raises(StoreError, match="covers nothing new"):
            store.rebase.save_signed_head(state, signed, now_ms=NOW_MS)

    def test_a_log_that_changed_meanwhile(self, store: Store, own: OwnLog) -> None:
        stale = append_unsigned(own, record_bytes("jinan", "A"))
        signed = sign_checkpoint(Checkpoint(stale.origin, 4, stale.head_frontier.root()), JINAN.log)
        store.rebase.save_signed_head(stale, signed, now_ms=NOW_MS)
        with pytest.raises(StoreError, match="changed while"):
            store.rebase.save_signed_head(stale, signed, now_ms=NOW_MS)


class TestStaging:
    def test_what_is_staged_is_seen_nowhere(self, store: Store, own: OwnLog, longer: MemoryLog) -> None:
        before = (list_all(store), store.records.count(), store.logs.load_logs())
        staging = stage(store, own, longer, base=own.state.head)
        assert (staging.staged.size, staging.member) == (600, "")
        assert (list_all(store), store.records.count(), store.logs.load_logs()) == before
        while store.search.advance():
            pass
        assert store.search.backlog() == 0
        store.rebase.discard_staging(own.state)
        with store.database.read() as connection:
            counts = [
                connection.execute(text(f"SELECT count(*) FROM {name}")).scalar() for name in ("entry", "log", "cursor")
            ]
        # The own log, and that a sweep is owed.
        assert (counts, store.erasures.owed().total) == ([3, 2, 0], 1)

    def test_opening_it_again_empties_it(self, store: Store, own: OwnLog, longer: MemoryLog) -> None:
        stage(store, own, longer, base=own.state.head)
        again = store.rebase.open_staging(own.state, None)
        assert (again.staged.size, again.head_size, again.head_note) == (0, 0, b"")


class TestTakeBack:
    def test_what_was_staged_comes_below(self, store: Store, own: OwnLog, longer: MemoryLog) -> None:
        append_unsigned(own, *(record_bytes("jinan", f"N-{i}") for i in range(1200)))
        staging = stage(store, own, longer, base=own.state.head)
        state = store.rebase.take_back(own.state, staging, longer.checkpoint(), contained=3, settle=keep, now_ms=NOW_MS)
        assert (state.head_size, state.signed_size, store.rebase.signed_sizes(state)) == (1800, 600, [3, 600])
        assert store.logs.tree(state.id).root(600) == longer.checkpoint().root
        assert store.logs.tree(state.id).root(1800) == state.head_frontier.root()
        keys = [stored.key for stored in list_all(store)]
        assert keys[599:602] == ["L-596", "N-0", "N-1"] and len(keys) == 1800
        assert state == store.logs.load_log(state.id)

    def test_what_is_said_already_is_gone(self, store: Store, own: OwnLog, longer: MemoryLog) -> None:
        append_unsigned(own, record_bytes("jinan", "N"))
        staging = stage(store, own, longer, base=own.state.head)
        state = store.rebase.take_back(own.state, staging, longer.checkpoint(), contained=3, settle=drop, now_ms=NOW_MS)
        assert (state.head_size, state.head_frontier) == (600, longer.frontier)

    def test_staged_entries_that_are_not_those_signed(self, store: Store, own: OwnLog, longer: MemoryLog) -> None:
        staging = stage(store, own, longer, base=own.state.head)
        other = sign_checkpoint(Checkpoint(JINAN.origin, 600, bytes(32)), JINAN.log)
        with pytest.raises(StoreError, match="does not have the root signed for 600"):
            store.rebase.take_back(own.state, staging, other, contained=3, settle=keep, now_ms=NOW_MS)
        assert store.logs.load_log(own.state.id) == own.state

    def test_a_log_that_changed_meanwhile(self, store: Store, own: OwnLog, longer: MemoryLog) -> None:
        stale = own.state
        staging = stage(store, own, longer, base=stale.head)
        append_unsigned(own, record_bytes("jinan", "N"))
        with pytest.raises(StoreError, match="changed while"):
            store.rebase.take_back(stale, staging, longer.checkpoint(), contained=3, settle=keep, now_ms=NOW_MS)
        assert [stored.key for stored in list_all(store)][3:] == ["N"]

    def test_the_largest_own_size_that_is_contained(self, store: Store, own: OwnLog, longer: MemoryLog) -> None:
        own.append_numbered(1)
        own.append_numbered(300)
        staging = stage(store, own, longer, base=None)
        assert store.rebase.signed_sizes(own.state) == [3, 4, 304]
        assert store.rebase.largest_contained(own.state, staging) == 3
        assert store.rebase.largest_cosigned(own.state) == 0


class TestOpenings:
    @pytest.fixture
    def closed(self, store: Store, own: OwnLog) -> OwnLog:
        """The openings of entries 0 and 2 are lost."""
        with store.database.write() as connection:
            connection.execute(text("DELETE FROM opening WHERE position & 1099511627775 IN (0, 2)"))
        return own

    def opening(self, own: OwnLog, index: int) -> AcceptedOpening:
        raw = own.memory.records[index]
        record = parse_record(raw, author="jinan", kinds=kinds())
        return AcceptedOpening(Opening(index, own.memory.salts[index], raw), record)

    def test_they_are_counted_and_listed_in_pages(self, store: Store, closed: OwnLog) -> None:
        rebase, commitments = store.rebase, closed.memory.commitments
        assert rebase.count_unopened(closed.state) == 2
        assert rebase.read_unopened(closed.state, start=0, limit=1) == [(0, commitments[0])]
        assert rebase.read_unopened(closed.state, start=1, limit=5) == [(2, commitments[2])]
        assert rebase.read_unopened(closed.state, start=3, limit=5) == []

    def test_none_of_them_has_a_revision_beyond_its_place(self, store: Store, closed: OwnLog) -> None:
        assert store.rebase.revision_floor(closed.state) == 3
        state = store.rebase.save_openings(closed.state, [self.opening(closed, 2)], settle=keep)
        assert store.rebase.revision_floor(state) == 1
        state = store.rebase.save_openings(state, [self.opening(closed, 0)], settle=keep)
        assert store.rebase.revision_floor(state) == 0

    def test_they_come_back_under_new_numbers(self, store: Store, closed: OwnLog) -> None:
        before = closed.state.last_sequence
        state = store.rebase.save_openings(closed.state, [self.opening(closed, 2), self.opening(closed, 1)], settle=keep)
        assert store.rebase.read_unopened(state, start=0, limit=5) == [(0, closed.memory.commitments[0])]
        assert state.last_sequence == before + 1
        again = store.rebase.save_openings(state, [self.opening(closed, 2)], settle=keep)
        assert again.last_sequence == state.last_sequence

    def test_what_is_not_published_is_not_lost(self, store: Store, closed: OwnLog) -> None:
        state = append_unsigned(closed, record_bytes("jinan", "N"))
        with store.database.write() as connection:
            connection.execute(text("DELETE FROM opening WHERE position & 1099511627775 = 3"))
        assert store.rebase.count_unopened(state) == 2

    def test_one_that_repeats_a_revision_is_kept_aside(self, store: Store, closed: OwnLog) -> None:
        """Only a home that was rolled back and signed too early makes such a log."""
        item = self.opening(closed, 2)
        assert item.record is not None
        twin = parse_record(closed.memory.records[1], author="jinan", kinds=kinds())
        state = store.rebase.save_openings(closed.state, [replace_record(item, twin.raw)], settle=keep)
        assert store.rebase.count_unopened(state) == 1
        assert store.records.count_quarantined() == {state.id: 1}


def replace_record(item: AcceptedOpening, raw: bytes) -> AcceptedOpening:
    """The same place, with other bytes in it."""
    record = parse_record(raw, author="jinan", kinds=kinds())
    return AcceptedOpening(replace(item.opening, record=raw), record)
