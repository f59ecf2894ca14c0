"""Which peers are known to hold the newest card of this member, so that it may stop presenting its old certificate.

Kept in memory: after a start it is learned again at the first contacts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable


class CardSpread:
    """The newest `seq` of the own card that each peer has shown to hold. Any thread may call."""

    def __init__(self, on_news: Callable[[], None]) -> None:
        """Call `on_news` whenever a peer is known to hold a newer one."""
        self._on_news = on_news
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}

    def note(self, member: str, seq: int) -> None:
        """A peer has told that it holds our card of this `seq`."""
        with self._lock:
            if seq <= self._held.get(member, 0):
                return
            self._held[member] = seq
        self._on_news()

    def missing(self, members: Iterable[str], seq: int) -> list[str]:
        """The members that are not known to hold our card of this `seq` or a newer one."""
        with self._lock:
            return [member for member in members if self._held.get(member, 0) < seq]
