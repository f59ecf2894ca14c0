"""A log as it lies on disk, read and judged without the node's own code. Nothing is written."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import orjson

from node.store.tables import index_of, position_of
from tests.end_to_end.harness import Node


@dataclass(frozen=True, slots=True)
class LogFile:
    """One log in a node's database. `commitments` and `records` hold what is staged, too."""

    origin: str
    head_size: int
    head_note: str
    staged_size: int
    commitments: Mapping[int, bytes]
    records: Mapping[int, tuple[bytes, bytes]]

    def require_sound(self) -> None:
        """Fail unless the indices have no gap, the openings fit, and the commitments lead to the signed root."""
        assert sorted(self.commitments) == list(range(self.staged_size))
        assert self.staged_size >= self.head_size >= self.signed_size
        for index, (salt, record) in self.records.items():
            assert commitment_of(self.origin, salt, record) == self.commitments[index]
        if self.head_note:
            origin, _, root = self.head_note.split("\n")[:3]
            assert origin == self.origin
            assert self.root(self.signed_size) == base64.b64decode(root)

    @property
    def signed_size(self) -> int:
        """Size of the newest checkpoint; an own log may go on behind it, unpublished."""
        return int(self.head_note.split("\n")[1]) if self.head_note else 0

    def root(self, size: int) -> bytes:
        """Root of the first `size` entries."""
        return merkle_root([self.commitments[i] for i in range(size)])

    def keys(self) -> list[str]:
        """Keys of the records that the head covers, in order."""
        return [orjson.loads(self.records[i][1])["key"] for i in sorted(self.records) if i < self.head_size]


def read_log_file(node: Node, author: str) -> LogFile:
    """What the node's database holds of a member's log, whether the daemon runs or not. Nothing is written."""
    with closing(sqlite3.connect(f"file:{node.home.database_path}?mode=ro", uri=True, timeout=10)) as connection:
        connection.execute("BEGIN")
        row = connection.execute(
            "SELECT id, origin, head_size, head_note, staged_size FROM log WHERE member=?", (author,)
        ).fetchone()
        if row is None:
            return LogFile("", 0, "", 0, {}, {})
        log_id, origin, head_size, head_note, staged_size = row
        between = (position_of(log_id, 0), position_of(log_id + 1, 0))
        entries = connection.execute(
            "SELECT position, commitment FROM entry WHERE position >= ? AND position < ?", between
        ).fetchall()
        openings = connection.execute(
            "SELECT position, salt, record FROM opening WHERE position >= ? AND position < ?", between
        ).fetchall()
    return LogFile(
        origin=origin,
        head_size=head_size,
        head_note=head_note.decode(),
        staged_size=staged_size,
        commitments={index_of(position): commitment for position, commitment in entries},
        records={index_of(position): (salt, record) for position, salt, record in openings},
    )


def staged_and_head(node: Node, author: str) -> tuple[int, int]:
    """How many entries of a log the node's database holds, and how many of them are verified."""
    with closing(sqlite3.connect(f"file:{node.home.database_path}?mode=ro", uri=True, timeout=10)) as connection:
        row = connection.execute("SELECT staged_size, head_size FROM log WHERE member=?", (author,)).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def database_size(node: Node) -> int:
    """Bytes of every file that the node's databases consist of."""
    return sum(path.stat().st_size for path in database_files(node))


def database_files(node: Node) -> list[Path]:
    """Every file that the node's databases consist of."""
    found = [path for path in node.home.path.iterdir() if ".sqlite" in path.name]
    assert node.home.database_path in found
    return sorted(found)


def commitment_of(origin: str, salt: bytes, record: bytes) -> bytes:
    """The commitment of DESIGN section 4."""
    name = origin.encode()
    bound = b"labmesh/commitment/v1\x00" + len(name).to_bytes(2, "big") + name
    return sha256(bound + salt + len(record).to_bytes(8, "big") + record).digest()


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """The root of RFC 9162 section 2.1.1."""
    level = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
    if not level:
        return sha256(b"").digest()
    while len(level) > 1:
        # A node without a sibling goes up unchanged: that is the RFC's split at the largest power of two.
        pairs = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]
