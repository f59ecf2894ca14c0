"""Nobody can disown what others have seen: which new card takes back what this node knows to be signed and seen.

A card may say that a log key was retired earlier than it was used, because a stolen key must be stopped. How much earlier
is not its author's word alone: what a quorum has cosigned under that key stays, and so does the root that this node has
verified. Validity goes by size and root, never by the author's clock.

The card of a new identity key is held against what is stored, not against the card before: that one may be a thief's, who
could otherwise keep out the member's own by signing one more.
"""

from __future__ import annotations

from collections.abc import Callable

from node.core.alliance import Alliance
from node.core.card import Card, FormerLogKey
from node.core.names import log_origin
from node.core.quorums import quorums_over
from node.core.roster import Head
from node.core.succession import revoked_at, vouched_size
from node.ending import find_other_history, find_other_root
from node.store import Store
from node.store.logs import LogState


def find_disowned(store: Store, alliance: Alliance | None, held: Card, card: Card) -> str | None:
    """What `card` would take back of what `held` vouched for, in words; None when it takes back nothing."""
    former = next((item for item in card.former_log_keys if item.key == held.log_key), None)
    log = store.logs.find_log(held.origin)
    if alliance is None or former is None or log is None:
        return None
    return _find_seen(store, alliance, card.member, log, former) or _find_other_root(store, card.member, log, former)


def find_unnamed(store: Store, alliance: Alliance | None, card: Card) -> str | None:
    """What the first card of a new identity key would take back of its member's log, in words; None when nothing.

    It must vouch for what a quorum has cosigned; what lies beyond may be ended, but only by the key that signed it.
    """
    log = store.logs.find_log(card.origin)
    if alliance is None or log is None or log.head is None:
        return None
    for seen in store.checkpoints.load_seen(log.id, quorums_over(alliance, card.member)):
        if vouched_size(card, seen) is not None:
            return f"the card of {card.member} does not name the log key of what a quorum has cosigned at size {seen.size}"
    if vouched_size(card, log.head) is not None and revoked_at(card, log.head) is None:
        return f"the card of {card.member} does not name the log key that signed its log up to size {log.signed_size}"
    return None


def find_unnamed_witness(store: Store, card: Card) -> str | None:
    """The same for its cosignatures: a witness key of which one is held, and which the card does not name."""
    name = card.witness_key.name
    held = store.checkpoints.witness_key_ids(card.member, name)
    if held <= {key.key_id for key in card.witness_keys()}:
        return None
    return f"the card of {card.member} does not name the witness key of every cosignature that is held of it"


class Objector:
    """What this node's store objects to in cards, for the alliance of the moment."""

    def __init__(
        self,
        store: Store,
        alliance: Callable[[], Alliance | None],
        *,
        ahead: Callable[[Alliance, str], int] = lambda _alliance, _member: 0,
    ) -> None:
        """Judge by this store; `ahead` says what a quorum is told to have cosigned of a log beyond it."""
        self._store, self._alliance, self._ahead = store, alliance, ahead

    def judge_successor(self, held: Card, card: Card) -> str | None:
        """`find_disowned`."""
        return find_disowned(self._store, self._alliance(), held, card)

    def judge_first(self, card: Card) -> str | None:
        """`find_unnamed`: of a member of which no card is held, because a roster has replaced its identity key."""
        return find_unnamed(self._store, self._alliance(), card)

    def judge_proposed(self, card: Card) -> str | None:
        """What speaks against signing a roster with the card's identity key."""
        return self.judge_first(card) or find_unnamed_witness(self._store, card)

    def judge_end(self, member: str, head: Head) -> str | None:
        """Why a roster that ends a member's log here should not be signed, whatever a person says."""
        alliance = self._alliance()
        return None if alliance is None else find_other_history(self._store, alliance, member, head)

    def judge_root(self, member: str, head: Head) -> str | None:
        """What speaks against signing a roster that names this head of a member's log for the first time."""
        alliance = self._alliance()
        return None if alliance is None else find_other_root(self._store, alliance, member, head)

    def seen_size(self, member: str) -> int:
        """How much of a member's log a quorum has cosigned, as far as this node holds it or was told; 0 for nothing."""
        alliance = self._alliance()
        if alliance is None:
            return 0
        log = self._store.logs.find_log(log_origin(alliance.name, member))
        held = 0 if log is None else seen_size(self._store, alliance, member, log)
        return max(held, self._ahead(alliance, member))

    def gives_up_entries(self, card: Card) -> bool:
        """Whether the card ends the key of the head that is held, so that a part of the log is deleted behind it."""
        log = self._store.logs.find_log(card.origin)
        return log is not None and log.head is not None and vouched_size(card, log.head) is not None


def seen_size(store: Store, alliance: Alliance | None, member: str, log: LogState, *, above: int = 0) -> int:
    """The largest size of a member's log that a quorum has cosigned, by this roster or an earlier one; 0 for none.

    Whoever asks only for what lies beyond `above` names it: if there is nothing, the answer is not larger than that.
    """
    return 0 if alliance is None else store.checkpoints.find_seen_size(log.id, quorums_over(alliance, member), above=above)


def _find_seen(store: Store, alliance: Alliance, member: str, log: LogState, former: FormerLogKey) -> str | None:
    seen = seen_size(store, alliance, member, log, above=former.size)
    if former.size >= seen:
        return None
    return (
        f"the card of {member} ends a log key at size {former.size}, but a quorum has cosigned what that key signed up to "
        f"size {seen}{_name_cosigners(store, log, seen)}, and no later card takes that back: ask {member} whether it has "
        f"typed labmesh keys revoke log. If so, it goes on under another id: labmesh roster remove {member}, then roster "
        f"add its new home's card; if not, its identity key is stolen: labmesh roster rekey {member} CARD"
    )


def _name_cosigners(store: Store, log: LogState, size: int) -> str:
    """Who is known to have cosigned this size, removed members, too; empty where their cosignatures are gone."""
    held = store.checkpoints.find(log.id, size)
    lines = [] if held is None else held.note.signatures
    names = sorted({line.name.rpartition("/")[2] for line in lines if line.name != log.origin})
    return f" ({', '.join(names)})" if names else ""


def _find_other_root(store: Store, member: str, log: LogState, former: FormerLogKey) -> str | None:
    # What waits for a signature speaks against nothing: peers may hold other entries there, which come back.
    if former.size > log.signed_size or store.logs.tree(log.id).root(former.size) == former.root:
        return None
    return f"the card of {member} ends a log key at size {former.size} with another root than its log has there"
