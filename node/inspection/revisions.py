"""Revisions of each key: 1, 2, 3, … in the order of the log, without a gap that nothing unreadable can explain."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from node.inspection.report import Check
from node.store.inspection import AnyRow, InspectionStore, RawLog
from node.store.tables import index_of

PAGE = 5000
GAP_MAX = 100_000


def inspect_revisions(store: InspectionStore, log: RawLog, unreadable: array[int], check: Check, *, own: bool) -> Check:
    """Walk every readable key.

    In the own log only an erased revision may be absent. In a mirrored one a revision may also be restricted: then there is
    an unreadable entry between the two neighbours.
    """
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
        if revision != before + 1:
            gone = _missing(kind, key, range(before + 1, revision), erased)
            room = 0 if own else bisect_left(unreadable, here) - bisect_left(unreadable, index + 1)
            if len(gone) > room:
                check.fault(f"revision {gone[0]} of {kind}/{key} is missing before revision {revision}")
        before, index = revision, here
    check.remark = f"of {check.count} keys" if check.count else ""
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
