"""Sweep behind erasures, as soon as there are any, until nothing of them is left.

Pushes wait while the database is written anew. So that many erasures, one after the other, never keep them waiting for more
than a fifth of the time, a sweep is followed by a rest four times as long; what comes meanwhile is swept together.

What was only staged of another member's log and dropped (`store.owed`) is swept along, but by itself no sooner than a minute
after the last sweep, and no more than a sixtieth of the time: a peer can have a node drop as often as it likes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from node.errors import StoreError
from node.store.sweep import Sweeper

logger = logging.getLogger(__name__)

RETRY_S = 1.0
FAILED_RETRY_S = 60.0
REST = 4
STAGED_PAUSE_S = 60.0
STAGED_REST = 60


class Sweeping:
    """The daemon's part that sweeps. Lives on the event loop."""

    def __init__(self, sweeper: Sweeper, *, on_swept: Callable[[], None], on_alarm: Callable[[str], None]) -> None:
        """Call `on_swept` when something is gone for good, so that authors are told."""
        self._sweeper, self._on_swept, self._on_alarm = sweeper, on_swept, on_alarm
        self._work = asyncio.Event()
        self._swept_s = self._staged_due_s = 0.0

    def notice(self) -> None:
        """A log moved: there may be erasures in it."""
        self._work.set()

    async def run(self) -> None:
        """Sweep what an earlier process left, then whatever comes; until cancelled."""
        while True:
            self._work.clear()
            pause_s = await self._sweep()
            try:
                async with asyncio.timeout(pause_s):
                    await self._work.wait()
            except TimeoutError:
                pass

    async def _sweep(self) -> float | None:
        """Sweep once; returns after how many seconds to look again, None for when something new comes."""
        begin = time.monotonic()
        wait_s = max(0.0, self._staged_due_s - begin)
        try:
            done = await asyncio.to_thread(self._sweeper.sweep, with_staged=not wait_s)
        except StoreError as error:
            self._put_off_staged(begin)
            self._on_alarm(
                f"what was erased is not yet gone from the files of this node ({error.message}); "
                "it is tried again every minute: is the disk full?"
            )
            return FAILED_RETRY_S
        if done is None:
            return wait_s or None
        self._swept_s += time.monotonic() - begin
        self._put_off_staged(begin)
        if not done:
            return RETRY_S
        self._on_swept()
        rest_s, self._swept_s = REST * self._swept_s, 0.0
        await asyncio.sleep(rest_s)
        return max(0.0, self._staged_due_s - time.monotonic())

    def _put_off_staged(self, begin: float) -> None:
        now = time.monotonic()
        self._staged_due_s = now + max(STAGED_PAUSE_S, STAGED_REST * (now - begin))
