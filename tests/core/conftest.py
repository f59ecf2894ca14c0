"""One hypothesis profile: a slow machine must not fail a test, and nothing is written into the working tree."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "labmesh",
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("labmesh")
