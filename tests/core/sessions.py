"""Sessions of a mirror with a log: a good one, and one that has only begun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from node.core.checkpoint import Checkpoint, sign_checkpoint
from node.core.mirror import AcceptedPage, Mirror, StagingLimits
from tests.builders import Lab, MemoryLog, build_card, build_labs, build_log, kinds

JINAN, QINGDAO, YANTAI = build_labs(3)
READER = "qingdao"


def build_mirror(log: MemoryLog, **changes: Any) -> Mirror:
    return Mirror(build_card(log.lab), **{"reader": READER, "kinds": kinds(), **changes})


def held_by(log: MemoryLog) -> Callable[[int], bytes | None]:
    return lambda index: log.commitments[index] if 0 <= index < log.size else None


def pull(mirror: Mirror, log: MemoryLog, *, cuts: Sequence[int] = ()) -> list[AcceptedPage]:
    """An honest session: announcement, pages cut at these indexes, head."""
    signed = mirror.accept_announcement(bytes(log.checkpoint()))
    start = mirror.staged.size
    edges = [start, *sorted(cut for cut in cuts if start < cut < log.size), log.size]
    pages = [log.page(lo, hi) for lo, hi in pairwise(edges) if lo < hi]
    accepted = [mirror.accept_page(page, held_by(log)) for page in pages]
    assert mirror.complete
    assert mirror.accept_head() == signed == mirror.head
    return accepted


def begin(held: int = 3, size: int = 8) -> tuple[Mirror, MemoryLog]:
    """A mirror that verified `held` entries, of a log that has `size`, with the newest checkpoint announced."""
    log = build_log(JINAN, held)
    mirror = build_mirror(log, limits=StagingLimits(entries=1000))
    pull(mirror, log)
    log.append_numbered(size - held)
    mirror.accept_announcement(bytes(log.checkpoint()))
    return mirror, log


def sign(log: MemoryLog, size: int, root: bytes, lab: Lab = JINAN) -> bytes:
    """A checkpoint of this log by any laboratory's log key, under the log's name."""
    signer = replace(lab.log, key=replace(lab.log.key, name=log.lab.origin))
    return bytes(sign_checkpoint(Checkpoint(log.lab.origin, size, root), signer))


def flip(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
