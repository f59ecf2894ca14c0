"""Thinning of old checkpoints: what stays is enough for every bundle, whatever came before and however often it is done."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from node.core.thinning import GAP_ENTRIES_MAX, HOUR_S, Held, superfluous

NOON = 1_795_000_000 // HOUR_S * HOUR_S


def thinned(held: Sequence[Held], keep: set[int] = frozenset()) -> list[Held]:  # type: ignore[assignment]
    """What stays of checkpoints in ascending order."""
    gone = list(superfluous(sorted(held, key=lambda one: -one.size), keep))
    assert len(gone) == len(set(gone)) and set(gone) <= {one.size for one in held}
    return [one for one in held if one.size not in gone]


def seen(held: Sequence[Held], index: int) -> int | None:
    """By when the quorum had seen an entry, as a bundle shows it: the smallest quorum-cosigned checkpoint that covers it."""
    return next((one.seen_s for one in held if one.size > index and one.seen_s is not None), None)


@st.composite
def histories(draw: st.DrawFn) -> list[Held]:
    """Checkpoints by size; cosignatures come late, or in another order than the checkpoints, or never."""
    held, size, made_s = [], 0, NOON
    for _ in range(draw(st.integers(0, 60))):
        size += draw(st.sampled_from([1, 1, 2, 50, 9_000, 30_000]))
        made_s += draw(st.sampled_from([0, 1, 60, 900, 2000, 5000, 90_000]))
        late = draw(st.sampled_from([None, None, 0, 1, 30, 3599, 3600, 10_000]))
        held.append(Held(size, made_s * 1000, None if late is None else made_s + late))
    return held


@given(histories(), st.sets(st.integers(0, 59), max_size=3))
def test_every_entry_stays_provable_and_is_seen_less_than_an_hour_later(history: list[Held], places: set[int]) -> None:
    keep = {history[place].size for place in places if place < len(history)}
    after = thinned(history, keep)
    for low in [0, *(one.size for one in history)]:
        before, now = seen(history, low), seen(after, low)
        assert (before is None) == (now is None), low
        if before is not None and now is not None:
            assert now - before < HOUR_S, low
    assert keep <= {one.size for one in after}
    if history:
        assert {history[0], history[-1]} <= set(after)


@given(histories())
def test_thinning_again_takes_nothing_more(history: list[Held]) -> None:
    once = thinned(history)
    assert thinned(once) == once


@given(histories(), st.data())
def test_growing_and_thinning_in_turns_never_adds_up(history: list[Held], data: st.DataObject) -> None:
    """Thinned after every few checkpoints, as a daemon does, an entry is never shown later than an hour after the truth."""
    held: list[Held] = []
    at = 0
    while at < len(history):
        step = data.draw(st.integers(1, 10))
        held = thinned([*held, *history[at : at + step]])
        at += step
    for low in [0, *(one.size for one in history)]:
        before, now = seen(history, low), seen(held, low)
        assert (before is None) == (now is None)
        assert before is None or now is None or now - before < HOUR_S


@given(histories())
def test_no_gap_grows_beyond_what_a_reader_can_stage(history: list[Held]) -> None:
    sizes = [one.size for one in history]
    after = [one.size for one in thinned(history)]
    for low, high in pairwise(after):
        step = sizes[bisect_right(sizes, low)]
        assert high - low <= GAP_ENTRIES_MAX or step == high


def test_a_busy_day_becomes_one_an_hour() -> None:
    day = [Held(i + 1, (NOON + 10 * i) * 1000, NOON + 10 * i + 2) for i in range(24 * 360)]
    after = thinned(day)
    assert len(after) == 25  # the last of each of 24 hours, and the first of all
    assert [one.size for one in after[1:]] == [360 * hour for hour in range(1, 25)]


def test_without_a_quorum_the_last_of_each_hour_stays() -> None:
    day = [Held(i + 1, (NOON + 600 * i) * 1000) for i in range(24 * 6)]
    assert [one.size for one in thinned(day)] == [1, *(6 * hour for hour in range(1, 25))]


def test_a_quorum_cosigned_one_does_not_go_for_one_that_is_not() -> None:
    held = [Held(1, NOON * 1000), Held(2, NOON * 1000, NOON), Held(3, NOON * 1000), Held(4, NOON * 1000)]
    assert [one.size for one in thinned(held)] == [1, 2, 4]


def test_one_seen_late_does_not_stand_for_one_seen_early() -> None:
    held = [Held(1, 0), Held(2, 0, NOON), Held(3, 0, NOON + 3 * HOUR_S), Held(4, 0, NOON + 5)]
    assert [one.size for one in thinned(held)] == [1, 4]
    held = [Held(1, 0), Held(2, 0, NOON), Held(3, 0, NOON + 3 * HOUR_S)]
    assert [one.size for one in thinned(held)] == [1, 2, 3]
