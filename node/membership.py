"""The alliance as this node lives it: join it, take what others tell, sign the own card; and change it (`governing`).

Decides nothing about truth (`core.alliance` does).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType

from node.ballot import Ballot, Objector, require_unopposed
from node.clock import Clock
from node.core.alliance import Alliance, format_card, load_alliance
from node.core.amendment import ROSTER_LIFETIME
from node.core.card import CARD_TYPE, Card, card_content, parse_card
from node.core.conflict import Conflict, find_card_conflict, find_roster_conflict
from node.core.dsse import build_envelope, format_envelope
from node.core.keys import SIGNATURE_SIZE
from node.core.sifting import first_of_each_version
from node.core.succession import SignedCard, require_successor, with_keys_of
from node.core.told import Refusal, build_refusal, is_outdated
from node.current_alliance import IdentityKey
from node.errors import ConfigError, FormatError, GovernanceError, PeerFaultError
from node.forgotten import draw_leap, find_forgotten, require_same_log
from node.governing import Governing
from node.pace import Allowance, CardPace
from node.shown_cards import ShownCard, ShownCards
from node.store.membership import MembershipStore

logger = logging.getLogger(__name__)

__all__ = ("ROSTER_LIFETIME", "Ballot", "IdentityKey", "Membership", "Objector", "Update")


@dataclass(frozen=True, slots=True)
class Update:
    """What became of rosters and cards that a peer told: whether anything was new, and why some could not be taken.

    `conflicts` are pairs of envelopes, the held one first: rosters of one version that one council key has signed, or
    cards of one `seq` that one identity key has signed. They are among no `refusals`: who passes one on reports the truth.
    Nor are cards by an identity key that was replaced.
    """

    changed: bool
    refusals: tuple[Refusal, ...]
    conflicts: tuple[Conflict, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Why, without whose fault it is."""
        return tuple(refusal.message for refusal in self.refusals)


class Membership(Governing):
    """The current alliance, and the only way to change it. Any thread may call."""

    def __init__(
        self, store: MembershipStore, *, identity: IdentityKey, clock: Clock, objector: Objector | None = None
    ) -> None:
        """As `CurrentAlliance`; nobody has told cards yet."""
        super().__init__(store, identity=identity, clock=clock, objector=objector)
        self._pace = CardPace()
        self._shown = ShownCards()

    def unheld_cards(self) -> list[ShownCard]:
        """Cards of this member that others have shown, and that this home has signed and forgotten and not taken."""
        return self._shown.unheld(self.own_card[1])

    def import_alliance(self, rosters: list[bytes], cards: Iterable[bytes], *, fingerprint: str | None) -> Alliance:
        """Join, or on a joined home take newer rosters and cards, from what a person brought.

        Raises:
            GovernanceError: another alliance, this member is not in it, or the fingerprint is not in the chain.
            FormatError: the file's rosters or cards are not valid.
            SignatureError: a card is not signed by its member.
        """
        cards = list(cards)
        with self._lock:
            if self._alliance is not None:
                try:
                    return self._import_newer(self._alliance, rosters, cards, fingerprint)
                finally:
                    self._shown.note(self._own_card[1], cards, teller="")
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
            return self._adopt(alliance, teller="", pin=fingerprint)

    def accept_update(self, rosters: Iterable[bytes], cards: Iterable[bytes], *, teller: str = "") -> Update:
        """Take what a peer, `teller`, told. Each roster and card is judged alone.

        One that cannot be taken keeps nobody else's out, and is no reason to stop listening to whoever passed it on: it may
        be the author of the card, or the council, that signed two. A card that comes too soon after its member's others
        is left for a later contact, and is no fault.
        """
        cards = list(cards)

        def accept_card(held: Alliance, raw: bytes) -> Alliance:
            return self._accept_card(held, raw, teller=teller)

        with self._lock:
            alliance = before = self.joined
            refusals: list[Refusal] = []
            conflicts: list[Conflict] = []
            for accept, find_conflict, raws in (
                (Alliance.accept_roster, find_roster_conflict, first_of_each_version(rosters, held=alliance)),
                (accept_card, find_card_conflict, cards),
            ):
                for raw in raws:
                    try:
                        alliance = accept(alliance, raw)
                    except (PeerFaultError, GovernanceError, FormatError) as error:
                        if conflict := find_conflict(alliance, raw):
                            conflicts.append(conflict)
                        elif not is_outdated(alliance, raw):
                            refusals.append(build_refusal(alliance, raw, error))
            if alliance is not before:
                self._adopt(alliance, teller=teller)
            self._shown.note(self._own_card[1], cards, teller=teller)
            return Update(alliance is not before, tuple(refusals), tuple(conflicts))

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
                self._adopt(alliance, teller=None)
            return parsed[1]

    def _sign_card(self, held: SignedCard, card: Card, seq: int) -> bytes:
        successor = replace(card, seq=seq, previous=held[0].hash, issued=self._clock().replace(microsecond=0))
        return format_envelope(build_envelope(card_content(successor), CARD_TYPE, self._identity.sign))

    def _accept_card(self, alliance: Alliance, raw: bytes, *, teller: str | None) -> Alliance:
        """Take a card from outside, unless it takes back what this node has seen; without a `teller` a person brought it.

        One of this home's own that it has forgotten is not taken as it is: the next one stands on it (`forgotten`).

        Raises:
            FormatError: not a card, or one that breaks the rules for its successor.
            SignatureError: not signed by the identity key in the roster.
            GovernanceError: refused by the alliance's rules, or by what this node knows.
        """
        if found := find_forgotten(alliance, self.member, self.identity_key, raw, by_hand=teller is None):
            held = alliance.cards[self.member]
            require_same_log(held[1], found.keys, self._objector)
            raw = self._sign_card(held, with_keys_of(held[1], found.keys), draw_leap(found.seq, self._clock()))
            others = {member: signed for member, signed in alliance.cards.items() if member != self.member}
            return replace(alliance, cards=MappingProxyType(others)).accept_card(raw)
        accepted = alliance.accept_card(raw)
        member = parse_card(raw)[1].member
        if accepted is not alliance and (member in alliance.cards or member != self.member):
            card = accepted.card(member)
            allowance = None if teller is None else self._allowance_of(alliance, card, teller)
            if allowance is not None and not allowance.is_left:
                logger.info("event=card_deferred member=%s seq=%d teller=%s", member, card.seq, teller)
                return alliance  # whoever holds it tells it again at the next contact, because the cards differ
            require_unopposed(self._objector, alliance, card)  # reads much more than the pace does
            if allowance is not None:
                allowance.spend()
        return accepted

    def _allowance_of(self, alliance: Alliance, card: Card, teller: str) -> Allowance | None:
        """What a peer's next card is taken from (`pace`). The first of an identity key always is taken."""
        if card.member not in alliance.cards:
            return None
        gives_up = self._objector is not None and self._objector.gives_up_entries(card)
        by_itself = teller == card.member
        return self._pace.allowance_of(card.member, by_itself=by_itself, gives_up_entries=gives_up, now=self._clock())

    def _import_newer(
        self, held: Alliance, rosters: list[bytes], cards: Iterable[bytes], fingerprint: str | None
    ) -> Alliance:
        alliance = held
        for raw in rosters:
            alliance = alliance.accept_roster(raw)
        if fingerprint is not None and not alliance.knows_fingerprint(fingerprint):
            raise GovernanceError(
                f"no roster of {alliance.name}, held here or in the file, has the fingerprint {fingerprint}",
                hint="it is mistyped (known here: labmesh roster show), or of a newer roster than in the file; ask another "
                "member for a new one, made with: labmesh roster export -o FILE",
            )
        for raw in cards:
            alliance = self._accept_card(alliance, raw, teller=None)
        return self._adopt(alliance, teller="") if alliance is not held else held
