"""What a peer holds under a key that its author has revoked, when the new key leads somewhere else.

Entries beyond the size at which a stolen key was ended may be the thief's or the author's. The author's new key says which:
where its checkpoint does not extend what is held, the mirror is cut back to what the card still vouches for.
"""

from __future__ import annotations

import logging

from node.core.card import Card
from node.core.succession import vouched_size
from node.errors import PeerFaultError, RollbackError
from node.store.logs import LogState
from node.sync.exchange import CheckpointExchange

logger = logging.getLogger(__name__)


def revoked_beyond(card: Card, log: LogState, error: PeerFaultError) -> int | None:
    """The size to which a mirror must be cut, for which a checkpoint was refused; None when it may stay.

    Args:
        card: the author's newest card; the refused checkpoint was signed by the key that it gives.
        log: what is held.
        error: why the checkpoint, or what leads to it, was refused.
    """
    head = log.head
    vouched = None if head is None else vouched_size(card, head)
    # Up to the vouched size the author says nothing new: a shorter log may be one that was rolled back.
    if vouched is None or (isinstance(error, RollbackError) and error.offered_size <= vouched):
        return None
    return vouched


def cut_revoked(exchange: CheckpointExchange, log: LogState, size: int) -> None:
    """Forget what lies beyond `size`, because nobody vouches for it."""
    logger.warning("event=revoked_entries_forgotten origin=%s size=%d vouched=%d", log.origin, log.head_size, size)
    exchange.cut_history(log, size)
