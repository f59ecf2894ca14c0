"""Evidence between nodes: both sides of a contact hold it, everyone is told, and the log is not followed any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.card import FormerLogKey
from node.core.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from node.core.disclosure import erasure_body
from node.core.evidence import format_evidence, parse_evidence
from node.core.misconduct import judge_evidence
from node.core.names import RecordId
from node.core.roster import Head
from node.errors import NotFoundError, RollbackError, SplitViewError
from node.evidence import TOLD_AT_ONCE_MAX
from node.sync import follower as follower_module
from tests.alliance import SimulatedAlliance, drafts, examples, list_all, visible, wait_until
from tests.builders import build_labs, build_log, record_bytes, sign_card
from tests.disclosing import KINDS
from tests.evidence_cases import build_fork, other_card
from tests.sync.equivocation import announce, contact, holders, open_session, show

JINAN, QINGDAO, YANTAI = build_labs(3)


@pytest.fixture
def four(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Jinan, who lies, and three others."""
    made = SimulatedAlliance(tmp_path, 4)
    yield made
    made.close()


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
        assert len(alliance["qingdao"].exchange._unreached[JINAN.origin][1]) == 8

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

    def _accuse(self, alliance: SimulatedAlliance) -> bytes:
        """Let qingdao find a split view; returns the file."""
        qingdao = alliance["qingdao"]
        one, other = build_fork(JINAN, 2, 5, 5)
        if not qingdao.evidence.pieces():
            show(alliance, "qingdao", one)
            qingdao.exchange.accept_notes([bytes(other.checkpoint())], peer="yantai")
        return qingdao.evidence.export(qingdao.evidence.pieces()[0].id)[1]


def _refuse(raw: bytes, *, peer: str) -> bool:
    from node.errors import VerificationError

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
                await wait_until(lambda: "jinan" in state and state["jinan"].verified == 2)
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


def settle(alliance: SimulatedAlliance, head: Head) -> None:
    """The council says which history of jinan's log survives; everyone hears of it."""
    founder = alliance["jinan"].membership
    before = founder.joined.roster
    line = replace(before.members["jinan"], head=head)
    envelope = founder.joined.rosters[-1][0]
    roster = replace(
        before,
        version=before.version + 1,
        previous=envelope.hash,
        issued=before.issued + timedelta(seconds=1),
        members={**before.members, "jinan": line},
    )
    from tests.builders import sign_roster

    raw = sign_roster(roster, JINAN)
    for member in alliance.members.values():
        assert member.membership.accept_update([raw], []).changed


class TestSettlement:
    """Jinan showed qingdao seven entries and yantai nine others; they met, and the council decides."""

    @pytest.fixture
    def forked(self, alliance: SimulatedAlliance) -> SimulatedAlliance:
        alliance["jinan"].push(*drafts(3, "COMMON"))
        for name in ("qingdao", "yantai"):
            alliance.catch_up(name, "jinan")
        log = build_log(JINAN)
        page = alliance["jinan"].store.logs.read_page(alliance["jinan"].ledger.log, start=0, stop=3, reader="jinan")
        for opening in page.openings:
            log.records.append(opening.record)
            log.salts.append(opening.salt)
        log.commitments = [page.commitments[i : i + 32] for i in range(0, 96, 32)]
        log.frontier = log.frontier.extend(log.commitments)[0]
        log.append_numbered(6)
        show(alliance, "yantai", log)
        alliance["jinan"].push(*drafts(4, "TRUE"))
        alliance.catch_up("qingdao", "jinan")
        contact(alliance, "qingdao", "yantai")
        assert holders(alliance, "jinan") == ["qingdao", "yantai"]
        return alliance

    def test_who_holds_the_survivor_goes_on_and_the_other_begins_again(self, forked: SimulatedAlliance) -> None:
        jinan = forked["jinan"]
        settle(forked, Head(7, jinan.ledger.checkpoint.root))
        assert holders(forked, "jinan") == []
        assert [piece.settled for piece in forked["yantai"].evidence.pieces()] == [
            "the roster names the history that survives, up to size 7"
        ]
        assert forked["yantai"].exchange.note_for("jinan")
        assert forked["yantai"].exchange.held_notes() == []  # the other history is not told any more
        jinan.push(*drafts(2, "NEXT"))
        for name in ("qingdao", "yantai"):
            forked.catch_up(name, "jinan")
            assert [item.record for item in list_all(forked[name].store)] == [item.record for item in list_all(jinan.store)]
            assert forked[name].mirror_of("jinan").head_note == jinan.ledger.log.head_note
        contact(forked, "qingdao", "yantai")
        contact(forked, "yantai", "qingdao")
        assert holders(forked, "jinan") == []

    def test_who_has_not_heard_of_it_may_still_tell_the_other(self, forked: SimulatedAlliance) -> None:
        """Qingdao has heard, and followed on past the other history; yantai tells what it holds under the older roster."""
        told = forked["yantai"].exchange.held_notes()
        settle(forked, Head(7, forked["jinan"].ledger.checkpoint.root))
        forked["jinan"].push(*drafts(5, "NEXT"))
        forked.catch_up("qingdao", "jinan")
        version = forked["qingdao"].membership.joined.roster.version
        assert forked["qingdao"].exchange.accept_notes(told, peer="yantai", version=version - 1) == (0, [])
        assert holders(forked, "jinan") == []
        forked["qingdao"].exchange.accept_notes(told, peer="yantai", version=version)
        assert holders(forked, "jinan") == ["qingdao"]

    def test_what_was_on_its_way_while_it_was_decided_is_no_news(self, forked: SimulatedAlliance) -> None:
        """Told under the older roster, looked at under the newer: neither remembered nor held against the survivor."""
        qingdao, (dead,) = forked["qingdao"], forked["yantai"].exchange.held_notes()
        settle(forked, Head(7, forked["jinan"].ledger.checkpoint.root))
        qingdao.exchange.note_announced(parse_checkpoint(dead), surviving=None)
        forked["jinan"].push(*drafts(5, "NEXT"))
        forked.catch_up("qingdao", "jinan")
        assert holders(forked, "jinan") == []
        qingdao.exchange._require_same_history(qingdao.mirror_of("jinan"), parse_checkpoint(dead), None)
        assert holders(forked, "jinan") == []

    def test_the_other_history_is_refused_from_a_new_reader(self, forked: SimulatedAlliance) -> None:
        """Even by one who begins with nothing: page after page up to the head that the roster names."""
        other = forked["yantai"].mirror_of("jinan")
        settle(forked, Head(other.head_size, other.head_frontier.root()))
        forked["jinan"].push(*drafts(4, "NEXT"))
        held = visible(forked["qingdao"].store)
        state = forked.follow("qingdao", "jinan", lambda state: state.state == "refused")
        assert "not the history that the roster lets survive" in state.error
        # Qingdao ends before the named size, and nobody has shown it the survivor: nothing is given up.
        assert visible(forked["qingdao"].store) == held

    def test_a_removal_settles_it_too(self, forked: SimulatedAlliance) -> None:
        founder = forked["jinan"].membership
        assert founder.member == "jinan"  # the council cannot be asked to remove itself; another member may be
        show(forked, "jinan", build_fork(YANTAI, 1, 4)[0])
        show(forked, "qingdao", build_fork(YANTAI, 1, 4, 6)[1])
        contact(forked, "jinan", "qingdao")
        assert holders(forked, "yantai") == ["jinan", "qingdao"]
        founder.remove_member("yantai")
        assert "yantai" not in holders(forked, "yantai") and forked["jinan"].evidence.split_view_of("yantai") is None
        assert [piece.settled for piece in forked["jinan"].evidence.pieces() if piece.member == "yantai"] == [
            "yantai was removed"
        ]


class TestContradictions:
    @pytest.fixture
    def told_twice(self, four: SimulatedAlliance) -> SimulatedAlliance:
        """Jinan says one id twice, to qingdao and yantai but not to weifang; qingdao reads both."""
        log = build_log(JINAN)
        log.append_numbered(3, audience=["qingdao", "yantai"])
        log.append(record_bytes("jinan", "WJ-000001", body={"value": "9"}, audience=["qingdao", "yantai"]))
        show(four, "qingdao", log)
        return four

    def test_who_reads_both_has_evidence(self, told_twice: SimulatedAlliance) -> None:
        qingdao = told_twice["qingdao"]
        (piece,) = qingdao.evidence.pieces()
        assert (piece.kind, piece.member) == ("contradiction", "jinan")
        assert (
            piece.judgement.summary == "jinan signed two records with the id jinan/result/WJ-000001@1: its entries 1 and 3"
        )
        assert holders(told_twice, "jinan") == []  # one history all the same: it is followed
        assert qingdao.evidence.alarms()

    def test_it_goes_when_one_of_its_records_is_erased(self, tmp_path: Path) -> None:
        alliance = SimulatedAlliance(tmp_path, 3, schemas=KINDS)
        log, readers = build_log(JINAN), ["qingdao", "yantai"]
        secret = record_bytes("jinan", "WJ-000001", body={"value": "unsagbar"}, audience=readers)
        log.append_numbered(3, audience=readers)
        log.append(secret)
        show(alliance, "qingdao", log)
        show(alliance, "yantai", log, 3)
        qingdao, yantai = alliance["qingdao"], alliance["yantai"]
        (piece,) = qingdao.evidence.pieces()
        raw = qingdao.evidence.export(piece.id)[1]
        assert yantai.evidence.accept(raw, peer="qingdao") and len(yantai.evidence.pieces()) == 1
        assert b"unsagbar" in raw and b"unsagbar" in qingdao.stored_bytes()
        said = erasure_body(3, RecordId("jinan", "result", "WJ-000001", 1), "wrong customer")
        log.append(record_bytes("jinan", "3", kind="erasure", schema="erasure/1", body=said, audience=readers))
        for reader in (qingdao, yantai):
            show(alliance, reader.name, log)
            assert reader.store.evidence.load() == [] and reader.evidence.untold("weifang") == []
            with pytest.raises(NotFoundError, match="was erased"):
                reader.evidence.export(piece.id)
            assert reader.store.sweeper.sweep() is True
            reader.evidence.forget_dropped()
            assert (reader.evidence.pieces(), reader.evidence.alarms()) == ((), [])
            assert reader.evidence.accept(raw, peer="weifang") and reader.evidence.pieces() == ()
            assert b"unsagbar" not in reader.stored_bytes()
        alliance.close()

    def test_it_is_told_to_those_who_may_read_both(self, told_twice: SimulatedAlliance) -> None:
        for server in ("weifang", "yantai"):
            contact(told_twice, "qingdao", server)
            contact(told_twice, server, "qingdao")
        assert [name for name, member in told_twice.members.items() if member.evidence.pieces()] == ["qingdao", "yantai"]
        _, raw = told_twice["qingdao"].evidence.export(told_twice["qingdao"].evidence.pieces()[0].id)
        from node.errors import VerificationError

        with pytest.raises(VerificationError, match="not for weifang"):
            told_twice["weifang"].evidence.accept(raw, peer="yantai")
        assert told_twice["weifang"].evidence.pieces() == ()
        assert b"WJ-000001" not in told_twice["weifang"].stored_bytes()

    def test_not_even_its_id_is_told_to_others(self, told_twice: SimulatedAlliance) -> None:
        qingdao, yantai = told_twice["qingdao"], told_twice["yantai"]
        (piece,) = qingdao.evidence.pieces()
        _, raw = qingdao.evidence.export(piece.id)
        yantai.evidence.accept(raw, peer="qingdao")
        for holder in (qingdao, yantai):
            assert holder.evidence.known_ids("weifang") == []
        assert qingdao.evidence.known_ids("yantai") == yantai.evidence.known_ids("qingdao") == [piece.id]

    def test_a_crash_before_the_evidence_is_made_up_for(self, told_twice: SimulatedAlliance) -> None:
        qingdao = told_twice["qingdao"]
        with qingdao.store.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM evidence")
        qingdao.reopen()
        assert qingdao.evidence.pieces() == ()
        qingdao.evidence.search_all()
        assert len(qingdao.evidence.pieces()) == 1

    def test_the_same_words_twice_are_none(self, alliance: SimulatedAlliance) -> None:
        log = build_log(JINAN, 3)
        log.append(log.records[1])
        show(alliance, "qingdao", log)
        assert alliance["qingdao"].evidence.pieces() == ()

    def test_a_flood_of_them_is_bounded(self, alliance: SimulatedAlliance) -> None:
        log = build_log(JINAN, 100)
        log.append(*(record_bytes("jinan", f"WJ-{i:06d}", body={"value": "9"}) for i in range(100)))
        show(alliance, "qingdao", log)
        assert len(alliance["qingdao"].evidence.pieces()) == 16
        assert len(alliance["qingdao"].evidence.untold("yantai")) == TOLD_AT_ONCE_MAX

    @pytest.mark.parametrize("reopened", [False, True])
    def test_settled_ones_hide_none_that_come_later(self, alliance: SimulatedAlliance, reopened: bool) -> None:
        """The council has settled a hundred; what the member says twice from then on is found all the same."""
        qingdao, log = alliance["qingdao"], build_log(JINAN, 100)
        log.append(*(record_bytes("jinan", f"WJ-{i:06d}", body={"value": "9"}) for i in range(100)))
        show(alliance, "qingdao", log)
        settle(alliance, Head(200, log.tree.root(200)))
        assert not [piece for piece in qingdao.evidence.pieces() if piece.stands]
        if reopened:
            qingdao.reopen()
        log.append(record_bytes("jinan", "WJ-000099", body={"value": "10"}))
        log.append(record_bytes("jinan", "NEW"), record_bytes("jinan", "NEW", body={"value": "9"}))
        show(alliance, "qingdao", log)
        found = [piece.judgement.subject for piece in qingdao.evidence.pieces() if piece.stands]
        assert found == ["jinan/result/WJ-000099@1", "jinan/result/NEW@1"]

    def test_room_that_is_made_is_used(self, alliance: SimulatedAlliance) -> None:
        """Sixteen stand, and more are known to the openings: when some go, others are kept instead."""
        qingdao, log = alliance["qingdao"], build_log(JINAN, 30)
        log.append(*(record_bytes("jinan", f"WJ-{i:06d}", body={"value": "9"}) for i in range(30)))
        show(alliance, "qingdao", log)
        gone = [piece.id for piece in qingdao.evidence.pieces()[:10]]
        with qingdao.store.database.write() as connection:
            for evidence_id in gone:
                connection.exec_driver_sql("DELETE FROM evidence WHERE id = ?", (evidence_id,))
        qingdao.evidence.forget_dropped()
        assert not qingdao.evidence.search_contradictions(qingdao.mirror_of("jinan"))
        subjects = [piece.judgement.subject for piece in qingdao.evidence.pieces()]
        assert subjects == [f"jinan/result/WJ-{i:06d}@1" for i in range(10, 26)]

    def test_one_search_looks_at_a_bounded_number(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Known pairs cost no judging; a call that ends early says so, and the next one goes on behind it."""
        monkeypatch.setattr("node.store.evidence.CONTRADICTIONS_MAX", 2)
        monkeypatch.setattr("node.evidence.SEARCHED_PAGES_MAX", 2)
        qingdao, log = alliance["qingdao"], build_log(JINAN, 10)
        log.append(*(record_bytes("jinan", f"WJ-{i:06d}", body={"value": "9"}) for i in range(10)))
        show(alliance, "qingdao", log)
        assert len(qingdao.evidence.pieces()) == 4
        judged: list[object] = []
        real = judge_evidence

        def count(*args: Any, **options: Any) -> Any:
            judged.append(args)
            return real(*args, **options)

        monkeypatch.setattr("node.evidence.judge_evidence", count)
        found = []
        while qingdao.evidence.search_contradictions(qingdao.mirror_of("jinan")):
            found.append(len(qingdao.evidence.pieces()))
        assert (found, len(qingdao.evidence.pieces()), len(judged)) == ([8], 10, 6)
        assert not qingdao.evidence.search_contradictions(qingdao.mirror_of("jinan"))
        qingdao.reopen()
        judged.clear()
        qingdao.evidence.search_all()
        assert (len(qingdao.evidence.pieces()), judged) == (10, [])


class TestConflicts:
    def test_two_cards_of_one_number(self, alliance: SimulatedAlliance) -> None:
        alliance.tampering.cards = lambda cards: [*cards, other_card(QINGDAO)]
        alliance.tampering.exchange = lambda answer: replace(answer, cards_digest=bytes(32))
        contact(alliance, "jinan", "yantai")
        (piece,) = alliance["jinan"].evidence.pieces()
        assert (piece.kind, piece.member) == ("card", "qingdao")
        assert piece.judgement.summary == "qingdao signed two cards with seq 1"
        assert holders(alliance, "qingdao") == []
        assert [name for name, member in alliance.members.items() if member.evidence.pieces()] == ["jinan", "yantai"]


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
