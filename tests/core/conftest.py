"""One hypothesis profile: a slow machine must not fail a test, and nothing is written into the working tree."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# What these assert says as much as it would in a test module.
pytest.register_assert_rewrite("tests.core.sessions", "tests.core.verdicts")

settings.register_profile(
    "labmesh",
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("labmesh")
