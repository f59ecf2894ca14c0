"""Changes of the roster: how they are asked of the daemon, and what a proposed roster would change, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labmesh.v1 import node_pb2
from node.core.amendment import Amendment, NameSurvivor, Renew, ReplaceIdentity, SeatCouncil, SetQuorum, SetThreshold
from node.core.card import Card, parse_card
from node.core.keys import format_base64
from node.core.times import format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from node.core.roster import Head, Member, Roster


def amendment_to_wire(amendment: Amendment) -> node_pb2.AmendRosterRequest:
    """The request for a change other than adding and removing members, which have calls of their own."""
    match amendment:
        case SeatCouncil(members, threshold):
            return node_pb2.AmendRosterRequest(council=node_pb2.Council(members=members, threshold=threshold or 0))
        case SetThreshold(threshold):
            return node_pb2.AmendRosterRequest(threshold=threshold)
        case SetQuorum(quorum):
            return node_pb2.AmendRosterRequest(quorum=quorum or 0)
        case ReplaceIdentity(member, card):
            return node_pb2.AmendRosterRequest(identity=node_pb2.ReplacedIdentity(member=member, card=card))
        case NameSurvivor(member, head):
            return node_pb2.AmendRosterRequest(survivor=node_pb2.Survivor(member=member, size=head.size, root=head.root))
        case Renew():
            return node_pb2.AmendRosterRequest(renewal=node_pb2.Renewal())
        case _:
            raise AssertionError(f"{type(amendment).__name__} has a call of its own")


def describe_change(held: Roster, roster: Roster, cards: Iterable[bytes]) -> list[str]:
    """What the next roster changes, one sentence each; nothing that differs is left out but `issued`, which stands above."""
    named = {card.member: card for _, card in map(parse_card, cards)}
    changes = [
        line
        for name, member in sorted(roster.members.items())
        for line in _describe_member(name, held.members.get(name), member, named.get(name))
    ]
    if held.title != roster.title:
        changes.append(f"the title becomes {roster.title!r}; it was {held.title!r}")
    if held.council != roster.council:
        changes.append(_describe_council(held, roster))
    if held.threshold != roster.threshold:
        changes.append(f"a change then needs {roster.threshold} council signatures; it needed {held.threshold}")
    if (held.council, held.threshold) != (roster.council, roster.threshold) and roster.needs_every_seat:
        changes += _warn_of_every_seat(roster)
    if held.quorum != roster.quorum:
        changes.append(f"the quorum becomes {roster.quorum}; it was {held.quorum}")
    was = ", as before" if _day(held.expires) == _day(roster.expires) else f"; it was until {_day(held.expires)}"
    changes.append(f"the roster is valid until {_day(roster.expires)}{was}")
    return changes


def _describe_member(name: str, held: Member | None, member: Member, card: Card | None) -> Iterator[str]:
    if held is None:
        who = f" ({card.name}, {card.region})" if card else ""
        yield f"{name}{who} joins, with the identity key {format_base64(member.identity_key)}"
        if member.status == "removed":
            yield f"{name} is removed at once"
        return
    if held.identity_key != member.identity_key:
        yield (
            f"{name} gets the identity key {format_base64(member.identity_key)}; "
            f"it had {format_base64(held.identity_key)}, which counts no longer"
        )
    if held.status != member.status:
        yield f"{name} is {member.status}, for good; {_end(member.head)}"
    elif held.head != member.head:
        before = "" if held.head is None else f"; before, the roster named size {held.head.size}"
        yield f"{name}: {_end(member.head) if member.status == 'removed' else _survivor(member.head)}{before}"
    if held.joined != member.joined:
        yield f"{name} joined at {format_seconds(member.joined)}; before, at {format_seconds(held.joined)}"
    if held.status == member.status and held.left != member.left:
        yield f"the time at which {name} left changes"


def _end(head: Head | None) -> str:
    if head is None:
        return "no end of its log is named, so each node keeps what it had verified"
    if head.size == 0:
        return "nothing of its log counts: its end is before the first entry"
    return f"its log counts up to size {head.size} with root {format_base64(head.root)}, and no further"


def _survivor(head: Head | None) -> str:
    if head is None:
        return "no history of its log is named any more"
    return f"the history of its log with root {format_base64(head.root)} at size {head.size} survives, and no other"


def _describe_council(held: Roster, roster: Roster) -> str:
    if set(held.council) == set(roster.council):
        return "the council's seats stand in another order"
    if _council(held) == _council(roster):
        return f"the council stays {_council(roster)}, with the new identity keys"
    return f"the council becomes {_council(roster)}; it was {_council(held)}"


def _council(roster: Roster) -> str:
    holders = {member.identity_key: name for name, member in roster.members.items()}
    return ", ".join(holders.get(key) or format_base64(key) for key in roster.council)


def _warn_of_every_seat(roster: Roster) -> list[str]:
    """Not of a founder alone: it cannot choose otherwise."""
    if len(roster.council) == 1:
        return []
    return [
        f"WARNING: all {len(roster.council)} seats must then sign: once one of their keys is lost, nobody can change the "
        "roster ever again. Keep three seats or more, and a threshold below their number"
    ]


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
