"""Logs on disk: entries, openings, tiles, checkpoints and cosignatures; how they come in and go out.

| table | may it be lost? | is it trusted? |
| --- | --- | --- |
| log, entry, checkpoint | own log: no. Mirrors: fetched again | yes: written only after verification, or staged |
| opening | own log: no. Mirrors: fetched again from whoever holds it | it fits its commitment |
| tile, cursor, cosignature | yes: recomputed, or told again | tiles and cosignatures are verified before |
| erasure | yes: made again from the erasure records | it follows from a verified record |
| acknowledgement | yes | it is what a member says; the own one: what its people have seen to be lost |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.sql import ColumnElement

from node.core.checkpoint import SignedCheckpoint, parse_checkpoint
from node.core.disclosure import STATEMENT_KINDS
from node.core.entry import PAGE_BYTES_AIM, PAGE_ENTRIES_MAX, LogPage, Opening
from node.core.merkle import EMPTY_ROOT, TILE_WIDTH, Frontier, Tree, format_frontier, parse_frontier
from node.core.mirror import AcceptedOpening, AcceptedPage
from node.core.record import Record
from node.core.roster import Head
from node.errors import NotFoundError, StoreError
from node.store.clients import note_push
from node.store.database import Database
from node.store.effects import admit_openings, apply_effects
from node.store.late import readable_at_once
from node.store.owed import delete_openings
from node.store.rows import OPENING_COLUMNS, OpeningTuple, accepted_tuple, opening_tuple
from node.store.tables import (
    STATUS_QUARANTINED,
    CheckpointRow,
    CursorRow,
    EntryRow,
    LogRow,
    OpeningRow,
    TileRow,
    position_of,
    table_of,
)

_LOG, _ENTRY, _TILE, _OPENING = table_of(LogRow), table_of(EntryRow), table_of(TileRow), table_of(OpeningRow)
_CURSOR, _CHECKPOINT = table_of(CursorRow), table_of(CheckpointRow)

FAULT_CONTRADICTION = "another record of this log has the same kind, key and revision"


@dataclass(frozen=True, slots=True)
class LogState:
    """One row of the table `log`: the verified head and the tree over everything stored."""

    id: int
    origin: str
    member: str
    head_size: int
    head_note: bytes
    head_frontier: Frontier
    head_ms: int
    staged: Frontier
    staged_bytes: int
    last_sequence: int

    @property
    def signed_size(self) -> int:
        """Size of the signed head. Only of the own log may more be seen: what is pushed before peers have told."""
        return int(self.head_note.split(b"\n", 2)[1]) if self.head_note else 0

    @property
    def unsigned(self) -> int:
        """How many entries of the own log no checkpoint covers yet."""
        return self.head_size - self.signed_size

    @property
    def head(self) -> SignedCheckpoint | None:
        """The verified checkpoint, with the author's signature alone."""
        return parse_checkpoint(self.head_note) if self.head_note else None


class NewEntry(NamedTuple):
    """An entry of the own log, ready to be written."""

    commitment: bytes
    salt: bytes
    record: Record


class LogStore:
    """Reads and writes logs; every write is one transaction."""

    def __init__(self, database: Database) -> None:
        """Use an open database. `contradicted` are the logs in which a contradiction was stored and not yet looked at."""
        self._database = database
        self.contradicted: set[int] = set()

    def open_log(self, origin: str, member: str) -> LogState:
        """The log with this origin; an empty one is made when there is none."""
        found = self.find_log(origin)
        if found is not None:
            return found
        with self._database.write() as connection:
            connection.execute(insert(_LOG), LogRow(origin=origin, member=member).model_dump(exclude={"id"}))
            return load_state(connection, _LOG.c.origin == origin)

    def find_log(self, origin: str) -> LogState | None:
        """The log with this origin, if it is held."""
        with self._database.read() as connection:
            row = connection.execute(select(_LOG).where(_LOG.c.origin == origin)).one_or_none()
        return None if row is None else _state(row)

    def head_of(self, member: str, size: int | None = None) -> Head:
        """Size and root of what is verified here of a member's log (0 when nothing is), or of its first `size` entries.

        Raises:
            NotFoundError: fewer than `size` entries are verified here.
        """
        with self._database.read() as connection:
            row = connection.execute(select(_LOG).where(_LOG.c.member == member)).one_or_none()
        signed = _state(row).head if row is not None else None
        verified = signed.size if signed is not None else 0
        if size is not None and size > verified:
            raise NotFoundError(
                f"{verified} entries of {member} are verified here, not {size}", hint=f"name a size up to {verified}"
            )
        if row is not None and size is not None:
            return Head(size, self.tree(row.id).root(size))
        return Head(0, EMPTY_ROOT) if signed is None else Head(signed.size, signed.root)

    def load_log(self, log_id: int) -> LogState:
        """The log with this number."""
        with self._database.read() as connection:
            return load_state(connection, _LOG.c.id == log_id)

    def load_logs(self) -> list[LogState]:
        """Every log held, by origin; the places where a recovery works (`store.rebase`) have no member and are none."""
        with self._database.read() as connection:
            rows = connection.execute(select(_LOG).where(_LOG.c.member != "").order_by(_LOG.c.origin))
            return [_state(row) for row in rows]

    def append(
        self,
        log: LogState,
        entries: Sequence[NewEntry],
        *,
        frontier: Frontier,
        tiles: Sequence[bytes],
        signed: SignedCheckpoint | None,
        now_ms: int,
        client: str = "",
    ) -> LogState:
        """Append to the own log: entries, openings, who pushed them and the checkpoint that covers them, in one transaction.

        Without a checkpoint the entries are seen here, and the signed head stays where it is.

        Raises:
            StoreError: the log is no longer as `log` says (compare-and-set), or the database refused.
            UnauthenticatedError: the client was revoked in the meantime.
        """
        with self._database.write() as connection:
            current = load_state(connection, _LOG.c.id == log.id)
            if current.head_size != log.head_size:
                raise StoreError(f"{log.origin} grew to {current.head_size} while entries were made for {log.head_size}")
            first, sequence = position_of(log.id, log.head_size), current.last_sequence
            commitments = [entry.commitment for entry in entries]
            self.insert_entries(connection, log.id, log.head_size, commitments, tiles)
            rows = [
                opening_tuple(first + i, log.id, sequence + 1 + i, entry.salt, entry.record)
                for i, entry in enumerate(entries)
            ]
            self._database.insert_rows(connection, _OPENING, OPENING_COLUMNS, rows)
            note_push(connection, first, len(rows), client=client, now_ms=now_ms)
            state = replace(current, staged=frontier, last_sequence=sequence + len(rows))
            return _with_effects(connection, move_head(connection, state, signed, now_ms), log.head_size)

    def stage(self, log: LogState, page: AcceptedPage, *, server: str) -> LogState:
        """Store a verified page beyond the head. It stays invisible until `accept_head`.

        Raises:
            StoreError: the staged tree is not the one the page continues, or the database refused.
        """
        with self._database.write() as connection:
            current = load_state(connection, _LOG.c.id == log.id)
            state = save_state(connection, self._stage(connection, current, log, page, server))
            return _with_late_effects(connection, state, page, current.head_size)

    def accept_head(
        self, log: LogState, page: AcceptedPage | None, signed: SignedCheckpoint, *, server: str, now_ms: int
    ) -> LogState:
        """Store the last page, if one is missing, and move the head to `signed`, in one transaction.

        Raises:
            StoreError: the entries stored are not those of the checkpoint, or the database refused.
        """
        with self._database.write() as connection:
            state = load_state(connection, _LOG.c.id == log.id)
            head_size = state.head_size
            if page is not None:
                state = self._stage(connection, state, log, page, server)
            if state.staged.size != signed.size or state.staged.root() != signed.root:
                raise StoreError(f"{log.origin}: what is stored does not have the root signed for {signed.size}")
            state = move_head(connection, state, signed, now_ms)
            if page is not None:
                state = _with_late_effects(connection, state, page, head_size)
            return _with_effects(connection, state, head_size)

    def drop_staged(self, log: LogState) -> LogState:
        """Delete everything beyond the head. Cursors stay: pages bring the openings again, whatever their number."""
        with self._database.write() as connection:
            current = load_state(connection, _LOG.c.id == log.id)
            low, high = position_of(log.id, current.head_size), position_of(log.id + 1, 0)
            connection.execute(delete(_ENTRY).where(_ENTRY.c.position >= low, _ENTRY.c.position < high))
            delete_openings(connection, _OPENING.c.position >= low, _OPENING.c.position < high, staged=True)
            tiles = position_of(log.id, current.head_size // TILE_WIDTH)
            connection.execute(delete(_TILE).where(_TILE.c.position >= tiles, _TILE.c.position < high))
            return save_state(connection, replace(current, staged=current.head_frontier, staged_bytes=0))

    def last_sequence_from(self, log_id: int, server: str) -> int:
        """Up to which of its sequence numbers one peer says it has sent everything of a log; 0 for none."""
        statement = select(_CURSOR.c.sequence).where(_CURSOR.c.log_id == log_id, _CURSOR.c.server == server)
        with self._database.read() as connection:
            return connection.execute(statement).scalar() or 0

    def commitment_at(self, log_id: int, index: int) -> bytes | None:
        """One stored commitment, verified or staged."""
        statement = select(_ENTRY.c.commitment).where(_ENTRY.c.position == position_of(log_id, index))
        with self._database.read() as connection:
            found: bytes | None = connection.execute(statement).scalar()
        return found

    def read_page(self, log: LogState, *, start: int, stop: int, reader: str) -> LogPage:
        """Entries from `start`, at most to `stop` (exclusive), 1,000 or about 1 MiB, with the openings `reader` may have.

        Those that only a grant opens are not among them: they come after the grant (`LateStore`).
        """
        stop = min(stop, start + PAGE_ENTRIES_MAX)
        low = position_of(log.id, start)
        commitments: list[bytes] = []
        openings: list[Opening] = []
        size = 0
        joined = _ENTRY.outerjoin(
            _OPENING, (_OPENING.c.position == _ENTRY.c.position) & readable_at_once(reader, log.member)
        )
        statement = (
            select(_ENTRY.c.commitment, _OPENING.c.sequence, _OPENING.c.salt, _OPENING.c.record)
            .select_from(joined)
            .where(_ENTRY.c.position >= low, _ENTRY.c.position < position_of(log.id, stop))
            .order_by(_ENTRY.c.position)
        )
        with self._database.read() as connection:
            for commitment, sequence, salt, record in connection.execute(statement):
                if record is not None:
                    openings.append(Opening(start + len(commitments), salt, record, sequence))
                    size += len(record)
                commitments.append(commitment)
                if size >= PAGE_BYTES_AIM:
                    break
        return LogPage(start, b"".join(commitments), openings)

    def tree(self, log_id: int) -> Tree:
        """Proofs over what is stored of a log."""

        def entries(low: int, high: int) -> Sequence[bytes]:
            return self._read_range(_ENTRY.c.commitment, _ENTRY.c.position, log_id, low, high)

        def tiles(low: int, high: int) -> Sequence[bytes]:
            return self._read_range(_TILE.c.root, _TILE.c.position, log_id, low, high)

        return Tree(entries, tiles)

    def _stage(self, connection: Connection, current: LogState, log: LogState, page: AcceptedPage, server: str) -> LogState:
        """Insert the page; the log's row is still to be saved."""
        if current.staged != log.staged:
            raise StoreError(f"{log.origin}: the staged tree changed while a page was verified")
        self.insert_entries(connection, log.id, current.staged.size, page.commitments, page.tiles)
        state = self._insert_openings(connection, current, page.openings)
        if page.cursor:
            self._save_cursor(connection, log.id, server, page.cursor)
        return replace(state, staged=page.frontier, staged_bytes=state.staged_bytes + page.size_bytes)

    def insert_entries(
        self, connection: Connection, log_id: int, start: int, commitments: Sequence[bytes], tiles: Sequence[bytes]
    ) -> None:
        """Write commitments from index `start` on, and the tiles that became full, inside a transaction."""
        first, first_tile = position_of(log_id, start), position_of(log_id, start // TILE_WIDTH)
        columns = ("position", "commitment")
        self._database.insert_rows(connection, _ENTRY, columns, list(enumerate(commitments, first)))
        self._database.insert_rows(connection, _TILE, ("position", "root"), list(enumerate(tiles, first_tile)))

    def _insert_openings(self, connection: Connection, log: LogState, openings: Sequence[AcceptedOpening]) -> LogState:
        rows = [accepted_tuple(log.id, log.last_sequence + 1 + i, accepted) for i, accepted in enumerate(openings)]
        end = position_of(log.id, log.head_size)
        if late := [row for row in rows if row[0] < end]:
            rows = [*admit_openings(connection, log.id, late), *(row for row in rows if row[0] >= end)]
        written = self._database.insert_rows(connection, _OPENING, OPENING_COLUMNS, rows, prefix="OR IGNORE")
        if written != len(rows):
            self._quarantine_contradictions(connection, rows)
        return replace(log, last_sequence=log.last_sequence + len(openings))

    def _quarantine_contradictions(self, connection: Connection, rows: Sequence[OpeningTuple]) -> None:
        """Rows that did not go in are either there already, or say again what one (kind, key, revision) said before."""
        positions = [row[0] for row in rows]
        statement = select(_OPENING.c.position).where(_OPENING.c.position.in_(positions))
        present = set(connection.execute(statement).scalars())
        fault = FAULT_CONTRADICTION
        again = [(*row[:3], STATUS_QUARANTINED, *row[4:8], fault, *row[9:]) for row in rows if row[0] not in present]
        self._database.insert_rows(connection, _OPENING, OPENING_COLUMNS, again)
        self.contradicted.update(row[1] for row in again)

    def _save_cursor(self, connection: Connection, log_id: int, server: str, sequence: int) -> None:
        # Also a smaller one: a server that was restored counts on from where its backup was made.
        columns = ("log_id", "server", "sequence")
        self._database.insert_rows(connection, _CURSOR, columns, [(log_id, server, sequence)], prefix="OR REPLACE")

    def _read_range(
        self, column: ColumnElement[bytes], position: ColumnElement[int], log_id: int, low: int, high: int
    ) -> Sequence[bytes]:
        statement = (
            select(column)
            .where(position >= position_of(log_id, low), position < position_of(log_id, high))
            .order_by(position)
        )
        with self._database.read() as connection:
            found = connection.execute(statement).scalars().all()
        if len(found) != high - low:
            raise StoreError(f"log {log_id}: {high - low - len(found)} of the entries {low} to {high} are missing")
        return found


def _with_effects(connection: Connection, state: LogState, head_size: int) -> LogState:
    """The log after the grants and erasures that became visible beyond `head_size`."""
    if apply_effects(connection, state.id, head_size, state.head_size):
        return load_state(connection, _LOG.c.id == state.id)
    return state


def _with_late_effects(connection: Connection, state: LogState, page: AcceptedPage, head_size: int) -> LogState:
    """The log after the grants and erasures whose openings came late, with this page."""
    for opening, record, _ in page.openings:
        late = record is not None and opening.index < head_size and record.kind in STATEMENT_KINDS
        if late and apply_effects(connection, state.id, opening.index, opening.index + 1):
            state = load_state(connection, _LOG.c.id == state.id)
    return state


def load_state(connection: Connection, condition: ColumnElement[bool]) -> LogState:
    """The row of one log, inside a transaction.

    Raises:
        NotFoundError: there is none.
    """
    row = connection.execute(select(_LOG).where(condition)).one_or_none()
    if row is None:
        raise NotFoundError("no such log is held here")
    return _state(row)


def _state(row: Row[tuple[object, ...]]) -> LogState:
    return LogState(
        id=row.id,
        origin=row.origin,
        member=row.member,
        head_size=row.head_size,
        head_note=row.head_note,
        head_frontier=parse_frontier(row.head_size, row.head_frontier),
        head_ms=row.head_ms,
        staged=parse_frontier(row.staged_size, row.staged_frontier),
        staged_bytes=row.staged_bytes,
        last_sequence=row.last_sequence,
    )


def save_state(connection: Connection, state: LogState) -> LogState:
    """Write the row of one log, inside a transaction."""
    connection.execute(
        update(_LOG)
        .where(_LOG.c.id == state.id)
        .values(
            head_size=state.head_size,
            head_note=state.head_note,
            head_frontier=format_frontier(state.head_frontier),
            head_ms=state.head_ms,
            staged_size=state.staged.size,
            staged_frontier=format_frontier(state.staged),
            staged_bytes=state.staged_bytes,
            last_sequence=state.last_sequence,
        )
    )
    return state


def move_head(connection: Connection, state: LogState, signed: SignedCheckpoint | None, now_ms: int) -> LogState:
    """Make everything staged visible; with a checkpoint over exactly that, the signed head moves, too."""
    if signed is not None:
        row = {"log_id": state.id, "size": signed.size, "note": bytes(signed), "made_ms": now_ms}
        connection.execute(insert(_CHECKPOINT), row)
    return save_state(
        connection,
        replace(
            state,
            head_size=state.staged.size,
            head_note=state.head_note if signed is None else bytes(signed),
            head_frontier=state.staged,
            head_ms=now_ms,
            staged_bytes=0,
        ),
    )
