"""Forget a mirror whose history does not survive, or what its author's newest card vouches for no more.

A forgotten log gets another number, and with it other positions, so whoever holds a cursor cannot take an entry of the new
history for one of the old. A log that is cut keeps what was verified before the cut, and its number. Either way the search
index is made again, and a sweep is owed: what was deleted here may be erased by its author later, and nothing would be found
then that says where to sweep.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, or_, select, update

from node.core.merkle import TILE_WIDTH
from node.errors import StoreError
from node.store.effects import apply_effects
from node.store.logs import LogState, load_state, save_state
from node.store.owed import delete_openings, owe_sweep
from node.store.seen import lower_mark
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

if TYPE_CHECKING:
    from node.store import Store

_LOG, _OPENING, _ERASURE = table_of(LogRow), table_of(OpeningRow), table_of(ErasureRow)
_ENTRY, _TILE, _CURSOR = table_of(EntryRow), table_of(TileRow), table_of(CursorRow)
_CHECKPOINT, _COSIGNATURE = table_of(CheckpointRow), table_of(CosignatureRow)


def forget_mirror(store: Store, log_id: int) -> None:
    """Delete everything of a log but its row, which begins again under a new number, in one transaction."""
    with store.search.remade(), store.database.write() as connection:
        _delete_entries(connection, log_id, 0)
        # Beyond the greatest number ever used for a log: numbers only grow, because only here one is given up.
        number = connection.execute(select(func.max(_LOG.c.id))).scalar_one() + 1
        empty = LogRow(origin="", member="").model_dump(exclude={"id", "origin", "member"})
        connection.execute(update(_LOG).where(_LOG.c.id == log_id).values(id=number, **empty))


def cut_mirror(store: Store, log: LogState, size: int) -> None:
    """Forget what lies beyond the largest held checkpoint up to `size`, in one transaction.

    What grants and erasures beyond it did is taken back: audiences are narrowed, and with the cursors forgotten the server
    sends the openings again.

    Raises:
        StoreError: the log is no longer as `log` says (compare-and-set), or the database refused.
    """
    signed = store.checkpoints.choose(log.id, start=0, entries_max=size, ceiling=size)
    kept = 0 if signed is None else signed.size
    frontier = store.logs.tree(log.id).frontier(kept)
    with store.search.remade(), store.database.write() as connection:
        current = load_state(connection, _LOG.c.id == log.id)
        here = (_CHECKPOINT.c.log_id == log.id) & (_CHECKPOINT.c.size == kept)
        note = connection.execute(select(_CHECKPOINT.c.note).where(here)).scalar() or b""
        if (current.head_size, current.head_note) != (log.head_size, log.head_note) or bool(note) != bool(kept):
            raise StoreError(f"{log.origin} changed while it was cut to size {kept}")
        _delete_entries(connection, log.id, kept)
        state = replace(current, head_size=kept, head_note=note, head_frontier=frontier, staged=frontier, staged_bytes=0)
        save_state(connection, state)
        lower_mark(connection, log.id, kept)
        _narrow_audiences(connection, log.id)
        apply_effects(connection, log.id, 0, kept)


def _delete_entries(connection: Connection, log_id: int, size: int) -> None:
    """Delete entries from index `size` on, and all that follows from them."""
    low, end = position_of(log_id, size), position_of(log_id + 1, 0)
    connection.execute(delete(_ENTRY).where(_ENTRY.c.position >= low, _ENTRY.c.position < end))
    if not delete_openings(connection, _OPENING.c.position >= low, _OPENING.c.position < end):
        owe_sweep(connection)  # for erasures that are not swept yet, and are given up here
    tiles = position_of(log_id, size // TILE_WIDTH)
    connection.execute(delete(_TILE).where(_TILE.c.position >= tiles, _TILE.c.position < end))
    beyond = or_(_ERASURE.c.position >= low, _ERASURE.c.statement_index >= size)
    connection.execute(delete(_ERASURE).where(_ERASURE.c.log_id == log_id, beyond))
    for table in (_CHECKPOINT, _COSIGNATURE):
        connection.execute(delete(table).where(table.c.log_id == log_id, table.c.size > size))
    connection.execute(delete(_CURSOR).where(_CURSOR.c.log_id == log_id))


def _narrow_audiences(connection: Connection, log_id: int) -> None:
    """Leave the records' own audiences; the grants that are still there widen them again."""
    granted = (_OPENING.c.log_id == log_id) & _OPENING.c.audience.contains("+")
    own = func.substr(_OPENING.c.audience, 1, func.instr(_OPENING.c.audience, "+") - 1)
    connection.execute(update(_OPENING).where(granted).values(audience=own))
