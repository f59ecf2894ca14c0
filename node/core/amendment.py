"""What a council can change, and the roster that follows from it.

An amendment is what a person asks for; `build_successor` makes the next version of it, which still has to be signed. The
rules here bind whoever makes or signs a roster. What a signed roster must obey to be accepted stands in `roster`, and is
less: a node cannot refuse what the council's thresholds carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from node.core.alliance import Alliance, roster_keys
from node.core.card import Card, parse_card, verify_card
from node.core.quorums import CLOCKS, SIGNING
from node.core.roster import Head, Member, Roster, quorum_default
from node.core.succession import current_keys
from node.core.times import format_seconds
from node.errors import GovernanceError

ROSTER_LIFETIME = timedelta(days=730)
WHILE_THE_OLD_KEY_SIGNS = (
    "while the old key still signs, first seat others or lower the threshold: labmesh roster council MEMBER… --threshold N"
)


@dataclass(frozen=True, slots=True)
class AddMembers:
    """Take in the members of these cards (envelopes)."""

    cards: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """Remove a member; its log ends at `head`.

    Without one it ends at the head that the roster names already, or where each node had verified it when there is none.
    `by_hand` says that a person has named the size, also where a quorum has cosigned more.
    """

    member: str
    head: Head | None = None
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class SeatCouncil:
    """Seat exactly these members; without a threshold the old one stays."""

    members: tuple[str, ...]
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class SetThreshold:
    """How many council members must sign a change."""

    threshold: int


@dataclass(frozen=True, slots=True)
class SetQuorum:
    """How many other members must have cosigned; None for the default, which follows the number of members."""

    quorum: int | None


@dataclass(frozen=True, slots=True)
class ReplaceIdentity:
    """Give a member the identity key that its new card (envelope) names, on the council too."""

    member: str
    card: bytes


@dataclass(frozen=True, slots=True)
class NameSurvivor:
    """Say which of two histories that a member signed goes on: the one with this root at this size."""

    member: str
    head: Head


@dataclass(frozen=True, slots=True)
class Renew:
    """Change nothing but the date on which the roster expires."""


Amendment = AddMembers | RemoveMember | SeatCouncil | SetThreshold | SetQuorum | ReplaceIdentity | NameSurvivor | Renew


def build_successor(alliance: Alliance, amendment: Amendment, *, now: datetime) -> tuple[Roster, tuple[bytes, ...]]:
    """The next roster version, unsigned, and the cards that must travel with it.

    Every version lasts two years from `now`, so each change renews the roster.

    Raises:
        FormatError: not a card.
        SignatureError: a card is not signed by the key it names.
        GovernanceError: the change is impossible; the hint says what to type.
    """
    envelope, held = alliance.rosters[-1]
    changes, cards = _changes(alliance, amendment, now)
    _require_change(held, amendment, changes)
    members: Mapping[str, Member] = changes.get("members", held.members)
    if "quorum" not in changes and held.quorum == quorum_default(_count_active(held.members)):
        changes["quorum"] = quorum_default(_count_active(members))
    roster = replace(
        held,
        version=held.version + 1,
        previous=envelope.hash,
        issued=now,
        expires=now + ROSTER_LIFETIME,
        **changes,
    )
    require_sound(alliance, roster, cards, now=now)
    return roster, cards


def require_sound(alliance: Alliance, roster: Roster, cards: Iterable[bytes], *, now: datetime) -> None:
    """Refuse a next roster that no honest council member signs at `now`, although its signatures might carry it.

    Raises:
        GovernanceError: a seat that is no active member's, a key in two roles, a replaced key that returns, a newcomer after
            the held roster expired, another end of a log than the council has named, or a time that is not now.
    """
    _require_no_newcomer_after_expiry(alliance.roster, roster, now)
    _require_same_ends(alliance.roster, roster)
    active = {member.identity_key: name for name, member in roster.members.items() if member.status == "active"}
    if strange := [key for key in roster.council if key not in active]:
        raise GovernanceError(
            f"{len(strange)} of the {len(roster.council)} council seats would belong to no active member's identity key",
            hint="change the council first: labmesh roster council MEMBER…",
        )
    known = [card for _, card in alliance.cards.values()] + [parse_card(raw)[1] for raw in cards]
    for card in known:
        if not roster_keys(roster).isdisjoint(current_keys(card)):
            raise GovernanceError(
                f"a log or witness key of {card.member} would also be an identity or council key; one key has one role",
                hint=f"let the newcomer make another key, or {card.member} rotate its own: labmesh keys rotate",
            )
    new = roster_keys(roster) - roster_keys(alliance.roster)
    for _, earlier in alliance.rosters:
        if not new.isdisjoint(roster_keys(earlier)):
            raise GovernanceError(
                f"an identity key that was replaced after roster version {earlier.version} would return",
                hint="a key that was lost or stolen once is not used again: make a new one",
            )
    _require_made_now(roster, now)


def _require_change(held: Roster, amendment: Amendment, changes: Mapping[str, Any]) -> None:
    """Refuse to spend a version and signatures on what is so already; the order of the seats means nothing."""
    same = all(
        set(value) == set(held.council) if name == "council" else value == getattr(held, name)
        for name, value in changes.items()
    )
    if same and not isinstance(amendment, Renew):
        raise GovernanceError(
            "that is so already: the roster would change nothing but its date", hint="for that, type: labmesh roster renew"
        )


def _require_no_newcomer_after_expiry(held: Roster, roster: Roster, now: datetime) -> None:
    """By the signer's clock, too: whoever made the roster wrote into it what time it was."""
    new = sorted(roster.members.keys() - held.members.keys())
    if new and max(now, roster.issued) >= held.expires:
        raise GovernanceError(
            f"the roster expired on {held.expires:%Y-%m-%d}, and admits nobody new: not {', '.join(new)}",
            hint="renew it first, and when that is in force add again: labmesh roster renew",
        )


def _require_made_now(roster: Roster, now: datetime) -> None:
    """From `issued` on the cosignatures of the roster before count for a while, and then no more (`core.quorums`).

    With an earlier time, of a proposal that waited or was dated back, what a quorum has seen until now would be unseen.
    """
    if not now - SIGNING <= roster.issued <= now + CLOCKS:
        raise GovernanceError(
            f"the roster was made at {format_seconds(roster.issued)}, and here it is {format_seconds(now)}: nobody signs "
            f"one that is more than {SIGNING.days} days old, or more than a day ahead",
            hint="if the clock of this machine is right, propose the change again; who has signed this one, and can be sure "
            "that no copy of it is left, first types: labmesh roster withdraw",
        )


def _require_same_ends(held: Roster, roster: Roster) -> None:
    """What the council has said of a log stays: where a removed member's ends, and which history of an active one survives.

    What a member said before it was removed is provable up to the named size, and nothing beyond it: for good.
    """
    for name, line in held.members.items():
        if line.head is not None and line.cut is None:
            _require_no_less(name, line.head, roster.members[name].head)
        if line.cut is not None and roster.members[name].head != line.cut:
            raise GovernanceError(
                f"the roster would move the end of the log of {name}, who was removed: it is size {line.cut.size}",
                hint="do not sign it; records below that size count for ever, and none beyond",
            )


def _require_no_less(member: str, named: Head, head: Head | None) -> None:
    """A removal keeps the history that was named to survive; only a longer one can follow, and that must begin with it."""
    if head is None or head.size < named.size or (head.size == named.size and head.root != named.root):
        said = "none" if head is None else f"size {head.size}" if head.size != named.size else "another root"
        raise GovernanceError(
            f"the roster names the surviving history of {member} up to size {named.size}, and would now name {said}: what "
            "the council has decided once is not taken back",
            hint=f"name that size or a larger one: labmesh roster remove {member} --head-size {named.size}",
        )


def _changes(alliance: Alliance, amendment: Amendment, now: datetime) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """The fields of the roster that change, and the cards that go with them."""
    match amendment:
        case AddMembers(cards):
            return {"members": _add(alliance, cards, now)}, cards
        case RemoveMember(member, head, _):
            return {"members": _remove(alliance, member, head, now)}, ()
        case SeatCouncil(members, threshold):
            return _seat(alliance, members, threshold), ()
        case SetThreshold(threshold):
            return {"threshold": _require_threshold(threshold, len(alliance.roster.council))}, ()
        case SetQuorum(quorum):
            return {"quorum": _require_quorum(alliance, quorum)}, ()
        case ReplaceIdentity(member, card):
            return _replace_identity(alliance, member, card), (card,)
        case NameSurvivor(member, head):
            return {"members": _settle(alliance, member, head)}, ()
        case Renew():
            return {}, ()


def _add(alliance: Alliance, cards: tuple[bytes, ...], now: datetime) -> Mapping[str, Member]:
    members = dict(alliance.roster.members)
    for raw in cards:
        envelope, card = parse_card(raw)
        _require_newcomer(alliance, card, members)
        verify_card(envelope, card, card.identity_key)
        members[card.member] = Member(card.identity_key, "active", now)
    return MappingProxyType(members)


def _remove(alliance: Alliance, member: str, head: Head | None, now: datetime) -> Mapping[str, Member]:
    entry = _require_active(alliance, member)
    if entry.identity_key in alliance.roster.council:
        others = [name for name in alliance.council_members() if name != member]
        raise GovernanceError(
            f"{member} sits on the council, and the council cannot be changed by removing a member",
            hint=f"first seat others: labmesh roster council {' '.join(others) or 'MEMBER…'}",
        )
    members = dict(alliance.roster.members)
    members[member] = replace(entry, status="removed", left=now, head=head or entry.head)
    return MappingProxyType(members)


def _settle(alliance: Alliance, member: str, head: Head) -> Mapping[str, Member]:
    entry = _require_active(alliance, member)
    if entry.head is not None and head.size <= entry.head.size:
        raise GovernanceError(
            f"the roster names the surviving history of {member} up to size {entry.head.size} already, beyond {head.size}",
            hint="type: labmesh roster show",
        )
    return MappingProxyType({**alliance.roster.members, member: replace(entry, head=head)})


def _seat(alliance: Alliance, members: tuple[str, ...], threshold: int | None) -> dict[str, Any]:
    if len(set(members)) != len(members):
        raise GovernanceError("a member is named twice", hint="name each council member once")
    council = tuple(_require_active(alliance, member).identity_key for member in members)
    wanted = alliance.roster.threshold if threshold is None else threshold
    return {"council": council, "threshold": _require_threshold(wanted, len(council))}


def _replace_identity(alliance: Alliance, member: str, raw: bytes) -> dict[str, Any]:
    envelope, card = parse_card(raw)
    held, entry = alliance.roster, _require_active(alliance, member)
    if (card.alliance, card.member) != (alliance.name, member):
        raise GovernanceError(
            f"the card is of {card.member} in {card.alliance}, not of {member} in {alliance.name}",
            hint=f"name the card that {member} has made with its new key",
        )
    verify_card(envelope, card, card.identity_key)
    if card.identity_key == entry.identity_key:
        raise GovernanceError(
            f"the card names the identity key that {member} has already; a card with the same key needs no council",
            hint=f"to take a newer card: labmesh join CARD; for a new key {member} types: labmesh keys identity -o CARD",
        )
    if card.identity_key in roster_keys(held):
        raise GovernanceError("the new identity key belongs to another member already", hint=f"{member} makes a new key")
    council = tuple(card.identity_key if key == entry.identity_key else key for key in held.council)
    members = {**held.members, member: replace(entry, identity_key=card.identity_key)}
    if alliance.needs_seat(member):
        # The new key can sign only once its home knows this roster, which would have to be signed by it.
        raise GovernanceError(
            f"without {member}, too few council members are left to sign a council with its new key",
            hint=f"{WHILE_THE_OLD_KEY_SIGNS}; if that key is lost there is no way: {member} restores keys/identity.pem from "
            "a backup, else its members found a new alliance",
        )
    return {"council": council, "members": MappingProxyType(members)}


def _require_newcomer(alliance: Alliance, card: Card, members: Mapping[str, Member]) -> None:
    if card.alliance != alliance.name:
        raise GovernanceError(
            f"the card of {card.member} is for {card.alliance}, not for {alliance.name}",
            hint=f"its member must init with --alliance {alliance.name}",
        )
    if card.member in members and members[card.member].status == "removed":
        raise GovernanceError(
            f"{card.member} was removed from {alliance.name}, and a removed id cannot be used again",
            hint="let the laboratory init a new home with another member id",
        )
    if card.member in members:
        raise GovernanceError(
            f"{card.member} is in the roster already", hint="to take its newer card: labmesh join CARD; labmesh roster show"
        )


def _require_active(alliance: Alliance, member: str) -> Member:
    if member not in alliance.active_members():
        active = ", ".join(alliance.active_members())
        raise GovernanceError(f"{member!r} is not an active member", hint=f"the active members are {active}")
    return alliance.roster.members[member]


def _require_threshold(threshold: int, seats: int) -> int:
    if not seats < 2 * threshold <= 2 * seats:
        least = seats // 2 + 1
        fitting = str(seats) if least == seats else f"a number from {least} to {seats}"
        raise GovernanceError(
            f"a threshold of {threshold} does not fit a council of {seats}: it must be more than half of it",
            hint=f"use {fitting}; both in one step: labmesh roster council MEMBER… --threshold N",
        )
    return threshold


def _require_quorum(alliance: Alliance, quorum: int | None) -> int:
    active = len(alliance.active_members())
    if quorum is None:
        return quorum_default(active)
    if not 1 <= quorum <= max(1, active - 1):
        raise GovernanceError(
            f"a quorum of {quorum} is impossible: {active - 1} other members can cosign",
            hint=f"use a number from 1 to {max(1, active - 1)}, or: labmesh roster quorum default",
        )
    return quorum


def _count_active(members: Mapping[str, Member]) -> int:
    return sum(member.status == "active" for member in members.values())
