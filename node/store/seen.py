"""How much of each log a quorum has cosigned: a mark that outlives the quorum it was counted by.

The cosignatures that are stored can be counted by the present roster alone. When members join, the quorum grows, and when a
witness leaves, its cosignatures count no more: then fewer than a quorum have cosigned what a quorum had seen. So before a
new roster is written, what was seen by the one until then is noted for every log. The mark falls only with the history
itself: when that is forgotten or cut.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, func, select, update

from node.core.roster import Roster
from node.store.tables import CosignatureRow, LogRow, table_of

# The end of a cosignature line that the name of the witness does not change.
SIGNATURE_CHARACTERS = 96

_COSIGNATURE, _LOG = table_of(CosignatureRow), table_of(LogRow)


def count_keys() -> ColumnElement[int]:
    """How many keys made the cosignatures of a group, for SQL.

    Another's cosignature under one's own name, which earlier releases kept for whoever named the other's key as a former
    one, ends like the other's: its last 96 characters are the last six bytes of the time and the signature.
    """
    return func.count(func.substr(_COSIGNATURE.c.line, -SIGNATURE_CHARACTERS).distinct())


def count_seen(connection: Connection, log_id: int, *, quorum: int, witnesses: Iterable[str]) -> int:
    """Size of the largest checkpoint that `quorum` of the witnesses cosigned; 0 when there is none."""
    statement = (
        select(_COSIGNATURE.c.size)
        .where(_COSIGNATURE.c.log_id == log_id, _COSIGNATURE.c.witness.in_(list(witnesses)))
        .group_by(_COSIGNATURE.c.size)
        .having(count_keys() >= quorum)
        .order_by(_COSIGNATURE.c.size.desc())
        .limit(1)
    )
    return connection.execute(statement).scalar() or 0


def load_mark(connection: Connection, log_id: int) -> int:
    """What a quorum had seen of a log when a roster was replaced; 0 for nothing."""
    return connection.execute(select(_LOG.c.seen_size).where(_LOG.c.id == log_id)).scalar() or 0


def raise_marks(connection: Connection, roster: Roster) -> None:
    """Note for every log what a quorum has seen by this roster, inside the transaction that replaces it."""
    active = roster.active_members()
    for log_id, member in connection.execute(select(_LOG.c.id, _LOG.c.member).where(_LOG.c.member != "")).all():
        witnesses = [name for name in active if name != member]
        size = count_seen(connection, log_id, quorum=roster.quorum, witnesses=witnesses)
        connection.execute(update(_LOG).where(_LOG.c.id == log_id, _LOG.c.seen_size < size).values(seen_size=size))


def lower_mark(connection: Connection, log_id: int, size: int) -> None:
    """Forget what was seen beyond `size`, with the history beyond it."""
    connection.execute(update(_LOG).where(_LOG.c.id == log_id, _LOG.c.seen_size > size).values(seen_size=size))
