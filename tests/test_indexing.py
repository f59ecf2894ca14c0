"""The daemon's part that fills the search index."""

from __future__ import annotations

import asyncio

import pytest

from node.daemon.indexing import Indexing
from node.errors import StoreError
from node.store.records import Filter
from tests.alliance import SimulatedAlliance, drafts, wait_until


@pytest.fixture
def author(tmp_path):
    alliance = SimulatedAlliance(tmp_path, 1)
    yield next(iter(alliance.members.values()))
    alliance.close()


def run_beside(indexing, work):
    """Run `work` while the index is filled."""

    async def inside():
        task = asyncio.create_task(indexing.run())
        try:
            await work()
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(inside())


def found(author, words):
    """Keys of the records that a search finds."""
    return sorted(item.key for item in author.store.records.search(words, Filter(), limit=10).records)


class TestIndexing:
    def test_it_takes_in_what_an_earlier_process_left(self, author):
        author.push(*drafts(3))

        async def work():
            await wait_until(lambda: author.store.search.backlog() == 0)

        assert author.store.search.backlog() == 3
        run_beside(Indexing(author.store.search), work)
        assert author.store.search.backlog() == 0

    def test_it_takes_in_what_comes_when_it_is_told(self, author):
        indexing = Indexing(author.store.search)

        author.push(*drafts(1, "EARLIER"))

        async def work():
            await wait_until(lambda: author.store.search.backlog() == 0)
            await asyncio.to_thread(author.push, *drafts(3, "LATER"))
            indexing.notice()
            await wait_until(lambda: author.store.search.backlog() == 0)

        run_beside(indexing, work)
        assert found(author, "EARLIER OR LATER") == ["EARLIER-000000", *(f"LATER-{i:06d}" for i in range(3))]

    def test_a_full_disk_ends_nothing(self, author, monkeypatch, caplog):
        indexing, advance = Indexing(author.store.search), author.store.search.advance
        author.push(*drafts(3, "WAITING"))

        def fail():
            raise StoreError("the disk is full")

        async def work():
            monkeypatch.setattr(author.store.search, "advance", fail)
            await wait_until(lambda: "event=index_failed error='the disk is full'" in caplog.text)
            assert author.store.search.backlog() == 3
            monkeypatch.setattr(author.store.search, "advance", advance)
            indexing.notice()
            await wait_until(lambda: author.store.search.backlog() == 0)

        run_beside(indexing, work)
        assert found(author, "WAITING") == [f"WAITING-{i:06d}" for i in range(3)]
