"""Revisions of each key: ascending in the order of the log, and none beyond its entry's place.

They count 1, 2, 3, … but where a home has lost entries: beyond those its author leaves out every number that one of them
may have (`node.recovery`), also after they came back, and for readers who could read them all along.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from node.inspection.report import Check
from node.store.inspection import AnyRow, InspectionStore, RawLog
from node.store.tables import index_of

PAGE = 5000
GAP_MAX = 100_000


def inspect_revisions(store: InspectionStore, log: RawLog, unreadable: array[int], check: Check) -> Check:
    """Walk every readable key.

    What is absent was erased, or is an unreadable entry between the two neighbours, or was left out, which is remarked.
    """
    skipped = ""
    erased = store.load_erased_revisions(log)
    held: tuple[str, str] | None = None
    before, index = 0, -1
    for kind, key, revision, position in _rows(store, log):
        here = index_of(position)
        if (kind, key) != held:
            held, before, index = (kind, key), 0, -1
            check.count += 1
        if here < index:
            check.fault(f"revision {revision} of {kind}/{key} stands before revision {before} in the log")
        if revision > here + 1:
            check.fault(f"revision {revision} of {kind}/{key} cannot be in entry {here}: too few stand before it")
        elif revision != before + 1:
            gone = _missing(kind, key, range(before + 1, revision), erased)
            room = bisect_left(unreadable, here) - bisect_left(unreadable, index + 1)
            if len(gone) > room:
                skipped = skipped or f"; revision {gone[0]} of {kind}/{key} is left out before revision {revision}"
        before, index = revision, here
    check.remark = f"of {check.count} keys{skipped}" if check.count else ""
    return check


def _missing(kind: str, key: str, absent: range, erased: set[tuple[str, str, int]]) -> range | list[int]:
    """Those revisions that were not erased. A revision may be any number up to 2^53, so a huge gap is not listed."""
    if len(absent) > GAP_MAX:
        return absent
    return [revision for revision in absent if (kind, key, revision) not in erased]


def _rows(store: InspectionStore, log: RawLog) -> Iterator[AnyRow]:
    after: tuple[str, str, int] | None = None
    while rows := store.read_revisions(log, after, PAGE):
        yield from rows
        after = (rows[-1].kind, rows[-1].key, rows[-1].revision)
