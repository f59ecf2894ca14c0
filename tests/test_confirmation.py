"""What a node may publish after a start: nothing beyond what a peer holds, until enough peers have told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.confirmation import ClockWatch, Confirmation
from node.core.amendment import RemoveMember, SetQuorum
from node.core.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from node.core.note import SignatureLine
from node.core.roster import Head
from node.errors import MalformedError, SignatureError
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts
from tests.builders import NOW_S, MemoryLog, build_labs, build_log, cosign
from tests.sync.disputes import settle

JINAN, QINGDAO = build_labs(2)


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Six members, so the quorum is three; jinan published the checkpoints of sizes 1 and 3, and was started again."""
    made = SimulatedAlliance(tmp_path, 6, confirmed=False)
    made["jinan"].confirmation.override()
    made["jinan"].push(*drafts(1, "A"))
    made["jinan"].push(*drafts(2, "B"))
    made["jinan"].reopen()
    yield made
    made.close()


@pytest.fixture
def jinan(alliance: SimulatedAlliance) -> SimulatedMember:
    return alliance["jinan"]


def note(member: SimulatedMember, size: int) -> bytes:
    """The member's own checkpoint of this size."""
    found = member.store.checkpoints.find(member.ledger.log.id, size)
    assert found is not None
    return bytes(found)


def state(member: SimulatedMember) -> tuple[bool, int]:
    return member.confirmation.confirmed, member.confirmation.ceiling


class TestWaiting:
    def test_a_quorum_of_peers_must_tell(self, jinan: SimulatedMember) -> None:
        assert jinan.confirmation.needed == 3
        assert state(jinan) == (False, 0)
        assert not jinan.confirmation.accept_told("qingdao", b"")
        assert not jinan.confirmation.accept_told("qingdao", b"")
        assert not jinan.confirmation.accept_told("yantai", b"")
        assert state(jinan) == (False, 0)
        assert jinan.confirmation.accept_told("weifang", b"")
        assert state(jinan) == (True, 3)
        assert not jinan.confirmation.accept_told("zibo", b"")

    def test_what_a_peer_holds_may_be_published_at_once(self, jinan: SimulatedMember) -> None:
        assert jinan.confirmation.accept_told("qingdao", note(jinan, 1))
        assert state(jinan) == (False, 1)
        assert not jinan.confirmation.accept_told("yantai", note(jinan, 1))
        assert jinan.confirmation.accept_told("weifang", note(jinan, 3))
        assert state(jinan) == (True, 3)

    def test_a_peer_that_holds_less_takes_nothing_back(self, jinan: SimulatedMember) -> None:
        jinan.confirmation.accept_told("qingdao", note(jinan, 3))
        jinan.confirmation.accept_told("qingdao", note(jinan, 1))
        assert state(jinan) == (False, 3)

    def test_a_peer_that_was_removed_counts_no_more(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        """It claimed to hold more, and can give nothing back: the node goes on with those that are left."""
        ahead = MemoryLog(jinan.lab)
        ahead.append_numbered(9)
        jinan.confirmation.accept_told("yantai", bytes(ahead.checkpoint()))
        for peer in ("qingdao", "weifang"):
            jinan.confirmation.accept_told(peer, b"")
        longer = jinan.confirmation.longer
        assert longer == ("yantai", 9)
        jinan.membership.amend(RemoveMember("yantai"))
        longer = jinan.confirmation.longer
        assert (longer, jinan.confirmation.told_sizes()) == (None, {"qingdao": 0, "weifang": 0})
        assert jinan.confirmation.needed == 2 and state(jinan) == (True, 3)

    def test_what_a_removed_peer_said_fills_no_quorum(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        jinan.membership.amend(SetQuorum(4))
        for peer in ("qingdao", "weifang", "yantai"):
            jinan.confirmation.accept_told(peer, b"")
        jinan.membership.amend(RemoveMember("yantai"))
        assert jinan.confirmation.needed == 4 and state(jinan) == (False, 0)
        assert set(jinan.confirmation.told_sizes()) == {"qingdao", "weifang"}

    def test_what_is_pushed_meanwhile_waits(self, jinan: SimulatedMember) -> None:
        jinan.confirmation.accept_told("qingdao", note(jinan, 3))
        jinan.push(*drafts(2, "C"))
        assert state(jinan) == (False, 3)
        jinan.confirmation.accept_told("yantai", b"")
        jinan.confirmation.accept_told("weifang", b"")
        assert state(jinan) == (True, 3)
        assert jinan.ledger.sign_head()
        assert state(jinan) == (True, 5)
        jinan.push(*drafts(1, "D"))
        assert state(jinan) == (True, 6)
        assert not jinan.ledger.sign_head()

    def test_cosignatures_on_the_note_change_nothing(self, jinan: SimulatedMember) -> None:
        signed = jinan.ledger.log.head
        assert signed is not None
        jinan.confirmation.accept_told("qingdao", bytes(cosign(signed, {QINGDAO: NOW_S})))
        assert state(jinan) == (False, 3)

    def test_every_start_begins_unconfirmed(self, jinan: SimulatedMember) -> None:
        jinan.confirmation.override()
        jinan.reopen()
        assert state(jinan) == (False, 0)

    @pytest.mark.parametrize(("count", "needed"), [(1, 0), (2, 1), (3, 1), (4, 2)])
    def test_small_alliances_ask_whom_there_is(self, tmp_path: Path, count: int, needed: int) -> None:
        made = SimulatedAlliance(tmp_path / "small", count, confirmed=False)
        member = made["jinan"]
        member.push(*drafts(2))
        assert member.confirmation.needed == needed
        assert state(member) == ((True, 2) if count == 1 else (False, 0))
        assert member.ledger.log.signed_size == (2 if count == 1 else 0)
        made.close()

    def test_before_joining_there_is_nobody_to_ask(self, tmp_path: Path) -> None:
        member = SimulatedMember(JINAN, tmp_path / "alone")
        member.push(*drafts(2))
        assert (member.confirmation.needed, *state(member)) == (0, True, 2)
        with pytest.raises(MalformedError, match="no alliance was joined"):
            member.confirmation.accept_told("qingdao", note(member, 2))
        member.store.close()

    def test_a_person_may_take_the_risk(self, jinan: SimulatedMember) -> None:
        assert jinan.confirmation.override() == 3
        assert state(jinan) == (True, 3)

    def test_nothing_is_told_before_it_is_confirmed(self, jinan: SimulatedMember) -> None:
        assert jinan.exchange.held_notes() == []
        jinan.confirmation.accept_told("qingdao", note(jinan, 1))
        assert jinan.exchange.held_notes() == [note(jinan, 1)]
        jinan.confirmation.override()
        assert jinan.exchange.held_notes() == [note(jinan, 3)]


class TestRollback:
    def test_a_longer_log_at_a_peer(self, jinan: SimulatedMember) -> None:
        longer = build_log(JINAN, 9)
        jinan.confirmation.accept_told("qingdao", bytes(longer.checkpoint(5)))
        assert (jinan.confirmation.longer, state(jinan)) == (("qingdao", 5), (False, 0))
        jinan.confirmation.accept_told("yantai", bytes(longer.checkpoint(9)))
        jinan.confirmation.accept_told("weifang", bytes(longer.checkpoint(7)))
        assert (jinan.confirmation.longer, state(jinan)) == (("yantai", 9), (False, 0))
        assert jinan.confirmation.override() == 0
        assert state(jinan) == (False, 0)
        jinan.push(*drafts(1, "C"))
        assert state(jinan) == (False, 0)

    def test_a_peer_that_holds_less_of_the_same_log_is_still_served(self, jinan: SimulatedMember) -> None:
        jinan.confirmation.accept_told("weifang", note(jinan, 3))
        jinan.confirmation.accept_told("qingdao", bytes(build_log(JINAN, 9).checkpoint(5)))
        assert state(jinan) == (False, 3)

    def test_another_history_at_a_peer(self, jinan: SimulatedMember) -> None:
        other = build_log(JINAN, 2)
        jinan.confirmation.accept_told("qingdao", bytes(other.checkpoint(2)))
        assert jinan.confirmation.conflict == (
            "qingdao holds a checkpoint of size 2 of our log that our log does not contain"
        )
        assert state(jinan) == (False, 0)
        assert jinan.confirmation.override() == 0
        assert not jinan.confirmation.confirmed

    def test_a_checkpoint_that_was_never_written_here_but_is_true(self, jinan: SimulatedMember) -> None:
        root = jinan.store.logs.tree(jinan.ledger.log.id).root(2)
        between = sign_checkpoint(Checkpoint(JINAN.origin, 2, root), JINAN.log)
        jinan.confirmation.accept_told("qingdao", bytes(between))
        assert (jinan.confirmation.conflict, jinan.confirmation.longer) == (None, None)
        assert state(jinan) == (False, 2)


def other_key(signed: SignedCheckpoint) -> SignedCheckpoint:
    line = signed.note.signatures[0]
    forged = SignatureLine(line.name, line.key_id, bytes(64))
    return replace(signed, note=replace(signed.note, signatures=(forged,)))


class TestMalformed:
    def test_what_is_no_checkpoint(self, jinan: SimulatedMember) -> None:
        for raw in (b"x", bytes(100), b"quality.jinan.example/log/jinan\n1\n\n", note(jinan, 3)[:-1]):
            for peer in ("qingdao", "yantai", "weifang"):
                with pytest.raises(MalformedError, match=f"{peer} told a checkpoint of our log that is none"):
                    jinan.confirmation.accept_told(peer, raw)
        assert state(jinan) == (False, 0)

    def test_a_forged_signature(self, jinan: SimulatedMember) -> None:
        longer = other_key(build_log(JINAN, 9).checkpoint())
        with pytest.raises(SignatureError):
            jinan.confirmation.accept_told("qingdao", bytes(longer))
        assert (state(jinan), jinan.confirmation.longer) == ((False, 0), None)

    def test_a_checkpoint_of_another_log(self, jinan: SimulatedMember) -> None:
        with pytest.raises(SignatureError):
            jinan.confirmation.accept_told("qingdao", bytes(build_log(QINGDAO, 2).checkpoint()))
        assert (state(jinan), jinan.confirmation.conflict) == ((False, 0), None)


class TestGrowth:
    def test_who_was_confirmed_stays_so_when_it_adds_members(self, tmp_path: Path) -> None:
        alone = SimulatedAlliance(tmp_path / "alone", 1, confirmed=False)["jinan"]
        alone.push(*drafts(2))
        newcomer = SimulatedMember(QINGDAO, tmp_path / "newcomer")
        alone.confirmation.keep()
        alone.membership.add_members([newcomer.card])
        assert (alone.confirmation.needed, *state(alone)) == (1, True, 2)
        for member in (alone, newcomer):
            member.store.close()

    def test_a_larger_quorum_does_not_undo_a_confirmation(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path / "two", 3, confirmed=False)
        member = made["jinan"]
        member.confirmation.accept_told("qingdao", b"")
        assert member.confirmation.confirmed
        others = [SimulatedMember(lab, tmp_path / lab.member) for lab in build_labs(7)[3:]]
        member.membership.add_members([other.card for other in others])
        assert (member.confirmation.needed, member.confirmation.confirmed) == (3, True)
        for other in others:
            other.store.close()
        made.close()


class TestDecided:
    """What a peer showed of another history stands until that peer gives it up, is removed, or the council has decided."""

    @pytest.fixture
    def contradicted(self, jinan: SimulatedMember) -> SimulatedMember:
        for peer in ("qingdao", "weifang", "zibo"):
            jinan.confirmation.accept_told(peer, b"")
        jinan.confirmation.accept_told("yantai", bytes(build_log(JINAN, 2).checkpoint()))
        assert jinan.confirmation.conflict is not None and state(jinan) == (False, 0)
        return jinan

    def test_a_peer_that_holds_ours_now_contradicts_no_more(self, contradicted: SimulatedMember) -> None:
        contradicted.confirmation.accept_told("yantai", b"")
        assert "yantai holds" in str(contradicted.confirmation.conflict)
        contradicted.confirmation.accept_told("yantai", note(contradicted, 1))
        assert (contradicted.confirmation.conflict, state(contradicted)) == (None, (True, 3))

    def test_a_peer_that_was_removed_contradicts_no_more(self, contradicted: SimulatedMember) -> None:
        contradicted.membership.amend(RemoveMember("yantai"))
        assert (contradicted.confirmation.conflict, state(contradicted)) == (None, (True, 3))

    @pytest.mark.parametrize("ours", [True, False])
    def test_the_council_names_the_head_that_survives(
        self, alliance: SimulatedAlliance, contradicted: SimulatedMember, ours: bool
    ) -> None:
        settle(alliance, Head(3, contradicted.ledger.checkpoint.root if ours else bytes(32)))
        contradicted.confirmation.accept_told("yantai", bytes(build_log(JINAN, 2).checkpoint()))
        assert (contradicted.confirmation.conflict is None, *state(contradicted)) == ((ours, ours, 3 if ours else 0))

    def test_up_to_the_named_head_all_is_published(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        """Whoever held the other history fetches ours from here, and says so at its next contact."""
        settle(alliance, Head(3, jinan.ledger.checkpoint.root))
        assert state(jinan) == (False, 3)


class TestWord:
    """A person's word lets a home sign; it does not tell whether this is the home that was rolled back."""

    @pytest.mark.parametrize("adds", [False, True])
    def test_it_is_no_confirmation_before_when_another_history_is_shown(self, jinan: SimulatedMember, adds: bool) -> None:
        jinan.confirmation.override()
        jinan.confirmation.accept_told("qingdao", note(jinan, 3))
        if adds:
            jinan.confirmation.keep()
        allowed = [jinan.confirmation.may_revoke]
        told = [("yantai", bytes(build_log(JINAN, 2).checkpoint())), ("weifang", note(jinan, 3)), ("zibo", b"")]
        for peer, raw in told:
            jinan.confirmation.accept_told(peer, raw)
            allowed.append(jinan.confirmation.may_revoke)
        assert allowed == [True, False, False, True] and not jinan.confirmation.confirmed

    @pytest.mark.parametrize("size", [2, 9], ids=["another history", "a longer one"])
    def test_it_does_not_stand_for_later_where_it_was_refused(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, size: int
    ) -> None:
        jinan.confirmation.accept_told("yantai", bytes(build_log(JINAN, size).checkpoint()))
        jinan.confirmation.override()
        assert not jinan.confirmation.confirmed
        alliance["jinan"].membership.remove_member("yantai")
        assert jinan.confirmation.needed > 0 and not jinan.confirmation.confirmed
        jinan.confirmation.override()
        assert jinan.confirmation.confirmed

    def test_peers_that_agree_with_it_confirm(self, jinan: SimulatedMember) -> None:
        jinan.confirmation.override()
        for peer in ("qingdao", "weifang", "zibo"):
            jinan.confirmation.accept_told(peer, note(jinan, 3))
        jinan.confirmation.accept_told("yantai", bytes(build_log(JINAN, 2).checkpoint()))
        assert jinan.confirmation.may_revoke


class TestTelling:
    def test_other_entries_where_nothing_was_signed_are_no_conflict(self, jinan: SimulatedMember) -> None:
        """What lies there was pushed after the start, and gives way."""
        jinan.push(*drafts(4, "C"))
        other = sign_checkpoint(Checkpoint(JINAN.origin, 5, bytes(32)), JINAN.log)
        jinan.confirmation.accept_told("qingdao", bytes(other))
        assert (jinan.confirmation.longer, jinan.confirmation.conflict) == (("qingdao", 5), None)
        for peer in ("yantai", "weifang", "zibo"):
            jinan.confirmation.accept_told(peer, b"")
        assert state(jinan) == (False, 0)
        assert not jinan.ledger.sign_head()

    def test_a_peer_that_holds_more_does_not_count_until_that_is_here(self, jinan: SimulatedMember) -> None:
        longer = sign_checkpoint(Checkpoint(JINAN.origin, 5, bytes(32)), JINAN.log)
        jinan.confirmation.accept_told("qingdao", bytes(longer))
        jinan.confirmation.accept_told("yantai", b"")
        jinan.confirmation.accept_told("weifang", b"")
        assert state(jinan) == (False, 0)
        # It was restored itself, and now holds what we have.
        jinan.confirmation.accept_told("qingdao", note(jinan, 3))
        assert (jinan.confirmation.longer, state(jinan)) == (None, (True, 3))

    def test_reconsidering_forgets_who_is_behind_now(self, jinan: SimulatedMember) -> None:
        jinan.push(*drafts(1, "C"))
        root = jinan.ledger.checkpoint.root
        same = sign_checkpoint(Checkpoint(JINAN.origin, 4, root), JINAN.log)
        jinan.confirmation._ahead["qingdao"] = same
        assert not jinan.confirmation.confirmed
        jinan.confirmation.reconsider()
        assert jinan.confirmation.longer is None


class TestClock:
    @pytest.fixture
    def counted(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    def watched(self, jinan: SimulatedMember, counted: list[float]) -> Confirmation:
        """A confirmed node on a machine that may be frozen."""
        confirmation = Confirmation(
            jinan.store,
            member="jinan",
            log=lambda: jinan.ledger.log,
            alliance=lambda: jinan.membership.alliance,
            unheld_cards=jinan.membership.unheld_cards,
            watch=ClockWatch(jinan.clock, lambda: counted[0]),
            on_doubt=lambda: counted.append(-1.0),
        )
        for peer in ("qingdao", "yantai", "weifang"):
            confirmation.accept_told(peer, note(jinan, 3))
        assert confirmation.confirmed
        return confirmation

    def test_clocks_that_go_together_change_nothing(
        self, jinan: SimulatedMember, watched: Confirmation, counted: list[float]
    ) -> None:
        jinan.clock.turn(86_400)
        counted[0] += 86_400 - 29
        assert watched.confirmed and counted[1:] == []

    @pytest.mark.parametrize("seconds", [31.0, -31.0, 1e6])
    def test_a_time_of_day_that_jumped_asks_the_peers_again(
        self, jinan: SimulatedMember, watched: Confirmation, counted: list[float], seconds: float
    ) -> None:
        jinan.clock.turn(seconds)
        assert (watched.confirmed, watched.ceiling) == (False, 0)
        assert counted[1:] == [-1.0]
        for peer in ("qingdao", "yantai", "weifang"):
            watched.accept_told(peer, note(jinan, 3))
        assert (watched.confirmed, watched.ceiling, counted[1:]) == (True, 3, [-1.0])

    def test_a_person_is_asked_again_too(self, jinan: SimulatedMember, watched: Confirmation, counted: list[float]) -> None:
        watched.override()
        watched.keep()
        jinan.clock.turn(60)
        assert not watched.confirmed

    def test_nothing_is_signed_by_a_machine_that_was_frozen(self, jinan: SimulatedMember, counted: list[float]) -> None:
        jinan.confirmation._watch = ClockWatch(jinan.clock, lambda: counted[0])
        for peer in ("qingdao", "yantai", "weifang"):
            jinan.confirmation.accept_told(peer, note(jinan, 3))
        jinan.push(*drafts(1, "C"))
        assert jinan.ledger.log.signed_size == 4
        jinan.clock.turn(3600)
        assert not jinan.push(*drafts(1, "D")).signed
        assert jinan.ledger.log.signed_size == 4
