"""Checkpoints that a log's author has signed and that our copy has not reached: remembered until it has.

They are kept by who told them, a few of each. So neither an author that announces one after the other, nor a peer that it
has conspired with, drives out of memory what an honest peer has told.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from node.core.checkpoint import SignedCheckpoint
from node.core.roster import Head

UNREACHED_MAX = 8

Told = dict[tuple[str, int], SignedCheckpoint]


class Unreached:
    """What is remembered of every log. Any thread may call.

    What the roster says of the history that survives (`surviving`) is named in each call: once it says something else,
    what was remembered before is forgotten.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lock = threading.Lock()
        self._told: dict[str, tuple[Head | None, Told]] = {}

    def remember(self, signed: SignedCheckpoint, *, teller: str, surviving: Head | None) -> SignedCheckpoint | None:
        """Remember a checkpoint, unless one of its size with another root is: that one is returned.

        Args:
            signed: the checkpoint, verified.
            teller: the peer that told it; empty for what the log's author announced.
            surviving: the head that the roster names for the log.
        """
        with self._lock:
            told = self._of(signed.origin, surviving)
            same_size = next((held for held in told.values() if held.size == signed.size), signed)
            if same_size.root != signed.root:
                return same_size
            told.pop((teller, signed.size), None)
            told[teller, signed.size] = same_size
            own = [key for key in told if key[0] == teller]
            for key in own[:-UNREACHED_MAX]:
                del told[key]
        return None

    def list_reached(self, origin: str, size: int, *, surviving: Head | None) -> list[SignedCheckpoint]:
        """The checkpoints up to a size, the smallest first, each once."""
        with self._lock:
            reached = {held.size: held for held in self._of(origin, surviving).values() if held.size <= size}
        return [reached[size] for size in sorted(reached)]

    def forget_judged(self, judged: SignedCheckpoint) -> None:
        """Remember a checkpoint no more, whoever told it: it was held against the log."""
        with self._lock:
            told = self._told.get(judged.origin, (None, {}))[1]
            for key in [key for key, held in told.items() if (held.size, held.root) == (judged.size, judged.root)]:
                del told[key]

    def list_beyond(
        self, origin: str, size: int, *, surviving: Head | None, without: Collection[str] = ()
    ) -> list[SignedCheckpoint]:
        """The checkpoints beyond a size; not those that only the tellers in `without` have told."""
        with self._lock:
            told = self._of(origin, surviving)
            return [held for (teller, _), held in told.items() if held.size > size and teller not in without]

    def count(self, origin: str) -> int:
        """How many are remembered of a log."""
        with self._lock:
            return len(self._told.get(origin, (None, {}))[1])

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._told.clear()

    def _of(self, origin: str, surviving: Head | None) -> Told:
        since, told = self._told.get(origin, (surviving, {}))
        if since != surviving:
            told = {}
        self._told[origin] = (surviving, told)
        return told
