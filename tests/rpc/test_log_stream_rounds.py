"""Rounds: a grant before what it opens, a cursor only when nothing is held back, and nothing skipped whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labmesh.v1 import peer_pb2
from node.core.entry import SEQUENCE_MAX, LogPage
from node.core.names import parse_record_id
from node.errors import MalformedError
from node.rpc.convert import message_from_wire
from node.rpc.log_stream import LogStream
from node.store import late as late_module
from node.store import logs as logs_module
from tests.alliance import examples
from tests.disclosing import MEMBERS, Author, Reader, content_of, erased_indexes, held_openings


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    """Ten records: even ones for everyone, odd ones for yantai alone."""
    made = Author(tmp_path / "jinan")
    for i in range(10):
        made.push(f"K{i}", audience=["yantai"] if i % 2 else ["*"])
    yield made
    made.store.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Qingdao, which may not read the odd ones."""
    made = Reader(tmp_path / "qingdao", "qingdao")
    yield made
    made.store.close()


def pages(messages: list[bytes | LogPage]) -> list[tuple[int, list[int], int]]:
    """Number of commitments, opened indexes, and cursor of each page."""
    return [
        (len(page.commitments) // 32, [item.index for item in page.openings], page.cursor)
        for page in messages
        if isinstance(page, LogPage)
    ]


def start(author: Author, *, after: int = 0, begin: int = 0, reader: str = "qingdao", entries_max: int = 1000) -> LogStream:
    request = peer_pb2.ReadLogRequest(origin=author.lab.origin, start=begin, after=after, entries_max=entries_max)
    return LogStream(author.store, request, reader=reader, ceiling=lambda log: log.head_size)


def drain(stream: LogStream) -> list[tuple[int, list[int], int]]:
    found: list[bytes | LogPage] = []
    while messages := stream.advance():
        found += map(message_from_wire, messages)
    return pages(found)


class TestGranted:
    def test_it_comes_after_the_page_with_the_grant(self, author: Author) -> None:
        author.grant("result/K3", "qingdao")
        # Entry 3 was numbered anew, as 12; its opening is not among those of the page.
        assert drain(start(author)) == [(11, [0, 2, 4, 6, 8, 10], 0), (0, [3], 12)]

    def test_it_comes_to_who_has_the_entry_already(self, author: Author) -> None:
        stream = start(author)
        assert drain(stream) == [(10, [0, 2, 4, 6, 8], 10)]
        author.grant("result/K3", "qingdao")
        assert drain(stream) == [(1, [10], 0), (0, [3], 12)]
        assert drain(stream) == []
        assert drain(start(author, begin=11, after=12)) == []

    def test_a_stream_that_broke_between_the_two_says_it_again(self, author: Author) -> None:
        author.grant("result/K3", "qingdao")
        assert drain(start(author, begin=11, after=10)) == [(0, [10, 3], 12)]

    def test_nobody_else_is_sent_it(self, author: Author) -> None:
        author.grant("result/K3", "qingdao")
        assert drain(start(author, reader="weifang")) == [(11, [0, 2, 4, 6, 8], 12)]

    def test_who_could_read_it_before_gets_the_grant(self, author: Author) -> None:
        author.grant("result/K3", "qingdao")
        every = [*range(11)]
        assert drain(start(author, reader="yantai")) == [(11, every, 12)]

    def test_the_author_gets_everything_in_the_pages(self, author: Author) -> None:
        author.grant("result/K3", "qingdao")
        assert drain(start(author, reader="jinan")) == [(11, [*range(11)], 12)]

    def test_the_cursor_waits_for_a_grant_beyond_the_announced_checkpoint(self, author: Author) -> None:
        author.grant("result/K3", "qingdao")
        found = drain(start(author, entries_max=5))
        assert found == [(5, [0, 2, 4], 0), (5, [6, 8], 0), (1, [10], 0), (0, [3], 12)]
        # Broken off before the grant: the number named is the old one, so nothing is skipped.
        assert drain(start(author, begin=5, entries_max=5)) == [
            (5, [6, 8], 0), (0, [0, 2, 4], 0), (1, [10], 0), (0, [3], 12)
        ]  # fmt: skip

    def test_late_openings_come_in_pages(self, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(late_module, "PAGE_ENTRIES_MAX", 2)
        for i in (1, 3, 5, 7, 9):
            author.grant(f"result/K{i}", "qingdao")
        found = drain(start(author))
        assert found == [
            (15, [0, 2, 4, 6, 8, 10, 11, 12, 13, 14], 0), (0, [1, 3], 0), (0, [5, 7], 0), (0, [9], 20)
        ]  # fmt: skip

    def test_an_erased_entry_is_not_sent_although_it_was_granted(self, author: Author) -> None:
        author.grant("result/K3", "qingdao")
        author.erase("result/K3")
        assert drain(start(author)) == [(12, [0, 2, 4, 6, 8, 10, 11], 13)]
        assert drain(start(author, begin=12)) == [(0, [0, 2, 4, 6, 8, 10, 11], 13)]

    def test_a_mirror_takes_it_only_with_the_grant(self, author: Author, reader: Reader) -> None:
        author.grant("result/K3", "qingdao")
        assert reader.read(author.store) == 2
        assert set(held_openings(reader.store)) == {0, 2, 3, 4, 6, 8, 10}
        assert reader.store.records.find(parse_record_id("jinan/result/K3")) is not None

    def test_a_mirror_refuses_it_without(self, author: Author, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
        author.grant("result/K3", "weifang")
        monkeypatch.setattr(late_module, "_is_granted", lambda _: late_module._OPENING.c.audience.contains("+weifang+"))
        monkeypatch.setattr(late_module.LateStore, "granted_from", lambda *_, **__: [(10, 3)])
        with pytest.raises(MalformedError, match="the opening of entry 3 is not for qingdao"):
            reader.read(author.store)
        assert set(held_openings(reader.store)) == {0, 2, 4, 6, 8}


class TestCursor:
    def test_each_page_of_a_round_without_late_openings_says_it(
        self, author: Author, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs_module, "PAGE_ENTRIES_MAX", 4)
        assert drain(start(author)) == [(4, [0, 2], 10), (4, [4, 6], 10), (2, [8], 10)]

    def test_a_round_with_late_openings_says_it_at_its_end(self, author: Author) -> None:
        assert drain(start(author, begin=8, after=3)) == [(2, [8], 0), (0, [4, 6], 10)]

    def test_a_number_that_the_server_has_not_reached(self, author: Author) -> None:
        assert drain(start(author, begin=10, after=11)) == [(0, [0, 2, 4, 6, 8], 10)]

    def test_who_asks_for_nothing_late_is_told_no_cursor(self, author: Author) -> None:
        author.grant("result/K3", "qingdao")
        assert drain(start(author, begin=6, after=SEQUENCE_MAX)) == [(5, [6, 8, 10], 0)]

    def test_only_what_was_told_is_stored(self, author: Author, reader: Reader) -> None:
        reader.read(author.store, messages=2)
        assert reader.store.logs.last_sequence_from(reader.log.id, "jinan") == 10
        author.grant("result/K3", "qingdao")
        reader.read(author.store, messages=2)
        assert reader.store.logs.last_sequence_from(reader.log.id, "jinan") == 10
        reader.read(author.store)
        assert reader.store.logs.last_sequence_from(reader.log.id, "jinan") == 12


@dataclass
class World:
    """An author, a reader that also serves, and one that reads from that reader; what they should hold."""

    author: Author
    relay: Reader
    third: Reader
    audiences: dict[int, set[str]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Know the log, so that it can be served."""
        assert self.relay.log.head_size == self.third.log.head_size == 0

    def push(self, audience: list[str]) -> None:
        key = f"K{len(self.keys)}"
        self.keys[key] = self.author.log.head_size
        self.audiences[self.keys[key]] = set(audience)
        self.author.push(key, audience=audience)

    def grant(self, number: int, member: str) -> None:
        found = self.pick(number)
        if found is None:
            return
        (key, index), size = found, self.author.log.head_size
        self.author.grant(f"result/{key}", member)
        if self.author.log.head_size > size:
            self.audiences[index].add(member)
            self.audiences[size] = set(self.audiences[index])

    def erase(self, number: int) -> None:
        found = self.pick(number)
        if found is not None:
            self.audiences[self.author.log.head_size] = set(self.audiences[found[1]])
            self.author.erase(f"result/{found[0]}")
            self.erased.add(found[1])

    def read(self, from_author: bool, messages: int, entries_max: int) -> None:
        """One connection, by the relay or by who reads from it, that breaks off after some messages."""
        if from_author:
            self.relay.read(self.author.store, messages=messages, entries_max=entries_max)
        else:
            self.third.read(self.relay.store, name="qingdao", messages=messages, entries_max=entries_max)

    def pick(self, number: int) -> tuple[str, int] | None:
        """Key and index of a record that is not erased; None where the number meets another."""
        if not self.keys:
            return None
        key = f"K{number % len(self.keys)}"
        return None if self.keys[key] in self.erased else (key, self.keys[key])

    def expected(self, *readers: str) -> set[int]:
        """Entries that all of these may read and that are there."""
        return {
            index
            for index, audience in self.audiences.items()
            if index not in self.erased and all("*" in audience or reader in audience for reader in readers)
        }

    def settle(self) -> dict[str, set[int]]:
        """Let everyone read to the end; returns the entries that each can open, which are the author's own bytes."""
        origin = self.author.lab.origin
        self.relay.read(self.author.store)
        self.third.read(self.relay.store, name="qingdao")
        found: dict[str, set[int]] = {}
        for name, held in (("qingdao", self.relay), ("yantai", self.third)):
            openings = held_openings(held.store)
            found[name] = set(openings)
            assert all(
                openings[index] == record for index, record in held_openings(self.author.store).items() if index in openings
            )
            assert held.log.head_note == self.author.log.head_note
            known = {content_of(raw)["body"]["index"] for raw in openings.values() if content_of(raw)["kind"] == "erasure"}
            assert erased_indexes(held.store) == known
            assert held.store.logs.find_log(origin) == held.log
        # Everything was told, so a new connection repeats nothing.
        assert self.relay.read(self.author.store) == 0
        assert self.third.read(self.relay.store, name="qingdao") == 0
        return found


SUBSETS = st.sampled_from([["*"], [], ["qingdao"], ["yantai"], ["qingdao", "yantai"], ["weifang"]])
STEPS = st.one_of(
    st.tuples(st.just("push"), SUBSETS),
    st.tuples(st.just("grant"), st.integers(0, 30), st.sampled_from(MEMBERS[1:])),
    st.tuples(st.just("erase"), st.integers(0, 30)),
    st.tuples(st.just("read"), st.booleans(), st.integers(1, 5), st.integers(1, 8)),
)


def test_whatever_happens_a_reader_ends_with_exactly_what_it_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    @examples(15)
    @given(st.integers(1, 4), st.lists(STEPS, min_size=5, max_size=30))
    def run(page: int, steps: list[tuple[Any, ...]]) -> None:
        monkeypatch.setattr(logs_module, "PAGE_ENTRIES_MAX", page)
        monkeypatch.setattr(late_module, "PAGE_ENTRIES_MAX", page)
        with TemporaryDirectory() as folder:
            path = Path(folder)
            world = World(Author(path / "jinan"), Reader(path / "qingdao", "qingdao"), Reader(path / "yantai", "yantai"))
            for name, *arguments in steps:
                getattr(world, name)(*arguments)
            may_read = {"qingdao": world.expected("qingdao"), "yantai": world.expected("qingdao", "yantai")}
            assert world.settle() == may_read
            for member in (world.author, world.relay, world.third):
                member.store.close()

    run()
