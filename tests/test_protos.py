"""The wire contract keeps the rules of Buf's STANDARD and COMMENTS, as buf.yaml asks."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUF = "@bufbuild/buf@1.75.0"
FETCH_S = 120
LINT_S = 60


def run_buf(*arguments: str, deadline_s: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["npx", "--yes", BUF, *arguments],
        cwd=ROOT,
        # Without a network, npm's own retries take more than a minute to say so.
        env=os.environ | {"npm_config_fetch_retries": "1", "npm_config_fetch_retry_mintimeout": "2000"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )


@pytest.fixture(scope="module")
def buf() -> None:
    """Fetch the tool apart from using it, so that a missing network is not taken for a bad contract."""
    if shutil.which("npx") is None:
        pytest.skip("npx is not on the PATH")
    try:
        fetched = run_buf("--version", deadline_s=FETCH_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npx did not fetch {BUF} within {FETCH_S} s")
    if fetched.returncode != 0:
        said = [line for line in fetched.stderr.splitlines() if line.startswith("npm error")]
        pytest.skip(f"npx cannot fetch {BUF}: {'; '.join(said[:3]) or 'no message'}")


def test_there_is_a_contract() -> None:
    assert list((ROOT / "protos" / "labmesh" / "v1").glob("*.proto"))


@pytest.mark.usefixtures("buf")
def test_contract_keeps_the_rules() -> None:
    linted = run_buf("lint", deadline_s=LINT_S)
    assert linted.returncode == 0, linted.stdout + linted.stderr
