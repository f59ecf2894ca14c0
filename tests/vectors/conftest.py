"""Where the public vectors lie, and the reason when they do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE_THE_PROJECT = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"


def find_vectors() -> Path:
    """The folder that LABMESH_VECTORS names, or the one beside the project."""
    named = os.environ.get("LABMESH_VECTORS")
    return Path(named) if named else BESIDE_THE_PROJECT


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of vectors; without it the test is skipped."""
    folder = find_vectors()
    if not folder.is_dir():
        pytest.skip(f"the public vectors are not in {folder}; LABMESH_VECTORS names another folder")
    return folder
