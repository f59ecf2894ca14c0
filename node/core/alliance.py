"""The alliance as one node sees it: the verified chain of rosters, and the newest card of each member.

A pure value. `accept_` methods take signed bytes and return a new `Alliance`, or raise and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from node.core.card import Card, parse_card, verify_card
from node.core.dsse import Envelope, format_envelope
from node.core.names import log_origin
from node.core.roster import Roster, parse_roster, verify_chain, verify_first, verify_next
from node.core.succession import SignedCard, current_keys, require_successor, require_unused_keys
from node.errors import GovernanceError, NotFoundError

SignedRoster = tuple[Envelope, Roster]


@dataclass(frozen=True, slots=True)
class Alliance:
    """Verified rosters in order of version, and verified cards by member."""

    rosters: tuple[SignedRoster, ...]
    cards: Mapping[str, SignedCard] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def roster(self) -> Roster:
        """The newest roster."""
        return self.rosters[-1][1]

    @property
    def name(self) -> str:
        """The alliance's name."""
        return self.roster.alliance

    @property
    def fingerprint(self) -> str:
        """Hash of the newest roster: what two people compare over the telephone."""
        return self.rosters[-1][0].hash

    def active_members(self) -> list[str]:
        """Ids of the active members, sorted."""
        return self.roster.active_members()

    def council_members(self) -> list[str]:
        """Ids of the members whose identity keys sit on the council, sorted."""
        council = set(self.roster.council)
        return sorted(name for name, member in self.roster.members.items() if member.identity_key in council)

    def needs_seat(self, member: str) -> bool:
        """Whether the council can change nothing, not even this member's identity key, without its signature."""
        return self.roster.needs_every_seat and member in self.council_members()

    def other_members(self, member: str) -> list[str]:
        """Ids of the active members other than `member`, sorted."""
        return [name for name in self.active_members() if name != member]

    def card(self, member: str) -> Card:
        """The newest card of a member.

        Raises:
            NotFoundError: no card of this member is known.
        """
        if member not in self.cards:
            raise NotFoundError(f"no card of {member} is known yet")
        return self.cards[member][1]

    def counted_size(self, member: str, size: int) -> int:
        """How many of the first `size` entries of a member's log count.

        What lies beyond where the roster ends the log of a removed member is told, served, cosigned and proved by nobody;
        what lies below stays provable.
        """
        line = self.roster.members.get(member)
        return size if line is None or line.cut is None else min(size, line.cut.size)

    def author_of(self, origin: str) -> str:
        """The member, active or removed, whose log has this origin.

        Raises:
            NotFoundError: no member's log has it.
        """
        for member in self.roster.members:
            if log_origin(self.name, member) == origin:
                return member
        raise NotFoundError(f"no member of {self.name} has a log named {origin[:120]!r}")

    def knows_fingerprint(self, fingerprint: str) -> bool:
        """Whether `fingerprint` is the hash of any roster version in the chain."""
        return any(envelope.hash == fingerprint for envelope, _ in self.rosters)

    def signers_of(self, roster: Roster) -> set[bytes]:
        """The keys that may sign one of the rosters in the chain: its council's, and those of the council before."""
        before = self.rosters[max(0, roster.version - 2)][1]
        return {*before.council, *roster.council}

    def accept_roster(self, raw: bytes) -> Alliance:
        """Append the next roster version; one that is already held changes nothing.

        Where the roster gives a member another identity key, the card that the former key signed counts no longer. Nor does
        a card whose current log or witness key serves as an identity or council key in the roster: one key, one role.

        Raises:
            FormatError: not a roster.
            GovernanceError: it is not the next version, conflicts with a held one, or lacks signatures.
        """
        envelope, roster = parse_roster(raw)
        if roster.version <= self.roster.version and roster.alliance == self.name:
            if self.rosters[roster.version - 1][0].hash != envelope.hash:
                raise GovernanceError(f"another roster of version {roster.version} is already held")
            return self
        held_envelope, held = self.rosters[-1]
        verify_next(held_envelope.hash, held, envelope, roster)
        taken = roster_keys(roster)
        cards = {
            name: signed
            for name, signed in self.cards.items()
            if signed[1].identity_key == roster.members[name].identity_key and taken.isdisjoint(current_keys(signed[1]))
        }
        return Alliance((*self.rosters, (envelope, roster)), MappingProxyType(cards))

    def accept_card(self, raw: bytes, *, judged: bool = False) -> Alliance:
        """Take a newer card of a member; the held one, or an older one, changes nothing.

        Args:
            raw: the envelope.
            judged: it was taken before, when it came: then nobody else used its keys, and in which order cards are read
                decides nothing.

        Raises:
            FormatError: not a card, or one that breaks the rules for its successor.
            SignatureError: not signed by the identity key in the roster.
            GovernanceError: another alliance, an unknown member, a second card of one `seq`, or another member's key.
        """
        envelope, card = parse_card(raw)
        if card.alliance != self.name:
            raise GovernanceError(f"the card of {card.member} is for {card.alliance}, not for {self.name}")
        if card.member not in self.roster.members:
            raise GovernanceError(f"{card.member} is not in the roster of {self.name}")
        verify_card(envelope, card, self.roster.members[card.member].identity_key)
        if not roster_keys(self.roster).isdisjoint(current_keys(card)):
            raise GovernanceError(f"the card of {card.member} uses a key of the roster for its log or as a witness")
        held = self.cards.get(card.member)
        if held is not None:
            if card.seq < held[1].seq or envelope.hash == held[0].hash:
                return self
            require_successor(held, card)
        if not judged:
            require_unused_keys(self.cards, self.active_members(), card)
        return replace(self, cards=MappingProxyType({**self.cards, card.member: (envelope, card)}))


def roster_keys(roster: Roster) -> frozenset[bytes]:
    """Public keys that sign cards and rosters: the members' identity keys, also of removed members, and the council's."""
    return frozenset(roster.council).union(member.identity_key for member in roster.members.values())


def found_alliance(raw: bytes) -> Alliance:
    """Begin an alliance with roster version 1.

    Raises:
        FormatError: not a roster.
        GovernanceError: not version 1, or not signed by its council.
    """
    envelope, roster = parse_roster(raw)
    verify_first(envelope, roster)
    return Alliance(((envelope, roster),))


def load_alliance(rosters: Iterable[bytes], cards: Iterable[bytes] = (), *, fingerprint: str | None = None) -> Alliance:
    """Verify a chain of rosters from version 1, and cards under its newest version.

    Args:
        rosters: envelopes in order of version.
        cards: envelopes in any order.
        fingerprint: hash that one of the versions must have; None when the caller compares it.

    Raises:
        FormatError: an envelope is not a roster or card.
        GovernanceError: the chain does not hold, or no version has the fingerprint.
        SignatureError: a card is not signed by its member.
    """
    chain = tuple(parse_roster(raw) for raw in rosters)
    verify_chain(chain)
    alliance = Alliance(chain)
    if fingerprint is not None and not alliance.knows_fingerprint(fingerprint):
        raise GovernanceError(
            f"no roster in the file has the fingerprint {fingerprint}; its newest version is {alliance.roster.version}",
            hint="the file is older than the fingerprint, or forged: ask for a new file, or an older fingerprint",
        )
    for raw in cards:
        alliance = alliance.accept_card(raw)
    return alliance


def format_card(signed: SignedCard) -> bytes:
    """The card's envelope as it travels."""
    return format_envelope(signed[0])


def format_roster(signed: SignedRoster) -> bytes:
    """The roster's envelope as it travels."""
    return format_envelope(signed[0])
