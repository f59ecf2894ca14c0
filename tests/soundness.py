"""What must hold of an own log on disk, whatever happened to its home."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import text

from node.core.checkpoint import parse_checkpoint, verify_checkpoint
from node.core.entry import COMMITMENT_SIZE, committer, split_commitments
from node.core.merkle import TILE_WIDTH, Frontier
from node.core.record import parse_record
from node.store.logs import LogState
from tests.alliance import SimulatedMember


def require_sound(member: SimulatedMember, *, gaps: bool = False) -> LogState:
    """Tree, tiles, checkpoints, openings and revisions fit each other, and nothing is left over from a recovery.

    `gaps`: revisions may skip, because entries were lost for a while when the next ones were numbered.
    """
    log = member.store.logs.load_log(member.ledger.log.id)
    assert log == member.ledger.log
    commitments = read_commitments(member, log)
    frontier, tiles = Frontier().extend(commitments)
    assert (log.head_size, log.head_frontier, log.staged, log.staged_bytes) == (frontier.size, frontier, frontier, 0)
    assert list(member.store.logs.tree(log.id).tiles(0, log.head_size // TILE_WIDTH)) == tiles
    _require_checkpoints(member, log, commitments)
    _require_openings(member, log, commitments, gaps=gaps)
    with member.store.database.read() as connection:
        found = connection.execute(text("SELECT count(*) FROM log WHERE member = '' AND origin <> 'forgotten'")).scalar_one()
        assert found == 0
        for table in ("entry", "opening"):
            high = log.id + 1 << 40
            beyond = f"SELECT count(*) FROM {table} WHERE position >= :low AND position < :high"
            between = {"low": (log.id << 40) + log.head_size, "high": high}
            assert connection.execute(text(beyond), between).scalar_one() == 0
            stray = f"SELECT count(*) FROM {table} WHERE position >> 40 NOT IN (SELECT id FROM log)"
            assert connection.execute(text(stray)).scalar_one() == 0
    return log


def read_commitments(member: SimulatedMember, log: LogState) -> list[bytes]:
    """Every commitment of a log."""
    found: list[bytes] = []
    while len(found) < log.head_size:
        page = member.store.logs.read_page(log, start=len(found), stop=log.head_size, reader=member.name)
        found += split_commitments(page.commitments)
        assert len(page.commitments) >= COMMITMENT_SIZE
    return found


def _require_checkpoints(member: SimulatedMember, log: LogState, commitments: list[bytes]) -> None:
    with member.store.database.read() as connection:
        notes = connection.execute(text("SELECT size, note FROM checkpoint WHERE log_id = :id"), {"id": log.id}).all()
    for size, note in notes:
        signed = parse_checkpoint(note)
        verify_checkpoint(signed, member.membership.own_card[1].log_key_at(signed.size, signed.root))
        assert (signed.size, signed.root) == (size, Frontier().extend(commitments[:size])[0].root())
    assert max((size for size, _ in notes), default=0) == log.signed_size


def _require_openings(member: SimulatedMember, log: LogState, commitments: list[bytes], *, gaps: bool) -> None:
    commit = committer(log.origin)
    revisions: dict[tuple[str, str], list[int]] = defaultdict(list)
    sequences = []
    with member.store.database.read() as connection:
        statement = "SELECT * FROM opening WHERE log_id = :id ORDER BY position"
        rows = connection.execute(text(statement), {"id": log.id}).all()
    for row in rows:
        assert commit(row.salt, row.record) == commitments[row.position & (1 << 40) - 1]
        record = parse_record(row.record, author=member.name, kinds=member.kinds)
        assert (row.kind, row.key, row.revision) == (record.kind, record.key, record.revision)
        revisions[record.kind, record.key].append(record.revision)
        sequences.append(row.sequence)
    assert len(set(sequences)) == len(sequences) and max(sequences, default=0) <= log.last_sequence
    assert all(found == sorted(set(found)) for found in revisions.values())
    if len(rows) == log.head_size and not gaps:
        assert all(found == list(range(1, len(found) + 1)) for found in revisions.values())
