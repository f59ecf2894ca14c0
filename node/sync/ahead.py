"""What a quorum is told to have cosigned of logs that are not read that far here: no removal should end one below it.

In memory alone: peers tell it again at each contact.
"""

from __future__ import annotations

from node.core.alliance import Alliance
from node.core.checkpoint import SignedCheckpoint
from node.core.roster import Head
from node.core.witness import accept_cosignatures, each_key_once


class SeenAhead:
    """The largest such size of each member's log, since the roster last said which history of it survives."""

    def __init__(self) -> None:
        """Nothing was told yet."""
        self._sizes: dict[str, tuple[Head | None, int]] = {}

    def note(self, alliance: Alliance, author: str, signed: SignedCheckpoint) -> None:
        """Note a checkpoint that its author signed, if a quorum has cosigned it."""
        if signed.size <= self.size_of(alliance, author):
            return
        cosignatures = each_key_once(alliance, accept_cosignatures(alliance, author, signed))
        if len(cosignatures) >= alliance.roster.quorum:
            self._sizes[author] = (alliance.roster.members[author].head, signed.size)

    def size_of(self, alliance: Alliance, author: str) -> int:
        """The largest size that was noted; 0 for none."""
        since, size = self._sizes.get(author, (None, 0))
        return size if since == alliance.roster.members[author].head else 0
