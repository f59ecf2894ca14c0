"""Evidence between nodes: both sides of a contact hold it, everyone is told, and the log is not followed any more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from threading import get_ident
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import evidence as evidence_module
from node.core.card import FormerLogKey
from node.core.checkpoint import Checkpoint, sign_checkpoint
from node.core.conflict import find_parting
from node.core.evidence import format_evidence, parse_evidence
from node.core.misconduct import judge_evidence
from node.errors import (
    FormatError,
    LabmeshError,
    LimitError,
    RollbackError,
    SplitViewError,
    StoreError,
    VerificationError,
)
from node.evidence import IDS_MAX, TOLD_AT_ONCE_MAX
from node.sync import follower as follower_module
from node.sync.evidence import EvidenceTalk
from tests.alliance import SimulatedAlliance, drafts, examples, list_all, visible, wait_until
from tests.builders import build_log, sign_card
from tests.evidence_cases import build_fork
from tests.sync.disputes import JINAN, YANTAI
from tests.sync.equivocation import announce, contact, holders, open_session, show


class TestFinding:
    @pytest.mark.parametrize(("caller", "server"), [("qingdao", "yantai"), ("yantai", "qingdao")])
    @pytest.mark.parametrize(("common", "small", "large"), [(2, 5, 5), (2, 5, 9), (0, 1, 1), (0, 1, 600), (255, 256, 700)])
    def test_both_hold_it_after_one_contact(
        self, alliance: SimulatedAlliance, caller: str, server: str, common: int, small: int, large: int
    ) -> None:
        one, other = build_fork(JINAN, common, small, large)
        show(alliance, "qingdao", one)
        show(alliance, "yantai", other)
        before = [visible(alliance[name].store) for name in (caller, server)]
        assert holders(alliance, "jinan") == []
        contact(alliance, caller, server)
        assert holders(alliance, "jinan") == ["qingdao", "yantai"]
        (piece,), (same,) = (alliance[name].evidence.pieces() for name in (caller, server))
        assert (piece.id, piece.kind, piece.member) == (same.id, "split-view", "jinan")
        assert [visible(alliance[name].store) for name in (caller, server)] == before
        _, raw = alliance[caller].evidence.export(piece.id[:8])
        fingerprint = alliance["jinan"].membership.joined.fingerprint
        assert judge_evidence(parse_evidence(raw), fingerprint=fingerprint).verified

    def test_stale_is_no_fork(self, alliance: SimulatedAlliance) -> None:
        log = build_log(JINAN, 300)
        show(alliance, "qingdao", log, 200)
        show(alliance, "yantai", log, 77)
        show(alliance, "yantai", log, 130)
        for caller, server in (("qingdao", "yantai"), ("yantai", "qingdao"), ("jinan", "yantai")):
            contact(alliance, caller, server)
        assert holders(alliance, "jinan") == []
        assert not alliance.reported

    def test_two_announcements_of_one_size(self, alliance: SimulatedAlliance) -> None:
        """The line breaks after each, so neither is ever verified."""
        one, other = build_fork(JINAN, 2, 9, 9)
        show(alliance, "qingdao", one, 2)
        announce(alliance, "qingdao", "jinan", one.checkpoint())
        announce(alliance, "qingdao", "jinan", one.checkpoint())
        assert holders(alliance, "jinan") == []
        with pytest.raises(SplitViewError) as caught:
            announce(alliance, "qingdao", "jinan", other.checkpoint())
        assert (caught.value.size, holders(alliance, "jinan")) == (9, ["qingdao"])

    def test_an_announcement_that_never_came_true(self, alliance: SimulatedAlliance) -> None:
        """Announced, never delivered, and then a longer log without it."""
        one, other = build_fork(JINAN, 2, 9, 12)
        announce(alliance, "qingdao", "jinan", one.checkpoint())
        with pytest.raises(SplitViewError):
            show(alliance, "qingdao", other)
        assert holders(alliance, "jinan") == ["qingdao"]
        assert alliance["qingdao"].mirror_of("jinan").head_size == 12

    def test_what_a_peer_told_is_remembered_until_the_log_reaches_it(self, alliance: SimulatedAlliance) -> None:
        one, other = build_fork(JINAN, 2, 7, 20)
        alliance["qingdao"].exchange.accept_notes([bytes(one.checkpoint())], peer="yantai")
        with pytest.raises(SplitViewError):
            show(alliance, "qingdao", other)
        assert holders(alliance, "jinan") == ["qingdao"]

    def test_a_smaller_announcement_of_another_history(self, alliance: SimulatedAlliance) -> None:
        one, other = build_fork(JINAN, 2, 9, 5)
        show(alliance, "qingdao", one)
        with pytest.raises(RollbackError):
            announce(alliance, "qingdao", "jinan", one.checkpoint(4))
        assert holders(alliance, "jinan") == []
        with pytest.raises(SplitViewError):
            announce(alliance, "qingdao", "jinan", other.checkpoint())
        assert holders(alliance, "jinan") == ["qingdao"]

    def test_few_announcements_are_remembered(self, alliance: SimulatedAlliance) -> None:
        log = build_log(JINAN, 60)
        for size in range(1, 60):
            alliance["qingdao"].exchange.note_announced(log.checkpoint(size), surviving=None)
        assert alliance["qingdao"].exchange.unreached.count(JINAN.origin) == 8

    def test_a_head_under_a_revoked_key_accuses_nobody(self, alliance: SimulatedAlliance) -> None:
        """Qingdao has verified what a thief signed; the member has named its last good checkpoint, and signs on."""
        qingdao, (honest, thief) = alliance["qingdao"], build_fork(JINAN, 3, 8, 6)
        show(alliance, "qingdao", thief)
        envelope, card = qingdao.membership.joined.cards["jinan"]
        newer = replace(JINAN, generation=2)
        former = FormerLogKey(JINAN.log.key, 3, honest.tree.root(3))
        successor = replace(card, log_key=newer.log.key, former_log_keys=(former,), seq=2, previous=envelope.hash)
        assert qingdao.membership.accept_update([], [sign_card(successor, JINAN)]).changed
        note = sign_checkpoint(Checkpoint(JINAN.origin, 5, honest.tree.root(5)), newer.log)
        assert qingdao.exchange.accept_notes([bytes(note)], peer="yantai") == (0, [])
        assert (qingdao.evidence.pieces(), qingdao.evidence.alarms()) == ((), [])

    def test_what_is_not_signed_by_the_author_is_nothing(self, alliance: SimulatedAlliance) -> None:
        show(alliance, "qingdao", build_log(JINAN, 5))
        checkpoint = Checkpoint(JINAN.origin, 5, bytes(32))
        for signer in (replace(JINAN, generation=2).log, replace(YANTAI.log, key=JINAN.log.key)):
            note = bytes(sign_checkpoint(checkpoint, signer))
            assert alliance["qingdao"].exchange.accept_notes([note], peer="yantai") == (0, [])
        assert holders(alliance, "jinan") == []

    def test_the_own_log_is_judged_only_as_far_as_it_is_published(self, tmp_path: Path) -> None:
        """A home that was rolled back signs a size again that peers hold; it learns of theirs before it publishes."""
        made = SimulatedAlliance(tmp_path, 3, confirmed=False)
        made["jinan"].push(*drafts(4, "AGAIN"))
        published = build_log(JINAN, 3)
        show(made, "qingdao", published)
        contact(made, "jinan", "qingdao")
        contact(made, "qingdao", "jinan")
        assert holders(made, "jinan") == []
        made.close()


class TestTelling:
    def test_every_other_member_is_told_once(self, four: SimulatedAlliance) -> None:
        one, other = build_fork(JINAN, 2, 5, 9)
        show(four, "qingdao", one)
        show(four, "yantai", other)
        contact(four, "qingdao", "yantai")
        four.reported.clear()
        for _ in range(3):
            for server in ("weifang", "jinan", "yantai"):
                contact(four, "qingdao", server)
        assert holders(four, "jinan") == ["jinan", "qingdao", "yantai", "weifang"]
        assert four.reported == [("qingdao", "weifang"), ("qingdao", "jinan")]
        four["qingdao"].reopen()
        contact(four, "qingdao", "weifang")
        contact(four, "weifang", "qingdao")
        assert len(four.reported) == 2

    @pytest.mark.parametrize("calls", [True, False], ids=["it calls", "it is called"])
    def test_a_restored_peer_is_told_again(self, four: SimulatedAlliance, tmp_path: Path, calls: bool) -> None:
        """Its backup was made before the split view was known; who told it once remembers that over a start."""
        weifang, one = four["weifang"], build_fork(JINAN, 2, 5, 5)[0]
        show(four, "weifang", one)
        backup = weifang.snapshot(tmp_path / "backup")
        self._accuse(four)
        contact(four, "qingdao", "weifang")
        assert holders(four, "jinan") == ["qingdao", "weifang"]
        weifang.roll_back(backup)
        four["qingdao"].reopen()
        assert (holders(four, "jinan"), four["qingdao"].evidence.untold("weifang")) == (["qingdao"], [])
        contact(four, *(("weifang", "qingdao") if calls else ("qingdao", "weifang")))
        assert holders(four, "jinan") == ["qingdao", "weifang"]
        assert not weifang.exchange.cosign_head(JINAN.origin)
        four.reported.clear()
        contact(four, "qingdao", "weifang")
        assert not four.reported

    def test_what_a_peer_judges_otherwise_it_needs_not_hear_at_each_contact(self, four: SimulatedAlliance) -> None:
        """It holds another piece that proves the same, and says so of the one that it was told."""
        self._accuse(four)
        show(four, "weifang", build_fork(JINAN, 2, 5, 5)[0])
        four["weifang"].exchange.accept_notes([bytes(build_fork(JINAN, 2, 5, 3)[1].checkpoint())], peer="yantai")
        assert len({four[name].evidence.pieces()[0].id for name in ("qingdao", "weifang")}) == 2
        for _ in range(3):
            contact(four, "qingdao", "weifang")
            four["weifang"].evidence.refresh()
        assert four.reported == [("qingdao", "weifang")]

    def test_a_list_that_may_be_cut_short_takes_nothing_back(self, alliance: SimulatedAlliance) -> None:
        self._accuse(alliance)
        keeper = alliance["qingdao"].evidence
        (piece,) = keeper.pieces()
        keeper.note_held("yantai", [piece.id])
        keeper.note_held("yantai", [f"{i:064x}" for i in range(IDS_MAX)])
        assert keeper.untold("yantai") == []
        keeper.note_held("yantai", [f"{i:064x}" for i in range(IDS_MAX - 1)])
        assert [evidence_id for evidence_id, _ in keeper.untold("yantai")] == [piece.id]

    def test_a_peer_that_does_not_say_what_it_has_is_told_once(self, alliance: SimulatedAlliance) -> None:
        """As one of an older version."""
        self._accuse(alliance)
        alliance.tampering.exchange = lambda answer: replace(answer, evidence_ids=None)
        for _ in range(3):
            contact(alliance, "qingdao", "yantai")
        assert alliance.reported == [("qingdao", "yantai")]

    def test_it_comes_with_the_answer_too(self, four: SimulatedAlliance) -> None:
        """One who cannot be dialled asks, and gets it."""
        show(four, "qingdao", build_fork(JINAN, 2, 5)[0])
        four["qingdao"].exchange.accept_notes([bytes(build_fork(JINAN, 2, 5, 5)[1].checkpoint())], peer="yantai")
        contact(four, "weifang", "qingdao")
        assert holders(four, "jinan") == ["qingdao", "weifang"]
        assert not four.reported

    def test_it_is_told_again_until_it_is_taken(self, alliance: SimulatedAlliance) -> None:
        """Who lacks the rosters takes it later."""
        yantai, raw = alliance["yantai"], self._accuse(alliance)
        older = replace(yantai.membership.joined, rosters=yantai.membership.joined.rosters[:1])
        yantai.membership._alliance, newer = older, yantai.membership.joined
        assert yantai.evidence.accept(raw, peer="qingdao") is False
        assert yantai.evidence.pieces() == ()
        yantai.membership._alliance = newer
        assert yantai.evidence.accept(raw, peer="qingdao") is True
        assert holders(alliance, "jinan") == ["qingdao", "yantai"]

    def test_what_proves_nothing_is_an_alarm_and_keeps_nothing_out(self, alliance: SimulatedAlliance) -> None:
        spoiled = replace(parse_evidence(self._accuse(alliance)), cards={"jinan": b"{}"})
        told = [format_evidence(spoiled), b"nonsense", b"", self._accuse(alliance)]
        alliance.tampering.exchange = lambda answer: replace(answer, evidence=told)
        contact(alliance, "jinan", "yantai")
        assert len(alliance["jinan"].alarms) == 3
        assert all("yantai told evidence that cannot be taken" in sentence for sentence in alliance["jinan"].alarms)
        assert holders(alliance, "jinan") == ["jinan", "qingdao"]

    def test_a_file_whose_roster_is_none(self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is an alarm and keeps nothing out either; and its rosters, megabytes perhaps, keep no event loop waiting."""
        threads: list[int] = []

        def find(*rosters: Any) -> int:
            threads.append(get_ident())
            return find_parting(*rosters)

        monkeypatch.setattr(evidence_module, "find_parting", find)
        good = self._accuse(alliance)
        told = [format_evidence(replace(parse_evidence(good), rosters=(b"{}",))), good]
        alliance.tampering.exchange = lambda answer: replace(answer, evidence=told)
        contact(alliance, "jinan", "yantai")
        (sentence,) = alliance["jinan"].alarms
        assert "yantai told evidence that cannot be taken" in sentence and "roster" in sentence
        assert holders(alliance, "jinan") == ["jinan", "qingdao"]
        assert len(threads) == 1 and get_ident() not in threads

    def test_no_more_is_taken_at_once_than_is_told(self, alliance: SimulatedAlliance) -> None:
        alliance.tampering.exchange = lambda answer: replace(answer, evidence=[b"%d" % i for i in range(500)])
        contact(alliance, "qingdao", "yantai")
        assert len(alliance["qingdao"].alarms) == TOLD_AT_ONCE_MAX

    def test_what_was_refused_is_not_told_again(self, alliance: SimulatedAlliance) -> None:
        """For example by one whose newer card says that the key was stolen."""
        self._accuse(alliance)
        alliance["yantai"].evidence.accept = _refuse  # type: ignore[method-assign]

        async def work() -> None:
            async with alliance.following("qingdao", "yantai", contact_interval_s=0.01) as state:
                await wait_until(lambda: alliance.reported)
                at = state.last_contact_ms
                alliance.clock.turn(5)
                await wait_until(lambda: state.last_contact_ms > at)
                assert state.state == "connected"

        alliance.run(work)
        assert alliance.reported == [("qingdao", "yantai")]

    @pytest.mark.parametrize(
        ("refusal", "told"),
        [
            (VerificationError("first", "the key was retired"), 1),
            (FormatError("not evidence"), 1),
            (LimitError("qingdao is reporting evidence already; one call at a time"), 2),
            (StoreError("the disk is full"), 2),
        ],
    )
    def test_a_peer_that_could_not_judge_it_is_told_again(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch, refusal: LabmeshError, told: int
    ) -> None:
        """Only what was judged and refused is left alone."""
        self._accuse(alliance)
        keeper, talk = alliance["yantai"].evidence, EvidenceTalk(alliance["qingdao"].evidence, "yantai", print)

        def refuse(raw: bytes, *, peer: str) -> bool:
            raise refusal

        for accept in (refuse, keeper.accept):
            monkeypatch.setattr(keeper, "accept", accept)
            alliance.run(lambda: talk.tell(alliance.client("qingdao", "yantai")))
        assert (len(alliance.reported), len(keeper.pieces())) == (told, told - 1)

    def _accuse(self, alliance: SimulatedAlliance) -> bytes:
        """Let qingdao find a split view; returns the file."""
        qingdao = alliance["qingdao"]
        one, other = build_fork(JINAN, 2, 5, 5)
        if not qingdao.evidence.pieces():
            show(alliance, "qingdao", one)
            qingdao.exchange.accept_notes([bytes(other.checkpoint())], peer="yantai")
        return qingdao.evidence.export(qingdao.evidence.pieces()[0].id)[1]


def _refuse(raw: bytes, *, peer: str) -> bool:
    raise VerificationError("first", "the key was retired")


class TestEffect:
    @pytest.fixture
    def accused(self, alliance: SimulatedAlliance) -> SimulatedAlliance:
        """Qingdao has verified two entries of jinan, and then finds out that jinan signed other ones; three more wait."""
        alliance["jinan"].push(*drafts(2))
        alliance.catch_up("qingdao", "jinan")
        note = sign_checkpoint(Checkpoint(JINAN.origin, 2, bytes(32)), JINAN.log)
        alliance["qingdao"].exchange.accept_notes([bytes(note)], peer="yantai")
        alliance["jinan"].push(*drafts(3, "LATER"))
        alliance.reads.clear()
        return alliance

    def test_the_log_is_not_followed_and_contact_goes_on(self, accused: SimulatedAlliance) -> None:
        for _ in range(2):
            state = accused.follow("qingdao", "jinan", lambda state: state.last_contact_ms)
            assert (state.state, state.reason) == ("quarantined", "SPLIT_VIEW")
            assert "two different roots for size 2" in state.error
            assert accused.reads == []
            assert len(list_all(accused["qingdao"].store)) == 2
            accused["qingdao"].reopen()

    def test_other_logs_go_on(self, accused: SimulatedAlliance) -> None:
        accused["yantai"].push(*drafts(3, "HONEST"))
        accused.catch_up("qingdao", "yantai")
        assert len(list_all(accused["qingdao"].store)) == 5

    def test_no_head_of_it_is_cosigned(self, accused: SimulatedAlliance) -> None:
        assert not accused["qingdao"].exchange.cosign_head(JINAN.origin)
        assert accused["yantai"].exchange.cosign_head(JINAN.origin) is False  # it holds nothing of it
        accused.catch_up("yantai", "jinan")
        assert accused["yantai"].exchange.cosign_head(JINAN.origin) is False or holders(accused, "jinan") == ["qingdao"]

    def test_a_stream_ends_when_evidence_comes(self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(follower_module, "DISCONNECT_PAUSE_S", 0.01)
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        jinan.push(*drafts(2))

        async def work() -> None:
            async with alliance.all_connected() as running:
                state = running["qingdao"].states
                readers = [running[name].states for name in ("qingdao", "yantai")]  # whoever hears it first reads nothing
                await wait_until(lambda: all("jinan" in peers and peers["jinan"].verified == 2 for peers in readers))
                note = bytes(sign_checkpoint(Checkpoint(JINAN.origin, 1, bytes(32)), JINAN.log))
                await asyncio.to_thread(qingdao.exchange.accept_notes, [note], peer="yantai")
                await wait_until(lambda: state["jinan"].state == "quarantined")
                await wait_until(lambda: holders(alliance, "jinan") == ["jinan", "qingdao", "yantai"])
                await asyncio.to_thread(jinan.push, *drafts(3, "LATER"))
                at = state["jinan"].last_contact_ms
                alliance.clock.turn(5)
                await wait_until(lambda: state["jinan"].last_contact_ms > at)
                await asyncio.sleep(0.05)

        alliance.run(work)
        assert [alliance[name].mirror_of("jinan").head_size for name in ("qingdao", "yantai")] == [2, 2]

    def test_a_page_that_is_under_way_is_not_taken(self, accused: SimulatedAlliance) -> None:
        session = open_session(accused, "qingdao", "jinan")
        assert session.apply(accused["jinan"].ledger.log.head_note) is False
        assert (session.waiting_for_pages, session.log.head_size) == (False, 2)

    def test_an_alarm_names_the_evidence_and_what_to_type(self, accused: SimulatedAlliance) -> None:
        qingdao = accused["qingdao"]
        (piece,) = qingdao.evidence.pieces()
        (alarm,) = qingdao.evidence.alarms()
        assert f"labmesh evidence export {piece.id} -o FILE" in alarm
        assert "jinan signed two different roots for size 2" in alarm
        qingdao.reopen()
        assert qingdao.evidence.alarms() == [alarm]
        accused["jinan"].evidence.accept(qingdao.evidence.export(piece.id)[1], peer="qingdao")
        assert "this is the own member" in accused["jinan"].evidence.alarms()[0]


class TestAnyFork:
    @given(st.data())
    @examples(12)
    def test_it_is_caught_as_soon_as_two_who_saw_the_two_sides_meet(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        common = data.draw(st.integers(0, 12), label="common")
        lengths = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)), label="lengths")
        made = SimulatedAlliance(tmp_path_factory.mktemp("fork"))
        try:
            for reader, log in zip(("qingdao", "yantai"), build_fork(JINAN, common, *lengths), strict=True):
                for size in sorted({data.draw(st.integers(1, log.size)), log.size}):
                    show(made, reader, log, size)
            pair = data.draw(st.permutations(["qingdao", "yantai"]), label="who calls")
            contact(made, pair[0], pair[1])
            forked = min(lengths) > common
            assert holders(made, "jinan") == (["qingdao", "yantai"] if forked else [])
        finally:
            made.close()
