"""How long a peer is left alone whose pages came to nothing, although it calls.

A peer's own call ends the pause after a fault, because it may have put it right. One that lies could have itself read once a
second in that way: everything up to the bounds of staging is received, verified, written and deleted. So the rest before
it is read again doubles with each time that what it sent was dropped, up to a minute, and is a second again after a head
that verifies, or after a time without.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

REST_S = 1.0
REST_MAX_S = 60.0
FORGOTTEN_AFTER_S = 2 * REST_MAX_S


class Rest:
    """Counts for one peer how often in a row what it sent was dropped."""

    def __init__(self, clock_s: Callable[[], float] = monotonic) -> None:
        """Nothing was dropped yet; `clock_s` counts seconds and never goes back."""
        self._clock_s = clock_s
        self._count, self._last_s, self._due = 0, 0.0, False

    def note_dropped(self) -> None:
        """What was staged, or a page, was dropped."""
        now_s = self._clock_s()
        if now_s - self._last_s > FORGOTTEN_AFTER_S:
            self._count = 0
        self._count, self._last_s, self._due = self._count + 1, now_s, True

    def note_verified(self) -> None:
        """The head went on."""
        self._count = 0

    def take(self, least_s: float = 0.0) -> float:
        """How many seconds to rest now: at least so many, and more only where something was dropped since the last rest."""
        due, self._due = self._due and self._count > 0, False
        return max(least_s, min(REST_MAX_S, REST_S * 2.0 ** min(self._count - 1, 16))) if due else least_s
