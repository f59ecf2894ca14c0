"""One stream of one log: what arrives is judged by the mirror, and saved as far as it verifies."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from node.clock import milliseconds
from node.core.card import Card
from node.core.checkpoint import SignedCheckpoint
from node.core.entry import LogPage
from node.core.mirror import AcceptedPage, Mirror
from node.errors import MalformedError, RollbackError, SplitViewError
from node.store.logs import LogState
from node.sync.peer import PeerState

if TYPE_CHECKING:
    from node.sync.follower import FollowerParts

logger = logging.getLogger(__name__)


class PullSession:
    """One stream of one log: the mirror and the log's row move together. Called off the event loop, one call at a time."""

    def __init__(self, parts: FollowerParts, log: LogState, card: Card, state: PeerState) -> None:
        """Begin with what the store holds."""
        self.log = log
        self._parts, self._state = parts, state
        self._surviving = parts.exchange.surviving_head(log.member)
        self._mirror = Mirror(
            card,
            reader=parts.membership.member,
            kinds=parts.kinds,
            head=log.head,
            staged=log.staged,
            staged_bytes=log.staged_bytes,
            limits=parts.limits,
            surviving=self._surviving,
        )
        self._mirror.compare_former_roots(lambda size: parts.store.logs.tree(log.id).root(size))
        # What was announced on an earlier connection may have been a lie; the truth is announced again at once.
        state.verified = state.size = log.head_size

    @property
    def waiting_for_pages(self) -> bool:
        """Whether entries up to an announced checkpoint are still missing."""
        return self._mirror.target is not None and not self._mirror.complete

    def apply(self, message: bytes | LogPage) -> bool:
        """Take an announcement or a page; returns whether something became visible.

        Raises:
            PeerFaultError: it cannot be taken; nothing was saved of it.
            StoreError: the database refused.
        """
        if self._parts.exchange.evidence.split_view_of(self.log.member) is not None:
            return False  # found while this message was on its way: the stream is about to end
        page = None
        if isinstance(message, LogPage):
            page = self._mirror.accept_page(message, self._held_commitment, self._granted_to)
        else:
            reached, waiting = self._mirror.target, self.waiting_for_pages
            signed = self._accept_announcement(message)
            # Each checkpoint of a stream leads further than the last: announcements alone could come without end.
            if waiting or (reached is not None and signed.size <= reached.size):
                raise MalformedError(f"{signed.origin}: size {signed.size} was announced out of turn")
            self._state.size = max(self._state.size, signed.size)
            if self._mirror.staged.size > signed.size:
                self.drop_staged()
        return self._save(page)

    def drop_staged(self) -> None:
        """Forget what is not covered by the head."""
        self.log = self._parts.store.logs.drop_staged(self.log)
        self._mirror.restart(self.log.head_frontier)

    def _accept_announcement(self, note: bytes) -> SignedCheckpoint:
        exchange = self._parts.exchange
        try:
            signed = self._mirror.accept_announcement(note)
        except (RollbackError, SplitViewError) as error:
            _, splits = exchange.accept_notes([note], peer=self._state.member)  # its signature is good: it may be evidence
            if splits and isinstance(error, RollbackError):
                raise splits[0] from None
            raise
        exchange.note_announced(signed, surviving=self._surviving)
        return signed

    def _save(self, page: AcceptedPage | None) -> bool:
        logs, member = self._parts.store.logs, self._state.member
        if self._mirror.complete and self._mirror.staged.size > self._mirror.head_size:
            signed = self._mirror.accept_head()
            now_ms = milliseconds(self._parts.clock())
            self.log = logs.accept_head(self.log, page, signed, server=member, now_ms=now_ms)
            self._state.verified = self.log.head_size
            at = self._parts.clock().timestamp()
            logger.info("event=verified origin=%s size=%d at=%.6f", self.log.origin, self.log.head_size, at)
            self._parts.exchange.evidence.search_contradictions(self.log)
            self._parts.exchange.review_announced(self.log)
            return True
        if page is not None:
            self.log = logs.stage(self.log, page, server=member)
            self._parts.exchange.evidence.search_contradictions(self.log)
            return any(item.opening.index < self.log.head_size for item in page.openings)
        return False

    def _held_commitment(self, index: int) -> bytes | None:
        return self._parts.store.logs.commitment_at(self.log.id, index)

    def _granted_to(self, index: int) -> Collection[str]:
        return self._parts.store.late.granted_to(self.log.id, index)
