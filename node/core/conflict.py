"""Conflicts: two signed statements about one thing, of which at most one can be honest.

A second roster of one version, or a second card of one `seq`, is never taken. Where one key has signed both, the two
envelopes prove it; `node.core.evidence` makes a file of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from node.core.alliance import Alliance, SignedRoster, format_card, format_roster
from node.core.card import parse_card
from node.core.roster import parse_roster
from node.errors import FormatError

Conflict = tuple[bytes, bytes]
"""The envelope held first, and the other one."""


def find_roster_conflict(alliance: Alliance, raw: bytes) -> Conflict | None:
    """The held roster of the same version, where one council key has signed both.

    The other roster need not follow anything: whoever signs a version twice has lied, however few signed with it.
    """
    try:
        other, roster = parse_roster(raw)
    except FormatError:
        return None
    if roster.alliance != alliance.name or roster.version > alliance.roster.version:
        return None
    held = alliance.rosters[roster.version - 1]
    if held[0].hash == other.hash:
        return None
    keys = other.signers(_councils(alliance, held)) & held[0].signers(_councils(alliance, held))
    return (format_roster(held), raw) if keys else None


def find_card_conflict(alliance: Alliance, raw: bytes) -> Conflict | None:
    """The held card of the same `seq`, where the member's identity key has signed both."""
    try:
        other, card = parse_card(raw)
    except FormatError:
        return None
    held = alliance.cards.get(card.member)
    if held is None or card.alliance != alliance.name or card.seq != held[1].seq or other.hash == held[0].hash:
        return None
    key = held[1].identity_key
    return (format_card(held), raw) if other.signers([key]) else None


def find_parting(alliance: Alliance, rosters: Iterable[bytes]) -> int:
    """The first version of which this chain has another roster than the one held; 0 where one chain begins with the other.

    Raises:
        FormatError: one of them is no roster.
    """
    for raw, (held, roster) in zip(rosters, alliance.rosters, strict=False):
        if parse_roster(raw)[0].hash != held.hash:
            return roster.version
    return 0


def conflict_subject(conflict: Conflict) -> tuple[str, str]:
    """What both of the pair speak about, as a judgement of evidence names it; and whose card it is, empty for rosters."""
    try:
        return f"roster {parse_roster(conflict[0])[1].version}", ""
    except FormatError:
        card = parse_card(conflict[0])[1]
        return f"card {card.seq}", card.member


def _councils(alliance: Alliance, held: SignedRoster) -> set[bytes]:
    """The keys whose signatures the held version needed: its own council's, and that of the version before."""
    before = alliance.rosters[max(0, held[1].version - 2)][1]
    return {*held[1].council, *before.council}
