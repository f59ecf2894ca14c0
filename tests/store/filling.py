"""Fill a store: an own log by appending, a mirrored log by verified pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from node.core.kinds import Kinds
from node.core.mirror import AcceptedPage, Mirror
from node.core.record import parse_record
from node.store import Store
from node.store.logs import LogState, NewEntry
from tests.builders import Lab, MemoryLog, build_card, build_labs, kinds, record_bytes

JINAN, QINGDAO, YANTAI = build_labs(3)
NOW_MS = 1_795_000_000_000


@dataclass
class OwnLog:
    """A log in memory and the same log in a store."""

    store: Store
    lab: Lab = JINAN
    memory: MemoryLog = field(init=False)
    state: LogState = field(init=False)

    def __post_init__(self) -> None:
        """Open the empty log."""
        self.memory = MemoryLog(self.lab)
        self.state = self.store.logs.open_log(self.lab.origin, self.lab.member)

    def append(self, *records: bytes) -> LogState:
        """Append record bytes to both."""
        low, memory = self.memory.size, self.memory
        signed = memory.append(*records)
        entries = [
            NewEntry(
                memory.commitments[i],
                memory.salts[i],
                parse_record(memory.records[i], author=self.lab.member, kinds=kinds()),
            )
            for i in range(low, memory.size)
        ]
        frontier, tiles = self.state.staged.extend(memory.commitments[low:])
        self.state = self.store.logs.append(
            self.state, entries, frontier=frontier, tiles=tiles, signed=signed, now_ms=NOW_MS
        )
        return self.state

    def append_numbered(self, count: int, **changes: object) -> LogState:
        """Append `count` valid records with keys of their own."""
        low = self.memory.size
        return self.append(*(record_bytes(self.lab.member, f"WJ-{low + i:06d}", **changes) for i in range(count)))


@dataclass
class Mirrored:
    """A peer's log in memory, and what a store has of it. Every page is verified by a real mirror."""

    store: Store
    memory: MemoryLog
    reader: str = "qingdao"
    schemas: Kinds = field(default_factory=kinds)
    state: LogState = field(init=False)
    mirror: Mirror = field(init=False)

    def __post_init__(self) -> None:
        """Begin with what the store holds."""
        lab = self.memory.lab
        self.state = state = self.store.logs.open_log(lab.origin, lab.member)
        self.mirror = Mirror(
            build_card(lab),
            reader=self.reader,
            kinds=self.schemas,
            head=state.head,
            staged=state.staged,
            staged_bytes=state.staged_bytes,
        )

    def announce(self) -> None:
        """Announce the checkpoint of everything in memory, once."""
        if self.mirror.target is None or self.mirror.target.size < self.memory.size:
            self.mirror.accept_announcement(bytes(self.memory.checkpoint()))

    def verify(self, low: int, high: int, openings: Iterable[int] | None = None) -> AcceptedPage:
        """The page of entries low…high-1, verified under the checkpoint of everything in memory."""
        self.announce()
        page = self.memory.page(low, high, openings=openings)
        return self.mirror.accept_page(page, lambda index: self.store.logs.commitment_at(self.state.id, index))

    def stage(self, low: int, high: int, openings: Iterable[int] | None = None, *, server: str = "jinan") -> LogState:
        """Store a page beyond the head."""
        self.state = self.store.logs.stage(self.state, self.verify(low, high, openings), server=server)
        return self.state

    def accept(self, openings: Iterable[int] | None = None) -> LogState:
        """Take everything that is missing as one last page, and move the head."""
        low, high = self.state.staged.size, self.memory.size
        page = self.verify(low, high, openings) if low < high else None
        return self.accept_head(page)

    def accept_head(self, page: AcceptedPage | None = None) -> LogState:
        """Move the head to the checkpoint of everything in memory."""
        signed = self.mirror.accept_head()
        self.state = self.store.logs.accept_head(self.state, page, signed, server="jinan", now_ms=NOW_MS)
        return self.state
