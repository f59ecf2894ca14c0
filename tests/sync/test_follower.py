"""Following an honest peer: up to the head, live, after an outage, and no more than the audience allows."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from node.core.canonical import dumps_canonical
from node.core.checkpoint import Checkpoint, sign_checkpoint
from node.core.entry import LogPage, committer
from node.core.mirror import StagingLimits
from node.core.names import RecordId
from node.core.record import Record
from node.errors import (
    GovernanceError,
    LabmeshError,
    MalformedError,
    PeerUnreachableError,
    ProofError,
    RollbackError,
    StoreError,
)
from node.store import logs as logs_module
from node.store.logs import LogState, NewEntry
from node.store.tables import STATUS_NOT_UNDERSTOOD, STATUS_QUARANTINED
from node.sync import follower as follower_module
from node.sync.peer import Exchange, PeerState
from node.sync.pull import PullSession
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts, list_all, visible, wait_until
from tests.builders import build_salt, record_bytes, record_content
from tests.simulated_client import Tampering


def keys(member: SimulatedMember) -> list[str]:
    return [stored.key for stored in list_all(member.store)]


def append_raw(author: SimulatedMember, *raws: bytes) -> None:
    """Let an author append bytes that its own ledger would refuse."""
    log = author.ledger.log
    salts = [build_salt(log.origin, log.head_size + i) for i in range(len(raws))]
    commit = committer(log.origin)
    entries = [
        NewEntry(commit(salt, raw), salt, Record(raw, record_content(key=f"RAW-{log.head_size + i}")))
        for i, (salt, raw) in enumerate(zip(salts, raws, strict=True))
    ]
    frontier, tiles = log.staged.extend([entry.commitment for entry in entries])
    signed = sign_checkpoint(Checkpoint(log.origin, frontier.size, frontier.root()), author.lab.log)
    author.ledger._log = author.store.logs.append(log, entries, frontier=frontier, tiles=tiles, signed=signed, now_ms=1)
    author.announce()


class TestCatchingUp:
    def test_a_new_follower_reaches_the_head(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        jinan.push(*drafts(3, "A"))
        jinan.push(*drafts(2, "B"))
        jinan.push(draft("A-000000", "changed"), revise=True)
        moved: list[LogState] = []
        state = alliance.catch_up("qingdao", "jinan", on_head=moved.append)
        assert (state.state, state.size, state.verified, state.error, state.reason) == ("connected", 6, 6, "", "")
        assert (state.last_contact_ms, state.clock_offset_ms) == (int(alliance.clock().timestamp() * 1000), 0)
        mirrored, own = qingdao.mirror_of("jinan"), jinan.ledger.log
        assert (mirrored.head_size, mirrored.head_note, mirrored.head_frontier) == (6, own.head_note, own.head_frontier)
        assert keys(qingdao) == keys(jinan) == ["A-000001", "A-000002", "B-000000", "B-000001", "A-000000"]
        assert [log.head_size for log in moved] == [6]
        assert (len(alliance.reads), alliance.closed) == (1, 1)

    def test_an_empty_log(self, alliance: SimulatedAlliance) -> None:
        state = alliance.follow("qingdao", "jinan", lambda state: state.state == "connected" and alliance.reads)
        assert (state.size, state.verified) == (0, 0)

    def test_only_what_is_missing_is_asked_for(self, alliance: SimulatedAlliance) -> None:
        for i in range(3):
            alliance["jinan"].push(*drafts(4, f"B{i}"))
            alliance.catch_up("qingdao", "jinan")
        assert [(read.start, read.after) for read in alliance.reads] == [(0, 0), (4, 4), (8, 8)]
        alliance["qingdao"].reopen()
        alliance["jinan"].push(*drafts(1, "LAST"))
        alliance.catch_up("qingdao", "jinan")
        assert (alliance.reads[-1].start, alliance.reads[-1].after) == (12, 12)

    def test_many_pages(self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logs_module, "PAGE_ENTRIES_MAX", 7)
        alliance["jinan"].push(*drafts(300))
        alliance.catch_up("qingdao", "jinan")
        assert len(keys(alliance["qingdao"])) == 300
        assert alliance["qingdao"].mirror_of("jinan").head_frontier.root() == alliance["jinan"].ledger.checkpoint.root

    def test_no_more_is_staged_than_allowed(self, alliance: SimulatedAlliance) -> None:
        for i in range(10):
            alliance["jinan"].push(*drafts(2, f"B{i}"))
        sizes: list[int] = []
        alliance.catch_up(
            "qingdao", "jinan", limits=StagingLimits(entries=5), on_head=lambda log: sizes.append(log.head_size)
        )
        assert sizes == [4, 8, 12, 16, 20]
        assert alliance.reads[0].entries_max == 5

    def test_a_step_larger_than_allowed_is_refused(self, alliance: SimulatedAlliance) -> None:
        alliance["jinan"].push(*drafts(10))
        state = alliance.follow("qingdao", "jinan", lambda state: state.state == "refused", limits=StagingLimits(entries=5))
        assert state.reason == "STAGING_LIMIT"
        assert keys(alliance["qingdao"]) == []


class TestLive:
    def test_a_push_arrives_on_the_open_stream(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]

        async def work() -> None:
            async with alliance.following("qingdao", "jinan") as state:
                await wait_until(lambda: state.state == "connected")
                for size in range(1, 6):
                    await asyncio.to_thread(jinan.push, draft(f"LIVE-{size}"))
                    await wait_until(lambda size=size: state.verified == size)  # type: ignore[misc]

        alliance.run(work)
        assert keys(qingdao) == [f"LIVE-{size}" for size in range(1, 6)]
        assert len(alliance.reads) == 1

    def test_what_may_be_published_only_now_arrives_too(self, alliance: SimulatedAlliance) -> None:
        jinan = alliance["jinan"]
        jinan.reopen()
        jinan.push(*drafts(2))

        async def work() -> None:
            async with alliance.following("qingdao", "jinan") as state:
                await wait_until(lambda: state.state == "connected" and alliance.reads)
                await asyncio.sleep(0.05)
                assert (state.verified, alliance["qingdao"].mirror_of("jinan").staged.size) == (0, 0)
                jinan.confirm()
                await wait_until(lambda: state.verified == 2)

        alliance.run(work)

    def test_contact_confirms_the_own_log(self, alliance: SimulatedAlliance) -> None:
        jinan = alliance["jinan"]
        jinan.push(*drafts(2))
        jinan.reopen()
        moved: list[LogState] = []
        assert not jinan.confirmation.confirmed
        alliance.follow("jinan", "qingdao", lambda _: jinan.confirmation.confirmed and moved, on_head=moved.append)
        assert moved == [jinan.ledger.log]

    def test_a_change_of_the_roster_arrives_with_the_contact(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        alliance["yantai"].membership.reissue_card(name="烟台", region="CN-37", endpoints=())
        jinan.membership.accept_update([], [alliance["yantai"].card])
        jinan.membership.remove_member("yantai")
        alliance.follow("qingdao", "jinan", lambda state: state.state == "connected" and alliance.reads)
        assert qingdao.membership.joined == jinan.membership.joined
        assert qingdao.membership.joined.active_members() == ["jinan", "qingdao"]
        assert qingdao.membership.joined.card("yantai").name == "烟台"

    def test_cosignatures_arrive_with_the_contact(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        jinan.push(*drafts(2))
        alliance.catch_up("qingdao", "jinan")
        assert qingdao.exchange.cosign_head(jinan.ledger.origin)
        alliance.follow("qingdao", "jinan", lambda _: len(jinan.store.checkpoints.find(1, 2).note.signatures) == 2)  # type: ignore[union-attr]
        assert jinan.exchange.held_notes() == qingdao.exchange.held_notes()

    def test_a_nudge_makes_contact_at_once(self, alliance: SimulatedAlliance) -> None:
        contacts: list[Exchange] = []

        def count(answer: Exchange) -> Exchange:
            contacts.append(answer)
            return answer

        alliance.tampering.exchange = count

        async def work() -> None:
            state = PeerState("jinan")
            follower = follower_module.Follower(alliance.parts("qingdao"), "jinan", state)
            task = asyncio.create_task(follower.run())
            await wait_until(lambda: alliance.reads)
            before = len(contacts)
            follower.nudge()
            await wait_until(lambda: len(contacts) > before)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        alliance.run(work)
        assert (len(contacts), len(alliance.reads)) == (2, 1), "the stream that was open goes on"

    def test_the_clocks_are_compared(self, alliance: SimulatedAlliance) -> None:
        alliance.tampering.exchange = lambda answer: replace(answer, time_ms=answer.time_ms - 90_000)
        state = alliance.follow("qingdao", "jinan", lambda state: state.state == "connected")
        assert state.clock_offset_ms == -90_000


class TestAudience:
    def test_bytes_reach_only_whom_they_are_for(self, alliance: SimulatedAlliance) -> None:
        alliance["jinan"].push(
            draft("ALL", "words-for-everyone"),
            draft("ONE", "words-for-qingdao", audience=["qingdao"]),
            draft("TWO", "words-for-two", audience=["qingdao", "yantai"]),
            draft("NONE", "words-for-nobody", audience=[]),
        )
        for reader in ("qingdao", "yantai"):
            alliance.catch_up(reader, "jinan")
            while alliance[reader].store.search.advance():
                pass
        expected = {"qingdao": ["ALL", "ONE", "TWO"], "yantai": ["ALL", "TWO"]}
        words = {
            "ALL": b"words-for-everyone",
            "ONE": b"words-for-qingdao",
            "TWO": b"words-for-two",
            "NONE": b"words-for-nobody",
        }
        for reader, readable in expected.items():
            assert keys(alliance[reader]) == readable
            assert alliance[reader].mirror_of("jinan").head_size == 4
            stored = alliance[reader].stored_bytes()
            assert [key for key, text in words.items() if text in stored] == readable
        assert all(text in alliance["jinan"].stored_bytes() for text in words.values())

    def test_a_log_without_openings_is_followed_too(self, alliance: SimulatedAlliance) -> None:
        for i in range(3):
            alliance["jinan"].push(*[draft(f"P{i}-{j}", audience=[]) for j in range(5)])
        state = alliance.catch_up("qingdao", "jinan")
        assert (state.verified, keys(alliance["qingdao"])) == (15, [])


class TestAuthorsFaults:
    def test_bytes_that_break_the_rules_are_quarantined_and_the_log_goes_on(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        jinan.push(draft("BEFORE"))
        broken = [
            record_bytes(key="NO-VALUE", body={"unit": "mg/L"}),
            dumps_canonical(record_content(key="SPACES")).replace(b":", b": "),
            record_bytes("qingdao", "FOREIGN"),
            b"\xff\xfe",
            record_bytes(key="BEFORE", body={"value": "said twice"}),
        ]
        append_raw(jinan, *broken)
        jinan.push(draft("AFTER"))
        state = alliance.catch_up("qingdao", "jinan")
        assert (state.state, state.verified) == ("connected", 7)
        assert keys(qingdao) == ["BEFORE", "AFTER"]
        assert qingdao.store.records.count_quarantined() == {qingdao.mirror_of("jinan").id: 5}
        found = qingdao.store.records.find(RecordId("jinan", "result", "NO-VALUE"))
        assert found is not None
        assert (found.status, found.record) == (STATUS_QUARANTINED, broken[0])
        assert "required property" in found.fault

    def test_an_unknown_kind_is_kept(self, alliance: SimulatedAlliance) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        raw = record_bytes(key="A", kind="alert", schema="alert/1", body={"value": "never seen before"})
        append_raw(jinan, raw)
        alliance.catch_up("qingdao", "jinan")
        found = qingdao.store.records.find(RecordId("jinan", "alert", "A"))
        assert found is not None
        assert (found.status, found.record) == (STATUS_NOT_UNDERSTOOD, raw)
        assert (keys(qingdao), qingdao.store.records.count_quarantined()) == ([], {})


class TestOutage:
    def test_a_broken_stream_is_resumed_from_what_was_staged(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs_module, "PAGE_ENTRIES_MAX", 2)
        monkeypatch.setattr(follower_module, "DISCONNECT_PAUSE_S", 0.01)
        alliance["jinan"].push(*drafts(10))
        before = visible(alliance["qingdao"].store)

        def break_after_two_pages(page: LogPage) -> LogPage:
            if page.start == 4 and alliance.reads[-1].start == 0:
                assert visible(alliance["qingdao"].store) == before
                raise PeerUnreachableError("the cable was pulled")
            return page

        alliance.tampering.page = break_after_two_pages
        state = alliance.catch_up("qingdao", "jinan")
        assert state.state == "connected"
        assert [(read.start, read.after) for read in alliance.reads] == [(0, 0), (4, 10)]
        assert len(keys(alliance["qingdao"])) == 10

    def test_a_page_that_is_being_saved_is_saved_before_the_next_connection_begins(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs_module, "PAGE_ENTRIES_MAX", 2)
        alliance["jinan"].push(*drafts(6))
        saving, real = threading.Event(), PullSession.apply

        def apply_slowly(session: PullSession, message: bytes | LogPage) -> bool:
            if isinstance(message, LogPage) and message.start == 2:
                saving.set()
                time.sleep(0.1)
            return real(session, message)

        monkeypatch.setattr(PullSession, "apply", apply_slowly)

        async def work() -> None:
            async with alliance.following("qingdao", "jinan"):
                await wait_until(saving.is_set)
            async with alliance.following("qingdao", "jinan") as state:
                await wait_until(lambda: state.verified == 6 or state.error)
                assert (state.state, state.error) == ("connected", "")

        alliance.run(work)
        assert [(read.start, read.after) for read in alliance.reads] == [(0, 0), (4, 6)]

    def test_a_restart_goes_on_from_what_was_staged(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs_module, "PAGE_ENTRIES_MAX", 2)
        alliance["jinan"].push(*drafts(10))
        qingdao = alliance["qingdao"]
        alliance.tampering.stream = lambda messages: [
            message for message in messages if not isinstance(message, LogPage) or message.start < 6
        ]
        alliance.follow("qingdao", "jinan", lambda _: qingdao.mirror_of("jinan").staged.size == 6)
        qingdao.reopen()
        assert (keys(qingdao), qingdao.store.records.count()) == ([], 0)
        alliance.tampering = Tampering()
        alliance.catch_up("qingdao", "jinan")
        assert (alliance.reads[-1].start, alliance.reads[-1].after) == (6, 10)
        assert len(keys(qingdao)) == 10

    def test_a_peer_that_is_switched_off_and_comes_back(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(follower_module, "DISCONNECT_PAUSE_S", 0.01)
        alliance["jinan"].push(*drafts(2))
        alliance.unreachable.add("jinan")

        async def work() -> None:
            async with alliance.following("qingdao", "jinan") as state:
                await wait_until(lambda: state.reason == "PEER_UNREACHABLE")
                assert (state.state, state.verified) == ("retrying", 0)
                assert "switched off" in state.error
                alliance.clock.turn(61)
                await wait_until(lambda: state.state == "offline")
                alliance.unreachable.clear()
                await wait_until(lambda: state.verified == 2)
                assert (state.state, state.error, state.failing_since_ms) == ("connected", "", 0)

        alliance.run(work)

    def test_a_peer_that_falls_silent_is_given_up(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(follower_module, "STALL_S", 0.02)
        alliance["jinan"].push(*drafts(2))
        alliance.tampering.stream = lambda messages: [item for item in messages if isinstance(item, bytes)]
        state = alliance.follow("qingdao", "jinan", lambda state: state.state == "retrying" and state.error)
        assert (state.reason, keys(alliance["qingdao"])) == ("PEER_UNREACHABLE", [])
        assert "sent nothing" in state.error

    def test_a_quiet_stream_is_no_silent_peer(self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(follower_module, "STALL_S", 0.01)
        alliance["jinan"].push(*drafts(2))

        async def work() -> None:
            async with alliance.following("qingdao", "jinan") as state:
                await wait_until(lambda: state.verified == 2)
                await asyncio.sleep(0.1)
                assert state.state == "connected"

        alliance.run(work)
        assert len(alliance.reads) == 1


def make_failing(alliance: SimulatedAlliance, error: LabmeshError) -> tuple[list[int], Callable[[Exchange], Exchange]]:
    attempts: list[int] = []

    def fail(_: Exchange) -> Exchange:
        attempts.append(1)
        raise error

    return attempts, fail


class TestRetries:
    @pytest.mark.parametrize(
        "error",
        [
            MalformedError("x"), ProofError("x"), RollbackError("x", held_size=2, offered_size=1), StoreError("x"),
            GovernanceError("x"),
        ],
        ids=lambda error: type(error).__name__,
    )  # fmt: skip
    def test_only_an_unreachable_peer_is_tried_again(self, alliance: SimulatedAlliance, error: LabmeshError) -> None:
        attempts, alliance.tampering.exchange = make_failing(alliance, error)

        async def work() -> None:
            async with alliance.following("qingdao", "jinan") as state:
                await wait_until(lambda: state.error)
                await asyncio.sleep(0.1)
                assert (state.reason, state.error) == (error.reason, error.message)

        alliance.run(work)
        assert (len(attempts), alliance.closed) == (1, 1)

    def test_an_unreachable_peer_is_tried_until_it_answers(self, alliance: SimulatedAlliance) -> None:
        attempts, fail = make_failing(alliance, PeerUnreachableError("x"))
        alliance.tampering.exchange = lambda answer: fail(answer) if len(attempts) < 4 else answer
        state = alliance.follow("qingdao", "jinan", lambda state: state.state == "connected")
        assert (len(attempts), state.error) == (4, "")
        assert alliance.closed == 5

    def test_a_wake_up_ends_the_pause(self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(follower_module, "wait_random_exponential", lambda **_: lambda _: 3600.0)
        alliance.unreachable.add("jinan")

        async def work() -> None:
            state = PeerState("jinan")
            follower = follower_module.Follower(alliance.parts("qingdao"), "jinan", state)
            task = asyncio.create_task(follower.run())
            await wait_until(lambda: state.error)
            alliance.unreachable.clear()
            follower.wake()
            await wait_until(lambda: state.state == "connected")
            assert state.error == ""
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        alliance.run(work)
