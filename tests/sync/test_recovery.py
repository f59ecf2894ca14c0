"""A home that was rolled back takes its log back from its peers, and publishes what it took meanwhile after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from node.confirmation import ClockWatch
from node.core.checkpoint import Checkpoint, sign_checkpoint
from node.core.entry import LogPage
from node.core.names import RecordId
from node.errors import PeerUnreachableError, StoreError
from node.lab.text import query_expression
from node.store.records import Filter
from node.sync.peer import PeerClient
from node.sync.recovery import Patience
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts, list_all
from tests.builders import NOW_S, build_labs, cosign
from tests.simulated_client import Tampering
from tests.soundness import require_sound

JINAN, QINGDAO = build_labs(2)


@pytest.fixture
def jinan(alliance: SimulatedAlliance) -> SimulatedMember:
    return alliance["jinan"]


@pytest.fixture
def snapshot(alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path) -> Path:
    """Three entries of jinan are published, and its database is copied."""
    jinan.push(*drafts(3, "OLD"))
    alliance.catch_up("qingdao", "jinan")
    return jinan.snapshot(tmp_path / "snapshot")


def publish(alliance: SimulatedAlliance, *records: bytes, to: Sequence[str] = ("qingdao",), **options: Any) -> None:
    """Push records of jinan that these peers hold then."""
    alliance["jinan"].push(*records, **options)
    for peer in to:
        alliance.catch_up(peer, "jinan")


def shown(member: SimulatedMember, key: str) -> dict[str, Any]:
    """The newest revision of a result."""
    stored = member.store.records.find(RecordId(member.name, "result", key))
    assert stored is not None
    content: dict[str, Any] = orjson.loads(stored.record)
    return content


def keys(member: SimulatedMember) -> list[str]:
    return [stored.key for stored in list_all(member.store)]


def state(member: SimulatedMember) -> tuple[bool, int, int]:
    """Whether it is confirmed, how much is signed, and how much there is."""
    log = member.ledger.log
    return member.confirmation.confirmed, log.signed_size, log.head_size


class TestTakingBack:
    def test_missing_entries_come_back_and_unpublished_ones_follow(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, *drafts(4, "LOST"))
        published = jinan.ledger.log.head_note
        jinan.roll_back(snapshot)
        outcome = jinan.push(*drafts(2, "NEW"))
        assert (outcome.checkpoint.size, outcome.signed) == (5, False)
        assert state(jinan) == (False, 3, 5)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 9, 9)
        require_sound(jinan)
        expected = [*(f"OLD-{i:06d}" for i in range(3)), *(f"LOST-{i:06d}" for i in range(4)), "NEW-000000", "NEW-000001"]
        assert keys(jinan) == expected
        held = jinan.store.checkpoints.find(jinan.ledger.log.id, 7)
        assert held is not None and bytes(held) == published
        alliance.catch_up("qingdao", "jinan")
        assert [stored.key for stored in list_all(alliance["qingdao"].store)] == expected
        assert (alliance["qingdao"].splits, jinan.confirmation.conflict, jinan.recovery.sentences()) == ([], None, [])

    def test_nothing_is_signed_before(self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path) -> None:
        publish(alliance, draft("LOST"))
        jinan.roll_back(snapshot)
        for i in range(3):
            jinan.push(draft(f"NEW-{i}"))
        assert state(jinan) == (False, 3, 6)
        assert jinan.store.rebase.signed_sizes(jinan.ledger.log) == [3]
        assert [signed.split(b"\n")[1] for signed in jinan.exchange.held_notes()] == []
        require_sound(jinan)

    def test_a_home_from_before_the_first_entry(self, alliance: SimulatedAlliance, tmp_path: Path) -> None:
        jinan = alliance["jinan"]
        empty = jinan.snapshot(tmp_path / "empty")
        publish(alliance, *drafts(600, "A"))
        publish(alliance, *drafts(600, "B"))
        jinan.roll_back(empty)
        jinan.push(*drafts(3, "C"))
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 1203, 1203)
        require_sound(jinan)

    def test_a_home_that_lost_nothing_just_signs(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        jinan.roll_back(snapshot)
        jinan.push(draft("NEW"))
        reads = len(alliance.reads)
        alliance.meet("jinan", "qingdao")
        assert (state(jinan), len(alliance.reads)) == ((True, 4, 4), reads)

    def test_words_are_found_where_they_are_now(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("LOST", "mercury"))
        jinan.roll_back(snapshot)
        jinan.push(draft("NEW", "cadmium"))
        while jinan.store.search.advance():
            pass
        assert found(jinan, "cadmium") == ["NEW"]
        alliance.meet("jinan", "qingdao")
        while jinan.store.search.advance():
            pass
        assert (found(jinan, "cadmium"), found(jinan, "mercury")) == (["NEW"], ["LOST"])
        assert jinan.store.search.backlog() == 0

    def test_readers_see_only_greater_sequence_numbers(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, *drafts(50, "LOST"))
        seen = alliance["qingdao"].store.logs.last_sequence_from(alliance["qingdao"].mirror_of("jinan").id, "jinan")
        jinan.roll_back(snapshot)
        alliance.meet("jinan", "qingdao")
        jinan.push(draft("NEW"))
        page = jinan.store.logs.read_page(jinan.ledger.log, start=3, stop=54, reader="jinan")
        assert len(page.openings) == 51 and min(opening.sequence for opening in page.openings) > seen >= 53

    def test_who_pushed_what_follows_the_entries(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("K0"), draft("LOST"))
        jinan.roll_back(snapshot)
        jinan.push(*drafts(1, "A"), draft("K0"), *drafts(2, "B"))
        with jinan.store.database.write() as connection:
            connection.execute(text("DELETE FROM push"))
            row = {"position": (jinan.ledger.log.id << 40) + 3, "entries": 4, "client": "lims", "at": 1}
            connection.execute(text("INSERT INTO push VALUES (:position, :entries, :client, :at)"), row)
        alliance.meet("jinan", "qingdao")
        with jinan.store.database.read() as connection:
            pushes = connection.execute(text("SELECT position & 1099511627775, entries, client FROM push")).all()
        assert [tuple(push) for push in pushes] == [(5, 3, "lims")]
        assert [stored.key for stored in list_all(jinan.store)][5:] == ["A-000000", "B-000000", "B-000001"]


def found(member: SimulatedMember, words: str) -> list[str]:
    page = member.store.records.search(query_expression(words), Filter(), limit=50)
    return [stored.key for stored in page.records]


class TestUnpublished:
    def test_the_same_again_is_not_said_twice(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("K", "1"))
        jinan.roll_back(snapshot)
        jinan.push(draft("K", "1"), draft("L", "2"))
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 5, 5)
        assert [shown(jinan, key)["revision"] for key in ("K", "L")] == [1, 1]
        require_sound(jinan)

    def test_other_content_becomes_the_next_revision(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("K", "1"))
        publish(alliance, draft("K", "2"), revise=True)
        jinan.roll_back(snapshot)
        jinan.clock.turn(5)
        jinan.push(draft("K", "3"))
        jinan.push(draft("K", "4"), revise=True)
        pushed = shown(jinan, "K")["published"]
        alliance.meet("jinan", "qingdao")
        newest = shown(jinan, "K")
        assert (newest["revision"], newest["body"]["value"], newest["published"]) == (4, "4", pushed)
        assert state(jinan) == (True, 7, 7)
        require_sound(jinan)

    def test_a_free_revision_keeps_its_salt(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("LOST"))
        jinan.roll_back(snapshot)
        jinan.push(draft("NEW"))
        before = jinan.store.logs.commitment_at(jinan.ledger.log.id, 3)
        alliance.meet("jinan", "qingdao")
        assert jinan.store.logs.commitment_at(jinan.ledger.log.id, 4) == before

    def test_what_was_published_from_the_snapshot_is_the_same_record(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path
    ) -> None:
        """The machine was frozen with a record that was signed later; only this home can open it for the author alone."""
        jinan.reopen()
        jinan.push(draft("A"), draft("SECRET", audience=[]))
        frozen = jinan.snapshot(tmp_path / "frozen")
        jinan.confirm()
        alliance.catch_up("qingdao", "jinan")
        publish(alliance, draft("A", "2"), revise=True)
        jinan.roll_back(frozen)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 3, 3)
        assert shown(jinan, "A")["body"]["value"] == "2"
        assert shown(jinan, "SECRET")["audience"] == []
        assert jinan.store.rebase.count_unopened(jinan.ledger.log) == 0
        require_sound(jinan)

    def test_a_checkpoint_over_exactly_the_unpublished_is_taken_over(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path
    ) -> None:
        jinan.reopen()
        jinan.push(*drafts(2))
        frozen = jinan.snapshot(tmp_path / "frozen")
        jinan.confirm()
        alliance.catch_up("qingdao", "jinan")
        published = jinan.ledger.log.head_note
        jinan.roll_back(frozen)
        jinan.push(draft("NEW"))
        reads = len(alliance.reads)
        alliance.meet("jinan", "qingdao")
        assert (state(jinan), len(alliance.reads)) == ((True, 3, 3), reads)
        held = jinan.store.checkpoints.find(jinan.ledger.log.id, 2)
        assert held is not None and bytes(held) == published
        require_sound(jinan)

    def test_a_second_rollback_says_nothing_twice(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path, tmp_path: Path
    ) -> None:
        publish(alliance, draft("K", "1"))
        jinan.roll_back(snapshot)
        jinan.clock.turn(5)
        jinan.push(draft("K", "2"), draft("L"))
        frozen = jinan.snapshot(tmp_path / "frozen")
        alliance.meet("jinan", "qingdao")
        alliance.catch_up("qingdao", "jinan")
        publish(alliance, draft("K", "3"), revise=True)
        expected = keys(jinan)
        jinan.roll_back(frozen)
        alliance.meet("jinan", "qingdao")
        assert (keys(jinan), state(jinan)) == (expected, (True, 7, 7))
        assert shown(jinan, "K")["body"]["value"] == "3"
        require_sound(jinan)

    def test_pushes_are_taken_between_the_pages(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, *drafts(1500, "LOST"))
        jinan.roll_back(snapshot)
        pushed = iter(range(1000))

        def push_one(page: LogPage) -> LogPage:
            jinan.push(draft(f"NEW-{next(pushed)}"))
            return page

        alliance.tampering = Tampering(page=push_one)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 1505, 1505)
        assert keys(jinan)[-2:] == ["NEW-0", "NEW-1"]
        require_sound(jinan)


class TestOpenings:
    def test_each_peer_gives_back_what_it_may_read(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("Q", audience=["qingdao"]), draft("Y", audience=["yantai"]), draft("SECRET", audience=[]))
        alliance.catch_up("yantai", "jinan")
        jinan.roll_back(snapshot)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 6, 6)
        rebase = jinan.store.rebase
        assert [index for index, _ in rebase.read_unopened(jinan.ledger.log, start=0, limit=10)] == [4, 5]
        assert keys(jinan)[3:] == ["Q"]
        alliance.meet("jinan", "yantai")
        assert [index for index, _ in rebase.read_unopened(jinan.ledger.log, start=0, limit=10)] == [5]
        assert rebase.count_unopened(jinan.ledger.log) == 1
        assert keys(jinan)[3:] == ["Q", "Y"]
        while jinan.store.search.advance():
            pass
        assert found(jinan, "Y") == ["Y"]
        reads = len(alliance.reads)
        alliance.meet("jinan", "yantai", "qingdao", "qingdao")
        assert len(alliance.reads) == reads  # each peer was asked once
        require_sound(jinan)

    def test_an_opening_that_says_what_an_unpublished_record_says(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        """Its revision was taken: the unpublished record becomes the next one, before anything is signed."""
        publish(alliance, draft("K", "1", audience=["yantai"]), to=("qingdao", "yantai"))
        publish(alliance, draft("LAST"), to=("yantai",))
        jinan.roll_back(snapshot)
        jinan.clock.turn(5)
        jinan.push(draft("K", "2"), draft("NEW"))
        alliance.meet("jinan", "yantai")
        assert (shown(jinan, "K")["revision"], shown(jinan, "K")["body"]["value"]) == (2, "2")
        assert state(jinan) == (True, 7, 7)
        require_sound(jinan)

    @pytest.mark.parametrize("alliance", [4], indirect=True)
    def test_an_opening_found_while_the_rest_waits(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("K", "1", audience=["yantai"]), to=("qingdao", "yantai"))
        jinan.roll_back(snapshot)
        jinan.clock.turn(5)
        jinan.push(draft("K", "2"), draft("NEW"))
        # A third length that nobody delivers keeps the node from signing.
        root = jinan.store.logs.tree(jinan.ledger.log.id).root(3)
        far = sign_checkpoint(Checkpoint(JINAN.origin, 90, root), jinan.lab.log)
        jinan.confirmation.accept_told("weifang", bytes(far))
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (False, 4, 6)
        assert shown(jinan, "K")["revision"] == 1
        alliance.meet("jinan", "yantai")
        assert state(jinan) == (False, 4, 6)
        assert shown(jinan, "K")["revision"] == 2
        require_sound(jinan)

    def test_openings_that_do_not_fit_are_refused(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("Y", audience=["yantai"]), to=("qingdao", "yantai"))
        jinan.roll_back(snapshot)
        alliance.meet("jinan", "qingdao")

        def forge(page: LogPage) -> LogPage:
            return replace(page, openings=[replace(opening, salt=bytes(32)) for opening in page.openings])

        alliance.tampering = Tampering(page=forge)
        alliance.meet("jinan", "yantai")
        assert jinan.store.rebase.count_unopened(jinan.ledger.log) == 1
        require_sound(jinan)

    @pytest.mark.parametrize(
        "repeat",
        [
            lambda messages: [*messages, *messages],
            lambda messages: [messages[0], *messages] if messages else [],
            lambda messages: [item for item in messages if isinstance(item, LogPage)] * 3,
        ],
    )
    def test_pages_out_of_turn_end_the_stream(
        self,
        alliance: SimulatedAlliance,
        jinan: SimulatedMember,
        snapshot: Path,
        repeat: Callable[[Sequence[bytes | LogPage]], Iterable[bytes | LogPage]],
    ) -> None:
        publish(alliance, draft("Y", audience=["yantai"]), to=("qingdao", "yantai"))
        jinan.roll_back(snapshot)
        alliance.meet("jinan", "qingdao")
        alliance.tampering = Tampering(stream=repeat)
        alliance.meet("jinan", "yantai")
        assert jinan.confirmation.confirmed
        require_sound(jinan)


class TestSeveralPeers:
    def test_the_longest_that_verifies_counts(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, *drafts(2, "A"), to=("qingdao", "yantai"))
        publish(alliance, *drafts(2, "B"), to=("yantai",))
        jinan.roll_back(snapshot)
        jinan.confirmation.accept_told("yantai", alliance["yantai"].exchange.note_for("jinan"))
        jinan.push(draft("NEW"))
        alliance.meet("jinan", "qingdao")
        assert (state(jinan), jinan.confirmation.longer) == ((False, 5, 6), ("yantai", 7))
        alliance.meet("jinan", "yantai")
        assert (state(jinan), jinan.confirmation.longer) == ((True, 8, 8), None)
        require_sound(jinan)
        alliance.catch_up("qingdao", "jinan")
        alliance.catch_up("yantai", "jinan")

    def test_one_that_comes_after_a_confirmation_but_before_a_signature(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, *drafts(2, "A"), to=("yantai",))
        jinan.roll_back(snapshot)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 3, 3)
        alliance.meet("jinan", "yantai")
        assert state(jinan) == (True, 5, 5)

    @pytest.mark.parametrize(
        "tampering",
        [
            Tampering(stream=lambda messages: []),
            Tampering(stream=lambda messages: [item for item in messages if not isinstance(item, LogPage)]),
            Tampering(page=lambda page: replace(page, commitments=bytes(len(page.commitments)), openings=[])),
            Tampering(page=lambda page: replace(page, start=page.start + 1)),
            Tampering(announcement=lambda note: note.replace(b"\n5\n", b"\n6\n")),
        ],
    )
    def test_one_that_does_not_deliver_blocks_nobody(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path, tampering: Tampering
    ) -> None:
        publish(alliance, *drafts(2, "A"), to=("qingdao", "yantai"))
        jinan.roll_back(snapshot)
        jinan.push(draft("NEW"))
        alliance.tampering = tampering
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (False, 3, 4)
        [sentence] = jinan.recovery.sentences()
        assert sentence.startswith("qingdao has shown that it holds entries of this member's log")
        require_sound(jinan)
        alliance.tampering = Tampering()
        alliance.meet("jinan", "yantai")
        assert state(jinan) == (True, 6, 6)
        alliance.meet("jinan", "qingdao")
        require_sound(jinan)


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


class TestCrashes:
    @pytest.mark.parametrize(
        "step",
        [
            "node.store.rebase.RebaseStore.open_staging",
            "node.store.logs.LogStore.stage",
            "node.store.rebase.set_aside",
            "node.store.rebase.move_in",
            "node.store.rebase.read_batch",
            "node.store.rebase.take_effect",
            "node.store.rebase.save_state",
        ],
    )
    def test_a_crash_at_each_step_loses_nothing(
        self,
        alliance: SimulatedAlliance,
        jinan: SimulatedMember,
        snapshot: Path,
        monkeypatch: pytest.MonkeyPatch,
        step: str,
    ) -> None:
        publish(alliance, *drafts(1200, "LOST"))
        jinan.roll_back(snapshot)
        jinan.push(*drafts(2, "NEW"))

        def die(*_: object, **__: object) -> None:
            raise PowerCutError

        monkeypatch.setattr("node.store.rebase.RebaseStore.discard_staging", die)
        monkeypatch.setattr(step, die)
        with pytest.raises(PowerCutError):
            alliance.meet("jinan", "qingdao")
        monkeypatch.undo()
        jinan.reopen()
        assert state(jinan) == (False, 3, 5)
        require_sound(jinan)
        assert keys(jinan)[3:] == ["NEW-000000", "NEW-000001"]
        jinan.push(draft("AFTER"))
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 1206, 1206)
        require_sound(jinan)

    def test_a_crash_between_recovery_and_signature(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(alliance, draft("LOST"))
        jinan.roll_back(snapshot)
        jinan.push(draft("NEW"))

        def die(*_: object, **__: object) -> None:
            raise PowerCutError

        monkeypatch.setattr("node.ledger.Ledger.sign_head", die)
        with pytest.raises(PowerCutError):
            alliance.meet("jinan", "qingdao")
        monkeypatch.undo()
        jinan.reopen()
        assert state(jinan) == (False, 4, 5)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 5, 5)
        require_sound(jinan)

    def test_a_store_that_refuses_changes_nothing(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(alliance, draft("LOST"))
        jinan.roll_back(snapshot)
        jinan.push(draft("NEW"))

        def refuse(*_: object) -> None:
            raise StoreError("the database refused: disk I/O error")

        monkeypatch.setattr("node.store.rebase.correct_pushes", refuse)
        with pytest.raises(StoreError):
            alliance.meet("jinan", "qingdao")
        monkeypatch.undo()
        assert state(jinan) == (False, 3, 4)
        require_sound(jinan)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 5, 5)


class PowerCutError(BaseException):
    """Not an Exception, so that nothing in the node may answer it."""


class TestConflicts:
    def test_a_signed_checkpoint_that_contradicts_ours(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("LOST"))
        jinan.roll_back(snapshot)
        jinan.confirm()
        jinan.push(draft("FORK"))
        alliance.meet("jinan", "qingdao")
        assert jinan.confirmation.conflict == (
            "qingdao holds a checkpoint of size 4 of our log that our log does not contain"
        )
        jinan.push(draft("MORE"))
        assert state(jinan) == (False, 4, 5)
        require_sound(jinan)

    def test_an_own_checkpoint_that_nobody_saw_gives_way(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        """Signed by an older version while it was unconfirmed, and never served."""
        publish(alliance, *drafts(3, "LOST"))
        jinan.roll_back(snapshot)
        jinan.confirm()
        jinan.push(draft("KEPT"))
        jinan.reopen()
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 7, 7)
        assert keys(jinan)[3:] == ["LOST-000000", "LOST-000001", "LOST-000002", "KEPT"]
        assert jinan.store.rebase.signed_sizes(jinan.ledger.log) == [3, 6, 7]
        require_sound(jinan)

    def test_an_own_checkpoint_that_somebody_saw_does_not(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, *drafts(3, "LOST"))
        jinan.roll_back(snapshot)
        jinan.confirm()
        jinan.push(draft("SEEN"))
        head = jinan.ledger.log.head
        assert head is not None
        jinan.exchange.accept_notes([bytes(cosign(head, {QINGDAO: NOW_S}))], peer="yantai")
        jinan.reopen()
        alliance.meet("jinan", "qingdao")
        assert jinan.confirmation.conflict == (
            "qingdao holds a checkpoint of size 6 of our log that our log does not contain"
        )
        assert state(jinan) == (False, 4, 4)
        require_sound(jinan)

    def test_a_frozen_machine_gives_way_once_its_clock_has_jumped(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        """Its process believed that it was confirmed, and signed; only the clock tells it that it was away."""
        counted = [0.0]
        publish(alliance, *drafts(3, "LOST"))
        jinan.roll_back(snapshot)
        jinan.confirmation._watch = ClockWatch(jinan.clock, lambda: counted[0])
        jinan.confirmation._kept = True  # as the copied memory says
        jinan.push(draft("KEPT"))
        alliance.meet("jinan", "qingdao")
        assert "size 6" in str(jinan.confirmation.conflict) and state(jinan) == (False, 4, 4)
        jinan.clock.turn(3600)
        assert (jinan.confirmation.confirmed, jinan.confirmation.conflict) == (False, None)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 7, 7)
        assert keys(jinan)[3:] == ["LOST-000000", "LOST-000001", "LOST-000002", "KEPT"]
        require_sound(jinan)


class TestMirrors:
    def test_a_rolled_back_mirror_goes_on_and_never_cosigns_another_history(
        self, alliance: SimulatedAlliance, tmp_path: Path
    ) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        publish(alliance, *drafts(3, "A"))
        frozen = qingdao.snapshot(tmp_path / "frozen")
        publish(alliance, *drafts(3, "B"))
        assert qingdao.exchange.cosign_head(JINAN.origin)
        first = qingdao.store.checkpoints.find(qingdao.mirror_of("jinan").id, 6)
        qingdao.roll_back(frozen)
        assert qingdao.mirror_of("jinan").head_size == 3
        jinan.push(*drafts(2, "C"))
        alliance.catch_up("qingdao", "jinan")
        assert qingdao.mirror_of("jinan").head_size == 8
        assert qingdao.exchange.cosign_head(JINAN.origin)
        again = qingdao.store.checkpoints.find(qingdao.mirror_of("jinan").id, 8)
        assert first is not None and again is not None
        tree = jinan.store.logs.tree(jinan.ledger.log.id)
        assert (first.root, again.root) == (tree.root(6), tree.root(8))
        assert [stored.key for stored in list_all(qingdao.store)] == keys(jinan)
