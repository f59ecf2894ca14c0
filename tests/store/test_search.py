"""The search index as a file that may be lost, and what laboratories look for in rows of a real scope of accreditation."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from node.core.kinds import Kinds
from node.errors import StoreError
from node.lab.text import query_expression
from node.schemas import load_schemas
from node.store import SEARCH_NAME, Store, open_store
from node.store.records import Filter
from tests.alliance import SimulatedMember
from tests.builders import build_labs, build_log
from tests.store.conftest import OpenStore
from tests.store.filling import OwnLog
from tests.store.reading import index_all

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "cnas-l0867.jsonl"


def count_hits(store: Store) -> int:
    return len(store.records.search('words : "wj"', Filter(), limit=1000).records)


def _set_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=77")
        connection.commit()


def _drop_progress(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE progress")
        connection.commit()


class TestFile:
    @pytest.mark.parametrize(
        "change",
        [
            Path.unlink,
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(b"no database at all" * 1000),
            lambda path: path.write_bytes(path.read_bytes()[:1000]),
            _set_format,
            _drop_progress,
        ],
        ids=["lost", "empty", "overwritten", "cut", "other format", "half made"],
    )
    def test_a_lost_or_damaged_index_is_made_again(self, opened: OpenStore, change: Callable[[Path], object]) -> None:
        OwnLog(opened.store).append_numbered(7)
        index_all(opened.store)
        assert count_hits(opened.store) == 7
        opened.store.close()
        change(opened.path / SEARCH_NAME)
        opened.store = store = open_store(opened.path)
        assert (count_hits(store), store.search.backlog(), store.records.count()) == (0, 7, 7)
        index_all(store)
        assert (count_hits(store), store.search.backlog()) == (7, 0)

    def test_an_index_that_is_sound_is_kept(self, opened: OpenStore) -> None:
        OwnLog(opened.store).append_numbered(7)
        index_all(opened.store)
        store = opened.reopen()
        assert (count_hits(store), store.search.backlog(), store.search.advance()) == (7, 0, 0)

    def test_an_index_of_a_later_store_is_made_again(self, opened: OpenStore, tmp_path: Path) -> None:
        own = OwnLog(opened.store)
        own.append_numbered(2)
        opened.store.database.backup(tmp_path / "earlier")
        own.append_numbered(3, body={"value": "1", "unit": "forgotten"})
        index_all(opened.store)
        opened.store.close()
        for path in opened.path.glob("labmesh.sqlite*"):
            path.unlink()
        (tmp_path / "earlier").rename(opened.path / "labmesh.sqlite")
        opened.store = store = open_store(opened.path)
        again = OwnLog(store)
        again.memory = build_log(own.lab, 2)
        again.append_numbered(4, body={"value": "1", "unit": "remembered"})
        index_all(store)
        assert count_hits(store) == 6
        assert len(store.records.search('words : "remembered"', Filter(), limit=9).records) == 4
        assert store.records.search('words : "forgotten"', Filter(), limit=9).records == []

    def test_a_crash_neither_skips_nor_doubles_a_record(self, opened: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
        OwnLog(opened.store).append_numbered(3)
        real = opened.store.search._connection

        class Crashing:
            """Fails where the progress is written."""

            in_transaction = True

            def execute(self, statement: str, *parameters: object) -> object:
                if statement.startswith("INSERT OR REPLACE INTO progress"):
                    raise sqlite3.OperationalError("disk I/O error")
                return real.execute(statement, *parameters)  # type: ignore[arg-type]

            def executemany(self, *parameters: object) -> object:
                return real.executemany(*parameters)  # type: ignore[arg-type]

        monkeypatch.setattr(opened.store.search, "_connection", Crashing())
        with pytest.raises(StoreError, match="the search index refused: disk I/O error"):
            opened.store.search.advance()
        monkeypatch.undo()
        assert count_hits(opened.store) == 0
        assert opened.store.search.advance() == 3
        assert (count_hits(opened.store), opened.store.search.advance()) == (3, 0)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedMember]:
    """A member with the rows of a real scope."""
    member = SimulatedMember(build_labs(1)[0], tmp_path_factory.mktemp("search") / "home", schemas=Kinds(load_schemas()))
    member.push(*EXAMPLE.read_bytes().splitlines(), kind="capability")
    index_all(member.store)
    yield member
    member.store.close()


class TestScope:
    @pytest.mark.parametrize(
        ("question", "count", "expected"),
        [
            ("铅", 2, "铅"),
            ("水分", 2, "水分"),
            ("ＧＢ／Ｔ 5009.12", 1, "GB/T 5009.12-2003"),
            ("gb/t5009.12-2003", 1, "GB/T 5009.12-2003"),
            ("GB/T 5009.12—2003 铅", 1, "铅"),
        ],
    )
    def test_what_people_type_finds_the_rows(
        self, laboratory: SimulatedMember, question: str, count: int, expected: str
    ) -> None:
        page = laboratory.store.records.search(query_expression(question), Filter(), limit=50)
        rows = [stored.record.decode() for stored in page.records]
        assert rows
        assert all(expected in row for row in rows)
        everything = [line.decode() for line in EXAMPLE.read_bytes().splitlines()]
        assert len(rows) == sum(expected in row for row in everything)
        assert len(rows) <= count

    @pytest.mark.parametrize("question", ["GB/T 5009.1", "GB 5009.12-2010", "分水", "", '"', "words : *", "铅 没有"])
    def test_what_is_not_there_is_not_found(self, laboratory: SimulatedMember, question: str) -> None:
        assert laboratory.store.records.search(query_expression(question), Filter(), limit=50).records == []
