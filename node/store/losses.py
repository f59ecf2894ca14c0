"""Entries of the own log that nobody can open any more, and which of them a person has seen.

What a person has seen stands in the table `acknowledgement`, under the own member: an opening is gone, and that is known. It
goes by position, so what is lost later is new, and what comes back is lost no longer.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import BigInteger, Connection, delete, func, insert, literal, select
from sqlalchemy.sql import ColumnElement

from node.errors import ConflictError
from node.store.database import Database
from node.store.following import count_unopened
from node.store.logs import LogState
from node.store.tables import AcknowledgementRow, EntryRow, ErasureRow, OpeningRow, index_of, position_of, table_of

_ENTRY, _OPENING, _ERASURE = table_of(EntryRow), table_of(OpeningRow), table_of(ErasureRow)
_SEEN = table_of(AcknowledgementRow)


@dataclass(frozen=True, slots=True)
class Losses:
    """How many published entries of the own log nobody can open, and how many of these a person has seen."""

    total: int
    seen: int

    @property
    def unseen(self) -> int:
        """How many must still be told."""
        return self.total - self.seen


class LossStore:
    """Counts losses, and remembers which were seen. Each write is one transaction."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def count(self, log: LogState) -> Losses:
        """The losses of the own log."""
        with self._database.read() as connection:
            return _count(connection, log)

    def seen_among(self, log: LogState, indexes: Collection[int]) -> set[int]:
        """Which of these entries a person has seen to be lost."""
        positions = [position_of(log.id, index) for index in indexes]
        statement = select(_SEEN.c.position).where(_SEEN.c.position.in_(positions), _SEEN.c.member == log.member)
        with self._database.read() as connection:
            return {index_of(position) for position in connection.execute(statement).scalars()}

    def save_seen(self, log: LogState, *, total: int, now_ms: int) -> Losses:
        """Remember that a person has seen what is lost now.

        Raises:
            ConflictError: it is another number than `total`, which the person was told.
        """
        with self._database.write() as connection:
            losses = _count(connection, log)
            if losses.total != total:
                raise ConflictError(
                    f"{losses.total} entries of this member's log cannot be opened now, not {total}",
                    hint="look again: labmesh list --lost   and then: labmesh confirm --lost",
                )
            missing = select(_ENTRY.c.position, literal(log.member), literal(now_ms, BigInteger)).where(
                *_published(_ENTRY.c.position, log), *_unopened(_ENTRY.c.position)
            )
            columns = ["position", "member", "time_ms"]
            connection.execute(insert(_SEEN).prefix_with("OR IGNORE").from_select(columns, missing))
            return _count(connection, log)


def forget_seen(connection: Connection, log: LogState, base: int) -> None:
    """Entries of the own log from index `base` on give way to others: nobody has seen anything of these yet."""
    low, high = position_of(log.id, base), position_of(log.id + 1, 0)
    here = (_SEEN.c.position >= low, _SEEN.c.position < high)
    connection.execute(delete(_SEEN).where(*here, _SEEN.c.member == log.member))


def _count(connection: Connection, log: LogState) -> Losses:
    here = (*_published(_SEEN.c.position, log), _SEEN.c.member == log.member, *_unopened(_SEEN.c.position))
    seen = connection.execute(select(func.count()).select_from(_SEEN).where(*here)).scalar_one()
    return Losses(count_unopened(connection, log.id, log.signed_size), seen)


def _published(position: ColumnElement[int], log: LogState) -> tuple[ColumnElement[bool], ...]:
    return position >= position_of(log.id, 0), position < position_of(log.id, log.signed_size)


def _unopened(position: ColumnElement[int]) -> tuple[ColumnElement[bool], ...]:
    opened = select(literal(1)).where(_OPENING.c.position == position).exists()
    erased = select(literal(1)).where(_ERASURE.c.position == position).exists()
    return ~opened, ~erased
