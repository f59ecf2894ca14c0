"""What follows in the own log after a recovery: unpublished entries in batches, and what refers to them by their place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, insert, literal, select, update

from node.core.canonical import dumps_canonical
from node.core.disclosure import STATEMENT_KINDS, relocate_statement
from node.core.mirror import AcceptedOpening
from node.store.effects import apply_effects
from node.store.logs import LogState, load_state
from node.store.owed import owe_sweep
from node.store.tables import (
    INDEX_BITS,
    STATUS_NOT_UNDERSTOOD,
    STATUS_QUARANTINED,
    EntryRow,
    ErasureRow,
    LogRow,
    OpeningRow,
    PushRow,
    index_of,
    position_of,
    table_of,
)

BATCH = 500

_LOG, _ENTRY, _OPENING = table_of(LogRow), table_of(EntryRow), table_of(OpeningRow)
_ERASURE, _PUSH = table_of(ErasureRow), table_of(PushRow)

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Unpublished:
    """An entry of the own log that no checkpoint covers, with its opening; `key` is kind and key of the record.

    The commitment is None where the record had to be changed, because it speaks of an entry that has moved.
    """

    index: int
    commitment: bytes | None
    key: Key
    salt: bytes
    raw: bytes
    understood: bool


class Said(NamedTuple):
    """What a log says of one key already. `published` is false of what was itself unpublished a moment ago.

    Of a revision that was erased, `raw` is the record that says so.
    """

    revision: int
    raw: bytes
    published: bool
    erased: bool = False


@dataclass(slots=True)
class Moved:
    """The transaction's view: the own log, how far it is published, and where each unpublished entry has gone."""

    state: LogState
    published: int
    places: dict[int, int]


def read_batch(connection: Connection, aside: LogState) -> list[Unpublished]:
    """The next entries that were set aside, in the order in which they were pushed; empty at the end."""
    # What was erased before anybody saw it is not carried over.
    statement = (
        select(_ENTRY, _OPENING.c.kind, _OPENING.c.key, _OPENING.c.salt, _OPENING.c.record, _OPENING.c.status)
        .join_from(_ENTRY, _OPENING, _OPENING.c.position == _ENTRY.c.position)
        .where(_ENTRY.c.position >= position_of(aside.id, 0), _ENTRY.c.position < position_of(aside.id + 1, 0))
        .order_by(_ENTRY.c.position)
        .limit(BATCH)
    )
    return [
        Unpublished(
            index_of(row.position), row.commitment, (row.kind, row.key), row.salt, row.record,
            row.status != STATUS_NOT_UNDERSTOOD,
        )
        for row in connection.execute(statement)
    ]  # fmt: skip


def read_said(connection: Connection, moved: Moved, keys: Collection[Key]) -> dict[Key, list[Said]]:
    """What the log says of these keys, the oldest revision first."""
    found: dict[Key, list[Said]] = {key: [] for key in keys}
    for kind, names in _by_kind(keys):
        statement = (
            select(_OPENING.c.key, _OPENING.c.revision, _OPENING.c.record, _OPENING.c.position)
            .where(
                _OPENING.c.log_id == moved.state.id,
                _OPENING.c.kind == kind,
                _OPENING.c.key.in_(names),
                _OPENING.c.status < STATUS_QUARANTINED,
            )
            .order_by(_OPENING.c.revision)
        )
        for name, revision, raw, position in connection.execute(statement):
            found[kind, name].append(Said(revision, raw, index_of(position) < moved.published))
        gone = (
            select(_ERASURE.c.key, _ERASURE.c.revision, _OPENING.c.record)
            .join_from(_ERASURE, _OPENING, _OPENING.c.position == _statement_position(moved.state.id))
            .where(_ERASURE.c.log_id == moved.state.id, _ERASURE.c.kind == kind, _ERASURE.c.key.in_(names))
        )
        for name, revision, raw in connection.execute(gone):
            found[kind, name].append(Said(revision, raw, published=True, erased=True))
    for versions in found.values():
        versions.sort(key=lambda said: said.revision)
    return found


def _by_kind(keys: Collection[Key]) -> Iterator[tuple[str, list[str]]]:
    for kind in sorted({kind for kind, _ in keys}):
        names = sorted(name for other, name in keys if other == kind)
        for i in range(0, len(names), BATCH):
            yield kind, names[i : i + BATCH]


def has_keys(connection: Connection, log: LogState, start: int, keys: Collection[Key]) -> bool:
    """Whether an entry from index `start` on says something of one of these keys."""
    here = (_OPENING.c.log_id == log.id) & (_OPENING.c.position >= position_of(log.id, start))
    for kind, names in _by_kind(keys):
        statement = select(_OPENING.c.position).where(here, _OPENING.c.kind == kind, _OPENING.c.key.in_(names)).limit(1)
        if connection.execute(statement).scalar() is not None:
            return True
    return False


def read_missing(connection: Connection, log_id: int, indices: Collection[int], size: int) -> Iterator[tuple[int, bytes]]:
    """Index and commitment of those of the first `size` entries that have neither an opening nor an erasure."""
    positions = sorted(position_of(log_id, index) for index in indices if index < size)
    opened = select(literal(1)).where(_OPENING.c.position == _ENTRY.c.position).exists()
    erased = select(literal(1)).where(_ERASURE.c.position == _ENTRY.c.position).exists()
    for i in range(0, len(positions), BATCH):
        wanted = _ENTRY.c.position.in_(positions[i : i + BATCH])
        statement = select(_ENTRY.c.position, _ENTRY.c.commitment).where(wanted, ~opened, ~erased)
        for position, commitment in connection.execute(statement).all():
            yield index_of(position), commitment


def count_unopened(connection: Connection, log_id: int, size: int) -> int:
    """How many of the first `size` entries have no opening, though they were not erased."""
    low, high = position_of(log_id, 0), position_of(log_id, size)
    counts = []
    for table in (_OPENING, _ERASURE):
        between = (table.c.position >= low) & (table.c.position < high)
        counts.append(connection.execute(select(func.count()).select_from(table).where(between)).scalar_one())
    return max(0, size - sum(counts))


def read_floor(connection: Connection, log_id: int, size: int) -> int:
    """The largest revision that one of the first `size` entries may have which nobody can open here; 0 when there is none.

    The entry at index i never has a larger revision than i + 1: every earlier revision of its key is an earlier entry, and
    one that goes beyond this floor stands behind the entry that the floor comes from.
    """
    if count_unopened(connection, log_id, size) == 0:
        return 0
    low, high = position_of(log_id, 0), position_of(log_id, size)
    opened = select(literal(1)).where(_OPENING.c.position == _ENTRY.c.position).exists()
    erased = select(literal(1)).where(_ERASURE.c.position == _ENTRY.c.position).exists()
    here = (_ENTRY.c.position >= low) & (_ENTRY.c.position < high)
    newest = connection.execute(select(func.max(_ENTRY.c.position)).where(here, ~opened, ~erased)).scalar()
    return 0 if newest is None else index_of(newest) + 1


def correct_pushes(connection: Connection, moved: Moved, base: int) -> None:
    """Who pushed an entry is known by its position: let that follow the entries."""
    here = (_PUSH.c.position >= position_of(moved.state.id, base)) & (_PUSH.c.position < position_of(moved.state.id + 1, 0))
    pushes = connection.execute(select(_PUSH).where(here)).all()
    connection.execute(delete(_PUSH).where(here))
    for push in pushes:
        first = index_of(push.position)
        places = sorted(moved.places[i] for i in range(first, first + push.entries) if i in moved.places)
        for start, entries in _runs(places):
            row = {**push._mapping, "position": position_of(moved.state.id, start), "entries": entries}
            connection.execute(insert(_PUSH), row)


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and length of each run of consecutive numbers."""
    start = 0
    for i in range(1, len(places) + 1):
        if i == len(places) or places[i] != places[i - 1] + 1:
            yield places[start], i - start
            start = i


def forget_erasures(connection: Connection, log_id: int, base: int) -> list[int]:
    """Forget what entries from `base` on say of erasures: they say it again where they stand then. Returns what to sweep."""
    here = (_ERASURE.c.log_id == log_id) & (_ERASURE.c.statement_index >= base)
    unswept = select(_ERASURE.c.position).where(here, ~_ERASURE.c.swept)
    positions = list(connection.execute(unswept).scalars())
    if positions:
        owe_sweep(connection)  # an entry that was erased before anybody saw it does not come again, nor does its erasure
    connection.execute(delete(_ERASURE).where(here))
    return positions


def take_effect(connection: Connection, state: LogState, base: int, unswept: Sequence[int]) -> LogState:
    """Let the grants and erasures from `base` on take effect on what is held now."""
    apply_effects(connection, state.id, base, state.head_size)
    connection.execute(update(_ERASURE).where(_ERASURE.c.position.in_(unswept)).values(swept=False))
    return load_state(connection, _LOG.c.id == state.id)


def take_late_effect(connection: Connection, state: LogState, found: Sequence[AcceptedOpening]) -> LogState:
    """Let grants and erasures take effect whose openings came late."""
    for opening, record, _ in found:
        if record is not None and record.kind in STATEMENT_KINDS:
            apply_effects(connection, state.id, opening.index, opening.index + 1)
    return load_state(connection, _LOG.c.id == state.id)


def _statement_position(log_id: int) -> ColumnElement[int]:
    return literal(log_id << INDEX_BITS) + _ERASURE.c.statement_index


def split_statements(batch: Sequence[Unpublished]) -> Iterator[Sequence[Unpublished]]:
    """Runs of ordinary records, and each statement alone: it may speak of the entry just before it."""
    start = 0
    for i, item in enumerate(batch):
        if item.key[0] in STATEMENT_KINDS:
            if start < i:
                yield batch[start:i]
            yield batch[i : i + 1]
            start = i + 1
    if start < len(batch):
        yield batch[start:]


def relocate(connection: Connection, moved: Moved, item: Unpublished, aside: LogState) -> Unpublished | None:
    """A grant or erasure speaks of an entry by its index: let it speak of where that stands now. None where it is gone."""
    if item.key[0] not in STATEMENT_KINDS:
        return item
    content = orjson.loads(item.raw)
    if content["body"]["index"] < aside.head_size:
        return item
    content = relocate_statement(content, moved.places)
    if content is None:
        return None
    target = position_of(moved.state.id, content["body"]["index"])
    columns = (_OPENING.c.kind, _OPENING.c.key, _OPENING.c.revision)
    named = connection.execute(select(*columns).where(_OPENING.c.position == target)).one_or_none()
    if named is None:
        return None
    content["body"]["id"] = f"{content['author']}/{named.kind}/{named.key}@{named.revision}"
    raw = dumps_canonical(content)
    return replace(item, commitment=None, key=(item.key[0], content["key"]), raw=raw)
