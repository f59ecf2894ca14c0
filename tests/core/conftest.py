"""What the assertions of shared modules say when they fail."""

from __future__ import annotations

import pytest

# What these assert says as much as it would in a test module.
pytest.register_assert_rewrite("tests.core.sessions", "tests.core.verdicts")
