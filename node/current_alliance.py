"""The alliance of the moment: what rosters and cards this node holds, in one snapshot that is replaced as a whole.

What is new is written before it is published inside the process, and then subscribers are told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from node.ballot import Objector
from node.clock import Clock
from node.core.alliance import Alliance, format_card, format_roster
from node.core.card import parse_card
from node.core.keys import Sign
from node.core.succession import SignedCard
from node.errors import GovernanceError, HomeError
from node.store.membership import MembershipStore, SignedVersion


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """The member's identity key: 32 public bytes, and what signs with the private half."""

    public_key: bytes
    sign: Sign


class CurrentAlliance:
    """The snapshot, and who is told of the next one. Any thread may call."""

    def __init__(
        self, store: MembershipStore, *, identity: IdentityKey, clock: Clock, objector: Objector | None = None
    ) -> None:
        """Load and verify what the store holds; `objector` judges the cards that others send from then on."""
        node = store.load_identity()
        self.member, self.alliance_name = node.member, node.alliance
        self._store, self._identity, self._clock, self._objector = store, identity, clock, objector
        self._lock = threading.RLock()
        self._subscribers: list[Callable[[], None]] = []
        self._doubters: list[Callable[[str], None]] = []
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

    def subscribe_replaced(self, notify: Callable[[str], None]) -> None:
        """Call `notify` with the teller before an own card from outside takes the place of another; any thread may call.

        This home had forgotten it, so it is older than it knew. The teller is nobody where a person brought the card.
        """
        self._doubters.append(notify)

    def while_unchanged(self, act: Callable[[Alliance | None], None]) -> None:
        """Call `act` with the alliance of the moment, which stays that until it returns."""
        with self._lock:
            act(self._alliance)

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

    def _adopt(
        self, alliance: Alliance, *, teller: str | None, pin: str | None = None, signed: SignedVersion | None = None
    ) -> Alliance:
        """Write, then publish inside the process.

        Args:
            alliance: what is held from now on.
            teller: who told what is new: a member, or nobody for what a person brought; None where this home made it.
            pin: the fingerprint that a person has compared.
            signed: the roster that this home has signed with it.
        """
        with self._lock:
            self._store.save_alliance(alliance, pin=pin, signed=signed)
            own = alliance.cards.get(self.member)
            if teller is not None and own is not None and own[0].hash != self._own_card[0].hash:
                for doubt in self._doubters:  # before anybody sees the card: its keys may have signed already
                    doubt(teller)
            self._alliance = alliance
            if own is not None:
                self._own_card = own  # by another identity key its `seq` may be smaller
        for notify in self._subscribers:
            notify()
        return alliance
