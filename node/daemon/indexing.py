"""Fill the search index in batches, whenever there is something to take in."""

from __future__ import annotations

import asyncio
import logging

from node.errors import StoreError
from node.store.search import SearchIndex

logger = logging.getLogger(__name__)

PAUSE_S = 0.05
DELAY_S = 0.1


class Indexing:
    """The daemon's part that fills the search index. Lives on the event loop."""

    def __init__(self, search: SearchIndex) -> None:
        """Take in what the index does not hold yet."""
        self._search = search
        self._work = asyncio.Event()

    def notice(self) -> None:
        """A log moved: there may be records to take in."""
        self._work.set()

    async def run(self) -> None:
        """Take in what an earlier process left, then whatever comes; until cancelled."""
        while True:
            self._work.clear()
            while await asyncio.to_thread(self._advance):
                await asyncio.sleep(PAUSE_S)
            await self._work.wait()
            # First the peers: what has just arrived is passed on before this thread takes its share of the processor.
            await asyncio.sleep(DELAY_S)

    def _advance(self) -> bool:
        try:
            return self._search.advance() > 0
        except StoreError as error:
            logger.error("event=index_failed error=%r", error.message)
            return False
