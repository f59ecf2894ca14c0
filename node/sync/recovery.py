"""Take back what peers hold of the own log and this home does not: after a restore, or a rollback of the whole machine.

At each contact a peer tells which checkpoint of our log it holds. Where that leads beyond what is signed here, our log is
read from this peer like any mirrored one: staged, verified against a checkpoint that our own log key has signed, and only
then put in place (`Ledger.take_back`), checkpoint by checkpoint, so that a broken line costs little. Then the peer is asked
for the openings that are still missing, and only after that does it count as having told. One peer at a time gives back;
one that announces entries and does not deliver them, or only drop by drop, is left alone for a while, longer each time,
and said so: nobody can keep the others from giving back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from node.confirmation import Confirmation
from node.core.checkpoint import SignedCheckpoint
from node.core.entry import COMMITMENT_SIZE, SEQUENCE_MAX, LogPage, committer
from node.core.kinds import Kinds
from node.core.mirror import AcceptedOpening, Mirror, StagingLimits
from node.errors import MalformedError, PeerFaultError, PeerUnreachableError, ProofError, SplitViewError
from node.ledger import Ledger
from node.membership import Membership
from node.recovery import accept_own_opening
from node.store import Store
from node.store.logs import LogState
from node.sync.peer import PeerClient
from node.sync.threads import finish

logger = logging.getLogger(__name__)

STEP_ENTRIES = 100_000
STALL_S = 30.0
RATE_MIN = 16 * 1024
"""Bytes of entries a second that a peer has to deliver in the long run, beyond the first `STALL_S`."""
TURN_S = 120.0
"""For how long a peer may keep the turn while another waits; doubled at each failure, so that slow lines get through."""
TURN_DOUBLINGS_MAX = 2
FAULT_PAUSE_S = 30.0
FAULT_PAUSE_MAX_S = 3600.0


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
    turn_s: float = TURN_S
    fault_pause_s: float = FAULT_PAUSE_S
    now_s: Callable[[], float] = time.monotonic
    complete_erasures: Callable[[], object] = list
    """Called when something may have come back: an erasure may have to be told to more members than it was."""


@dataclass(slots=True)
class Patience:
    """How long a peer has kept us waiting, and what came. Time spent here is not counted against it."""

    stall_s: float
    waited_s: float = 0.0
    received: int = 0

    def note(self, seconds: float, message: bytes | LogPage) -> None:
        """Note what came after so many seconds; announcements count for nothing."""
        self.waited_s += seconds
        if isinstance(message, LogPage):
            self.received += len(message.commitments) + sum(len(opening.record) for opening in message.openings)

    def left_s(self) -> float:
        """For how many seconds the next message may be waited for."""
        return min(self.stall_s, self.stall_s + self.received / RATE_MIN - self.waited_s)


@dataclass(slots=True)
class Recovery:
    """Who was asked, and who failed. Lives on the event loop; the work is done in threads."""

    parts: RecoveryParts
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _faults: dict[str, str] = field(default_factory=dict)
    _not_before_s: dict[str, float] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    # Kept from turn to turn, so that ending a stream early and coming back does not buy time.
    _patience: dict[str, Patience] = field(default_factory=dict)
    _contested: bool = False
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
        if parts.confirmation.longer is None:
            self._failures.clear()  # nobody can block what is done
            self._patience.clear()
        await self._ask_openings(client, member)
        changed = await asyncio.to_thread(parts.confirmation.accept_told, member, note)
        if told is not None:
            await finish(asyncio.to_thread(parts.ledger.adopt_head, told))
            await finish(asyncio.to_thread(parts.ledger.renew_head, told, parts.membership.own_card[1]))
        signed = await finish(asyncio.to_thread(parts.ledger.sign_head))
        await finish(asyncio.to_thread(parts.complete_erasures))
        return signed or changed

    async def _take_turn(self, client: PeerClient, member: str) -> bool:
        """Let this peer give back one stretch, if no other does; returns whether it did."""
        if self._turn.locked():
            self._contested = True
            return False
        if self.parts.now_s() < self._not_before_s.get(member, 0.0):
            return False
        async with self._turn:
            self._contested = False
            before, moved, fault = self.parts.ledger.log.signed_size, False, ""
            try:
                moved = await self._pull(client, member)
                fault = "" if moved else "nothing came"
            except SplitViewError:
                await asyncio.to_thread(self.parts.confirmation.note_contradiction, member)
                return False
            except PeerFaultError as error:
                fault = error.message
            except PeerUnreachableError:
                # The stream's own deadline is one of these: whoever runs into it lets others go first.
                if self._patience_with(member).waited_s > self.parts.stall_s:
                    self._pause(member)
                raise
            finally:
                await finish(asyncio.to_thread(self.parts.store.rebase.discard_staging, self.parts.ledger.log))
        if moved or self.parts.ledger.log.signed_size != before:
            self._steps += 1
            await asyncio.to_thread(self.parts.confirmation.reconsider)
            logger.info("event=recovered member=%s size=%d", member, self.parts.ledger.log.signed_size)
        if fault:
            self._note_fault(member, fault)
        else:
            self._faults.pop(member, None)
            self.parts.on_progress()
        return not fault

    async def _pull(self, client: PeerClient, member: str) -> bool:
        """Read from the newest signed checkpoint on; where that leads nowhere, from the beginning."""
        head = self.parts.ledger.log.head
        try:
            return await self._read(client, member, await asyncio.to_thread(RecoverySession, self.parts, head))
        except ProofError:
            # Either the peer sends wrong entries, or its history does not contain our newest checkpoint.
            if head is None:
                raise
            logger.warning("event=recovery_from_start member=%s size=%d", member, head.size)
            return await self._read(client, member, await asyncio.to_thread(RecoverySession, self.parts, None))

    async def _read(self, client: PeerClient, member: str, session: RecoverySession) -> bool:
        origin, limit = self.parts.ledger.origin, min(STEP_ENTRIES, self.parts.limits.entries)
        stream = client.read_log(origin, start=session.start, after=SEQUENCE_MAX, follow=False, entries_max=limit)
        patience = self._patience_with(member)
        begun_s = patience.waited_s
        turn_s = self.parts.turn_s * 2 ** min(self._failures.get(member, 0), TURN_DOUBLINGS_MAX)
        async for message in self._in_time(stream, patience):
            await finish(asyncio.to_thread(session.apply, message))
            if self._contested and patience.waited_s - begun_s > turn_s:
                raise MalformedError(f"what it gives back takes longer than {turn_s:.0f} s, and another peer waits")
        return session.moved

    def _patience_with(self, member: str) -> Patience:
        return self._patience.setdefault(member, Patience(self.parts.stall_s))

    async def _in_time(self, stream: AsyncIterator[bytes | LogPage], patience: Patience) -> AsyncIterator[bytes | LogPage]:
        """The messages of a stream; a peer that makes us wait is at fault, for others may deliver."""
        now_s = self.parts.now_s
        while (left_s := patience.left_s()) > 0:
            begun_s = now_s()
            try:
                async with asyncio.timeout(left_s):
                    message = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                break
            patience.note(now_s() - begun_s, message)
            yield message
        waited_s = max(patience.waited_s, patience.stall_s)
        raise MalformedError(f"in {waited_s:.0f} s of waiting only {patience.received} bytes came")

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
            async for message in self._in_time(stream, Patience(parts.stall_s)):
                await finish(asyncio.to_thread(session.apply, message))
        except PeerFaultError as error:
            logger.warning("event=openings_refused member=%s error=%r", member, error.message)
        self._asked[member] = steps
        if session.found:
            logger.info("event=openings_recovered member=%s count=%d", member, session.found)

    def _pause(self, member: str) -> None:
        """Leave a peer alone, each time longer; then its time is counted anew."""
        failures = self._failures.get(member, 0)
        pause_s = min(self.parts.fault_pause_s * 2 ** min(failures, 20), FAULT_PAUSE_MAX_S)
        self._not_before_s[member] = self.parts.now_s() + pause_s
        self._failures[member] = failures + 1
        self._patience.pop(member, None)

    def _note_fault(self, member: str, why: str) -> None:
        self._pause(member)
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
            ledger.take_back(self._staging, signed, standing=self._parts.confirmation.standing_size)
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
