"""A note that files are to be swept although no erasure waits: entries were forgotten that may be erased later.

It is a row of the table `log` without a member, written in the transaction of the deletion, so it outlives a crash. Its
`last_sequence` counts the deletions, so that one that comes while another is swept behind is not taken for swept.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from node.store.tables import LogRow, table_of

_LOG = table_of(LogRow)
_HERE = _LOG.c.origin == "forgotten"


def owe_sweep(connection: Connection) -> None:
    """Note that something was deleted, in its transaction."""
    count = read_owed(connection)
    if count:
        connection.execute(update(_LOG).where(_HERE).values(last_sequence=count + 1))
    else:
        connection.execute(insert(_LOG), LogRow(origin="forgotten", member="", last_sequence=1).model_dump(exclude={"id"}))


def read_owed(connection: Connection) -> int:
    """How often something was deleted since the last sweep; 0 when nothing is owed."""
    return connection.execute(select(_LOG.c.last_sequence).where(_HERE)).scalar() or 0


def note_swept(connection: Connection, owed: int) -> None:
    """Everything was swept that `owed` counted."""
    connection.execute(delete(_LOG).where(_HERE, _LOG.c.last_sequence == owed))
