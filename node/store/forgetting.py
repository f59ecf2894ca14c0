"""Forget a mirror whose history does not survive, so that the one that does can be fetched.

The log gets another number, and with it other positions: so the search index and whoever holds a cursor cannot take an
entry of the new history for one of the old. The forgotten terms in the index lead nowhere.
"""

from __future__ import annotations

from sqlalchemy import delete, func, select, update

from node.store.database import Database
from node.store.tables import (
    CheckpointRow,
    CosignatureRow,
    CursorRow,
    EntryRow,
    ErasureRow,
    LogRow,
    OpeningRow,
    TileRow,
    position_of,
    table_of,
)

_LOG = table_of(LogRow)
_BY_POSITION = (table_of(EntryRow), table_of(OpeningRow), table_of(TileRow), table_of(ErasureRow))
_BY_LOG = (table_of(CheckpointRow), table_of(CosignatureRow), table_of(CursorRow))


def forget_mirror(database: Database, log_id: int) -> None:
    """Delete everything of a log but its row, which begins again under a new number, in one transaction."""
    with database.write() as connection:
        low, high = position_of(log_id, 0), position_of(log_id + 1, 0)
        for table in _BY_POSITION:
            connection.execute(delete(table).where(table.c.position >= low, table.c.position < high))
        for table in _BY_LOG:
            connection.execute(delete(table).where(table.c.log_id == log_id))
        # Beyond the greatest number ever used: numbers only grow, because this is the only place where one is given up.
        number = connection.execute(select(func.max(_LOG.c.id))).scalar_one() + 1
        empty = LogRow(origin="", member="").model_dump(exclude={"id", "origin", "member"})
        connection.execute(update(_LOG).where(_LOG.c.id == log_id).values(id=number, **empty))
