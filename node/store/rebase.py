"""The own log after a rollback: entries that no checkpoint covers yet give way to what peers give back, and follow after it.

Two rows of the table `log` without a member are the places where this happens. What a peer gives back is staged in one of
them, as a page of a mirrored log is; the unpublished entries step into the other for the length of one transaction. Nothing
in either can be seen, and neither outlives the recovery: after a crash they are simply emptied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, func, insert, literal, select

from node.core.checkpoint import SignedCheckpoint
from node.core.merkle import TILE_WIDTH, Frontier, Tree
from node.core.mirror import AcceptedOpening
from node.errors import StoreError
from node.store.database import Database
from node.store.effects import admit_openings
from node.store.following import (
    Key,
    Moved,
    Said,
    Unpublished,
    correct_pushes,
    count_unopened,
    forget_erasures,
    has_keys,
    read_batch,
    read_floor,
    read_missing,
    read_said,
    relocate,
    split_statements,
    take_effect,
    take_late_effect,
)
from node.store.logs import LogState, LogStore, NewEntry, load_state, move_head, save_state
from node.store.losses import forget_seen
from node.store.places import REPEATED, discard_place, forget_entries, move_in, open_place, reopen_entry, set_aside
from node.store.rows import OPENING_COLUMNS, accepted_tuple, opening_tuple
from node.store.seen import lower_mark
from node.store.tables import (
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

SEQUENCES_A_MS = 1000

_LOG, _ENTRY, _TILE, _OPENING = table_of(LogRow), table_of(EntryRow), table_of(TileRow), table_of(OpeningRow)
_CHECKPOINT, _COSIGNATURE, _CURSOR = table_of(CheckpointRow), table_of(CosignatureRow), table_of(CursorRow)
_ERASURE, _PUSH = table_of(ErasureRow), table_of(PushRow)


Settle = Callable[[Sequence[Unpublished], Mapping[Key, Sequence[Said]], int], Sequence[NewEntry | None]]
"""Makes entries that follow what is said, in the same order; None for one that needs no entry any more.

The number is the largest revision that published entries may have which nobody can open here.
"""


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
            row = {"log_id": log.id, "size": signed.size, "note": bytes(signed), "made_ms": now_ms}
            connection.execute(insert(_CHECKPOINT), row)
            return save_state(connection, replace(current, head_note=bytes(signed)))

    def open_staging(self, log: LogState, base: SignedCheckpoint | None) -> LogState:
        """An empty place for entries of the own log beyond `base` (None: from the first)."""
        size = base.size if base else 0
        frontier = self._logs.tree(log.id).frontier(size)
        with self._database.write() as connection:
            discard_place(connection, _staging(log))
            place = open_place(connection, _staging(log))
            note = bytes(base) if base else b""
            state = replace(place, head_size=size, head_note=note, head_frontier=frontier, staged=frontier)
            return save_state(connection, state)

    def discard_staging(self, log: LogState) -> None:
        """Forget what was staged."""
        with self._database.write() as connection:
            discard_place(connection, _staging(log))

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
                set_aside(connection, current, place.head_size),
                forget_erasures(connection, log.id, place.head_size),
            )
            forget_seen(connection, log, place.head_size)
            for table in (_CHECKPOINT, _COSIGNATURE):
                connection.execute(delete(table).where(table.c.log_id == log.id, table.c.size > contained))
            lower_mark(connection, log.id, contained)
            # A reader may have seen numbers that this home has forgotten: the new ones are greater than all of them.
            before = max(current.last_sequence, now_ms * SEQUENCES_A_MS)
            move_in(connection, current, place, before)
            state = replace(current, staged=place.staged, last_sequence=before + place.last_sequence)
            moved = Moved(move_head(connection, state, signed, now_ms), signed.size, {})
            self._match(connection, moved, aside, place.head_size)
            # What was published takes effect first: an erased revision counts, too.
            save_state(connection, moved.state)
            moved.state = take_effect(connection, moved.state, place.head_size, [])
            self._follow(connection, moved, aside, settle)
            discard_place(connection, place.origin)
            save_state(connection, moved.state)
            return take_effect(connection, moved.state, place.head_size, unswept)

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
            missing = {index for index, _ in read_missing(connection, log.id, wanted, signed_size)}
            found = [item for index, item in wanted.items() if index in missing]
            keys = {(item.record.kind, item.record.key) for item in found if item.record is not None}
            if not has_keys(connection, current, signed_size, keys):
                state = save_state(connection, self._insert(connection, current, found))
                return take_late_effect(connection, state, found)
            state = self._settle_again(connection, current, frontier, found, settle, floor=0)
            return take_late_effect(connection, state, found)

    def settle_again(self, log: LogState, *, settle: Settle, floor: int) -> LogState:
        """Settle the unpublished entries once more, before they are signed, because entries below them are lost.

        Raises:
            StoreError: the log is no longer as `log` says (compare-and-set), or the database refused.
        """
        frontier = self._logs.tree(log.id).frontier(log.signed_size)
        with self._database.write() as connection:
            return self._settle_again(connection, _require_same(connection, log), frontier, [], settle, floor=floor)

    def count_unopened(self, log: LogState) -> int:
        """How many published entries of the own log have no opening, though they were not erased."""
        with self._database.read() as connection:
            return count_unopened(connection, log.id, log.signed_size)

    def revision_floor(self, log: LogState) -> int:
        """The largest revision that a published entry of the own log may have which nobody can open here; 0 for none."""
        with self._database.read() as connection:
            return read_floor(connection, log.id, log.signed_size)

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

    def _match(self, connection: Connection, moved: Moved, aside: LogState, base: int) -> None:
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
                moved.state = reopen_entry(connection, moved.state, was, now)
            forget_entries(connection, [was])

    def _settle_again(
        self,
        connection: Connection,
        log: LogState,
        frontier: Frontier,
        found: Sequence[AcceptedOpening],
        settle: Settle,
        *,
        floor: int,
    ) -> LogState:
        size = log.signed_size
        aside, unswept = set_aside(connection, log, size), forget_erasures(connection, log.id, size)
        state = replace(log, head_size=size, head_frontier=frontier, staged=frontier)
        moved = Moved(self._insert(connection, state, found), size, {})
        self._follow(connection, moved, aside, settle, floor)
        save_state(connection, moved.state)
        return take_effect(connection, moved.state, size, unswept)

    def _follow(self, connection: Connection, moved: Moved, aside: LogState, settle: Settle, floor: int = 0) -> None:
        """Append what was set aside, batch by batch, then forget the place and correct who refers to the entries."""
        while batch := read_batch(connection, aside):
            for run in split_statements(batch):
                relocated = [item for item in (relocate(connection, moved, item, aside) for item in run) if item]
                said = read_said(connection, moved, {item.key for item in relocated})
                settled = settle(relocated, said, floor)
                entries: list[NewEntry] = []
                for item, entry in zip(relocated, settled, strict=True):
                    if entry is not None:
                        moved.places[item.index] = moved.state.head_size + len(entries)
                        entries.append(entry)
                self._append(connection, moved, entries)
            forget_entries(connection, [position_of(aside.id, item.index) for item in batch])
        discard_place(connection, aside.origin)
        correct_pushes(connection, moved, aside.head_size)

    def _append(self, connection: Connection, moved: Moved, entries: Sequence[NewEntry]) -> None:
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
                again = (*row[:3], STATUS_QUARANTINED, *row[4:8], REPEATED, *row[9:])
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
