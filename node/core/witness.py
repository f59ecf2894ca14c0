"""Whose cosignature a signature line is, and whether it counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from node.core.alliance import Alliance
from node.core.card import Card
from node.core.checkpoint import Cosignature, SignedCheckpoint, verify_cosignature
from node.core.keys import VerifierKey, format_base64
from node.core.note import SignatureLine
from node.errors import SignatureError

# Year 9999: beyond it a time stamp cannot be written as a date.
_TIME_MAX = 253402300799


def verify_witness_line(alliance: Alliance, signed: SignedCheckpoint, line: SignatureLine) -> tuple[str, Cosignature]:
    """Verify that a line is a cosignature by the witness key of an active member; returns that member.

    Raises:
        SignatureError: no active member's witness key signed it, or a retired key signed too late.
    """
    for member in alliance.active_members():
        held = alliance.cards.get(member)
        if held is None or held[1].witness_key.name != line.name:
            continue
        card = held[1]
        for key in card.witness_keys():
            if key.key_id != line.key_id:
                continue
            cosignature = verify_cosignature(signed.checkpoint, line, key)
            if cosignature.time > _TIME_MAX:
                raise SignatureError(f"the cosignature of {member} has an impossible time")
            moment = datetime.fromtimestamp(cosignature.time, UTC)
            if any(former.key == key and moment > former.until for former in card.former_witness_keys):
                raise SignatureError(f"{member} cosigned with a witness key that it had retired before")
            return member, cosignature
    raise SignatureError(f"no active member has the witness key of the signature line {line.name[:120]!r}")


def line_start(key: VerifierKey) -> str:
    """How every cosignature line by this key begins: its name, its key id, and two bytes of the time, which are zero."""
    return f"\u2014 {key.name} {format_base64(key.key_id + bytes(2))}"


def retirements(alliance: Alliance) -> dict[str, int]:
    """Until when each retired witness key counts, in seconds since 1970, by `line_start`."""
    return retired_keys(card for _, card in alliance.cards.values())


def retired_keys(cards: Iterable[Card]) -> dict[str, int]:
    """`retirements`, of the keys in these cards."""
    former = (item for card in cards for item in card.former_witness_keys)
    return {line_start(item.key): int(item.until.timestamp()) for item in former}


def outlives(line: str, time_s: int, retired: Mapping[str, int]) -> bool:
    """Whether a cosignature line is by a key that was retired before the line's time, and so counts no more."""
    name, _, signature = line.rpartition(" ")
    return time_s > retired.get(f"{name} {signature[:8]}", time_s)


def accept_cosignatures(alliance: Alliance, author: str, signed: SignedCheckpoint) -> dict[str, Cosignature]:
    """The valid cosignatures on a checkpoint by active members other than its author; other lines are left out."""
    accepted: dict[str, Cosignature] = {}
    for line in signed.note.signatures:
        try:
            member, cosignature = verify_witness_line(alliance, signed, line)
        except SignatureError:
            continue
        if member != author and member not in accepted:
            accepted[member] = cosignature
    return accepted


def each_key_once(alliance: Alliance, cosignatures: Mapping[str, Cosignature]) -> dict[str, Cosignature]:
    """At most one cosignature by each key: that of the member who cosigns with it now, else the first.

    The signed bytes do not hold the witness's name, and a card may name any key as a former one. So whoever names another's
    can give that member's cosignatures again, as its own: of the two one counts. Which of two members retired a key first
    nobody can know, so neither claim takes the other's cosignature away where only one was given.
    """
    current = _current_holders(alliance)
    kept: dict[bytes, str] = {}
    for member, cosignature in cosignatures.items():
        key = cosignature.key.public_key
        if key not in kept or current.get(key) == member:
            kept[key] = member
    return {member: item for member, item in cosignatures.items() if kept[item.key.public_key] == member}


def without_borrowed(
    alliance: Alliance, told: Mapping[str, Cosignature], *, held: Mapping[str, Cosignature]
) -> dict[str, Cosignature]:
    """Those of the cosignatures that were told of a checkpoint by which no witness counts twice.

    None by a key with which another active member cosigns now, and none by the key of one that is held, and counts, under
    another name: what is held stays, or a false claim to a key could take away what its owner has cosigned.
    """
    taken = _current_holders(alliance) | {item.key.public_key: member for member, item in held.items()}
    own = {member: item for member, item in told.items() if taken.get(item.key.public_key, member) == member}
    return each_key_once(alliance, own)


def _current_holders(alliance: Alliance) -> dict[bytes, str]:
    active = (name for name in alliance.active_members() if name in alliance.cards)
    return {alliance.cards[name][1].witness_key.public_key: name for name in active}
