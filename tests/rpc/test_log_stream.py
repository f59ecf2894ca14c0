"""What one reader of a log is sent next: announcements, pages and late openings, never beyond what may be published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labmesh.v1 import peer_pb2
from node.core.checkpoint import parse_checkpoint
from node.core.entry import SEQUENCE_MAX, LogPage, split_commitments
from node.errors import NotFoundError
from node.rpc.convert import message_from_wire
from node.rpc.log_stream import LogStream
from node.store import Store
from node.store import logs as logs_module
from node.store.logs import LogState
from tests.alliance import examples
from tests.builders import build_log, record_bytes
from tests.new_stores import new_store
from tests.store.filling import JINAN, Mirrored, OwnLog


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnLog]:
    """A log with checkpoints of the sizes 2, 4, 6, 8; every other record is private."""
    log = OwnLog(new_store(tmp_path / "home"))
    for i in range(4):
        log.append(record_bytes(key=f"A{i}"), record_bytes(key=f"B{i}", audience=["qingdao"]))
    yield log
    log.store.close()


def read(
    store: Store,
    *,
    reader: str = "qingdao",
    ceiling: Callable[[LogState], int] = lambda log: log.head_size,
    **request: Any,
) -> LogStream:
    wanted = peer_pb2.ReadLogRequest(**{"origin": JINAN.origin, "entries_max": 1000, **request})
    return LogStream(store, wanted, reader=reader, ceiling=ceiling)


def drain(stream: LogStream) -> list[int | tuple[int, int, list[int]]]:
    """Everything up to now: an announced size, or start, count and opened indexes of a page."""
    found: list[int | tuple[int, int, list[int]]] = []
    while messages := stream.advance():
        for message in map(message_from_wire, messages):
            if isinstance(message, LogPage):
                count = len(split_commitments(message.commitments))
                found.append((message.start, count, [item.index for item in message.openings]))
            else:
                found.append(parse_checkpoint(message).size)
    return found


class TestReading:
    def test_from_the_beginning(self, own: OwnLog) -> None:
        assert drain(read(own.store)) == [8, (0, 8, [0, 1, 2, 3, 4, 5, 6, 7])]
        assert drain(read(own.store, reader="yantai")) == [8, (0, 8, [0, 2, 4, 6])]

    def test_an_unknown_log(self, own: OwnLog) -> None:
        with pytest.raises(NotFoundError, match="is not held here"):
            read(own.store, origin="quality.jinan.example/log/weifang").advance()

    def test_an_empty_log(self, tmp_path: Path) -> None:
        empty = OwnLog(new_store(tmp_path / "empty"))
        stream = read(empty.store)
        assert drain(stream) == []
        empty.append_numbered(1)
        assert drain(stream) == [1, (0, 1, [0])]
        empty.store.close()

    def test_what_comes_later(self, own: OwnLog) -> None:
        stream = read(own.store)
        drain(stream)
        assert stream.advance() == []
        own.append_numbered(2)
        own.append_numbered(1)
        assert drain(stream) == [11, (8, 3, [8, 9, 10])]

    def test_no_further_than_the_reader_can_stage(self, own: OwnLog) -> None:
        assert drain(read(own.store, entries_max=5)) == [4, (0, 4, [0, 1, 2, 3]), 8, (4, 4, [4, 5, 6, 7])]
        assert drain(read(own.store, entries_max=1)) == drain(read(own.store, entries_max=0))
        assert [item for item in drain(read(own.store, entries_max=1)) if isinstance(item, int)] == [2, 4, 6, 8]

    def test_pages_are_cut(self, own: OwnLog, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logs_module, "PAGE_ENTRIES_MAX", 3)
        assert drain(read(own.store)) == [8, (0, 3, [0, 1, 2]), (3, 3, [3, 4, 5]), (6, 2, [6, 7])]

    def test_what_is_staged_here_is_not_served(self, tmp_path: Path) -> None:
        mirrored = Mirrored(new_store(tmp_path / "home"), build_log(JINAN, 3))
        mirrored.accept()
        mirrored.memory.append_numbered(2)
        mirrored.stage(3, 5)
        assert drain(read(mirrored.store, reader="yantai")) == [3, (0, 3, [0, 1, 2])]
        mirrored.store.close()


class TestResuming:
    def test_from_the_middle(self, own: OwnLog) -> None:
        assert drain(read(own.store, start=3, after=3)) == [8, (3, 5, [3, 4, 5, 6, 7])]
        assert drain(read(own.store, start=8, after=8)) == [8]

    def test_what_was_missed_comes_last(self, own: OwnLog) -> None:
        assert drain(read(own.store, start=6, after=3)) == [8, (6, 2, [6, 7]), (8, 0, [3, 4, 5])]
        assert drain(read(own.store, start=8, after=0, reader="yantai")) == [8, (8, 0, [0, 2, 4, 6])]

    def test_late_openings_arrive_on_a_live_stream(self, tmp_path: Path) -> None:
        mirrored = Mirrored(new_store(tmp_path / "home"), build_log(JINAN, 4))
        mirrored.accept(openings=[1])
        stream = read(mirrored.store, reader="yantai")
        assert drain(stream) == [4, (0, 4, [1])]
        mirrored.announce()
        late = mirrored.memory.page(4, 4, openings=[2])
        page = mirrored.mirror.accept_page(late, lambda i: mirrored.store.logs.commitment_at(mirrored.state.id, i))
        mirrored.store.logs.stage(mirrored.state, page, server="jinan")
        assert drain(stream) == [(4, 0, [2])]
        assert drain(stream) == []
        mirrored.store.close()

    def test_a_reader_ahead_of_what_may_be_published_waits(self, own: OwnLog) -> None:
        allowed = [4]
        stream = read(own.store, start=6, after=6, ceiling=lambda _: allowed[0])
        assert drain(stream) == []
        allowed[0] = 8
        assert drain(stream) == [8, (6, 2, [6, 7])]


class TestCeiling:
    @pytest.mark.parametrize(("ceiling", "size"), [(8, 8), (7, 6), (2, 2)])
    def test_nothing_beyond_it(self, own: OwnLog, ceiling: int, size: int) -> None:
        assert drain(read(own.store, ceiling=lambda _: ceiling)) == [size, (0, size, list(range(size)))]

    @pytest.mark.parametrize("ceiling", [0, 1])
    def test_nothing_at_all(self, own: OwnLog, ceiling: int) -> None:
        assert drain(read(own.store, ceiling=lambda _: ceiling)) == []

    def test_it_rises_while_the_stream_is_open(self, own: OwnLog) -> None:
        allowed = [0]
        stream = read(own.store, ceiling=lambda _: allowed[0])
        assert drain(stream) == []
        allowed[0] = 3
        assert drain(stream) == [2, (0, 2, [0, 1])]
        allowed[0] = 8
        assert drain(stream) == [8, (2, 6, [2, 3, 4, 5, 6, 7])]


@pytest.mark.parametrize("name", ["start", "after", "entries_max"])
@pytest.mark.parametrize("value", [2**40, 2**62, SEQUENCE_MAX, 2**63, 2**64 - 1])
def test_numbers_that_no_log_has_are_no_fault_of_ours(own: OwnLog, name: str, value: int) -> None:
    request: dict[str, Any] = {"start": 2, "after": 2, name: value}
    page = (2, 6, [2, 3, 4, 5, 6, 7])
    expected: dict[str, Any] = {
        "start": [],
        # Beyond what this server has counted: it was restored, and repeats everything; only 2^63-1 asks for nothing late.
        "after": [8, page] if value >= SEQUENCE_MAX else [8, page, (8, 0, [0, 1])],
        "entries_max": [8, page],
    }
    assert drain(read(own.store, **request)) == expected[name]


def test_any_interruption_loses_nothing(own: OwnLog, monkeypatch: pytest.MonkeyPatch) -> None:
    @examples(12)
    @given(st.integers(1, 5), st.integers(1, 9), st.lists(st.integers(1, 4), max_size=4))
    def interrupted(page: int, entries_max: int, breaks: list[int]) -> None:
        monkeypatch.setattr(logs_module, "PAGE_ENTRIES_MAX", page)
        start = after = 0
        seen: dict[int, bytes] = {}
        commitments: list[bytes] = []
        for steps in [*breaks, 40]:
            stream = read(own.store, reader="yantai", start=start, after=after, entries_max=entries_max)
            for _ in range(steps):
                for message in map(message_from_wire, stream.advance()):
                    if isinstance(message, LogPage):
                        assert not message.commitments or message.start == len(commitments)
                        commitments += split_commitments(message.commitments)
                        seen |= {item.index: item.record for item in message.openings}
                        after = message.cursor or after
            start = len(commitments)
        assert commitments == own.memory.commitments
        assert seen == {index: own.memory.records[index] for index in (0, 2, 4, 6)}

    interrupted()
