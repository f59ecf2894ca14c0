"""What every store must do: one class, run on each implementation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.alliance import format_card
from node.core.canonical import dumps_canonical
from node.core.card import CARD_TYPE, parse_card
from node.core.checkpoint import cosign_checkpoint
from node.core.entry import LogPage, split_commitments
from node.core.kinds import Kinds
from node.core.merkle import verify_inclusion
from node.core.mirror import AcceptedPage
from node.core.names import RecordId
from node.core.note import SIGNATURES_MAX
from node.core.record import RECORD_SIZE_MAX
from node.errors import FormatError, HomeError, NotFoundError, StoreError
from node.store import Store
from node.store import late as late_module
from node.store import logs as logs_module
from node.store import records as records_module
from node.store.logs import LogState
from node.store.records import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, Filter, page_size
from node.store.tables import STATUS_NOT_UNDERSTOOD, STATUS_QUARANTINED, STATUS_VISIBLE
from tests.alliance import examples, list_all, visible
from tests.builders import (
    ALLIANCE,
    NOW_S,
    SCHEMAS,
    MemoryLog,
    build_alliance,
    build_card,
    build_labs,
    build_log,
    record_bytes,
    record_content,
    sign_card,
)
from tests.core.naive import NaiveTree
from tests.store.conftest import OpenStore
from tests.store.filling import JINAN, NOW_MS, QINGDAO, YANTAI, Mirrored, OwnLog


def result_id(key: str, revision: int | None = None, author: str = "jinan") -> RecordId:
    return RecordId(author, "result", key, revision)


def keys(records: list[Any]) -> list[str]:
    return [stored.key for stored in records]


def page_sizes(page: LogPage) -> tuple[int, int]:
    """Commitments and openings in a page."""
    return len(split_commitments(page.commitments)), len(page.openings)


def search_all(store: Store, expression: str, chosen: Filter | None = None, *, limit: int = 1000) -> list[str]:
    """The ids of every hit, page by page."""
    found: list[str] = []
    token: str | None = None
    while True:
        page = store.records.search(expression, chosen or Filter(), limit=limit, token=token)
        assert len(page.records) <= limit
        found += [f"{stored.id}@{stored.revision}" for stored in page.records]
        if (token := page.next_token) is None:
            return found


def late_pages(store: Store, log: LogState, *, before: int, after: int, reader: str) -> list[LogPage]:
    """What became readable late, page by page."""
    return list(store.late.late_pages(log.id, before=before, after=after, upto=log.last_sequence, reader=reader))


def index_all(store: Store) -> None:
    while store.search.advance():
        pass


ANY = 'words : "wj"'


class TestStore:
    # The own log

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

    # Tiles and proofs

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

    # Staging

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

    # Pages

    def test_a_page_has_openings_for_its_reader_only(self, store: Store) -> None:
        own = OwnLog(store)
        audiences: list[list[str]] = [["*"], [], ["qingdao"], ["qingdao", "yantai"], ["qing"]]
        own.append(*(record_bytes(key=f"WJ-{i}", audience=audience) for i, audience in enumerate(audiences)))
        readable = {
            reader: [item.index for item in store.logs.read_page(own.state, start=0, stop=5, reader=reader).openings]
            for reader in ("jinan", "qingdao", "yantai", "qing", "weifang")
        }
        assert readable == {
            "jinan": [0, 1, 2, 3, 4], "qingdao": [0, 2, 3], "yantai": [0, 3], "qing": [0, 4], "weifang": [0]
        }  # fmt: skip
        for reader in readable:
            page = store.logs.read_page(own.state, start=1, stop=4, reader=reader)
            assert split_commitments(page.commitments) == own.memory.commitments[1:4]
            late = late_pages(store, own.state, before=5, after=0, reader=reader)
            assert [item.index for page in late for item in page.openings] == readable[reader]

    def test_quarantined_bytes_are_served_to_nobody_but_the_author(self, store: Store) -> None:
        log = MemoryLog(JINAN)
        log.append(record_bytes(), b"not a record")
        mirrored = Mirrored(store, log)
        mirrored.accept()
        for reader, expected in (("qingdao", [0]), ("jinan", [0, 1])):
            page = store.logs.read_page(mirrored.state, start=0, stop=2, reader=reader)
            assert [item.index for item in page.openings] == expected

    def test_a_page_holds_a_thousand_entries(self, store: Store) -> None:
        log = build_log(JINAN, 1500)
        mirrored = Mirrored(store, log)
        mirrored.stage(0, 1000, openings=[])
        mirrored.accept(openings=[])
        sizes = [
            page_sizes(store.logs.read_page(mirrored.state, start=start, stop=stop, reader="qingdao"))
            for start, stop in ((0, 1500), (400, 1500), (600, 1500), (1400, 1500), (10, 12), (1500, 1500))
        ]
        assert sizes == [(1000, 0), (1000, 0), (900, 0), (100, 0), (2, 0), (0, 0)]

    def test_a_page_holds_about_a_mebibyte_and_at_least_one_record(self, store: Store) -> None:
        own = OwnLog(store)
        text = "x" * 1000
        notes = [text] * 300
        own.append(*(record_bytes(key=f"WJ-{i}", body={"value": "1", "notes": notes}) for i in range(8)))
        page = store.logs.read_page(own.state, start=0, stop=8, reader="qingdao")
        assert page_sizes(page) == (4, 4)
        late = late_pages(store, own.state, before=8, after=2, reader="qingdao")
        assert [[item.index for item in page.openings] for page in late] == [[2, 3, 4, 5], [6, 7]]
        empty = record_bytes(key="BIG", body={"value": "1", "notes": [""]})
        big = record_bytes(key="BIG", body={"value": "1", "notes": ["y" * (RECORD_SIZE_MAX - len(empty))]})
        assert len(big) == RECORD_SIZE_MAX
        own.append(big, record_bytes(key="AFTER"))
        assert page_sizes(store.logs.read_page(own.state, start=8, stop=10, reader="qingdao")) == (1, 1)
        assert page_sizes(store.logs.read_page(own.state, start=9, stop=10, reader="qingdao")) == (1, 1)
        late = late_pages(store, own.state, before=10, after=8, reader="qingdao")
        assert [[item.index for item in page.openings] for page in late] == [[8], [9]]

    def test_late_openings_come_by_sequence_number(self, store: Store) -> None:
        log = build_log(JINAN, 6)
        mirrored = Mirrored(store, log)
        mirrored.accept(openings=[4])
        log.append_numbered(1)
        for index in (3, 0, 5):
            mirrored.announce()
            page = mirrored.mirror.accept_page(
                LogPage(6, b"", [log.opening(index)]), lambda i: store.logs.commitment_at(mirrored.state.id, i)
            )
            mirrored.state = store.logs.stage(mirrored.state, page, server="jinan")

        def late(before: int, after: int) -> list[tuple[int, int]]:
            found = late_pages(store, mirrored.state, before=before, after=after, reader="yantai")
            assert all((page.start, page.commitments, page.cursor) == (before, b"", 0) for page in found)
            return [(item.index, item.sequence) for page in found for item in page.openings]

        assert late(6, 0) == [(4, 1), (3, 2), (0, 3), (5, 4)]
        assert late(6, 2) == [(0, 3), (5, 4)]
        assert late(4, 0) == [(3, 2), (0, 3)]
        assert late(6, 4) == []

    def test_late_openings_come_in_pages_too(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        own = OwnLog(store)
        own.append_numbered(5)
        monkeypatch.setattr(late_module, "PAGE_ENTRIES_MAX", 2)
        found = late_pages(store, own.state, before=5, after=1, reader="qingdao")
        assert [[item.index for item in page.openings] for page in found] == [[1, 2], [3, 4]]

    # Checkpoints and cosignatures

    @pytest.mark.parametrize("sizes", [[], [1], [5, 30], [3, 4, 10, 25, 26]])
    def test_the_checkpoint_to_lead_to(self, store: Store, sizes: list[int]) -> None:
        log = MemoryLog(JINAN)
        mirrored = Mirrored(store, log)
        for size in sizes:
            log.append_numbered(size - log.size)
            mirrored.accept(openings=[])

        @examples(60)
        @given(st.integers(0, 32), st.integers(0, 32), st.integers(0, 32))
        def choose(start: int, entries_max: int, ceiling: int) -> None:
            found = store.checkpoints.choose(mirrored.state.id, start=start, entries_max=entries_max, ceiling=ceiling)
            allowed = [size for size in sizes if size <= ceiling]
            near = [size for size in allowed if size <= start + entries_max]
            beyond = [size for size in allowed if size > start]
            expected = near[-1] if near and near[-1] > start else beyond[0] if beyond else near[-1] if near else None
            assert (found.size if found else None) == expected

        choose()

    def test_a_checkpoint_with_its_cosignatures(self, opened: OpenStore) -> None:
        own = OwnLog(opened.store)
        own.append_numbered(2)
        own.append_numbered(1)
        signed = own.memory.checkpoint(2)
        early = {"yantai": cosign_checkpoint(signed.checkpoint, YANTAI.witness, NOW_S + 5)}
        late = {
            "yantai": cosign_checkpoint(signed.checkpoint, YANTAI.witness, NOW_S + 9),
            "qingdao": cosign_checkpoint(signed.checkpoint, QINGDAO.witness, NOW_S + 1),
        }
        checkpoints, log_id = opened.store.checkpoints, own.state.id
        assert [checkpoints.save_cosignatures(log_id, 2, items) for items in (early, late, late, {})] == [1, 1, 0, 0]
        expected = signed.with_lines((late["qingdao"].line, early["yantai"].line))
        for store in (opened.store, opened.reopen()):
            found = store.checkpoints.find(log_id, 2)
            assert found is not None
            assert bytes(found) == bytes(expected)
            newest = store.checkpoints.find(log_id, 3)
            assert newest is not None
            assert bytes(newest) == bytes(own.memory.checkpoint())
            assert store.checkpoints.find(log_id, 1) is None

    def test_a_note_never_has_more_lines_than_fit(self, store: Store) -> None:
        own = OwnLog(store)
        own.append_numbered(1)
        labs = build_labs(70)[1:]
        checkpoint = own.memory.checkpoint().checkpoint
        cosignatures = {lab.member: cosign_checkpoint(checkpoint, lab.witness, NOW_S - i) for i, lab in enumerate(labs)}
        assert store.checkpoints.save_cosignatures(own.state.id, 1, cosignatures) == 69
        found = store.checkpoints.find(own.state.id, 1)
        assert found is not None
        assert len(found.note.signatures) == SIGNATURES_MAX
        kept = {line.name for line in found.note.signatures[1:]}
        assert kept == {lab.witness.key.name for lab in labs[-63:]}  # the earliest say most

    def test_the_smallest_checkpoint_that_a_quorum_cosigned(self, store: Store) -> None:
        own = OwnLog(store)
        for _ in range(4):
            own.append_numbered(2)
        for size, labs in ((2, [QINGDAO]), (4, [QINGDAO, YANTAI]), (6, [YANTAI]), (8, [QINGDAO, YANTAI])):
            checkpoint = own.memory.checkpoint(size).checkpoint
            cosignatures = {lab.member: cosign_checkpoint(checkpoint, lab.witness, NOW_S) for lab in labs}
            store.checkpoints.save_cosignatures(own.state.id, size, cosignatures)

        def smallest(index: int, quorum: int, witnesses: tuple[str, ...] = ("qingdao", "yantai")) -> int | None:
            return store.checkpoints.find_quorum_size(own.state.id, index=index, quorum=quorum, witnesses=witnesses)

        assert [smallest(0, 1), smallest(1, 1), smallest(2, 1), smallest(4, 1), smallest(7, 1)] == [2, 2, 4, 6, 8]
        assert [smallest(0, 2), smallest(3, 2), smallest(4, 2), smallest(8, 2), smallest(0, 3)] == [4, 4, 8, None, None]
        assert [smallest(0, 1, ("yantai",)), smallest(4, 1, ("qingdao",)), smallest(0, 1, ())] == [4, 8, None]

    # Records

    @pytest.mark.parametrize("together", [True, False], ids=["one page", "two pages"])
    def test_the_second_record_with_one_revision_is_quarantined(self, store: Store, together: bool) -> None:
        log = MemoryLog(JINAN)
        log.append(
            record_bytes(key="A"), record_bytes(key="A", body={"value": "other"}), record_bytes(key="A", revision=2),
            record_bytes(key="A", kind="notice", schema="notice/1"),
        )  # fmt: skip
        mirrored = Mirrored(store, log)
        if not together:
            mirrored.stage(0, 1)
        mirrored.accept()
        first = store.records.find(result_id("A", 1))
        assert first is not None
        assert (first.record, first.status) == (log.records[0], STATUS_VISIBLE)
        assert [(stored.kind, stored.revision) for stored in list_all(store)] == [("result", 2), ("notice", 1)]
        assert store.records.count_quarantined() == {mirrored.state.id: 1}
        opening = store.logs.read_page(mirrored.state, start=1, stop=2, reader="jinan").openings[0]
        assert opening.record == log.records[1]
        assert store.logs.read_page(mirrored.state, start=1, stop=2, reader="qingdao").openings == []

    def test_a_quarantined_record_is_found_but_not_listed(self, store: Store) -> None:
        broken = record_bytes(key="BROKEN", body={"unit": "mg/L"})
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="WJ-1"), broken, record_bytes("qingdao", "WJ-FOREIGN"), b'{"kind":[]}')
        mirrored = Mirrored(store, log)
        mirrored.accept()
        index_all(store)
        assert keys(list_all(store)) == ["WJ-1"]
        assert search_all(store, ANY) == ["jinan/result/WJ-1@1"]
        assert (store.records.count(), store.records.count_quarantined()) == (1, {mirrored.state.id: 3})
        found = store.records.find(result_id("BROKEN"))
        assert found is not None
        assert (found.status, found.record) == (STATUS_QUARANTINED, broken)
        assert '"value" is a required property' in found.fault

    def test_a_good_record_is_found_before_a_quarantined_one(self, store: Store) -> None:
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="A", revision=9, body={"unit": "mg/L"}), record_bytes(key="A", revision=2))
        Mirrored(store, log).accept()
        found = store.records.find(result_id("A"))
        assert found is not None
        assert (found.revision, found.status) == (2, STATUS_VISIBLE)

    def test_what_is_not_understood_is_kept_and_served_but_not_shown(self, store: Store) -> None:
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="WJ-ALERT", kind="alert", schema="alert/1", audience=["qingdao"]))
        mirrored = Mirrored(store, log)
        mirrored.accept()
        index_all(store)
        found = store.records.find(RecordId("jinan", "alert", "WJ-ALERT"))
        assert found is not None
        assert (found.status, found.record) == (STATUS_NOT_UNDERSTOOD, log.records[0])
        assert (list_all(store), search_all(store, ANY), store.records.count_quarantined()) == ([], [], {})
        for reader, count in (("qingdao", 1), ("yantai", 0)):
            page = store.logs.read_page(mirrored.state, start=0, stop=1, reader=reader)
            assert len(page.openings) == count

    def test_a_newer_version_judges_again_what_was_not_understood(self, store: Store) -> None:
        alert = {"kind": "alert", "schema": "alert/1"}
        log = MemoryLog(JINAN)
        log.append(
            record_bytes(key="WJ-GOOD", **alert), record_bytes(key="WJ-BAD", body={"unit": "%"}, **alert),
            record_bytes(key="WJ-LATER", kind="alert", schema="alert/2"), record_bytes(key="WJ-1"),
        )  # fmt: skip
        mirrored = Mirrored(store, log)
        mirrored.accept()
        index_all(store)
        newer = Kinds({**SCHEMAS, "alert/1": SCHEMAS["result/1"]})
        first = store.records.revalidate(newer, after=0)
        assert first is not None
        assert (first[1], store.records.revalidate(newer, after=first[0])) == (1, None)
        assert store.records.revalidate(newer, after=0) == (first[0], 0)
        index_all(store)
        assert search_all(store, ANY) == ["jinan/result/WJ-1@1", "jinan/alert/WJ-GOOD@1"]
        assert keys(list_all(store)) == ["WJ-GOOD", "WJ-1"]
        assert store.records.count_quarantined() == {mirrored.state.id: 1}
        bad = store.records.find(RecordId("jinan", "alert", "WJ-BAD"))
        assert bad is not None
        assert "required property" in bad.fault

    def test_lists_and_searches_show_the_newest_revision(self, store: Store) -> None:
        own = OwnLog(store)
        own.append(record_bytes(key="WJ-A"), record_bytes(key="WJ-B"))
        own.append(record_bytes(key="WJ-A", revision=2), record_bytes(key="WJ-A", kind="notice", schema="notice/1"))
        other = MemoryLog(YANTAI)
        other.append(record_bytes("yantai", "WJ-A"))
        Mirrored(store, other).accept()
        index_all(store)
        shown = ["jinan/result/WJ-B@1", "jinan/result/WJ-A@2", "jinan/notice/WJ-A@1", "yantai/result/WJ-A@1"]
        assert [f"{stored.id}@{stored.revision}" for stored in list_all(store)] == shown
        assert sorted(search_all(store, ANY)) == sorted(shown)
        newest = store.records.find(result_id("WJ-A"))
        first = store.records.find(result_id("WJ-A", 1))
        assert newest is not None
        assert first is not None
        assert (newest.revision, newest.index, first.revision, first.index) == (2, 2, 1, 0)
        assert store.records.find(result_id("WJ-A", 3)) is None

    def test_the_newest_of_many_keys(self, store: Store) -> None:
        own = OwnLog(store)
        own.append_numbered(1100)
        own.append(
            record_bytes(key="WJ-000007", revision=2), record_bytes(key="WJ-000008", kind="notice", schema="notice/1")
        )
        wanted = [f"WJ-{i:06d}" for i in range(1090, -1, -1)]
        found = store.records.newest(own.state.id, "result", [*wanted, "MISSING", *wanted])
        assert set(found) == set(wanted)
        assert found["WJ-000007"] == (2, own.memory.records[1100])
        assert found["WJ-000008"] == (1, own.memory.records[8])
        assert store.records.newest(own.state.id, "result", []) == {}

    def test_cursors_cover_everything_exactly_once(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        own, other = OwnLog(store), MemoryLog(YANTAI)
        for i in range(12):
            own.append(record_bytes(key=f"WJ-{i}"), record_bytes(key=f"WJ-{i // 3}", revision=i % 3 + 2))
            own.append(record_bytes(key=f"WJ-N{i}", kind="notice", schema="notice/1"))
        other.append_numbered(9, body={"value": "1", "notes": ["WJ WJ"]})
        other.append(b"not a record", record_bytes("yantai", "WJ-U", kind="unknown", schema="unknown/1"))
        Mirrored(store, other).accept()
        index_all(store)
        filters = st.builds(
            Filter, st.sampled_from([None, "result", "notice"]), st.sampled_from([None, "jinan", "yantai", "weifang"])
        )

        @examples(25)
        @given(filters, st.integers(1, 12), st.sampled_from([1000, 5]))
        def cover(chosen: Filter, limit: int, ranked: int) -> None:
            monkeypatch.setattr(records_module, "RANKED_HITS_MAX", ranked)
            at_once = list_all(store, chosen)
            expected = 0 if chosen.author == "weifang" else (
                (chosen.author != "yantai" and chosen.kind != "notice") * 12
                + (chosen.author != "yantai" and chosen.kind != "result") * 12
                + (chosen.author != "jinan" and chosen.kind != "notice") * 9
            )  # fmt: skip
            assert len({stored.id for stored in at_once}) == len(at_once) == expected
            assert list_all(store, chosen, limit=limit) == at_once
            hits = search_all(store, ANY, chosen, limit=limit)
            assert sorted(hits) == sorted(f"{stored.id}@{stored.revision}" for stored in at_once)

        cover()

    @pytest.mark.parametrize("token", ["x", "p", "o", "5", "p-1", "p+1", "p1.5", "p 1", "p１", "p1\n", "p" + "9" * 19, "q1"])
    def test_a_cursor_that_no_page_gave_is_refused(self, store: Store, token: str) -> None:
        with pytest.raises(FormatError, match="is not a cursor") as caught:
            store.records.list(Filter(), limit=5, token=token)
        assert caught.value.hint
        with pytest.raises(FormatError, match="is not a cursor"):
            store.records.search(ANY, Filter(), limit=5, token=token.replace("p", "o") if token != "o" else "p")

    def test_a_cursor_of_a_list_is_none_of_a_search(self, store: Store) -> None:
        with pytest.raises(FormatError):
            store.records.search(ANY, Filter(), limit=5, token="p1")
        with pytest.raises(FormatError):
            store.records.list(Filter(), limit=5, token="o1")

    def test_page_sizes_have_a_default_and_a_maximum(self) -> None:
        assert [page_size(limit) for limit in (0, 1, 999, PAGE_SIZE_MAX, 10**9)] == [PAGE_SIZE_DEFAULT, 1, 999, 1000, 1000]

    # The search index

    def test_the_best_hit_comes_first_and_very_many_come_newest_first(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = OwnLog(store)
        long = {"value": "1", "notes": [f"filler{i} text{i}" for i in range(30)]}
        own.append(
            record_bytes(key="LONG-1", body={**long, "unit": "wj"}), record_bytes(key="WJ-SHORT"),
            record_bytes(key="LONG-2", body={**long, "unit": "wj"}),
        )  # fmt: skip
        index_all(store)
        assert search_all(store, ANY)[0] == "jinan/result/WJ-SHORT@1"
        monkeypatch.setattr(records_module, "RANKED_HITS_MAX", 2)
        assert search_all(store, ANY) == ["jinan/result/LONG-2@1", "jinan/result/WJ-SHORT@1", "jinan/result/LONG-1@1"]

    def test_an_empty_question_finds_nothing(self, store: Store) -> None:
        OwnLog(store).append_numbered(1)
        index_all(store)
        assert search_all(store, "") == []

    def test_indexing_stops_before_what_is_staged_and_goes_on_later(self, store: Store) -> None:
        log = build_log(JINAN, 3)
        mirrored = Mirrored(store, log)
        mirrored.accept()
        assert store.search.backlog() == 3
        assert [store.search.advance(), store.search.advance(), store.search.backlog()] == [3, 0, 0]
        log.append_numbered(2)
        mirrored.stage(3, 4)
        assert store.search.advance() == 0
        assert len(search_all(store, ANY)) == 3
        mirrored.accept()
        assert store.search.backlog() == 2
        assert [store.search.advance(), store.search.advance(), store.search.backlog()] == [2, 0, 0]
        assert len(search_all(store, ANY)) == 5

    def test_what_is_staged_is_no_backlog(self, store: Store) -> None:
        mirrored = Mirrored(store, build_log(JINAN, 3))
        mirrored.stage(0, 2)
        index_all(store)
        assert store.search.backlog() == 0

    def test_dropped_entries_leave_no_words_behind(self, store: Store) -> None:
        log, fork = build_log(JINAN, 1), build_log(JINAN, 1)
        mirrored = Mirrored(store, log)
        mirrored.accept()
        log.append(record_bytes(key="WJ-FORGED"), record_bytes(key="WJ-FORGED-2"))
        mirrored.stage(1, 3)
        index_all(store)
        mirrored.state = store.logs.drop_staged(mirrored.state)
        index_all(store)
        fork.append(record_bytes(key="WJ-TRUE"))
        Mirrored(store, fork).accept()
        index_all(store)
        assert sorted(search_all(store, ANY)) == ["jinan/result/WJ-000000@1", "jinan/result/WJ-TRUE@1"]
        assert search_all(store, 'words : "forged"') == []

    def test_the_index_takes_in_many_batches(self, store: Store) -> None:
        own = OwnLog(store)
        own.append_numbered(1200)
        assert [store.search.advance() for _ in range(4)] == [500, 500, 200, 0]
        assert len(search_all(store, ANY)) == 1200

    # Membership

    def test_identity_and_alliance_are_remembered(self, opened: OpenStore) -> None:
        labs = build_labs(3)
        membership = opened.store.membership
        with pytest.raises(HomeError, match="whose home this is"):
            membership.load_identity()
        membership.save_identity("jinan", ALLIANCE, created_ms=NOW_MS)
        assert (membership.load_alliance(), membership.load_own_card("jinan")) == (None, None)
        alliance = build_alliance(labs)
        membership.save_alliance(alliance, pin=alliance.fingerprint)
        membership.save_alliance(alliance)
        membership = opened.reopen().membership
        identity, loaded = membership.load_identity(), membership.load_alliance()
        assert (identity.member, identity.alliance, identity.fingerprint) == ("jinan", ALLIANCE, alliance.fingerprint)
        assert loaded is not None
        assert (loaded.rosters, dict(loaded.cards)) == (alliance.rosters, dict(alliance.cards))
        assert membership.load_own_card("jinan") == format_card(alliance.cards["jinan"])

    def test_the_newest_own_card_counts(self, opened: OpenStore) -> None:
        membership = opened.store.membership
        first = sign_card(build_card(JINAN), JINAN)
        second = sign_card(build_card(JINAN, seq=2, previous=parse_card(first)[0].hash, name="Another"), JINAN)
        membership.save_card("jinan", 1, first, CARD_TYPE)
        membership.save_card("jinan", 2, second, CARD_TYPE)
        membership.save_card("qingdao", 3, sign_card(build_card(JINAN, name="A third"), JINAN), CARD_TYPE)
        assert opened.reopen().membership.load_own_card("jinan") == second
        # By a new identity key, whose home had forgotten its newest card: of the same seq, or of a smaller one.
        membership = opened.store.membership
        for seq in (2, 1):
            rekeyed = sign_card(build_card(JINAN, seq=seq, previous="0" * 64 if seq > 1 else None, name=f"New {seq}"), JINAN)
            membership.save_card("jinan", seq, rekeyed, CARD_TYPE)
            assert opened.reopen().membership.load_own_card("jinan") == rekeyed
            membership = opened.store.membership

    # Durability of mistakes

    def test_an_error_of_the_database_tells_nothing_of_a_record(self, store: Store) -> None:
        own = OwnLog(store)
        secret = "secret-of-a-patient"
        own.append(record_bytes(key=secret))
        with pytest.raises(StoreError) as caught:
            own.append(record_bytes(key=secret, body={"value": secret}))
        cause: BaseException | None = caught.value
        while cause is not None:
            assert secret not in str(cause)
            assert record_content(key=secret)["published"] not in str(cause)
            cause = cause.__cause__

    def test_unusable_values_tell_nothing_either(self, store: Store) -> None:
        own = OwnLog(store)
        raw = dumps_canonical({"secret": "of a patient"})
        own.memory.append(raw)
        with pytest.raises(StoreError) as caught, store.database.write() as connection:
            connection.execute(
                logs_module._CHECKPOINT.insert(), {"log_id": own.state.id, "size": raw.decode() + "x", "note": object()}
            )
        cause: BaseException | None = caught.value
        while cause is not None:
            assert "patient" not in str(cause)
            cause = cause.__cause__
