"""Checkpoints that a log's author has signed and that our copy has not reached: remembered until it has.

They are kept by who told them, a few of each. So neither an author that announces one after the other, nor a peer that it
has conspired with, drives out of memory what an honest peer has told.
"""

from __future__ import annotations

import threading

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

    def take_reached(self, origin: str, size: int, *, surviving: Head | None) -> list[SignedCheckpoint]:
        """The checkpoints up to a size, the smallest first, each once; they are remembered no more."""
        with self._lock:
            told = self._of(origin, surviving)
            reached = {told.pop(key).size: held for key, held in list(told.items()) if held.size <= size}
        return [reached[size] for size in sorted(reached)]

    def list_beyond(self, origin: str, size: int, *, surviving: Head | None) -> list[SignedCheckpoint]:
        """The checkpoints beyond a size."""
        with self._lock:
            return [held for held in self._of(origin, surviving).values() if held.size > size]

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
