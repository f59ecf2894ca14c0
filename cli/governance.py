"""Changing and reading the alliance, with the daemon running or not.

Whoever holds the home's lock writes. If the daemon holds it, the daemon is asked; if nobody does, this process takes it.
Reading needs no lock, so it never stands in the way of a daemon that starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cli.alliance_file import AllianceFile
from cli.app import App
from cli.consent import can_ask, require_consent
from node.errors import HANGS, HomeError, PeerUnreachableError, UnconfirmedError

if TYPE_CHECKING:
    from labmesh.v1 import node_pb2
    from node.core.alliance import Alliance
    from node.core.amendment import Amendment
    from node.evidence import EvidenceKeeper
    from node.home import Home
    from node.membership import Ballot, Membership
    from node.rpc.node_client import NodeClient
    from node.store import Store
    from node.store.membership import MembershipStore, NodeIdentity

LOCK_WAIT_S = 5.0
LOCK_PAUSE_S = 0.1
OFFLINE_RISK = (
    "The node does not run, so no other member was asked whether this home is older than what it has signed (a restored "
    "backup, a snapshot): if it is, it signs a second roster of one version, which is proof against this member for good."
)


@dataclass(frozen=True, slots=True)
class RosterState:
    """The newest roster after a change; and what was signed, a proposal's file, with the signatures it has and needs."""

    version: int
    fingerprint: str
    proposal: bytes = b""
    have: int = 0
    needed: int = 0

    @property
    def in_force(self) -> bool:
        """Whether the change needs no further signature."""
        return self.have >= self.needed


@dataclass(frozen=True, slots=True)
class HeldAlliance:
    """What the home holds: whose it is, its own card's envelope, and the alliance (None before it is joined)."""

    identity: NodeIdentity
    own_card: bytes
    alliance: Alliance | None


class Governance(Protocol):
    """The changes that a person can make. Refusals are the errors of `node.membership`."""

    def found(self, title: str, threshold: int) -> RosterState:
        """Sign roster version 1."""

    def add_members(self, cards: list[bytes]) -> RosterState:
        """Sign the next roster, with the members of these cards."""

    def remove_member(self, member: str, head_size: int | None) -> RosterState:
        """Sign the next roster, with one member removed; its log ends at `head_size`, or where it is verified here."""

    def amend(self, amendment: Amendment) -> RosterState:
        """Sign the next roster, with another change."""

    def sign(self, proposal: bytes, head_size: int | None) -> RosterState:
        """Sign what another council member proposed (a proposal's file); `head_size` as in `Membership.sign_proposal`."""

    def withdraw(self, roster_hash: str) -> int:
        """Give up the roster with this hash, which this home has signed and which is not in force; returns its version."""

    def import_alliance(self, content: AllianceFile, fingerprint: str | None) -> RosterState:
        """Join, or take what is newer."""


class OfflineGovernance:
    """Changes the store of a home whose lock this process holds."""

    def __init__(self, membership: Membership, store: Store, consent: Callable[[], None]) -> None:
        """Use the membership of an open store, and what it holds of logs.

        `consent` is called before a roster is signed of which others may hold another one; it raises where nobody
        takes the risk.
        """
        self._membership, self._store, self._consent = membership, store, consent

    def found(self, title: str, threshold: int) -> RosterState:
        """Sign roster version 1."""
        return _state_of(self._membership.found(title, threshold))

    def add_members(self, cards: list[bytes]) -> RosterState:
        """Sign the next roster, with the members of these cards."""
        from node.core.amendment import AddMembers

        return self.amend(AddMembers(tuple(cards)))

    def remove_member(self, member: str, head_size: int | None) -> RosterState:
        """Sign the next roster, with one member removed; its log ends at `head_size`, or where it is verified here."""
        from node.core.amendment import RemoveMember
        from node.ending import choose_end

        head = choose_end(self._store, self._membership.joined, member, head_size)
        return self.amend(RemoveMember(member, head, by_hand=head_size is not None))

    def amend(self, amendment: Amendment) -> RosterState:
        """Sign the next roster, with another change."""
        self._require_consent()
        return _outcome_of(self._membership.amend(amendment))

    def sign(self, proposal: bytes, head_size: int | None) -> RosterState:
        """Sign what another council member proposed (a proposal's file); `head_size` as in `Membership.sign_proposal`."""
        from node.accusation import accusing_proposal

        self._require_consent()
        with accusing_proposal(self._membership, self._open_keeper, proposal):
            return _outcome_of(self._membership.sign_proposal(proposal, head_size=head_size))

    def withdraw(self, roster_hash: str) -> int:
        """Give up the roster with this hash, which this home has signed and which is not in force; returns its version."""
        self._require_consent()
        return self._membership.withdraw_proposal(roster_hash)

    def import_alliance(self, content: AllianceFile, fingerprint: str | None) -> RosterState:
        """Join, or take what is newer."""
        from node.accusation import import_accusing

        rosters, cards = content.rosters, content.cards
        return _state_of(import_accusing(self._membership, self._open_keeper, rosters, cards, fingerprint=fingerprint))

    def _open_keeper(self) -> EvidenceKeeper:
        """What this home can prove; read only where a file proves something."""
        from node.clock import utc_now
        from node.evidence import EvidenceKeeper

        membership = self._membership
        return EvidenceKeeper(self._store, member=membership.member, alliance=lambda: membership.alliance, clock=utc_now)

    def _require_consent(self) -> None:
        """Where others are active, this home may be older than what it has signed, and nobody was asked."""
        alliance = self._membership.alliance
        if alliance is not None and alliance.other_members(self._membership.member):
            self._consent()


class DaemonGovernance:
    """Asks the daemon, which holds the lock."""

    def __init__(self, node: NodeClient) -> None:
        """Use an open connection."""
        self._node = node

    def found(self, title: str, threshold: int) -> RosterState:
        """Sign roster version 1."""
        return RosterState(*self._node.found_alliance(title, threshold))

    def add_members(self, cards: list[bytes]) -> RosterState:
        """Sign the next roster, with the members of these cards."""
        return _answer_of(self._node.add_members(cards))

    def remove_member(self, member: str, head_size: int | None) -> RosterState:
        """Sign the next roster, with one member removed; its log ends at `head_size`, or where it is verified there."""
        return _answer_of(self._node.remove_member(member, head_size))

    def amend(self, amendment: Amendment) -> RosterState:
        """Sign the next roster, with another change."""
        from cli.amendment import amendment_to_wire

        return _answer_of(self._node.amend_roster(amendment_to_wire(amendment)))

    def sign(self, proposal: bytes, head_size: int | None) -> RosterState:
        """Sign what another council member proposed (a proposal's file); `head_size` as in `Membership.sign_proposal`."""
        return _answer_of(self._node.sign_roster(proposal, head_size))

    def withdraw(self, roster_hash: str) -> int:
        """Give up the roster with this hash, which this home has signed and which is not in force; returns its version."""
        return self._node.withdraw_roster(roster_hash)

    def import_alliance(self, content: AllianceFile, fingerprint: str | None) -> RosterState:
        """Join, or take what is newer."""
        return RosterState(*self._node.import_alliance(content.rosters, content.cards, fingerprint=fingerprint))


@contextmanager
def open_governance(app: App) -> Iterator[Governance]:
    """The way to change this home's alliance that is open now.

    Raises:
        HomeError: there is no home, or it is of another version.
        PeerUnreachableError: another process holds the lock, and it is no daemon that answers.
    """
    app.home.require()
    with ExitStack() as stack:
        yield _choose(app, stack)


@contextmanager
def open_membership(home: Home) -> Iterator[MembershipStore]:
    """What the store remembers of the alliance, for reading; needs no lock.

    Raises:
        HomeError: there is no home, or it is of another version.
    """
    from node.store.database import Database, require_revision
    from node.store.membership import MembershipStore

    home.require()
    require_revision(home.database_path)
    database = Database(home.database_path)
    try:
        yield MembershipStore(database)
    finally:
        database.close()


def read_held_alliance(home: Home) -> HeldAlliance:
    """What the home holds.

    Raises:
        HomeError: there is no home, it is of another version, or it lacks its card.
    """
    with open_membership(home) as store:
        identity = store.load_identity()
        own_card = store.load_own_card(identity.member)
        if own_card is None:
            raise HomeError("this home has no card of its own", hint="remove the home and init again")
        return HeldAlliance(identity, own_card, store.load_alliance())


def claim_home(app: App, stack: ExitStack) -> NodeClient | None:
    """Take the home's lock (None is returned then), or a connection to the daemon that holds it; `stack` ends either.

    Raises:
        PeerUnreachableError: another process holds the lock, and it is no daemon that answers.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            stack.enter_context(app.home.lock())
        except HomeError as held:
            try:
                return stack.enter_context(app.node)
            except PeerUnreachableError as error:
                if HANGS in error.message:
                    raise
                # A daemon that has just started, or another command that is done in a moment.
                if time.monotonic() > deadline:
                    raise PeerUnreachableError(
                        f"{held.message}, but no node answers there: {error.message}",
                        hint="wait until the other command has ended, or stop the process that hangs",
                    ) from error
                time.sleep(LOCK_PAUSE_S)
        else:
            return None


def _choose(app: App, stack: ExitStack) -> Governance:
    node = claim_home(app, stack)
    return _open_offline(app, stack) if node is None else DaemonGovernance(node)


def _open_offline(app: App, stack: ExitStack) -> OfflineGovernance:
    from cli.passphrase import home_passphrase
    from node.clock import utc_now
    from node.core.card import parse_card
    from node.disowning import Objector
    from node.identity import settle_identity
    from node.membership import Membership

    home = app.home
    store = home.open_store()
    stack.callback(store.close)
    identity = store.membership.load_identity()
    passphrase, own_card = home_passphrase(home, app.passphrase_file), store.membership.load_own_card(identity.member)
    if own_card is not None:
        settle_identity(home.key_files(passphrase), parse_card(own_card)[1])
    keys = home.load_keys(identity.member, identity.alliance, passphrase)
    membership: Membership
    objector = Objector(store, lambda: membership.alliance)
    membership = Membership(store.membership, identity=keys.identity, clock=utc_now, objector=objector)
    return OfflineGovernance(membership, store, lambda: require_offline_consent(app))


def require_offline_consent(app: App) -> None:
    """Let a person take the risk of signing a roster without asking the other members' nodes first.

    Raises:
        UnconfirmedError: nobody can be asked, and --offline was not given.
        Declined: the person would rather not.
    """
    if app.offline:
        return
    if not can_ask(app):
        raise UnconfirmedError(
            OFFLINE_RISK, hint="start the node and type it again: labmesh run   or, if it was never restored: add --offline"
        )
    require_consent(app, f"{OFFLINE_RISK} Sign all the same?")


def _state_of(alliance: Alliance) -> RosterState:
    return RosterState(alliance.roster.version, alliance.fingerprint)


def _outcome_of(ballot: Ballot) -> RosterState:
    alliance = ballot.alliance
    return RosterState(alliance.roster.version, alliance.fingerprint, ballot.proposal, ballot.have, ballot.needed)


def _answer_of(
    answer: node_pb2.AddMembersResponse
    | node_pb2.RemoveMemberResponse
    | node_pb2.AmendRosterResponse
    | node_pb2.SignRosterResponse,
) -> RosterState:
    proposal = answer.proposal
    return RosterState(answer.version, answer.fingerprint, proposal.file, proposal.have, proposal.needed)
