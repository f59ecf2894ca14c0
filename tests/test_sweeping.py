"""The daemon's part that sweeps behind erasures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import node.daemon.sweeping as sweeping_module
from node.daemon.sweeping import REST, Sweeping
from node.errors import StoreError
from node.push import PushOptions
from tests.alliance import drafts, wait_until
from tests.disclosing import Author, Reader, result_id

SLOW_S = 0.02


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    made = Author(tmp_path / "jinan")
    made.push("FIRST", "unsagbar")
    made.push("SECOND", "geheim")
    yield made
    made.store.close()


class Watched:
    """The sweeping of a store, with the times at which it began and ended."""

    def __init__(self, home: Author | Reader, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.began, self.ended, self.told = home, list[float](), list[float](), 0
        self.alarms: list[str] = []
        self.refusal: StoreError | None = None
        self._sweep = home.store.sweeper.sweep
        monkeypatch.setattr(home.store.sweeper, "sweep", self.sweep)
        self.part = Sweeping(home.store.sweeper, on_swept=self.count, on_alarm=self.alarms.append)

    def count(self) -> None:
        self.told += 1

    def sweep(self, *, with_staged: bool = True) -> bool | None:
        if self.refusal is not None:
            raise self.refusal
        begin = time.monotonic()
        done = self._sweep(with_staged=with_staged)
        if done:
            time.sleep(SLOW_S)
            self.began.append(begin)
            self.ended.append(time.monotonic())
        return done

    async def erase(self, key: str) -> None:
        assert isinstance(self.home, Author)
        await asyncio.to_thread(self.home.disclosure.erase, result_id(key), "wrong customer")
        self.part.notice()

    def left(self, word: bytes) -> bool:
        return any(word in path.read_bytes() for path in self.home.path.iterdir())


def run_beside(watched: Watched, work) -> None:
    async def inside() -> None:
        task = asyncio.create_task(watched.part.run())
        try:
            await work()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(inside())


def test_many_erasures_keep_pushes_waiting_for_a_fifth_of_the_time(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(author, monkeypatch)

    async def work() -> None:
        await watched.erase("FIRST")
        await wait_until(lambda: watched.told == 1)
        assert not watched.left(b"unsagbar")
        await watched.erase("SECOND")
        await wait_until(lambda: watched.told == 2)
        assert not watched.left(b"geheim")

    run_beside(watched, work)
    took = watched.ended[0] - watched.began[0]
    assert took >= SLOW_S
    assert watched.began[1] - watched.ended[0] >= REST * took


def test_what_an_earlier_process_left_is_swept_at_once(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    author.disclosure.erase(result_id("FIRST"), "wrong customer")
    watched = Watched(author, monkeypatch)

    async def work() -> None:
        await wait_until(lambda: watched.told == 1)

    run_beside(watched, work)
    assert not watched.left(b"unsagbar")


def test_a_full_disk_is_an_alarm_and_tried_again(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(author, monkeypatch)
    watched.refusal = StoreError("the database refused: database or disk is full")

    async def work() -> None:
        await watched.erase("FIRST")
        await wait_until(lambda: watched.alarms)
        assert watched.left(b"unsagbar") and watched.told == 0
        watched.refusal = None
        watched.part.notice()
        await wait_until(lambda: watched.told == 1)

    run_beside(watched, work)
    assert "database or disk is full" in watched.alarms[0]
    assert not watched.left(b"unsagbar")


class TestStaged:
    """A reader that takes half of what was announced, and then drops it, again and again: the author breaks off or lies."""

    @pytest.fixture
    def reader(self, author: Author, tmp_path: Path) -> Iterator[Reader]:
        made = Reader(tmp_path / "qingdao", "qingdao")
        made.read(author.store)
        author.push("THIRD", "verschwunden")
        author.ledger.push_records(PushOptions("result"), drafts(1200))
        yield made
        made.store.close()

    def drop(self, author: Author, reader: Reader) -> None:
        reader.read(author.store, messages=2)
        assert reader.log.staged.size > reader.log.head_size
        reader.store.logs.drop_staged(reader.log)

    async def drop_often(self, author: Author, reader: Reader, watched: Watched, times: int = 3) -> None:
        for _ in range(times):
            await asyncio.to_thread(self.drop, author, reader)
            watched.part.notice()
            await asyncio.sleep(5 * SLOW_S)

    def test_what_is_dropped_again_and_again_is_swept_once(
        self, author: Author, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watched = Watched(reader, monkeypatch)

        async def work() -> None:
            await self.drop_often(author, reader, watched)
            await wait_until(lambda: watched.told == 1)
            await self.drop_often(author, reader, watched)
            await asyncio.sleep(2 * REST * (watched.ended[0] - watched.began[0]))
            assert watched.told == 1

        run_beside(watched, work)
        assert reader.store.erasures.owed().total >= 3

    def test_when_the_pause_is_over_the_rest_is_swept(
        self, author: Author, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without anybody saying that there is something."""
        monkeypatch.setattr(sweeping_module, "STAGED_PAUSE_S", 0.6)
        monkeypatch.setattr(sweeping_module, "STAGED_REST", 0)
        watched = Watched(reader, monkeypatch)

        async def work() -> None:
            await self.drop_often(author, reader, watched, 1)
            await wait_until(lambda: watched.told == 1)
            await asyncio.to_thread(self.drop, author, reader)
            await wait_until(lambda: watched.told == 2)
            assert not watched.left(b"verschwunden")

        run_beside(watched, work)
        assert watched.began[1] - watched.ended[0] >= 0.5
        assert reader.store.erasures.owed() == (0, 0)

    def test_the_pause_is_longer_where_sweeping_takes_long(
        self, author: Author, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweeping_module, "STAGED_PAUSE_S", 0.0)
        watched = Watched(reader, monkeypatch)

        async def work() -> None:
            await self.drop_often(author, reader, watched, 1)
            await wait_until(lambda: watched.told == 1)
            took = watched.ended[0] - watched.began[0]
            await self.drop_often(author, reader, watched, 1)
            await asyncio.sleep(2 * REST * took)
            assert watched.told == 1

        run_beside(watched, work)

    def test_an_erasure_is_swept_at_once_all_the_same(
        self, author: Author, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watched = Watched(reader, monkeypatch)

        async def work() -> None:
            await self.drop_often(author, reader, watched)
            await wait_until(lambda: watched.told == 1)
            await self.drop_often(author, reader, watched, 1)
            await asyncio.to_thread(author.erase, "result/FIRST")
            await asyncio.to_thread(reader.read, author.store)
            watched.part.notice()
            await wait_until(lambda: watched.told == 2)

        run_beside(watched, work)
        assert not watched.left(b"unsagbar")
        assert reader.store.erasures.owed() == (0, 0) and reader.store.erasures.unswept() == []

    def test_a_failed_sweep_is_put_off_like_any(
        self, author: Author, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watched = Watched(reader, monkeypatch)
        watched.refusal = StoreError("the database refused: database or disk is full")

        async def work() -> None:
            await self.drop_often(author, reader, watched, 1)
            await wait_until(lambda: watched.alarms)
            watched.refusal = None
            await self.drop_often(author, reader, watched, 1)
            assert watched.told == 0

        run_beside(watched, work)
