"""Grants and erasures between members: followed, acknowledged, and kept although somebody lies or was away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.core.entry import LogPage, Opening
from node.core.names import parse_record_id
from node.store.erasures import ErasedRecord
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, visible, wait_until
from tests.disclosing import KINDS, erased_indexes, held_openings

SECRET = parse_record_id("jinan/result/SECRET")


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Three members; jinan has an open record, and one for qingdao."""
    made = SimulatedAlliance(tmp_path, schemas=KINDS)
    made["jinan"].push(draft("OPEN"), draft("SECRET", "unsagbar", audience=["qingdao"]))
    for reader in ("qingdao", "yantai"):
        made.catch_up(reader, "jinan")
    yield made
    made.close()


def erased(member: SimulatedMember) -> ErasedRecord:
    found = member.store.erasures.find(SECRET)
    assert found is not None
    return found


class TestGrant:
    def test_it_opens_the_record_to_one_more(self, alliance: SimulatedAlliance) -> None:
        jinan, yantai = alliance["jinan"], alliance["yantai"]
        jinan.disclosure.grant(SECRET, ["yantai"])
        alliance.follow("yantai", "jinan", lambda _: yantai.store.records.find(SECRET))
        assert held_openings(yantai.store) == held_openings(jinan.store)

    def test_on_an_open_stream(self, alliance: SimulatedAlliance) -> None:
        jinan, yantai = alliance["jinan"], alliance["yantai"]
        moved: list[int] = []

        async def work() -> None:
            async with alliance.following("yantai", "jinan", on_head=lambda log: moved.append(log.head_size)):
                await wait_until(lambda: alliance.reads[-1].reader == "yantai")
                await asyncio.to_thread(jinan.disclosure.grant, SECRET, ["yantai"])
                # What is stored is told a moment later.
                await wait_until(lambda: yantai.store.records.find(SECRET) and len(moved) == 2)

        alliance.run(work)
        # Once for the grant, and once for what came late: it is to be indexed, and passed on.
        assert moved == [3, 3]

    def test_an_opening_that_nobody_granted_is_refused(self, alliance: SimulatedAlliance) -> None:
        jinan, yantai = alliance["jinan"], alliance["yantai"]
        own = jinan.store.logs.read_page(jinan.ledger.log, start=1, stop=2, reader="jinan").openings[0]
        jinan.push(draft("NEXT"))

        def smuggle(page: LogPage) -> LogPage:
            return LogPage(page.start, page.commitments, [*page.openings, Opening(1, own.salt, own.record, 9)])

        alliance.tampering.page = smuggle
        before = visible(yantai.store)
        state = alliance.follow("yantai", "jinan", lambda state: state.state == "refused")
        assert (state.reason, "is not for yantai" in state.error) == ("MALFORMED", True)
        assert visible(yantai.store) == before


class TestErase:
    def test_peers_delete_and_acknowledge(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao, yantai = (alliance[name] for name in ("jinan", "qingdao", "yantai"))
        jinan.disclosure.erase(SECRET, "wrong customer")
        for reader in ("qingdao", "yantai"):
            alliance.catch_up(reader, "jinan")
        assert erased_indexes(qingdao.store) == {1}
        assert (set(held_openings(qingdao.store)), set(held_openings(yantai.store))) == ({0, 2}, {0})
        # Yantai could never read it, and is not told of the erasure either.
        assert erased_indexes(yantai.store) == set()
        assert jinan.disclosure.acknowledgements(erased(jinan)).missing == ("qingdao",)

        # Not swept yet: nothing is said.
        alliance.follow("qingdao", "jinan", lambda state: state.state == "connected" and alliance.reads)
        assert jinan.disclosure.acknowledgements(erased(jinan)).missing == ("qingdao",)
        assert qingdao.store.sweeper.sweep() is True
        alliance.follow(
            "qingdao", "jinan", lambda _: jinan.disclosure.acknowledgements(erased(jinan)).acknowledged == ("qingdao",)
        )
        assert jinan.disclosure.acknowledgements(erased(jinan)).missing == ()
        assert b"unsagbar" not in qingdao.stored_bytes()

    def test_it_is_told_again_until_the_author_takes_it(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        jinan.disclosure.erase(SECRET, "wrong customer")
        alliance.catch_up("qingdao", "jinan")
        qingdao.store.sweeper.sweep()
        log_id = qingdao.mirror_of("jinan").id
        with monkeypatch.context() as patch:
            # As an author answers that was restored, and does not know its own erasure yet.
            patch.setattr(type(jinan.disclosure), "accept_acknowledgement", lambda *_, **__: [])
            alliance.follow("qingdao", "jinan", lambda state: state.state == "connected" and alliance.reads)
        assert qingdao.store.erasures.to_acknowledge(log_id) == [1]
        alliance.follow("qingdao", "jinan", lambda _: qingdao.store.erasures.to_acknowledge(log_id) == [])
        assert jinan.store.erasures.acknowledged_by(jinan.ledger.log.id, 1) == ["qingdao"]

    def test_all_of_it_is_told_once_on_each_connection(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        jinan.push(draft("THIRD"))
        jinan.disclosure.erase(SECRET, "wrong customer")
        jinan.disclosure.erase(parse_record_id("jinan/result/THIRD"), "wrong customer")
        alliance.catch_up("qingdao", "jinan")
        qingdao.store.sweeper.sweep()
        told: list[list[int]] = []
        exchanges: list[str] = []
        take, note_for = jinan.disclosure.accept_acknowledgement, jinan.exchange.note_for

        def note(origin: str, indexes: list[int], **options: Any) -> list[int]:
            told.append(list(indexes))
            return take(origin, indexes, **options)

        def count(caller: str) -> bytes:
            exchanges.append(caller)
            return note_for(caller)

        monkeypatch.setattr(jinan.disclosure, "accept_acknowledgement", note)
        monkeypatch.setattr(jinan.exchange, "note_for", count)
        monkeypatch.setattr("node.store.erasures.ACKNOWLEDGED_AT_ONCE_MAX", 1)

        def connect() -> None:
            before = len(exchanges)  # a contact has one or two
            alliance.follow("qingdao", "jinan", lambda _: len(exchanges) >= before + 6, contact_interval_s=0.01)

        connect()
        assert told == [[1], [2]]
        connect()
        assert told == [[1], [2]] * 2

    def test_who_was_away_deletes_it_later(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        alliance.unreachable.add("jinan")
        jinan.disclosure.erase(SECRET, "wrong customer")
        jinan.push(draft("LATER"))
        assert b"unsagbar" in qingdao.stored_bytes()
        alliance.unreachable.clear()
        qingdao.reopen()
        alliance.catch_up("qingdao", "jinan")
        assert qingdao.store.sweeper.sweep() is True
        assert b"unsagbar" not in qingdao.stored_bytes()

    def test_an_opening_sent_again_after_its_erasure_is_not_kept(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        own = jinan.store.logs.read_page(jinan.ledger.log, start=1, stop=2, reader="jinan").openings[0]
        jinan.disclosure.erase(SECRET, "wrong customer")
        alliance.catch_up("qingdao", "jinan")
        qingdao.store.sweeper.sweep()
        jinan.push(draft("NEXT"))
        alliance.tampering.page = lambda page: LogPage(
            page.start, page.commitments, [*page.openings, Opening(1, own.salt, own.record, 9)], page.cursor
        )
        alliance.catch_up("qingdao", "jinan")
        assert set(held_openings(qingdao.store)) == {0, 2, 3}
        assert b"unsagbar" not in qingdao.stored_bytes()
