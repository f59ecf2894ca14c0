"""How one card may follow another, and which of a member's log keys vouches for a checkpoint.

What a member has said about its former keys can never be taken back: the former lists only grow, a key that is dropped
stands in them, and none returns. Otherwise a member could disown what it had signed by publishing another card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from node.core.card import Card
from node.core.checkpoint import SignedCheckpoint, verify_checkpoint
from node.core.dsse import Envelope
from node.errors import FormatError, GovernanceError, SignatureError

SignedCard = tuple[Envelope, Card]

LEAP_MIN = 1000
LEAP_S = 10
LEAP_JITTER = 2**18


def require_successor(held: SignedCard, card: Card) -> None:
    """Refuse a card that may not take the place of the held one.

    Raises:
        GovernanceError: the same `seq` with other content, or another predecessor.
        FormatError: former keys were dropped, changed, or put before the key that they followed.
    """
    envelope, old = held
    if card.seq == old.seq:
        raise GovernanceError(f"{card.member} signed two different cards with seq {card.seq}")
    if card.seq == old.seq + 1 and card.previous != envelope.hash:
        raise GovernanceError(f"the card of {card.member} with seq {card.seq} does not follow the held one")
    _require_log_keys(old, card)
    _require_witness_keys(old, card)


def leap_seq(seq: int, unix_s: int, jitter: int) -> int:
    """A `seq` beyond every one that a member can have used that may have forgotten its newest cards.

    Two cards of one `seq` are evidence, also against an honest member whose disk went back in time. So its next card leaps:
    to one `seq` for each ten seconds since 1970, which no home reaches by changes of its own, at least by a thousand, and by
    as much more as chance says, so that it is another one each time that the same backup is restored, whatever the clock.

    Args:
        seq: of the newest card that is held.
        unix_s: the time.
        jitter: drawn at random from below `LEAP_JITTER`. Two dozen leaps a year go no faster than the clock does, and the
            largest `seq` of a card is reached after centuries.
    """
    return max(seq, unix_s // LEAP_S) + LEAP_MIN + jitter


def continues(held: Card, card: Card) -> bool:
    """Whether `card` says of former keys all that `held` says, so that it may stand after it whatever the `seq` is."""
    try:
        _require_log_keys(held, card)
        _require_witness_keys(held, card)
    except FormatError:
        return False
    return True


def continues_log(held: Card, card: Card) -> bool:
    """`continues`, for the log keys alone: every checkpoint that `held` vouches for has its key in `card`, too."""
    try:
        _require_log_keys(held, card)
    except FormatError:
        return False
    return True


def is_forgotten(held: SignedCard, card: SignedCard) -> bool:
    """Whether two cards of one home were signed without knowledge of each other, so that who holds one refuses the other.

    A home that went back in time has forgotten `card`. What it signed since has the same `seq`, names another card before
    it, or lacks keys that `card` names.
    """
    if held[0].hash == card[0].hash:
        return False
    older, newer = (card, held) if card[1].seq < held[1].seq else (held, card)
    try:
        require_successor(older, newer[1])
    except (FormatError, GovernanceError):
        return True
    return False


def with_keys_of(held: Card, card: Card) -> Card:
    """`held` with the keys, current and former, that `card` names: what its `seq` may be decides the caller."""
    return replace(
        held,
        log_key=card.log_key,
        former_log_keys=card.former_log_keys,
        witness_key=card.witness_key,
        former_witness_keys=card.former_witness_keys,
    )


def current_keys(card: Card) -> frozenset[bytes]:
    """Public keys that sign a member's checkpoints and cosignatures now.

    A former key is only what a card says: it claims nothing, and can neither be kept from another nor taken from one.
    """
    return frozenset((card.log_key.public_key, card.witness_key.public_key))


def require_unused_keys(cards: Mapping[str, SignedCard], active: Iterable[str], card: Card) -> None:
    """Refuse the card of an active member whose log or witness key signs for another active member now.

    Only current keys are compared, on both sides. Nobody proves that a former key was its own: whoever could
    claim another's key by naming it so would keep that member's cards out for ever. Who copies a current key keeps one
    card out, not the next.

    Raises:
        GovernanceError: it is.
    """
    names = set(active)
    if card.member not in names:
        return
    used: dict[bytes, str] = {}
    for name in names & cards.keys() - {card.member}:
        used.update(dict.fromkeys(current_keys(cards[name][1]), name))
    for role, key in (("log", card.log_key), ("witness", card.witness_key)):
        if key.public_key in used:
            raise GovernanceError(
                f"the {role} key in the card of {card.member} signs for {used[key.public_key]} already",
                hint="one of the two has copied it; the member whose key it is can rotate it: labmesh keys rotate",
            )


def vouched_size(card: Card, head: SignedCheckpoint) -> int | None:
    """None when the card's key for this checkpoint signed it; else the size up to which the card vouches for its signer.

    A checkpoint that was verified may lose its key's word afterwards: when a stolen key is revoked, everything beyond the
    last good checkpoint must be said again by the new key.
    """
    try:
        verify_checkpoint(head, card.log_key_at(head.size, head.root))
    except SignatureError:
        return revoked_at(card, head) or 0
    return None


def revoked_at(card: Card, signed: SignedCheckpoint) -> int | None:
    """The size at which the key that signed this checkpoint was retired before it; None when no such key signed it."""
    for former in card.former_log_keys:
        if (former.size, former.root) == (signed.size, signed.root) or signed.size < former.size:
            continue
        try:
            verify_checkpoint(signed, former.key)
        except SignatureError:
            continue
        return former.size
    return None


def _require_log_keys(old: Card, card: Card) -> None:
    known = len(old.former_log_keys)
    if card.former_log_keys[:known] != old.former_log_keys:
        raise FormatError(f"the card of {card.member} changes its former log keys")
    added = card.former_log_keys[known:]
    if card.log_key == old.log_key:
        if added:
            raise FormatError(f"the card of {card.member} puts a former log key before the one that it still uses")
    elif not added or added[0].key != old.log_key:
        raise FormatError(f"the card of {card.member} drops a log key without saying up to which size it held")


def _require_witness_keys(old: Card, card: Card) -> None:
    known = len(old.former_witness_keys)
    if card.former_witness_keys[:known] != old.former_witness_keys:
        raise FormatError(f"the card of {card.member} changes its former witness keys")
    if card.witness_key != old.witness_key and old.witness_key not in [former.key for former in card.former_witness_keys]:
        raise FormatError(f"the card of {card.member} drops a witness key without saying until when it held")
