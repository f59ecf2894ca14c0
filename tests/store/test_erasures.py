"""Grants and erasures in a store: what they do, in whatever order they arrive, and what is left of an erased record."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.entry import LogPage
from node.core.mirror import Mirror
from node.core.names import parse_record_id
from node.errors import StoreError
from node.lab.text import index_terms
from node.store import SEARCH_NAME, Store, open_store
from node.store.records import Filter
from tests.alliance import examples, list_all
from tests.builders import MemoryLog, build_card, record_bytes
from tests.disclosing import KINDS, Author, Reader, erased_indexes, held_openings, result_id
from tests.store.filling import JINAN, Mirrored
from tests.store.reading import index_all


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    """An author with an empty log."""
    made = Author(tmp_path / "jinan")
    yield made
    made.store.close()


def hits(store: Store, word: str) -> list[str]:
    return [item.key for item in store.records.search(f'words : "{word}"', Filter(), limit=1000).records]


def statement_bytes(kind: str, index: int, record_id: str, revision: int = 1, **members: object) -> bytes:
    """A grant or erasure by jinan."""
    extra: dict[str, object] = {"to": ["weifang"]} if kind == "grant" else {"reason": "wrong customer"}
    body = {"index": index, "id": record_id, **extra, **members}
    return record_bytes("jinan", str(index), kind=kind, schema=f"{kind}/1", revision=revision, body=body)


class TestStatementsWithoutEffect:
    """A statement that is wrong is a record like any other, and changes nothing."""

    @pytest.mark.parametrize(
        "wrong",
        [
            {"index": 7},
            {"record_id": "jinan/result/B@1"},
            {"record_id": "jinan/result/A@2"},
            {"record_id": "qingdao/result/A@1"},
            {"record_id": "jinan/erasure/A@1"},
        ],
        ids=["beyond itself", "another key", "another revision", "another author", "a statement"],
    )
    @pytest.mark.parametrize("kind", ["grant", "erasure"])
    def test_what_it_names_must_be_there(self, tmp_path: Path, kind: str, wrong: dict[str, object]) -> None:
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="A", audience=["qingdao"]), record_bytes(key="B", audience=["qingdao"]))
        log.append(statement_bytes(kind, **{"index": 0, "record_id": "jinan/result/A@1", **wrong}))  # type: ignore[arg-type]
        log.append(record_bytes(key="LAST"))
        reader = Reader(tmp_path / "qingdao", "qingdao")
        mirrored = Mirrored(reader.store, log, schemas=KINDS)
        mirrored.accept()
        assert set(held_openings(reader.store)) == {0, 1, 2, 3}
        assert (erased_indexes(reader.store), reader.store.records.count_quarantined()) == (set(), {})
        assert reader.store.records.find(result_id("A")).granted == ()  # type: ignore[union-attr]
        reader.store.close()

    def test_grants_say_their_members_in_order(self, tmp_path: Path) -> None:
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="A", audience=["qingdao"]))
        log.append(statement_bytes("grant", 0, "jinan/result/A@1", to=["yantai", "weifang"]))
        reader = Reader(tmp_path / "qingdao", "qingdao")
        Mirrored(reader.store, log, schemas=KINDS).accept()
        assert reader.store.records.find(result_id("A")).granted == ()  # type: ignore[union-attr]
        reader.store.close()


class TestOrder:
    def test_an_opening_that_comes_after_its_erasure_is_not_stored(self, tmp_path: Path) -> None:
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="A", body={"value": "unsagbar"}), record_bytes(key="B"))
        log.append(statement_bytes("erasure", 0, "jinan/result/A@1"))
        reader = Reader(tmp_path / "qingdao", "qingdao")
        mirrored = Mirrored(reader.store, log, schemas=KINDS)
        mirrored.accept(openings=[1, 2])
        assert erased_indexes(reader.store) == {0}
        mirrored.stage(3, 3, [0])
        assert set(held_openings(reader.store)) == {1, 2}
        reader.store.close()
        assert b"unsagbar" not in b"".join(path.read_bytes() for path in (tmp_path / "qingdao").iterdir())

    def test_an_opening_that_is_another_than_the_erasure_says_is_stored(self, tmp_path: Path) -> None:
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="A"), statement_bytes("erasure", 0, "jinan/result/OTHER@1"))
        reader = Reader(tmp_path / "qingdao", "qingdao")
        mirrored = Mirrored(reader.store, log, schemas=KINDS)
        mirrored.accept(openings=[1])
        assert erased_indexes(reader.store) == {0}
        mirrored.stage(2, 2, [0])
        assert (set(held_openings(reader.store)), erased_indexes(reader.store)) == ({0, 1}, set())
        reader.store.close()

    @pytest.mark.parametrize("named", [("A@9", "A@1"), ("A@1", "A@9"), ("B@1", "A@1", "A@9"), ("A@9", "B@1", "A@1")])
    @pytest.mark.parametrize("together", [True, False])
    def test_an_erasure_with_a_wrong_id_hides_none_with_the_right_one(
        self, tmp_path: Path, named: tuple[str, ...], together: bool
    ) -> None:
        """A node without the opening cannot tell which is right; it keeps the opening out all the same."""
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="A", body={"value": "unsagbar"}))
        for revision, record_id in enumerate(named, 1):
            log.append(statement_bytes("erasure", 0, f"jinan/result/{record_id}", revision))
            if not together:
                log.append(record_bytes(key=f"FILL-{revision}"))
        reader = Reader(tmp_path / "qingdao", "qingdao")
        mirrored = Mirrored(reader.store, log, schemas=KINDS)
        statements = list(range(1, log.size))
        mirrored.accept(openings=statements)
        assert erased_indexes(reader.store) == {0}
        # The newest is what is noted, until the opening shows which is right.
        last = reader.store.erasures.find(result_id(named[-1][0], int(named[-1][2:])))
        assert last is not None and last.audience == ("*",)
        mirrored.stage(log.size, log.size, [0])
        assert set(held_openings(reader.store)) == set(statements)
        right = reader.store.erasures.find(result_id("A", 1))
        assert right is not None and (right.index, right.reason) == (0, "wrong customer")
        assert reader.store.erasures.unswept() == []
        reader.store.close()
        assert b"unsagbar" not in b"".join(path.read_bytes() for path in (tmp_path / "qingdao").iterdir())

    def test_the_statement_itself_may_come_late(self, tmp_path: Path) -> None:
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="A", audience=["qingdao"]), record_bytes(key="B", audience=["qingdao"]))
        log.append(statement_bytes("erasure", 0, "jinan/result/A@1"), statement_bytes("grant", 1, "jinan/result/B@1"))
        reader = Reader(tmp_path / "qingdao", "qingdao")
        mirrored = Mirrored(reader.store, log, schemas=KINDS)
        before = mirrored.accept(openings=[0, 1])
        after = mirrored.stage(4, 4, [2, 3])
        assert (set(held_openings(reader.store)), erased_indexes(reader.store)) == ({1, 2, 3}, {0})
        granted = reader.store.records.find(result_id("B"))
        assert granted is not None
        assert granted.granted == ("weifang",)
        # Two openings, and one that was numbered anew: so whoever reads here is sent it.
        assert after.last_sequence == before.last_sequence + 3
        reader.store.close()

    def test_what_an_older_software_did_not_understand(self, tmp_path: Path) -> None:
        log = MemoryLog(JINAN)
        log.append(record_bytes(key="A"), statement_bytes("erasure", 0, "jinan/result/A@1"))
        reader = Reader(tmp_path / "qingdao", "qingdao")
        Mirrored(reader.store, log).accept()
        assert set(held_openings(reader.store)) == {0, 1}
        assert reader.store.records.revalidate(KINDS, after=0) is not None
        assert (set(held_openings(reader.store)), erased_indexes(reader.store)) == ({1}, {0})
        reader.store.close()

    @examples(25)
    @given(st.data())
    def test_any_order_ends_the_same(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        log = MemoryLog(JINAN)
        log.append(*(record_bytes(key=f"K{i}", audience=["qingdao"]) for i in range(4)))
        log.append(
            statement_bytes("grant", 0, "jinan/result/K0@1"),
            statement_bytes("grant", 1, "jinan/result/K1@1"),
            statement_bytes("erasure", 1, "jinan/result/K1@1"),
            statement_bytes("erasure", 2, "jinan/result/K2@1"),
        )
        at_once = data.draw(st.sets(st.integers(0, 7)))
        reader = Reader(tmp_path_factory.mktemp("any") / "home", "qingdao")
        mirrored = Mirrored(reader.store, log, schemas=KINDS)
        cut = data.draw(st.integers(0, 7))
        if cut:
            mirrored.stage(0, cut, sorted(at_once & set(range(cut))))
        mirrored.accept(openings=sorted(at_once & set(range(cut, 8))))
        late = data.draw(st.permutations(sorted(set(range(8)) - at_once)))
        while late:
            size = data.draw(st.integers(1, len(late)))
            mirrored.stage(8, 8, late[:size])
            late = late[size:]
        assert (set(held_openings(reader.store)), erased_indexes(reader.store)) == ({0, 3, 4, 5, 6, 7}, {1, 2})
        found = reader.store.records.find(result_id("K0"))
        assert found is not None
        assert found.granted == ("weifang",)
        reader.store.close()


class TestErased:
    def test_what_is_found_and_what_not(self, author: Author) -> None:
        author.push("A", "one")
        author.push("A", "two", revise=True)
        author.push("B")
        index_all(author.store)
        author.erase("result/A@2", "typing error")
        assert [item.key for item in list_all(author.store, Filter(kind="result"))] == ["B"]
        assert (hits(author.store, "one"), hits(author.store, "two")) == ([], [])
        assert author.store.records.find(result_id("A")) is None
        assert author.store.records.find(result_id("A", 2)) is None
        older = author.store.records.find(result_id("A", 1))
        assert older is not None
        assert older.revision == 1
        erased = author.store.erasures.find(result_id("A"))
        assert erased is not None
        assert (erased.index, erased.revision, erased.reason, erased.statement_index) == (1, 2, "typing error", 3)
        assert erased.erased_at == "2026-11-20T12:00:00.000Z"
        assert erased.audience == ("*",)
        assert author.store.erasures.find(result_id("A", 1)) is None
        assert author.store.erasures.find(result_id("B")) is None

    def test_the_log_verifies_as_before(self, author: Author) -> None:
        for i in range(300):
            author.push(f"K{i}")
        root = author.store.logs.tree(author.log.id).root(300)
        author.erase("result/K7")
        assert author.store.logs.tree(author.log.id).root(300) == root
        assert author.log.head is not None
        assert author.store.logs.tree(author.log.id).root(301) == author.log.head.root

    def test_only_what_is_swept_is_acknowledged_and_once(self, author: Author, tmp_path: Path) -> None:
        author.push("A")
        reader = Reader(tmp_path / "qingdao", "qingdao")
        reader.read(author.store)
        author.erase("result/A")
        reader.read(author.store)
        erasures, log_id = reader.store.erasures, reader.log.id
        assert (erasures.unswept(), erasures.to_acknowledge(log_id)) == ([log_id << 40], [])
        assert reader.store.sweeper.sweep() is True
        assert (erasures.unswept(), erasures.to_acknowledge(log_id)) == ([], [0])
        erasures.save_told(log_id, [0])
        assert erasures.to_acknowledge(log_id) == []
        assert reader.store.sweeper.sweep() is None
        reader.store.close()


# Gone means gone


def traces(folder: Path, texts: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """Which of the bytes occur in which file of a home, whatever kind of file it is."""
    found = []
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        raw = path.read_bytes()
        found += [(path.name, text) for text in texts if text in raw]
    return found


def word(label: str) -> str:
    """A word that occurs nowhere else."""
    return "".join(random.Random(label).choices("bcdfghkmpqrtvwxz", k=24))


class TestGone:
    def fill(self, author: Author, count: int, *, large: int = 0) -> dict[str, str]:
        """Records of all sizes, each with a word of its own."""
        words = {}
        for i in range(count):
            words[f"K{i}"] = word(f"K{i}")
            filler = " ".join(f"f{i}x{j}" for j in range(i * 37 % 400))
            author.push(f"K{i}", f"{words[f'K{i}']} {filler} {'y' * large}"[:20000], audience=["qingdao"])
        return words

    def evidence_of(self, author: Author, key: str, words: dict[str, str]) -> list[bytes]:
        """Bytes that must be nowhere after the erasure: its word, the salt, and every stretch of the record."""
        stored = author.store.records.find(result_id(key))
        assert stored is not None
        start, term = stored.record.index(words[key].encode()), words[key].encode()
        # The index leaves out what a term has in common with the one before it.
        return [term, term[4:], term[4:14], stored.salt, stored.salt[:12], stored.record[start : start + 60]]

    def test_nothing_is_left_in_any_file_of_author_and_peer(self, author: Author, tmp_path: Path) -> None:
        words = self.fill(author, 120) | {"BIG": word("BIG")}
        author.push("BIG", words["BIG"] + " z" * 9000)
        reader = Reader(tmp_path / "qingdao", "qingdao")
        reader.read(author.store)
        for store in (author.store, reader.store):
            index_all(store)
        doomed = ["K3", "K60", "K119", "BIG"]
        evidence = [item for key in doomed for item in self.evidence_of(author, key, words)]
        assert {name.removesuffix("-wal") for name, _ in traces(author.path, evidence)} == {
            "labmesh.sqlite",
            "search.sqlite",
        }
        for key in doomed:
            author.erase(f"result/{key}")
        reader.read(author.store)
        for member in (author, reader):
            store = member.store
            assert store.sweeper.sweep() is True
            assert traces(member.path, evidence) == []
            assert [hits(store, words[key]) for key in doomed] == [[]] * 4
            # The others are there, and found.
            assert [hits(store, words[key]) for key in ("K0", "K59", "K118")] == [["K0"], ["K59"], ["K118"]]
            assert store.search.backlog() == 4
        reader.store.close()

    def test_copies_that_sqlite_left_when_it_balanced_its_trees(self, author: Author, tmp_path: Path) -> None:
        """Late openings are inserted between others, so pages are split; without VACUUM some of this is found again."""
        words = self.fill(author, 150)
        reader = Reader(tmp_path / "qingdao", "qingdao")
        memory = MemoryLog(author.lab)
        page = author.store.logs.read_page(author.log, start=0, stop=150, reader="jinan")
        reader.read(author.store, messages=1)
        log = reader.log
        mirror = Mirror(build_card(memory.lab), reader="qingdao", kinds=KINDS)
        mirror.accept_announcement(author.log.head_note)
        bare = mirror.accept_page(LogPage(0, page.commitments, []), lambda _: None)
        log = reader.store.logs.accept_head(log, bare, mirror.accept_head(), server="jinan", now_ms=1)
        order = list(page.openings)
        random.Random(7).shuffle(order)
        for opening in order:
            late = mirror.accept_page(LogPage(150, b"", [opening]), lambda i: page.commitments[32 * i : 32 * i + 32])
            log = reader.store.logs.stage(log, late, server="jinan")
        index_all(reader.store)
        doomed = [f"K{i}" for i in range(0, 150, 3)]
        evidence = [item for key in doomed for item in self.evidence_of(author, key, words)]
        for key in doomed:
            author.erase(f"result/{key}")
        reader.read(author.store)
        assert reader.store.sweeper.sweep() is True
        assert traces(reader.path, evidence) == []
        assert hits(reader.store, words["K1"]) == ["K1"]
        reader.store.close()

    def test_a_reader_with_an_older_view_is_waited_for(self, author: Author) -> None:
        words = self.fill(author, 20)
        index_all(author.store)
        evidence = self.evidence_of(author, "K5", words)
        with author.store.database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM opening").scalar() == 20
            author.erase("result/K5")
            assert author.store.sweeper.sweep() is False
            assert author.store.erasures.unswept() != []
            # Pushes are taken meanwhile.
            author.push("MEANWHILE")
        assert author.store.sweeper.sweep() is True
        assert traces(author.path, evidence) == []

    @pytest.mark.parametrize("step", ["nothing", "index", "file"])
    def test_a_crash_before_the_end_is_made_good_after_the_start(
        self, author: Author, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = self.fill(author, 20)
        index_all(author.store)
        evidence = self.evidence_of(author, "K5", words)
        author.erase("result/K5")
        if step != "nothing":
            crashing = "rewrite" if step == "index" else "truncate"

            def crash(_: object) -> bool:
                raise StoreError("the power went")

            with monkeypatch.context() as patch:
                patch.setattr(type(author.store.database), crashing, crash)
                with pytest.raises(StoreError):
                    author.store.sweeper.sweep()
        author.reopen()
        assert author.store.erasures.unswept() != []
        assert author.store.sweeper.sweep() is True
        assert traces(author.path, evidence) == []
        index_all(author.store)
        assert hits(author.store, words["K6"]) == ["K6"]

    def test_what_was_being_indexed_while_it_was_erased(self, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
        words = self.fill(author, 5)
        evidence = self.evidence_of(author, "K2", words)
        real = index_terms

        def erase_meanwhile(texts: Sequence[str]) -> object:
            if author.store.erasures.find(result_id("K2")) is None:
                author.erase("result/K2")
            return real(texts)

        monkeypatch.setattr("node.store.search.index_terms", erase_meanwhile)
        index_all(author.store)
        assert author.store.sweeper.sweep() is True
        assert traces(author.path, evidence) == []
        assert (hits(author.store, words["K2"]), hits(author.store, words["K3"])) == ([], ["K3"])

    def test_a_granted_record_is_indexed_once_and_leaves_nothing(self, author: Author) -> None:
        words = self.fill(author, 5)
        index_all(author.store)
        evidence = self.evidence_of(author, "K2", words)
        for member in ("weifang", "yantai"):
            author.grant("result/K2", member)
            index_all(author.store)
        assert hits(author.store, words["K2"]) == ["K2"]
        author.erase("result/K2")
        assert author.store.sweeper.sweep() is True
        assert traces(author.path, evidence) == []

    def test_an_index_of_a_format_that_did_not_overwrite_is_made_again(self, author: Author) -> None:
        self.fill(author, 3)
        index_all(author.store)
        author.store.close()
        with closing(sqlite3.connect(author.path / SEARCH_NAME)) as connection:
            connection.execute("PRAGMA user_version=1")
        author.store = open_store(author.path)
        assert author.store.search.backlog() == 3

    def test_the_id_stays_by_design(self, author: Author) -> None:
        author.push("PATIENT-4711", "text")
        author.erase("result/PATIENT-4711")
        assert author.store.sweeper.sweep() is True
        assert traces(author.path, [b"PATIENT-4711"]) != []

    def test_files_are_still_for_the_daemon_alone(self, author: Author) -> None:
        self.fill(author, 3)
        index_all(author.store)
        author.erase("result/K1")
        author.store.sweeper.sweep()
        modes = {path.name: path.stat().st_mode & 0o077 for path in author.path.iterdir() if "search" in path.name}
        assert set(modes.values()) == {0}, modes


def test_revisions_count_on_after_an_erasure(author: Author) -> None:
    author.push("A", "one")
    author.erase("result/A")
    assert parse_record_id("jinan/result/A").revision is None
    outcome = author.push("A", "one")
    assert outcome.rejected == 1
    assert "was erased at 2026-11-20T12:00:00.000Z (wrong customer); use --revise" in outcome.errors[0].message
    assert author.push("A", "one", revise=True).accepted == 1
    found = author.store.records.find(result_id("A"))
    assert found is not None
    assert found.revision == 2
    assert author.push("A", "one").unchanged == 1
