"""The rosters and cards that an audit relies on, read from their rows and verified again one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from node.core.alliance import Alliance, load_alliance
from node.core.card import Card, parse_card, verify_card
from node.core.roster import Member, parse_roster
from node.errors import LabmeshError, StoreError
from node.inspection.report import Check
from node.store.inspection import AnyRow, InspectionStore


@dataclass(slots=True)
class KnownKeys:
    """The alliance, if its chain holds, and every card that is signed by the identity key it names, oldest first."""

    alliance: Alliance | None = None
    cards: dict[str, list[Card]] = field(default_factory=dict)

    def line_of(self, member: str) -> Member | None:
        """A member's line in the newest roster."""
        return self.alliance.roster.members.get(member) if self.alliance else None


def inspect_alliance(store: InspectionStore, author: str) -> tuple[KnownKeys, list[Check]]:
    """Verify the chain of rosters and every card; what does not hold is left out of the keys."""
    rosters, cards = Check("rosters"), Check("cards")
    known = KnownKeys()
    try:
        identity = store.load_identity()
        if identity is None:
            rosters.fault("the database does not say whose home this is")
        _inspect_rosters(store.load_rosters(), identity.fingerprint if identity is not None else None, known, rosters)
    except (StoreError, TypeError, ValueError) as error:
        rosters.fault(f"cannot be read: {error}")
    try:
        for row in store.load_cards():
            _inspect_card(row, known, cards)
    except (StoreError, TypeError, ValueError) as error:
        cards.fault(f"cannot be read: {error}")
    if author not in known.cards:
        cards.fault(f"there is no valid card of {author}, so its signatures cannot be checked")
    return known, [rosters, cards]


def _inspect_rosters(rows: Sequence[AnyRow], pin: str | None, known: KnownKeys, check: Check) -> None:
    check.count = len(rows)
    if not rows:
        check.remark = "no alliance was joined yet"
        if pin is not None:
            check.fault("the pinned alliance's rosters are missing")
        return
    try:
        known.alliance = load_alliance((row.envelope for row in rows), fingerprint=pin)
    except LabmeshError as error:
        check.fault(error.message)
    for row in rows:
        try:
            envelope, roster = parse_roster(row.envelope)
        except LabmeshError as error:
            check.fault(f"version {row.version}: {error.message}")
            continue
        if (roster.version, envelope.hash) != (row.version, row.hash):
            check.fault(f"the row of version {row.version} holds the roster {envelope.hash} of version {roster.version}")
    check.remark = f"versions 1 to {rows[-1].version}, one of them pinned"


def _inspect_card(row: AnyRow, known: KnownKeys, check: Check) -> None:
    check.count += 1
    try:
        envelope, card = parse_card(row.envelope)
        # By the key that it names itself: a later roster may have replaced it, and that is no damage.
        verify_card(envelope, card, card.identity_key)
    except LabmeshError as error:
        check.fault(f"card {row.seq} of {row.member}: {error.message}")
        return
    if (card.member, card.seq, envelope.hash) != (row.member, row.seq, row.hash):
        check.fault(f"the row of card {row.seq} of {row.member} holds card {card.seq} of {card.member}")
        return
    line = known.line_of(card.member)
    if line is not None and line.identity_key != card.identity_key:
        check.remark = f"{card.member} has a card by an identity key that a later roster replaced"
        if not known.cards.get(card.member):
            known.cards[card.member] = [card]
        return
    known.cards.setdefault(card.member, []).append(card)
