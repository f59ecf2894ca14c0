"""Standard error holds sentences for people, and no log lines of libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])}
ENVIRONMENT.pop("GRPC_VERBOSITY", None)


def _run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**ENVIRONMENT, **environment}, timeout=60
    )


@pytest.mark.parametrize("module", ["node.rpc.node_client", "node.rpc.server"])
def test_grpc_is_silent_before_it_is_imported(module: str) -> None:
    code = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'grpc': print(os.environ.get('GRPC_VERBOSITY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"import {module}\n"
    )
    assert _run(code).stdout == "NONE\n"
    assert _run(code, GRPC_VERBOSITY="DEBUG").stdout == "DEBUG\n", "who wants to see them has them"


def test_a_warning_in_the_log_is_not_printed_by_a_command(tmp_path: Path) -> None:
    code = (
        "import logging\n"
        "import cli.commands.card\n"
        "def read(home):\n"
        "    logging.getLogger('node.store.glance').warning('event=card_left_out')\n"
        "    raise SystemExit(7)\n"
        "cli.commands.card.read_held_alliance = read\n"
        "from cli.main import labmesh\n"
        f"labmesh.main(['--home', {str(tmp_path)!r}, 'card'])\n"
    )
    done = _run(code)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
