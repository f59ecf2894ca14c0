"""Cards that this home signed and has forgotten: its disk went back in time, and it signed others since.

The next card of such a home leaps (`core.succession.leap_seq`), so its `seq` is greater than that of the card which peers
hold; they refuse it all the same where it lacks the former keys of theirs. What they hold, though, is the home's own word,
with the signature of its identity key, and more: so the home takes up the keys in it, and signs a card that stands on it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from secrets import randbelow

from node.ballot import Objector
from node.core.alliance import Alliance
from node.core.card import Card, parse_card, verify_card
from node.core.succession import LEAP_JITTER, continues, is_forgotten, leap_seq
from node.errors import GovernanceError


def find_forgotten(alliance: Alliance, member: str, identity_key: bytes, raw: bytes, *, by_hand: bool) -> Card | None:
    """The card in `raw` where it is one of this member's that its home has forgotten, and is to be taken up; else None.

    Args:
        alliance: with the card of this member that is held.
        member: whose home this is.
        identity_key: the public key that the home signs cards with.
        raw: an envelope from outside.
        by_hand: a person brought it, so that it counts also where the two part: each names former keys that the other does
            not know. What peers tell must continue the held card, for nobody may choose between the two but people.

    Raises:
        FormatError: not a card.
        SignatureError: not signed by the identity key in the roster.
    """
    envelope, card = parse_card(raw)
    if card.member != member or card.alliance != alliance.name or member not in alliance.cards:
        return None
    held = alliance.cards[member][1]
    if not identity_key == alliance.roster.members[member].identity_key == card.identity_key or not is_forgotten(held, card):
        return None
    verify_card(envelope, card, identity_key)
    return card if by_hand or continues(held, card) else None


def require_same_log(held: Card, card: Card, objector: Objector | None) -> None:
    """Refuse to take up a card that ends a log key where the log in this home is another one.

    Raises:
        GovernanceError: it ends one at another root, or before what a quorum has cosigned.
    """
    if objector is None:
        return
    for former in card.former_log_keys:
        if former not in held.former_log_keys and (
            reason := objector.judge_successor(replace(held, log_key=former.key), card)
        ):
            raise GovernanceError(
                f"this home has forgotten a card of its own, and cannot take it up: {reason}",
                hint="two histories of the log are signed; the council says which survives: labmesh roster settle",
            )


def draw_leap(seq: int, now: datetime) -> int:
    """A `seq` beyond all that this home can have used and forgotten, where it may hold no newer card than `seq`."""
    return leap_seq(seq, int(now.timestamp()), randbelow(LEAP_JITTER))
