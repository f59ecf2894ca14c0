"""Alliances for a test, ended after it; a failed test shows what the daemons wrote."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack

import pytest

from tests.end_to_end import harness
from tests.end_to_end.harness import Mesh, open_mesh

SHOWN_MAX = 6000


@pytest.fixture
def make_mesh() -> Iterator[Callable[..., Mesh]]:
    """Make alliances of named members; they are ended after the test."""
    with ExitStack() as stack:
        yield lambda *members: stack.enter_context(open_mesh(*members))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for mesh in harness.running:
            for node in mesh.nodes.values():
                written = node.stderr_path.read_text(errors="replace") if node.stderr_path.exists() else ""
                report.sections.append((f"stderr of {node.member}", written[-SHOWN_MAX:]))
    return report
