"""What one ReadLog stream sends next: announcements, late openings and pages, read off the event loop."""

from __future__ import annotations

from collections.abc import Callable

from labmesh.v1 import peer_pb2
from node.core.entry import COMMITMENT_SIZE, SEQUENCE_MAX, LogPage
from node.errors import NotFoundError
from node.rpc.convert import page_to_wire
from node.store import Store
from node.store.logs import LogState


class LogStream:
    """The position of one reader in one log. One call at a time, from any thread."""

    def __init__(
        self,
        store: Store,
        request: peer_pb2.ReadLogRequest,
        *,
        reader: str,
        ceiling: Callable[[LogState], int],
    ) -> None:
        """Begin where the request says; `ceiling` gives the size of a log that may be published."""
        self._store, self._origin, self._reader, self._ceiling = store, request.origin, reader, ceiling
        self._sent, self._after = request.start, min(request.after, SEQUENCE_MAX)
        self._entries_max = max(1, request.entries_max)
        self._announced = -1
        self._may_be_late = request.start > 0

    def advance(self) -> list[peer_pb2.ReadLogResponse]:
        """The next messages, at most one page of entries among them; empty when the reader has everything.

        Raises:
            NotFoundError: the log is not held here.
        """
        log = self._store.logs.find_log(self._origin)
        if log is None:
            raise NotFoundError(f"the log {self._origin[:200]} is not held here")
        messages = self._announce(log) if self._sent >= self._announced else []
        if self._announced < 0:
            return []
        if self._may_be_late or self._sent == self._announced:
            late = self._read_late(log)
            if late.openings:
                return [*messages, page_to_wire(late)]
        if self._sent < self._announced:
            messages.append(page_to_wire(self._read_page(log)))
        return messages

    def _announce(self, log: LogState) -> list[peer_pb2.ReadLogResponse]:
        chosen = self._choose(log)
        if chosen is None or chosen[0] < self._sent or chosen[0] <= self._announced:
            return []
        self._announced, note = chosen
        return [peer_pb2.ReadLogResponse(checkpoint=note)]

    def _choose(self, log: LogState) -> tuple[int, bytes] | None:
        ceiling = self._ceiling(log)
        if 0 < log.head_size == ceiling <= self._sent + self._entries_max:
            return log.head_size, log.head_note
        signed = self._store.checkpoints.choose(log.id, start=self._sent, entries_max=self._entries_max, ceiling=ceiling)
        return None if signed is None else (signed.size, bytes(signed))

    def _read_late(self, log: LogState) -> LogPage:
        page = self._store.logs.read_late_openings(log, before=self._sent, after=self._after, reader=self._reader)
        if page.openings:
            self._after = page.openings[-1].sequence
        else:
            self._may_be_late = False
            # Everything up to here was looked at: a reader who may read little must not cost a scan at each wake-up.
            self._after = max(self._after, log.last_sequence)
        return page

    def _read_page(self, log: LogState) -> LogPage:
        page = self._store.logs.read_page(log, start=self._sent, stop=self._announced, reader=self._reader)
        self._sent += len(page.commitments) // COMMITMENT_SIZE
        self._after = max([self._after, *(opening.sequence for opening in page.openings)])
        return page
