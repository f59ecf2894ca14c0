"""Which old checkpoints need not be kept: about one an hour is enough, and no bundle becomes invalid.

A bundle shows the smallest quorum-cosigned checkpoint that covers its record, and says by when the quorum had seen it. So a
checkpoint that a quorum has cosigned may go only if the next larger one that stays was seen no later than in the same hour:
every entry is then shown as seen less than an hour later than before, and thinning again never adds to it. (To keep the
first of each hour instead would cost up to two hours, for entries just behind it.) Of the others each hour's last stays.

A reader is led from checkpoint to checkpoint in steps that it can stage, so none goes that would leave a gap too wide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

HOUR_S = 3600
GAP_ENTRIES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Held:
    """A checkpoint that is held: when it was written here, and by when a quorum had seen it (None: none has)."""

    size: int
    made_ms: int
    seen_s: int | None = None


def superfluous(held: Iterable[Held], keep: Collection[int] = ()) -> Iterator[int]:
    """Sizes that may go.

    Args:
        held: checkpoints from the largest to the smallest, lazily read; the first and the last of them stay.
        keep: sizes that stay in any case, because a card or a roster names them.
    """
    kept: Held | None = None
    kept_hour: int | None = None
    candidate: Held | None = None
    for smaller in held:
        if candidate is not None:
            if _may_go(candidate, smaller, kept, kept_hour) and candidate.size not in keep:
                yield candidate.size
            else:
                kept = candidate
                kept_hour = _seen_hour(candidate) if candidate.seen_s is not None else kept_hour
        candidate = smaller


def _may_go(one: Held, smaller: Held, kept: Held | None, kept_hour: int | None) -> bool:
    """Whether `kept`, the next larger one that stays, does for `one`; `kept_hour` is that of the next quorum-cosigned."""
    if kept is None or kept.size - smaller.size > GAP_ENTRIES_MAX:
        return False
    if one.seen_s is not None:
        return kept_hour is not None and kept_hour <= _seen_hour(one)
    return _made_hour(kept) <= _made_hour(one)


def _seen_hour(one: Held) -> int:
    assert one.seen_s is not None
    return one.seen_s // HOUR_S


def _made_hour(one: Held) -> int:
    return one.made_ms // 1000 // HOUR_S
