"""An alliance of three for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alliance import SimulatedAlliance


@pytest.fixture
def alliance(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SimulatedAlliance]:
    """Three members, or as many as the test names, with empty logs, all free to publish."""
    made = SimulatedAlliance(tmp_path, getattr(request, "param", 3))
    yield made
    made.close()
