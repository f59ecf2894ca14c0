"""What holds for all tests: hypothesis profiles, shared compiled statements, the dearest modules first.

And three members, and three that can change their keys. A module that needs others of these names has its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.alliance import SimulatedAlliance
from tests.compiled_statements import share_compiled_statements
from tests.rotating import Rotating, RotatingAlliance

TESTS = Path(__file__).parent
DEAREST = (
    "sync/test_rollback_machine.py",
    "attacks/test_table.py",
    "end_to_end/",
    "fuzz/",
    "test_council_machine.py",
    "sync/",
    "cli/test_roster_join.py",
    "cli/test_main.py",
    "store/",
)
"""Modules and folders that take long: begun last, one of them would keep a single process busy when the others are done."""

EXAMPLES = 100

# A slow machine must not fail a test, nothing is written into the working tree, and what a random example would find must
# not fail a change that has nothing to do with it: every run takes the same examples, and `explore` others each time.
settings.register_profile(
    "labmesh",
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("explore", settings.get_profile("labmesh"), derandomize=False, max_examples=10 * EXAMPLES)
# Before any test module is imported: settings that fix their own number of examples take the rest from here.
settings.load_profile("labmesh")
share_compiled_statements()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The dearest modules first; otherwise the order stays."""

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(TESTS).as_posix()
        return next((rank for rank, start in enumerate(DEAREST) if path.startswith(start)), len(DEAREST))

    items.sort(key=rank)


@pytest.fixture
def alliance(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SimulatedAlliance]:
    """Three members, or as many as the test names, with empty logs, all free to publish."""
    with closing(SimulatedAlliance(tmp_path / "alliance", getattr(request, "param", 3))) as made:
        yield made


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[RotatingAlliance]:
    """Three members that can change their keys."""
    with closing(RotatingAlliance(tmp_path)) as made:
        yield made


@pytest.fixture
def jinan(trio: RotatingAlliance) -> Rotating:
    return trio["jinan"]
