"""A note that files are to be swept although no erasure waits: openings were deleted that may be erased later.

An erasure that comes then finds nothing held, and must be no less true. So nothing but an erasure, which has a note of its
own, deletes openings in another way than by `delete_openings`, staged ones and those that were never published included.

The note is a row of the table `log` without a member, written in the transaction of the deletion: it outlives a crash. Its
`last_sequence` counts the deletions, so that one that comes while another is swept behind is not taken for swept; its
`staged_size` counts those of them that deleted only what was staged of another member's log. These have time: nobody waits
for them, and a peer that lies can cause as many as it likes.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from node.store.tables import LogRow, OpeningRow, table_of

_LOG, _OPENING = table_of(LogRow), table_of(OpeningRow)
_HERE = _LOG.c.origin == "forgotten"


class Owed(NamedTuple):
    """How often something was deleted since the last sweep, and how often of that only what was staged."""

    total: int = 0
    staged: int = 0

    @property
    def urgent(self) -> int:
        """How often anything else was deleted."""
        return self.total - self.staged


def delete_openings(connection: Connection, *where: ColumnElement[bool], staged: bool = False) -> bool:
    """Delete openings, and note that what they leave in the files is to be swept; returns whether there were any."""
    gone = connection.execute(delete(_OPENING).where(*where)).rowcount > 0
    if gone:
        owe_sweep(connection, staged=staged)
    return gone


def owe_sweep(connection: Connection, *, staged: bool = False) -> None:
    """Note that something was deleted, in its transaction; `staged` where it was only staged."""
    owed = read_owed(connection)
    if owed.total:
        _write(connection, Owed(owed.total + 1, owed.staged + staged))
    else:
        row = LogRow(origin="forgotten", member="", last_sequence=1, staged_size=int(staged))
        connection.execute(insert(_LOG), row.model_dump(exclude={"id"}))


def read_owed(connection: Connection) -> Owed:
    """What was deleted since the last sweep."""
    row = connection.execute(select(_LOG.c.last_sequence, _LOG.c.staged_size).where(_HERE)).one_or_none()
    return Owed() if row is None else Owed(*row)


def note_swept(connection: Connection, swept: Owed) -> None:
    """Everything was swept that `swept` counted; what came since is still owed."""
    owed = read_owed(connection)
    if owed.total > swept.total:
        _write(connection, Owed(owed.total - swept.total, owed.staged - swept.staged))
    else:
        connection.execute(delete(_LOG).where(_HERE))


def _write(connection: Connection, owed: Owed) -> None:
    connection.execute(update(_LOG).where(_HERE).values(last_sequence=owed.total, staged_size=owed.staged))
