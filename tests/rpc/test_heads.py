"""Waking the streams that wait: no wake-up is lost, whichever thread it comes from."""

from __future__ import annotations

import asyncio
import threading

from node.rpc.heads import Heads


def test_an_announcement_wakes_everyone_who_waits() -> None:
    async def work() -> None:
        heads = Heads(asyncio.get_running_loop())
        waiting = [asyncio.create_task(heads.wait_beyond(0)) for _ in range(3)]
        await asyncio.sleep(0)
        threading.Thread(target=heads.announce).start()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [1, 1, 1]

    asyncio.run(work())


def test_what_happened_between_reading_and_waiting_counts() -> None:
    async def work() -> None:
        heads = Heads(asyncio.get_running_loop())
        generation = heads.generation
        heads.announce()
        heads.announce()
        await asyncio.sleep(0)
        assert await asyncio.wait_for(heads.wait_beyond(generation), 10) == 2

    asyncio.run(work())


def test_nothing_new_wakes_nobody() -> None:
    async def work() -> None:
        heads = Heads(asyncio.get_running_loop())
        heads.announce()
        await asyncio.sleep(0)
        task = asyncio.create_task(heads.wait_beyond(1))
        await asyncio.sleep(0.01)
        assert not task.done()
        heads.announce()
        assert await asyncio.wait_for(task, 10) == 2

    asyncio.run(work())
