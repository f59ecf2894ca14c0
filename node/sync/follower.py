"""Follow one peer: contact, pull, verify, save, again and again.

Nothing becomes visible unless the whole range up to a signed checkpoint verifies, so a stopped pull can be repeated. Only
PeerUnreachableError is retried, with exponential back-off and jitter; after a fault of the peer the follower pauses and
shows why, because repeating the same request at once cannot help. The peer ends that pause by calling, but not the rest that
grows where its pages come to nothing again and again (`resting`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from node.clock import Clock, milliseconds
from node.confirmation import Confirmation
from node.core.alliance import format_card
from node.core.card import Card
from node.core.entry import LogPage
from node.core.kinds import Kinds
from node.core.mirror import StagingLimits
from node.errors import (
    LabmeshError,
    PeerFaultError,
    PeerUnreachableError,
    ProofError,
    RollbackError,
    SignatureError,
    SplitViewError,
    StagingLimitError,
)
from node.membership import Membership
from node.store import Store
from node.store.logs import LogState
from node.sync.erasures import acknowledge_erasures
from node.sync.evidence import EvidenceTalk, open_surviving
from node.sync.exchange import CheckpointExchange
from node.sync.peer import ROSTERS_TOLD_MAX, Exchange, PeerClient, PeerState
from node.sync.pull import PullSession
from node.sync.recovery import Recovery
from node.sync.resting import REST_S, Rest
from node.sync.revoked import forget_uncounted
from node.sync.survivor import is_replaced
from node.sync.threads import finish

logger = logging.getLogger(__name__)

DISCONNECT_PAUSE_S = 0.2
FAULT_PAUSE_S = 60.0
STALL_S = 60.0
QUEUE_PAGES = 4
UNKNOWN_FAULT = "a fault of this software; the node's log has one line about it"


def _ignore_card(_member: str, _seq: int) -> None:
    """Nobody asks who holds our card."""


@dataclass(frozen=True, slots=True)
class FollowerParts:
    """What every follower of a node shares."""

    store: Store
    membership: Membership
    exchange: CheckpointExchange
    confirmation: Confirmation
    recovery: Recovery
    kinds: Kinds
    clock: Clock
    limits: StagingLimits
    contact_interval_s: float
    retry_max_s: float
    make_client: Callable[[Card], PeerClient]
    on_head: Callable[[LogState], None]
    on_split_view: Callable[[SplitViewError], None]
    on_alarm: Callable[[str, str, str], None]
    """Called as `Alarms.raise_told`."""
    on_card_held: Callable[[str, int], None] = _ignore_card
    """Called with a peer and the `seq` of our card that it is known to hold."""


class Follower:
    """Follows the log of one member, from one peer: that member's own node."""

    def __init__(self, parts: FollowerParts, member: str, state: PeerState) -> None:
        """Follow `member`; what happens is noted in `state`."""
        self.member, self.state = member, state
        self._parts = parts
        self._wake, self._nudge, self._evidence_came = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._entries_max = parts.limits.entries
        self._was_connected = self._asked_again = self._erasures_told = False
        self._other_roster = b""
        self._rest = Rest()
        self._evidence = EvidenceTalk(parts.exchange.evidence, member, parts.on_alarm)

    def wake(self) -> None:
        """Try at once: the peer has just called us, or its card has changed."""
        self._wake.set()

    def nudge(self) -> None:
        """Tell the peer soon that something changed here."""
        self._nudge.set()

    def notice_evidence(self) -> None:
        """Evidence has come or was settled."""
        self._evidence_came.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._follow_with_retries()
                await asyncio.sleep(self._rest.take())
                await self._sleep(DISCONNECT_PAUSE_S)
            except PeerFaultError as error:
                if isinstance(error, SignatureError) and not self._asked_again:
                    # It may have changed its log key a moment ago; the next contact brings its card.
                    self._asked_again = True
                    logger.info("event=asked_again member=%s error=%r", self.member, error.message)
                    continue
                self._note_fault(error)
                await asyncio.sleep(self._rest.take(REST_S))
                if not self._is_accused():  # contact goes on with one whose log is not followed any more
                    await self._sleep(FAULT_PAUSE_S)
            except LabmeshError as error:
                self.state.note_unreachable(error, self._now_ms())
                logger.error("event=follow_failed member=%s reason=%s error=%r", self.member, error.reason, error.message)
                await self._sleep(FAULT_PAUSE_S)
            except Exception as error:
                # A fault of this software: what one peer sent must not end the following of it for good.
                self.state.note_unreachable(LabmeshError(UNKNOWN_FAULT), self._now_ms())
                logger.error("event=follow_failed member=%s type=%s", self.member, type(error).__name__, exc_info=error)
                await self._sleep(FAULT_PAUSE_S)

    async def _follow_with_retries(self) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(PeerUnreachableError),
            wait=wait_random_exponential(multiplier=0.5, max=self._parts.retry_max_s),
            sleep=self._sleep,
            before_sleep=self._note_retry,
        )
        async for attempt in retrying:
            with attempt:
                await self._follow_once()

    async def _follow_once(self) -> None:
        """One connection, until it ends. A connection that worked and broke is not a failed attempt."""
        parts, card = self._parts, self._parts.membership.joined.card(self.member)
        # Before any contact, which may fail for long: a new card or roster may have ended what is held.
        await finish(asyncio.to_thread(forget_uncounted, parts.store, parts.exchange, card))
        client = parts.make_client(card)
        self._was_connected = self._erasures_told = False
        self._show_accusation()
        try:
            await self._contact(client)
            self._was_connected = True
            self._evidence_came.clear()
            accused = self._show_accusation()
            pull = () if accused else (self._pull(client),)
            await _run_together(self._keep_contact(client), self._watch_evidence(accused), *pull)
        except PeerUnreachableError as error:
            self.state.note_unreachable(error, self._now_ms())
            if not self._was_connected:
                raise
            logger.info("event=disconnected member=%s error=%r", self.member, error.message)
        finally:
            await client.close()

    async def _keep_contact(self, client: PeerClient) -> None:
        while True:
            try:
                async with asyncio.timeout(self._parts.contact_interval_s):
                    await self._nudge.wait()
            except TimeoutError:
                pass
            self._nudge.clear()
            await self._contact(client)

    async def _watch_evidence(self, accused: bool) -> None:
        """End when the member's log is to be followed no more, or again."""
        while self._is_accused() == accused:
            await self._evidence_came.wait()
            self._evidence_came.clear()

    def _is_accused(self) -> bool:
        """Whether there is proof that the member signed two histories."""
        return self._parts.exchange.evidence.split_view_of(self.member) is not None

    def _show_accusation(self) -> bool:
        """Put into the state what `_is_accused` says, and say it."""
        piece = self._parts.exchange.evidence.split_view_of(self.member)
        self.state.accuse("" if piece is None else piece.judgement.summary)
        return piece is not None

    async def _contact(self, client: PeerClient) -> None:
        """Exchange checkpoints; where rosters or cards differ, ask for them; tell evidence.

        What either side finds of a split view, both hold when this ends.
        """
        parts = self._parts
        version = parts.membership.joined.roster.version  # before the notes: a newer one may forbid to tell some of them
        notes = await asyncio.to_thread(parts.exchange.held_notes)
        digest = parts.exchange.digest(notes)
        answer = await self._exchange(client, digest)
        rosters, card = await self._reconcile_membership(client, answer)
        if (newest := parts.membership.joined.roster.version) != version:
            version = newest
            notes = await asyncio.to_thread(parts.exchange.held_notes)
        await self._evidence.take(answer.evidence)
        differs = answer.digest != digest
        if differs:
            told = [note for note in answer.notes if note not in set(notes)]
            await self._take_notes(told, version=answer.roster_version)
        if differs or rosters or card:
            told = notes if differs else []
            second = await self._exchange(client, digest, told, version=version, rosters=rosters, card=card)
            await self._evidence.take(second.evidence)
        origin = parts.membership.joined.card(self.member).origin
        await acknowledge_erasures(parts.store, client, origin, again=not self._erasures_told)
        self._erasures_told = True
        await self._evidence.tell(client)
        if await parts.recovery.meet(client, self.member, answer.caller_note):
            logger.info("event=confirmation member=%s ceiling=%d", self.member, parts.confirmation.ceiling)
            parts.on_head(await asyncio.to_thread(self._own_log))

    async def _reconcile_membership(self, client: PeerClient, answer: Exchange) -> tuple[list[bytes], bytes]:
        """Take what the peer has newer; returns the rosters and the own card that it may lack.

        The peer may be unable to dial this node, for example because its address has just changed: so it is told.
        """
        membership = self._parts.membership
        same_cards = answer.cards_digest == membership.cards_digest()
        if answer.roster_version > membership.joined.roster.version or not same_cards:
            await self._take_roster(client)
        if self._holds_other_roster(answer):
            await self._take_roster(client, from_start=True)
        rosters, _ = membership.newer_than(answer.roster_version, membership.held_cards())
        return rosters[:ROSTERS_TOLD_MAX], b"" if same_cards else format_card(membership.own_card)

    async def _exchange(
        self,
        client: PeerClient,
        digest: bytes,
        notes: Sequence[bytes] = (),
        *,
        version: int | None = None,
        rosters: Sequence[bytes] = (),
        card: bytes = b"",
    ) -> Exchange:
        membership = self._parts.membership
        before_ms = self._now_ms()
        answer = await client.exchange_checkpoints(
            digest=digest,
            notes=notes,
            roster_version=membership.joined.roster.version if version is None else version,
            cards_digest=membership.cards_digest(),
            rosters=rosters,
            card=card,
            evidence_ids=await asyncio.to_thread(self._parts.exchange.evidence.known_ids, self.member),
        )
        seq = membership.own_card[1].seq  # before the digest: it may change meanwhile, and must not be taken for held
        if answer.cards_digest == membership.cards_digest():
            self._parts.on_card_held(self.member, seq)
        await self._evidence.hear(answer)
        self.state.note_contact(self._now_ms())
        self.state.clock_offset_ms = answer.time_ms - (before_ms + self._now_ms()) // 2
        return answer

    def _holds_other_roster(self, answer: Exchange) -> bool:
        """Whether the peer's newest roster is not the one of that version held here; each such roster is met once."""
        held = self._parts.membership.joined.rosters
        if not answer.roster_hash or answer.roster_hash == self._other_roster:
            return False
        if answer.roster_version <= len(held) and answer.roster_hash.hex() == held[answer.roster_version - 1][0].hash:
            return False
        self._other_roster = answer.roster_hash
        return True

    async def _take_roster(self, client: PeerClient, *, from_start: bool = False) -> None:
        """Take what the peer has newer, or look at all of its rosters, because it holds another of some version."""
        membership = self._parts.membership
        version = 0 if from_start else membership.joined.roster.version
        held = membership.held_cards()
        held.pop(membership.member, None)  # whatever its `seq`: the peer may hold one that this home has forgotten
        rosters, cards = await client.get_roster(version, held)
        update = await asyncio.to_thread(membership.accept_update, rosters, cards, teller=self.member)
        for refusal in update.refusals:
            self._parts.on_alarm(refusal.accused(self.member), refusal.reason, refusal.sentence(self.member))
        await asyncio.to_thread(self._parts.exchange.evidence.accept_conflicts, update.conflicts)
        if update.changed:
            logger.info("event=roster_taken member=%s version=%d", self.member, membership.joined.roster.version)

    async def _take_notes(self, notes: list[bytes], *, version: int) -> None:
        saved, splits = await asyncio.to_thread(self._parts.exchange.accept_notes, notes, peer=self.member, version=version)
        for split in splits:
            self._parts.on_split_view(split)
        if saved:
            logger.debug("event=cosignatures_taken member=%s count=%d", self.member, saved)

    async def _pull(self, client: PeerClient) -> None:
        """Read the log; where what is held here is not what survives or counts any more, forget that and read on."""
        parts = self._parts
        try:
            await self._read_log(client)
        except (ProofError, RollbackError, SplitViewError):
            if self._is_accused():  # at once: the evidence, too, is about to end this pull
                raise
            log, head = (await self._open_log())[1], parts.exchange.surviving_head(self.member)
            if not await is_replaced(client, log, head, entries_max=self._entries_max):
                raise
            await finish(asyncio.to_thread(parts.exchange.forget_history, log))
            await self._read_log(client)

    async def _read_log(self, client: PeerClient) -> None:
        """Read the log to its newest checkpoint, then live."""
        parts = self._parts
        card, log = await self._open_log()
        session = PullSession(parts, log, card, self.state)
        at = parts.clock().timestamp()
        logger.info("event=pull_started origin=%s staged=%d at=%.6f", card.origin, log.staged.size, at)
        after = await asyncio.to_thread(parts.store.logs.last_sequence_from, log.id, self.member)
        queue: asyncio.Queue[bytes | LogPage] = asyncio.Queue(maxsize=QUEUE_PAGES)

        async def receive() -> None:
            stream = client.read_log(
                card.origin, start=log.staged.size, after=after, follow=True, entries_max=self._entries_max
            )
            try:
                async for message in stream:
                    await queue.put(message)
                raise PeerUnreachableError(f"{self.member} ended the stream")
            except PeerUnreachableError:
                await queue.join()  # what has arrived is kept, or a line that breaks often would lead nowhere
                raise

        async def apply() -> None:
            while True:
                try:
                    async with asyncio.timeout(STALL_S if session.waiting_for_pages else None):
                        message = await queue.get()
                except TimeoutError:
                    raise PeerUnreachableError(f"{self.member} sent nothing for {STALL_S:.0f} s") from None
                await self._apply(session, message)
                queue.task_done()

        await _run_together(receive(), apply())

    async def _open_log(self) -> tuple[Card, LogState]:
        """The member's newest card, and what is held of its log and counts."""
        parts = self._parts
        card = parts.membership.joined.card(self.member)
        return card, await finish(asyncio.to_thread(open_surviving, parts.store, parts.exchange, card))

    async def _apply(self, session: PullSession, message: bytes | LogPage) -> None:
        before = session.log
        try:
            visible = await finish(asyncio.to_thread(session.apply, message))
        except (StagingLimitError, ProofError) as error:
            if isinstance(error, ProofError) or self._entries_max == 1:  # else smaller steps may help
                self._rest.note_dropped()
            if isinstance(error, StagingLimitError):
                self._entries_max = max(1, self._entries_max // 2)
            await asyncio.to_thread(session.drop_staged)
            raise
        if session.log.head_size > before.head_size:
            self._rest.note_verified()
        elif session.log.staged.size < before.staged.size:  # it has announced less than it had sent
            self._rest.note_dropped()
        if visible:
            self._asked_again = False
            self._parts.on_head(session.log)

    def _own_log(self) -> LogState:
        membership = self._parts.membership
        return self._parts.store.logs.open_log(membership.own_card[1].origin, membership.member)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not through a wake-up."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _note_retry(self, retry: RetryCallState) -> None:
        logger.info(
            "event=retry member=%s attempt=%d pause_s=%.1f error=%r",
            self.member, retry.attempt_number, retry.upcoming_sleep, self.state.error,
        )  # fmt: skip

    def _note_fault(self, error: PeerFaultError) -> None:
        self.state.note_fault(error)
        logger.warning("event=peer_fault member=%s reason=%s error=%r", self.member, error.reason, error.message)
        if isinstance(error, SplitViewError):
            self._parts.on_split_view(error)
            self._show_accusation()

    def _now_ms(self) -> int:
        return milliseconds(self._parts.clock())


async def _run_together(*work: Awaitable[None]) -> None:
    """Run until one of them ends or fails; the error is raised as it is, not as a group."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
