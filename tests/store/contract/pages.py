"""What every store gives to peers: pages of a log, and checkpoints with their cosignatures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.checkpoint import cosign_checkpoint
from node.core.entry import LogPage, split_commitments
from node.core.note import SIGNATURES_MAX
from node.core.record import RECORD_SIZE_MAX
from node.core.witness import line_start
from node.store import Store
from node.store import late as late_module
from tests.alliance import examples
from tests.builders import NOW_S, MemoryLog, build_labs, build_log, record_bytes
from tests.store.conftest import OpenStore
from tests.store.filling import JINAN, QINGDAO, YANTAI, Mirrored, OwnLog
from tests.store.reading import late_pages, page_sizes


class PagesContract:
    """A page has what its reader may open."""

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


class CheckpointsContract:
    """Checkpoints, and who cosigned them."""

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

    def test_what_outlives_a_witness_key_makes_no_quorum(self, store: Store) -> None:
        own = OwnLog(store)
        for size, time in ((1, NOW_S + 9), (2, NOW_S + 8), (3, NOW_S), (4, NOW_S + 7)):
            own.append_numbered(1)
            checkpoint = own.memory.checkpoint(size).checkpoint
            cosignatures = {lab.member: cosign_checkpoint(checkpoint, lab.witness, time) for lab in (QINGDAO, YANTAI)}
            store.checkpoints.save_cosignatures(own.state.id, size, cosignatures)

        def smallest(quorum: int, until: int) -> int | None:
            retired = {line_start(QINGDAO.witness.key): until}
            return store.checkpoints.find_quorum_size(
                own.state.id, index=0, quorum=quorum, witnesses=["qingdao", "yantai"], retired=retired
            )

        assert [smallest(2, NOW_S + 9), smallest(2, NOW_S + 8), smallest(2, NOW_S), smallest(2, NOW_S - 1)] == [
            1,
            2,
            3,
            None,
        ]
        assert smallest(1, NOW_S - 1) == 1
