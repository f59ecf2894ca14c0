"""A council names the head that survives: peers that hold the other history end with the survivor, whatever the sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.entry import LogPage
from node.core.merkle import Frontier
from node.core.mirror import StagingLimits
from node.core.roster import Head
from node.errors import MalformedError
from node.store.logs import LogState
from node.sync.survivor import Comparison
from tests.alliance import SimulatedAlliance, drafts, list_all, visible, wait_until
from tests.builders import MemoryLog, build_labs, build_log
from tests.evidence_cases import build_fork
from tests.simulated_client import Tampering
from tests.sync.disputes import settle
from tests.sync.equivocation import contact, holders, show

JINAN, _, _ = build_labs(3)
COMMON, TRUE = 3, 7


def fork_of(alliance: SimulatedAlliance, extra: int) -> MemoryLog:
    """Another history that goes on from the common entries of jinan's log."""
    log, jinan = build_log(JINAN), alliance["jinan"]
    page = jinan.store.logs.read_page(jinan.ledger.log, start=0, stop=COMMON, reader="jinan")
    for opening in page.openings:
        log.records.append(opening.record)
        log.salts.append(opening.salt)
    log.commitments = [page.commitments[i : i + 32] for i in range(0, 32 * COMMON, 32)]
    log.frontier = log.frontier.extend(log.commitments)[0]
    log.append_numbered(extra)
    return log


def fork(alliance: SimulatedAlliance, lie: int) -> None:
    """Yantai verifies `lie` entries of the other history, qingdao the seven of the true one; they meet."""
    alliance["jinan"].push(*drafts(COMMON, "COMMON"))
    for name in ("qingdao", "yantai"):
        alliance.catch_up(name, "jinan")
    show(alliance, "yantai", fork_of(alliance, lie - COMMON))
    alliance["jinan"].push(*drafts(TRUE - COMMON, "TRUE"))
    alliance.catch_up("qingdao", "jinan")
    contact(alliance, "qingdao", "yantai")
    assert holders(alliance, "jinan") == ["qingdao", "yantai"]


def settle_true(alliance: SimulatedAlliance) -> None:
    settle(alliance, Head(TRUE, alliance["jinan"].ledger.checkpoint.root))
    assert holders(alliance, "jinan") == []


def require_survivor(alliance: SimulatedAlliance) -> None:
    jinan = alliance["jinan"]
    for name in ("qingdao", "yantai"):
        alliance.catch_up(name, "jinan")
        assert [item.record for item in list_all(alliance[name].store)] == [item.record for item in list_all(jinan.store)]
        assert alliance[name].mirror_of("jinan").head_note == jinan.ledger.log.head_note
    assert holders(alliance, "jinan") == []


@pytest.mark.parametrize("lie", [4, 5, 6, 7, 9])
@pytest.mark.parametrize("entries_max", [1, 1000])
def test_the_survivor_is_named_beyond_at_or_below_what_is_held(
    alliance: SimulatedAlliance, lie: int, entries_max: int
) -> None:
    fork(alliance, lie)
    settle_true(alliance)
    alliance["jinan"].push(*drafts(2, "NEXT"))
    # A small window leads from checkpoint to checkpoint, so the pull fails at a root and not at the named head.
    state = alliance.catch_up("yantai", "jinan", limits=StagingLimits(entries=max(entries_max, 4)))
    assert state.state == "connected"
    require_survivor(alliance)
    require_survivor(alliance)


@pytest.mark.parametrize("lie", [TRUE, 9, 12])
def test_a_longer_copy_is_forgotten_at_once_while_the_author_is_away(alliance: SimulatedAlliance, lie: int) -> None:
    """The survivor is no longer than what is held: the named head alone shows that it is another history."""
    fork(alliance, lie)
    settle_true(alliance)
    yantai = alliance["yantai"]
    assert len(list_all(yantai.store)) == lie
    alliance.unreachable.add("jinan")

    async def work() -> None:
        async with alliance.all_connected():
            await wait_until(lambda: not yantai.mirror_of("jinan").head_size)

    alliance.run(work)
    assert list_all(yantai.store) == []
    assert alliance["qingdao"].mirror_of("jinan").head_size == TRUE, "who holds the survivor keeps it"
    alliance.unreachable.clear()
    require_survivor(alliance)


@pytest.mark.parametrize("lie", [4, 6])
@pytest.mark.parametrize("attack", ["other pages", "stops", "repeats", "only announces"])
def test_a_server_that_does_not_show_the_survivor_makes_nobody_forget(
    alliance: SimulatedAlliance, lie: int, attack: str
) -> None:
    fork(alliance, lie)
    settle_true(alliance)
    held = visible(alliance["yantai"].store)

    def spoil(page: LogPage) -> LogPage:
        return replace(page, commitments=bytes(len(page.commitments)), openings=[])

    def cut(messages: Sequence[bytes | LogPage]) -> Iterable[bytes | LogPage]:
        if attack == "repeats":
            return [item for message in messages for item in (message, message)]
        return [item for item in messages if isinstance(item, bytes)] * (2 if attack == "only announces" else 1)

    if attack == "other pages":
        alliance.tampering.page = spoil
        alliance.follow("yantai", "jinan", lambda state: state.state == "refused")
    elif attack == "repeats":
        alliance.tampering.stream = cut
        alliance.follow("yantai", "jinan", lambda state: state.state == "refused")
    else:
        # The first stream fails as an honest one would; the one that compares is cut short.
        alliance.tampering.stream = lambda messages: cut(messages) if alliance.reads[-1].start == 0 else messages
        alliance.follow("yantai", "jinan", lambda state: state.state == "refused")
        assert alliance.reads[-1].start == 0
    assert visible(alliance["yantai"].store) == held
    alliance.tampering = Tampering()
    require_survivor(alliance)


def test_a_lie_to_who_holds_the_survivor_s_beginning_costs_nothing(alliance: SimulatedAlliance) -> None:
    """Yantai is only behind. Pages that do not fit are dropped; what it holds begins the survivor, and stays."""
    alliance["jinan"].push(*drafts(COMMON, "COMMON"))
    alliance.catch_up("yantai", "jinan")
    alliance["jinan"].push(*drafts(TRUE - COMMON, "TRUE"))
    settle(alliance, Head(TRUE, alliance["jinan"].ledger.checkpoint.root))
    held = visible(alliance["yantai"].store)
    alliance.tampering.page = lambda page: (
        replace(page, commitments=bytes(len(page.commitments)), openings=[]) if page.start else page
    )
    alliance.follow("yantai", "jinan", lambda state: state.state == "refused")
    assert visible(alliance["yantai"].store) == held
    number = alliance["yantai"].mirror_of("jinan").id
    alliance.tampering.page = lambda page: page
    alliance.catch_up("yantai", "jinan")
    assert alliance["yantai"].mirror_of("jinan").id == number


class TestComparison:
    @given(st.integers(0, 12), st.integers(1, 10), st.integers(1, 10), st.data())
    def test_it_tells_the_two_histories_apart_however_they_are_paged(
        self, common: int, small: int, more: int, data: st.DataObject
    ) -> None:
        lie, true = build_fork(JINAN, common, common + small, common + small + more)
        head, served = Head(true.size, true.tree.root(true.size)), data.draw(st.sampled_from([lie, true]))
        held = data.draw(st.sampled_from([lie, true]))
        size = data.draw(st.integers(1, lie.size))
        differs = held is lie and size > common
        comparison = Comparison(_state(held, size), head)
        start = 0
        while start < served.size:
            stop = data.draw(st.integers(start + 1, served.size))
            comparison.apply(served.page(start, stop))
            start = stop
        assert comparison.replaced == (served is true and differs)

    def test_pages_out_of_turn(self) -> None:
        log = build_log(JINAN, 5)
        for message in (log.page(1, 2), LogPage(0, b"", [])):
            with pytest.raises(MalformedError):
                Comparison(_state(log, 2), Head(5, bytes(32))).apply(message)


def _state(log: MemoryLog, size: int) -> LogState:
    frontier = Frontier().extend(log.commitments[:size])[0]
    return LogState(1, log.lab.origin, log.lab.member, size, bytes(log.checkpoint(size)), frontier, 0, frontier, 0, 0)
