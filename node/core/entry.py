"""Entries of a log: salted commitments, their openings, and the pages in which both travel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

SALT_SIZE = 32
COMMITMENT_SIZE = 32
SEQUENCE_MAX = 2**63 - 1
PAGE_ENTRIES_MAX = 1000
PAGE_BYTES_AIM = 1024 * 1024

_TAG = b"labmesh/commitment/v1\x00"


@dataclass(slots=True)
class Opening:
    """What makes a commitment readable: 32 bytes of salt and the record's bytes.

    `sequence` is the serving node's own counter; it grows with everything that becomes readable there.
    """

    index: int
    salt: bytes
    record: bytes
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class LogPage:
    """Commitments from `start` on, joined (32 bytes each), and the openings that the reader may have.

    `cursor`: with this page, everything that the reader may have up to this sequence number of the server has been sent; 0
    says nothing.
    """

    start: int
    commitments: bytes
    openings: Sequence[Opening]
    cursor: int = 0


def committer(origin: str) -> Callable[[bytes, bytes], bytes]:
    """The commitment function of one log: `(salt, record bytes) -> 32 bytes`.

    Binding the origin stops a member from taking another's commitment for its own.
    """
    encoded = origin.encode()
    prefix = _TAG + len(encoded).to_bytes(2, "big") + encoded
    hash_ = sha256

    def commit(salt: bytes, record: bytes) -> bytes:
        return hash_(prefix + salt + len(record).to_bytes(8, "big") + record).digest()

    return commit


def split_commitments(joined: bytes) -> list[bytes]:
    """The single commitments of a page."""
    return [joined[i : i + COMMITMENT_SIZE] for i in range(0, len(joined), COMMITMENT_SIZE)]
