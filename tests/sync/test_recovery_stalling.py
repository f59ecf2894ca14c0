"""A peer that tells the log drop by drop, or nothing at all, holds a recovery up for so long and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from node.core.entry import LogPage
from node.errors import PeerUnreachableError
from node.sync.peer import PeerClient
from node.sync.recovery import Patience
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts
from tests.soundness import require_sound
from tests.sync.recovering import publish, state


class Dripping:
    """A peer that gives one entry a page, and lets `pause_s` of a turned clock pass before each; `between` runs then."""

    def __init__(self, inner: PeerClient, now: list[float], pause_s: float, between: Callable[[], Awaitable[None]]) -> None:
        self._inner, self._now, self._pause_s, self._between = inner, now, pause_s, between
        self.given = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def read_log(self, origin: str, **options: Any) -> AsyncIterator[bytes | LogPage]:
        async for message in self._inner.read_log(origin, **options):
            if not isinstance(message, LogPage):
                yield message
                continue
            for i in range(len(message.commitments) // 32):
                index = message.start + i
                openings = [opening for opening in message.openings if opening.index == index]
                self._now[0] += self._pause_s
                await self._between()
                self.given += 1
                yield LogPage(index, message.commitments[32 * i : 32 * i + 32], openings)


class TestDripping:
    """One that gives back as slowly as it can must not keep the others from giving back."""

    @pytest.fixture
    def now(self, jinan: SimulatedMember, snapshot: Path, alliance: SimulatedAlliance) -> list[float]:
        """What time the recovery believes it is; jinan is rolled back by 40 entries."""
        publish(alliance, *drafts(40, "LOST"), to=("qingdao", "yantai"))
        jinan.roll_back(snapshot)
        now = [1000.0]
        return now

    async def nothing(self) -> None:
        pass

    def meet(
        self,
        alliance: SimulatedAlliance,
        now: list[float],
        pause_s: float,
        between: Callable[[], Awaitable[None]],
        **changes: Any,
    ) -> int:
        """One contact with the dripping qingdao; returns how many entries it gave."""
        recovery = alliance["jinan"].recovery
        recovery.parts = replace(recovery.parts, now_s=lambda: now[0], **changes)
        given = 0

        async def work() -> None:
            nonlocal given
            inner = alliance.client("jinan", "qingdao")
            answer = await inner.exchange_checkpoints(digest=b"", notes=[], roster_version=0, cards_digest=b"")
            client = Dripping(inner, now, pause_s, between)
            await recovery.meet(client, "qingdao", answer.caller_note)
            given = client.given

        alliance.run(work)
        return given

    def test_it_loses_its_turn_and_another_gives_back(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, now: list[float]
    ) -> None:
        given = self.meet(alliance, now, 9.0, self.nothing, stall_s=10.0, fault_pause_s=30.0)
        assert (given, now[0], state(jinan)[1]) == (2, 1018.0, 3)
        [sentence] = jinan.recovery.sentences()
        assert "qingdao" in sentence and "18 s of waiting" in sentence
        alliance.meet("jinan", "yantai")
        assert state(jinan) == (True, 43, 43)
        require_sound(jinan)

    def test_it_is_left_alone_longer_each_time(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, now: list[float]
    ) -> None:
        begun = []
        for _ in range(60):
            at = now[0]
            if self.meet(alliance, now, 9.0, self.nothing, stall_s=10.0, fault_pause_s=30.0):
                begun.append(at)
            now[0] = at + 30.0 if now[0] == at else now[0]
        pauses = [later - earlier for earlier, later in pairwise(begun)]
        assert len(pauses) > 3 and pauses == sorted(pauses) and pauses[0] < 80.0 and pauses[3] >= 240.0

    def test_coming_back_buys_no_time(self, alliance: SimulatedAlliance, jinan: SimulatedMember, now: list[float]) -> None:
        async def cut() -> None:
            raise PeerUnreachableError("gone")

        for _ in range(2):
            with pytest.raises(PeerUnreachableError):
                self.meet(alliance, now, 9.0, cut, stall_s=10.0, fault_pause_s=30.0)
            jinan.recovery._patience_with("qingdao").waited_s += 9.0
        assert self.meet(alliance, now, 9.0, self.nothing, stall_s=10.0, fault_pause_s=30.0) == 0

    def test_a_long_turn_ends_when_another_waits(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, now: list[float]
    ) -> None:
        async def knock() -> None:
            client = alliance.client("jinan", "yantai")
            answer = await client.exchange_checkpoints(digest=b"", notes=[], roster_version=0, cards_digest=b"")
            await jinan.recovery.meet(client, "yantai", answer.caller_note)

        given = self.meet(alliance, now, 1.0, knock, stall_s=1000.0, turn_s=5.0, fault_pause_s=30.0)
        assert (given, state(jinan)[1]) == (6, 3)
        assert "another peer waits" in jinan.recovery.sentences()[0]

    def test_a_slow_one_that_is_alone_may_finish(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, now: list[float]
    ) -> None:
        given = self.meet(alliance, now, 1.0, self.nothing, stall_s=1000.0, turn_s=5.0)
        assert (given, state(jinan)) == (40, (True, 43, 43))

    def test_the_account_runs_on_bytes(self) -> None:
        patience = Patience(30.0)
        patience.note(29.0, b"an announcement")
        assert patience.left_s() == 1.0
        patience.note(9.0, LogPage(0, bytes(32 * 1024), []))
        assert patience.left_s() == -6.0
        patience.note(0.0, LogPage(1, bytes(1024 * 1024), []))
        assert patience.left_s() == 30.0
