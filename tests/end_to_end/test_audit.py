"""An auditor's two tools on real nodes: the audit of a whole log, and the second verifier as a process."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.harness import Mesh, Node, open_mesh, result_records
from tests.end_to_end.nursery import run_labmesh
from tests.verifiers import SCRIPT


@pytest.fixture(scope="module")
def mesh():
    with open_mesh("jinan", "qingdao") as mesh:
        mesh.start()
        yield mesh


def audit(node: Node, member: str) -> tuple[int, dict[str, Any]]:
    """`labmesh audit` as a process."""
    done = run_labmesh("--home", node.home.path, "--json", "audit", member)
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_an_audit_while_the_node_works_and_after_damage(mesh: Mesh):
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    jinan.push(result_records("AUDITED", 700))
    qingdao.await_log("jinan", 700)
    with ThreadPoolExecutor(1) as pool:
        more = pool.submit(lambda: [jinan.push(result_records(f"MORE{i}", 20)) for i in range(10)])
        for node in (jinan, qingdao):
            code, content = audit(node, "jinan")
            assert (code, content["verified"]) == (0, True), content
            assert content["size"] >= 700
        assert len(more.result()) == 10
    qingdao.await_log("jinan", 900)
    qingdao.stop()
    code, content = audit(qingdao, "jinan")
    assert (code, content["size"]) == (0, 900)
    with closing(sqlite3.connect(qingdao.home.path / "labmesh.sqlite")) as connection:
        connection.execute("UPDATE entry SET commitment = zeroblob(32) WHERE position & 1023 = 5")
        connection.commit()
    code, content = audit(qingdao, "jinan")
    wrong = {check["check"] for check in content["checks"] if not check["ok"]}
    assert code == 1 and wrong >= {"openings", "tiles", "head"}, content


def test_the_second_verifier_checks_a_node_s_bundle(mesh: Mesh, tmp_path: Path):
    mesh["jinan"].push(result_records("PROVEN", 1))
    raw = mesh["jinan"].bundle("jinan/result/PROVEN-000000")
    assert mesh.verify(raw).verified
    file = tmp_path / "one.labmesh"
    file.write_bytes(raw)
    command = [sys.executable, "-I", str(SCRIPT), str(file), "--fingerprint"]
    good = subprocess.run([*command, mesh.fingerprint], capture_output=True, text=True, timeout=60, cwd="/")
    assert good.returncode == 0 and good.stdout.endswith("VERIFIED\n"), good.stdout
    assert subprocess.run([*command, "0" * 64], capture_output=True, timeout=60, cwd="/").returncode == 1
