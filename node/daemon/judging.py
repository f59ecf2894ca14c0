"""Compare the logs held with what the roster and the cards say of them, whenever these change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from node.cutoff import find_other_histories
from node.errors import StoreError
from node.membership import Membership
from node.store import Store
from node.sync.exchange import CheckpointExchange
from node.sync.revoked import forget_all_uncounted

logger = logging.getLogger(__name__)


class Judging:
    """The daemon's part that gives up what counts no more. Lives on the event loop."""

    def __init__(
        self, store: Store, membership: Membership, exchange: CheckpointExchange, *, on_alarm: Callable[[str], None]
    ) -> None:
        """Judge every log that is held; what people must look at goes to `on_alarm`."""
        self._store, self._membership, self._exchange, self._on_alarm = store, membership, exchange, on_alarm
        self._work = asyncio.Event()

    def notice(self) -> None:
        """A roster or a card has come."""
        self._work.set()

    async def run(self) -> None:
        """Judge after each change, until cancelled. What the database refuses is tried again at the next one."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self.judge()
            except StoreError as error:
                logger.error("event=judging_failed error=%r", error.message)

    async def judge(self) -> None:
        """Judge now.

        Raises:
            StoreError: the database refused.
        """
        if self._membership.alliance is not None:
            for sentence in await asyncio.to_thread(self._judge):
                self._on_alarm(sentence)

    def _judge(self) -> list[str]:
        alliance = self._membership.joined
        self._store.membership.save_cuts(alliance)
        unvouched = forget_all_uncounted(self._store, self._exchange, self._membership)
        return [*unvouched, *find_other_histories(self._store, alliance, own=self._membership.member)]
