"""The order of an audit: keys first, then the whole log from its first entry, then what lies beyond the head."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from node.core.checkpoint import parse_checkpoint
from node.core.kinds import Kinds
from node.core.merkle import EMPTY_ROOT, HASH_SIZE, TILE_WIDTH, Frontier, format_frontier
from node.errors import LabmeshError, NotFoundError, StoreError
from node.inspection.alliance import KnownKeys, inspect_alliance
from node.inspection.checkpoints import CheckpointInspection
from node.inspection.entries import EntryInspection
from node.inspection.report import Check, Progress, Report
from node.inspection.revisions import inspect_revisions
from node.store.inspection import InspectionStore, RawRange

BATCH = 8 * TILE_WIDTH

# What a torn file gives, or a column that holds another type than it should.
_UNREADABLE = (StoreError, TypeError, ValueError)


class Inspector:
    """One audit of one log. Use it once."""

    def __init__(self, store: InspectionStore, kinds: Kinds, member: str) -> None:
        """Choose the log.

        Raises:
            NotFoundError: no log of this member is held here.
        """
        log = store.find_log(member)
        identity = store.load_identity()
        self._own = identity is not None and identity.member == member
        if log is None:
            hint = "it begins when the node first runs: labmesh run" if self._own else "type: labmesh peers"
            raise NotFoundError(f"no log of {member} is held here", hint=hint)
        self._store, self._kinds, self._log = store, kinds, log
        self._frontier = Frontier()
        self._signed, self._signed_root, self._newest = _size_of(log.head_note), EMPTY_ROOT, 0
        self._head, self._staged = Check("head"), Check("staged")

    def run(self) -> Iterator[Progress | Report]:
        """Progress after each range of entries; the report last. Never raises for what the database says."""
        log, checks, revisions = self._log, list[Check](), Check("revisions")
        known, first = inspect_alliance(self._store, log.member)
        checks += first
        entries = EntryInspection(log, self._kinds, own=self._own)
        checkpoints = CheckpointInspection(log, known, own=self._own)
        for low in range(0, log.head_size, BATCH):
            high = min(low + BATCH, log.head_size)
            before = self._frontier
            try:
                with self._store.read_range(log.id, low, high) as found:
                    self._inspect_range(found, entries, checkpoints)
            except _UNREADABLE as error:
                entries.entries.fault(f"entries {low} to {high - 1} cannot be read: {error}")
                self._frontier, _ = before.extend([bytes(HASH_SIZE)] * (high - low))
            yield Progress(high, log.head_size)
        self._inspect_head(checkpoints, known)
        checks += [self._head, *checkpoints.checks, *entries.checks]
        checks.append(self._guarded(revisions, lambda: inspect_revisions(self._store, log, entries.unreadable, revisions)))
        checks.append(self._guarded(self._staged, self._inspect_staged))
        yield Report(log.member, log.origin, log.head_size, self._frontier.root(), checks)

    def _inspect_range(self, found: RawRange, entries: EntryInspection, checkpoints: CheckpointInspection) -> None:
        commitments = entries.commitments(found)
        sizes = {row.size for row in found.checkpoints} | {found.high}
        if found.low < self._signed < found.high:
            sizes.add(self._signed)
        at, tiles, roots = found.low, list[bytes](), dict[int, bytes]()
        for size in sorted(sizes):
            self._frontier, full = self._frontier.extend(commitments[at - found.low : size - found.low])
            tiles += full
            roots[size] = self._frontier.root()
            at = size
        self._signed_root = roots.get(self._signed, self._signed_root)
        self._newest = max((self._newest, *(row.size for row in found.checkpoints)))
        entries.inspect_tiles(found, tiles)
        entries.inspect_openings(found)
        checkpoints.inspect(found.checkpoints, found.cosignatures, roots)

    def _inspect_head(self, checkpoints: CheckpointInspection, known: KnownKeys) -> None:
        log, check, unvouched = self._log, self._head, None
        check.count = 1 if log.head_note else 0
        if log.head_note:
            before = [item.faults for item in checkpoints.checks]
            checkpoints.inspect_note(log.head_note, self._signed, self._signed_root)
            unvouched = checkpoints.unvouched
            if [item.faults for item in checkpoints.checks] != before:
                check.fault(f"the newest checkpoint, of size {self._signed}, does not hold")
        if unvouched is not None and self._newest <= self._signed:
            # The checkpoints beyond are forgotten with the key; the new key signs the head again.
            check.remark = (
                f"the log key was revoked at size {unvouched}, and the new one has not signed size {self._signed} yet"
            )
        elif self._newest != self._signed:
            check.fault(f"the newest checkpoint held is that of size {self._newest}, but the log names size {self._signed}")
        if self._signed != log.head_size:
            text = f"{log.head_size - self._signed} of {log.head_size} entries are covered by no checkpoint"
            if self._own and self._signed < log.head_size:
                check.remark = f"{text}: they are signed once enough peers have answered"
            else:
                check.fault(text)
        if format_frontier(self._frontier) != log.head_frontier:
            check.fault("the stored frontier is not that of the entries")
        line = known.line_of(log.member)
        if line is not None and line.cut is not None and line.cut.size < log.head_size:
            check.remark = f"the roster ends this log at size {line.cut.size}; later entries do not count"

    def _inspect_staged(self) -> Check:
        """What waits beyond the head. It may move while it is looked at: then there is nothing to compare with."""
        log, check = self._log, self._staged
        frontier = self._frontier
        for low in range(log.head_size, log.staged_size, BATCH):
            high = min(low + BATCH, log.staged_size)
            with self._store.read_range(log.id, low, high) as found:
                check.count += len(found.commitments)
                waiting = EntryInspection(log, self._kinds, own=False)
                frontier, _ = frontier.extend(waiting.commitments(found))
                waiting.inspect_openings(found)
            for fault in (*waiting.entries.shown, *waiting.openings.shown):
                check.fault(fault)
        if format_frontier(frontier) != log.staged_frontier:
            check.fault("the stored frontier is not that of the entries")
        for table, count in self._store.count_beyond(log).items():
            if count:
                check.fault(f"{count} rows of the table {table} lie beyond the log's end")
        if self._store.find_log(log.member) != log:
            return Check(check.name, check.count, "the log grew meanwhile; what waits beyond it was not looked at")
        return check

    def _guarded(self, check: Check, inspect: Callable[[], Check]) -> Check:
        try:
            return inspect()
        except _UNREADABLE as error:
            check.fault(f"cannot be read: {error}")
            return check


def _size_of(note: bytes) -> int:
    """The size that a stored note says; 0 where it says none."""
    try:
        return parse_checkpoint(note).size if note else 0
    except LabmeshError:
        return 0
