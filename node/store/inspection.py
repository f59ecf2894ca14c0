"""What the tables hold of one log, row by row, for somebody who believes none of it.

Nothing is parsed here, so damage shows as a finding and not as an exception. Reads are short: each is one transaction over a
range of entries, and in WAL mode a reader holds up no writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, select, text, tuple_

from node.core.merkle import TILE_WIDTH
from node.store.database import Database
from node.store.rows import OPENING_COLUMNS, OpeningTuple
from node.store.tables import (
    STATUS_QUARANTINED,
    CardRow,
    CheckpointRow,
    CosignatureRow,
    EntryRow,
    ErasureRow,
    LogRow,
    NodeRow,
    OpeningRow,
    RosterRow,
    TileRow,
    index_of,
    position_of,
    table_of,
)

_NODE, _ROSTER, _CARD, _LOG = table_of(NodeRow), table_of(RosterRow), table_of(CardRow), table_of(LogRow)
_ENTRY, _TILE, _OPENING = table_of(EntryRow), table_of(TileRow), table_of(OpeningRow)
_CHECKPOINT, _COSIGNATURE, _ERASURE = table_of(CheckpointRow), table_of(CosignatureRow), table_of(ErasureRow)

AnyRow = Any
"""A row whose columns are those of its table; nothing is known of what they hold."""


@dataclass(frozen=True, slots=True)
class RawLog:
    """One row of the table `log`, unparsed."""

    id: int
    origin: str
    member: str
    head_size: int
    head_note: bytes
    head_frontier: bytes
    staged_size: int
    staged_frontier: bytes


@dataclass(frozen=True, slots=True)
class RawRange:
    """Everything stored of the entries low…high-1, and of the checkpoints with a size above low and up to high.

    Commitments and tile roots are by index; `erased` are indexes.
    """

    low: int
    high: int
    commitments: dict[int, bytes]
    tiles: dict[int, bytes]
    erased: frozenset[int]
    checkpoints: Sequence[AnyRow]
    cosignatures: Sequence[AnyRow]
    openings: Iterator[OpeningTuple]


class InspectionStore:
    """Reads raw rows."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def load_identity(self) -> AnyRow | None:
        """The node row."""
        with self._database.read() as connection:
            return connection.execute(select(_NODE)).first()

    def load_rosters(self) -> Sequence[AnyRow]:
        """Every roster row, by version."""
        with self._database.read() as connection:
            return connection.execute(select(_ROSTER).order_by(_ROSTER.c.version)).all()

    def load_cards(self) -> Sequence[AnyRow]:
        """Every card row, by member and `seq`."""
        with self._database.read() as connection:
            return connection.execute(select(_CARD).order_by(_CARD.c.member, _CARD.c.seq)).all()

    def find_log(self, member: str) -> RawLog | None:
        """The log of a member; None when none is held."""
        columns = [_LOG.c[name] for name in RawLog.__slots__]
        with self._database.read() as connection:
            row = connection.execute(select(*columns).where(_LOG.c.member == member).order_by(_LOG.c.id)).first()
        return None if row is None else RawLog(*row)

    @contextmanager
    def read_range(self, log_id: int, low: int, high: int) -> Iterator[RawRange]:
        """One range, from one moment. The openings come one by one, because they may be large."""
        with self._database.read() as connection:
            entries = _rows_between(connection, _ENTRY, log_id, low, high, "position", "commitment")
            tiles = _rows_between(connection, _TILE, log_id, low // TILE_WIDTH, high // TILE_WIDTH, "position", "root")
            erased = _rows_between(connection, _ERASURE, log_id, low, high, "position")
            yield RawRange(
                low,
                high,
                {index_of(position): commitment for position, commitment in entries},
                {index_of(position): root for position, root in tiles},
                frozenset(index_of(position) for (position,) in erased),
                _rows_of_sizes(connection, _CHECKPOINT, log_id, low, high),
                _rows_of_sizes(connection, _COSIGNATURE, log_id, low, high),
                map(tuple, _rows_between(connection, _OPENING, log_id, low, high, *OPENING_COLUMNS)),
            )

    def count_beyond(self, log: RawLog) -> dict[str, int]:
        """How many rows of each table lie where nothing may be: beyond what is staged, or checkpoints beyond the head."""
        found: dict[str, int] = {}
        end = position_of(log.id + 1, 0)
        limits = ((_ENTRY, log.staged_size), (_OPENING, log.staged_size), (_TILE, log.staged_size // TILE_WIDTH))
        with self._database.read() as connection:
            for table, size in limits:
                here = (table.c.position >= position_of(log.id, size)) & (table.c.position < end)
                found[table.name] = connection.execute(select(func.count()).select_from(table).where(here)).scalar_one()
            for table in (_CHECKPOINT, _COSIGNATURE):
                outside = (table.c.size > log.head_size) | (table.c.size < 1)
                statement = select(func.count()).select_from(table).where(table.c.log_id == log.id, outside)
                found[table.name] = connection.execute(statement).scalar_one()
        return found

    def read_revisions(self, log: RawLog, after: tuple[str, str, int] | None, limit: int) -> Sequence[AnyRow]:
        """Kind, key, revision and position of readable records below the head, in this order, after one of them."""
        columns = (_OPENING.c.kind, _OPENING.c.key, _OPENING.c.revision)
        statement = select(*columns, _OPENING.c.position).where(
            _OPENING.c.log_id == log.id,
            text(f"opening.status < {STATUS_QUARANTINED}"),  # not a parameter: the index holds for this text alone
            _OPENING.c.position < position_of(log.id, log.head_size),
        )
        if after is not None:
            statement = statement.where(tuple_(*columns) > tuple_(*after))
        with self._database.read() as connection:
            return connection.execute(statement.order_by(*columns).limit(limit)).all()

    def load_erased_revisions(self, log: RawLog) -> set[tuple[str, str, int]]:
        """Kind, key and revision of everything erased in a log."""
        statement = select(_ERASURE.c.kind, _ERASURE.c.key, _ERASURE.c.revision).where(_ERASURE.c.log_id == log.id)
        with self._database.read() as connection:
            return {(row.kind, row.key, row.revision) for row in connection.execute(statement)}


def _rows_between(connection: Connection, table: Table, log_id: int, low: int, high: int, *names: str) -> Any:
    here = (table.c.position >= position_of(log_id, low)) & (table.c.position < position_of(log_id, high))
    return connection.execute(select(*(table.c[name] for name in names)).where(here).order_by(table.c.position))


def _rows_of_sizes(connection: Connection, table: Table, log_id: int, low: int, high: int) -> Sequence[AnyRow]:
    here = (table.c.log_id == log_id) & (table.c.size > low) & (table.c.size <= high)
    return connection.execute(select(table).where(here).order_by(table.c.size)).all()
