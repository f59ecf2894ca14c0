"""Everything of one running node, wired together."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from node.clients import Clients
from node.clock import Clock
from node.config import Settings
from node.confirmation import ClockWatch, Confirmation
from node.core.alliance import Alliance
from node.core.card import Card
from node.core.kinds import Kinds
from node.daemon.card import OwnCard
from node.daemon.indexing import Indexing
from node.daemon.judging import Judging
from node.daemon.remote import RemoteService
from node.daemon.sweeping import Sweeping
from node.daemon.thinning import Thinning
from node.disclosure import Disclosure
from node.disowning import Objector
from node.errors import LabmeshError, SplitViewError, StoreError
from node.evidence import EvidenceKeeper
from node.home import Home, Keys
from node.keyfiles import KeyFiles
from node.ledger import Ledger
from node.membership import Membership
from node.rotation import KeyRotation, RotationParts
from node.rpc.calls.parts import NodeServiceParts
from node.rpc.client import GrpcPeerClient
from node.rpc.heads import Heads
from node.rpc.node_service import NodeServicer
from node.rpc.peer_service import PeerServiceParts, PeerServicer
from node.rpc.server import Servers, start_servers
from node.rpc.status import StatusParts, build_status
from node.rpc.tls import TrustedCertificates, server_credentials
from node.schemas import load_schemas
from node.store import Store
from node.store.logs import LogState
from node.sync.exchange import CheckpointExchange
from node.sync.follower import FollowerParts
from node.sync.peer import PeerClient
from node.sync.peers import Alarms, Cosigner, Peers
from node.sync.recovery import Recovery, RecoveryParts
from node.sync.spread import CardSpread

logger = logging.getLogger(__name__)

TLS_LOOK_S = 3600.0
SOFTWARE_VERSION_UNKNOWN = "0+unknown"


class Daemon:
    """Everything of one running node, wired together."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        store: Store,
        keys: Keys,
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        passphrase: bytes | None = None,
    ) -> None:
        """Build; nothing runs yet."""
        self.settings, self.store, self.keys = settings, store, keys
        self.loop, self.clock = loop, clock
        self.kinds = Kinds(load_schemas())
        self.membership = self._build_membership()
        self.ledger = self._build_ledger()
        self.confirmation = self._build_confirmation()
        self.membership.subscribe_replaced(self.confirmation.doubt)
        self.evidence = EvidenceKeeper(store, member=self.membership.member, alliance=self._alliance, clock=clock)
        self.exchange = self._build_exchange()
        self.disclosure = self._build_disclosure()
        self.clients = Clients(store.clients, kinds=self.kinds, clock=clock)
        self.remote = RemoteService(settings.remote, home.path, self.clients, now=clock)
        self.heads = Heads(loop)
        self.alarms = Alarms()
        self.tls_work = asyncio.Event()
        self.spread = CardSpread(self._on_loop(self.tls_work.set))
        files = home.key_files(passphrase)
        self.rotation = self._build_rotation(files)
        self.card = OwnCard(self.membership, self.confirmation, settings, files=files, on_alarm=self.alarms.raise_sentence)
        self.trusted = TrustedCertificates(own_card=lambda: self.membership.own_card[1], alliance=self._alliance)
        self.recovery = self._build_recovery()
        self._endpoint_turns: dict[str, itertools.count[int]] = defaultdict(itertools.count)
        parts = self._follower_parts()
        self.peers = Peers(parts)
        self.cosigner = Cosigner(parts, self.peers)
        self.indexing = Indexing(store.search)
        self.thinning = Thinning(store, self.membership, clock)
        self.sweeping = Sweeping(store.sweeper, on_swept=self._notice_swept, on_alarm=self.alarms.raise_sentence)
        self.judging = Judging(store, self.membership, self.exchange, on_alarm=self.alarms.raise_sentence)
        self._start_listening()

    def _start_listening(self) -> None:
        """Let news travel, and settle what an earlier process left."""
        self.ledger.subscribe(self._on_loop(self._notice_own_head))
        self.membership.subscribe(self.evidence.refresh)
        self.membership.subscribe(self._forget_void_cosignatures)
        self.membership.subscribe(self._on_loop(self._notice_membership))
        self._forget_void_cosignatures()
        self._sign_head()
        self.card.reissue()
        self.evidence.subscribe(self._on_loop(self.peers.notice_evidence))

    def _notice_swept(self) -> None:
        self.evidence.forget_dropped()
        self.peers.nudge()

    async def start_servers(self, home: Home) -> Servers:
        """Serve peers and the socket."""
        await self.judging.judge()
        credentials = server_credentials(
            self.trusted, key_pem=lambda: self.rotation.tls_key_pem, own_card=self.rotation.presentable_card
        )
        servers: Servers | None = None
        status = StatusParts(
            store=self.store,
            ledger=self.ledger,
            membership=self.membership,
            confirmation=self.confirmation,
            recovery=self.recovery,
            peer_states=lambda: self.peers.states,
            alarms=lambda: [*self.evidence.alarms(), *self.alarms.sentences()],
            split_views=self.evidence.split_views,
            lost_roles=self.rotation.lost_roles,
            now=self.clock,
            port=lambda: servers.port if servers else 0,
            remote=self.remote.status,
            version=software_version(),
        )
        self.remote.bound_port = lambda: servers.remote_port if servers else 0
        servers = await start_servers(
            listen=self.settings.listen,
            credentials=credentials,
            peer_servicer=PeerServicer(self._peer_service_parts()),
            node_servicer=NodeServicer(self._node_service_parts(status)),
            socket_path=home.socket_path,
            socket_group=self.settings.socket_group,
            reflect=self.settings.reflection,
            remote=self.remote.build_port(),
        )
        return servers

    async def advance_tls(self) -> None:
        """End a rotation of the TLS key when every peer has the card that names it, or waited long enough."""
        while True:
            self.tls_work.clear()
            try:
                await asyncio.to_thread(self.rotation.advance_tls)
            except LabmeshError as error:
                hint = error.hint or "restart the node, and see: labmesh doctor"
                self.alarms.raise_sentence(f"the rotation of the TLS key cannot go on: {error.message}; {hint}")
            with suppress(TimeoutError):
                async with asyncio.timeout(TLS_LOOK_S):
                    await self.tls_work.wait()

    async def revalidate(self) -> None:
        """Judge again what an older version of the software did not understand."""
        after, understood = 0, 0
        while (batch := await asyncio.to_thread(self.store.records.revalidate, self.kinds, after=after)) is not None:
            after, understood = batch[0], understood + batch[1]
        if understood:
            logger.info("event=revalidated understood=%d", understood)
            self.indexing.notice()
        # A crash may have come between a page that contradicts its log and the evidence of it.
        await asyncio.to_thread(self.evidence.search_all)

    def _peer_service_parts(self) -> PeerServiceParts:
        return PeerServiceParts(
            store=self.store,
            membership=self.membership,
            confirmation=self.confirmation,
            disclosure=self.disclosure,
            exchange=self.exchange,
            trusted=self.trusted,
            heads=self.heads,
            clock=self.clock,
            on_call=self.peers.wake,
            on_notes=self._take_notes,
            on_news=self.peers.nudge_one,
            on_alarm=self.alarms.raise_told,
            on_card_held=self.spread.note,
        )

    def _node_service_parts(self, status: StatusParts) -> NodeServiceParts:
        return NodeServiceParts(
            store=self.store,
            ledger=self.ledger,
            membership=self.membership,
            confirmation=self.confirmation,
            disclosure=self.disclosure,
            clients=self.clients,
            evidence=self.evidence,
            clock=self.clock,
            peer_states=lambda: self.peers.states,
            build_status=lambda: build_status(status),
            on_confirm=self._notice_own_head,
            remote_port=self.remote.bound_port,
            rotation=self.rotation,
            kinds=self.kinds,
        )

    def _build_membership(self) -> Membership:
        objector = Objector(
            self.store, self._alliance, ahead=lambda alliance, name: self.exchange.ahead.size_of(alliance, name)
        )
        return Membership(self.store.membership, identity=self.keys.identity, clock=self.clock, objector=objector)

    def _build_ledger(self) -> Ledger:
        return Ledger(
            self.store,
            author=self.membership.member,
            signer=self.keys.log,
            kinds=self.kinds,
            clock=self.clock,
            members=self._audience_members,
            # In this order: a card from outside that names the key makes the home unconfirmed before it is seen.
            may_sign=lambda: self._holds_log_key() and self.confirmation.confirmed,
        )

    def _build_confirmation(self) -> Confirmation:
        return Confirmation(
            self.store,
            member=self.membership.member,
            log=lambda: self.ledger.log,
            alliance=self._alliance,
            unheld_cards=self.membership.unheld_cards,
            watch=ClockWatch(self.clock),
            on_doubt=self._on_loop(self._nudge_peers),
        )

    def _build_exchange(self) -> CheckpointExchange:
        return CheckpointExchange(
            self.store,
            membership=self.membership,
            confirmation=self.confirmation,
            evidence=self.evidence,
            witness=self.keys.witness,
            clock=self.clock,
        )

    def _build_disclosure(self) -> Disclosure:
        return Disclosure(
            self.store,
            self.ledger,
            author=self.membership.member,
            kinds=self.kinds,
            clock=self.clock,
            members=self._audience_members,
            unheard=self._unheard_peers,
        )

    def _build_recovery(self) -> Recovery:
        parts = RecoveryParts(
            store=self.store,
            ledger=self.ledger,
            membership=self.membership,
            confirmation=self.confirmation,
            kinds=self.kinds,
            limits=self.settings.staging,
            on_progress=self._nudge_peers,
            complete_erasures=self.disclosure.complete_erasures,
        )
        return Recovery(parts)

    def _follower_parts(self) -> FollowerParts:
        return FollowerParts(
            store=self.store,
            membership=self.membership,
            exchange=self.exchange,
            confirmation=self.confirmation,
            recovery=self.recovery,
            kinds=self.kinds,
            clock=self.clock,
            limits=self.settings.staging,
            contact_interval_s=self.settings.sync.contact_interval_s,
            retry_max_s=self.settings.sync.retry_max_s,
            make_client=self._make_client,
            on_head=self._notice_head,
            on_split_view=self._notice_split_view,
            on_alarm=self.alarms.raise_told,
            on_card_held=self.spread.note,
        )

    def _build_rotation(self, files: KeyFiles) -> KeyRotation:
        parts = RotationParts(
            files=files,
            store=self.store,
            membership=self.membership,
            ledger=self.ledger,
            exchange=self.exchange,
            confirmation=self.confirmation,
            spread=self.spread,
            clock=self.clock,
        )
        return KeyRotation(parts, tls_key_pem=self.keys.tls_key_pem)

    async def _take_notes(self, peer: str, notes: list[bytes], version: int) -> None:
        _, splits = await asyncio.to_thread(self.exchange.accept_notes, notes, peer=peer, version=version)
        for split in splits:
            self._notice_split_view(split)

    def _make_client(self, peer: Card) -> PeerClient:
        turn = next(self._endpoint_turns[peer.member])
        return GrpcPeerClient(
            peer,
            peer.endpoints[turn % len(peer.endpoints)],
            key_pem=self.rotation.tls_key_pem,
            own_card=self.rotation.presentable_card(),
            deadline_s=self.settings.sync.deadline_s,
        )

    def _alliance(self) -> Alliance | None:
        return self.membership.alliance

    def _audience_members(self) -> list[str]:
        alliance = self.membership.alliance
        return alliance.active_members() if alliance else [self.membership.member]

    def _unheard_peers(self) -> list[str]:
        """The active members that have not told yet what they hold of the own log."""
        told = self.confirmation.told_sizes()
        return [name for name in self._audience_members() if name != self.membership.member and name not in told]

    def _holds_log_key(self) -> bool:
        """Whether the card still names the log key of this home; peers may hold a newer one than a restored home does."""
        return self.membership.own_card[1].log_key == self.ledger.log_key

    def _on_loop(self, notice: Callable[[], None]) -> Callable[..., None]:
        def call(*_: object) -> None:
            self.loop.call_soon_threadsafe(notice)

        return call

    def _nudge_peers(self) -> None:
        self.peers.nudge()

    def _sign_head(self) -> None:
        """Sign what waits, where nobody has to be asked any more."""
        try:
            self.ledger.sign_head()
            self.disclosure.complete_erasures()
        except StoreError as error:
            logger.error("event=sign_failed error=%r", error.message)

    def _forget_void_cosignatures(self) -> None:
        """Where the disk is full they stay until the next change of the alliance, or the next start."""
        try:
            self.exchange.forget_void_cosignatures()
        except LabmeshError as error:
            logger.error("event=void_cosignatures_kept error=%r", error.message)

    def _notice_own_head(self) -> None:
        self.card.notice()
        self._notice_tls()  # the home may be confirmed now
        self.cosigner.resume()
        self.heads.announce()
        self.indexing.notice()
        self.sweeping.notice()

    def _notice_head(self, log: LogState) -> None:
        self.card.notice()
        self._notice_tls()
        self.cosigner.notice_head(log)
        self.heads.announce()
        self.indexing.notice()
        self.sweeping.notice()

    def _notice_tls(self) -> None:
        """Heads come often, and looking costs a thread and reads keys."""
        if self.rotation.tls_is_changing:
            self.tls_work.set()

    def _notice_membership(self) -> None:
        self.tls_work.set()
        self.card.notice()
        logger.info("event=membership_changed version=%d", self.membership.joined.roster.version)
        self.peers.notice_change()
        self.heads.announce()
        self.loop.run_in_executor(None, self._sign_head)
        self.cosigner.offer_all()
        self.judging.notice()

    def _notice_split_view(self, error: SplitViewError) -> None:
        logger.error("event=split_view origin=%s size=%d", error.origin, error.size)


def software_version() -> str:
    """The installed version of the software."""
    try:
        return version("labmesh")
    except PackageNotFoundError:
        return SOFTWARE_VERSION_UNKNOWN
