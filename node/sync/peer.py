"""What following needs of a peer, and what is known about one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from node.core.entry import LogPage
from node.errors import LabmeshError, SplitViewError

OFFLINE_AFTER_MS = 60_000
ROSTERS_TOLD_MAX = 100


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a peer answers to ExchangeCheckpoints; `evidence_ids` is None where it does not say what it has."""

    digest: bytes
    notes: Sequence[bytes]
    roster_version: int
    cards_digest: bytes
    caller_note: bytes
    time_ms: int
    roster_hash: bytes = b""
    evidence: Sequence[bytes] = ()
    evidence_ids: Sequence[str] | None = None


class PeerClient(Protocol):
    """A connection to one peer. Every method raises PeerUnreachableError or PeerFaultError, nothing else."""

    async def get_roster(self, version: int, held_cards: Mapping[str, int]) -> tuple[list[bytes], list[bytes]]:
        """Roster and card envelopes newer than these."""

    async def exchange_checkpoints(
        self,
        *,
        digest: bytes,
        notes: Sequence[bytes],
        roster_version: int,
        cards_digest: bytes,
        rosters: Sequence[bytes] = (),
        card: bytes = b"",
        evidence_ids: Sequence[str] = (),
    ) -> Exchange:
        """Tell what we hold, hear what the peer holds; `rosters` and `card` are what it lacked in its last answer."""

    async def report_evidence(self, evidence: bytes) -> bool:
        """Tell one piece of evidence; returns whether the peer needs not be told again."""

    def read_log(
        self, origin: str, *, start: int, after: int, follow: bool, entries_max: int
    ) -> AsyncIterator[bytes | LogPage]:
        """A log's announcements (notes) and pages."""

    async def acknowledge_erasures(self, origin: str, indexes: Sequence[int]) -> list[int]:
        """Tell the peer, whose log this is, which of its erased entries are gone here; returns what it took."""

    async def close(self) -> None:
        """Close the connection."""


@dataclass(slots=True)
class PeerState:
    """What `status` shows of one peer. Times are milliseconds since 1970, 0 for never."""

    member: str
    state: str = "retrying"
    size: int = 0
    verified: int = 0
    last_contact_ms: int = 0
    failing_since_ms: int = 0
    error: str = ""
    reason: str = ""
    clock_offset_ms: int | None = None
    accusation: str = ""

    def note_contact(self, now_ms: int) -> None:
        """The peer answered."""
        self.state, self.error, self.reason = "connected", "", ""
        self._keep_accusation()
        self.last_contact_ms, self.failing_since_ms = now_ms, 0

    def note_unreachable(self, error: LabmeshError, now_ms: int) -> None:
        """The peer did not answer; after a minute of that it counts as offline."""
        self.failing_since_ms = self.failing_since_ms or now_ms
        self.state = "offline" if now_ms - self.failing_since_ms > OFFLINE_AFTER_MS else "retrying"
        self.error, self.reason = error.message, error.reason
        self._keep_accusation()

    def accuse(self, accusation: str) -> None:
        """The peer has signed two histories: that outweighs whether it answers. Empty when it is settled."""
        if not accusation and self.accusation:
            self.state, self.error, self.reason = "retrying", "", ""
        self.accusation = accusation
        self._keep_accusation()

    def note_fault(self, error: LabmeshError) -> None:
        """The peer, or the author of its log, broke a rule."""
        self.state = "quarantined" if isinstance(error, SplitViewError) else "refused"
        self.error, self.reason = error.message, error.reason
        self._keep_accusation()

    def _keep_accusation(self) -> None:
        if self.accusation:
            self.state, self.error, self.reason = "quarantined", self.accusation, SplitViewError.reason
