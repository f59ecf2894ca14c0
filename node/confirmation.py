"""What this node may publish of its own log after a start (DESIGN section 7.3).

A home may have been rolled back: restored from a backup, or returned to a snapshot of its virtual machine. Then sizes that
were published before would be signed again with other contents. So after every start the node is *unconfirmed*: it takes
pushes, but publishes nothing beyond what some peer is known to hold, until enough peers have told which checkpoint of its
log they hold. A peer that holds more than this node does proves the rollback.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from node.core.alliance import Alliance
from node.core.checkpoint import parse_checkpoint, verify_checkpoint
from node.errors import FormatError, MalformedError
from node.store import Store
from node.store.logs import LogState


class Confirmation:
    """How much of the own log may be published, and why."""

    def __init__(
        self, store: Store, *, member: str, log: Callable[[], LogState], alliance: Callable[[], Alliance | None]
    ) -> None:
        """Begin unconfirmed; an alliance of one has nobody to ask."""
        self._store, self._member, self._log, self._alliance = store, member, log, alliance
        self._lock = threading.Lock()
        self._told: dict[str, int] = {}
        self._overridden = self._kept = False
        self._known_size = 0
        self.longer: tuple[str, int] | None = None
        self.conflict: str | None = None

    @property
    def needed(self) -> int:
        """How many peers must have told: the roster's quorum, or all the others where they are fewer."""
        alliance = self._alliance()
        if alliance is None:
            return 0
        return min(alliance.roster.quorum, len(alliance.other_members(self._member)))

    @property
    def confirmed(self) -> bool:
        """Whether everything may be published."""
        if self.longer is not None or self.conflict is not None:
            return False
        return self._overridden or self._kept or len(self._told) >= self.needed

    @property
    def ceiling(self) -> int:
        """The largest size that may be published now."""
        return self._log().head_size if self.confirmed else self._known_size

    def override(self) -> int:
        """Publish without waiting for peers, because a person takes the risk; returns the size published.

        A longer log at a peer is no longer a matter of risk: it stays in force.
        """
        with self._lock:
            self._overridden = True
        return self.ceiling

    def keep(self) -> None:
        """Stay confirmed although the roster grows: this process was confirmed, and it is the one that adds members.

        A roster learned from outside does not count: a home that was rolled back to when it was alone learns it that way.
        """
        with self._lock:
            self._kept = True

    def accept_told(self, peer: str, note: bytes) -> bool:
        """Take what a peer holds of our log: a checkpoint, or nothing. Returns whether anything changed.

        Raises:
            MalformedError: the note is not a checkpoint of our log.
            SignatureError: our log key did not sign it.
        """
        size, contained = self._judge(peer, note) if note else (0, True)
        with self._lock:
            before = (self.confirmed, self.ceiling)
            self._told[peer] = size
            self._kept = self._kept or (self.needed > 0 and self.confirmed)
            if contained:
                self._known_size = max(self._known_size, size)
            return before != (self.confirmed, self.ceiling)

    def _judge(self, peer: str, note: bytes) -> tuple[int, bool]:
        """The size that a peer holds, and whether our log contains exactly that."""
        log, alliance = self._log(), self._alliance()
        if alliance is None:
            raise MalformedError("no alliance was joined yet")
        try:
            signed = parse_checkpoint(note)
        except FormatError as error:
            raise MalformedError(f"{peer} told a checkpoint of our log that is none: {error.message}") from error
        verify_checkpoint(signed, alliance.card(self._member).log_key_at(signed.size, signed.root))
        if signed.size > log.head_size:
            self.longer = max(self.longer or ("", 0), (peer, signed.size), key=lambda item: item[1])
            return signed.size, False
        if signed.size and self._root_at(log, signed.size) != signed.root:
            self.conflict = f"{peer} holds a checkpoint of size {signed.size} of our log that our log does not contain"
            return signed.size, False
        return signed.size, True

    def _root_at(self, log: LogState, size: int) -> bytes:
        held = self._store.checkpoints.find(log.id, size)
        return held.root if held is not None else self._store.logs.tree(log.id).root(size)
