"""A recovery that is killed goes on, and one that meets two histories ends in neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.confirmation import ClockWatch
from node.errors import StoreError
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts
from tests.builders import NOW_S, cosign
from tests.soundness import require_sound
from tests.sync.recovering import QINGDAO, keys, publish, state


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
