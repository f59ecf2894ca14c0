"""One follower for each other active member; started, stopped and restarted as the roster and the cards change."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from node.core.alliance import Alliance
from node.core.card import Card
from node.core.names import log_origin
from node.errors import LabmeshError
from node.store.logs import LogState
from node.sync.follower import Follower, FollowerParts
from node.sync.peer import ROSTERS_TOLD_MAX, PeerState

logger = logging.getLogger(__name__)

COSIGN_INTERVAL_S = 1.0
ALARMS_MAX = 100


class Peers:
    """All followers of a node. Lives on the event loop."""

    def __init__(self, parts: FollowerParts) -> None:
        """Share `parts` among the followers."""
        self.states: dict[str, PeerState] = {}
        self._parts = parts
        self._changed = asyncio.Event()
        self._running: dict[str, tuple[Follower, asyncio.Task[None], tuple[object, ...]]] = {}
        self._farewells: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keep one follower for each active member, until cancelled."""
        try:
            while True:
                self._changed.clear()
                await self._reconcile()
                await self._changed.wait()
        finally:
            await self._stop(list(self._running))
            for task in self._farewells:
                task.cancel()
            await asyncio.gather(*self._farewells, return_exceptions=True)

    def notice_change(self) -> None:
        """The roster or a card changed: look again at who is to be followed, and tell everyone."""
        self._changed.set()
        self.nudge()

    def nudge(self) -> None:
        """Tell every connected peer soon that something changed here."""
        for follower, _, _ in self._running.values():
            follower.nudge()

    def nudge_one(self, member: str) -> None:
        """Tell one peer."""
        if member in self._running:
            self._running[member][0].nudge()

    def notice_evidence(self) -> None:
        """Evidence has come or was settled: stop or begin following, and tell everyone."""
        for follower, _, _ in self._running.values():
            follower.notice_evidence()
        for state in self.states.values():
            self._show_evidence(state)
        self.nudge()

    def wake(self, member: str) -> None:
        """This peer has just called us, so it can be reached."""
        if member in self._running and self.states[member].state != "connected":
            self._running[member][0].wake()

    async def _reconcile(self) -> None:
        alliance = self._parts.membership.alliance
        if alliance is None:
            return
        wanted = alliance.other_members(self._parts.membership.member)
        for member in set(self.states) - set(wanted):
            await self._stop([member])
            del self.states[member]
            task = asyncio.create_task(tell_removed(self._parts, member), name=f"farewell-{member}")
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)
        for member in wanted:
            if member not in self.states:
                self.states[member] = await self._held_state(alliance, member)
            state = self.states[member]
            signed = alliance.cards.get(member)
            if signed is None or not signed[1].endpoints:
                state.state = "offline"
                state.error = "its card names no address" if signed else "its card is not known yet"
                self._show_evidence(state)
                await self._stop([member])
                continue
            await self._start(member, state, signed[1])

    async def _held_state(self, alliance: Alliance, member: str) -> PeerState:
        """What is known of a peer before any contact since the start: the mirror that is held of its log."""
        log = await asyncio.to_thread(self._parts.store.logs.find_log, log_origin(alliance.name, member))
        held = 0 if log is None else log.head_size
        return PeerState(member, size=held, verified=held)

    async def _start(self, member: str, state: PeerState, card: Card) -> None:
        # The own certificates, too: after a rotation a connection with the old one would be refused. And a history that the
        # roster lets survive is looked at when a follower begins.
        own = self._parts.membership.own_card[1].tls_certificates
        surviving = self._parts.exchange.surviving_head(member)
        way_in = (card.endpoints, card.tls_certificates, card.log_key, card.former_log_keys, own, surviving)
        running = self._running.get(member)
        if running is not None:
            if running[2] == way_in:
                return
            await self._stop([member])
        follower = Follower(self._parts, member, state)
        task = asyncio.create_task(follower.run(), name=f"follow-{member}")
        task.add_done_callback(_report_end)
        self._running[member] = (follower, task, way_in)

    def _show_evidence(self, state: PeerState) -> None:
        piece = self._parts.exchange.evidence.split_view_of(state.member)
        state.accuse("" if piece is None else piece.judgement.summary)

    async def _stop(self, members: list[str]) -> None:
        tasks = [self._running.pop(member)[1] for member in members if member in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def tell_removed(parts: FollowerParts, member: str) -> None:
    """Tell a member the rosters that removed it, once: nobody answers its own calls any more. It may be away."""
    membership = parts.membership
    held = membership.joined.cards.get(member)
    if held is None or not held[1].endpoints:
        return
    rosters, _ = membership.newer_than(0, membership.held_cards())
    client = parts.make_client(held[1])
    try:
        await client.exchange_checkpoints(
            digest=b"",
            notes=(),
            roster_version=membership.joined.roster.version,
            cards_digest=membership.cards_digest(),
            rosters=rosters[-ROSTERS_TOLD_MAX:],
        )
    except LabmeshError as error:
        logger.info("event=farewell_failed member=%s error=%r", member, error.message)
    finally:
        await client.close()


class Cosigner:
    """Cosigns verified heads, at most once a second for each log, and tells the author. Lives on the event loop."""

    def __init__(self, parts: FollowerParts, peers: Peers) -> None:
        """Cosign through the exchange of `parts`."""
        self._parts, self._peers = parts, peers
        self._pending: dict[str, asyncio.Task[None]] = {}
        self._last_s: dict[str, float] = defaultdict(float)
        self._resuming: asyncio.Task[None] | None = None
        self._resume_again = False

    def notice_head(self, log: LogState) -> None:
        """A head moved; cosign it now, or when the second is over. The own head may mean that this node is confirmed."""
        if log.member != self._parts.membership.member:
            self._offer(log.origin)
        self.resume()

    def resume(self) -> None:
        """Cosign what was held back while this node was unconfirmed, if it is not any more; free where nothing was."""
        if self._parts.exchange.holds_back:
            self._resume_again = True
            if self._resuming is None or self._resuming.done():
                self._resuming = asyncio.create_task(self._resume(), name="resume-cosigning")

    def offer_all(self) -> None:
        """Cosign whatever head was not: after a start, because the process may have ended between a head and its
        cosignature; after a roster or card, because it may count only now.
        """
        membership = self._parts.membership
        if membership.alliance is not None:
            for member in membership.alliance.other_members(membership.member):
                self._offer(log_origin(membership.alliance_name, member))

    async def close(self) -> None:
        """Stop."""
        tasks = [*self._pending.values(), *([self._resuming] if self._resuming else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _resume(self) -> None:
        """In a thread: whether this node is confirmed may have to be read from the database."""
        while self._resume_again:
            self._resume_again = False
            try:
                origins = await asyncio.to_thread(self._parts.exchange.take_held_back)
            except LabmeshError as error:  # nothing was taken; the next head or contact asks again
                logger.error("event=resume_failed error=%r", error.message)
                continue
            for origin in origins:
                self._offer(origin)

    def _offer(self, origin: str) -> None:
        if origin not in self._pending:
            self._pending[origin] = asyncio.create_task(self._cosign(origin), name=f"cosign-{origin}")

    async def _cosign(self, origin: str) -> None:
        loop, before_s = asyncio.get_running_loop(), self._last_s[origin]
        try:
            await asyncio.sleep(max(0.0, before_s + COSIGN_INTERVAL_S - loop.time()))
            self._last_s[origin] = loop.time()
        finally:
            self._pending.pop(origin, None)
        try:
            made = await asyncio.to_thread(self._parts.exchange.cosign_head, origin)
        except LabmeshError as error:
            logger.error("event=cosign_failed origin=%s error=%r", origin, error.message)
            self._offer(origin)  # when the second is over
            return
        if made:
            self._peers.nudge_one(self._parts.membership.joined.author_of(origin))
        else:
            self._last_s[origin] = before_s  # nothing was cosigned: the next head need not wait


class Alarms:
    """What needs a person, one sentence each; kept until the process ends.

    Whoever tells nonsense chooses the words of these sentences, and how many there could be. So of one member there is one
    of each kind, and none of them takes the place of what this node finds by itself.
    """

    def __init__(self) -> None:
        """Begin without alarms."""
        self._own: dict[str, None] = {}
        self._told: dict[tuple[str, str], str] = {}

    def raise_sentence(self, sentence: str) -> None:
        """Something that this node has found, and that a person should look at; said once."""
        if sentence not in self._own and len(self._own) < ALARMS_MAX:
            self._own[sentence] = None
            logger.warning("event=alarm text=%r", sentence)

    def raise_told(self, member: str, kind: str, sentence: str) -> None:
        """Something wrong that came from a peer; only the first of its kind is kept.

        Args:
            member: the member whose fault it is, one of the roster.
            kind: which of the few kinds of faults, whatever the words.
            sentence: the words.
        """
        if (member, kind) not in self._told:
            self._told[member, kind] = sentence
            logger.warning("event=alarm text=%r", sentence)

    def sentences(self) -> list[str]:
        """All of them, those of this node first."""
        return [*self._own, *self._told.values()]


def _report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("event=follower_died task=%s", task.get_name(), exc_info=error)
