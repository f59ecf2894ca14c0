"""What is held of a log that counts no more, because its author's card or the roster has said so.

Entries beyond the size at which a stolen key was ended may be the thief's or the author's, and of two histories only one
survives. What counts no more is forgotten as soon as it is known, whether the author can be reached or not: a thief's copy
may be longer than the honest log, which would then lead nowhere for a long time. What counts is fetched again.

Only a size that the card names ends anything. Where it knows nothing of the key that signed what is held, its author has
forgotten or disowns it: nothing is forgotten here, and nothing more read.
"""

from __future__ import annotations

import logging

from node.core.card import Card
from node.core.succession import revoked_at, vouched_size
from node.errors import StoreError
from node.membership import Membership
from node.store import Store
from node.store.logs import LogState
from node.sync.exchange import CheckpointExchange

logger = logging.getLogger(__name__)


def forget_uncounted(store: Store, exchange: CheckpointExchange, card: Card) -> bool:
    """Forget what counts no more of a peer's log; returns whether there was anything. Evidence stays.

    Args:
        store: where the log is held.
        exchange: knows which history the roster lets survive.
        card: the author's newest card: what was signed by a key beyond its end is vouched for by nobody.

    Raises:
        StoreError: the log changed meanwhile, or the database refused.
    """
    with exchange.histories:
        log = store.logs.find_log(card.origin)
        if log is None or log.head is None:
            return False
        if not exchange.survives(log):
            exchange.forget_history(log)
            return True
        size = None if vouched_size(card, log.head) is None else revoked_at(card, log.head)
        if size is None:
            return False
        logger.warning("event=revoked_entries_forgotten origin=%s size=%d vouched=%d", log.origin, log.head_size, size)
        exchange.cut_history(log, size)
        return True


def find_unvouched(log: LogState | None, card: Card) -> str | None:
    """Why a log is not read on: its author's card knows nothing of the key that signed what is held. None when it does."""
    if log is None or log.head is None or vouched_size(card, log.head) is None or revoked_at(card, log.head) is not None:
        return None
    return (
        f"the card of {card.member} does not name the log key that signed what is held of its log, up to size "
        f"{log.head_size}; that is kept, and nothing more read, until another card names it or the council settles the log"
    )


def forget_all_uncounted(store: Store, exchange: CheckpointExchange, membership: Membership) -> list[str]:
    """`forget_uncounted` for every other active member, also for those that cannot be reached; `find_unvouched` for each.

    Where a stream moves a log in this moment its follower, which begins again under the new card or roster, forgets.
    """
    alliance, unvouched = membership.joined, []
    for member in alliance.other_members(membership.member):
        if member not in alliance.cards:
            continue
        try:
            card = alliance.card(member)
            forget_uncounted(store, exchange, card)
            if sentence := find_unvouched(store.logs.find_log(card.origin), card):
                unvouched.append(sentence)
        except StoreError as error:
            logger.warning("event=not_forgotten_yet member=%s error=%r", member, error.message)
    return unvouched
