"""An alliance of three for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alliance import SimulatedAlliance, SimulatedMember, drafts
from tests.rotating import RotatingAlliance


@pytest.fixture
def jinan(alliance: SimulatedAlliance) -> SimulatedMember:
    return alliance["jinan"]


@pytest.fixture
def snapshot(alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path) -> Path:
    """Three entries of jinan are published, and its database is copied."""
    jinan.push(*drafts(3, "OLD"))
    alliance.catch_up("qingdao", "jinan")
    return jinan.snapshot(tmp_path / "snapshot")


@pytest.fixture
def four(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Jinan, who lies, and three others."""
    made = SimulatedAlliance(tmp_path, 4)
    yield made
    made.close()


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[RotatingAlliance]:
    """Four members that can change their keys."""
    made = RotatingAlliance(tmp_path, 4)
    yield made
    made.close()
