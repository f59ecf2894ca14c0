"""The daemon's part that fills the search index."""

from __future__ import annotations

import asyncio

import pytest

from node.daemon.indexing import Indexing
from node.errors import StoreError
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
            await asyncio.to_thread(author.push, *drafts(3))
            indexing.notice()
            await wait_until(lambda: author.store.search.backlog() == 0)

        run_beside(indexing, work)

    def test_a_full_disk_ends_nothing(self, author, monkeypatch, caplog):
        indexing, advance = Indexing(author.store.search), author.store.search.advance
        author.push(*drafts(3))

        def fail():
            raise StoreError("the disk is full")

        async def work():
            monkeypatch.setattr(author.store.search, "advance", fail)
            await wait_until(lambda: "event=index_failed error='the disk is full'" in caplog.text)
            monkeypatch.setattr(author.store.search, "advance", advance)
            indexing.notice()
            await wait_until(lambda: author.store.search.backlog() == 0)

        run_beside(indexing, work)
