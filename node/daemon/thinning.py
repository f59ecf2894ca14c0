"""Thin old checkpoints once an hour, in the background."""

from __future__ import annotations

import asyncio
import logging

from node.clock import Clock, milliseconds
from node.core.alliance import Alliance
from node.core.quorums import quorums_over
from node.core.witness import retirements
from node.errors import LabmeshError
from node.membership import Membership
from node.store import Store
from node.store.checkpoints import ThinningRule

logger = logging.getLogger(__name__)

FIRST_S = 60.0
INTERVAL_S = 3600.0
YOUNG_MS = 24 * 3600 * 1000
OVERLAP_MS = 3 * 3600 * 1000
PAUSE_S = 0.5


class Thinning:
    """The daemon's part that thins. The first round looks at everything, the later ones at what has become old since."""

    def __init__(self, store: Store, membership: Membership, clock: Clock) -> None:
        """Thin the logs in `store` by the rosters and cards of `membership`."""
        self._store, self._membership, self._clock = store, membership, clock
        self._since_ms: dict[int, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(FIRST_S)
        while True:
            for log in await asyncio.to_thread(self._store.logs.load_logs):
                await asyncio.to_thread(self.thin, log.id, log.member)
                await asyncio.sleep(PAUSE_S)
            await asyncio.sleep(INTERVAL_S)

    def thin(self, log_id: int, member: str) -> int:
        """Thin one log; returns how many checkpoints went. A failure is logged, and tried again in an hour."""
        alliance = self._membership.alliance
        if alliance is None:
            return 0
        before_ms = milliseconds(self._clock()) - YOUNG_MS
        try:
            seen = self._store.checkpoints.find_seen_size(log_id, quorums_over(alliance, member))
            rule = ThinningRule(
                before_ms,
                quorum=alliance.roster.quorum,
                witnesses=alliance.other_members(member),
                keep={*named_sizes(alliance, member), seen},
                since_ms=self._since_ms.get(log_id, 0),
                retired=retirements(alliance),
            )
            gone = self._store.checkpoints.thin(log_id, rule)
        except LabmeshError as error:
            logger.warning("event=thinning_failed member=%s error=%r", member, error.message)
            return 0
        self._since_ms[log_id] = before_ms - OVERLAP_MS
        if gone:
            logger.info("event=thinned member=%s checkpoints=%d", member, gone)
        return gone


def named_sizes(alliance: Alliance, member: str) -> set[int]:
    """Sizes of a member's log at which its card or any roster names a root."""
    sizes = {roster.members[member].head for _, roster in alliance.rosters if member in roster.members}
    named = {head.size for head in sizes if head is not None}
    if member in alliance.cards:
        named |= {former.size for former in alliance.card(member).former_log_keys}
    return named
