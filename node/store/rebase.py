"""The own log after a rollback: entries that no checkpoint covers yet give way to what peers give back, and follow after it.

Two rows of the table `log` without a member are the places where this happens. What a peer gives back is staged in one of
them, as a page of a mirrored log is; the unpublished entries step into the other for the length of one transaction. Nothing
in either can be seen, and neither outlives the recovery: after a crash they are simply emptied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, insert, literal, select, update

from node.core.canonical import dumps_canonical
from node.core.checkpoint import SignedCheckpoint
from node.core.disclosure import STATEMENT_KINDS, relocate_statement
from node.core.merkle import TILE_WIDTH, Tree
from node.core.mirror import AcceptedOpening
from node.errors import StoreError
from node.store.database import Database
from node.store.effects import admit_openings, apply_effects
from node.store.logs import LogState, LogStore, NewEntry, load_state, move_head, save_state
from node.store.rows import OPENING_COLUMNS, accepted_tuple, opening_tuple
from node.store.tables import (
    INDEX_BITS,
    STATUS_NOT_UNDERSTOOD,
    STATUS_QUARANTINED,
    CheckpointRow,
    CosignatureRow,
    CursorRow,
    EntryRow,
    ErasureRow,
    LogRow,
    OpeningRow,
    PushRow,
    TileRow,
    index_of,
    position_of,
    table_of,
)

BATCH = 500
SEQUENCES_A_MS = 1000
_REPEATED = "another record of this log has the same kind, key and revision"

_LOG, _ENTRY, _TILE, _OPENING = table_of(LogRow), table_of(EntryRow), table_of(TileRow), table_of(OpeningRow)
_CHECKPOINT, _COSIGNATURE, _CURSOR = table_of(CheckpointRow), table_of(CosignatureRow), table_of(CursorRow)
_ERASURE, _PUSH = table_of(ErasureRow), table_of(PushRow)
_ELSEWHERE = _OPENING.alias("elsewhere")

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


Settle = Callable[[Sequence[Unpublished], Mapping[Key, Sequence[Said]]], Sequence[NewEntry | None]]
"""Makes entries that follow what is said, in the same order; None for one that needs no entry any more."""


@dataclass(slots=True)
class _Moved:
    """The transaction's view: the own log, how far it is published, and where each unpublished entry has gone."""

    state: LogState
    published: int
    places: dict[int, int]


class RebaseStore:
    """Signs late, stages what peers give back, and puts it below what was not published. Each write is one transaction."""

    def __init__(self, database: Database, logs: LogStore) -> None:
        """Use an open database."""
        self._database, self._logs = database, logs

    def save_signed_head(self, log: LogState, signed: SignedCheckpoint, *, now_ms: int) -> LogState:
        """Write a checkpoint of the own log over entries that none covered until now.

        Raises:
            StoreError: the log is no longer as `log` says (compare-and-set), or the database refused.
        """
        with self._database.write() as connection:
            current = _require_same(connection, log)
            if not log.signed_size < signed.size <= log.head_size:
                raise StoreError(f"{log.origin}: a checkpoint of size {signed.size} covers nothing new of {log.head_size}")
            if signed.size == current.head_size:
                return move_head(connection, current, signed, now_ms)
            row = {"log_id": log.id, "size": signed.size, "note": bytes(signed)}
            connection.execute(insert(_CHECKPOINT), row)
            return save_state(connection, replace(current, head_note=bytes(signed)))

    def open_staging(self, log: LogState, base: SignedCheckpoint | None) -> LogState:
        """An empty place for entries of the own log beyond `base` (None: from the first)."""
        size = base.size if base else 0
        frontier = self._logs.tree(log.id).frontier(size)
        with self._database.write() as connection:
            _discard(connection, _staging(log))
            place = _open_place(connection, _staging(log))
            note = bytes(base) if base else b""
            state = replace(place, head_size=size, head_note=note, head_frontier=frontier, staged=frontier)
            return save_state(connection, state)

    def discard_staging(self, log: LogState) -> None:
        """Forget what was staged."""
        with self._database.write() as connection:
            _discard(connection, _staging(log))

    def signed_sizes(self, log: LogState) -> list[int]:
        """Sizes of every checkpoint held of a log, ascending."""
        statement = select(_CHECKPOINT.c.size).where(_CHECKPOINT.c.log_id == log.id).order_by(_CHECKPOINT.c.size)
        with self._database.read() as connection:
            return list(connection.execute(statement).scalars())

    def largest_cosigned(self, log: LogState) -> int:
        """The largest size of a log that somebody is known to have seen; 0 for none."""
        statement = select(func.max(_COSIGNATURE.c.size)).where(_COSIGNATURE.c.log_id == log.id)
        with self._database.read() as connection:
            return connection.execute(statement).scalar() or 0

    def largest_contained(self, log: LogState, staging: LogState) -> int:
        """The largest signed size of the own log whose entries begin what is staged, too; 0 for none."""
        own, joined = self._logs.tree(log.id), self._joined_tree(log, staging)
        sizes = [size for size in self.signed_sizes(log) if size <= staging.staged.size]
        # Where a size is contained, so is every smaller one.
        found = bisect_right(sizes, 0, key=lambda size: int(own.root(size) != joined.root(size)))
        return sizes[found - 1] if found else 0

    def take_back(
        self, log: LogState, staging: LogState, signed: SignedCheckpoint, *, contained: int, settle: Settle, now_ms: int
    ) -> LogState:
        """Put what is staged in the place of everything beyond the staging's base, and the unpublished entries after it.

        Args:
            log: the own log, as it is.
            staging: every entry from its base to `signed`, verified.
            signed: the checkpoint that covers them.
            contained: the own checkpoints up to this size hold in the signed history, too; larger ones are forgotten.
            settle: makes the entries that follow.
            now_ms: milliseconds since 1970.

        Raises:
            StoreError: something is no longer as these say (compare-and-set), or the database refused.
        """
        with self._database.write() as connection:
            current, place = _require_same(connection, log), load_state(connection, _LOG.c.id == staging.id)
            if place.staged != staging.staged or (place.staged.size, place.staged.root()) != (signed.size, signed.root):
                raise StoreError(f"{log.origin}: what is staged does not have the root signed for {signed.size}")
            aside, unswept = (
                _set_aside(connection, current, place.head_size),
                _forget_erasures(connection, log.id, place.head_size),
            )
            for table in (_CHECKPOINT, _COSIGNATURE):
                connection.execute(delete(table).where(table.c.log_id == log.id, table.c.size > contained))
            # A reader may have seen numbers that this home has forgotten: the new ones are greater than all of them.
            before = max(current.last_sequence, now_ms * SEQUENCES_A_MS)
            _move_in(connection, current, place, before)
            state = replace(current, staged=place.staged, last_sequence=before + place.last_sequence)
            moved = _Moved(move_head(connection, state, signed, now_ms), signed.size, {})
            self._match(connection, moved, aside, place.head_size)
            self._follow(connection, moved, aside, settle)
            _discard(connection, place.origin)
            save_state(connection, moved.state)
            return _take_effect(connection, moved.state, place.head_size, unswept)

    def save_openings(self, log: LogState, accepted: Iterable[AcceptedOpening], *, settle: Settle) -> LogState:
        """Write openings of published entries of the own log that had none, as verified against the commitments.

        Where one says what an unpublished entry says with the same revision, the unpublished ones are settled again.

        Raises:
            StoreError: the log is no longer as `log` says (compare-and-set), or the database refused.
        """
        wanted = {item.opening.index: item for item in accepted}
        signed_size = log.signed_size
        frontier = self._logs.tree(log.id).frontier(signed_size)
        with self._database.write() as connection:
            current = _require_same(connection, log)
            missing = {index for index, _ in _unopened(connection, log.id, wanted, signed_size)}
            found = [item for index, item in wanted.items() if index in missing]
            keys = {(item.record.kind, item.record.key) for item in found if item.record is not None}
            if not _has_keys(connection, current, signed_size, keys):
                state = save_state(connection, self._insert(connection, current, found))
                return _take_late_effect(connection, state, found)
            aside, unswept = _set_aside(connection, current, signed_size), _forget_erasures(connection, log.id, signed_size)
            state = replace(current, head_size=signed_size, head_frontier=frontier, staged=frontier)
            moved = _Moved(self._insert(connection, state, found), signed_size, {})
            self._follow(connection, moved, aside, settle)
            save_state(connection, moved.state)
            state = _take_effect(connection, moved.state, signed_size, unswept)
            return _take_late_effect(connection, state, found)

    def count_unopened(self, log: LogState) -> int:
        """How many published entries of the own log have no opening, though they were not erased."""
        low, high = position_of(log.id, 0), position_of(log.id, log.signed_size)
        counts = []
        with self._database.read() as connection:
            for table in (_OPENING, _ERASURE):
                between = (table.c.position >= low) & (table.c.position < high)
                counts.append(connection.execute(select(func.count()).select_from(table).where(between)).scalar_one())
        return max(0, log.signed_size - sum(counts))

    def read_unopened(self, log: LogState, *, start: int, limit: int) -> list[tuple[int, bytes]]:
        """Index and commitment of published entries without an opening, from index `start` on."""
        low, high = position_of(log.id, start), position_of(log.id, log.signed_size)
        opened = select(literal(1)).where(_OPENING.c.position == _ENTRY.c.position).exists()
        erased = select(literal(1)).where(_ERASURE.c.position == _ENTRY.c.position).exists()
        statement = (
            select(_ENTRY.c.position, _ENTRY.c.commitment)
            .where(_ENTRY.c.position >= low, _ENTRY.c.position < high, ~opened, ~erased)
            .order_by(_ENTRY.c.position)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [(index_of(position), commitment) for position, commitment in connection.execute(statement)]

    def _joined_tree(self, log: LogState, staging: LogState) -> Tree:
        """The tree of the own log up to the staging's base, and of what is staged beyond."""
        own, staged, base = self._logs.tree(log.id), self._logs.tree(staging.id), staging.head_size

        def join(read_own: Reader, read_staged: Reader, edge: int) -> Reader:
            def read(low: int, high: int) -> Sequence[bytes]:
                below = read_own(low, min(high, edge)) if low < edge else []
                above = read_staged(max(low, edge), high) if high > edge else []
                return [*below, *above]

            return read

        tiles = join(own.tiles, staged.tiles, base // TILE_WIDTH)
        return Tree(join(own.entries, staged.entries, base), tiles)

    def _match(self, connection: Connection, moved: _Moved, aside: LogState, base: int) -> None:
        """Entries set aside that have come back keep their openings, also those that nobody else has."""
        ours, theirs = _ENTRY.alias("ours"), _ENTRY.alias("theirs")
        here = (ours.c.position >= position_of(aside.id, 0), ours.c.position < position_of(aside.id + 1, 0))
        low, high = position_of(moved.state.id, base), position_of(moved.state.id, moved.published)
        statement = (
            select(ours.c.position, theirs.c.position)
            .join_from(ours, theirs, theirs.c.commitment == ours.c.commitment)
            .where(*here, theirs.c.position >= low, theirs.c.position < high)
        )
        for was, now in connection.execute(statement).all():
            moved.places[index_of(was)] = index_of(now)
            if connection.execute(select(_OPENING.c.position).where(_OPENING.c.position == now)).scalar() is None:
                moved.state = _reopen(connection, moved.state, was, now)
            _forget(connection, [was])

    def _follow(self, connection: Connection, moved: _Moved, aside: LogState, settle: Settle) -> None:
        """Append what was set aside, batch by batch, then forget the place and correct who refers to the entries."""
        while batch := _read_batch(connection, aside):
            for run in _split(batch):
                relocated = [item for item in (_relocate(connection, moved, item, aside) for item in run) if item]
                settled = settle(relocated, _said(connection, moved, {item.key for item in relocated}))
                entries: list[NewEntry] = []
                for item, entry in zip(relocated, settled, strict=True):
                    if entry is not None:
                        moved.places[item.index] = moved.state.head_size + len(entries)
                        entries.append(entry)
                self._append(connection, moved, entries)
            _forget(connection, [position_of(aside.id, item.index) for item in batch])
        _discard(connection, aside.origin)
        _correct_pushes(connection, moved, aside.head_size)

    def _append(self, connection: Connection, moved: _Moved, entries: Sequence[NewEntry]) -> None:
        state = moved.state
        commitments = [entry.commitment for entry in entries]
        frontier, tiles = state.head_frontier.extend(commitments)
        self._logs.insert_entries(connection, state.id, state.head_size, commitments, tiles)
        first = position_of(state.id, state.head_size)
        rows = [
            opening_tuple(first + i, state.id, state.last_sequence + 1 + i, entry.salt, entry.record)
            for i, entry in enumerate(entries)
        ]
        self._database.insert_rows(connection, _OPENING, OPENING_COLUMNS, rows)
        last = state.last_sequence + len(rows)
        moved.state = replace(state, head_size=frontier.size, head_frontier=frontier, staged=frontier, last_sequence=last)

    def _insert(self, connection: Connection, state: LogState, found: Sequence[AcceptedOpening]) -> LogState:
        rows = [accepted_tuple(state.id, state.last_sequence + 1 + i, item) for i, item in enumerate(found)]
        for row in admit_openings(connection, state.id, rows):
            if not self._database.insert_rows(connection, _OPENING, OPENING_COLUMNS, [row], prefix="OR IGNORE"):
                again = (*row[:3], STATUS_QUARANTINED, *row[4:8], _REPEATED, *row[9:])
                self._database.insert_rows(connection, _OPENING, OPENING_COLUMNS, [again])
        return replace(state, last_sequence=state.last_sequence + len(found))


Reader = Callable[[int, int], Sequence[bytes]]


def _staging(log: LogState) -> str:
    return f"{log.origin} recovered"


def _require_same(connection: Connection, log: LogState) -> LogState:
    current = load_state(connection, _LOG.c.id == log.id)
    if (current.head_size, current.head_note) != (log.head_size, log.head_note):
        raise StoreError(f"{log.origin} changed while its head of size {log.head_size} was looked at")
    return current


def _open_place(connection: Connection, origin: str) -> LogState:
    connection.execute(insert(_LOG), LogRow(origin=origin, member="").model_dump(exclude={"id"}))
    return load_state(connection, _LOG.c.origin == origin)


def _discard(connection: Connection, origin: str) -> None:
    """Empty a place and forget it."""
    place = connection.execute(select(_LOG.c.id).where(_LOG.c.origin == origin)).scalar()
    if place is None:
        return
    for table in (_ENTRY, _OPENING, _TILE):
        between = (table.c.position >= position_of(place, 0)) & (table.c.position < position_of(place + 1, 0))
        connection.execute(delete(table).where(between))
    connection.execute(delete(_CURSOR).where(_CURSOR.c.log_id == place))
    connection.execute(delete(_LOG).where(_LOG.c.id == place))


def _set_aside(connection: Connection, log: LogState, base: int) -> LogState:
    """Move everything from index `base` on out of the log; returns the place, whose `head_size` is `base`."""
    place = replace(_open_place(connection, f"{log.origin} unpublished"), head_size=base)
    low, high = position_of(log.id, base), position_of(log.id + 1, 0)
    delta = place.id - log.id << INDEX_BITS
    here = (_OPENING.c.position >= low) & (_OPENING.c.position < high)
    connection.execute(update(_OPENING).where(here).values(position=_OPENING.c.position + delta, log_id=place.id))
    here = (_ENTRY.c.position >= low) & (_ENTRY.c.position < high)
    connection.execute(update(_ENTRY).where(here).values(position=_ENTRY.c.position + delta))
    tiles = position_of(log.id, base // TILE_WIDTH)
    connection.execute(delete(_TILE).where(_TILE.c.position >= tiles, _TILE.c.position < high))
    return place


def _move_in(connection: Connection, log: LogState, place: LogState, before: int) -> None:
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
    connection.execute(quarantine.values(status=STATUS_QUARANTINED, fault=_REPEATED))
    moved = {"position": _OPENING.c.position + delta, "log_id": log.id, "sequence": _OPENING.c.sequence + before}
    connection.execute(update(_OPENING).where(here).values(moved))


def _reopen(connection: Connection, state: LogState, was: int, now: int) -> LogState:
    """Move one opening to where its entry has come back."""
    sequence = state.last_sequence + 1
    values = {"position": now, "log_id": state.id, "sequence": sequence}
    connection.execute(update(_OPENING).where(_OPENING.c.position == was).values(values))
    return replace(state, last_sequence=sequence)


def _forget(connection: Connection, positions: Sequence[int]) -> None:
    for table in (_ENTRY, _OPENING):
        connection.execute(delete(table).where(table.c.position.in_(positions)))


def _read_batch(connection: Connection, aside: LogState) -> list[Unpublished]:
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


def _said(connection: Connection, moved: _Moved, keys: Collection[Key]) -> dict[Key, list[Said]]:
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


def _has_keys(connection: Connection, log: LogState, start: int, keys: Collection[Key]) -> bool:
    """Whether an entry from index `start` on says something of one of these keys."""
    here = (_OPENING.c.log_id == log.id) & (_OPENING.c.position >= position_of(log.id, start))
    for kind, names in _by_kind(keys):
        statement = select(_OPENING.c.position).where(here, _OPENING.c.kind == kind, _OPENING.c.key.in_(names)).limit(1)
        if connection.execute(statement).scalar() is not None:
            return True
    return False


def _unopened(connection: Connection, log_id: int, indices: Collection[int], size: int) -> Iterator[tuple[int, bytes]]:
    positions = sorted(position_of(log_id, index) for index in indices if index < size)
    opened = select(literal(1)).where(_OPENING.c.position == _ENTRY.c.position).exists()
    erased = select(literal(1)).where(_ERASURE.c.position == _ENTRY.c.position).exists()
    for i in range(0, len(positions), BATCH):
        wanted = _ENTRY.c.position.in_(positions[i : i + BATCH])
        statement = select(_ENTRY.c.position, _ENTRY.c.commitment).where(wanted, ~opened, ~erased)
        for position, commitment in connection.execute(statement).all():
            yield index_of(position), commitment


def _correct_pushes(connection: Connection, moved: _Moved, base: int) -> None:
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


def _forget_erasures(connection: Connection, log_id: int, base: int) -> list[int]:
    """Forget what entries from `base` on say of erasures: they say it again where they stand then. Returns what to sweep."""
    here = (_ERASURE.c.log_id == log_id) & (_ERASURE.c.statement_index >= base)
    unswept = select(_ERASURE.c.position).where(here, ~_ERASURE.c.swept)
    positions = list(connection.execute(unswept).scalars())
    connection.execute(delete(_ERASURE).where(here))
    return positions


def _take_effect(connection: Connection, state: LogState, base: int, unswept: Sequence[int]) -> LogState:
    """Let the grants and erasures from `base` on take effect on what is held now."""
    apply_effects(connection, state.id, base, state.head_size)
    connection.execute(update(_ERASURE).where(_ERASURE.c.position.in_(unswept)).values(swept=False))
    return load_state(connection, _LOG.c.id == state.id)


def _take_late_effect(connection: Connection, state: LogState, found: Sequence[AcceptedOpening]) -> LogState:
    """Let grants and erasures take effect whose openings came late."""
    for opening, record, _ in found:
        if record is not None and record.kind in STATEMENT_KINDS:
            apply_effects(connection, state.id, opening.index, opening.index + 1)
    return load_state(connection, _LOG.c.id == state.id)


def _statement_position(log_id: int) -> ColumnElement[int]:
    return literal(log_id << INDEX_BITS) + _ERASURE.c.statement_index


def _split(batch: Sequence[Unpublished]) -> Iterator[Sequence[Unpublished]]:
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


def _relocate(connection: Connection, moved: _Moved, item: Unpublished, aside: LogState) -> Unpublished | None:
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
