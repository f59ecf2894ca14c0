"""How much of each log a quorum has cosigned, by whichever roster; and a mark that outlives the cosignatures.

The cosignatures that are held say it themselves (`core.quorums`), in whichever order they and the rosters came. The mark is
for those that go: of witnesses whose keys count no more, or with old checkpoints. It is raised in the transaction that
writes a new roster, or that forgets a cosignature, and falls only with the history itself: when that is forgotten or cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from node.core.alliance import Alliance
from node.core.quorums import Quorum, quorums_over
from node.store.tables import CosignatureRow, LogRow, table_of

# The end of a cosignature line that the name of the witness does not change: the last six bytes of the time and the
# signature. Another's cosignature under one's own name, which earlier releases kept for whoever named the other's key as a
# former one, ends like the other's, and counts once.
SIGNATURE_CHARACTERS = 96

_BATCH = 100

_COSIGNATURE, _LOG = table_of(CosignatureRow), table_of(LogRow)


def count_keys() -> ColumnElement[int]:
    """How many keys made the cosignatures of a group, for SQL."""
    return func.count(func.substr(_COSIGNATURE.c.line, -SIGNATURE_CHARACTERS).distinct())


def seen_sizes(
    connection: Connection,
    log_id: int,
    quorums: Sequence[Quorum],
    *,
    above: int = 0,
    among: Collection[int] | None = None,
) -> Iterator[int]:
    """Sizes of the checkpoints that one of the quorums cosigned, the largest first, down to `above`, which is left out.

    Only those `among` some hundreds of sizes, found by the primary key; None for the whole log.
    Of a busy log a day holds as many cosignatures as seconds for each witness, so the database counts them, and only those
    of the sizes that have enough are read.
    """
    if not quorums:
        return
    column = _COSIGNATURE.c.size
    # One condition only: given both, SQLite takes the range, and reads the log.
    wanted = column > above if among is None else column.in_([size for size in sorted(among) if size > above])
    sizes = select(column).where(_COSIGNATURE.c.log_id == log_id, wanted)
    enough = sizes.group_by(_COSIGNATURE.c.size).having(_may_be_met(quorums)).order_by(_COSIGNATURE.c.size.desc())
    columns = (_COSIGNATURE.c.size, _COSIGNATURE.c.witness, _COSIGNATURE.c.time, _COSIGNATURE.c.line)
    lines = select(*columns).where(_COSIGNATURE.c.log_id == log_id).order_by(_COSIGNATURE.c.size.desc())
    with connection.execute(enough) as found:
        for batch in found.scalars().partitions(_BATCH):
            with connection.execute(lines.where(_COSIGNATURE.c.size.in_(batch))) as rows:
                for size, group in groupby(rows, key=lambda row: int(row.size)):
                    given = list(group)
                    if any(quorum.is_met(_times_of(given, quorum.witnesses)) for quorum in quorums):
                        yield size


def _may_be_met(quorums: Sequence[Quorum]) -> ColumnElement[bool]:
    """Whether a size has enough cosignatures for one of the rules, for SQL: rules that ask as many are taken as one.

    So it is as short as there are different counts, however many rosters there were; `Quorum.is_met` decides.
    """
    terms = []
    for count in {quorum.count for quorum in quorums}:
        alike = [quorum for quorum in quorums if quorum.count == count]
        counting: ColumnElement[bool] = _COSIGNATURE.c.witness.in_(
            sorted({name for quorum in alike for name in quorum.witnesses})
        )
        ends = [quorum.until_s for quorum in alike if quorum.until_s is not None]
        if len(ends) == len(alike):
            counting &= _COSIGNATURE.c.time < max(ends)
        terms.append(func.count().filter(counting) >= count)
    return or_(*terms)


def _times_of(lines: Iterable[Any], witnesses: Collection[str]) -> dict[str, int]:
    """When these witnesses cosigned, each signature once."""
    by_signature = {line.line[-SIGNATURE_CHARACTERS:]: line for line in lines if line.witness in witnesses}
    return {line.witness: line.time for line in by_signature.values()}


def count_seen(connection: Connection, log_id: int, quorums: Sequence[Quorum], *, above: int = 0) -> int:
    """The largest size of a log that a quorum is known to have cosigned; 0 when there is none.

    Whoever asks only for what lies beyond `above` names it: if there is nothing, the answer is not larger than that.
    """
    mark = load_mark(connection, log_id)
    return next(seen_sizes(connection, log_id, quorums, above=max(mark, above)), mark)


def load_mark(connection: Connection, log_id: int) -> int:
    """What a quorum had seen of a log when a roster was replaced; 0 for nothing."""
    return connection.execute(select(_LOG.c.seen_size).where(_LOG.c.id == log_id)).scalar() or 0


def raise_marks(connection: Connection, alliance: Alliance) -> None:
    """Note for every log what a quorum has seen, inside the transaction that writes the newest roster of `alliance`."""
    for log_id, member in connection.execute(select(_LOG.c.id, _LOG.c.member).where(_LOG.c.member != "")).all():
        raise_mark(connection, log_id, quorums_over(alliance, member))


def raise_mark(
    connection: Connection, log_id: int, quorums: Sequence[Quorum], *, among: Collection[int] | None = None
) -> None:
    """Note what a quorum has seen of one log, inside the transaction that takes away what says it.

    Where cosignatures on a few checkpoints go, only those can become unseen: nothing is read but `among`, their sizes.
    """
    mark = load_mark(connection, log_id)
    size = next(seen_sizes(connection, log_id, quorums, above=mark, among=among), mark)
    connection.execute(update(_LOG).where(_LOG.c.id == log_id, _LOG.c.seen_size < size).values(seen_size=size))


def lower_mark(connection: Connection, log_id: int, size: int) -> None:
    """Forget what was seen beyond `size`, with the history beyond it."""
    connection.execute(update(_LOG).where(_LOG.c.id == log_id, _LOG.c.seen_size > size).values(seen_size=size))
