"""Whether a log is another history than the one held here, where the roster names a head that lies beyond what is held.

What is held cannot be compared with such a head. When a pull fails on the way to it, either the server lies, or what is held
is the history that does not survive. The commitments of the log decide: read from the first on, they either have the root
that the roster names or not. Nothing is kept of them and nothing forgotten before they have said so.
"""

from __future__ import annotations

import asyncio
import logging

from node.core.entry import SEQUENCE_MAX, LogPage, split_commitments
from node.core.merkle import Frontier
from node.core.roster import Head
from node.errors import MalformedError, PeerFaultError, PeerUnreachableError
from node.store.logs import LogState
from node.sync.peer import PeerClient

logger = logging.getLogger(__name__)

STALL_S = 60.0


async def is_replaced(client: PeerClient, log: LogState, head: Head | None, *, entries_max: int) -> bool:
    """Whether a peer shows that the surviving history, which ends at `head` or goes on, is not the one held in `log`.

    Args:
        client: a connection to the peer that serves the log.
        log: what is held.
        head: what the roster names.
        entries_max: how many entries the peer may announce at once.

    Raises:
        PeerUnreachableError: the peer did not answer in time.
    """
    if head is None or not 0 < log.head_size < head.size:
        return False
    comparison = Comparison(log, head)
    stream = client.read_log(log.origin, start=0, after=SEQUENCE_MAX, follow=False, entries_max=entries_max)
    try:
        while comparison.size < head.size:
            async with asyncio.timeout(STALL_S):
                comparison.apply(await anext(stream))
    except TimeoutError:
        raise PeerUnreachableError(f"nothing came for {STALL_S:.0f} s") from None
    except (StopAsyncIteration, PeerFaultError) as error:
        logger.warning("event=survivor_not_served origin=%s error=%r", log.origin, str(error))
    return comparison.replaced


class Comparison:
    """The tree over commitments from the first on, held against the head that the roster names and the one held here."""

    def __init__(self, log: LogState, head: Head) -> None:
        """Compare what comes with a held log and a named head beyond it."""
        self._log, self._head = log, head
        self._frontier, self._announced, self._differs = Frontier(), False, False
        self.replaced = False

    @property
    def size(self) -> int:
        """How many commitments have come."""
        return self._frontier.size

    def apply(self, message: bytes | LogPage) -> None:
        """Take the next page. What it opens is left out, and no announcement matters: the roster names the root.

        Raises:
            MalformedError: it does not continue what came before.
        """
        if not isinstance(message, LogPage):
            if self._announced:
                raise MalformedError(f"{self._log.origin}: two checkpoints without a page between them")
            self._announced = True
            return
        commitments, start = split_commitments(message.commitments), self.size
        if message.start != start or not commitments:
            raise MalformedError(f"{self._log.origin}: a page from entry {message.start}, where {start} comes next")
        self._announced = False
        for size in (self._log.head_size, self._head.size):
            if start < size <= start + len(commitments):
                self._compare(size, self._frontier.extend(commitments[: size - start])[0].root())
        self._frontier = self._frontier.extend(commitments)[0]

    def _compare(self, size: int, root: bytes) -> None:
        if size == self._head.size:
            self.replaced = self._differs and root == self._head.root
        else:
            self._differs = root != self._log.head_frontier.root()
