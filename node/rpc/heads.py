"""Wakes the streams that wait for a log to grow, or for the membership to change."""

from __future__ import annotations

import asyncio


class Heads:
    """A counter that streams wait on. Lives on the event loop; `announce` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake waiters on `loop`."""
        self._loop = loop
        self._event = asyncio.Event()
        self.generation = 0

    def announce(self) -> None:
        """Something changed."""
        self._loop.call_soon_threadsafe(self._wake)

    async def wait_beyond(self, generation: int) -> int:
        """Wait until something changed after `generation` was read; returns the new one."""
        while self.generation == generation:
            await self._event.wait()
        return self.generation

    def _wake(self) -> None:
        self.generation += 1
        event, self._event = self._event, asyncio.Event()
        event.set()
