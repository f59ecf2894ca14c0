"""The stores that the contract is tested on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.store import Store, open_store
from tests.new_stores import new_store

# Asserts in the parts of the contract say as much as those in test modules.
pytest.register_assert_rewrite("tests.store.contract")


@dataclass(slots=True)
class OpenStore:
    """One implementation at work, and how it is opened again."""

    path: Path
    store: Store

    def reopen(self) -> Store:
        """Close the store and open what it left."""
        self.store.close()
        self.store = open_store(self.path)
        return self.store


@pytest.fixture(params=["sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """An empty store of each implementation; a new one is a new parameter here and a branch below."""
    assert request.param == "sqlite"
    held = OpenStore(tmp_path / "home", new_store(tmp_path / "home"))
    yield held
    held.store.close()


@pytest.fixture
def store(opened: OpenStore) -> Store:
    """An empty store."""
    return opened.store
