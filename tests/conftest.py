"""One hypothesis profile: a slow machine must not fail a test, and nothing is written into the working tree.

And three members that can change their keys. A module that needs others of these names has its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.rotating import Rotating, RotatingAlliance

settings.register_profile(
    "labmesh",
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("labmesh")


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[RotatingAlliance]:
    alliance = RotatingAlliance(tmp_path)
    yield alliance
    alliance.close()


@pytest.fixture
def jinan(trio: RotatingAlliance) -> Rotating:
    return trio["jinan"]
