"""Records as people and programs look for them: by id, in lists, by words. Only what a checkpoint covers is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, Select, and_, case, exists, func, literal_column, select, text, update
from sqlalchemy.sql import ColumnElement

from node.core.kinds import Kinds
from node.core.names import RecordId
from node.core.record import parse_record
from node.errors import FormatError, InvalidRecordError
from node.store.database import Database
from node.store.effects import apply_effects
from node.store.rows import split_audience
from node.store.tables import (
    INDEX_BITS,
    STATUS_NOT_UNDERSTOOD,
    STATUS_QUARANTINED,
    STATUS_VISIBLE,
    ErasureRow,
    LogRow,
    OpeningRow,
    index_of,
    table_of,
)

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1000
PAGE_BYTES_MAX = 8 * 1024 * 1024
RANKED_HITS_MAX = 1000

_LOG, _OPENING, _ERASURE = table_of(LogRow), table_of(OpeningRow), table_of(ErasureRow)
_LATER = _OPENING.alias("later")
_KEYS_PER_QUERY = 500
_REVALIDATE_BATCH = 500


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record with its place, as the database holds it.

    `head_ms` is when its log last moved, `granted` are the members to whom a later grant has opened it.
    """

    log_id: int
    origin: str
    author: str
    index: int
    kind: str
    key: str
    revision: int
    status: int
    fault: str
    salt: bytes
    record: bytes
    head_ms: int
    granted: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The id without the revision."""
        return f"{self.author}/{self.kind}/{self.key}"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records to look at; None, or no `kinds`, for all."""

    kind: str | None = None
    author: str | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Some records, and the token of the next page (None at the end)."""

    records: list[StoredRecord]
    next_token: str | None


def _covered(position: ColumnElement[int]) -> ColumnElement[bool]:
    """Below the verified head, and below where the roster ends the log of a removed member."""
    size = case((_LOG.c.cut_size < _LOG.c.head_size, _LOG.c.cut_size), else_=_LOG.c.head_size)
    return position < _LOG.c.id.op("<<")(INDEX_BITS) + size


# Openings that a verified checkpoint covers, with their log.
_VERIFIED = _OPENING.join(_LOG, and_(_LOG.c.id == _OPENING.c.log_id, _covered(_OPENING.c.position)))


class RecordStore:
    """Queries over openings. The search index is attached to each connection as `search`."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def find(self, record_id: RecordId) -> StoredRecord | None:
        """One record; without a revision the newest, and none when that was erased (`ErasureStore.find` has it then).

        A quarantined one is found when nothing better has the id.
        """
        conditions = [
            *_same_key(record_id),
        ]
        if record_id.revision is not None:
            conditions.append(_OPENING.c.revision == record_id.revision)
        else:
            conditions.append(~_erased_later())
        wanted = _select_visible().where(*conditions).order_by(_OPENING.c.revision.desc()).limit(1)
        accepted = wanted.where(_OPENING.c.status < STATUS_QUARANTINED)
        # Two statements, each for one partial index; `status > 0` is its condition, not inferred from the equality.
        quarantined = wanted.where(_OPENING.c.status > 0, _OPENING.c.status == STATUS_QUARANTINED)
        with self._database.read() as connection:
            row = connection.execute(accepted).one_or_none() or connection.execute(quarantined).one_or_none()
        return None if row is None else _stored(row)

    def revisions(self, record_id: RecordId) -> list[StoredRecord]:
        """Every accepted revision that is held of a record, the oldest first; only one where the id names it."""
        conditions = [
            *_same_key(record_id),
            _OPENING.c.status < STATUS_QUARANTINED,
        ]
        if record_id.revision is not None:
            conditions.append(_OPENING.c.revision == record_id.revision)
        with self._database.read() as connection:
            found = connection.execute(_select_visible().where(*conditions).order_by(_OPENING.c.revision))
            return [_stored(row) for row in found]

    def duplicates(self, record_id: RecordId) -> list[StoredRecord]:
        """Quarantined entries of a log that say again what one revision of this record said before, by index."""
        conditions = [
            *_same_key(record_id),
            # `status > 0` is the condition of the partial index; SQLite does not infer it from the equality.
            _OPENING.c.status > 0,
            _OPENING.c.status == STATUS_QUARANTINED,
        ]
        if record_id.revision is not None:
            conditions.append(_OPENING.c.revision == record_id.revision)
        with self._database.read() as connection:
            found = connection.execute(_select_visible().where(*conditions).order_by(_OPENING.c.position))
            return [_stored(row) for row in found]

    def newest(self, log_id: int, kind: str, keys: Iterable[str]) -> dict[str, tuple[int, bytes]]:
        """Newest revision and its bytes of those keys that exist, in one log."""
        wanted, found = list(dict.fromkeys(keys)), {}
        columns = (_OPENING.c.key, _OPENING.c.revision, _OPENING.c.record)
        with self._database.read() as connection:
            for i in range(0, len(wanted), _KEYS_PER_QUERY):
                statement = (
                    select(*columns)
                    .where(
                        _OPENING.c.log_id == log_id,
                        _OPENING.c.kind == kind,
                        _OPENING.c.key.in_(wanted[i : i + _KEYS_PER_QUERY]),
                        _OPENING.c.status < STATUS_QUARANTINED,
                    )
                    .order_by(_OPENING.c.key, _OPENING.c.revision)
                )
                found.update({key: (revision, record) for key, revision, record in connection.execute(statement)})
        return found

    def list(self, chosen: Filter, *, limit: int, token: str | None = None) -> RecordPage:
        """Newest revisions, in the order of logs and entries."""
        statement = _newest_only(_select_visible(), chosen).order_by(_OPENING.c.position).limit(limit + 1)
        if token:
            statement = statement.where(_OPENING.c.position > _parse_token(token, "p"))
        with self._database.read() as connection:
            rows, more = _take(connection.execute(statement), limit)
        return RecordPage([_stored(row) for row in rows], f"p{rows[-1].position}" if more else None)

    def search(self, expression: str, chosen: Filter, *, limit: int, token: str | None = None) -> RecordPage:
        """Newest revisions that match an FTS5 expression: best first, or newest first where there are very many."""
        if not expression:
            return RecordPage([], None)
        offset = _parse_token(token, "o") if token else 0
        few = self._count_matches(expression) <= RANKED_HITS_MAX
        order = "search.term.rank, search.term.rowid DESC" if few else "search.term.rowid DESC"
        statement = (
            _newest_only(_select_visible(), chosen)
            .join(text("search.term"), _OPENING.c.position == literal_column("search.term.rowid"))
            .where(text("search.term.term MATCH :expression"))
            .order_by(text(order))
            .limit(limit + 1)
            .offset(offset)
        )
        with self._database.read() as connection:
            rows, more = _take(connection.execute(statement, {"expression": expression}), limit)
        return RecordPage([_stored(row) for row in rows], f"o{offset + len(rows)}" if more else None)

    def count(self) -> int:
        """Openings of accepted records that checkpoints cover, of every log."""
        statement = select(func.count()).select_from(_VERIFIED).where(_OPENING.c.status < STATUS_QUARANTINED)
        with self._database.read() as connection:
            return connection.execute(statement).scalar_one()

    def count_quarantined(self) -> dict[int, int]:
        """How many verified entries are quarantined, by log."""
        # `status > 0` is the condition of the partial index; SQLite does not infer it from the equality.
        statement = (
            select(_OPENING.c.log_id, func.count())
            .select_from(_VERIFIED)
            .where(_OPENING.c.status > 0, _OPENING.c.status == STATUS_QUARANTINED)
            .group_by(_OPENING.c.log_id)
        )
        with self._database.read() as connection:
            return {row.log_id: row[1] for row in connection.execute(statement)}

    def revalidate(self, kinds: Kinds, *, after: int) -> tuple[int, int] | None:
        """Judge again one batch of what an older version did not understand, from behind position `after`.

        Returns the last position looked at and how many records are understood now; None at the end.
        """
        # `status > 0` is the condition of the partial index; SQLite does not infer it from the equality.
        statement = (
            select(_OPENING.c.position, _OPENING.c.log_id, _OPENING.c.record, _LOG.c.member)
            .join_from(_OPENING, _LOG, _LOG.c.id == _OPENING.c.log_id)
            .where(_OPENING.c.status > 0, _OPENING.c.status == STATUS_NOT_UNDERSTOOD, _OPENING.c.position > after)
            .where(_LOG.c.member != "")
            .order_by(_OPENING.c.position)
            .limit(_REVALIDATE_BATCH)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        if not rows:
            return None
        verdicts = [(row, *_judge(row.record, row.member, kinds)) for row in rows]
        changed = [item for item in verdicts if item[1] != STATUS_NOT_UNDERSTOOD]
        if changed:
            with self._database.write() as connection:
                for row, status, fault in changed:
                    _settle(connection, row.position, row.log_id, status, fault)
        return rows[-1].position, sum(status == STATUS_VISIBLE for _, status, _ in changed)

    def _count_matches(self, expression: str) -> int:
        statement = text("SELECT count(*) FROM (SELECT rowid FROM search.term WHERE term MATCH :expression LIMIT :most)")
        with self._database.read() as connection:
            found = connection.execute(statement, {"expression": expression, "most": RANKED_HITS_MAX + 1})
            return int(found.scalar_one())


def _settle(connection: Connection, position: int, log_id: int, status: int, fault: str) -> None:
    """Write a new judgement under a new sequence number, by which the search index finds it."""
    here = _LOG.c.id == log_id
    connection.execute(update(_LOG).where(here).values(last_sequence=_LOG.c.last_sequence + 1))
    sequence = connection.execute(select(_LOG.c.last_sequence).where(here)).scalar_one()
    connection.execute(
        update(_OPENING).where(_OPENING.c.position == position).values(status=status, fault=fault, sequence=sequence)
    )
    # It may be a grant or an erasure that this software has only now learnt to read.
    apply_effects(connection, log_id, index_of(position), index_of(position) + 1)


def _take(found: Iterable[Row[tuple[object, ...]]], limit: int) -> tuple[list[Row[tuple[object, ...]]], bool]:
    """The rows of one page, at most `limit` and about 8 MiB, and whether there are more."""
    rows: list[Row[tuple[object, ...]]] = []
    size = 0
    for row in found:
        if len(rows) == limit or (rows and size + len(row.record) > PAGE_BYTES_MAX):
            return rows, True
        rows.append(row)
        size += len(row.record)
    return rows, False


def _judge(raw: bytes, author: str, kinds: Kinds) -> tuple[int, str]:
    try:
        record = parse_record(raw, author=author, kinds=kinds)
    except InvalidRecordError as error:
        return STATUS_QUARANTINED, error.message[:1000]
    return (STATUS_VISIBLE if record.understood else STATUS_NOT_UNDERSTOOD), ""


def _select_visible() -> Select[tuple[object, ...]]:
    """Openings that a verified checkpoint covers, with their log."""
    return select(
        _OPENING.c.position,
        _OPENING.c.kind,
        _OPENING.c.key,
        _OPENING.c.revision,
        _OPENING.c.status,
        _OPENING.c.fault,
        _OPENING.c.audience,
        _OPENING.c.salt,
        _OPENING.c.record,
        _LOG.c.id.label("log_id"),
        _LOG.c.origin,
        _LOG.c.member,
        _LOG.c.head_ms,
    ).select_from(_VERIFIED)


def _newest_only(statement: Select[tuple[object, ...]], chosen: Filter) -> Select[tuple[object, ...]]:
    later = exists().where(
        _LATER.c.log_id == _OPENING.c.log_id,
        _LATER.c.kind == _OPENING.c.kind,
        _LATER.c.key == _OPENING.c.key,
        _LATER.c.revision > _OPENING.c.revision,
        _LATER.c.status < STATUS_QUARANTINED,
        _covered(_LATER.c.position),
    )
    statement = statement.where(_OPENING.c.status == STATUS_VISIBLE, ~later, ~_erased_later())
    if chosen.kind is not None:
        statement = statement.where(_OPENING.c.kind == chosen.kind)
    if chosen.kinds:
        statement = statement.where(_OPENING.c.kind.in_(chosen.kinds))
    if chosen.author is not None:
        statement = statement.where(_LOG.c.member == chosen.author)
    return statement


def _same_key(record_id: RecordId) -> list[ColumnElement[bool]]:
    """The openings that say this id, found by index: the condition on the log is not left to the join, which would scan."""
    return [
        _OPENING.c.log_id.in_(select(_LOG.c.id).where(_LOG.c.member == record_id.author)),
        _OPENING.c.kind == record_id.kind,
        _OPENING.c.key == record_id.key,
    ]


def _erased_later() -> ColumnElement[bool]:
    """A later revision was erased: an older one does not take its place."""
    return exists().where(
        _ERASURE.c.log_id == _OPENING.c.log_id,
        _ERASURE.c.kind == _OPENING.c.kind,
        _ERASURE.c.key == _OPENING.c.key,
        _ERASURE.c.revision > _OPENING.c.revision,
    )


def _stored(row: Row[tuple[object, ...]]) -> StoredRecord:
    return StoredRecord(
        log_id=row.log_id,
        origin=row.origin,
        author=row.member,
        index=index_of(row.position),
        kind=row.kind,
        key=row.key,
        revision=row.revision,
        status=row.status,
        fault=row.fault,
        salt=row.salt,
        record=row.record,
        head_ms=row.head_ms,
        granted=split_audience(row.audience)[1],
    )


def _parse_token(token: str, prefix: str) -> int:
    number = token[1:]
    if not token.startswith(prefix) or not number.isascii() or not number.isdigit() or len(number) > 18:
        raise FormatError(f"{token[:40]!r} is not a cursor of this list", hint="take it from 'next' of the page before")
    return int(number)


def page_size(limit: int) -> int:
    """The page size for a requested limit: 0 means the default, more than the maximum means the maximum."""
    return min(limit, PAGE_SIZE_MAX) if limit else PAGE_SIZE_DEFAULT


__all__: Sequence[str] = (
    "STATUS_NOT_UNDERSTOOD",
    "STATUS_QUARANTINED",
    "STATUS_VISIBLE",
    "Filter",
    "RecordPage",
    "RecordStore",
    "StoredRecord",
    "page_size",
)
