"""One prepared alliance for all attacks; the victim is put back before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.scene import Scene


@pytest.fixture(scope="package")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The alliance, made once."""
    made = Scene(tmp_path_factory.mktemp("attacks"))
    yield made
    made.close()


@pytest.fixture
def scene(prepared: Scene) -> Scene:
    """The alliance as it was prepared."""
    prepared.reset()
    return prepared
