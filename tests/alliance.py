"""An alliance in one process: every member has a real store in a folder of its own, and peers answer without a network.

How they speak to each other, and how one of them lies: `tests/simulated_client.py`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import orjson
from hypothesis import HealthCheck, settings

from node.clock import milliseconds
from node.confirmation import Confirmation
from node.core.alliance import format_card, format_roster
from node.core.card import CARD_TYPE, Card
from node.core.entry import LogPage
from node.core.kinds import Kinds
from node.core.mirror import StagingLimits
from node.disclosure import Disclosure
from node.errors import SplitViewError
from node.evidence import EvidenceKeeper
from node.ledger import Ledger
from node.membership import IdentityKey, Membership
from node.push import PushOptions, PushOutcome
from node.rpc.heads import Heads
from node.store import DATABASE_NAME, Store, open_store
from node.store.logs import LogState
from node.store.records import Filter, StoredRecord
from node.sync.exchange import CheckpointExchange
from node.sync.follower import Follower, FollowerParts
from node.sync.peer import PeerClient, PeerState
from node.sync.peers import Cosigner, Peers
from node.sync.recovery import Recovery, RecoveryParts
from tests.builders import Lab, build_card, build_labs, kinds, sign_card
from tests.new_stores import Files, files_in, new_store
from tests.simulated_client import ReadCall, SimulatedPeerClient, Tampering

T = TypeVar("T")

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PATIENCE_S = 20.0


def examples(count: int) -> settings:
    """Hypothesis settings for tests that use a disk: few examples, no deadline, nothing written into the working tree."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, stateful_step_count=15, deadline=None, database=None, suppress_health_check=checks)


@dataclass(slots=True)
class TurnedClock:
    """A clock that stands until it is turned."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.now

    def turn(self, seconds: float) -> None:
        """Move it forward."""
        self.now += timedelta(seconds=seconds)


@cache
def _founded(count: int) -> list[Files]:
    """Stores of this many members who founded and joined one alliance: made once, for all tests to copy."""
    with TemporaryDirectory() as folder:
        members = [SimulatedMember(lab, Path(folder) / lab.member) for lab in build_labs(count)]
        first, *others = members
        first.membership.found("Jinan Quality Alliance")
        if others:
            first.membership.add_members([member.card for member in others])
        rosters, cards = exported(first)
        for member in others:
            member.membership.import_alliance(rosters, cards, fingerprint=first.membership.joined.fingerprint)
        for member in members:
            member.store.close()
        return [files_in(member.path) for member in members]


def draft(key: str, value: str = "0.10", **members: Any) -> bytes:
    """A record of the kind `result` as a lab system pushes it."""
    return orjson.dumps({"key": key, "body": {"value": value}, **members})


def drafts(count: int, prefix: str = "WJ") -> list[bytes]:
    """Records with keys of their own."""
    return [draft(f"{prefix}-{i:06d}") for i in range(count)]


class SimulatedMember:
    """One member: everything of a node but its servers."""

    def __init__(
        self,
        lab: Lab,
        path: Path,
        *,
        schemas: Kinds | None = None,
        clock: TurnedClock | None = None,
        files: Files | None = None,
    ) -> None:
        """Make the home's store, with the member's first card in it; or copy `files`, a store of this member."""
        self.lab, self.path = lab, path
        self.kinds, self.clock = schemas or kinds(), clock or TurnedClock()
        self.heads: Heads | None = None
        self.splits: list[SplitViewError] = []
        self.alarms: list[str] = []
        self.store = new_store(path, files)
        if files is None:
            self.store.membership.save_identity(lab.member, lab.alliance, created_ms=milliseconds(self.clock()))
            self.store.membership.save_card(lab.member, 1, sign_card(build_card(lab), lab), CARD_TYPE)
        self._build()

    def raise_told(self, member: str, kind: str, sentence: str) -> None:
        """Note an alarm about what a peer told: every one, also of a kind that a node keeps once."""
        self.alarms.append(sentence)

    @property
    def name(self) -> str:
        """The member's id."""
        return self.lab.member

    @property
    def card(self) -> bytes:
        """The newest card's envelope."""
        return format_card(self.membership.own_card)

    def reopen(self) -> None:
        """Stop, and start again on the same files."""
        self.store.close()
        self.store = open_store(self.path)
        self._build()

    def snapshot(self, target: Path) -> Path:
        """Copy the database, as a backup does."""
        self.store.database.backup(target)
        return target

    def roll_back(self, snapshot: Path, *, search: bool = False) -> None:
        """Stop, and start again on an older copy of the database; the search index is kept or made again."""
        self.store.close()
        for path in self.path.iterdir():
            if path.name.startswith(DATABASE_NAME) or not search:
                path.unlink()
        shutil.copyfile(snapshot, self.path / DATABASE_NAME)
        self.store = open_store(self.path)
        self._build()

    def confirm(self) -> None:
        """Publish without waiting for peers."""
        self.confirmation.override()
        self.ledger.sign_head()
        self.announce()

    def push(self, *records: bytes, kind: str = "result", **options: Any) -> PushOutcome:
        """Push records, none of which may be refused."""
        outcome = self.ledger.push_records(PushOptions(kind, **options), records)
        assert not outcome.errors
        return outcome

    def mirror_of(self, author: str) -> LogState:
        """What is held of a member's log."""
        return self.store.logs.open_log(Lab(author, self.lab.alliance).origin, author)

    def ceiling(self, log: LogState) -> int:
        """How much of a log may be told."""
        return self.exchange.tellable_size(log)

    def announce(self, *_: object) -> None:
        """Wake the streams that wait for something new."""
        if self.heads is not None:
            self.heads.announce()

    def stored_bytes(self) -> bytes:
        """Every byte of every file in the member's folder."""
        return b"".join(path.read_bytes() for path in sorted(self.path.iterdir()))

    def _build(self) -> None:
        store, clock = self.store, self.clock
        identity = IdentityKey(self.lab.identity_key, self.lab.sign)
        self.membership = Membership(store.membership, identity=identity, clock=clock)
        self.ledger = Ledger(
            store,
            author=self.name,
            signer=self.lab.log,
            kinds=self.kinds,
            clock=clock,
            members=self._audience_members,
            may_sign=lambda: self.confirmation.confirmed,
        )
        self.disclosure = Disclosure(
            store, self.ledger, author=self.name, kinds=self.kinds, clock=clock, members=self._audience_members
        )
        self.confirmation = Confirmation(
            store,
            member=self.name,
            log=lambda: self.ledger.log,
            alliance=lambda: self.membership.alliance,
            unheld_cards=self.membership.unheld_cards,
        )
        self.membership.subscribe_replaced(self.confirmation.doubt)
        self.evidence = EvidenceKeeper(store, member=self.name, alliance=lambda: self.membership.alliance, clock=clock)
        self.membership.subscribe(self.evidence.refresh)
        self.exchange = CheckpointExchange(
            store,
            membership=self.membership,
            confirmation=self.confirmation,
            evidence=self.evidence,
            witness=self.lab.witness,
            clock=clock,
        )
        self.recovery = Recovery(
            RecoveryParts(
                store=store,
                ledger=self.ledger,
                membership=self.membership,
                confirmation=self.confirmation,
                kinds=self.kinds,
                limits=StagingLimits(),
                on_progress=lambda: None,
                stall_s=5.0,
                fault_pause_s=0.0,
                complete_erasures=self.disclosure.complete_erasures,
            )
        )
        self.ledger.subscribe(self.announce)

    def _audience_members(self) -> list[str]:
        alliance = self.membership.alliance
        return alliance.active_members() if alliance else [self.name]


def exported(member: SimulatedMember) -> tuple[list[bytes], list[bytes]]:
    """What `roster export` writes: every roster and the newest cards."""
    alliance = member.membership.joined
    return [format_roster(item) for item in alliance.rosters], [format_card(item) for item in alliance.cards.values()]


class SimulatedAlliance:
    """Members that founded and joined one alliance. `unreachable` names those that do not answer."""

    def __init__(self, folder: Path, count: int = 3, *, schemas: Kinds | None = None, confirmed: bool = True) -> None:
        """The first member has founded it and the others have joined; `confirmed` lets everyone publish at once."""
        self.clock = TurnedClock()
        self.members = {
            lab.member: SimulatedMember(lab, folder / lab.member, schemas=schemas, clock=self.clock, files=files)
            for lab, files in zip(build_labs(count), _founded(count), strict=True)
        }
        self.tampering = Tampering()
        self.unreachable: set[str] = set()
        self.reads: list[ReadCall] = []
        self.reported: list[tuple[str, str]] = []
        self.closed = 0
        if confirmed:
            for member in self.members.values():
                member.confirm()

    def __getitem__(self, name: str) -> SimulatedMember:
        """A member by its id."""
        return self.members[name]

    def exported(self, name: str) -> tuple[list[bytes], list[bytes]]:
        """What `roster export` writes: every roster and the newest cards."""
        return exported(self[name])

    def client(self, caller: str, server: str) -> PeerClient:
        """A connection between two members."""
        return SimulatedPeerClient(self, caller, server)

    def parts(self, reader: str, **changes: Any) -> FollowerParts:
        """What the followers of one member share; contact is made once, unless a test changes the interval."""
        member = self[reader]

        def make_client(card: Card) -> PeerClient:
            return self.client(reader, card.member)

        return FollowerParts(
            **{
                "store": member.store,
                "membership": member.membership,
                "exchange": member.exchange,
                "confirmation": member.confirmation,
                "recovery": member.recovery,
                "kinds": member.kinds,
                "clock": member.clock,
                "limits": StagingLimits(),
                "contact_interval_s": PATIENCE_S,
                "retry_max_s": 0.01,
                "make_client": make_client,
                "on_head": member.announce,
                "on_split_view": member.splits.append,
                "on_alarm": member.raise_told,
                **changes,
            }
        )

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run on an event loop, with everyone's streams alive."""

        async def inside() -> T:
            for member in self.members.values():
                member.heads = Heads(asyncio.get_running_loop())
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await work()
            finally:
                for member in self.members.values():
                    member.heads = None

        return asyncio.run(inside())

    @asynccontextmanager
    async def following(self, reader: str, author: str, **changes: Any) -> AsyncIterator[PeerState]:
        """One follower at work."""
        state = PeerState(author)
        task = asyncio.create_task(Follower(self.parts(reader, **changes), author, state).run())
        try:
            yield state
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def follow(self, reader: str, author: str, until: Callable[[PeerState], object], **changes: Any) -> PeerState:
        """Let one follower work until something holds of what it knows."""

        async def work() -> PeerState:
            async with self.following(reader, author, **changes) as state:
                await wait_until(lambda: until(state))
                return state

        return self.run(work)

    def meet(self, member: str, *peers: str) -> None:
        """A contact with each of these peers, as far as the member's own log is concerned."""

        async def work() -> None:
            for peer in peers:
                client = self.client(member, peer)
                answer = await client.exchange_checkpoints(digest=b"", notes=[], roster_version=0, cards_digest=b"")
                await self[member].recovery.meet(client, peer, answer.caller_note)

        self.run(work)

    def catch_up(self, reader: str, author: str, **changes: Any) -> PeerState:
        """Let one follower reach the newest checkpoint of an honest author."""
        size = self[author].ledger.log.head_size
        return self.follow(reader, author, lambda state: state.verified == size, **changes)

    @asynccontextmanager
    async def all_connected(self, **changes: Any) -> AsyncIterator[dict[str, Peers]]:
        """Every member follows every other, and cosigns, as a daemon lets it."""
        running: dict[str, tuple[Peers, Cosigner, asyncio.Task[None]]] = {}
        for name in self.members:
            running[name] = self._start(name, changes)
        try:
            yield {name: peers for name, (peers, _, _) in running.items()}
        finally:
            for _, cosigner, task in running.values():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await cosigner.close()

    def close(self) -> None:
        """Close every store."""
        for member in self.members.values():
            member.store.close()

    def _start(self, name: str, changes: dict[str, Any]) -> tuple[Peers, Cosigner, asyncio.Task[None]]:
        member = self[name]

        def notice_head(log: LogState) -> None:
            cosigner.notice_head(log)
            member.announce()

        parts = self.parts(name, **{"contact_interval_s": 0.05, "on_head": notice_head, **changes})
        peers = Peers(parts)
        cosigner = Cosigner(parts, peers)
        loop = asyncio.get_running_loop()

        def notice_change() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(peers.notice_change)

        def notice_evidence() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(peers.notice_evidence)

        member.membership.subscribe(notice_change)
        member.evidence.subscribe(notice_evidence)
        return peers, cosigner, asyncio.create_task(peers.run())


async def wait_until(condition: Callable[[], object], *, patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds; the test fails when it does not come about."""
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(0.002)


@dataclass(frozen=True, slots=True)
class Visible:
    """Everything in a store that checkpoints cover. Equal before and after means: nothing became visible or went away."""

    logs: list[tuple[str, int, bytes, Any]]
    entries: list[LogPage]
    records: list[StoredRecord]
    count: int


def visible(store: Store) -> Visible:
    """What can be seen of a store."""
    seen = Visible([], [], list_all(store), store.records.count())
    for log in store.logs.load_logs():
        if not log.head_size:
            continue
        seen.logs.append((log.origin, log.head_size, log.head_note, log.head_frontier))
        start = 0
        while start < log.head_size:
            page = store.logs.read_page(log, start=start, stop=log.head_size, reader=log.member)
            seen.entries.append(page)
            start += len(page.commitments) // 32
    return seen


def list_all(store: Store, chosen: Filter | None = None, *, limit: int = 1000) -> list[StoredRecord]:
    """Every record of a list, page by page."""
    found: list[StoredRecord] = []
    token: str | None = None
    while True:
        page = store.records.list(chosen or Filter(), limit=limit, token=token)
        found += page.records
        if (token := page.next_token) is None:
            return found


def spread(alliance: SimulatedAlliance, source: str) -> None:
    """Everyone hears what one member holds."""
    for member in alliance.members.values():
        assert member.membership.accept_update(*alliance.exported(source)).faults == ()
