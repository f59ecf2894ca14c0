"""Take back what peers hold of the own log and this home does not: after a restore, or a rollback of the whole machine.

At each contact a peer tells which checkpoint of our log it holds. Where that leads beyond what is signed here, our log is
read from this peer like any mirrored one: staged, verified against a checkpoint that our own log key has signed, and only
then put in place (`Ledger.take_back`), checkpoint by checkpoint, so that a broken line costs little. Then the peer is asked
for the openings that are still missing, and only after that does it count as having told. One peer at a time gives back;
one that announces entries and does not deliver them is left alone for a while, and said so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from node.confirmation import Confirmation
from node.core.checkpoint import SignedCheckpoint
from node.core.entry import COMMITMENT_SIZE, SEQUENCE_MAX, LogPage, committer
from node.core.kinds import Kinds
from node.core.mirror import AcceptedOpening, Mirror, StagingLimits
from node.errors import MalformedError, PeerFaultError, ProofError, SplitViewError
from node.ledger import Ledger
from node.membership import Membership
from node.recovery import accept_own_opening
from node.store import Store
from node.store.logs import LogState
from node.sync.peer import PeerClient
from node.sync.threads import finish

logger = logging.getLogger(__name__)

STEP_ENTRIES = 100_000
STALL_S = 60.0
FAULT_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class RecoveryParts:
    """What a recovery reads from and writes to. `on_progress` is called when other peers should be asked soon."""

    store: Store
    ledger: Ledger
    membership: Membership
    confirmation: Confirmation
    kinds: Kinds
    limits: StagingLimits
    on_progress: Callable[[], None]
    stall_s: float = STALL_S
    fault_pause_s: float = FAULT_PAUSE_S


@dataclass(slots=True)
class Recovery:
    """Who was asked, and who failed. Lives on the event loop; the work is done in threads."""

    parts: RecoveryParts
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _faults: dict[str, str] = field(default_factory=dict)
    _not_before_s: dict[str, float] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)
    _steps: int = 0

    def sentences(self) -> list[str]:
        """What a person should know of it, one sentence each."""
        return list(self._faults.values())

    async def meet(self, client: PeerClient, member: str, note: bytes) -> bool:
        """Take what a peer holds of our log; returns whether more may be published than before.

        Raises:
            PeerFaultError: the note is none of ours.
            PeerUnreachableError: the peer did not answer; try again later.
        """
        parts = self.parts
        told = await asyncio.to_thread(parts.confirmation.parse_told, member, note)
        while await asyncio.to_thread(parts.confirmation.holds_more, member, told):
            if not await self._take_turn(client, member):
                break
        await self._ask_openings(client, member)
        changed = await asyncio.to_thread(parts.confirmation.accept_told, member, note)
        if told is not None:
            await finish(asyncio.to_thread(parts.ledger.adopt_head, told))
        return await finish(asyncio.to_thread(parts.ledger.sign_head)) or changed

    async def _take_turn(self, client: PeerClient, member: str) -> bool:
        """Let this peer give back one stretch, if no other does; returns whether it did."""
        loop = asyncio.get_running_loop()
        if self._turn.locked() or loop.time() < self._not_before_s.get(member, 0.0):
            return False
        async with self._turn:
            try:
                moved = await self._pull(client, member)
            except SplitViewError as error:
                self.parts.confirmation.note_conflict(f"{error.message}: {member} holds a history that ours contradicts")
                return False
            except PeerFaultError as error:
                self._note_fault(member, loop.time(), error.message)
                return False
            finally:
                await finish(asyncio.to_thread(self.parts.store.rebase.discard_staging, self.parts.ledger.log))
        if moved:
            self._faults.pop(member, None)
            self._steps += 1
            await asyncio.to_thread(self.parts.confirmation.reconsider)
            logger.info("event=recovered member=%s size=%d", member, self.parts.ledger.log.signed_size)
            self.parts.on_progress()
        else:
            self._note_fault(member, loop.time(), "nothing came")
        return moved

    async def _pull(self, client: PeerClient, member: str) -> bool:
        """Read from the newest signed checkpoint on; where that leads nowhere, from the beginning."""
        head = self.parts.ledger.log.head
        try:
            return await self._read(client, await asyncio.to_thread(RecoverySession, self.parts, head))
        except ProofError:
            # Either the peer sends wrong entries, or its history does not contain our newest checkpoint.
            if head is None:
                raise
            logger.warning("event=recovery_from_start member=%s size=%d", member, head.size)
            return await self._read(client, await asyncio.to_thread(RecoverySession, self.parts, None))

    async def _read(self, client: PeerClient, session: RecoverySession) -> bool:
        origin, limit = self.parts.ledger.origin, min(STEP_ENTRIES, self.parts.limits.entries)
        stream = client.read_log(origin, start=session.start, after=SEQUENCE_MAX, follow=False, entries_max=limit)
        async for message in self._in_time(stream):
            await finish(asyncio.to_thread(session.apply, message))
        return session.moved

    async def _in_time(self, stream: AsyncIterator[bytes | LogPage]) -> AsyncIterator[bytes | LogPage]:
        """The messages of a stream; a peer that makes us wait is at fault, for others may deliver."""
        while True:
            try:
                async with asyncio.timeout(self.parts.stall_s):
                    message = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise MalformedError(f"nothing came for {self.parts.stall_s:.0f} s") from None
            yield message

    async def _ask_openings(self, client: PeerClient, member: str) -> None:
        """Ask a peer once for the openings that this home lacks, and again after each recovery."""
        parts = self.parts
        if self._asked.get(member) == self._steps:
            return
        missing = await asyncio.to_thread(parts.store.rebase.read_unopened, parts.ledger.log, start=0, limit=1)
        if not missing:
            return
        session, steps = OpeningSession(parts, start=missing[0][0]), self._steps
        stream = client.read_log(
            parts.ledger.origin, start=session.start, after=SEQUENCE_MAX, follow=False, entries_max=STEP_ENTRIES
        )
        try:
            async for message in self._in_time(stream):
                await finish(asyncio.to_thread(session.apply, message))
        except PeerFaultError as error:
            logger.warning("event=openings_refused member=%s error=%r", member, error.message)
        self._asked[member] = steps
        if session.found:
            logger.info("event=openings_recovered member=%s count=%d", member, session.found)

    def _note_fault(self, member: str, now_s: float, why: str) -> None:
        self._not_before_s[member] = now_s + self.parts.fault_pause_s
        self._faults[member] = (
            f"{member} has shown that it holds entries of this member's log which this home lacks, but does not give "
            f"them back: {why}"
        )
        logger.warning("event=recovery_failed member=%s error=%r", member, why)
        self.parts.on_progress()


class RecoverySession:
    """One stream of the own log. Called off the event loop, one call at a time."""

    def __init__(self, parts: RecoveryParts, base: SignedCheckpoint | None) -> None:
        """Begin behind a signed checkpoint, or at the first entry."""
        self._parts = parts
        self.moved = False
        self._staging, self._mirror = self._begin(base)

    @property
    def start(self) -> int:
        """Index of the first entry that is asked for."""
        return self._mirror.staged.size

    def apply(self, message: bytes | LogPage) -> None:
        """Take an announcement or a page; when a checkpoint is reached, take everything up to it back.

        Raises:
            PeerFaultError: it cannot be taken; nothing was changed.
            SplitViewError: another history than the one given back was seen by others.
            StoreError: the database refused.
        """
        if isinstance(message, LogPage):
            page = self._mirror.accept_page(message, lambda _: None)
            self._staging = self._parts.store.logs.stage(self._staging, page, server="")
        else:
            reached = self._mirror.target
            signed = self._mirror.accept_announcement(message)
            if (reached is not None and not self._mirror.complete) or signed.size <= self._mirror.head_size:
                raise MalformedError(f"size {signed.size} was announced out of turn")
        if self._mirror.complete:
            self._reach(self._mirror.accept_head())

    def _begin(self, base: SignedCheckpoint | None) -> tuple[LogState, Mirror]:
        parts = self._parts
        staging = parts.store.rebase.open_staging(parts.ledger.log, base)
        mirror = Mirror(
            parts.membership.own_card[1],
            reader=parts.membership.member,
            kinds=parts.kinds,
            head=base,
            staged=staging.staged,
            limits=parts.limits,
        )
        return staging, mirror

    def _reach(self, signed: SignedCheckpoint) -> None:
        ledger = self._parts.ledger
        log = ledger.log
        known = signed.size <= log.signed_size and self._parts.store.logs.tree(log.id).root(signed.size) == signed.root
        if not known:
            ledger.take_back(self._staging, signed)
            self.moved = True
        self._staging, self._mirror = self._begin(signed)


class OpeningSession:
    """One stream that is read for its openings alone: each proves itself by the commitment that is held here."""

    def __init__(self, parts: RecoveryParts, *, start: int) -> None:
        """Ask from an index on."""
        self._parts, self.start, self.found = parts, start, 0
        self._next, self._announced = start, False
        self._commit = committer(parts.ledger.origin)

    def apply(self, message: bytes | LogPage) -> None:
        """Take the openings that are missing.

        Raises:
            PeerFaultError: pages out of turn, or an opening that does not fit.
            StoreError: the database refused.
        """
        parts = self._parts
        if not isinstance(message, LogPage):
            if self._announced:
                raise MalformedError("two checkpoints without a page between them")
            self._announced = True
            return
        entries = len(message.commitments) // COMMITMENT_SIZE
        if message.start != self._next or not entries or message.start >= parts.ledger.log.signed_size:
            raise MalformedError(f"a page from entry {message.start}, where {self._next} comes next")
        self._next, self._announced = self._next + entries, False
        missing = dict(parts.store.rebase.read_unopened(parts.ledger.log, start=message.start, limit=entries))
        found: list[AcceptedOpening] = [
            accept_own_opening(
                opening,
                missing[opening.index],
                author=parts.membership.member,
                commit=self._commit,
                kinds=parts.kinds,
            )
            for opening in message.openings
            if opening.index in missing
        ]
        if found:
            parts.ledger.save_openings(found)
            self.found += len(found)
