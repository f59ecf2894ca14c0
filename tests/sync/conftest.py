"""An alliance of three for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alliance import SimulatedAlliance


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Three members with empty logs, all free to publish."""
    made = SimulatedAlliance(tmp_path)
    yield made
    made.close()
