"""A failed test shows what the daemons wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end import harness

SHOWN_MAX = 4000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        for mesh in harness.running:
            for node in mesh.nodes.values():
                written = node.stderr_path.read_text(errors="replace") if node.stderr_path.exists() else ""
                report.sections.append((f"stderr of {node.member}", written[-SHOWN_MAX:]))
    return report
