"""Evidence on disk: verified files, who has them, and the contradictions that a log's openings hold.

| table | may it be lost? | is it trusted? |
| --- | --- | --- |
| evidence | not what stands: who is proved to have lied may hide one of the statements now | judged again at each start |
| evidence_told | yes: a peer that has a piece says so | no |

A contradiction shows two records, so it goes with either of them when that is erased (`node.store.effects`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import and_, delete, select

from node.core.evidence import Exhibit
from node.store.database import Database
from node.store.logs import FAULT_CONTRADICTION
from node.store.owed import owe_sweep
from node.store.tables import (
    STATUS_QUARANTINED,
    ErasureRow,
    EvidenceRow,
    EvidenceToldRow,
    LogRow,
    OpeningRow,
    index_of,
    position_of,
    table_of,
)

CONTRADICTIONS_MAX = 64

_EVIDENCE, _TOLD = table_of(EvidenceRow), table_of(EvidenceToldRow)
_LOG, _OPENING, _ERASURE = table_of(LogRow), table_of(OpeningRow), table_of(ErasureRow)
_HELD = _OPENING.alias("held")


class EvidenceEntry(NamedTuple):
    """One row without its file; `found_ms` are milliseconds since 1970."""

    id: str
    kind: str
    member: str
    found_ms: int


class StoredEvidence(NamedTuple):
    """One row; `found_ms` are milliseconds since 1970."""

    id: str
    kind: str
    member: str
    found_ms: int
    file: bytes


class Contradiction(NamedTuple):
    """Two entries of one log with the id `record`: the one kept, and the one quarantined, whose number is `sequence`.

    `verified` is false while one of them only waits for a head that covers it.
    """

    sequence: int
    record: str
    verified: bool
    kept: Exhibit
    again: Exhibit


class EvidenceStore:
    """Reads and writes evidence. Only verified files come in."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def save(
        self,
        evidence_id: str,
        *,
        kind: str,
        member: str,
        found_ms: int,
        file: bytes,
        shows: Collection[int] = (),
        instead_of: Collection[str] = (),
    ) -> bool:
        """Write a verified file, and delete those it takes the place of; one that is there already stays as it is.

        Returns:
            False, and nothing was written, when one of the positions whose records it shows was erased.
        """
        row = (evidence_id, kind, member, found_ms, file)
        columns = ("id", "kind", "member", "found_ms", "file")
        erased = select(_ERASURE.c.position).where(_ERASURE.c.position.in_(list(shows))).limit(1)
        with self._database.write() as connection:
            if connection.execute(erased).scalar() is not None:
                return False
            self._database.insert_rows(connection, _EVIDENCE, columns, [row], prefix="OR IGNORE")
            if instead_of:
                connection.execute(delete(_EVIDENCE).where(_EVIDENCE.c.id.in_(list(instead_of))))
                connection.execute(delete(_TOLD).where(_TOLD.c.evidence_id.in_(list(instead_of))))
                owe_sweep(connection)  # a record that they showed may be erased later
        return True

    def load(self) -> list[StoredEvidence]:
        """Every file, the oldest first."""
        columns = [_EVIDENCE.c[name] for name in StoredEvidence._fields]
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).order_by(_EVIDENCE.c.found_ms, _EVIDENCE.c.id)).all()
        return [StoredEvidence(*row) for row in rows]

    def load_entries(self) -> list[EvidenceEntry]:
        """What there is, without the files, the oldest first."""
        columns = [_EVIDENCE.c[name] for name in EvidenceEntry._fields]
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).order_by(_EVIDENCE.c.found_ms, _EVIDENCE.c.id)).all()
        return [EvidenceEntry(*row) for row in rows]

    def find(self, evidence_id: str) -> bytes | None:
        """One file."""
        with self._database.read() as connection:
            file: bytes | None = connection.execute(select(_EVIDENCE.c.file).where(_EVIDENCE.c.id == evidence_id)).scalar()
        return file

    def save_told(self, evidence_id: str, member: str) -> None:
        """Note that a member has a piece."""
        with self._database.write() as connection:
            self._database.insert_rows(
                connection, _TOLD, ("evidence_id", "member"), [(evidence_id, member)], prefix="OR IGNORE"
            )

    def forget_told(self, evidence_ids: Collection[str], member: str) -> None:
        """A member does not have these pieces any more."""
        here = (_TOLD.c.member == member) & _TOLD.c.evidence_id.in_(list(evidence_ids))
        with self._database.write() as connection:
            connection.execute(delete(_TOLD).where(here))

    def load_told(self, member: str) -> set[str]:
        """Ids of the pieces that a member has, as far as is known here."""
        with self._database.read() as connection:
            return set(connection.execute(select(_TOLD.c.evidence_id).where(_TOLD.c.member == member)).scalars())

    def load_ids(self) -> set[str]:
        """The ids of all that is there."""
        with self._database.read() as connection:
            return set(connection.execute(select(_EVIDENCE.c.id)).scalars())

    def find_contradictions(self, log_id: int, *, after: int = 0) -> list[Contradiction]:
        """Pairs of entries of one log with one kind, key and revision, in the order in which they came: the next few.

        Args:
            log_id: the log.
            after: the sequence number of the last pair that was looked at; whatever is stored later has a greater one.
        """
        same_id = and_(
            _HELD.c.log_id == _OPENING.c.log_id,
            _HELD.c.kind == _OPENING.c.kind,
            _HELD.c.key == _OPENING.c.key,
            _HELD.c.revision == _OPENING.c.revision,
            _HELD.c.status < STATUS_QUARANTINED,
        )
        columns = [table.c[name] for table in (_HELD, _OPENING) for name in ("position", "salt", "record")]
        columns += [_OPENING.c[name] for name in ("sequence", "kind", "key", "revision")]
        with self._database.read() as connection:
            size, member = connection.execute(select(_LOG.c.head_size, _LOG.c.member).where(_LOG.c.id == log_id)).one()
            end = position_of(log_id, size)
            statement = (
                select(*columns)
                .join_from(_OPENING, _HELD, same_id)
                .where(
                    # `status > 0` is the condition of the partial index; SQLite does not infer it from the equality.
                    _OPENING.c.status > 0,
                    _OPENING.c.status == STATUS_QUARANTINED,
                    _OPENING.c.log_id == log_id,
                    _OPENING.c.fault == FAULT_CONTRADICTION,
                    _OPENING.c.record != _HELD.c.record,
                    _OPENING.c.sequence > after,
                )
                .order_by(_OPENING.c.sequence)
                .limit(CONTRADICTIONS_MAX)
            )
            rows = connection.execute(statement).all()
        return [
            Contradiction(
                sequence=row.sequence,
                record=f"{member}/{row.kind}/{row.key}@{row.revision}",
                verified=max(row[0], row[3]) < end,
                kept=Exhibit(index_of(row[0]), row[1], row[2]),
                again=Exhibit(index_of(row[3]), row[4], row[5]),
            )
            for row in rows
        ]

    def load_audiences(self, log_id: int, indexes: Iterable[int]) -> list[str]:
        """The effective audiences of those of these entries that are opened here, as the table `opening` keeps them."""
        positions = [position_of(log_id, index) for index in indexes]
        with self._database.read() as connection:
            found = connection.execute(select(_OPENING.c.audience).where(_OPENING.c.position.in_(positions)))
            return list(found.scalars())
