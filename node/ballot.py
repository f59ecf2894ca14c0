"""What became of a change of the roster: how many have signed it."""

from __future__ import annotations

from dataclasses import dataclass

from node.core.alliance import Alliance


@dataclass(frozen=True, slots=True)
class Ballot:
    """What became of a change: the alliance as it is now, and the roster with `have` of the `needed` signatures."""

    alliance: Alliance
    proposal: bytes
    have: int
    needed: int

    @property
    def complete(self) -> bool:
        """Whether the roster is in force."""
        return self.have >= self.needed
