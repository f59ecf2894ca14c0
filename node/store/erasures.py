"""What was erased, who has said that it is gone there too, and what is still to be swept. Rows are made by `effects`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, Row, Select, select, update

from node.core.names import RecordId
from node.core.record import EVERYONE, may_read
from node.core.times import format_milliseconds
from node.store.database import Database
from node.store.effects import SaidErasure, load_erasures, load_grants_from
from node.store.owed import Owed, note_swept, read_owed
from node.store.tables import (
    AcknowledgementRow,
    ErasureRow,
    LogRow,
    index_of,
    position_of,
    table_of,
)

ACKNOWLEDGED_AT_ONCE_MAX = 1000

_LOG, _ERASURE, _ACKNOWLEDGEMENT = table_of(LogRow), table_of(ErasureRow), table_of(AcknowledgementRow)
_KEYS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class ErasedRecord:
    """An entry without an opening, because its author said so in the entry `statement_index` of its log.

    `audience` is whoever learns of the erasure, from this entry or from a later one: `("*",)`, or sorted member ids.
    """

    log_id: int
    origin: str
    author: str
    index: int
    kind: str
    key: str
    revision: int
    reason: str
    erased_ms: int
    statement_index: int
    audience: tuple[str, ...]
    head_ms: int

    @property
    def id(self) -> str:
        """The id without the revision."""
        return f"{self.author}/{self.kind}/{self.key}"

    @property
    def erased_at(self) -> str:
        """When the author erased it."""
        return format_milliseconds(datetime.fromtimestamp(self.erased_ms / 1000, UTC))

    def sentence(self) -> str:
        """What to tell somebody who asks for it."""
        return f"{self.id}@{self.revision} was erased by its author at {self.erased_at}: {self.reason}"


class LeftOut(NamedTuple):
    """An erased entry, and those who were granted it and whom no erasure tells."""

    erased: ErasedRecord
    members: tuple[str, ...]


class ErasureStore:
    """Reads erasures; writes acknowledgements and what is done."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def find(self, record_id: RecordId) -> ErasedRecord | None:
        """One erased record; without a revision the newest of the erased ones."""
        conditions = [
            _LOG.c.member == record_id.author,
            _ERASURE.c.kind == record_id.kind,
            _ERASURE.c.key == record_id.key,
        ]
        if record_id.revision is not None:
            conditions.append(_ERASURE.c.revision == record_id.revision)
        statement = _select().where(*conditions).order_by(_ERASURE.c.revision.desc()).limit(1)
        with self._database.read() as connection:
            found = _read(connection, connection.execute(statement).all())
        return found[0] if found else None

    def newest(self, log_id: int, kind: str, keys: Iterable[str]) -> dict[str, ErasedRecord]:
        """The newest erased revision of those keys that have one, in one log."""
        wanted, found = list(dict.fromkeys(keys)), {}
        with self._database.read() as connection:
            if (
                connection.execute(select(_ERASURE.c.position).where(_ERASURE.c.log_id == log_id).limit(1)).one_or_none()
                is None
            ):
                return {}
            for i in range(0, len(wanted), _KEYS_PER_QUERY):
                keys_here = _ERASURE.c.key.in_(wanted[i : i + _KEYS_PER_QUERY])
                statement = _select().where(_ERASURE.c.log_id == log_id, _ERASURE.c.kind == kind, keys_here)
                rows = connection.execute(statement.order_by(_ERASURE.c.revision)).all()
                found.update({item.key: item for item in _read(connection, rows)})
        return found

    def left_out(self, log_id: int) -> list[LeftOut]:
        """The erased entries of a log that were granted to somebody whom no erasure tells, by index."""
        granted: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        with self._database.read() as connection:
            for _, grant in load_grants_from(connection, log_id, 0):
                granted[position_of(log_id, grant.index)][str(grant.id)].update(grant.members)
            positions, found = sorted(granted), []
            for i in range(0, len(positions), _KEYS_PER_QUERY):
                wanted = _ERASURE.c.position.in_(positions[i : i + _KEYS_PER_QUERY])
                found += _read(connection, connection.execute(_select().where(wanted).order_by(_ERASURE.c.position)).all())
        left = []
        for item in found:
            readers = granted[position_of(log_id, item.index)].get(f"{item.id}@{item.revision}", set())
            members = () if item.audience == EVERYONE else tuple(sorted(readers - {*item.audience, item.author}))
            left += [LeftOut(item, members)] if members else []
        return left

    # Sweeping

    def unswept(self) -> list[int]:
        """Positions of which the search index, free pages or a write-ahead log may still hold something."""
        statement = select(_ERASURE.c.position).where(_ERASURE.c.swept.is_(False)).order_by(_ERASURE.c.position)
        with self._database.read() as connection:
            return list(connection.execute(statement).scalars())

    def owed(self) -> Owed:
        """How often openings were deleted otherwise since the last sweep (`store.owed`)."""
        with self._database.read() as connection:
            return read_owed(connection)

    def save_swept(self, positions: Sequence[int], owed: Owed) -> None:
        """Nothing is left of these, nor of what `owed` counted."""
        with self._database.write() as connection:
            note_swept(connection, owed)
            for position in positions:
                connection.execute(update(_ERASURE).where(_ERASURE.c.position == position).values(swept=True))

    # Acknowledging

    def to_acknowledge(self, log_id: int, *, start: int = 0, again: bool = False) -> list[int]:
        """Entries of a log, from index `start` on, that are gone here for good; ascending, some at a time.

        Without `again` only those of which its author does not know that.
        """
        wanted = (_ERASURE.c.log_id == log_id) & _ERASURE.c.swept.is_(True)
        if not again:
            wanted &= _ERASURE.c.told.is_(False)
        statement = (
            select(_ERASURE.c.position)
            .where(wanted, _ERASURE.c.position >= position_of(log_id, start))
            .order_by(_ERASURE.c.position)
            .limit(ACKNOWLEDGED_AT_ONCE_MAX)
        )
        with self._database.read() as connection:
            return [index_of(position) for position in connection.execute(statement).scalars()]

    def save_told(self, log_id: int, indexes: Iterable[int], *, told: bool = True) -> None:
        """The author knows that these are gone here, or does not know it any more."""
        positions = [position_of(log_id, index) for index in indexes]
        other = _ERASURE.c.position.in_(positions) & _ERASURE.c.told.is_(not told)
        with self._database.read() as connection:
            changed = list(connection.execute(select(_ERASURE.c.position).where(other)).scalars())
        if not changed:  # as at nearly every connection
            return
        with self._database.write() as connection:
            connection.execute(update(_ERASURE).where(_ERASURE.c.position.in_(changed)).values(told=told))

    def save_acknowledgements(self, log_id: int, indexes: Collection[int], *, member: str, now_ms: int) -> list[int]:
        """A member says that these entries are gone there; returns those that were erased and that it could read."""
        with self._database.read() as connection:
            taken, new = _judge_acknowledged(connection, log_id, indexes, member)
        if new:  # at nearly every connection it says again what is noted already
            with self._database.write() as connection:
                taken, new = _judge_acknowledged(connection, log_id, indexes, member)
                rows, columns = [(position, member, now_ms) for position in new], ("position", "member", "time_ms")
                self._database.insert_rows(connection, _ACKNOWLEDGEMENT, columns, rows, prefix="OR IGNORE")
        return taken

    def acknowledged_by(self, log_id: int, index: int) -> list[str]:
        """The members that have said so, sorted."""
        here = _ACKNOWLEDGEMENT.c.position == position_of(log_id, index)
        with self._database.read() as connection:
            return sorted(connection.execute(select(_ACKNOWLEDGEMENT.c.member).where(here)).scalars())


def _judge_acknowledged(
    connection: Connection, log_id: int, indexes: Iterable[int], member: str
) -> tuple[list[int], list[int]]:
    """Which of these entries a member may say are gone, as indexes; and as positions those that it had not said before."""
    positions = [position_of(log_id, index) for index in indexes]
    found = _read(connection, connection.execute(_select().where(_ERASURE.c.position.in_(positions))).all())
    taken = [item.index for item in found if may_read(item.audience, author=item.author, reader=member)]
    said = select(_ACKNOWLEDGEMENT.c.position).where(
        _ACKNOWLEDGEMENT.c.position.in_(positions), _ACKNOWLEDGEMENT.c.member == member
    )
    held = set(connection.execute(said).scalars())
    return taken, [position for index in taken if (position := position_of(log_id, index)) not in held]


def _select() -> Select[tuple[object, ...]]:
    columns = (_LOG.c.id.label("log_id"), _LOG.c.origin, _LOG.c.member, _LOG.c.head_ms)
    return select(
        _ERASURE.c.position,
        _ERASURE.c.kind,
        _ERASURE.c.key,
        _ERASURE.c.revision,
        _ERASURE.c.reason,
        _ERASURE.c.erased_ms,
        _ERASURE.c.statement_index,
        *columns,
    ).select_from(_ERASURE.join(_LOG, _LOG.c.id == _ERASURE.c.log_id))


def _read(connection: Connection, rows: Sequence[Row[tuple[object, ...]]]) -> list[ErasedRecord]:
    """The rows, with everybody who is told of each."""
    indexes = defaultdict(list)
    for row in rows:
        indexes[row.log_id].append(index_of(row.position))
    said = {log_id: load_erasures(connection, log_id, wanted) for log_id, wanted in indexes.items()}
    return [_erased(row, said[row.log_id].get(index_of(row.position), ())) for row in rows]


def _erased(row: Row[tuple[object, ...]], said: Iterable[SaidErasure]) -> ErasedRecord:
    named = (row.kind, row.key, row.revision)
    told: set[str] = set()
    for item in said:
        if (item.erasure.id.kind, item.erasure.id.key, item.erasure.id.revision) == named:
            told.update(item.audience)
    return ErasedRecord(
        log_id=row.log_id,
        origin=row.origin,
        author=row.member,
        index=index_of(row.position),
        kind=row.kind,
        key=row.key,
        revision=row.revision,
        reason=row.reason,
        erased_ms=row.erased_ms,
        statement_index=row.statement_index,
        audience=EVERYONE if EVERYONE[0] in told else tuple(sorted(told)),
        head_ms=row.head_ms,
    )
