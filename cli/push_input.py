"""The records of one push: all files as one sequence, in batches, with the way back from a record's number to its line."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cli.records_file import compact, split_records

BATCH_RECORDS_MAX = 1000
BATCH_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record came from; `fault` says what was wrong with the file there, and is mostly empty."""

    file: str
    line: int
    fault: str = ""


@dataclass(slots=True)
class PushInput:
    """Named contents. `locate` knows the records that `batches` has given so far."""

    contents: Sequence[tuple[str, bytes]]
    _starts: list[int] = field(default_factory=list)
    _lines: array[int] = field(default_factory=lambda: array("Q"))
    _faults: dict[int, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(len(content) for _, content in self.contents)

    def batches(self, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[list[bytes]]:
        """Every record in order; at most 1,000 or about 1 MiB at once. `on_bytes` hears how much was given."""
        batch: list[bytes] = []
        size = 0
        for raw in self._records():
            if batch and (len(batch) >= BATCH_RECORDS_MAX or size + len(raw) > BATCH_BYTES_MAX):
                on_bytes(size)
                yield batch
                batch, size = [], 0
            batch.append(raw)
            size += len(raw)
        if batch:
            on_bytes(size)
            yield batch

    def locate(self, number: int) -> Place:
        """The place of the record with this number in the call, from 1; of a number that was never given, no place."""
        if not 0 < number <= len(self._lines):
            return Place("", 0)
        name, _ = self.contents[bisect_right(self._starts, number) - 1]
        return Place(name, self._lines[number - 1], self._faults.get(number, ""))

    def empty_names(self) -> list[str]:
        """The files that held no record, once `batches` has ended."""
        ends = [*self._starts[1:], len(self._lines) + 1]
        return [name for (name, _), low, high in zip(self.contents, self._starts, ends, strict=True) if low == high]

    def _records(self) -> Iterator[bytes]:
        for _, content in self.contents:
            self._starts.append(len(self._lines) + 1)
            for record in split_records(content):
                self._lines.append(record.line)
                if record.fault:
                    self._faults[len(self._lines)] = record.fault
                yield record.raw if record.fault else compact(record.raw)
