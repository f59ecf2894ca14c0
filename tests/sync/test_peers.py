"""All followers of a node: one for each active member, started and stopped with the roster; and who cosigns when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from node.audit import build_bundle
from node.core.names import parse_record_id
from node.errors import MalformedError, PeerUnreachableError, SplitViewError
from node.store.logs import LogState
from node.sync import follower as follower_module
from node.sync import peers as peers_module
from node.sync.peer import OFFLINE_AFTER_MS, PeerState
from node.sync.peers import Alarms, Cosigner, Peers
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts, list_all, wait_until
from tests.builders import build_labs
from tests.verifiers import agreed_verdict

JINAN, QINGDAO, YANTAI = build_labs(3)


def cosigners_of(member: SimulatedMember, author: str, size: int) -> int:
    """How many cosignatures a held checkpoint has."""
    found = member.store.checkpoints.find(member.mirror_of(author).id, size)
    return len(found.note.signatures) - 1 if found else 0


def with_peers(alliance: SimulatedAlliance, name: str, work: Callable[[Peers], Awaitable[None]]) -> None:
    """Let one member follow the others while something happens."""

    async def inside() -> None:
        peers = Peers(alliance.parts(name))
        task = asyncio.create_task(peers.run())
        try:
            await work(peers)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    alliance.run(inside)


class TestTogether:
    def test_every_record_reaches_everyone_and_is_proven(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(peers_module, "COSIGN_INTERVAL_S", 0.01)
        monkeypatch.setattr(follower_module, "DISCONNECT_PAUSE_S", 0.01)
        alliance = SimulatedAlliance(tmp_path, 4, confirmed=False)
        members = alliance.members

        async def work() -> None:
            async with alliance.all_connected() as running:
                await wait_until(lambda: all(member.confirmation.confirmed for member in members.values()))
                for name, member in members.items():
                    await asyncio.to_thread(member.push, draft(f"OF-{name}"))
                await wait_until(
                    lambda: all(cosigners_of(member, author, 1) == 3 for member in members.values() for author in members)
                )
                assert {state.state for peers in running.values() for state in peers.states.values()} == {"connected"}

        alliance.run(work)
        for member in members.values():
            assert sorted(stored.key for stored in list_all(member.store)) == [f"OF-{name}" for name in sorted(members)]
            for author in members:
                bundle = build_bundle(
                    member.store,
                    member.membership.joined,
                    parse_record_id(f"{author}/result/OF-{author}"),
                    member=member.name,
                    ceiling=member.confirmation.ceiling,
                )
                assert bundle.first_proof is not None
                fingerprint = member.membership.joined.fingerprint
                verdict = agreed_verdict(bundle, fingerprint=fingerprint, kinds=member.kinds)
                assert (verdict.verified, verdict.quorum_met, verdict.quorum_needed) == (True, True, 2)
                assert sorted(verdict.cosigners) == sorted(set(members) - {author})
                assert verdict.seen_by == int(alliance.clock().timestamp())
        alliance.close()

    def test_a_removed_member_learns_nothing_more(self, alliance: SimulatedAlliance) -> None:
        jinan, yantai = alliance["jinan"], alliance["yantai"]

        async def work() -> None:
            async with alliance.all_connected() as running:
                await wait_until(lambda: running["jinan"].states and alliance.reads)
                await asyncio.to_thread(jinan.membership.remove_member, "yantai")
                await wait_until(lambda: "yantai" not in running["jinan"].states)
                await wait_until(lambda: "yantai" not in running["qingdao"].states)
                assert set(running["jinan"].states) == {"qingdao"}

        alliance.run(work)
        assert yantai.membership.joined.roster.version == 3


class TestReconciling:
    def test_one_follower_for_each_other_member(self, alliance: SimulatedAlliance) -> None:
        async def work(peers: Peers) -> None:
            await wait_until(lambda: len(alliance.reads) == 2)
            assert {name: state.state for name, state in peers.states.items()} == {
                "qingdao": "connected",
                "yantai": "connected",
            }

        with_peers(alliance, "jinan", work)
        assert {(read.reader, read.author) for read in alliance.reads} == {("jinan", "qingdao"), ("jinan", "yantai")}
        assert alliance.closed == 2

    def test_before_joining_there_is_nobody(self, tmp_path: Path, alliance: SimulatedAlliance) -> None:
        alone = SimulatedMember(JINAN, tmp_path / "alone")
        alliance.members["alone"] = alone

        async def work(peers: Peers) -> None:
            await asyncio.sleep(0.02)
            assert peers.states == {}

        with_peers(alliance, "alone", work)

    def test_who_cannot_be_dialled_is_offline(self, alliance: SimulatedAlliance) -> None:
        jinan, yantai = alliance["jinan"], alliance["yantai"]
        yantai.membership.reissue_card(name="Yantai", region="CN-37", endpoints=())
        jinan.membership.accept_update([], [yantai.card])

        async def work(peers: Peers) -> None:
            await wait_until(lambda: "yantai" in peers.states and peers.states["qingdao"].state == "connected")
            state = peers.states["yantai"]
            assert (state.state, state.error) == ("offline", "its card names no address")

        with_peers(alliance, "jinan", work)

    def test_what_is_held_of_a_peer_is_known_before_it_answers(self, alliance: SimulatedAlliance) -> None:
        """After a restart of this node, of a peer that is away: its mirror is not nothing."""
        alliance["qingdao"].push(*drafts(3))
        alliance.catch_up("jinan", "qingdao")
        alliance.unreachable.add("qingdao")

        async def work(peers: Peers) -> None:
            await wait_until(lambda: peers.states and peers.states["qingdao"].error)
            state = peers.states["qingdao"]
            assert (state.state, state.verified, state.size) == ("retrying", 3, 3)

        with_peers(alliance, "jinan", work)

    def test_a_card_that_is_not_known(self, alliance: SimulatedAlliance) -> None:
        jinan = alliance["jinan"]
        alone = jinan.membership.joined
        jinan.membership._alliance = replace(alone, cards={"jinan": alone.cards["jinan"]})

        async def work(peers: Peers) -> None:
            await wait_until(lambda: len(peers.states) == 2)
            assert {state.error for state in peers.states.values()} == {"its card is not known yet"}

        with_peers(alliance, "jinan", work)

    def test_a_new_way_in_is_taken_at_once(self, alliance: SimulatedAlliance) -> None:
        jinan, yantai = alliance["jinan"], alliance["yantai"]

        async def work(peers: Peers) -> None:
            await wait_until(lambda: len(alliance.reads) == 2)
            yantai.membership.reissue_card(name="Yantai", region="CN-37", endpoints=("other.example:7443",))
            jinan.membership.accept_update([], [yantai.card])
            peers.notice_change()
            await wait_until(lambda: len(alliance.reads) == 3)
            assert (alliance.reads[-1].author, alliance.closed) == ("yantai", 1)
            yantai.membership.reissue_card(name="A new name", region="CN-37", endpoints=("other.example:7443",))
            jinan.membership.accept_update([], [yantai.card])
            peers.notice_change()
            await asyncio.sleep(0.05)
            assert (len(alliance.reads), alliance.closed) == (3, 1)

        with_peers(alliance, "jinan", work)

    def test_a_peer_that_calls_is_tried_at_once(self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(follower_module, "wait_random_exponential", lambda **_: lambda _: 3600.0)
        alliance.unreachable = {"qingdao", "yantai"}

        async def work(peers: Peers) -> None:
            await wait_until(lambda: len(peers.states) == 2 and all(state.error for state in peers.states.values()))
            alliance.unreachable.clear()
            peers.wake("yantai")
            peers.wake("weifang")
            await wait_until(lambda: peers.states["yantai"].state == "connected")
            assert peers.states["qingdao"].state == "retrying"

        with_peers(alliance, "jinan", work)


class TestCosigner:
    def test_at_most_one_cosignature_an_interval(self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        monkeypatch.setattr(peers_module, "COSIGN_INTERVAL_S", 5.0)

        async def work() -> None:
            parts = alliance.parts("qingdao")
            cosigner = Cosigner(parts, Peers(parts))
            heads: list[LogState] = []

            def notice(log: LogState) -> None:
                heads.append(log)
                cosigner.notice_head(log)

            async with alliance.following("qingdao", "jinan", on_head=notice):
                for size in range(1, 5):
                    await asyncio.to_thread(jinan.push, draft(f"A-{size}"))
                    await wait_until(lambda size=size: len(heads) == size)  # type: ignore[misc]
                    if size == 1:
                        await wait_until(lambda: cosigners_of(qingdao, "jinan", 1) == 1)
                assert len(cosigner._pending) == 1
            await cosigner.close()

        alliance.run(work)
        assert [cosigners_of(qingdao, "jinan", size) for size in (1, 2, 3, 4)] == [1, 0, 0, 0]

    def test_after_the_interval_the_newest_head_is_cosigned(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        monkeypatch.setattr(peers_module, "COSIGN_INTERVAL_S", 0.2)

        async def work() -> None:
            parts = alliance.parts("qingdao")
            cosigner = Cosigner(parts, Peers(parts))
            async with alliance.following("qingdao", "jinan", on_head=cosigner.notice_head) as state:
                for size in range(1, 4):
                    await asyncio.to_thread(jinan.push, draft(f"A-{size}"))
                    await wait_until(lambda size=size: state.verified == size)  # type: ignore[misc]
                await wait_until(lambda: cosigners_of(qingdao, "jinan", 3) == 1)
                await wait_until(lambda: not cosigner._pending)
            await cosigner.close()

        alliance.run(work)
        assert cosigners_of(qingdao, "jinan", 3) == 1

    def test_the_own_log_is_not_cosigned(self, alliance: SimulatedAlliance) -> None:
        jinan = alliance["jinan"]
        jinan.push(*drafts(1))

        async def work() -> None:
            parts = alliance.parts("jinan")
            cosigner = Cosigner(parts, Peers(parts))
            cosigner.notice_head(jinan.ledger.log)
            assert cosigner._pending == {}
            await cosigner.close()

        alliance.run(work)


class TestAlarms:
    def test_each_sentence_is_kept_once(self, caplog: pytest.LogCaptureFixture) -> None:
        alarms = Alarms()
        assert alarms.sentences() == []
        with caplog.at_level(logging.WARNING):
            for sentence in ("qingdao told nonsense", "qingdao told nonsense", "yantai did, too"):
                alarms.raise_sentence(sentence)
        assert alarms.sentences() == ["qingdao told nonsense", "yantai did, too"]
        assert caplog.messages == [f"event=alarm text={sentence!r}" for sentence in alarms.sentences()]

    def test_of_one_member_there_is_one_of_each_kind_and_none_in_place_of_the_nodes_own(self) -> None:
        alarms = Alarms()
        for turn in range(2 * peers_module.ALARMS_MAX):
            for member in ("qingdao", "yantai"):
                alarms.raise_told(member, "FORMAT", f"{member} told nonsense {turn}")
        alarms.raise_told("yantai", "SIGNATURE", "yantai told a forgery")
        alarms.raise_sentence("the disk is full")
        told = ["qingdao told nonsense 0", "yantai told nonsense 0", "yantai told a forgery"]
        assert alarms.sentences() == ["the disk is full", *told]


class TestPeerState:
    def test_offline_after_a_minute(self) -> None:
        state = PeerState("jinan")
        error = PeerUnreachableError("away")
        assert state.state == "retrying"
        for now_ms, expected in (
            (1000, "retrying"),
            (1000 + OFFLINE_AFTER_MS, "retrying"),
            (1001 + OFFLINE_AFTER_MS, "offline"),
        ):
            state.note_unreachable(error, now_ms)
            assert (state.state, state.failing_since_ms) == (expected, 1000)
        assert (state.error, state.reason) == ("away", "PEER_UNREACHABLE")
        state.note_contact(200_000)
        assert (state.state, state.error, state.reason, state.failing_since_ms) == ("connected", "", "", 0)
        assert state.last_contact_ms == 200_000

    def test_a_fault_is_shown_with_its_reason(self) -> None:
        state = PeerState("jinan")
        state.note_fault(MalformedError("an empty page"))
        assert (state.state, state.error, state.reason) == ("refused", "an empty page", "MALFORMED")
        state.note_fault(SplitViewError("o", size=1, held_note=b"", offered_note=b""))
        assert (state.state, state.reason) == ("quarantined", "SPLIT_VIEW")

    def test_an_accusation_outweighs_whether_the_peer_answers(self) -> None:
        state = PeerState("jinan")
        state.note_contact(1000)
        state.accuse("jinan signed two histories")
        for note in (
            lambda: state.note_contact(2000),
            lambda: state.note_unreachable(PeerUnreachableError("away"), 3000),
            lambda: state.note_fault(MalformedError("an empty page")),
            lambda: state.accuse("jinan signed two histories"),
        ):
            note()
            assert (state.state, state.error, state.reason) == ("quarantined", "jinan signed two histories", "SPLIT_VIEW")
        state.accuse("")
        assert (state.state, state.error, state.reason) == ("retrying", "", "")
        state.note_contact(4000)
        state.accuse("")
        assert state.state == "connected"
