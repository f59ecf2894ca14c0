"""Nobody can disown what others have seen: which new card takes back what this node knows to be signed and seen.

A card may say that a log key was retired earlier than it was used, because a stolen key must be stopped. How much earlier
is not its author's word alone: what a quorum has cosigned under that key stays, and so does the root that this node has
verified. Validity goes by size and root, never by the author's clock.
"""

from __future__ import annotations

from collections.abc import Callable

from node.core.alliance import Alliance
from node.core.card import Card, FormerLogKey
from node.store import Store
from node.store.logs import LogState


def find_disowned(store: Store, alliance: Alliance | None, held: Card, card: Card) -> str | None:
    """What `card` would take back of what `held` vouched for, in words; None when it takes back nothing."""
    former = next((item for item in card.former_log_keys if item.key == held.log_key), None)
    log = store.logs.find_log(held.origin)
    if alliance is None or former is None or log is None:
        return None
    return _find_seen(store, alliance, card.member, log, former) or _find_other_root(store, card.member, log, former)


def build_objection(store: Store, alliance: Callable[[], Alliance | None]) -> Callable[[Card, Card], str | None]:
    """`find_disowned` for the alliance of the moment."""
    return lambda held, card: find_disowned(store, alliance(), held, card)


def seen_size(store: Store, alliance: Alliance | None, member: str, log: LogState) -> int:
    """The largest size of a member's log that a quorum of the other active members has cosigned; 0 for none."""
    if alliance is None:
        return 0
    witnesses = alliance.other_members(member)
    return store.checkpoints.find_largest_quorum_size(log.id, quorum=alliance.roster.quorum, witnesses=witnesses)


def _find_seen(store: Store, alliance: Alliance, member: str, log: LogState, former: FormerLogKey) -> str | None:
    seen = seen_size(store, alliance, member, log)
    if former.size >= seen:
        return None
    return (
        f"the card of {member} ends a log key at size {former.size}, but a quorum has cosigned what that key signed up to "
        f"size {seen}"
    )


def _find_other_root(store: Store, member: str, log: LogState, former: FormerLogKey) -> str | None:
    if former.size > log.head_size or store.logs.tree(log.id).root(former.size) == former.root:
        return None
    return f"the card of {member} ends a log key at size {former.size} with another root than its log has there"
