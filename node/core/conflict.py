"""Conflicts: two signed statements about one thing, of which at most one can be honest.

A second roster of one version, or a second card of one `seq`, is never taken. Where one key has signed both, the two
envelopes prove it; `node.core.evidence` makes a file of them.

Two rosters are a conflict only where both are complete: whoever holds the version before would take either. An incomplete
one binds nobody, and an honest council member may sign another after so many have refused it that it can never be complete
(`node.core.refusal`).
"""

from __future__ import annotations

from node.core.alliance import Alliance, SignedRoster, format_card, format_roster
from node.core.card import parse_card
from node.core.roster import Roster, parse_roster, verify_first, verify_next
from node.errors import FormatError, GovernanceError

Conflict = tuple[bytes, bytes]
"""The envelope held first, and the other one."""


def find_roster_conflict(alliance: Alliance, raw: bytes) -> Conflict | None:
    """The held roster of the same version, where the other one is complete, too, and one council key has signed both."""
    try:
        other = parse_roster(raw)
    except FormatError:
        return None
    version = other[1].version
    if version > alliance.roster.version or alliance.rosters[version - 1][0].hash == other[0].hash:
        return None
    held = alliance.rosters[version - 1]
    return (format_roster(held), raw) if find_double_signers(alliance, held, other) else None


def find_double_signers(alliance: Alliance, one: SignedRoster, other: SignedRoster) -> set[bytes]:
    """Council keys that count on both of two rosters; none unless both are complete."""
    both = council_keys(alliance, one[1]) & council_keys(alliance, other[1])
    common = one[0].signers(both) & other[0].signers(both)
    if not common:  # before the councils are counted, of which a stranger's roster may name a hundred seats
        return set()
    try:
        verify_complete(alliance, one)
        verify_complete(alliance, other)
    except GovernanceError:
        return set()
    return common


def verify_complete(alliance: Alliance, signed: SignedRoster) -> None:
    """Verify that whoever holds the version before would take this roster.

    Raises:
        GovernanceError: it follows another roster than the one of `alliance`, breaks a rule for successors, or lacks
            signatures of the council before it or of its own.
    """
    envelope, roster = signed
    if roster.alliance != alliance.name or roster.version > alliance.roster.version + 1:
        raise GovernanceError(f"roster version {roster.version} of {roster.alliance} follows none of {alliance.name}")
    if roster.version == 1:
        verify_first(envelope, roster)
    else:
        before = alliance.rosters[roster.version - 2]
        verify_next(before[0].hash, before[1], envelope, roster)


def council_keys(alliance: Alliance, roster: Roster) -> set[bytes]:
    """The keys whose signatures count on a roster: its own council's, and that of the version before, where it is held."""
    chain = alliance.rosters
    before = chain[roster.version - 2][1].council if 1 < roster.version <= len(chain) + 1 else ()
    return {*roster.council, *before}


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
