"""A daemon whose disk takes no more: a push is refused in words, the alarm comes and goes, nothing acknowledged is lost."""

from __future__ import annotations

import resource

import orjson

from tests.end_to_end.harness import Node, result_record, result_records
from tests.end_to_end.nursery import run_labmesh

LIMIT_BYTES = 1200 * 1024


def limit_files(node: Node, size: int) -> None:
    """What `ulimit -f` does, for a process that runs already."""
    hard = resource.prlimit(node.running.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(node.running.pid, resource.RLIMIT_FSIZE, (size, hard))


def doctor(node: Node) -> tuple[int, list[str]]:
    """Exit code, and what it says of alarms."""
    done = run_labmesh("--home", node.home.path, "--json", "doctor")
    findings = orjson.loads(done.stdout)["findings"]
    return done.returncode, [finding["message"] for finding in findings if finding["check"] == "alarm"]


def test_a_push_that_finds_no_room(make_mesh, tmp_path):
    jinan = make_mesh("jinan")["jinan"].start()
    jinan.push([result_record("BEFORE")])
    batch = tmp_path / "batch.jsonl"
    batch.write_bytes(b"\n".join(result_records("R", 6000)))
    limit_files(jinan, LIMIT_BYTES)
    push = ("--home", jinan.home.path, "--json", "push", "--kind", "result", batch)
    refused = run_labmesh(*push)
    error = orjson.loads(refused.stdout)["error"]
    assert refused.returncode == 1 and error["reason"] == "STORE"
    assert "ulimit -f" in error["hint"] and "labmesh doctor" in error["hint"]
    assert "event=write_failed" in jinan.stderr_path.read_text()
    status = jinan.status()
    assert status.state == "degraded" and status.size == 1
    assert any("could not be written" in alarm for alarm in status.alarms)
    code, alarms = doctor(jinan)
    assert code == 1 and "could not be written" in alarms[0]

    limit_files(jinan, resource.RLIM_INFINITY)
    assert run_labmesh(*push).returncode == 0
    status = jinan.status()
    assert (status.size, status.state, list(status.alarms)) == (6001, "ready", [])
    assert jinan.sees("jinan/result/BEFORE")
