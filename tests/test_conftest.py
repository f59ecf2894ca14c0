"""The rules of tests/conftest.py hold: the same examples every time, and the dearest modules first."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.store import DATABASE_NAME
from node.store.database import Database
from tests.alliance import examples
from tests.conftest import DEAREST, EXAMPLES, TESTS
from tests.core.test_governance_history import Government
from tests.new_stores import new_store
from tests.sync.test_honest_machine import TestHonestHistories
from tests.sync.test_rollback_machine import Losses, Rollbacks, Rotations
from tests.test_council_machine import Council
from tests.test_ledger import TestPushes

MACHINES = (
    Council.TestCase,
    Government.TestCase,
    Losses.TestCase,
    Rollbacks.TestCase,
    Rotations.TestCase,
    TestHonestHistories,
    TestPushes,
)


class TestProfiles:
    def test_random_examples_are_the_same_every_time_unless_one_explores(self) -> None:
        every_time, explore = settings.get_profile("labmesh"), settings.get_profile("explore")
        assert (every_time.derandomize, every_time.max_examples) == (True, EXAMPLES)
        assert (explore.derandomize, explore.max_examples) == (False, 10 * EXAMPLES)
        assert explore.suppress_health_check == every_time.suppress_health_check
        assert (explore.database, explore.deadline) == (None, None)

    @pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__qualname__)
    def test_machines_with_settings_of_their_own_follow_the_profile(self, machine) -> None:
        assert machine.settings.derandomize is settings().derandomize
        assert machine.settings.database is None and machine.settings.deadline is None

    @pytest.mark.parametrize("profile", ["labmesh", "explore"])
    def test_examples_of_a_fixed_number_follow_the_profile(self, profile: str) -> None:
        before = settings.get_current_profile_name()
        settings.load_profile(profile)
        try:
            assert examples(7).max_examples == 7
            assert examples(7).derandomize is (profile == "labmesh")
        finally:
            settings.load_profile(before)

    def test_two_runs_see_the_same(self) -> None:
        runs: list[list[int]] = []

        @settings(settings.get_profile("labmesh"), max_examples=20)
        @given(st.integers())
        def draw(number: int) -> None:
            runs[-1].append(number)

        for _ in range(2):
            runs.append([])
            draw()
        assert runs[0] == runs[1] and len(set(runs[0])) > 5


def test_what_is_begun_first_is_there() -> None:
    assert [start for start in DEAREST if not (TESTS / start).exists()] == []


def test_stores_share_what_was_compiled_and_nothing_else(tmp_path) -> None:
    first, second = new_store(tmp_path / "first"), new_store(tmp_path / "second")
    try:
        assert _dialect(first.database) is _dialect(second.database)
        first.membership.save_identity("jinan", "quality.example", created_ms=1)
        second.membership.save_identity("qingdao", "quality.example", created_ms=1)
        assert first.membership.load_identity().member == "jinan"
        assert second.membership.load_identity().member == "qingdao"
        assert (tmp_path / "second" / DATABASE_NAME).is_file()
    finally:
        first.close()
        second.close()


def _dialect(database: Database) -> object:
    with database.read() as connection:
        return connection.dialect
