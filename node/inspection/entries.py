"""Entries, tiles and openings of one range: every commitment there, every opening fitting, every record valid."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from node.core.entry import COMMITMENT_SIZE, committer
from node.core.kinds import Kinds
from node.core.merkle import TILE_WIDTH
from node.core.record import parse_record
from node.errors import InvalidRecordError
from node.inspection.report import Check
from node.store.inspection import RawLog, RawRange
from node.store.rows import OpeningTuple, opening_tuple
from node.store.tables import STATUS_NOT_UNDERSTOOD, STATUS_QUARANTINED, STATUS_VISIBLE, index_of

_GONE = bytes(COMMITMENT_SIZE)


class EntryInspection:
    """Looks at ranges, in order. `unreadable` collects the indexes whose records nobody can judge here."""

    def __init__(self, log: RawLog, kinds: Kinds, *, own: bool) -> None:
        """Begin with nothing looked at."""
        self._log, self._kinds, self._own = log, kinds, own
        self._commit = committer(log.origin)
        self.entries, self.tiles, self.openings, self.records = (
            Check("entries"),
            Check("tiles"),
            Check("openings"),
            Check("records"),
        )
        self.restricted, self.erased, self.lost = Check("restricted"), Check("erased"), Check("lost")
        self.quarantined, self.not_understood = Check("quarantined"), Check("not understood")
        self.unreadable = array("Q")

    @property
    def checks(self) -> list[Check]:
        """All of them, in the order in which people read."""
        return [
            self.entries, self.tiles, self.openings, self.records,
            self.restricted, self.erased, self.lost, self.quarantined, self.not_understood,
        ]  # fmt: skip

    def commitments(self, found: RawRange) -> list[bytes]:
        """The commitments of a range; a missing one is a fault, and zeros stand in its place."""
        self.entries.count += len(found.commitments)
        result = []
        for index in range(found.low, found.high):
            commitment = found.commitments.get(index)
            if commitment is None:
                self.entries.fault(f"entry {index} is missing")
            elif len(commitment) != COMMITMENT_SIZE:
                self.entries.fault(f"the commitment of entry {index} has {len(commitment)} bytes")
                commitment = None
            result.append(commitment or _GONE)
        return result

    def inspect_tiles(self, found: RawRange, computed: Sequence[bytes]) -> None:
        """The stored roots of full runs of 256 leaves against the computed ones."""
        first = found.low // TILE_WIDTH
        self.tiles.count += len(found.tiles)
        for number, root in enumerate(computed, first):
            stored = found.tiles.get(number)
            if stored != root:
                said = "is missing" if stored is None else "is not what its entries give"
                self.tiles.fault(f"tile {number} (entries {number * TILE_WIDTH} to {(number + 1) * TILE_WIDTH - 1}) {said}")

    def inspect_openings(self, found: RawRange) -> None:
        """Every opening of a range, and why the other entries have none."""
        opened: set[int] = set()
        for row in found.openings:
            index = index_of(row[0])
            opened.add(index)
            self._inspect_opening(row, index, found)
        for index in range(found.low, found.high):
            if index not in opened:
                self._inspect_absence(index, index in found.erased)

    def _inspect_opening(self, row: OpeningTuple, index: int, found: RawRange) -> None:
        status, salt, raw = row[3], row[9], row[10]
        self.openings.count += 1
        if self._commit(salt, raw) != found.commitments.get(index):
            self.openings.fault(f"the opening of entry {index} does not fit its commitment")
        if index in found.erased:
            self.erased.fault(f"entry {index} was erased, but its opening is here")
        if status == STATUS_QUARANTINED:
            self.quarantined.count += 1
            self.unreadable.append(index)
        elif status in (STATUS_VISIBLE, STATUS_NOT_UNDERSTOOD):
            self.not_understood.count += status == STATUS_NOT_UNDERSTOOD
            self._inspect_record(row, index)
        else:
            self.records.fault(f"entry {index} has the unknown status {status}")

    def _inspect_record(self, row: OpeningTuple, index: int) -> None:
        self.records.count += 1
        try:
            record = parse_record(row[10], author=self._log.member, kinds=self._kinds)
        except InvalidRecordError as error:
            self.records.fault(f"entry {index}: {error.message}")
            return
        expected = opening_tuple(row[0], self._log.id, row[2], row[9], record)
        # What was not understood when it came may be by now: the node judges it again in its own time.
        same_status = row[3] == expected[3] or row[3] == STATUS_NOT_UNDERSTOOD
        same_audience = row[7] == expected[7] or (row[7].startswith(expected[7] + "+") and expected[7] != "*")  # granted
        if row[:3] != expected[:3] or row[4:7] != expected[4:7] or not same_status or not same_audience:
            self.records.fault(f"the row of entry {index} says other things than its record, {record.id}@{record.revision}")

    def _inspect_absence(self, index: int, erased: bool) -> None:
        self.unreadable.append(index)
        if erased:
            self.erased.count += 1
        elif self._own:
            # A restored home may honestly have lost it, if nobody who answers could read it.
            self.lost.count += 1
            self.lost.remark = self.lost.remark or f"from entry {index} on, not even this member can open them all"
        else:
            self.restricted.count += 1
