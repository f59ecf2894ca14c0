"""How long a peer is left alone whose pages come to nothing: twice as long each time, a moment after the first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.entry import LogPage
from node.errors import PeerUnreachableError
from node.store import logs as logs_module
from node.sync import follower as follower_module
from node.sync import resting as resting_module
from node.sync.follower import Follower
from node.sync.peer import PeerState
from node.sync.resting import FORGOTTEN_AFTER_S, REST_MAX_S, Rest
from tests.alliance import SimulatedAlliance, drafts, wait_until

QUICK_S = 0.05
WATCHED_S = 1.5
# The rests sum up to more than the watched time: 0.05 + 0.1 + 0.2 + 0.4 + 0.8.
READS_MAX = 6


class Clock:
    def __init__(self) -> None:
        self.now_s = 5.0

    def __call__(self) -> float:
        return self.now_s


def drop(rest: Rest) -> float:
    rest.note_dropped()
    return rest.take(1.0)


def test_the_rest_doubles_up_to_a_minute() -> None:
    rest = Rest(Clock())
    assert [drop(rest) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_only_what_was_dropped_makes_it_longer() -> None:
    rest = Rest(Clock())
    assert (rest.take(), rest.take(1.0)) == (0.0, 1.0)
    assert [drop(rest), drop(rest), rest.take(1.0), rest.take()] == [1, 2, 1, 0]
    assert drop(rest) == 4


def test_a_head_that_verifies_ends_the_count() -> None:
    rest = Rest(Clock())
    drop(rest), drop(rest)
    rest.note_verified()
    assert drop(rest) == 1
    rest.note_dropped()
    rest.note_verified()
    assert rest.take() == 0


def test_a_time_without_ends_the_count() -> None:
    clock = Clock()
    rest = Rest(clock)
    drop(rest), drop(rest)
    clock.now_s += FORGOTTEN_AFTER_S
    assert drop(rest) == 4
    clock.now_s += FORGOTTEN_AFTER_S + 1
    assert drop(rest) == 1


@given(st.integers(1, 5000), st.floats(0, 30))
def test_whoever_calls_at_once_is_read_about_once_a_minute(times: int, took_s: float) -> None:
    clock = Clock()
    rest, begin_s = Rest(clock), clock.now_s
    for _ in range(times):
        clock.now_s += took_s
        clock.now_s += drop(rest)
    assert times <= 7 + (clock.now_s - begin_s) / REST_MAX_S


class TestFollowing:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(follower_module, "DISCONNECT_PAUSE_S", 0.001)
        for module in (follower_module, resting_module):
            monkeypatch.setattr(module, "REST_S", QUICK_S)

    async def call(self, alliance: SimulatedAlliance, watched_s: float) -> tuple[PeerState, int]:
        """Follow jinan, which calls all the time; returns how often its log was read."""
        state = PeerState("jinan")
        follower = Follower(alliance.parts("qingdao"), "jinan", state)
        task = asyncio.create_task(follower.run())
        try:
            end = time.monotonic() + watched_s
            while time.monotonic() < end:
                follower.wake()
                await asyncio.sleep(QUICK_S / 5)
            reads = len(alliance.reads)
            alliance.tampering.page, alliance.tampering.stream = (lambda page: page), (lambda messages: messages)
            size = alliance["jinan"].ledger.log.head_size

            def is_followed() -> bool:
                follower.wake()
                return state.state == "connected" and state.verified == size

            await wait_until(is_followed)
            return state, reads
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def test_a_liar_that_calls_is_read_less_and_less(self, alliance: SimulatedAlliance) -> None:
        alliance["jinan"].push(*drafts(3))
        alliance.tampering.page = lambda page: replace(page, commitments=bytes(len(page.commitments)))
        _, reads = alliance.run(lambda: self.call(alliance, WATCHED_S))
        assert 3 <= reads <= READS_MAX

    def test_one_that_announces_less_than_it_has_sent_too(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That is no fault: its disk may have gone back in time."""
        monkeypatch.setattr(logs_module, "PAGE_ENTRIES_MAX", 3)
        jinan = alliance["jinan"]
        jinan.push(*drafts(1, "A"))
        alliance.catch_up("qingdao", "jinan")
        first = jinan.ledger.log.head_note
        jinan.push(*drafts(10, "B"))
        before, turns = len(alliance.reads), 0

        def break_off(messages: Sequence[bytes | LogPage]) -> Iterable[bytes | LogPage]:
            nonlocal turns
            turns += 1
            return sent(messages, turns % 2 == 0)

        def sent(messages: Sequence[bytes | LogPage], less: bool) -> Iterator[bytes | LogPage]:
            yield from [first] if less else messages[:2]
            raise PeerUnreachableError("broken off")

        alliance.tampering.stream = break_off
        state, reads = alliance.run(lambda: self.call(alliance, WATCHED_S))
        assert 4 <= reads - before <= 2 * READS_MAX
        assert state.reason == ""

    def test_after_one_fault_a_peer_that_calls_is_read_at_once(self, alliance: SimulatedAlliance) -> None:
        alliance["jinan"].push(*drafts(3))
        turns = []

        def lie_once(page: LogPage) -> LogPage:
            turns.append(page)
            return replace(page, commitments=bytes(len(page.commitments))) if len(turns) == 1 else page

        alliance.tampering.page = lie_once
        _, reads = alliance.run(lambda: self.call(alliance, 6 * QUICK_S))
        assert reads == 2
