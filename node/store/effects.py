"""What verified grants and erasures do to openings: the one place, for the own log, mirrors and recovered logs alike.

Everything happens in the transaction that makes the statement, or the opening, visible. The order in which the two arrive
does not matter: a statement works on what is held (`apply_effects`), and what comes later is looked at before it is written
(`admit_openings`), so the opening of an erased entry never reaches the disk again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, delete, insert, literal_column, select, text, update

from node.clock import milliseconds
from node.core.canonical import Json
from node.core.disclosure import ERASURE, GRANT, Erasure, Grant, parse_statement
from node.core.evidence import parse_evidence
from node.core.proof import parse_tlog_proof
from node.core.times import parse_milliseconds
from node.store.owed import read_owed
from node.store.rows import OpeningTuple, parse_audience, widen_audience
from node.store.tables import (
    STATUS_VISIBLE,
    ErasureRow,
    EvidenceRow,
    EvidenceToldRow,
    LogRow,
    OpeningRow,
    index_of,
    position_of,
    table_of,
)

_LOG, _OPENING, _ERASURE = table_of(LogRow), table_of(OpeningRow), table_of(ErasureRow)
_EVIDENCE, _TOLD = table_of(EvidenceRow), table_of(EvidenceToldRow)
_NEAR_MAX = 2000
_INDEXES_PER_QUERY = 500

# A short range is read by position; in a long one the few statements are found by their kind.
_NEAR = text(
    "SELECT position, record FROM opening WHERE position >= :low AND position < :high"
    " AND kind || '' IN ('grant', 'erasure') AND status = 0 ORDER BY position"
)
_FAR = text(
    "SELECT position, record FROM opening WHERE log_id = :log_id AND kind IN ('grant', 'erasure')"
    " AND status < 2 AND status = 0 AND +position >= :low AND +position < :high ORDER BY position"
)


ErasedId = tuple[str, str, int]
"""Kind, key and revision of the record that an erasure names."""


class SaidErasure(NamedTuple):
    """A visible erasure, the entry where it stands, its time, and everybody who reads it beside the author."""

    statement_index: int
    erasure: Erasure
    published_ms: int
    audience: tuple[str, ...]


def apply_effects(connection: Connection, log_id: int, low: int, high: int) -> bool:
    """Let the visible grants and erasures among the entries low…high-1 of a log take effect.

    To be called in a write transaction, after the log's row says what is visible. Applying twice changes nothing.

    Returns:
        Whether anything changed; then the log's `last_sequence` may have moved.
    """
    head_size, last = connection.execute(select(_LOG.c.head_size, _LOG.c.last_sequence).where(_LOG.c.id == log_id)).one()
    stop = min(high, head_size)
    bounds = {"low": position_of(log_id, low), "high": position_of(log_id, stop)}
    near = stop - low <= _NEAR_MAX
    found = connection.execute(_NEAR if near else _FAR, bounds if near else bounds | {"log_id": log_id}).all()
    changed, sequence = False, last
    for position, record in found:
        content = orjson.loads(record)
        statement = parse_statement(content, index=index_of(position))
        if isinstance(statement, Grant):
            widened = _widen(connection, log_id, statement, sequence + 1)
            sequence += widened
            changed |= widened
        elif statement is not None:
            changed |= _erase(connection, log_id, statement, _published_ms(content), index_of(position))
    if sequence != last:
        connection.execute(update(_LOG).where(_LOG.c.id == log_id).values(last_sequence=sequence))
    return changed


def admit_openings(connection: Connection, log_id: int, rows: Sequence[OpeningTuple]) -> list[OpeningTuple]:
    """Rows of visible entries that arrive late, as they may be written: without the erased, with what was granted."""
    erased = _load_erased(connection, [row[0] for row in rows])
    kept = []
    for row in rows:
        if row[0] not in erased or not _stays_erased(connection, log_id, row, erased[row[0]]):
            kept.append(row)
    grants = load_grants(connection, log_id, [index_of(row[0]) for row in kept])
    return [_widened(row, grants.get(index_of(row[0]), ())) for row in kept]


def load_grants(connection: Connection, log_id: int, indexes: Collection[int]) -> dict[int, list[tuple[int, Grant]]]:
    """The visible grants of these entries, each with its own index, by the entry they open."""
    found: dict[int, list[tuple[int, Grant]]] = defaultdict(list)
    if not indexes or not _has_grants(connection, log_id):
        return found
    keys = [str(index) for index in indexes]
    for i in range(0, len(keys), _INDEXES_PER_QUERY):
        for index, grant in _select_grants(connection, log_id, _OPENING.c.key.in_(keys[i : i + _INDEXES_PER_QUERY])):
            found[grant.index].append((index, grant))
    return found


def load_grants_from(connection: Connection, log_id: int, start: int) -> list[tuple[int, Grant]]:
    """The visible grants among the entries from `start` on, each with its own index."""
    # By kind, not by position: there are few grants, and there may be very many entries.
    return _select_grants(connection, log_id, literal_column("+opening.position") >= position_of(log_id, start))


def load_erasures(connection: Connection, log_id: int, indexes: Collection[int]) -> dict[int, list[SaidErasure]]:
    """The visible erasures of these entries, in the order of the log, by the entry they erase."""
    found: dict[int, list[SaidErasure]] = defaultdict(list)
    keys = [str(index) for index in indexes]
    for i in range(0, len(keys), _INDEXES_PER_QUERY):
        condition = _OPENING.c.key.in_(keys[i : i + _INDEXES_PER_QUERY])
        for position, record, audience in _select_statements(connection, log_id, ERASURE, condition):
            content = orjson.loads(record)
            erasure = parse_statement(content, index=index_of(position))
            if isinstance(erasure, Erasure):
                said = SaidErasure(index_of(position), erasure, _published_ms(content), parse_audience(audience))
                found[erasure.index].append(said)
    return found


def _select_grants(connection: Connection, log_id: int, condition: object) -> list[tuple[int, Grant]]:
    found = []
    for position, record, _ in _select_statements(connection, log_id, GRANT, condition):
        grant = parse_statement(orjson.loads(record), index=index_of(position))
        if isinstance(grant, Grant):
            found.append((index_of(position), grant))
    return found


def _select_statements(connection: Connection, log_id: int, kind: str, condition: object) -> list[tuple[int, bytes, str]]:
    head = select(_LOG.c.head_size).where(_LOG.c.id == log_id)
    end = position_of(log_id, connection.execute(head).scalar_one())
    statement = (
        select(_OPENING.c.position, _OPENING.c.record, _OPENING.c.audience)
        .where(_OPENING.c.log_id == log_id, _OPENING.c.kind == kind, _OPENING.c.status == STATUS_VISIBLE)
        .where(text("opening.status < 2"), literal_column("+opening.position") < end, condition)  # type: ignore[arg-type]
        .order_by(_OPENING.c.position)
    )
    return [(position, record, audience) for position, record, audience in connection.execute(statement)]


def _has_grants(connection: Connection, log_id: int) -> bool:
    statement = (
        select(_OPENING.c.position)
        .where(_OPENING.c.log_id == log_id, _OPENING.c.kind == GRANT, text("opening.status < 2"))
        .limit(1)
    )
    return connection.execute(statement).scalar() is not None


def _widen(connection: Connection, log_id: int, grant: Grant, sequence: int) -> bool:
    here = _OPENING.c.position == position_of(log_id, grant.index)
    columns = (_OPENING.c.kind, _OPENING.c.key, _OPENING.c.revision, _OPENING.c.audience)
    row = connection.execute(select(*columns).where(here)).one_or_none()
    if row is None or tuple(row[:3]) != (grant.id.kind, grant.id.key, grant.id.revision):
        return False
    audience = widen_audience(row.audience, grant.members)
    if audience == row.audience:
        return False
    # Under a new number, so that readers who have the entry already are sent its opening.
    connection.execute(update(_OPENING).where(here).values(audience=audience, sequence=sequence))
    return True


def _widened(row: OpeningTuple, grants: Iterable[tuple[int, Grant]]) -> OpeningTuple:
    members = {
        member
        for _, grant in grants
        if (grant.id.kind, grant.id.key, grant.id.revision) == row[4:7]
        for member in grant.members
    }
    return (*row[:7], widen_audience(row[7], members), *row[8:]) if members else row


def _stays_erased(connection: Connection, log_id: int, row: OpeningTuple, noted: ErasedId) -> bool:
    """Whether an opening is of the record that an erasure names: the one that is noted, or any other of this entry."""
    if noted == row[4:7]:
        return True
    # The one that is noted names another record than the one that is there: it has no effect.
    connection.execute(delete(_ERASURE).where(_ERASURE.c.position == row[0]))
    for said in load_erasures(connection, log_id, [index_of(row[0])]).get(index_of(row[0]), ()):
        if _named(said.erasure) == row[4:7]:
            return _erase(connection, log_id, said.erasure, said.published_ms, said.statement_index)
    return False


def _erase(connection: Connection, log_id: int, erasure: Erasure, published_ms: int, statement_index: int) -> bool:
    """Delete the target's opening and remember that it is gone.

    The first erasure of a record counts. Where nothing is held, nobody can tell which of two ids is right: the later
    statement is noted, and both are looked at when the opening comes.
    """
    position, record_id = position_of(log_id, erasure.index), _named(erasure)
    here = _OPENING.c.position == position
    columns = (_OPENING.c.kind, _OPENING.c.key, _OPENING.c.revision)
    held = connection.execute(select(*columns).where(here)).one_or_none()
    if held is not None and tuple(held) != record_id:
        return False
    noted = connection.execute(select(_ERASURE).where(_ERASURE.c.position == position)).one_or_none()
    if noted is not None:
        if (noted.kind, noted.key, noted.revision) == record_id or noted.statement_index > statement_index:
            return False
        connection.execute(delete(_ERASURE).where(_ERASURE.c.position == position))
    connection.execute(delete(_OPENING).where(here))
    dropped = _drop_contradictions(connection, log_id, position, list(record_id))
    # What was never held here has left nothing to sweep; what was forgotten may have been this.
    swept = held is None and not dropped and not read_owed(connection).total and (noted is None or noted.swept)
    row = {"position": position, "log_id": log_id, "kind": record_id[0], "key": record_id[1], "revision": record_id[2]}
    said = {"reason": erasure.reason, "erased_ms": published_ms, "statement_index": statement_index}
    connection.execute(insert(_ERASURE), row | said | {"swept": swept, "told": False})
    return True


def _named(erasure: Erasure) -> tuple[str, str, int | None]:
    return erasure.id.kind, erasure.id.key, erasure.id.revision


def _published_ms(content: Mapping[str, Json]) -> int:
    return milliseconds(parse_milliseconds(content["published"]))


def _drop_contradictions(connection: Connection, log_id: int, position: int, record_id: list[str | int | None]) -> bool:
    """Delete the evidence that shows an erased record; returns whether there was any. There are few pieces."""
    member = select(_LOG.c.member).where(_LOG.c.id == log_id).scalar_subquery()
    pieces = select(_EVIDENCE.c.id, _EVIDENCE.c.file).where(
        _EVIDENCE.c.kind == "contradiction", _EVIDENCE.c.member == member
    )
    doomed = [
        evidence_id
        for evidence_id, file in connection.execute(pieces)
        if any(index == index_of(position) and named == record_id for index, named in _shown(file))
    ]
    for evidence_id in doomed:
        connection.execute(delete(_EVIDENCE).where(_EVIDENCE.c.id == evidence_id))
        connection.execute(delete(_TOLD).where(_TOLD.c.evidence_id == evidence_id))
    return bool(doomed)


def _shown(file: bytes) -> Iterator[tuple[int, list[str | int | None]]]:
    """Index, and kind, key and revision, of each of the two records in a contradiction."""
    statements = parse_evidence(file).statements
    for name in ("first", "second"):
        content = orjson.loads(statements[f"{name}.json"])
        proof = parse_tlog_proof(statements[f"{name}.tlog-proof"].decode())
        yield proof.index, [content["kind"], content["key"], content["revision"]]


def _load_erased(connection: Connection, positions: Sequence[int]) -> dict[int, ErasedId]:
    columns = (_ERASURE.c.position, _ERASURE.c.kind, _ERASURE.c.key, _ERASURE.c.revision)
    found = {}
    for i in range(0, len(positions), _INDEXES_PER_QUERY):
        statement = select(*columns).where(_ERASURE.c.position.in_(positions[i : i + _INDEXES_PER_QUERY]))
        found.update({row[0]: (row[1], row[2], row[3]) for row in connection.execute(statement)})
    return found
