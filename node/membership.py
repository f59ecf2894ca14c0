"""The alliance as this node lives it: found it, join it, change it, and pass on what is new.

Decides nothing about truth (`core.alliance` does); keeps the current snapshot, writes before it publishes, and tells
subscribers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType

from node.ballot import Ballot, Objector, require_nothing_disowned, require_unopposed
from node.clock import Clock
from node.core.alliance import Alliance, format_card, format_roster, found_alliance, load_alliance
from node.core.amendment import (
    ROSTER_LIFETIME,
    AddMembers,
    Amendment,
    RemoveMember,
    build_successor,
    require_sound,
)
from node.core.card import CARD_TYPE, Card, card_content, parse_card
from node.core.conflict import Conflict, find_card_conflict, find_roster_conflict
from node.core.dsse import build_envelope, format_envelope
from node.core.keys import SIGNATURE_SIZE, Sign
from node.core.proposal import (
    Proposal,
    Review,
    format_proposal,
    parse_proposal,
    require_free,
    require_may_sign,
    review_proposal,
)
from node.core.roster import ROSTER_TYPE, Head, Member, Roster, quorum_default, roster_content
from node.core.sifting import first_of_each_version
from node.core.succession import SignedCard, require_successor, with_keys_of
from node.errors import ConfigError, FormatError, GovernanceError, HomeError, PeerFaultError
from node.forgotten import draw_leap, find_forgotten, require_same_log
from node.store.membership import MembershipStore, SignedVersion

__all__ = ("ROSTER_LIFETIME", "Ballot", "IdentityKey", "Membership", "Objector", "Update")


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """The member's identity key: 32 public bytes, and what signs with the private half."""

    public_key: bytes
    sign: Sign


@dataclass(frozen=True, slots=True)
class Update:
    """What became of rosters and cards that a peer told: whether anything was new, and why some could not be taken.

    `conflicts` are pairs of envelopes, the held one first: rosters of one version that one council key has signed, or
    cards of one `seq` that one identity key has signed.
    """

    changed: bool
    faults: tuple[str, ...]
    conflicts: tuple[Conflict, ...] = ()


class Membership:
    """The current alliance, and the only way to change it. Any thread may call."""

    def __init__(
        self, store: MembershipStore, *, identity: IdentityKey, clock: Clock, objector: Objector | None = None
    ) -> None:
        """Load and verify what the store holds; `objector` judges the cards that others send from then on."""
        node = store.load_identity()
        self.member, self.alliance_name = node.member, node.alliance
        self._store, self._identity, self._clock, self._objector = store, identity, clock, objector
        self._lock = threading.RLock()
        self._subscribers: list[Callable[[], None]] = []
        self._alliance = store.load_alliance()
        raw = store.load_own_card(node.member)
        if raw is None:
            raise HomeError("this home has no card of its own", hint="remove the home and init again")
        self._own_card: SignedCard = parse_card(raw)

    @property
    def alliance(self) -> Alliance | None:
        """The current alliance; None before one is founded or joined."""
        return self._alliance

    @property
    def joined(self) -> Alliance:
        """The current alliance.

        Raises:
            GovernanceError: none was founded or joined yet.
        """
        if self._alliance is None:
            raise GovernanceError(
                "this node does not belong to an alliance yet",
                hint="with the founder's file: labmesh join FILE   or, to found one: labmesh roster create --title …",
            )
        return self._alliance

    @property
    def own_card(self) -> SignedCard:
        """The newest card of this member."""
        return self._own_card

    @property
    def identity_key(self) -> bytes:
        """The public identity key that this home has; the roster may name another one."""
        return self._identity.public_key

    def subscribe(self, notify: Callable[[], None]) -> None:
        """Call `notify` after each change, in the thread that changed."""
        self._subscribers.append(notify)

    def found(self, title: str, threshold: int = 1) -> Alliance:
        """Sign roster version 1, with this member as its council.

        Raises:
            GovernanceError: there is an alliance already, or the threshold is impossible.
        """
        with self._lock:
            if self._alliance is not None:
                raise GovernanceError(
                    f"this node belongs to {self._alliance.name} already", hint="type: labmesh roster show"
                )
            if threshold != 1:
                raise GovernanceError(
                    f"a threshold of {threshold} is impossible: the founding council has one key, this member's",
                    hint="found with a threshold of 1",
                )
            now = self._clock().replace(microsecond=0)
            roster = Roster(
                alliance=self.alliance_name,
                title=title,
                version=1,
                previous=None,
                issued=now,
                expires=now + ROSTER_LIFETIME,
                council=(self._identity.public_key,),
                threshold=1,
                quorum=quorum_default(1),
                members=MappingProxyType({self.member: Member(self._identity.public_key, "active", now)}),
            )
            raw, card = self._sign_roster(roster), format_card(self._own_card)
            alliance = found_alliance(raw).accept_card(card)
            signed = SignedVersion(1, alliance.fingerprint, format_proposal(Proposal(raw, (card,))))
            return self._adopt(alliance, pin=alliance.fingerprint, signed=signed)

    def add_members(self, cards: Iterable[bytes]) -> Alliance:
        """`amend` with the members of these cards added; returns the alliance as it is now."""
        return self.amend(AddMembers(tuple(cards))).alliance

    def remove_member(self, member: str, head: Head | None = None) -> Alliance:
        """`amend` with one member removed; returns the alliance as it is now."""
        return self.amend(RemoveMember(member, head)).alliance

    def amend(self, amendment: Amendment) -> Ballot:
        """Sign the next roster with a change. It is in force when one signature is enough, and a proposal otherwise.

        Raises:
            FormatError: a card is none.
            SignatureError: a card is not signed by the key it names.
            GovernanceError: the change is impossible, this member has no seat, or it has signed another such version.
        """
        with self._lock:
            alliance = self.joined
            if self._identity.public_key not in alliance.roster.council:
                raise GovernanceError(
                    f"{self.member} does not sit on the council of {alliance.name}, so it cannot change the roster",
                    hint=f"send the card or the wish to a member of the council: {', '.join(alliance.council_members())}",
                )
            roster, cards = build_successor(alliance, amendment, now=self._clock().replace(microsecond=0))
            require_nothing_disowned(self._objector, cards)
            review = review_proposal(alliance, Proposal(self._sign_roster(roster), cards))
            self._require_free(review)
            return self._settle(review)

    def sign_proposal(self, raw: bytes) -> Ballot:
        """Add this home's signature to a proposal; the one that completes it puts the roster in force.

        Of one version a home signs one roster; another one only after `withdraw_proposal`.

        Raises:
            FormatError: not a proposal.
            GovernanceError: it is stale, of another alliance, tampered with, or not for this home to sign.
        """
        proposal = parse_proposal(raw)
        with self._lock:
            alliance, key = self.joined, self._identity.public_key
            review = review_proposal(alliance, proposal)
            withdrawn = self._store.is_withdrawn(review.roster.version, review.envelope.hash)
            require_may_sign(review, self.member, key, withdrawn=withdrawn)
            self._require_free(review)
            require_sound(alliance, review.roster, proposal.cards, now=self._clock())
            require_nothing_disowned(self._objector, proposal.cards)
            signed = proposal if key in review.signers else proposal.with_signature(self._identity.sign)
            return self._settle(review_proposal(alliance, signed))

    def withdraw_proposal(self, roster_hash: str) -> int:
        """Give up the proposal of the next version that this home has signed, so that it may sign another one of it.

        A person's word stands behind it that nobody keeps a copy: who does can still complete it, or prove with it that
        this member signed two rosters. Returns the version.

        Raises:
            GovernanceError: this home has signed none that is not in force, or it is not the one with this hash.
        """
        with self._lock:
            version = self.joined.roster.version + 1
            signed = self._store.load_signed(version)
            if signed is None:
                raise GovernanceError(
                    f"this home has signed no proposal of roster version {version}", hint="type: labmesh roster show"
                )
            if signed.hash != roster_hash:
                raise GovernanceError(
                    f"the proposal of roster version {version} that this home has signed is another one than was shown",
                    hint="type it again: labmesh roster withdraw",
                )
            self._store.save_withdrawn(signed)
            return version

    def open_proposal(self) -> Ballot | None:
        """The proposal of the next version that this home has signed, if there is one."""
        signed = self._store.load_signed(self.joined.roster.version + 1)
        if signed is None:
            return None
        review = review_proposal(self.joined, parse_proposal(signed.proposal))
        return Ballot(review.alliance, signed.proposal, len(review.signers), review.needed)

    def open_roster(self) -> Roster | None:
        """The roster of that proposal as it was signed, without judging it again; None before an alliance is joined."""
        if self._alliance is None:
            return None
        return self._store.load_open_roster(self._alliance.roster.version + 1)

    def import_alliance(self, rosters: list[bytes], cards: Iterable[bytes], *, fingerprint: str | None) -> Alliance:
        """Join, or on a joined home take newer rosters and cards, from what a person brought.

        Raises:
            GovernanceError: another alliance, this member is not in it, or the fingerprint is not in the chain.
            FormatError: the file's rosters or cards are not valid.
            SignatureError: a card is not signed by its member.
        """
        with self._lock:
            if self._alliance is not None:
                return self._import_newer(self._alliance, rosters, cards, fingerprint)
            alliance = load_alliance(rosters, fingerprint=fingerprint)
            if alliance.name != self.alliance_name:
                raise GovernanceError(
                    f"the file is for {alliance.name}, this home was made for {self.alliance_name}",
                    hint="one home belongs to one alliance; init another home for this one",
                )
            if alliance.roster.expires <= self._clock():
                raise GovernanceError(
                    f"the roster in the file expired on {alliance.roster.expires:%Y-%m-%d}, and admits nobody new",
                    hint="let a council member type `labmesh roster renew`, and send a new file",
                )
            entry = alliance.roster.members.get(self.member)
            if entry is None or entry.status != "active" or entry.identity_key != self._identity.public_key:
                raise GovernanceError(
                    f"{self.member} with this home's identity key is not an active member in roster version "
                    f"{alliance.roster.version}",
                    hint="send `labmesh card -o FILE` to the council, and join with the file they export afterwards",
                )
            for raw in (*cards, format_card(self._own_card)):
                alliance = alliance.accept_card(raw)
            return self._adopt(alliance, pin=fingerprint)

    def accept_update(self, rosters: Iterable[bytes], cards: Iterable[bytes]) -> Update:
        """Take what a peer told. Each roster and card is judged alone.

        One that cannot be taken keeps nobody else's out, and is no reason to stop listening to whoever passed it on: it may
        be the author of the card, or the council, that signed two.
        """
        with self._lock:
            alliance = before = self.joined
            faults: list[str] = []
            conflicts: list[Conflict] = []
            for accept, find_conflict, raws in (
                (Alliance.accept_roster, find_roster_conflict, first_of_each_version(rosters, held=alliance)),
                (self._accept_card, find_card_conflict, cards),
            ):
                for raw in raws:
                    try:
                        alliance = accept(alliance, raw)
                    except (PeerFaultError, GovernanceError, FormatError) as error:
                        faults.append(error.message)
                        if conflict := find_conflict(alliance, raw):
                            conflicts.append(conflict)
            if alliance is not before:
                self._adopt(alliance)
            return Update(alliance is not before, tuple(faults), tuple(conflicts))

    def newer_than(self, version: int, held_cards: Mapping[str, int]) -> tuple[list[bytes], list[bytes]]:
        """Roster and card envelopes that someone with these does not have yet."""
        alliance = self.joined
        rosters = [format_roster(signed) for signed in alliance.rosters[version:]]
        cards = [
            format_card(signed) for member, signed in alliance.cards.items() if signed[1].seq > held_cards.get(member, 0)
        ]
        return rosters, cards

    def cards_digest(self) -> bytes:
        """SHA-256 over the hashes of the newest cards, in order of their members."""
        cards = self._alliance.cards if self._alliance else {}
        return sha256("\n".join(cards[member][0].hash for member in sorted(cards)).encode()).digest()

    def held_cards(self) -> dict[str, int]:
        """`seq` of the newest card of each member."""
        cards = self._alliance.cards if self._alliance else {}
        return {member: signed[1].seq for member, signed in cards.items()}

    def require_presentable(self, *, name: str, region: str, endpoints: tuple[str, ...]) -> None:
        """Refuse settings that no card can hold. Nothing is signed.

        Raises:
            ConfigError: they cannot stand in a card.
        """
        card = replace(self._own_card[1], name=name, region=region, endpoints=endpoints)
        try:
            parse_card(format_envelope(build_envelope(card_content(card), CARD_TYPE, lambda _: bytes(SIGNATURE_SIZE))))
        except FormatError as error:
            raise ConfigError(f"the settings cannot stand in a card: {error.message}") from error

    def reissue_card(self, *, name: str, region: str, endpoints: tuple[str, ...], leap: bool = False) -> bool:
        """Sign the next card when the settings say something new; returns whether they did.

        Only for a home that is confirmed (`Confirmation.confirmed`): one that was rolled back would use a `seq` again.
        `leap` as in `issue_card`.
        """
        with self._lock:
            card = self._own_card[1]
            if (card.name, card.region, card.endpoints) == (name, region, endpoints):
                return False
            try:
                self.issue_card(lambda held: replace(held, name=name, region=region, endpoints=endpoints), leap=leap)
            except FormatError as error:
                raise ConfigError(f"the settings cannot stand in a card: {error.message}") from error
            return True

    def issue_card(
        self, change: Callable[[Card], Card], *, saved: Callable[[Card], None] | None = None, leap: bool = False
    ) -> Card:
        """Sign the next card of this member; `saved` is called when it is on disk, before anybody is told.

        With `leap` its `seq` is beyond all that this home can have used and forgotten (`forgotten.draw_leap`).

        Raises:
            FormatError: the changed card is none, or may not follow the held one.
            GovernanceError: it names a key of another member.
            StoreError: the database refused; the held card stays.
        """
        with self._lock:
            card = self._own_card[1]
            seq = draw_leap(card.seq, self._clock()) if leap else card.seq + 1
            raw = self._sign_card(self._own_card, change(card), seq)
            parsed = parse_card(raw)
            require_successor(self._own_card, parsed[1])
            alliance = None if self._alliance is None else self._alliance.accept_card(raw)
            self._store.save_card(parsed[1].member, seq, raw, CARD_TYPE)
            if saved is not None:
                saved(parsed[1])
            if alliance is None:
                self._own_card = parsed
            else:
                self._adopt(alliance)
            return parsed[1]

    def _sign_card(self, held: SignedCard, card: Card, seq: int) -> bytes:
        successor = replace(card, seq=seq, previous=held[0].hash, issued=self._clock().replace(microsecond=0))
        return format_envelope(build_envelope(card_content(successor), CARD_TYPE, self._identity.sign))

    def _accept_card(self, alliance: Alliance, raw: bytes, *, by_hand: bool = False) -> Alliance:
        """Take a card from outside, unless it takes back what this node has seen.

        One of this home's own that it has forgotten is not taken as it is: the next one stands on it (`forgotten`).

        Raises:
            FormatError: not a card, or one that breaks the rules for its successor.
            SignatureError: not signed by the identity key in the roster.
            GovernanceError: refused by the alliance's rules, or by what this node knows.
        """
        if card := find_forgotten(alliance, self.member, self.identity_key, raw, by_hand=by_hand):
            held = alliance.cards[self.member]
            require_same_log(held[1], card, self._objector)
            raw = self._sign_card(held, with_keys_of(held[1], card), draw_leap(max(held[1].seq, card.seq), self._clock()))
            others = {member: signed for member, signed in alliance.cards.items() if member != self.member}
            return replace(alliance, cards=MappingProxyType(others)).accept_card(raw)
        accepted = alliance.accept_card(raw)
        member = parse_card(raw)[1].member
        if accepted is not alliance and (member in alliance.cards or member != self.member):
            require_unopposed(self._objector, alliance, accepted.card(member))
        return accepted

    def _import_newer(
        self, held: Alliance, rosters: list[bytes], cards: Iterable[bytes], fingerprint: str | None
    ) -> Alliance:
        alliance = held
        for raw in rosters:
            alliance = alliance.accept_roster(raw)
        if fingerprint is not None and not alliance.knows_fingerprint(fingerprint):
            raise GovernanceError(f"no roster of {alliance.name} has the fingerprint {fingerprint}")
        for raw in cards:
            alliance = self._accept_card(alliance, raw, by_hand=True)
        return self._adopt(alliance) if alliance is not held else held

    def _require_free(self, review: Review) -> None:
        """Refuse to sign a second roster of one version; the store does so again when it writes."""
        signed = self._store.load_signed(review.roster.version)
        require_free(None if signed is None else review_proposal(review.alliance, parse_proposal(signed.proposal)), review)

    def _settle(self, review: Review) -> Ballot:
        """Remember what was signed, and publish it when it is complete. Only then may the signature leave."""
        raw, version = format_envelope(review.envelope), review.roster.version
        proposal = format_proposal(Proposal(raw, review.cards))
        signed = SignedVersion(version, review.envelope.hash, proposal)
        if review.missing:
            self._store.save_signed(signed)
            return Ballot(review.alliance, proposal, len(review.signers), review.needed)
        alliance = review.alliance.accept_roster(raw)
        for card in review.cards:
            alliance = alliance.accept_card(card)
        return Ballot(self._adopt(alliance, signed=signed), proposal, len(review.signers), review.needed)

    def _sign_roster(self, roster: Roster) -> bytes:
        try:
            return format_envelope(build_envelope(roster_content(roster), ROSTER_TYPE, self._identity.sign))
        except FormatError as error:
            raise GovernanceError(error.message, hint=error.hint) from error

    def _adopt(self, alliance: Alliance, *, pin: str | None = None, signed: SignedVersion | None = None) -> Alliance:
        """Write, then publish inside the process."""
        with self._lock:
            self._store.save_alliance(alliance, pin=pin, signed=signed)
            self._alliance = alliance
            own = alliance.cards.get(self.member)
            if own is not None:
                self._own_card = own  # by another identity key its `seq` may be smaller
        for notify in self._subscribers:
            notify()
        return alliance
