"""The daemon's part that gives up what counts no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from node.core.alliance import Alliance
from node.core.roster import Head
from node.daemon.judging import Judging
from node.errors import StoreError
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts, list_all, wait_until


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Three members; jinan, their founder, holds two entries of qingdao."""
    made = SimulatedAlliance(tmp_path)
    made["qingdao"].push(*drafts(2))
    made.catch_up("jinan", "qingdao")
    yield made
    made.close()


def run_beside(reader: SimulatedMember, work: Callable[[Judging], Awaitable[None]]) -> None:
    """Run `work` while a member judges."""

    async def inside() -> None:
        judging = Judging(reader.store, reader.membership, reader.exchange, on_alarm=reader.alarms.append)
        task = asyncio.create_task(judging.run())
        try:
            await work(judging)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(inside())


def remove_qingdao(founder: SimulatedMember) -> None:
    """End qingdao's log with another history than the one that is held."""
    founder.membership.remove_member("qingdao", Head(2, bytes(32)))


def test_a_change_is_judged_when_it_is_told(alliance: SimulatedAlliance) -> None:
    reader = alliance["jinan"]

    async def work(judging: Judging) -> None:
        remove_qingdao(reader)
        assert not reader.alarms
        judging.notice()
        await wait_until(lambda: reader.alarms)

    run_beside(reader, work)
    assert "the log of qingdao has another root at size 2" in reader.alarms[0]


def test_what_the_database_refuses_is_tried_again(alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = alliance["jinan"]
    refused: list[Alliance] = []

    def refuse(known: Alliance) -> None:
        refused.append(known)
        raise StoreError("the disk is full")

    async def work(judging: Judging) -> None:
        remove_qingdao(reader)
        with monkeypatch.context() as patch:
            patch.setattr(reader.store.membership, "save_cuts", refuse)
            judging.notice()
            await wait_until(lambda: refused)
        assert not reader.alarms
        judging.notice()
        await wait_until(lambda: reader.alarms)

    run_beside(reader, work)


def test_a_later_roster_that_ends_the_log_nowhere(alliance: SimulatedAlliance) -> None:
    """The council's signatures carry one, though no honest member signs it: what it says now counts here, too."""
    reader = alliance["jinan"]
    log = reader.mirror_of("qingdao")
    reader.membership.remove_member("qingdao", Head(1, reader.store.logs.tree(log.id).root(1)))
    assert len(list_all(reader.store)) == 1
    joined = reader.membership.joined
    envelope, roster = joined.rosters[-1]
    members = {**roster.members, "qingdao": replace(roster.members["qingdao"], head=None)}
    later = replace(roster, members=MappingProxyType(members))
    reader.store.membership.save_cuts(replace(joined, rosters=(*joined.rosters, (envelope, later))))
    assert len(list_all(reader.store)) == 2
