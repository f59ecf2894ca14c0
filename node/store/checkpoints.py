"""Verified checkpoints and the cosignatures on them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, case, delete, false, func, insert, not_, select, update

from node.core.checkpoint import Checkpoint, Cosignature, SignedCheckpoint, parse_checkpoint
from node.core.keys import VerifierKey
from node.core.note import NOTE_SIZE_MAX, SIGNATURES_MAX, parse_note
from node.core.quorums import Quorum
from node.core.thinning import Held, superfluous
from node.core.witness import line_start, outlives
from node.store.database import Database
from node.store.logs import LogState
from node.store.seen import SIGNATURE_CHARACTERS, count_keys, count_seen, load_mark, raise_mark, seen_sizes
from node.store.tables import CheckpointRow, CosignatureRow, LogRow, table_of

_CHECKPOINT, _COSIGNATURE, _LOG = table_of(CheckpointRow), table_of(CosignatureRow), table_of(LogRow)
_BATCH = 500


@dataclass(frozen=True, slots=True)
class ThinningRule:
    """What is old (`before_ms`), what was thinned already (`since_ms`), who counts, and which sizes stay in any case.

    `retired` are witness keys that count no longer (`core.witness.retirements`).
    """

    before_ms: int
    quorum: int
    witnesses: Collection[str]
    keep: Collection[int] = ()
    since_ms: int = 0
    retired: Mapping[str, int] = field(default_factory=dict)


class CheckpointStore:
    """Reads checkpoints with their cosignatures; writes cosignatures, thins. Checkpoints are written with their entries."""

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

    def save_cosignatures(
        self,
        log_id: int,
        size: int,
        cosignatures: Mapping[str, Cosignature],
        *,
        void: Collection[str] = (),
        quorums: Sequence[Quorum] = (),
    ) -> int:
        """Write verified cosignatures of a held checkpoint, the first of each witness; returns how many were new.

        Those of the witnesses in `void`, which count for no bundle any more, are forgotten before; what one of the quorums
        (`core.quorums`) has seen with them is noted first, all in one transaction.
        """
        rows = [(log_id, size, member, item.time, str(item.line)) for member, item in cosignatures.items()]
        columns = ("log_id", "size", "witness", "time", "line")
        here = (_CHECKPOINT.c.log_id == log_id) & (_CHECKPOINT.c.size == size)
        with self._database.write() as connection:
            if connection.execute(select(_CHECKPOINT.c.size).where(here)).scalar() is None:
                return 0  # thinned in the meantime
            if void:
                raise_mark(connection, log_id, quorums, among=[size])
                given = (_COSIGNATURE.c.log_id == log_id) & (_COSIGNATURE.c.size == size)
                connection.execute(delete(_COSIGNATURE).where(given, _COSIGNATURE.c.witness.in_(list(void))))
            return self._database.insert_rows(connection, _COSIGNATURE, columns, rows, prefix="OR IGNORE")

    def save_own_cosignature(self, log: LogState, witness: str, cosignature: Cosignature) -> bool:
        """Write this node's cosignature of the head that it read, if that still is the head: compare-and-set.

        C2SP tlog-witness: what was cosigned last must be known when the next one is made, so that a slow request never gives
        a smaller head after a larger one. A cosignature that was not written must not leave the process.
        """
        row = (log.id, log.signed_size, witness, cosignature.time, str(cosignature.line))
        columns = ("log_id", "size", "witness", "time", "line")
        own = (_COSIGNATURE.c.log_id == log.id) & (_COSIGNATURE.c.witness == witness)
        with self._database.write() as connection:
            head = connection.execute(select(_LOG.c.head_note).where(_LOG.c.id == log.id)).scalar()
            last = connection.execute(select(func.max(_COSIGNATURE.c.size)).where(own)).scalar() or 0
            if _body(head or b"") != _body(log.head_note) or last > log.signed_size:
                return False
            return self._database.insert_rows(connection, _COSIGNATURE, columns, [row], prefix="OR IGNORE") > 0

    def newest_cosigned_time(self, witness: str, key: VerifierKey, *, until_s: int | None = None) -> int:
        """The latest time, in seconds, that this key is known to have signed, up to `until_s`; 0 when it signed nothing."""
        start = line_start(key)
        by_key = (_COSIGNATURE.c.witness == witness) & (func.substr(_COSIGNATURE.c.line, 1, len(start)) == start)
        if until_s is not None:
            by_key &= _COSIGNATURE.c.time <= until_s
        with self._database.read() as connection:
            return connection.execute(select(func.max(_COSIGNATURE.c.time)).where(by_key)).scalar() or 0

    def find_outlived(self, witness: str, retired: Mapping[str, int]) -> list[tuple[int, int]]:
        """Log number and size of what a witness cosigned with one of the `retired` keys (`core.witness`) after its end."""
        outlived = (_COSIGNATURE.c.witness == witness) & _outlives(retired)
        with self._database.read() as connection:
            rows = connection.execute(select(_COSIGNATURE.c.log_id, _COSIGNATURE.c.size).where(outlived))
            return [(log_id, size) for log_id, size in rows]

    def forget_outlived(
        self,
        log_id: int,
        sizes: Collection[int],
        witness: str,
        retired: Mapping[str, int],
        *,
        quorums: Sequence[Quorum] = (),
    ) -> int:
        """Delete, of some checkpoints of a log, what `find_outlived` finds; returns how many rows went.

        What one of the quorums has seen with them is noted first. A few hundred go in one transaction.
        """
        gone, ordered = 0, sorted(sizes)
        for start in range(0, len(ordered), _BATCH):
            batch = ordered[start : start + _BATCH]
            here = (_COSIGNATURE.c.log_id == log_id) & _COSIGNATURE.c.size.in_(batch)
            outlived = here & (_COSIGNATURE.c.witness == witness) & _outlives(retired)
            with self._database.write() as connection:
                raise_mark(connection, log_id, quorums, among=batch)
                gone += connection.execute(delete(_COSIGNATURE).where(outlived)).rowcount
        return gone

    def replace_renewed(self, log_id: int, signed: SignedCheckpoint, *, above: int, now_ms: int) -> None:
        """Write the own head as another key has signed it, and delete what a revoked key signed between `above` and it."""
        row = {"log_id": log_id, "size": signed.size, "note": bytes(signed), "made_ms": now_ms}
        with self._database.write() as connection:
            for table in (_COSIGNATURE, _CHECKPOINT):
                between = (table.c.log_id == log_id) & (table.c.size > above) & (table.c.size < signed.size)
                connection.execute(delete(table).where(between))
            here = (_CHECKPOINT.c.log_id == log_id) & (_CHECKPOINT.c.size == signed.size)
            connection.execute(delete(_CHECKPOINT).where(here))
            connection.execute(insert(_CHECKPOINT), row)
            self._save_head(connection, log_id, signed)

    def thin(self, log_id: int, rule: ThinningRule) -> int:
        """Delete old checkpoints, with their cosignatures, that no bundle needs; returns how many.

        A few hundred go in one transaction, so nobody waits long for the writer.
        """
        with self._database.read() as connection:
            mark = load_mark(connection, log_id)
        keep = {*rule.keep, *self._last_cosigned(log_id), mark}
        gone, batch = 0, list[int]()
        for size in superfluous(self._old(log_id, rule), keep):
            batch.append(size)
            if len(batch) == _BATCH:
                gone, batch = gone + self._delete(log_id, batch), []
        return gone + self._delete(log_id, batch)

    def count(self, log_id: int) -> int:
        """How many checkpoints are held of a log."""
        statement = select(func.count()).select_from(_CHECKPOINT).where(_CHECKPOINT.c.log_id == log_id)
        with self._database.read() as connection:
            return connection.execute(statement).scalar_one()

    def _last_cosigned(self, log_id: int) -> list[int]:
        """The largest checkpoint that each witness is known to have seen: a rollback is judged by it."""
        statement = select(func.max(_COSIGNATURE.c.size)).where(_COSIGNATURE.c.log_id == log_id)
        with self._database.read() as connection:
            return list(connection.execute(statement.group_by(_COSIGNATURE.c.witness)).scalars())

    def _old(self, log_id: int, rule: ThinningRule) -> Iterator[Held]:
        """Checkpoints made before the rule's time, the largest first, down to the first made before `since_ms`."""
        below: int | None = None
        while True:
            page = self._read_old(log_id, rule, below)
            for held in page:
                yield held
                if held.made_ms < rule.since_ms:
                    return
            if len(page) < _BATCH:
                return
            below = page[-1].size

    def _read_old(self, log_id: int, rule: ThinningRule, below: int | None) -> list[Held]:
        old = (_CHECKPOINT.c.log_id == log_id) & (_CHECKPOINT.c.made_ms < rule.before_ms)
        if below is not None:
            old &= _CHECKPOINT.c.size < below
        statement = select(_CHECKPOINT.c.size, _CHECKPOINT.c.made_ms).where(old).order_by(_CHECKPOINT.c.size.desc())
        with self._database.read() as connection:
            rows = connection.execute(statement.limit(_BATCH)).all()
            if not rows:
                return []
            here = (_COSIGNATURE.c.log_id == log_id) & _COSIGNATURE.c.size.between(rows[-1].size, rows[0].size)
            counting = here & _COSIGNATURE.c.witness.in_(list(rule.witnesses))
            times: dict[int, dict[str, int]] = {}
            columns = (_COSIGNATURE.c.size, _COSIGNATURE.c.time, _COSIGNATURE.c.line)
            for size, time, line in connection.execute(select(*columns).where(counting)):
                if not outlives(line, time, rule.retired):
                    times.setdefault(size, {})[line[-SIGNATURE_CHARACTERS:]] = time
        return [Held(size, made_ms, _seen(times.get(size, {}), rule.quorum)) for size, made_ms in rows]

    def _delete(self, log_id: int, sizes: list[int]) -> int:
        if not sizes:
            return 0
        with self._database.write() as connection:
            for table in (_COSIGNATURE, _CHECKPOINT):
                connection.execute(delete(table).where(table.c.log_id == log_id, table.c.size.in_(sizes)))
        return len(sizes)

    def find_quorum_size(
        self, log_id: int, *, index: int, quorum: int, witnesses: Collection[str], retired: Mapping[str, int] | None = None
    ) -> int | None:
        """Size of the smallest checkpoint that covers entry `index` and that `quorum` of the witnesses cosigned.

        What one of the keys in `retired` (`core.witness.retirements`) signed after its end does not count.
        """
        here = (_COSIGNATURE.c.log_id == log_id) & _COSIGNATURE.c.witness.in_(list(witnesses))
        counting = here & (_COSIGNATURE.c.size > index) & not_(_outlives(retired or {}))
        sizes = select(_COSIGNATURE.c.size).where(counting).group_by(_COSIGNATURE.c.size).having(count_keys() >= quorum)
        with self._database.read() as connection:
            return connection.execute(sizes.order_by(_COSIGNATURE.c.size).limit(1)).scalar()

    def find_seen_size(self, log_id: int, quorums: Sequence[Quorum], *, above: int = 0) -> int:
        """Size of the largest checkpoint that one of the quorums (`core.quorums`) is known to have cosigned; 0 for none.

        Whoever asks only for what lies beyond `above` names it: if there is nothing, the answer is not larger than that.
        """
        with self._database.read() as connection:
            return count_seen(connection, log_id, quorums, above=above)

    def load_seen(self, log_id: int, quorums: Sequence[Quorum]) -> list[SignedCheckpoint]:
        """The held checkpoints that one of the quorums cosigned, the smallest first, with the author's signature.

        Also the largest that a quorum before them had cosigned.
        """
        statement = select(_CHECKPOINT.c.size, _CHECKPOINT.c.note).where(_CHECKPOINT.c.log_id == log_id)
        with self._database.read() as connection:
            seen = {*seen_sizes(connection, log_id, quorums), load_mark(connection, log_id)}
            rows = connection.execute(statement.order_by(_CHECKPOINT.c.size))
            return [parse_checkpoint(note) for size, note in rows if size in seen]

    def witness_key_ids(self, witness: str, key_name: str) -> set[bytes]:
        """The key ids (4 bytes) of every cosignature held of a member, whose witness keys have this name."""
        begin = len(f"\u2014 {key_name} ")
        # Eight characters of base64 are six bytes, of which the key id is the first four.
        prefix = func.substr(_COSIGNATURE.c.line, begin + 1, 8)
        with self._database.read() as connection:
            statement = select(func.min(_COSIGNATURE.c.line)).where(_COSIGNATURE.c.witness == witness).group_by(prefix)
            lines = list(connection.execute(statement).scalars())
        return {b64decode(line[begin : begin + 8])[:4] for line in lines}

    def first_made_ms(self, log_id: int, *, beyond: int) -> int:
        """When the first checkpoint that is held beyond this size was written here; 0 for unknown."""
        here = (_CHECKPOINT.c.log_id == log_id) & (_CHECKPOINT.c.size > beyond)
        with self._database.read() as connection:
            found = connection.execute(select(_CHECKPOINT.c.made_ms).where(here).order_by(_CHECKPOINT.c.size).limit(1))
            return found.scalar() or 0

    def largest_cosigned(self, log_id: int, witnesses: Iterable[str]) -> dict[str, int]:
        """The largest size that each of these witnesses cosigned; those that cosigned none are left out."""
        statement = (
            select(_COSIGNATURE.c.witness, func.max(_COSIGNATURE.c.size))
            .where(_COSIGNATURE.c.log_id == log_id, _COSIGNATURE.c.witness.in_(list(witnesses)))
            .group_by(_COSIGNATURE.c.witness)
        )
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

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

    def _save_head(self, connection: Connection, log_id: int, signed: SignedCheckpoint) -> None:
        connection.execute(update(_LOG).where(_LOG.c.id == log_id).values(head_note=bytes(signed)))


def _outlives(retired: Mapping[str, int]) -> ColumnElement[bool]:
    """`core.witness.outlives`, for SQL: of the line's end, the last eight characters of `line_start` are not a part."""
    if not retired:
        return false()
    line, time = _COSIGNATURE.c.line, _COSIGNATURE.c.time
    start = func.substr(line, 1, func.length(line) - SIGNATURE_CHARACTERS)
    return time > case(dict(retired), value=start, else_=time)


def _seen(times: Mapping[str, int], quorum: int) -> int | None:
    """The time by which a quorum had seen a checkpoint, of the times by signature."""
    return sorted(times.values())[quorum - 1] if len(times) >= quorum else None


def _body(note: bytes) -> bytes:
    """What a cosignature is about: not by which key the author signed it."""
    return note.partition(b"\n\n")[0]


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
