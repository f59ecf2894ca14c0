"""How a member stands in its alliance, as far as its people must be told: removed, another key, expiry, a waiting change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from node.core.alliance import Alliance
from node.core.quorums import SIGNING
from node.core.roster import Roster
from node.core.times import format_seconds

EXPIRY_NOTICE = timedelta(days=30)
PROPOSAL_NOTICE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell, and what to type or do. An error keeps the node degraded; a warning can wait for some days."""

    subject: Literal["membership", "expiry", "proposal"]
    level: Literal["warning", "error"]
    sentence: str
    hint: str

    def __str__(self) -> str:
        """The notice as one alarm."""
        return f"{self.sentence}; {self.hint}"


def build_notices(
    alliance: Alliance, member: str, identity_key: bytes, *, now: datetime, proposed: Roster | None = None
) -> list[Notice]:
    """What the people of a member must be told at `now`; nothing when all is well.

    Args:
        alliance: the rosters and cards that the member's node holds.
        member: its id.
        identity_key: the public key that its home has.
        now: the time.
        proposed: the change that its home has signed and that is not in force yet, if there is one.
    """
    found = (
        _membership_notice(alliance, member, identity_key),
        _expiry_notice(alliance, identity_key, now),
        None if proposed is None else _proposal_notice(proposed, now),
    )
    return [notice for notice in found if notice is not None]


def build_push_warnings(alliance: Alliance | None, member: str, identity_key: bytes) -> list[str]:
    """What must be told with every push of a removed member: that its records go nowhere. They are taken all the same.

    Data of a laboratory is never refused because of what an alliance decides about its member. Where the roster only names
    another identity key there is nothing to tell: the log key signs as before, and peers take the records; status tells it.
    """
    if alliance is None or member in alliance.active_members():
        return []
    notice = _membership_notice(alliance, member, identity_key)
    return [] if notice is None else [str(notice)]


def _membership_notice(alliance: Alliance, member: str, identity_key: bytes) -> Notice | None:
    entry = alliance.roster.members.get(member)
    council = ", ".join(name for name in alliance.council_members() if name != member) or "nobody else"
    if entry is None:
        return None
    if entry.status == "removed":
        version = next(roster.version for _, roster in alliance.rosters if roster.has_removed(member))
        end = "" if entry.cut is None else f"; entries of its log from {entry.cut.size} on count nowhere"
        return Notice(
            "membership",
            "error",
            f"{member} was removed from {alliance.name} by roster version {version} on {entry.left:%Y-%m-%d}{end}",
            "the other nodes refuse this one. What counts stays provable (labmesh prove, labmesh verify); what is pushed is "
            f"kept here alone. The id cannot be used again: to belong again, ask the council ({council}) to add a new home "
            "with another id",
        )
    if entry.identity_key != identity_key:
        return Notice(
            "membership",
            "error",
            f"the roster names another identity key for {member} than this home has",
            "restart the node if its people made a new key, restore keys/identity.pem if it is an old one. If neither: "
            f"labmesh keys identity -o CARD; telephone the council ({council}) at once, a member of which compares the key "
            f"and types: labmesh roster rekey {member} CARD",
        )
    return None


def _expiry_notice(alliance: Alliance, identity_key: bytes, now: datetime) -> Notice | None:
    roster = alliance.roster
    hint = "type: labmesh roster renew"
    if identity_key not in roster.council:
        hint = f"ask a council member ({', '.join(alliance.council_members())}) to type: labmesh roster renew"
    if roster.expires <= now:
        sentence = f"the roster expired on {roster.expires:%Y-%m-%d}: members go on as before, but nobody new can join"
        return Notice("expiry", "error", sentence, hint)
    if roster.expires - now < EXPIRY_NOTICE:
        return Notice("expiry", "warning", f"the roster expires on {roster.expires:%Y-%m-%d}", hint)
    return None


def _proposal_notice(proposed: Roster, now: datetime) -> Notice | None:
    if now - proposed.issued < PROPOSAL_NOTICE:
        return None
    late = now - proposed.issued > SIGNING
    return Notice(
        "proposal",
        "warning",
        f"a change of the roster that this home has signed, version {proposed.version} made at "
        f"{format_seconds(proposed.issued)}, still lacks signatures, and keeps it from signing another",
        f"after {SIGNING.days} days nobody signs it: once no copy is left, labmesh roster withdraw, and propose it again"
        if late
        else "who must sign it, or how to get on: labmesh roster proposal",
    )
