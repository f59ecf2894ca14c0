"""What one ReadLog stream sends next, read off the event loop.

The stream works in rounds. A round announces a checkpoint, sends the pages up to it, and then what became readable late of
the entries before: so a grant always comes before the opening that it opens. Everything that the reader may read up to the
server's sequence number at the beginning of the round has then been sent, and the last message says so (`cursor`). A stream
that breaks off before that repeats the late openings; it never skips one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from labmesh.v1 import peer_pb2
from node.core.entry import COMMITMENT_SIZE, SEQUENCE_MAX, LogPage
from node.errors import NotFoundError
from node.rpc.convert import page_to_wire
from node.store import Store
from node.store.logs import LogState


@dataclass(slots=True)
class _Round:
    """What is left of a round: pages up to the announced checkpoint, then `late` and what `later` gives."""

    goal: int
    late: LogPage | None
    later: Iterator[LogPage]
    # No late opening at all: every page of the round may say the cursor.
    clean: bool
    # Nothing is held back because its grant lies beyond the announced checkpoint.
    whole: bool


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
        self._sent, self._after = request.start, request.after
        self._takes_late = request.after < SEQUENCE_MAX
        self._entries_max = max(1, request.entries_max)
        self._announced = -1
        self._round: _Round | None = None

    def advance(self) -> list[peer_pb2.ReadLogResponse]:
        """The next messages, at most one page among them; empty when the reader has everything.

        Raises:
            NotFoundError: the log is not held here.
        """
        log = self._store.logs.find_log(self._origin)
        if log is None:
            raise NotFoundError(f"the log {self._origin[:200]} is not held here")
        if self._announced > self._ceiling(log):
            return []  # what was announced counts no more: its author was removed, or this node became unsure of its own log
        messages: list[peer_pb2.ReadLogResponse] = []
        if self._round is None:
            messages = self._announce(log)
            if self._announced < 0:
                return []
            self._round = self._begin_round(log)
        if self._round is not None:
            messages.append(page_to_wire(self._next_page(log, self._round)))
        return messages

    def _announce(self, log: LogState) -> list[peer_pb2.ReadLogResponse]:
        chosen = self._choose(log)
        if chosen is None or chosen[0] < self._sent or chosen[0] <= self._announced:
            return []
        self._announced, note = chosen
        return [peer_pb2.ReadLogResponse(checkpoint=note)]

    def _choose(self, log: LogState) -> tuple[int, bytes] | None:
        ceiling = self._ceiling(log)
        if 0 < log.signed_size == ceiling <= self._sent + self._entries_max:
            return log.signed_size, log.head_note
        signed = self._store.checkpoints.choose(log.id, start=self._sent, entries_max=self._entries_max, ceiling=ceiling)
        return None if signed is None else (signed.size, bytes(signed))

    def _begin_round(self, log: LogState) -> _Round | None:
        """The next round; None when there is nothing to send."""
        goal, base, reader, late = log.last_sequence, self._sent, self._reader, self._store.late
        if not self._takes_late:
            return None if base == self._announced else _Round(0, None, iter(()), clean=True, whole=True)
        if self._after > goal:
            self._after = 0
        if self._after == goal and base == self._announced:
            return None
        grants = late.granted_from(log.id, start=base, reader=reader)
        due = [index for at, index in grants if at < self._announced]
        pages = chain(
            late.late_pages(log.id, before=base, after=self._after, upto=goal, reader=reader),
            late.granted_pages(log.id, due, before=self._announced, reader=reader),
        )
        first = next(pages, None)
        if first is None and base == self._announced:
            self._after = goal
            return None
        return _Round(goal, first, pages, clean=first is None and not grants, whole=len(due) == len(grants))

    def _next_page(self, log: LogState, work: _Round) -> LogPage:
        """The next page of a round, with the cursor where it may be said; ends the round with its last page."""
        if self._sent < self._announced:
            page = self._store.logs.read_page(log, start=self._sent, stop=self._announced, reader=self._reader)
            self._sent += len(page.commitments) // COMMITMENT_SIZE
        else:
            assert work.late is not None, "a round without a page"
            page, work.late = replace(work.late, start=self._sent), next(work.later, None)
        ended = self._sent == self._announced and work.late is None
        if ended:
            self._round, self._after = None, work.goal
        return replace(page, cursor=work.goal) if work.clean or (ended and work.whole) else page
