"""How often the cards of one member may change here, because each costs everybody something.

A card is verified, saved and told on by every node, and one that revokes a key makes a node delete what the key had signed
beyond, index everything again and write its database anew. Nothing else bounds how many a member signs. So a few are taken
at once, and after them one a minute; and one a minute of those that make this node delete something, of which the first is
taken at once. Whoever passes on a member's older cards, one after the other, spends an allowance of its own: what the member
itself tells does not wait for that. A card that must wait is not taken at all: to this node it is one that has not arrived
yet. It is not lost, also over a restart, because two nodes whose cards differ tell them at every contact, and the newest
stands for all before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

INTERVAL = timedelta(minutes=1)
CARDS_AT_ONCE = 10


@dataclass(slots=True)
class Allowance:
    """How many more are taken now; one comes back each minute, up to `most`."""

    most: int
    left: float
    since: datetime

    def refill(self, now: datetime) -> None:
        """Give back what has come since. A clock that is set back gives nothing, and keeps nobody waiting for longer."""
        self.left = min(self.most, self.left + max(timedelta(), now - self.since) / INTERVAL)
        self.since = now

    @property
    def is_left(self) -> bool:
        """Whether one is taken now."""
        return self.left >= 1

    def spend(self) -> None:
        """Count one that is taken."""
        self.left -= 1


class CardPace:
    """What of each member's cards may still be told. One thread at a time."""

    def __init__(self) -> None:
        """Nobody has told a card yet."""
        self._allowances: dict[tuple[str, bool, bool], Allowance] = {}

    def allowance_of(self, member: str, *, by_itself: bool, gives_up_entries: bool, now: datetime) -> Allowance:
        """What a card is taken from: whoever takes it spends that, and a card for which nothing is left must wait.

        Args:
            member: whose card it is. Whoever told it, only its author can have signed it.
            by_itself: whether the member itself told it; all others together have as much again.
            gives_up_entries: whether something is deleted here because of it. These are counted by themselves, so that
                no number of other cards keeps a revocation waiting.
            now: the time of day.
        """
        most = 1 if gives_up_entries else CARDS_AT_ONCE
        allowance = self._allowances.setdefault((member, by_itself, gives_up_entries), Allowance(most, most, now))
        allowance.refill(now)
        return allowance
