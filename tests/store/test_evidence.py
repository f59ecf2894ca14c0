"""Evidence on disk, contradictions among openings, and a mirror that is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.errors import LabmeshError
from node.store import Store, open_store
from node.store.forgetting import forget_mirror
from node.store.owed import read_owed
from node.store.records import Filter
from node.store.search import SearchIndex
from tests.alliance import SimulatedAlliance, drafts, list_all, visible
from tests.builders import build_labs, build_log, record_bytes
from tests.new_stores import new_store
from tests.sync.equivocation import show

JINAN, QINGDAO, YANTAI = build_labs(3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path / "home")


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    made = SimulatedAlliance(tmp_path)
    yield made
    made.close()


class TestFiles:
    def test_what_is_saved_is_there_after_a_start(self, store: Store, tmp_path: Path) -> None:
        store.evidence.save("b" * 64, kind="card", member="jinan", found_ms=7, file=b"two")
        store.evidence.save("a" * 64, kind="split-view", member="yantai", found_ms=3, file=b"one")
        store.close()
        store = open_store(tmp_path / "home")
        assert [tuple(row) for row in store.evidence.load()] == [
            ("a" * 64, "split-view", "yantai", 3, b"one"),
            ("b" * 64, "card", "jinan", 7, b"two"),
        ]
        assert (store.evidence.find("b" * 64), store.evidence.find("c" * 64)) == (b"two", None)

    def test_the_first_stays(self, store: Store) -> None:
        for found_ms, file in ((1, b"first"), (2, b"second")):
            store.evidence.save("a" * 64, kind="card", member="jinan", found_ms=found_ms, file=file)
        assert [(row.found_ms, row.file) for row in store.evidence.load()] == [(1, b"first")]

    def test_a_new_one_takes_the_place_of_others(self, store: Store, tmp_path: Path) -> None:
        """At once, with the notes of who has them; their records may be erased later, so a sweep is owed."""
        for name in "abc":
            store.evidence.save(name, kind="card", member="jinan", found_ms=1, file=b"old " + name.encode())
            store.evidence.save_told(name, "yantai")
        with store.database.read() as connection:
            assert read_owed(connection).total == 0
        store.evidence.save("d", kind="card", member="jinan", found_ms=2, file=b"new", instead_of=["a", "b"])
        assert [(row.id, row.found_ms) for row in store.evidence.load_entries()] == [("c", 1), ("d", 2)]
        assert store.evidence.load_told("yantai") == {"c"}
        with store.database.read() as connection:
            assert read_owed(connection).total == 1

    def test_who_was_told(self, store: Store) -> None:
        for evidence_id, member in (("a", "jinan"), ("a", "jinan"), ("b", "jinan"), ("a", "yantai")):
            store.evidence.save_told(evidence_id, member)
        assert store.evidence.load_told("jinan") == {"a", "b"}
        assert store.evidence.load_told("yantai") == {"a"}
        assert store.evidence.load_told("zibo") == set()
        store.evidence.forget_told(["a", "c"], "jinan")
        assert (store.evidence.load_told("jinan"), store.evidence.load_told("yantai")) == ({"b"}, {"a"})


class TestContradictions:
    def test_pairs_of_verified_entries(self, alliance: SimulatedAlliance) -> None:
        log = build_log(JINAN, 4)
        log.append(
            record_bytes("jinan", "WJ-000001", body={"value": "9"}),
            log.records[2],
            record_bytes("jinan", "WJ-000003", revision=2, body={"value": "9"}),
            record_bytes("jinan", "WJ-000001", body={"value": "10"}),
            b"no record at all",
        )
        show(alliance, "qingdao", log)
        qingdao = alliance["qingdao"]
        found = qingdao.store.evidence.find_contradictions(qingdao.mirror_of("jinan").id)
        assert [(pair.kept.index, pair.again.index, pair.verified) for pair in found] == [(1, 4, True), (1, 7, True)]
        assert {pair.record for pair in found} == {"jinan/result/WJ-000001@1"}
        for pair in found:
            for exhibit in (pair.kept, pair.again):
                assert (exhibit.salt, exhibit.record) == (log.salts[exhibit.index], log.records[exhibit.index])
        assert qingdao.store.logs.contradicted == set()

    def test_page_by_page(self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("node.store.evidence.CONTRADICTIONS_MAX", 2)
        log = build_log(JINAN, 5)
        log.append(*(record_bytes("jinan", f"WJ-{i:06d}", body={"value": "9"}) for i in range(5)))
        show(alliance, "qingdao", log)
        store, log_id = alliance["qingdao"].store.evidence, alliance["qingdao"].mirror_of("jinan").id
        found, after = list[int](), 0
        while page := store.find_contradictions(log_id, after=after):
            assert len(page) <= 2
            found += [pair.again.index for pair in page]
            after = page[-1].sequence
        assert found == [5, 6, 7, 8, 9]

    def test_what_is_only_staged_is_not_looked_at_yet(self, alliance: SimulatedAlliance) -> None:
        from tests.sync.equivocation import open_session

        log = build_log(JINAN, 3)
        show(alliance, "qingdao", log)
        log.append(record_bytes("jinan", "WJ-000001", body={"value": "9"}))
        log.append_numbered(2)
        session, qingdao = open_session(alliance, "qingdao", "jinan"), alliance["qingdao"]
        session.apply(bytes(log.checkpoint()))
        session.apply(log.page(3, 5))
        log_id = qingdao.mirror_of("jinan").id
        (waiting,) = qingdao.store.evidence.find_contradictions(log_id)
        assert (waiting.verified, qingdao.evidence.pieces()) == (False, ())
        assert qingdao.store.logs.contradicted == {log_id}
        session.apply(log.page(5, 6))
        assert len(qingdao.store.evidence.find_contradictions(log_id)) == len(qingdao.evidence.pieces()) == 1
        assert qingdao.store.logs.contradicted == set()

    def test_audiences_of_what_is_opened_here(self, alliance: SimulatedAlliance) -> None:
        log = build_log(JINAN)
        log.append_numbered(1)
        log.append_numbered(1, audience=["qingdao", "yantai"])
        show(alliance, "qingdao", log)
        store, log_id = alliance["qingdao"].store, alliance["qingdao"].mirror_of("jinan").id
        assert store.evidence.load_audiences(log_id, [0, 1, 2]) == ["*", ",qingdao,yantai,"]


class TestForgetting:
    @pytest.fixture
    def mirrored(self, alliance: SimulatedAlliance) -> SimulatedAlliance:
        """Qingdao holds the logs of jinan and yantai, and has indexed them."""
        for name in ("jinan", "yantai"):
            alliance[name].push(*drafts(600, name))
            alliance.catch_up("qingdao", name)
        alliance["qingdao"].exchange.cosign_head(JINAN.origin)
        index(alliance["qingdao"].store.search)
        return alliance

    def test_nothing_of_it_is_left_and_the_other_logs_stay(self, mirrored: SimulatedAlliance) -> None:
        store, log = mirrored["qingdao"].store, mirrored["qingdao"].mirror_of("jinan")
        yantai = [item for item in list_all(store) if item.author == "yantai"]
        forget_mirror(store, log.id)
        again = mirrored["qingdao"].mirror_of("jinan")
        assert again.id not in (log.id, mirrored["qingdao"].mirror_of("yantai").id)
        assert (again.origin, again.member, again.head_size, again.head, again.staged.size) == (
            JINAN.origin,
            "jinan",
            0,
            None,
            0,
        )
        assert list_all(store) == yantai
        assert store.checkpoints.find(log.id, 600) is None
        with store.database.read() as connection:
            for table in ("entry", "opening", "tile"):
                rows = connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE position >> 40 = {log.id}")
                assert rows.scalar() == 0, table

    def test_it_is_fetched_again(self, mirrored: SimulatedAlliance) -> None:
        before = visible(mirrored["qingdao"].store)
        forget_mirror(mirrored["qingdao"].store, mirrored["qingdao"].mirror_of("jinan").id)
        mirrored.catch_up("qingdao", "jinan")
        after = visible(mirrored["qingdao"].store)
        assert (after.logs, after.count) == (before.logs, before.count)
        assert sorted(item.record for item in after.records) == sorted(item.record for item in before.records)
        index(mirrored["qingdao"].store.search)
        page = mirrored["qingdao"].store.records.search('"jinan"', Filter(), limit=1000)
        assert {item.log_id for item in page.records} <= {mirrored["qingdao"].mirror_of("jinan").id}

    def test_a_number_is_never_used_twice(self, mirrored: SimulatedAlliance) -> None:
        qingdao, seen = mirrored["qingdao"], set()
        for _ in range(4):
            for name in ("jinan", "yantai"):
                log_id = qingdao.mirror_of(name).id
                assert log_id not in seen
                seen.add(log_id)
                forget_mirror(qingdao.store, log_id)

    def test_a_session_that_is_still_open_writes_nothing(self, mirrored: SimulatedAlliance) -> None:
        from node.core.entry import LogPage
        from tests.sync.equivocation import open_session

        qingdao = mirrored["qingdao"]
        mirrored["jinan"].push(*drafts(1, "LATER"))
        session = open_session(mirrored, "qingdao", "jinan")
        session.apply(mirrored["jinan"].ledger.log.head_note)
        own = mirrored["jinan"].ledger.log
        page = mirrored["jinan"].store.logs.read_page(own, start=600, stop=601, reader="qingdao")
        forget_mirror(qingdao.store, session.log.id)
        with pytest.raises(LabmeshError):
            session.apply(LogPage(600, page.commitments, page.openings))
        assert qingdao.mirror_of("jinan").head_size == 0


def index(search: SearchIndex) -> None:
    while search.advance():
        pass
