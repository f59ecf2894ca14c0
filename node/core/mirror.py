"""Mirror: what one node believes of a peer's log, and why.

Bytes go in, verified values come out, or an error that says whose fault it is; nothing is saved here. The order is
always the same:

1. `accept_announcement`: a checkpoint by the author's log key, not smaller than the one held;
2. `accept_page`, repeated: commitments that continue where the last page ended, openings that fit their commitments;
3. `accept_head`: the root over everything received equals the announced one. Only then may anything become visible.

Openings may come later than their commitments. One for a reader outside the record's own audience must: it is taken only
when a verified grant of the same log names the entry and the reader.

A wrong commitment or root is the fault of the peer that serves the log. Bytes that fit their commitment but are not a
valid record are the fault of the author: the entry is quarantined and the log goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from node.core.card import Card
from node.core.checkpoint import SignedCheckpoint, parse_checkpoint, verify_checkpoint
from node.core.disclosure import STATEMENT_KINDS, Erasure, Grant, parse_statement
from node.core.entry import (
    COMMITMENT_SIZE,
    PAGE_ENTRIES_MAX,
    SALT_SIZE,
    SEQUENCE_MAX,
    LogPage,
    Opening,
    committer,
    split_commitments,
)
from node.core.kinds import Kinds
from node.core.merkle import Frontier
from node.core.record import RECORD_SIZE_MAX, Record, may_read, parse_record
from node.core.roster import Head
from node.errors import (
    FormatError,
    InvalidRecordError,
    MalformedError,
    ProofError,
    RollbackError,
    SignatureError,
    SplitViewError,
    StagingLimitError,
)

STAGING_ENTRIES_MAX = 1_000_000
STAGING_BYTES_MAX = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StagingLimits:
    """How much of one log may wait unverified, in entries and in bytes."""

    entries: int = STAGING_ENTRIES_MAX
    bytes: int = STAGING_BYTES_MAX


class AcceptedOpening(NamedTuple):
    """An opening that fits its commitment. Without a record it is quarantined, and `fault` says why."""

    opening: Opening
    record: Record | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedPage:
    """A page ready to be staged: single commitments, openings, and the tree after it."""

    start: int
    commitments: list[bytes]
    openings: list[AcceptedOpening]
    frontier: Frontier
    tiles: list[bytes]
    size_bytes: int
    cursor: int = 0


def _statement(item: AcceptedOpening) -> Grant | Erasure | None:
    """What an accepted grant or erasure says; None for every other record."""
    record = item.record
    if record is None or not record.understood or record.kind not in STATEMENT_KINDS:
        return None
    return parse_statement(record.content, index=item.opening.index)


def _nobody(_index: int) -> Collection[str]:
    return ()


class Mirror:
    """The state machine of one mirrored log. Not thread-safe: one follower owns it."""

    def __init__(
        self,
        card: Card,
        *,
        reader: str,
        kinds: Kinds,
        head: SignedCheckpoint | None = None,
        staged: Frontier | None = None,
        staged_bytes: int = 0,
        limits: StagingLimits | None = None,
        surviving: Head | None = None,
    ) -> None:
        """Begin with what the store holds.

        Args:
            card: the author's newest card.
            reader: the member whose node this is; openings for others are refused.
            kinds: the schemas known here.
            head: the newest verified checkpoint.
            staged: the tree over everything stored, verified or not.
            staged_bytes: bytes of the openings beyond the head.
            limits: how much may wait unverified.
            surviving: the size and root that the log must have after a fork, as the roster says.
        """
        self.card = card
        self.head = head
        self.staged = staged or Frontier()
        self.staged_bytes = staged_bytes
        self.target: SignedCheckpoint | None = None
        self._late = 0
        self._contradicted: int | None = None
        self._reader, self._kinds = reader, kinds
        self._limits = limits or StagingLimits()
        self._surviving = surviving
        self._commit = committer(card.origin)

    @property
    def head_size(self) -> int:
        """Size of the verified log."""
        return self.head.size if self.head else 0

    @property
    def complete(self) -> bool:
        """Whether everything up to the announced checkpoint has arrived."""
        return self.target is not None and self.staged.size == self.target.size

    def accept_announcement(self, raw: bytes) -> SignedCheckpoint:
        """Take the checkpoint that the following pages lead to. Its own note is returned, without cosignatures.

        Raises:
            MalformedError: not a checkpoint of this log.
            SignatureError: not signed by the log key valid at that size.
            RollbackError: smaller than the verified log.
            SplitViewError: the verified size with another root.
            StagingLimitError: further ahead than this node stages.
        """
        try:
            signed = parse_checkpoint(raw)
        except FormatError as error:
            raise MalformedError(f"{self.card.origin}: the announced checkpoint: {error.message}") from error
        if signed.origin != self.card.origin:
            raise MalformedError(f"{self.card.origin}: a checkpoint of {signed.origin[:120]} was announced")
        key = self.card.log_key_at(signed.size, signed.root)
        verify_checkpoint(signed, key)
        signed = signed.signed_by(key)
        self._require_extension(signed)
        self.target = signed
        return signed

    def restart(self, staged: Frontier) -> None:
        """Forget what is staged; `staged` is the tree over the verified entries."""
        if staged.size != self.head_size:
            raise FormatError(f"{self.card.origin}: a restart at {staged.size}, but {self.head_size} are verified")
        self.staged, self.staged_bytes = staged, 0
        self._contradicted = None

    def compare_former_roots(self, root_at: Callable[[int], bytes]) -> None:
        """Note where what was staged earlier differs from the roots at which the card ends former keys."""
        for former in self.card.former_log_keys:
            if self.head_size < former.size <= self.staged.size and root_at(former.size) != former.root:
                self._contradicted = former.size

    def accept_page(
        self,
        page: LogPage,
        held_commitment: Callable[[int], bytes | None],
        granted_to: Callable[[int], Collection[str]] = _nobody,
    ) -> AcceptedPage:
        """Verify one page against what came before it.

        Args:
            page: what the serving peer sent.
            held_commitment: gives stored commitments, for late openings.
            granted_to: the members to whom a verified grant of this log opens an entry. An opening for others than the
                record's own audience is taken only late, after such a grant.

        Raises:
            MalformedError: the page does not continue the log, or is not of the agreed form.
            ProofError: an opening does not fit its commitment.
            StagingLimitError: more waits unverified than this node keeps.
        """
        commitments = self._require_continuation(page)
        openings = self._accept_openings(page, commitments, held_commitment, granted_to)
        # Openings of verified entries wait for no head.
        verified = self.head_size
        size_bytes = sum(len(opening.record) for opening in page.openings if opening.index >= verified)
        if self.staged_bytes + size_bytes > self._limits.bytes:
            raise StagingLimitError(f"{self.card.origin}: more than {self._limits.bytes} bytes wait unverified")
        self._require_survival(commitments)
        frontier, tiles = self._extend(commitments)
        self.staged, self.staged_bytes = frontier, self.staged_bytes + size_bytes
        return AcceptedPage(page.start, commitments, openings, frontier, tiles, size_bytes, page.cursor)

    def accept_head(self) -> SignedCheckpoint:
        """Move the head to the announced checkpoint, once its root equals the root of everything received.

        Raises:
            MalformedError: entries are still missing.
            ProofError: the root is another one.
            SignatureError: it is the signed one, but the log does not pass through a root that the card names.
        """
        target = self.target
        if target is None or not self.complete:
            raise MalformedError(f"{self.card.origin}: the log ended before the announced checkpoint")
        if self.staged.root() != target.root:
            raise ProofError(f"{self.card.origin}: the entries received do not have the root signed for {target.size}")
        if self._contradicted is not None:
            at = self._contradicted
            raise SignatureError(f"{self.card.origin}: the card ends a key at size {at} with another root than the log has")
        self.head, self.staged_bytes = target, 0
        return target

    def _extend(self, commitments: list[bytes]) -> tuple[Frontier, list[bytes]]:
        """The tree after a page; on the way it is compared with the roots at which former keys ended."""
        frontier, tiles, done = self.staged, list[bytes](), 0
        start = frontier.size
        for former in self.card.former_log_keys:
            if start < former.size <= start + len(commitments):
                frontier, full = frontier.extend(commitments[done : former.size - start])
                tiles, done = tiles + full, former.size - start
                if frontier.root() != former.root:
                    self._contradicted = former.size
        frontier, full = frontier.extend(commitments[done:])
        return frontier, tiles + full

    def _require_extension(self, signed: SignedCheckpoint) -> None:
        origin, held = self.card.origin, self.head
        if held and signed.size < held.size:
            raise RollbackError(origin, held_size=held.size, offered_size=signed.size)
        if held and signed.size == held.size and signed.root != held.root:
            raise SplitViewError(origin, size=held.size, held_note=bytes(held), offered_note=bytes(signed))
        if signed.size - self.head_size > self._limits.entries:
            raise StagingLimitError(
                f"{origin}: {signed.size} entries were announced, {self.head_size} are verified, and at most "
                f"{self._limits.entries} may wait unverified"
            )

    def _require_survival(self, commitments: list[bytes]) -> None:
        """Refuse the history that the council did not choose."""
        head = self._surviving
        if head is None or not self.staged.size < head.size <= self.staged.size + len(commitments):
            return
        if self.staged.extend(commitments[: head.size - self.staged.size])[0].root() != head.root:
            raise ProofError(f"{self.card.origin}: not the history that the roster lets survive, up to size {head.size}")

    def _require_continuation(self, page: LogPage) -> list[bytes]:
        origin, target = self.card.origin, self.target
        if target is None:
            raise MalformedError(f"{origin}: a page before any checkpoint was announced")
        if len(page.commitments) % COMMITMENT_SIZE:
            raise MalformedError(f"{origin}: a truncated page: {len(page.commitments)} bytes of commitments")
        commitments = split_commitments(page.commitments)
        if len(commitments) > PAGE_ENTRIES_MAX or len(page.openings) > PAGE_ENTRIES_MAX:
            raise MalformedError(f"{origin}: a page of more than {PAGE_ENTRIES_MAX} entries")
        if not commitments and not page.openings:
            raise MalformedError(f"{origin}: an empty page")
        if page.cursor > SEQUENCE_MAX:
            raise MalformedError(f"{origin}: a page with an impossible cursor")
        if commitments and page.start != self.staged.size:
            raise MalformedError(f"{origin}: a page from entry {page.start}, but {self.staged.size} comes next")
        if self.staged.size + len(commitments) > target.size:
            raise MalformedError(f"{origin}: entries beyond the announced size {target.size}")
        return commitments

    def _accept_openings(
        self,
        page: LogPage,
        commitments: list[bytes],
        held_commitment: Callable[[int], bytes | None],
        granted_to: Callable[[int], Collection[str]],
    ) -> list[AcceptedOpening]:
        start = self.staged.size
        accepted: list[AcceptedOpening] = []
        seen: set[int] = set()
        opened: dict[int, set[str]] = defaultdict(set)
        for opening in page.openings:
            index = opening.index
            if start <= index < start + len(commitments):
                expected: bytes | None = commitments[index - start]
            else:
                expected = held_commitment(index) if 0 <= index < start else None
                self._require_few_late(start)
            if expected is None or index in seen:
                raise MalformedError(f"{self.card.origin}: an opening of entry {index}, which is not in the page")
            seen.add(index)
            item = self._accept_opening(opening, expected)
            if not self._is_meant(item):
                granted = opened[index].union(granted_to(index)) if index < start else ()
                if self._reader not in granted:
                    raise MalformedError(f"{self.card.origin}: the opening of entry {index} is not for {self._reader}")
            # The opening of a verified grant may come late, too, in front of what it opens.
            if index < self.head_size and isinstance(grant := _statement(item), Grant):
                opened[grant.index].update(grant.members)
            accepted.append(item)
        return accepted

    def _require_few_late(self, size: int) -> None:
        # A stream that broke off is repeated once at most, and each grant is an entry: more than both is the same again.
        self._late += 1
        if self._late > 2 * size:
            raise MalformedError(f"{self.card.origin}: more late openings than the {size} entries before them explain")

    def _is_meant(self, item: AcceptedOpening) -> bool:
        """Whether the record's own audience has this reader. Bytes that are no record have none."""
        author, record = self.card.member, item.record
        return record is None or may_read(record.content["audience"], author=author, reader=self._reader)

    def _accept_opening(self, opening: Opening, expected: bytes) -> AcceptedOpening:
        origin, raw = self.card.origin, opening.record
        if len(opening.salt) != SALT_SIZE or len(raw) > RECORD_SIZE_MAX or opening.sequence > SEQUENCE_MAX:
            raise MalformedError(f"{origin}: the opening of entry {opening.index} has an impossible size or number")
        if self._commit(opening.salt, raw) != expected:
            raise ProofError(f"{origin}: the opening of entry {opening.index} does not fit its commitment")
        try:
            record = parse_record(raw, author=self.card.member, kinds=self._kinds)
        except InvalidRecordError as error:
            return AcceptedOpening(opening, None, error.message)
        return AcceptedOpening(opening, record)
