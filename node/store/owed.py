"""A note that files are to be swept although no erasure waits: openings were deleted that may be erased later.

An erasure that comes then finds nothing held, and must be no less true. So nothing but an erasure, which has a note of its
own, deletes openings in another way than by `delete_openings`, staged ones and those that were never published included.

The note is a row of the table `log` without a member, written in the transaction of the deletion: it outlives a crash. Its
`last_sequence` counts the deletions, so that one that comes while another is swept behind is not taken for swept.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from node.store.tables import LogRow, OpeningRow, table_of

_LOG, _OPENING = table_of(LogRow), table_of(OpeningRow)
_HERE = _LOG.c.origin == "forgotten"


def delete_openings(connection: Connection, *where: ColumnElement[bool]) -> bool:
    """Delete openings, and note that what they leave in the files is to be swept; returns whether there were any."""
    gone = connection.execute(delete(_OPENING).where(*where)).rowcount > 0
    if gone:
        owe_sweep(connection)
    return gone


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
