"""Which cosignatures on one checkpoint are a quorum that has seen it: by the newest roster, or by one before it.

What was seen must follow from what was signed, not from the order in which rosters and cosignatures reached a node:
otherwise an author could believe that it may still take back what its peers know to be seen. So an earlier roster counts
as long as it was the newest one, by the times in the cosignatures. Without that bound one witness of today would do for
whatever the first two members had let one witness do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from node.core.alliance import Alliance

SIGNING = timedelta(days=30)
"""How long after its `issued` a roster is signed: nobody honest signs an older one (`amendment.require_sound`)."""

CLOCKS = timedelta(days=1)
"""How far clocks differ, and how long a roster travels."""

COUNTING_S = int((SIGNING + CLOCKS).total_seconds())
"""How long after the next roster's `issued` a cosignature still counts for the one before: until then that was in force.

A number of seconds and no date, because a roster may be issued on the last day that a date can name.
"""


@dataclass(frozen=True, slots=True)
class Quorum:
    """One roster's rule: so many of these witnesses, by times below `until_s` (Unix seconds; None: the newest)."""

    count: int
    witnesses: frozenset[str]
    until_s: int | None

    def is_met(self, times: Mapping[str, int]) -> bool:
        """Whether enough cosigned; `times` are of the cosignatures on one checkpoint, in Unix seconds, by witness."""
        return sum(self._counts(witness, time_s) for witness, time_s in times.items()) >= self.count

    def _counts(self, witness: str, time_s: int) -> bool:
        return witness in self.witnesses and (self.until_s is None or time_s < self.until_s)


def quorums_over(alliance: Alliance, author: str) -> tuple[Quorum, ...]:
    """The rules by which a member's log was seen, the newest roster's first; rosters that say the same are one."""
    found: dict[tuple[int, frozenset[str]], Quorum] = {}
    until_s: int | None = None
    for _, roster in reversed(alliance.rosters):
        if author in roster.members:
            witnesses = frozenset(roster.active_members()) - {author}
            rule = Quorum(roster.quorum, witnesses, until_s)
            held = found.setdefault((rule.count, witnesses), rule)
            if held.until_s is not None and until_s is not None and held.until_s < until_s:
                found[rule.count, witnesses] = rule
        until_s = int(roster.issued.timestamp()) + COUNTING_S
    return tuple(found.values())
