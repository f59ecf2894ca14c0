"""A home that was rolled back takes its log back from its peers, and publishes what it took meanwhile after it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from node.core.entry import LogPage
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts, list_all
from tests.simulated_client import Tampering
from tests.soundness import require_sound
from tests.sync.recovering import JINAN, found, keys, publish, shown, state


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
