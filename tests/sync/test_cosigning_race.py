"""Two requests to cosign one log while its head moves: never a smaller size after a larger, never two histories."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from node.core.merkle import verify_consistency
from node.store.checkpoints import CheckpointStore
from node.store.tables import CosignatureRow, table_of
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts, examples
from tests.builders import Lab

JINAN = Lab("jinan")


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    made = SimulatedAlliance(tmp_path, 3)
    made["jinan"].push(*drafts(3, "A"))
    made.catch_up("qingdao", "jinan")
    yield made
    made.close()


def own_sizes(member: SimulatedMember) -> list[int]:
    """Sizes this member has cosigned, by the time it says."""
    table = table_of(CosignatureRow)
    statement = select(table.c.size).where(table.c.witness == member.name).order_by(table.c.time, table.c.size)
    with member.store.database.read() as connection:
        return list(connection.execute(statement).scalars())


def test_a_request_that_stalls_between_check_and_write_gives_nothing(
    alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    qingdao = alliance["qingdao"]
    stalled, go_on = threading.Event(), threading.Event()
    write = CheckpointStore.save_own_cosignature
    slow: set[int] = set()

    def stall(self, log, witness, cosignature):
        if threading.get_ident() in slow:
            stalled.set()
            assert go_on.wait(20)
        return write(self, log, witness, cosignature)

    monkeypatch.setattr(CheckpointStore, "save_own_cosignature", stall)

    def slowly() -> bool:
        slow.add(threading.get_ident())
        return qingdao.exchange.cosign_head(JINAN.origin)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slowly)
        assert stalled.wait(20)
        alliance["jinan"].push(*drafts(2, "B"))
        alliance.catch_up("qingdao", "jinan")
        alliance.clock.turn(1)
        assert qingdao.exchange.cosign_head(JINAN.origin)
        go_on.set()
        assert first.result(20) is False
    assert own_sizes(qingdao) == [5]
    notes = b"".join(qingdao.exchange.held_notes())
    assert notes.count(b"/witness/qingdao") == 1


def test_a_note_that_is_made_while_a_cosignature_is_saved_does_not_stay(
    alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read before, and is remembered after: kept, it would leave the cosignature untold until the next head."""
    qingdao = alliance["qingdao"]
    signed, may_save, saved, was_read, may_remember = (threading.Event() for _ in range(5))
    write, choose = CheckpointStore.save_own_cosignature, CheckpointStore.choose

    def write_late(*args) -> bool:
        signed.set()
        assert may_save.wait(20)
        new = write(*args)
        saved.set()
        return new

    def choose_early(*args, **named):
        chosen = choose(*args, **named)
        was_read.set()
        assert may_remember.wait(20)
        return chosen

    monkeypatch.setattr(CheckpointStore, "save_own_cosignature", write_late)
    monkeypatch.setattr(CheckpointStore, "choose", choose_early)
    with ThreadPoolExecutor(2) as pool:
        cosigned = pool.submit(qingdao.exchange.cosign_head, JINAN.origin)
        assert signed.wait(20)
        told = pool.submit(qingdao.exchange.held_notes)
        assert was_read.wait(20)
        may_save.set()
        assert saved.wait(20)
        wait([cosigned], timeout=0.2)  # it must not be over before the note is remembered
        may_remember.set()
        assert cosigned.result(20) is True
        assert b"/witness/qingdao" not in b"".join(told.result(20))
    assert b"/witness/qingdao" in b"".join(qingdao.exchange.held_notes())


def test_two_requests_for_one_head_give_one_cosignature(alliance: SimulatedAlliance) -> None:
    qingdao = alliance["qingdao"]
    start = threading.Barrier(4)

    def request() -> bool:
        start.wait(20)
        return qingdao.exchange.cosign_head(JINAN.origin)

    with ThreadPoolExecutor(4) as pool:
        answers = [future.result(20) for future in [pool.submit(request) for _ in range(4)]]
    assert sorted(answers) == [False, False, False, True] and own_sizes(qingdao) == [3]


@examples(10)
@given(plan=st.lists(st.sampled_from(["push", "follow", "cosign", "turn"]), max_size=14))
def test_whatever_comes_in_whatever_order(tmp_path_factory: pytest.TempPathFactory, plan: list[str]) -> None:
    """Requests to cosign run in other threads the whole time; by its times the witness only ever went forward."""
    made = SimulatedAlliance(tmp_path_factory.mktemp("race"), 2)
    jinan, qingdao = made["jinan"], made["qingdao"]
    jinan.push(*drafts(1, "FIRST"))
    made.catch_up("qingdao", "jinan")
    with ThreadPoolExecutor(2) as pool:
        pending = []
        for number, step in enumerate(plan):
            if step == "push":
                jinan.push(*drafts(2, f"P{number}"))
            elif step == "follow":
                made.catch_up("qingdao", "jinan")
            elif step == "turn":
                made.clock.turn(1)
            else:
                pending += [pool.submit(qingdao.exchange.cosign_head, JINAN.origin) for _ in range(2)]
        for future in pending:
            future.result(20)
    cosigned = own_sizes(qingdao)
    assert cosigned == sorted(set(cosigned))
    tree = jinan.store.logs.tree(jinan.ledger.log.id)
    log = qingdao.mirror_of("jinan")
    for old, new in pairwise(cosigned):
        roots = [qingdao.store.checkpoints.find(log.id, size) for size in (old, new)]
        assert roots[0] is not None and roots[1] is not None
        verify_consistency(old, new, tree.consistency(old, new), roots[0].root, roots[1].root)
    made.close()
