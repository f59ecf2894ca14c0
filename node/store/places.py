"""Rows of the table `log` without a member: places for entries that are not, or not yet again, in the own log.

Nothing in such a place can be seen. Entries, openings and tiles move in and out by changing the upper bits of their
positions, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, insert, literal, select, update

from node.core.merkle import TILE_WIDTH
from node.store.logs import LogState, load_state
from node.store.owed import delete_openings
from node.store.tables import (
    INDEX_BITS,
    STATUS_QUARANTINED,
    CursorRow,
    EntryRow,
    LogRow,
    OpeningRow,
    TileRow,
    position_of,
    table_of,
)

REPEATED = "another record of this log has the same kind, key and revision"

_LOG, _ENTRY, _TILE, _OPENING = table_of(LogRow), table_of(EntryRow), table_of(TileRow), table_of(OpeningRow)
_CURSOR = table_of(CursorRow)
_ELSEWHERE = _OPENING.alias("elsewhere")


def open_place(connection: Connection, origin: str) -> LogState:
    """Make an empty place under a name that no log can have."""
    connection.execute(insert(_LOG), LogRow(origin=origin, member="").model_dump(exclude={"id"}))
    return load_state(connection, _LOG.c.origin == origin)


def discard_place(connection: Connection, origin: str) -> None:
    """Empty a place and forget it."""
    place = connection.execute(select(_LOG.c.id).where(_LOG.c.origin == origin)).scalar()
    if place is None:
        return
    low, high = position_of(place, 0), position_of(place + 1, 0)
    for table in (_ENTRY, _TILE):
        connection.execute(delete(table).where(table.c.position >= low, table.c.position < high))
    delete_openings(connection, _OPENING.c.position >= low, _OPENING.c.position < high)
    connection.execute(delete(_CURSOR).where(_CURSOR.c.log_id == place))
    connection.execute(delete(_LOG).where(_LOG.c.id == place))


def set_aside(connection: Connection, log: LogState, base: int) -> LogState:
    """Move everything from index `base` on out of the log; returns the place, whose `head_size` is `base`."""
    place = replace(open_place(connection, f"{log.origin} unpublished"), head_size=base)
    low, high = position_of(log.id, base), position_of(log.id + 1, 0)
    delta = place.id - log.id << INDEX_BITS
    here = (_OPENING.c.position >= low) & (_OPENING.c.position < high)
    connection.execute(update(_OPENING).where(here).values(position=_OPENING.c.position + delta, log_id=place.id))
    here = (_ENTRY.c.position >= low) & (_ENTRY.c.position < high)
    connection.execute(update(_ENTRY).where(here).values(position=_ENTRY.c.position + delta))
    tiles = position_of(log.id, base // TILE_WIDTH)
    connection.execute(delete(_TILE).where(_TILE.c.position >= tiles, _TILE.c.position < high))
    return place


def move_in(connection: Connection, log: LogState, place: LogState, before: int) -> None:
    """Move everything staged into the log; its openings get sequence numbers beyond `before`."""
    low, high = position_of(place.id, 0), position_of(place.id + 1, 0)
    delta = log.id - place.id << INDEX_BITS
    for table in (_ENTRY, _TILE):
        here = (table.c.position >= low) & (table.c.position < high)
        connection.execute(update(table).where(here).values(position=table.c.position + delta))
    here = (_OPENING.c.position >= low) & (_OPENING.c.position < high)
    # One history never says a revision twice, unless this home did so after an earlier rollback: show the first.
    repeated = select(literal(1)).where(
        _ELSEWHERE.c.log_id == log.id,
        _ELSEWHERE.c.kind == _OPENING.c.kind,
        _ELSEWHERE.c.key == _OPENING.c.key,
        _ELSEWHERE.c.revision == _OPENING.c.revision,
        _ELSEWHERE.c.status < STATUS_QUARANTINED,
    )
    quarantine = update(_OPENING).where(here, _OPENING.c.status < STATUS_QUARANTINED, repeated.exists())
    connection.execute(quarantine.values(status=STATUS_QUARANTINED, fault=REPEATED))
    moved = {"position": _OPENING.c.position + delta, "log_id": log.id, "sequence": _OPENING.c.sequence + before}
    connection.execute(update(_OPENING).where(here).values(moved))


def reopen_entry(connection: Connection, state: LogState, was: int, now: int) -> LogState:
    """Move one opening to where its entry has come back."""
    sequence = state.last_sequence + 1
    values = {"position": now, "log_id": state.id, "sequence": sequence}
    connection.execute(update(_OPENING).where(_OPENING.c.position == was).values(values))
    return replace(state, last_sequence=sequence)


def forget_entries(connection: Connection, positions: Sequence[int]) -> None:
    """Delete entries and their openings."""
    connection.execute(delete(_ENTRY).where(_ENTRY.c.position.in_(positions)))
    delete_openings(connection, _OPENING.c.position.in_(positions))
