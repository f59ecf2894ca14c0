"""Tell an author that what it erased is gone here, too.

An author whose home was rolled back has forgotten what it was told, so on each connection it is told all of it once again.
"""

from __future__ import annotations

import asyncio
import logging

from node.store import Store
from node.sync.peer import PeerClient

logger = logging.getLogger(__name__)


async def acknowledge_erasures(store: Store, client: PeerClient, origin: str, *, again: bool = False) -> None:
    """Tell the author of a log what was swept here since the last contact. What it does not take is told again.

    Args:
        store: an open store.
        client: a connection to the author.
        origin: the author's log.
        again: tell what it took before, too.

    Raises:
        PeerFaultError: it refused.
        PeerUnreachableError: no answer in time.
    """
    log = await asyncio.to_thread(store.logs.find_log, origin)
    if log is None:
        return
    start = 0
    while indexes := await asyncio.to_thread(store.erasures.to_acknowledge, log.id, start=start, again=again):
        taken = set(await client.acknowledge_erasures(origin, indexes)).intersection(indexes)
        await asyncio.to_thread(store.erasures.save_told, log.id, taken)
        await asyncio.to_thread(store.erasures.save_told, log.id, set(indexes) - taken, told=False)
        start = indexes[-1] + 1
        level = logging.DEBUG if again else logging.INFO
        logger.log(level, "event=erasures_told origin=%s entries=%d taken=%d", origin, len(indexes), len(taken))
