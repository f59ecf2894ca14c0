"""Verified checkpoints and the cosignatures on them."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from node.core.checkpoint import Cosignature, SignedCheckpoint, parse_checkpoint
from node.core.note import NOTE_SIZE_MAX, SIGNATURES_MAX, parse_note
from node.store.database import Database
from node.store.tables import CheckpointRow, CosignatureRow, table_of

_CHECKPOINT, _COSIGNATURE = table_of(CheckpointRow), table_of(CosignatureRow)


class CheckpointStore:
    """Reads checkpoints with their cosignatures; writes cosignatures. Checkpoints are written with their entries."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def find(self, log_id: int, size: int) -> SignedCheckpoint | None:
        """The held checkpoint of exactly this size, with every cosignature known."""
        with self._database.read() as connection:
            return _with_cosignatures(connection, log_id, size)

    def choose(self, log_id: int, *, start: int, entries_max: int, ceiling: int) -> SignedCheckpoint | None:
        """The checkpoint to lead a reader to who has `start` entries.

        The newest up to `ceiling` and `start + entries_max`; when a single step is larger than that, the next one.
        """
        column = _CHECKPOINT.c.size
        reachable = select(func.max(column)).where(
            _CHECKPOINT.c.log_id == log_id, column <= min(ceiling, start + entries_max)
        )
        following = select(func.min(column)).where(_CHECKPOINT.c.log_id == log_id, column > start, column <= ceiling)
        with self._database.read() as connection:
            size = connection.execute(reachable).scalar()
            if size is None or size <= start < ceiling:
                size = connection.execute(following).scalar() or size
            return None if size is None else _with_cosignatures(connection, log_id, size)

    def save_cosignatures(self, log_id: int, size: int, cosignatures: dict[str, Cosignature]) -> int:
        """Write verified cosignatures of a held checkpoint, the first of each witness; returns how many were new."""
        rows = [(log_id, size, member, item.time, str(item.line)) for member, item in cosignatures.items()]
        columns = ("log_id", "size", "witness", "time", "line")
        with self._database.write() as connection:
            return self._database.insert_rows(connection, _COSIGNATURE, columns, rows, prefix="OR IGNORE")

    def find_quorum_size(self, log_id: int, *, index: int, quorum: int, witnesses: Iterable[str]) -> int | None:
        """Size of the smallest checkpoint that covers entry `index` and that `quorum` of the witnesses cosigned."""
        statement = (
            select(_COSIGNATURE.c.size)
            .where(
                _COSIGNATURE.c.log_id == log_id,
                _COSIGNATURE.c.size > index,
                _COSIGNATURE.c.witness.in_(list(witnesses)),
            )
            .group_by(_COSIGNATURE.c.size)
            .having(func.count() >= quorum)
            .order_by(_COSIGNATURE.c.size)
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(statement).scalar()


def _with_cosignatures(connection: Connection, log_id: int, size: int) -> SignedCheckpoint | None:
    here = (_CHECKPOINT.c.log_id == log_id) & (_CHECKPOINT.c.size == size)
    note = connection.execute(select(_CHECKPOINT.c.note).where(here)).scalar()
    if note is None:
        return None
    signed = parse_checkpoint(note)
    statement = (
        select(_COSIGNATURE.c.line)
        .where(_COSIGNATURE.c.log_id == log_id, _COSIGNATURE.c.size == size)
        .order_by(_COSIGNATURE.c.time, _COSIGNATURE.c.witness)
        .limit(SIGNATURES_MAX - len(signed.note.signatures))
    )
    room = NOTE_SIZE_MAX - len(note)
    lines = []
    for line in connection.execute(statement).scalars():
        room -= len(line.encode()) + 1
        if room < 0:
            break
        lines.append(f"{line}\n")
    if not lines:
        return signed
    return signed.with_lines(parse_note(f"x\n\n{''.join(lines)}".encode()).signatures)
