"""A council of three with a threshold of two, as real processes: propose, sign, publish, remove, and say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from labmesh.v1 import peer_pb2, peer_pb2_grpc
from tests.end_to_end.harness import ALLIANCE, Mesh, Node, code_of, eventually, open_mesh, reason_of, result_records
from tests.end_to_end.nursery import run_labmesh

MEMBERS = ("jinan", "qingdao", "yantai", "weifang")
ORIGIN = f"{ALLIANCE}/log/jinan"


@pytest.fixture(scope="module")
def mesh():
    with open_mesh(*MEMBERS) as mesh:
        mesh.start()
        yield mesh


def labmesh(node: Node, *args: object, exit_code: int = 0) -> Any:
    """Run the command line as an admin does, beside the running daemon; returns the JSON document."""
    done = run_labmesh("--home", node.home.path, "--json", *args)
    assert done.returncode == exit_code, done
    return json.loads(done.stdout)


def await_version(mesh: Mesh, version: int, *members: str) -> None:
    def is_there() -> bool:
        return {mesh[member].status().roster_version for member in members} == {version}

    eventually(is_there, f"{', '.join(members)} have version {version}")


def test_a_council_of_three_governs(mesh: Mesh, tmp_path):
    seat_council(mesh, tmp_path / "council.json")
    remove_weifang_while_it_reads(mesh, tmp_path / "removal.json")
    for member in ("jinan", "qingdao"):
        require_cut(mesh, mesh[member])
    mesh.verify_changes(mesh["jinan"].bundle("weifang/result/GONE-000001"), count=500)
    require_refused_in_words(mesh)
    require_removed_node_knows(mesh["weifang"])
    require_removed_node_still_takes_pushes(mesh["weifang"])
    require_doctor_tells_once(mesh["weifang"])
    assert {mesh[member].status().state for member in MEMBERS[:3]} == {"ready"}


def seat_council(mesh: Mesh, file: Path) -> None:
    """One proposes and signs, and nothing changes; the second signature publishes."""
    proposed = labmesh(mesh["jinan"], "roster", "council", "jinan", "qingdao", "yantai", "--threshold", 2, "-o", file)
    assert (proposed["version"], proposed["signatures"]) == (2, {"have": 1, "needed": 2})
    assert {mesh[member].status().roster_version for member in MEMBERS} == {2}
    signed = labmesh(mesh["qingdao"], "roster", "sign", file)
    assert (signed["version"], signed["signatures"]) == (3, {"have": 2, "needed": 2})
    await_version(mesh, 3, *MEMBERS)


def remove_weifang_while_it_reads(mesh: Mesh, removal: Path) -> None:
    """Two signatures end its membership, its log at the second of three entries, and a stream that it has open."""
    jinan, yantai = mesh["jinan"], mesh["yantai"]
    mesh["weifang"].push(result_records("GONE", 3))
    for member in ("jinan", "qingdao"):
        mesh[member].await_log("weifang", 3)
    with mesh.channel_as("weifang", "yantai") as channel:
        stub = peer_pb2_grpc.PeerServiceStub(channel)
        stream = stub.ReadLog(peer_pb2.ReadLogRequest(origin=ORIGIN, follow=True, entries_max=1000), timeout=60)
        jinan.push(result_records("BEFORE", 1))
        assert next(stream).HasField("checkpoint")
        labmesh(jinan, "roster", "remove", "weifang", "--head-size", 2, "-o", removal)
        assert {mesh[member].status().roster_version for member in MEMBERS} == {3}, "one signature removes nobody"
        # By now a quorum may have seen all three entries: then each signer says that two are meant.
        assert labmesh(yantai, "roster", "sign", removal, "--head-size", 2)["version"] == 4
        with pytest.raises(grpc.RpcError) as refusal:
            list(stream)
        assert reason_of(refusal.value) == "ACCESS_REFUSED"
        assert "weifang was removed from quality.jinan.example on" in str(refusal.value.details())
    await_version(mesh, 4, "jinan", "qingdao", "yantai")


def require_cut(mesh: Mesh, node: Node) -> None:
    """Beyond the head nothing counts, on whatever node, and what is below stays provable."""
    assert node.listed("weifang") == ["GONE-000000", "GONE-000001"]
    assert not node.sees("weifang/result/GONE-000002") and "weifang/result/GONE-000002" not in node.hits("地下水")
    with pytest.raises(grpc.RpcError) as unknown:
        node.bundle("weifang/result/GONE-000002")
    assert code_of(unknown.value) is grpc.StatusCode.NOT_FOUND
    assert mesh.verify(node.bundle("weifang/result/GONE-000001")).verified


def require_refused_in_words(mesh: Mesh) -> None:
    """A new connection of the removed member is told why."""
    with mesh.call_as("weifang", "qingdao") as stub, pytest.raises(grpc.RpcError) as refusal:
        stub.GetRoster(peer_pb2.GetRosterRequest(), timeout=20)
    assert (reason_of(refusal.value), "was removed" in str(refusal.value.details())) == ("ACCESS_REFUSED", True)


def require_removed_node_knows(weifang: Node) -> None:
    """The removed node itself is degraded and says by which roster."""
    status = eventually(lambda: weifang.status() if weifang.status().state == "degraded" else None, "weifang knows")
    assert status is not None
    assert any("weifang was removed from quality.jinan.example by roster version 4" in alarm for alarm in status.alarms)


def require_removed_node_still_takes_pushes(weifang: Node) -> None:
    """What its laboratories measured is kept and shown to them, every answer says how it stands, and nothing proves it."""
    answer = weifang.push(result_records("STILL", 1))
    assert (answer.accepted, len(answer.warnings)) == (1, 1) and "weifang was removed" in answer.warnings[0]
    assert weifang.listed("weifang") == ["GONE-000000", "GONE-000001", "GONE-000002", "STILL-000000"]
    with pytest.raises(grpc.RpcError) as refusal:
        weifang.bundle("weifang/result/STILL-000000")
    assert "the roster ends the log of weifang at size 2" in str(refusal.value.details())


def require_doctor_tells_once(weifang: Node) -> None:
    """The removal is one finding, with what it means for the log, and no alarm besides."""
    findings = labmesh(weifang, "doctor", exit_code=1)["findings"]
    told = [finding for finding in findings if finding["check"] == "membership"]
    assert len(told) == 1
    assert "entries of its log from 2 on count nowhere" in told[0]["message"]
    assert not [finding for finding in findings if finding["check"] == "alarm" and "was removed" in finding["message"]]


def test_a_member_that_was_away_hears_from_whoever_refuses_it(mesh: Mesh, tmp_path):
    """Nobody could tell yantai while it was away: it dials, is refused, and its status says why."""
    jinan, qingdao, yantai = (mesh[member] for member in MEMBERS[:3])
    yantai.stop()
    unseated, removal = tmp_path / "unseated.json", tmp_path / "removal.json"
    labmesh(jinan, "roster", "council", "jinan", "qingdao", "-o", unseated)
    labmesh(qingdao, "roster", "sign", unseated)
    await_version(mesh, 5, "jinan", "qingdao")
    labmesh(qingdao, "roster", "remove", "yantai", "-o", removal)
    labmesh(jinan, "roster", "sign", removal)
    await_version(mesh, 6, "jinan", "qingdao")
    yantai.start()
    peer = yantai.await_peer("jinan", "refused", "ACCESS_REFUSED")
    assert "yantai was removed from quality.jinan.example on" in peer.error


def test_two_changes_of_which_each_has_half_of_the_signatures(mesh: Mesh, tmp_path):
    """Of a council of two both must sign, and each has signed its own: one withdraws, and signs the other."""
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    mine, yours = tmp_path / "mine.json", tmp_path / "yours.json"
    labmesh(jinan, "roster", "renew", "-o", mine)
    labmesh(qingdao, "roster", "council", "jinan", "-o", yours, "--threshold", 1)
    for node, file in ((jinan, yours), (qingdao, mine)):
        stuck = labmesh(node, "roster", "sign", file, exit_code=1)["error"]
        assert "nobody signs two of one version" in stuck["message"] and "labmesh roster withdraw" in stuck["hint"]

    mine.unlink()
    assert labmesh(jinan, "roster", "withdraw")["withdrawn"]["version"] == 7
    jinan.stop()
    jinan.start()
    eventually(lambda: jinan.status().state == "ready", "jinan is confirmed")
    assert "it has withdrawn" in labmesh(jinan, "roster", "withdraw", exit_code=1)["error"]["message"]
    assert labmesh(jinan, "roster", "sign", yours)["version"] == 7
    await_version(mesh, 7, "jinan", "qingdao")
    assert not [alarm for node in (jinan, qingdao) for alarm in node.status().alarms]
