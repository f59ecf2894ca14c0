"""The daemon's part that sweeps behind erasures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.daemon.sweeping import REST, Sweeping
from node.errors import StoreError
from tests.alliance import wait_until
from tests.disclosing import Author, result_id

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

    def __init__(self, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
        self.author, self.began, self.ended, self.told = author, list[float](), list[float](), 0
        self.alarms: list[str] = []
        self.refusal: StoreError | None = None
        self._sweep = author.store.sweeper.sweep
        monkeypatch.setattr(author.store.sweeper, "sweep", self.sweep)
        self.part = Sweeping(author.store.sweeper, on_swept=self.count, on_alarm=self.alarms.append)

    def count(self) -> None:
        self.told += 1

    def sweep(self) -> bool | None:
        if self.refusal is not None:
            raise self.refusal
        begin = time.monotonic()
        done = self._sweep()
        if done:
            time.sleep(SLOW_S)
            self.began.append(begin)
            self.ended.append(time.monotonic())
        return done

    async def erase(self, key: str) -> None:
        await asyncio.to_thread(self.author.disclosure.erase, result_id(key), "wrong customer")
        self.part.notice()

    def left(self, word: bytes) -> bool:
        return any(word in path.read_bytes() for path in self.author.path.iterdir())


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
