"""Cards that this home signed and has forgotten: its disk went back in time, and it signed others since.

The next card of such a home leaps (`core.succession.leap_seq`), so its `seq` is greater than that of the card which peers
hold; they refuse it all the same where it lacks the former keys of theirs. And where too few peers could tell the home what
it had forgotten, its next card has a `seq` that it had used before, or follows one that has. What peers hold, though, is
the home's own word, with the signature of its identity key: so the home signs a card that leaps beyond both and has the
keys of the one that says all that the other does. That one is taken on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from secrets import randbelow

from node.ballot import Objector
from node.core.alliance import Alliance
from node.core.card import Card, parse_card, verify_card
from node.core.succession import LEAP_JITTER, continues, is_forgotten, leap_seq
from node.errors import DisownedError, GovernanceError


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What the next card stands on: the card whose keys it has, and the greatest `seq` that is used up."""

    keys: Card
    seq: int


def find_forgotten(alliance: Alliance, member: str, identity_key: bytes, raw: bytes, *, by_hand: bool) -> Forgotten | None:
    """What to make of the envelope `raw` where it is a card of this member's that its home has forgotten; else None.

    Args:
        alliance: with the card of this member that is held.
        member: whose home this is.
        identity_key: the public key that the home signs cards with.
        raw: an envelope from outside.
        by_hand: a person brought it, so that its keys count also where the two part: each names former keys that the other
            does not know. Nobody may choose between the two but people.

    Raises:
        FormatError: not a card.
        SignatureError: not signed by the identity key in the roster.
        GovernanceError: a peer told a card that parts from the one held.
    """
    envelope, card = parse_card(raw)
    if card.member != member or card.alliance != alliance.name or member not in alliance.cards:
        return None
    held = alliance.cards[member]
    ours = identity_key == alliance.roster.members[member].identity_key == card.identity_key
    if not ours or not is_forgotten(held, (envelope, card)):
        return None
    verify_card(envelope, card, identity_key)
    seq = max(held[1].seq, card.seq)
    if continues(card, held[1]):
        return Forgotten(held[1], seq)
    if by_hand or continues(held[1], card):
        return Forgotten(card, seq)
    raise GovernanceError(
        f"this home has signed two cards, with seq {held[1].seq} and {card.seq}, that end its keys in different ways, so "
        "who holds one refuses the other; choose the peer's by its file (there: labmesh roster export -o FILE; here: "
        "labmesh join FILE); if others refuse that one, make a new identity key: labmesh keys identity -o FILE",
    )


def require_same_log(held: Card, card: Card, objector: Objector | None) -> None:
    """Refuse to take up a card that ends a log key where the log in this home is another one.

    Raises:
        DisownedError: it ends one at another root, or before what a quorum has cosigned.
    """
    if objector is None:
        return
    for former in card.former_log_keys:
        if former not in held.former_log_keys and (
            reason := objector.judge_successor(replace(held, log_key=former.key), card)
        ):
            raise DisownedError(
                f"this home has forgotten a card of its own, and cannot take it up: {reason}",
                hint="two histories of the log are signed; the council says which survives: labmesh roster settle",
            )


def draw_leap(seq: int, now: datetime) -> int:
    """A `seq` beyond all that this home can have used and forgotten, where it may hold no newer card than `seq`."""
    return leap_seq(seq, int(now.timestamp()), randbelow(LEAP_JITTER))
