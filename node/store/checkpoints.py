"""Verified checkpoints and the cosignatures on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Connection, delete, func, insert, select, update

from node.core.checkpoint import Checkpoint, Cosignature, SignedCheckpoint, parse_checkpoint
from node.core.note import NOTE_SIZE_MAX, SIGNATURES_MAX, parse_note
from node.store.database import Database
from node.store.logs import LogState
from node.store.tables import CheckpointRow, CosignatureRow, LogRow, table_of

_CHECKPOINT, _COSIGNATURE, _LOG = table_of(CheckpointRow), table_of(CosignatureRow), table_of(LogRow)


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

    def find_largest_quorum_size(self, log_id: int, *, quorum: int, witnesses: Iterable[str]) -> int:
        """Size of the largest checkpoint that `quorum` of the witnesses cosigned; 0 when there is none."""
        statement = (
            select(_COSIGNATURE.c.size)
            .where(_COSIGNATURE.c.log_id == log_id, _COSIGNATURE.c.witness.in_(list(witnesses)))
            .group_by(_COSIGNATURE.c.size)
            .having(func.count() >= quorum)
            .order_by(_COSIGNATURE.c.size.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(statement).scalar() or 0

    def renew(self, log: LogState, *, above: int, sign: Callable[[Checkpoint], SignedCheckpoint]) -> None:
        """Sign the checkpoints of the own log beyond size `above` again, with the same sizes and roots.

        Cosignatures stay: they are about size and root, not about the key.
        """
        beyond = (_CHECKPOINT.c.log_id == log.id) & (_CHECKPOINT.c.size > above)
        with self._database.write() as connection:
            for size, note in connection.execute(select(_CHECKPOINT.c.size, _CHECKPOINT.c.note).where(beyond)).all():
                renewed = bytes(sign(parse_checkpoint(note).checkpoint))
                here = (_CHECKPOINT.c.log_id == log.id) & (_CHECKPOINT.c.size == size)
                connection.execute(update(_CHECKPOINT).where(here).values(note=renewed))
            head = log.head
            if head is not None and head.size > above:
                self._save_head(connection, log.id, sign(head.checkpoint))

    def forget_beyond(self, log_id: int, size: int) -> None:
        """Delete the checkpoints beyond `size` of a mirrored log, with their cosignatures: their key was revoked there."""
        with self._database.write() as connection:
            for table in (_COSIGNATURE, _CHECKPOINT):
                connection.execute(delete(table).where(table.c.log_id == log_id, table.c.size > size))

    def replace_head(self, log_id: int, signed: SignedCheckpoint, *, now_ms: int) -> None:
        """Write the verified head of a mirrored log as another key of its author has signed it."""
        row = {"log_id": log_id, "size": signed.size, "note": bytes(signed), "made_ms": now_ms}
        with self._database.write() as connection:
            here = (_CHECKPOINT.c.log_id == log_id) & (_CHECKPOINT.c.size == signed.size)
            connection.execute(delete(_CHECKPOINT).where(here))
            connection.execute(insert(_CHECKPOINT), row)
            self._save_head(connection, log_id, signed)

    def _save_head(self, connection: Connection, log_id: int, signed: SignedCheckpoint) -> None:
        connection.execute(update(_LOG).where(_LOG.c.id == log_id).values(head_note=bytes(signed)))


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
