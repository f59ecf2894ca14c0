"""Tell an author that what it erased is gone here, too."""

from __future__ import annotations

import asyncio
import logging

from node.store import Store
from node.sync.peer import PeerClient

logger = logging.getLogger(__name__)


async def acknowledge_erasures(store: Store, client: PeerClient, origin: str) -> None:
    """Tell the author of a log what was swept here since the last contact. What it does not take is told again.

    Raises:
        PeerFaultError: it refused.
        PeerUnreachableError: no answer in time.
    """
    log = await asyncio.to_thread(store.logs.find_log, origin)
    indexes = await asyncio.to_thread(store.erasures.to_acknowledge, log.id) if log is not None else []
    if log is None or not indexes:
        return
    taken = set(await client.acknowledge_erasures(origin, indexes)).intersection(indexes)
    await asyncio.to_thread(store.erasures.save_told, log.id, taken)
    logger.info("event=erasures_told origin=%s entries=%d taken=%d", origin, len(indexes), len(taken))
