"""Three members that can change their keys. A module that needs others of these names has its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rotating import Rotating, RotatingAlliance


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[RotatingAlliance]:
    alliance = RotatingAlliance(tmp_path)
    yield alliance
    alliance.close()


@pytest.fixture
def jinan(trio: RotatingAlliance) -> Rotating:
    return trio["jinan"]
