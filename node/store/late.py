"""Openings that become readable after their commitments: what is sent late, and what grants have opened.

A reader inside the record's own audience gets the opening with its commitment. One to whom it was granted gets it only
after the grant, which its node must have verified before it takes the opening.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Row, select
from sqlalchemy.sql import ColumnElement, or_

from node.core.entry import PAGE_BYTES_AIM, PAGE_ENTRIES_MAX, LogPage, Opening
from node.store.database import Database
from node.store.effects import load_grants, load_grants_from
from node.store.rows import split_audience
from node.store.tables import STATUS_QUARANTINED, LogRow, OpeningRow, index_of, position_of, table_of

_LOG, _OPENING = table_of(LogRow), table_of(OpeningRow)


class LateStore:
    """Reads what grants and late openings need; writes nothing."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def granted_to(self, log_id: int, index: int) -> set[str]:
        """The members to whom a visible grant of the log opens this entry, whether its opening is held or not."""
        with self._database.read() as connection:
            grants = load_grants(connection, log_id, [index])
        return {member for _, grant in grants[index] for member in grant.members}

    def granted_from(self, log_id: int, *, start: int, reader: str) -> list[tuple[int, int]]:
        """The grants to `reader` among the visible entries from `start` on: each one's own index, and that of its entry."""
        with self._database.read() as connection:
            author = connection.execute(select(_LOG.c.member).where(_LOG.c.id == log_id)).scalar()
            if reader == author:
                return []
            grants = load_grants_from(connection, log_id, start)
        return [(index, grant.index) for index, grant in grants if reader in grant.members]

    def late_pages(self, log_id: int, *, before: int, after: int, upto: int, reader: str) -> Iterator[LogPage]:
        """Openings of entries before index `before` that became readable under the sequence numbers after…upto.

        Left out is what a grant at or beyond `before` has opened: the reader does not have that grant yet.
        """
        while after < upto:
            rows = self._read(log_id, before=before, after=after, upto=upto, reader=reader)
            if not rows:
                return
            after = rows[-1].sequence
            openings = self._without_later_grants(log_id, rows, before, reader)
            if openings:
                yield LogPage(before, b"", openings)

    def granted_pages(self, log_id: int, indexes: Sequence[int], *, before: int, reader: str) -> Iterator[LogPage]:
        """The openings of granted entries, as far as they are held here."""
        wanted = sorted({position_of(log_id, index) for index in indexes})
        while wanted:
            rows = self._read_granted(wanted[:PAGE_ENTRIES_MAX], reader)
            if rows:
                yield LogPage(before, b"", [_opening(row) for row in rows])
            done = rows[-1].position if rows else wanted[:PAGE_ENTRIES_MAX][-1]
            wanted = [position for position in wanted if position > done]

    def _read(self, log_id: int, *, before: int, after: int, upto: int, reader: str) -> list[Row[tuple[object, ...]]]:
        """The next rows, about as many as one page holds."""
        with self._database.read() as connection:
            author = connection.execute(select(_LOG.c.member).where(_LOG.c.id == log_id)).scalar_one()
            statement = (
                select(*_COLUMNS)
                .where(
                    _OPENING.c.log_id == log_id,
                    _OPENING.c.sequence > after,
                    _OPENING.c.sequence <= upto,
                    _OPENING.c.position < position_of(log_id, before),
                    readable(reader, author),
                )
                .order_by(_OPENING.c.sequence)
                .limit(PAGE_ENTRIES_MAX)
            )
            return _page_of(connection.execute(statement))

    def _read_granted(self, positions: Sequence[int], reader: str) -> list[Row[tuple[object, ...]]]:
        """The first of these rows, about as many as one page holds."""
        statement = select(*_COLUMNS).where(_OPENING.c.position.in_(positions), _is_granted(reader))
        with self._database.read() as connection:
            return _page_of(connection.execute(statement.order_by(_OPENING.c.position)))

    def _without_later_grants(
        self, log_id: int, rows: Sequence[Row[tuple[object, ...]]], before: int, reader: str
    ) -> list[Opening]:
        indexes = [index_of(row.position) for row in rows if reader in split_audience(row.audience)[1]]
        if not indexes:
            return [_opening(row) for row in rows]
        with self._database.read() as connection:
            grants = load_grants(connection, log_id, indexes)
        waiting = set()
        for index in indexes:
            granted_at = [at for at, grant in grants[index] if reader in grant.members]
            if not granted_at or min(granted_at) >= before:
                waiting.add(index)
        return [_opening(row) for row in rows if index_of(row.position) not in waiting]


def readable(reader: str, author: str) -> ColumnElement[bool]:
    """Openings that `reader` may have, be it by a grant."""
    return or_(readable_at_once(reader, author), _is_granted(reader))


def readable_at_once(reader: str, author: str) -> ColumnElement[bool]:
    """Openings that `reader` may have with their commitments: inside the record's own audience, or the author's own."""
    if reader == author:
        return _OPENING.c.position >= 0
    named = _OPENING.c.audience.contains(f",{reader},", autoescape=True)
    return (_OPENING.c.status != STATUS_QUARANTINED) & or_(_OPENING.c.audience == "*", named)


def _is_granted(reader: str) -> ColumnElement[bool]:
    named = _OPENING.c.audience.contains(f"+{reader}+", autoescape=True)
    return (_OPENING.c.status != STATUS_QUARANTINED) & named


def _page_of(found: Iterable[Row[tuple[object, ...]]]) -> list[Row[tuple[object, ...]]]:
    """The first rows, up to about the bytes of one page. No read transaction stays open between two pages."""
    rows: list[Row[tuple[object, ...]]] = []
    size = 0
    for row in found:
        rows.append(row)
        size += len(row.record)
        if size >= PAGE_BYTES_AIM:
            break
    return rows


def _opening(row: Row[tuple[object, ...]]) -> Opening:
    return Opening(index_of(row.position), row.salt, row.record, row.sequence)


_COLUMNS = (_OPENING.c.position, _OPENING.c.sequence, _OPENING.c.audience, _OPENING.c.salt, _OPENING.c.record)
