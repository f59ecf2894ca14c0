"""What every store does with logs: the own one, the tree over it, and what is staged of others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.entry import LogPage
from node.core.merkle import verify_inclusion
from node.core.mirror import AcceptedPage
from node.errors import NotFoundError, StoreError
from node.store import Store
from node.store.tables import STATUS_VISIBLE
from tests.alliance import examples, list_all, visible
from tests.builders import MemoryLog, build_labs, build_log, record_bytes
from tests.core.naive import NaiveTree
from tests.store.conftest import OpenStore
from tests.store.filling import JINAN, NOW_MS, Mirrored, OwnLog
from tests.store.reading import ANY, index_all, keys, result_id, search_all


class OwnLogContract:
    """The own log grows by compare-and-set."""

    def test_what_is_appended_is_read_back(self, opened: OpenStore) -> None:
        own = OwnLog(opened.store)
        own.append_numbered(2)
        own.append_numbered(1)
        expected = own.memory.page(0, 3)
        for store in (opened.store, opened.reopen()):
            log = store.logs.find_log(JINAN.origin)
            assert log is not None
            assert log == own.state == store.logs.load_log(log.id) == store.logs.open_log(JINAN.origin, "jinan")
            assert log.head is not None
            assert (log.head_size, log.head.root, log.head_ms) == (3, own.memory.frontier.root(), NOW_MS)
            assert store.logs.read_page(log, start=0, stop=3, reader="jinan") == expected
            assert store.logs.load_logs() == [log]
            found = store.records.find(result_id("WJ-000001"))
            assert found is not None
            assert (found.record, found.salt, found.index) == (own.memory.records[1], own.memory.salts[1], 1)
            assert (found.id, found.origin, found.author) == ("jinan/result/WJ-000001", JINAN.origin, "jinan")
            assert (found.revision, found.status, found.fault, found.head_ms) == (1, STATUS_VISIBLE, "", NOW_MS)
            assert keys(list_all(store)) == ["WJ-000000", "WJ-000001", "WJ-000002"]
            assert store.records.count() == 3

    def test_a_store_without_the_log(self, store: Store) -> None:
        assert store.logs.find_log(JINAN.origin) is None
        assert store.logs.load_logs() == []
        assert store.logs.commitment_at(1, 0) is None
        assert store.records.find(result_id("WJ-000000")) is None
        assert (list_all(store), search_all(store, ANY), store.records.count()) == ([], [], 0)
        with pytest.raises(NotFoundError):
            store.logs.load_log(7)

    def test_append_compares_the_head_before_it_sets_it(self, store: Store) -> None:
        own = OwnLog(store)
        before = own.append_numbered(1)
        own.append_numbered(1)
        seen, state, memory = visible(store), own.state, own.memory
        own.state, own.memory = before, build_log(JINAN, 1)
        with pytest.raises(StoreError, match="grew to 2 while entries were made for 1"):
            own.append_numbered(3)
        assert visible(store) == seen
        own.state, own.memory = state, memory
        assert own.append_numbered(1).head_size == 3

    def test_revisions_are_unique_in_a_log(self, store: Store) -> None:
        own = OwnLog(store)
        own.append(record_bytes(key="WJ-1"))
        seen = visible(store)
        with pytest.raises(StoreError):
            own.append(record_bytes(key="WJ-2"), record_bytes(key="WJ-1", body={"value": "other"}))
        assert visible(store) == seen

    def test_sequence_numbers_count_what_became_readable(self, store: Store) -> None:
        own = OwnLog(store)
        own.append_numbered(2)
        assert own.append_numbered(3).last_sequence == 5
        page = store.logs.read_page(own.state, start=0, stop=5, reader="jinan")
        assert [opening.sequence for opening in page.openings] == [1, 2, 3, 4, 5]


class TreeContract:
    """Tiles, roots and proofs."""

    @examples(6)
    @given(st.lists(st.integers(1, 400), min_size=1, max_size=4))
    def test_tiles_and_roots_are_the_naive_ones(self, opened: OpenStore, sizes: list[int]) -> None:
        lab = build_labs(3, f"{len(sizes)}x{sum(sizes)}.{'-'.join(map(str, sizes))}.example")[0]
        log = MemoryLog(lab)
        mirrored = Mirrored(opened.store, log)
        edges = [0]
        for size in sizes:
            log.append_numbered(size)
            mirrored.accept(openings=[])
            edges.append(log.size)
        naive, tree = NaiveTree(log.commitments), opened.store.logs.tree(mirrored.state.id)
        full = log.size // 256
        assert tree.tiles(0, full) == [naive.root(256 * i, 256 * (i + 1)) for i in range(full)]
        assert [tree.root(size) for size in edges] == [naive.root(0, size) for size in edges]

    def test_proofs_from_the_store_verify(self, store: Store) -> None:
        log = build_log(JINAN, 600)
        mirrored = Mirrored(store, log)
        mirrored.accept(openings=[])
        naive, tree = NaiveTree(log.commitments), store.logs.tree(mirrored.state.id)

        @examples(30)
        @given(st.data())
        def verify(data: st.DataObject) -> None:
            size = data.draw(st.integers(1, 600))
            index = data.draw(st.integers(0, size - 1))
            verify_inclusion(log.commitments[index], index, size, tree.inclusion(index, size), naive.root(0, size))

        verify()
        with pytest.raises(StoreError, match="are missing"):
            tree.root(601)


class StagingContract:
    """Nobody sees what no accepted head covers."""

    def test_what_is_staged_is_seen_by_nobody_until_the_head_moves(self, store: Store) -> None:
        log = build_log(JINAN, 2)
        mirrored = Mirrored(store, log)
        mirrored.accept()
        index_all(store)
        seen = visible(store)
        log.append(record_bytes(key="WJ-000000", revision=2), record_bytes(key="WJ-NEW"), b"not a record")
        for low in (2, 3, 4):
            mirrored.stage(low, low + 1)
            index_all(store)
            assert visible(store) == seen
            assert store.records.find(result_id("WJ-NEW")) is None
            assert store.records.find(result_id("WJ-000000", 2)) is None
            assert search_all(store, ANY) == ["jinan/result/WJ-000001@1", "jinan/result/WJ-000000@1"]
            assert (store.records.count(), store.records.count_quarantined()) == (2, {})
        mirrored.accept_head()
        index_all(store)
        assert keys(list_all(store)) == ["WJ-000001", "WJ-000000", "WJ-NEW"]
        assert set(search_all(store, ANY)) == {
            "jinan/result/WJ-000000@2", "jinan/result/WJ-000001@1", "jinan/result/WJ-NEW@1"
        }  # fmt: skip
        assert (store.records.count(), store.records.count_quarantined()) == (4, {mirrored.state.id: 1})

    def test_the_last_page_and_the_head_come_in_one_step(self, store: Store) -> None:
        log = build_log(JINAN, 4)
        mirrored = Mirrored(store, log)
        mirrored.stage(0, 2)
        page = mirrored.verify(2, 4)
        other = MemoryLog(JINAN).append_numbered(4, revision=3)
        before = store.logs.load_log(mirrored.state.id)
        with pytest.raises(StoreError, match="does not have the root"):
            store.logs.accept_head(mirrored.state, page, other, server="jinan", now_ms=1)
        assert store.logs.load_log(mirrored.state.id) == before
        assert store.logs.commitment_at(before.id, 2) is None
        mirrored.accept_head(page)
        assert keys(list_all(store)) == ["WJ-000000", "WJ-000001", "WJ-000002", "WJ-000003"]
        assert store.logs.load_log(before.id) == mirrored.state

    @examples(8)
    @given(st.integers(0, 520), st.integers(0, 520), st.integers(0, 520))
    def test_dropping_leaves_exactly_what_was_verified(self, opened: OpenStore, held: int, first: int, second: int) -> None:
        store, lab = opened.store, build_labs(3, f"h{held}.f{first}.s{second}.example")[0]
        log = MemoryLog(lab)
        log.append_numbered(held)
        mirrored = Mirrored(store, log)
        if held:
            mirrored.accept(openings=[held - 1])
        seen = visible(store)
        fork = MemoryLog(lab, list(log.records), list(log.salts), list(log.commitments), list(log.tiles), log.frontier)
        log.append_numbered(first + 1)
        mirrored.stage(held, log.size, openings=[held])
        state = store.logs.drop_staged(mirrored.state)
        assert visible(store) == seen
        assert (state.staged, state.staged_bytes, state.head_size) == (state.head_frontier, 0, held)
        assert store.logs.commitment_at(state.id, held) is None
        fork.append_numbered(second + 1, published="2026-11-20T09:00:00.000Z")
        again = Mirrored(store, fork)
        again.accept(openings=[held])
        assert store.logs.tree(state.id).root(fork.size) == NaiveTree(fork.commitments).root(0, fork.size)
        found = store.logs.read_page(again.state, start=held, stop=held + 1, reader=lab.member)
        assert found.openings[0].record == fork.records[held]

    def test_a_reopened_store_goes_on_from_what_was_staged(self, opened: OpenStore) -> None:
        log = build_log(JINAN, 300)
        mirrored = Mirrored(opened.store, log)
        mirrored.stage(0, 100)
        mirrored.stage(100, 270)
        again = Mirrored(opened.reopen(), log)
        assert again.state == mirrored.state
        assert again.state.staged.size == 270
        assert again.state.staged_bytes == sum(map(len, log.records[:270]))
        again.accept()
        assert opened.store.records.count() == 300
        assert again.state.staged_bytes == 0

    def test_a_page_for_another_tree_is_refused(self, store: Store) -> None:
        log = build_log(JINAN, 6)
        mirrored, other = Mirrored(store, log), Mirrored(store, log)
        mirrored.stage(0, 2)
        before = store.logs.load_log(mirrored.state.id)
        with pytest.raises(StoreError, match="changed while a page was verified"):
            other.stage(0, 3)
        assert store.logs.load_log(before.id) == before
        assert mirrored.accept().head_size == 6

    def test_an_opening_that_comes_twice_counts_once(self, store: Store) -> None:
        log = build_log(JINAN, 3)
        mirrored = Mirrored(store, log)
        mirrored.accept(openings=[0])
        log.append_numbered(1)
        late = LogPage(3, b"", [log.opening(i) for i in (0, 1)])
        mirrored.announce()
        page = mirrored.mirror.accept_page(late, lambda i: store.logs.commitment_at(mirrored.state.id, i))
        mirrored.state = store.logs.stage(mirrored.state, page, server="jinan")
        assert keys(list_all(store)) == ["WJ-000000", "WJ-000001"]
        assert store.records.count_quarantined() == {}
        mirrored.accept()
        assert keys(list_all(store)) == ["WJ-000000", "WJ-000001", "WJ-000003"]

    def test_each_server_has_the_cursor_that_it_told_last(self, opened: OpenStore) -> None:
        log = build_log(JINAN, 4)
        mirrored = Mirrored(opened.store, log)

        def stage(page: AcceptedPage, server: str, cursor: int) -> None:
            mirrored.state = opened.store.logs.stage(mirrored.state, replace(page, cursor=cursor), server=server)

        stage(mirrored.verify(0, 1), "jinan", 0)
        assert opened.store.logs.last_sequence_from(mirrored.state.id, "jinan") == 0
        stage(mirrored.verify(1, 3), "jinan", 7)
        stage(mirrored.verify(3, 4), "yantai", 4)
        assert opened.store.logs.last_sequence_from(mirrored.state.id, "jinan") == 7
        late = mirrored.mirror.accept_page(
            LogPage(4, b"", [log.opening(0)]), lambda i: opened.store.logs.commitment_at(mirrored.state.id, i)
        )
        # A page that says nothing changes nothing, and a server that was restored counts again from a smaller number.
        stage(late, "yantai", 0)
        stage(late, "jinan", 3)
        store = opened.reopen()
        assert store.logs.last_sequence_from(mirrored.state.id, "jinan") == 3
        assert store.logs.last_sequence_from(mirrored.state.id, "yantai") == 4
        assert store.logs.last_sequence_from(mirrored.state.id, "weifang") == 0
