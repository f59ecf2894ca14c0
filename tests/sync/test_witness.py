"""A witness cosigns nothing while it may have forgotten what it cosigned, and afterwards everything that it owes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import node.sync.peers as peers_module
from node.confirmation import ClockWatch, Confirmation
from node.core.checkpoint import Checkpoint, SignedCheckpoint, parse_checkpoint, sign_checkpoint
from node.core.keys import Signer
from node.core.merkle import EMPTY_ROOT
from node.core.roster import Head
from node.errors import StoreError
from node.store.checkpoints import CheckpointStore
from node.store.logs import LogState
from node.sync.exchange import CheckpointExchange
from node.sync.peers import Cosigner, Peers
from tests.alliance import NOON, SimulatedAlliance, SimulatedMember, draft, drafts, wait_until
from tests.builders import build_labs
from tests.evidence_cases import build_fork
from tests.rotating import RotatingAlliance
from tests.sync.disputes import settle
from tests.sync.equivocation import announce, contact, show
from tests.sync.test_survivor import fork_of

JINAN, QINGDAO, YANTAI = build_labs(3)
SHORT_S = 0.05


@pytest.fixture
def yantai(alliance: SimulatedAlliance) -> SimulatedMember:
    """A witness of three entries of jinan's, which it has not cosigned; it starts again."""
    alliance["jinan"].push(*drafts(3, "COMMON"))
    alliance.catch_up("yantai", "jinan")
    alliance["yantai"].reopen()
    return alliance["yantai"]


def cosigned(witness: SimulatedMember, author: str = "jinan") -> dict[str, int]:
    """The largest size that each witness has cosigned, as one member knows."""
    names = list(witness.membership.joined.active_members())
    return witness.store.checkpoints.largest_cosigned(witness.mirror_of(author).id, names)


def with_cosigner(alliance: SimulatedAlliance, name: str, work: Callable[[Cosigner], Awaitable[None]]) -> None:
    """Let a cosigner of a member work, with followers that are not running."""

    async def run() -> None:
        parts = alliance.parts(name)
        cosigner = Cosigner(parts, Peers(parts))
        try:
            await work(cosigner)
        finally:
            await cosigner.close()

    alliance.run(run)


async def idle(cosigner: Cosigner) -> None:
    """Until everything that was offered has been looked at."""
    await wait_until(lambda: not cosigner._pending)
    await asyncio.sleep(0.05)


def refuse_to_read(*_: object) -> None:
    """A database that refuses."""
    raise StoreError("the database refused")


class TestHoldingBack:
    def test_nothing_is_cosigned_before_enough_peers_have_told(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember
    ) -> None:
        assert not yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {}
        assert yantai.exchange.take_held_back() == []
        contact(alliance, "yantai", "qingdao")
        assert yantai.exchange.take_held_back() == [JINAN.origin] and yantai.exchange.take_held_back() == []
        assert yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {"yantai": 3}

    def test_a_call_of_a_peer_confirms_nothing(self, alliance: SimulatedAlliance, yantai: SimulatedMember) -> None:
        contact(alliance, "qingdao", "yantai")
        assert not yantai.exchange.cosign_head(JINAN.origin)

    def test_a_person_takes_the_risk(self, yantai: SimulatedMember) -> None:
        yantai.confirm()
        assert yantai.exchange.cosign_head(JINAN.origin)

    def test_a_frozen_machine_cosigns_nothing_more(self, alliance: SimulatedAlliance, yantai: SimulatedMember) -> None:
        yantai.confirm()
        yantai.confirmation._watch = ClockWatch(alliance.clock, lambda: 0.0)
        alliance.clock.turn(3600)
        assert not yantai.exchange.cosign_head(JINAN.origin) and yantai.exchange.take_held_back() == []
        contact(alliance, "yantai", "jinan")
        assert yantai.exchange.take_held_back() == [JINAN.origin] and yantai.exchange.cosign_head(JINAN.origin)

    def test_what_could_not_be_cosigned_anyway_is_not_held_back(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember
    ) -> None:
        assert not yantai.exchange.cosign_head(QINGDAO.origin) and not yantai.exchange.cosign_head(YANTAI.origin)
        show(alliance, "yantai", fork_of(alliance, 2))
        alliance["jinan"].push(*drafts(2, "TRUE"))
        alliance.catch_up("qingdao", "jinan")
        contact(alliance, "yantai", "qingdao")
        assert not yantai.exchange.cosign_head(JINAN.origin) and yantai.evidence.split_view_of("jinan")
        assert yantai.exchange.take_held_back() == []

    def test_nothing_while_the_card_under_a_new_identity_key_has_not_come(
        self, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        yantai.confirm()
        joined = yantai.membership.joined
        without = {name: signed for name, signed in joined.cards.items() if name != "jinan"}
        with monkeypatch.context() as patched:
            patched.setattr(yantai.membership, "_alliance", replace(joined, cards=without))
            assert not yantai.exchange.cosign_head(JINAN.origin)
        assert yantai.exchange.cosign_head(JINAN.origin)

    def test_a_look_that_stalls_while_a_contact_confirms(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The contact brings the evidence and then confirms: what was judged of the head before it counts no more."""
        true, other = build_fork(JINAN, 2, 5, 5)
        show(alliance, "qingdao", true)  # yantai had cosigned it, and was rolled back
        yantai = alliance["yantai"]
        yantai.reopen()
        show(alliance, "yantai", other)
        stalled, go_on = threading.Event(), threading.Event()
        judge = CheckpointExchange._may_cosign

        def stall(self: CheckpointExchange, log: LogState, head: SignedCheckpoint) -> bool:
            answer = judge(self, log, head)
            if threading.current_thread().name.startswith("slow"):
                stalled.set()
                assert go_on.wait(20)
            return answer

        monkeypatch.setattr(CheckpointExchange, "_may_cosign", stall)
        with ThreadPoolExecutor(1, thread_name_prefix="slow") as pool:
            first = pool.submit(yantai.exchange.cosign_head, JINAN.origin)
            first.add_done_callback(lambda _: stalled.set())
            assert stalled.wait(20)
            contact(alliance, "yantai", "qingdao")
            assert yantai.confirmation.confirmed and yantai.evidence.split_view_of("jinan")
            go_on.set()
            assert not first.result(20) and cosigned(yantai) == {}
        assert yantai.exchange.take_held_back() == [JINAN.origin]
        assert not yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {}

    def test_a_machine_frozen_between_the_look_and_the_signature(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        yantai.confirm()
        yantai.confirmation._watch = ClockWatch(alliance.clock, lambda: 0.0)
        judge = CheckpointExchange._may_cosign

        def freeze(self: CheckpointExchange, log: LogState, head: SignedCheckpoint) -> bool:
            answer = judge(self, log, head)
            alliance.clock.turn(3600)
            return answer

        monkeypatch.setattr(CheckpointExchange, "_may_cosign", freeze)
        assert not yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {}
        contact(alliance, "yantai", "qingdao")
        assert yantai.exchange.take_held_back() == [JINAN.origin]

    def test_who_confirms_while_it_looks_finds_what_is_held_back(
        self, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found: list[str] = []

        def confirm_meanwhile(confirmation: Confirmation) -> bool:
            monkeypatch.undo()
            yantai.confirm()
            found.extend(yantai.exchange.take_held_back())
            return False

        monkeypatch.setattr(Confirmation, "confirmed", property(confirm_meanwhile))
        assert not yantai.exchange.cosign_head(JINAN.origin) and found == [JINAN.origin]

    def test_it_waits_for_no_change_of_the_witness_key(self, yantai: SimulatedMember) -> None:
        """Heads ask on the event loop what was held back."""
        assert not yantai.exchange.cosign_head(JINAN.origin)
        yantai.confirm()
        changing, go_on = threading.Event(), threading.Event()

        def retire() -> Signer:
            changing.set()
            assert go_on.wait(20)
            return YANTAI.witness

        with ThreadPoolExecutor(2) as pool:
            change = pool.submit(yantai.exchange.change_witness, retire)
            assert changing.wait(20)
            try:
                assert yantai.exchange.holds_back
                assert pool.submit(yantai.exchange.take_held_back).result(5) == [JINAN.origin]
            finally:
                go_on.set()
            change.result(20)


class TestWaitingForALargerOne:
    @pytest.mark.parametrize("by_contact", [True, False])
    def test_what_the_author_says_holds_nothing_back(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember, by_contact: bool
    ) -> None:
        """Whatever is read of a busy author's log, more is announced already."""
        alliance["jinan"].push(*drafts(2, "MORE"))
        yantai.confirm()
        if by_contact:
            contact(alliance, "yantai", "jinan")
        else:
            announce(alliance, "yantai", "jinan", parse_checkpoint(alliance["jinan"].ledger.log.head_note))
        assert yantai.exchange.unreached.count(JINAN.origin) == 1
        assert yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {"yantai": 3}

    def test_what_could_not_be_judged_is_judged_the_next_time(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        yantai.confirm()
        other = sign_checkpoint(Checkpoint(JINAN.origin, 2, bytes(range(32))), JINAN.log)
        yantai.exchange.unreached.remember(other, teller="qingdao", surviving=None)
        with monkeypatch.context() as patched:
            patched.setattr(CheckpointStore, "find", refuse_to_read)
            with pytest.raises(StoreError):
                yantai.exchange.cosign_head(JINAN.origin)
        assert not yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {}
        assert yantai.evidence.split_view_of("jinan") is not None

    def test_until_it_is_reached(self, alliance: SimulatedAlliance, yantai: SimulatedMember) -> None:
        alliance["jinan"].push(*drafts(2, "MORE"))
        alliance.catch_up("qingdao", "jinan")
        yantai.confirm()
        contact(alliance, "yantai", "qingdao")
        assert not yantai.exchange.cosign_head(JINAN.origin)
        alliance.catch_up("yantai", "jinan")
        assert yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {"yantai": 5}

    def test_what_a_removed_member_told_holds_nothing_back(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember
    ) -> None:
        alliance["jinan"].push(*drafts(2, "MORE"))
        alliance.catch_up("qingdao", "jinan")
        yantai.confirm()
        contact(alliance, "yantai", "qingdao")
        assert not yantai.exchange.cosign_head(JINAN.origin)
        alliance["jinan"].membership.remove_member("qingdao", Head(0, EMPTY_ROOT))
        assert yantai.membership.accept_update(*alliance.exported("jinan")).changed
        assert yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {"yantai": 3}

    def test_another_root_told_while_the_head_moved_is_looked_at_first(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember
    ) -> None:
        """The note came between the head and what was remembered of the log."""
        yantai.confirm()
        yantai.exchange.unreached.remember(fork_of(alliance, 0).checkpoint(2), teller="qingdao", surviving=None)
        other = sign_checkpoint(Checkpoint(JINAN.origin, 3, bytes(range(32))), JINAN.log)
        yantai.exchange.unreached.remember(other, teller="qingdao", surviving=None)
        assert not yantai.exchange.cosign_head(JINAN.origin)
        assert yantai.evidence.split_view_of("jinan") is not None and cosigned(yantai) == {}

    def test_a_decision_of_the_council_ends_it(self, alliance: SimulatedAlliance, yantai: SimulatedMember) -> None:
        yantai.confirm()
        yantai.exchange.note_announced(fork_of(alliance, 5).checkpoint(), surviving=None, teller="qingdao")
        assert not yantai.exchange.cosign_head(JINAN.origin)
        settle(alliance, Head(3, alliance["jinan"].ledger.checkpoint.root))
        assert yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {"yantai": 3}

    def test_the_end_of_a_stolen_key_ends_it(self, tmp_path: Path) -> None:
        rotating = RotatingAlliance(tmp_path)
        alliance, yantai = rotating.simulated, rotating["yantai"].member
        alliance["jinan"].push(*drafts(3, "COMMON"))
        alliance.catch_up("yantai", "jinan")
        yantai.exchange.note_announced(fork_of(alliance, 5).checkpoint(), surviving=None, teller="qingdao")
        assert not yantai.exchange.cosign_head(JINAN.origin)
        rotating["jinan"].rotation.revoke_log(3)
        contact(alliance, "yantai", "jinan")
        assert yantai.exchange.cosign_head(JINAN.origin) and cosigned(yantai) == {"yantai": 3}
        rotating.close()


class TestCosigner:
    def test_what_was_held_back_is_cosigned_when_peers_have_told(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember
    ) -> None:
        async def work(cosigner: Cosigner) -> None:
            cosigner.notice_head(yantai.mirror_of("jinan"))
            await idle(cosigner)
            cosigner.resume()
            assert not cosigner._pending and cosigned(yantai) == {}
            yantai.confirmation.accept_told("qingdao", b"")
            cosigner.notice_head(yantai.ledger.log)
            await wait_until(lambda: cosigned(yantai) == {"yantai": 3})

        with_cosigner(alliance, "yantai", work)

    def test_a_start_offers_every_log(self, alliance: SimulatedAlliance, yantai: SimulatedMember) -> None:
        alliance["qingdao"].push(*drafts(2, "Q"))
        alliance.catch_up("yantai", "qingdao")
        yantai.reopen()

        async def work(cosigner: Cosigner) -> None:
            cosigner.offer_all()
            await idle(cosigner)
            assert cosigned(yantai) == {}
            yantai.confirmation.override()
            cosigner.resume()
            await wait_until(lambda: cosigned(yantai) == {"yantai": 3} and cosigned(yantai, "qingdao") == {"yantai": 2})

        with_cosigner(alliance, "yantai", work)

    def test_a_start_without_an_alliance_offers_nothing(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(yantai.membership, "_alliance", None)

        async def work(cosigner: Cosigner) -> None:
            cosigner.offer_all()
            assert not cosigner._pending

        with_cosigner(alliance, "yantai", work)

    def test_fewer_members_need_fewer_answers(self, alliance: SimulatedAlliance, yantai: SimulatedMember) -> None:
        """The last other member that could be asked is removed, and with it what there was to cosign."""
        alliance["jinan"].membership.remove_member("qingdao")
        yantai.membership.accept_update(alliance.exported("jinan")[0], [])
        assert not yantai.exchange.cosign_head(JINAN.origin)
        contact(alliance, "yantai", "jinan")
        assert yantai.exchange.take_held_back() == [JINAN.origin]

    def test_what_waits_for_a_larger_one_is_cosigned_with_it_at_once(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was not cosigned takes nobody's second."""
        monkeypatch.setattr(peers_module, "COSIGN_INTERVAL_S", 3600.0)
        yantai.confirm()
        alliance["jinan"].push(*drafts(2, "MORE"))
        alliance.catch_up("qingdao", "jinan")
        contact(alliance, "yantai", "qingdao")

        async def work(cosigner: Cosigner) -> None:
            cosigner.notice_head(yantai.mirror_of("jinan"))
            await idle(cosigner)
            assert cosigned(yantai) == {}
            async with alliance.following("yantai", "jinan", on_head=cosigner.notice_head):
                await wait_until(lambda: cosigned(yantai) == {"yantai": 5})

        with_cosigner(alliance, "yantai", work)

    def test_an_own_push_looks_at_nothing(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        yantai.confirm()

        def refuse() -> bool:
            raise AssertionError("looked")

        monkeypatch.setattr(type(yantai.confirmation), "confirmed", property(lambda _: refuse()))

        async def work(cosigner: Cosigner) -> None:
            for _ in range(10):
                cosigner.notice_head(yantai.ledger.log)
            assert not cosigner._pending

        with_cosigner(alliance, "yantai", work)

    def test_what_failed_is_offered_again(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(peers_module, "COSIGN_INTERVAL_S", SHORT_S)
        yantai.confirm()
        save, failures = CheckpointStore.save_own_cosignature, iter([True, True])

        def fail(*args, **named) -> bool:
            if next(failures, False):
                refuse_to_read()
            return save(*args, **named)

        monkeypatch.setattr(CheckpointStore, "save_own_cosignature", fail)

        async def work(cosigner: Cosigner) -> None:
            cosigner.notice_head(yantai.mirror_of("jinan"))
            await wait_until(lambda: cosigned(yantai) == {"yantai": 3})

        with_cosigner(alliance, "yantai", work)
        assert next(failures, None) is None  # both had failed before

    def test_whether_the_node_is_confirmed_is_not_read_on_the_event_loop(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may wait for the database."""
        assert not yantai.exchange.cosign_head(JINAN.origin)
        yantai.confirm()
        take, threads = CheckpointExchange.take_held_back, list[int]()

        def note(self: CheckpointExchange) -> list[str]:
            threads.append(threading.get_ident())
            return take(self)

        monkeypatch.setattr(CheckpointExchange, "take_held_back", note)

        async def work(cosigner: Cosigner) -> None:
            for _ in range(5):
                cosigner.resume()
            await wait_until(lambda: cosigned(yantai) == {"yantai": 3})
            assert threads and threading.get_ident() not in threads

        with_cosigner(alliance, "yantai", work)

    def test_under_steady_pushes_it_goes_on_cosigning(
        self, alliance: SimulatedAlliance, yantai: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another checkpoint is announced all the time, and yet some head is cosigned now and then."""
        monkeypatch.setattr(peers_module, "COSIGN_INTERVAL_S", SHORT_S)
        yantai.confirm()
        made: list[int] = []
        save = CheckpointStore.save_own_cosignature

        def count(*args, **named):
            made.append(args[1].head_size)
            return save(*args, **named)

        monkeypatch.setattr(CheckpointStore, "save_own_cosignature", count)

        async def work(cosigner: Cosigner) -> None:
            async with alliance.following("yantai", "jinan", on_head=cosigner.notice_head) as state:
                for number in range(40):
                    await asyncio.to_thread(alliance["jinan"].push, draft(f"S-{number}"))
                await wait_until(lambda: state.verified == 43 and cosigned(yantai) == {"yantai": 43})
            assert len(set(made)) > 1

        with_cosigner(alliance, "yantai", work)


@pytest.mark.parametrize("count", [2, 3])
def test_an_alliance_that_has_just_begun_cosigns_everything(tmp_path: Path, count: int) -> None:
    """Nobody has overridden anything: the members confirm each other."""
    alliance = SimulatedAlliance(tmp_path, count, confirmed=False)
    for member in alliance.members.values():
        member.push(*drafts(2, member.name))

    def complete() -> bool:
        return all(
            len(cosigned(holder, author)) == count - 1
            for author, holder in ((name, alliance[name]) for name in alliance.members)
        )

    async def work() -> None:
        async with alliance.all_connected():
            await wait_until(complete)

    alliance.run(work)
    assert alliance.clock() == NOON
    alliance.close()
