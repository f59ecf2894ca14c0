"""A thief signed with the author's log key: once the author ends it, peers give the thief's entries up and follow on."""

from __future__ import annotations

import pytest

from node.core.checkpoint import parse_checkpoint
from node.errors import UnconfirmedError
from node.inspection import Inspector, Report
from node.store.records import Filter
from tests.alliance import drafts, list_all, wait_until
from tests.builders import kinds, record_bytes
from tests.disclosing import KINDS
from tests.rotating import RotatingAlliance
from tests.store.reading import index_all
from tests.sync.equivocation import contact, holders, show
from tests.sync.key_changes import cosign_by, mirror, push, require_followed
from tests.sync.test_survivor import fork_of


@pytest.fixture
def alliance(rotating: RotatingAlliance) -> RotatingAlliance:
    return rotating


class TestThief:
    """A thief signed other entries beyond size 3, and yantai has verified them; then jinan ends the key at 3."""

    def steal(self, alliance: RotatingAlliance, extra: int) -> None:
        sim = alliance.simulated
        push(alliance, 3, "COMMON")
        for name in ("qingdao", "yantai"):
            sim.catch_up(name, "jinan")
        show(sim, "yantai", fork_of(sim, extra))
        index_all(sim["yantai"].store)

    def follow_on(self, alliance: RotatingAlliance) -> None:
        """Yantai ends with jinan's own log, and accuses nobody."""
        sim = alliance.simulated
        jinan, yantai = sim["jinan"], sim["yantai"]
        own = jinan.ledger.log.head_note
        sim.follow("yantai", "jinan", lambda _: mirror(alliance, "yantai").head_note == own)
        require_followed(alliance, "yantai")
        assert [item.record for item in list_all(yantai.store)] == [item.record for item in list_all(jinan.store)]
        assert (yantai.evidence.pieces(), yantai.evidence.alarms()) == ((), [])
        index_all(yantai.store)
        found = yantai.store.records.search('"jinan" OR "true" OR "common"', Filter(), limit=100)
        assert {item.record for item in found.records} <= {item.record for item in list_all(jinan.store)}

    @pytest.mark.parametrize("true", [0, 4])
    @pytest.mark.parametrize("extra", [1, 3, 4, 5, 300])
    def test_a_peer_that_verified_it_ends_with_the_honest_log(
        self, alliance: RotatingAlliance, extra: int, true: int
    ) -> None:
        """The honest log is longer than the thief's, as long, or shorter, or ends where the key does."""
        self.steal(alliance, extra)
        if true:
            push(alliance, true, "TRUE")
        alliance["jinan"].rotation.revoke_log(3)
        assert not alliance.tell_card("jinan", "qingdao", "yantai")
        self.follow_on(alliance)
        push(alliance, 2, "NEXT")
        self.follow_on(alliance)
        cosign_by(alliance, "qingdao", "yantai")
        assert (
            alliance["yantai"].member.exchange.accept_notes(alliance["jinan"].member.exchange.held_notes(), peer="jinan")[1]
            == []
        )
        report = list(Inspector(alliance["yantai"].member.store.inspection, kinds(), "jinan").run())[-1]
        assert isinstance(report, Report) and report.verified

    def test_the_card_alone_is_enough_while_the_author_is_away(self, alliance: RotatingAlliance) -> None:
        """The card comes from a third peer: the thief's entries are gone at once, listed, told and cosigned no more."""
        self.steal(alliance, 9)
        yantai = alliance["yantai"].member
        assert len(list_all(yantai.store)) == 12 and yantai.exchange.cosign_head(yantai.mirror_of("jinan").origin)
        alliance["jinan"].rotation.revoke_log(3)
        alliance.simulated.unreachable.add("jinan")
        alliance.tell_card("jinan", "qingdao")

        async def work() -> None:
            async with alliance.simulated.all_connected():
                await wait_until(lambda: mirror(alliance, "yantai").head_size == 3)

        alliance.simulated.run(work)
        assert [item.key for item in list_all(yantai.store)] == [f"COMMON-{i:06d}" for i in range(3)]
        assert [parse_checkpoint(note).size for note in yantai.exchange.held_notes()] == [3]
        assert yantai.store.checkpoints.largest_cosigned(mirror(alliance, "yantai").id, ["yantai"]) in ({}, {"yantai": 3})
        alliance.simulated.unreachable.clear()
        push(alliance, 1, "TRUE")
        self.follow_on(alliance)

    def strike(self, alliance: RotatingAlliance) -> None:
        """Three members hold the common entries, yantai two of the thief's behind them, and jinan has signed four others."""
        self.steal(alliance, 2)
        alliance.simulated.catch_up("weifang", "jinan")
        push(alliance, 4, "TRUE")

    def require_remedy(self, alliance: RotatingAlliance) -> None:
        """Told of the thief's history, jinan is unsure of its own log. Ending the key is the remedy, and needs no other."""
        jinan = alliance["jinan"]
        assert str(jinan.member.confirmation.conflict).startswith("yantai holds a checkpoint of size 5")
        with pytest.raises(UnconfirmedError, match="yantai holds a checkpoint of size 5") as refused:
            jinan.rotation.rotate("log")
        assert "labmesh keys revoke log --size N" in str(refused.value.hint)
        jinan.rotation.revoke_log(3)
        told = (jinan.member.confirmation.conflict, jinan.member.confirmation.confirmed)
        assert told == (None, True)
        jinan.require_sound()
        assert not alliance.tell_card("jinan", "qingdao", "yantai", "weifang")
        self.follow_on(alliance)

    def test_the_author_can_end_its_key_although_it_was_told_of_the_thief_s_history(
        self, alliance: RotatingAlliance
    ) -> None:
        for name in ("qingdao", "weifang"):
            alliance.simulated.meet("jinan", name)
        self.strike(alliance)
        alliance.simulated.meet("jinan", "yantai")
        self.require_remedy(alliance)
        assert [item.key[:-7] for item in list_all(alliance["yantai"].member.store)] == ["COMMON"] * 3 + ["TRUE"] * 4

    @pytest.mark.parametrize("order", [("yantai", "qingdao", "weifang"), ("qingdao", "weifang", "yantai")])
    def test_also_after_a_start_once_enough_others_agree(self, alliance: RotatingAlliance, order: tuple[str, ...]) -> None:
        self.strike(alliance)
        jinan = alliance["jinan"]
        jinan.member.reopen()
        jinan._wire()
        for name in order:
            alliance.simulated.meet("jinan", name)
        self.require_remedy(alliance)
        assert [item.key[:-7] for item in list_all(alliance["yantai"].member.store)] == ["COMMON"] * 3 + ["TRUE"] * 4

    def test_a_home_that_nobody_agrees_with_ends_no_key(self, alliance: RotatingAlliance) -> None:
        """It may be the one that was rolled back: then it would name a size that was never good."""
        self.strike(alliance)
        jinan = alliance["jinan"]
        jinan.member.reopen()
        jinan._wire()
        alliance.simulated.meet("jinan", "yantai")
        with pytest.raises(UnconfirmedError, match="may be the one that was rolled back"):
            jinan.rotation.revoke_log(3)

    @pytest.mark.parametrize("seen", [False, True])
    @pytest.mark.parametrize("restart", [False, True])
    def test_a_thief_s_copy_that_is_longer_is_not_taken_for_our_own(
        self, alliance: RotatingAlliance, seen: bool, restart: bool
    ) -> None:
        """Whether or not somebody has cosigned the honest entries: jinan signs no second history, and can end its key."""
        jinan, sim = alliance["jinan"], alliance.simulated
        for name in ("qingdao", "weifang"):
            sim.meet("jinan", name)
        self.steal(alliance, 9)
        push(alliance, 4, "TRUE")
        sim.catch_up("weifang", "jinan")
        if seen:
            weifang = sim["weifang"].exchange
            assert weifang.cosign_head(jinan.member.lab.origin)
            assert jinan.member.exchange.accept_notes(weifang.held_notes(), peer="weifang")[0] == 1
        if restart:
            jinan.member.reopen()
            jinan._wire()
            sim.meet("jinan", "weifang")
        before, confirmation = list_all(jinan.member.store), jinan.member.confirmation
        for _ in range(2):
            sim.meet("jinan", "yantai")
            assert str(confirmation.conflict).startswith("yantai holds a checkpoint of size 12")
            assert (confirmation.longer, confirmation.confirmed) == (None, False)
        assert list_all(jinan.member.store) == before and not jinan.member.push(*drafts(1, "WAITS")).signed
        sim.meet("jinan", "qingdao")
        jinan.rotation.revoke_log(3)
        assert (confirmation.conflict, confirmation.longer, confirmation.confirmed) == (None, None, True)
        jinan.require_sound()
        assert not alliance.tell_card("jinan", "qingdao", "yantai", "weifang")
        self.follow_on(alliance)

    def test_a_key_that_was_stolen_and_lost_is_ended_although_a_peer_shows_the_thief_s_history(
        self, alliance: RotatingAlliance
    ) -> None:
        """That peer has told: it holds another history, and nothing that would come back."""
        jinan, sim = alliance["jinan"], alliance.simulated
        self.strike(alliance)
        jinan.lose("log")
        sim.meet("jinan", "qingdao", "weifang", "yantai")
        assert str(jinan.member.confirmation.conflict).startswith("yantai holds a checkpoint of size 5")
        assert jinan.rotation.revoke_log(3).former_log_keys[-1].size == 3
        assert jinan.member.confirmation.conflict is None and jinan.rotation.lost_roles() == []

    def test_a_longer_copy_that_is_told_and_not_given_keeps_no_key_alive(self, alliance: RotatingAlliance) -> None:
        jinan, sim = alliance["jinan"], alliance.simulated
        for name in ("qingdao", "weifang"):
            sim.meet("jinan", name)
        self.steal(alliance, 9)
        jinan.member.confirmation.accept_told("yantai", sim["yantai"].exchange.note_for("jinan"))
        longer = jinan.member.confirmation.longer
        assert longer == ("yantai", 12)
        jinan.rotation.revoke_log(3)
        told = (jinan.member.confirmation.longer, jinan.member.confirmation.confirmed)
        assert told == (None, True)

    def test_a_longer_copy_keeps_the_key_of_a_home_that_nobody_has_confirmed(self, alliance: RotatingAlliance) -> None:
        self.steal(alliance, 9)
        jinan = alliance["jinan"]
        jinan.member.reopen()
        jinan._wire()
        jinan.member.confirmation.accept_told("yantai", alliance["yantai"].member.exchange.note_for("jinan"))
        for name in ("qingdao", "weifang"):
            alliance.simulated.meet("jinan", name)
        with pytest.raises(UnconfirmedError):
            jinan.rotation.revoke_log(3)

    def test_what_the_thief_erased_comes_back(self, alliance: RotatingAlliance) -> None:
        """The thief's own log says that an honest entry is erased; with the cut its author gives it again."""
        sim = alliance.simulated
        push(alliance, 3, "COMMON")
        for name in ("qingdao", "yantai"):
            sim.catch_up(name, "jinan")
        thief, sim["yantai"].kinds = fork_of(sim, 0), KINDS
        body = {"index": 1, "id": "jinan/result/COMMON-000001@1", "reason": "a lie"}
        thief.append(record_bytes("jinan", "1", kind="erasure", schema="erasure/1", body=body))
        show(sim, "yantai", thief)
        assert len(list_all(sim["yantai"].store, Filter(kind="result"))) == 2
        alliance["jinan"].rotation.revoke_log(3)
        assert not alliance.tell_card("jinan", "qingdao", "yantai")
        sim.follow("yantai", "jinan", lambda _: len(list_all(sim["yantai"].store, Filter(kind="result"))) == 3)
        self.follow_on(alliance)

    def test_evidence_against_the_thief_s_key_is_kept(self, alliance: RotatingAlliance) -> None:
        """It proved something while the key counted; afterwards it stands no more, and is listed all the same."""
        self.steal(alliance, 5)
        push(alliance, 4, "TRUE")
        alliance.simulated.catch_up("qingdao", "jinan")
        contact(alliance.simulated, "qingdao", "yantai")
        assert {"qingdao", "yantai"} <= set(holders(alliance.simulated, "jinan"))
        alliance["jinan"].rotation.revoke_log(3)
        assert not alliance.tell_card("jinan", "qingdao", "yantai", "weifang")
        assert holders(alliance.simulated, "jinan") == []
        for name in ("qingdao", "yantai"):
            alliance.simulated.catch_up(name, "jinan")
            (piece,) = alliance[name].member.evidence.pieces()
            assert piece.settled and alliance[name].member.evidence.export(piece.id)[1]

    def test_a_shorter_announcement_than_the_honest_one_is_a_rollback(self, alliance: RotatingAlliance) -> None:
        self.steal(alliance, 2)
        note = alliance["jinan"].member.ledger.log.head_note
        push(alliance, 1, "TRUE")
        alliance["jinan"].rotation.revoke_log(3)
        alliance.tell_card("jinan", "yantai")
        self.follow_on(alliance)
        alliance.simulated.tampering.stream = lambda messages: messages or [note]
        state = alliance.simulated.follow("yantai", "jinan", lambda state: state.state == "refused")
        assert state.reason == "ROLLBACK" and mirror(alliance, "yantai").head_size == 4
