"""What every store shows of records: what is valid, newest and found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.kinds import Kinds
from node.core.names import RecordId
from node.errors import FormatError
from node.store import Store
from node.store import records as records_module
from node.store.records import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, Filter, page_size
from node.store.tables import STATUS_NOT_UNDERSTOOD, STATUS_QUARANTINED, STATUS_VISIBLE
from tests.alliance import examples, list_all
from tests.builders import SCHEMAS, MemoryLog, build_log, record_bytes
from tests.store.filling import JINAN, YANTAI, Mirrored, OwnLog
from tests.store.reading import ANY, index_all, keys, result_id, search_all


class RecordsContract:
    """Judged, listed and paged."""

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


class SearchContract:
    """The search index."""

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
