"""What a verifier knows beyond a bundle: newer rosters and cards of the same alliance.

A bundle ends with the roster and cards of the day it was made. Who has learned since that a member was removed, an identity
key replaced or a log key revoked judges by that: the bundle's own chain must still hold, but the newest word counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from node.core.alliance import Alliance, format_card
from node.core.succession import SignedCard
from node.errors import FormatError, GovernanceError, SignatureError


def with_newer_rosters(packed: Alliance, known: Alliance | None) -> Alliance:
    """The longer of two chains of one alliance, without cards; `packed` where `known` is of another alliance, or of none.

    Raises:
        GovernanceError: the chains begin alike and part: two rosters of one version.
    """
    if known is None or known.rosters[0][0].hash != packed.rosters[0][0].hash:
        return packed
    for (envelope, roster), (held, _) in zip(packed.rosters, known.rosters, strict=False):
        if envelope.hash != held.hash:
            raise GovernanceError(
                f"the bundle's roster of version {roster.version} is not the one that this home holds",
                hint="one of the two is forged, or council members have signed two: ask them, over another channel",
            )
    longer = known if len(known.rosters) > len(packed.rosters) else packed
    return replace(longer, cards=MappingProxyType({}))


def with_newest_cards(rosters: Alliance, packed: Alliance, known: Alliance | None, *, author: str) -> Alliance:
    """The newest card of each member of `packed` and of `known`, under the newest roster.

    A card by an identity key that the roster has replaced is left out: it is no longer its member's word. Each member is
    judged alone, so nobody's card keeps out another's. A cosigner whose two cards cannot both be its word has none: its
    lines count no longer, and prove nothing against the author, whose record the bundle is about.

    Raises:
        GovernanceError: two cards of the author with one `seq`.
        FormatError: a newer card of the author drops or changes a former key.
    """
    sources = [packed] if known is None or known.rosters[0][0].hash != packed.rosters[0][0].hash else [packed, known]
    cards: dict[str, SignedCard] = {}
    for member in sorted({member for source in sources for member in source.cards}):
        told = [source.cards[member] for source in sources if member in source.cards]
        try:
            cards |= _newest_of(rosters, told).cards
        except (GovernanceError, FormatError):
            if member == author:
                raise
    return replace(rosters, cards=MappingProxyType(cards))


def _newest_of(rosters: Alliance, told: Iterable[SignedCard]) -> Alliance:
    """The alliance with the newest of one member's cards, and no other member's."""
    alone = replace(rosters, cards=MappingProxyType({}))
    for signed in told:
        try:
            alone = alone.accept_card(format_card(signed), judged=True)
        except SignatureError:
            continue
    return alone


def newer_cards(packed: Alliance, merged: Alliance) -> list[str]:
    """The members of `packed` of whom `merged` holds another card, or none."""
    return sorted(
        name
        for name, (envelope, _) in packed.cards.items()
        if name not in merged.cards or merged.cards[name][0].hash != envelope.hash
    )
