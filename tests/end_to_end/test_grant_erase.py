"""Real nodes: a restricted record is granted to a third member, then erased everywhere, also at one that was away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from labmesh.v1 import node_pb2, peer_pb2
from node.core.names import log_origin
from tests.end_to_end.disk import read_log_file
from tests.end_to_end.harness import (
    ALLIANCE,
    Mesh,
    Node,
    code_of,
    eventually,
    open_mesh,
    result_record,
    result_records,
)  # fmt: skip
from tests.end_to_end.nursery import run_labmesh

SECRET = "jinan/result/SECRET"
WORD = "zqxvmarker8842"
REASON = "客户要求"


def labmesh(node: Node, *words: str) -> tuple[int, Any]:
    """Run the command line on a node's home; returns its exit code and document."""
    done = run_labmesh("--home", node.home.path, "--json", *words)
    return done.returncode, json.loads(done.stdout)


def shown(node: Node) -> dict[str, Any]:
    """What `labmesh show` says of the record."""
    code, content = labmesh(node, "show", SECRET)
    assert code == 0 or content["error"]["reason"] == "NOT_FOUND"
    return dict(content)


def traces(node: Node, *texts: bytes) -> list[str]:
    """Names of the files of a home in which one of these occurs."""
    files = [path for path in Path(node.home.path).rglob("*") if path.is_file()]
    return sorted(path.name for path in files if any(text in path.read_bytes() for text in texts))


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with open_mesh("jinan", "qingdao", "weifang") as mesh:
        mesh.start()
        jinan = mesh["jinan"]
        jinan.push(result_records("OPEN", 200))
        jinan.push([result_record("SECRET", WORD, audience=["qingdao"])])
        for member in ("qingdao", "weifang"):
            mesh[member].await_log("jinan", 201)
        yield mesh


def test_a_record_is_granted_and_then_erased_at_every_member(mesh: Mesh) -> None:
    jinan, qingdao, weifang = (mesh[member] for member in ("jinan", "qingdao", "weifang"))
    salt = read_log_file(jinan, "jinan").records[200][0]
    require_grant(jinan, weifang, mesh)

    # Weifang is away when the record is erased.
    for node in mesh.nodes.values():
        node.await_index()
    assert weifang.stop() == 0
    code, content = labmesh(jinan, "erase", SECRET, "--reason", REASON)
    assert (code, content["erased"], content["readers"]) == (0, [f"{SECRET}@1"], ["qingdao", "weifang"])
    eventually(lambda: shown(jinan)["erased"]["acknowledged"] == ["qingdao"], "qingdao has deleted it")
    assert shown(jinan)["erased"] | {"at": ""} == {
        "at": "", "reason": REASON, "index": 202, "acknowledged": ["qingdao"], "missing": ["weifang"]
    }  # fmt: skip
    for node in (jinan, qingdao):
        assert shown(node)["status"] == "erased"
        assert (node.hits(WORD), "SECRET" in node.listed("jinan")) == ([], False)
        eventually(lambda node=node: traces(node, WORD.encode(), salt) == [], f"nothing is left at {node.member}")  # type: ignore[misc]
    assert "labmesh.sqlite" in "".join(traces(weifang, WORD.encode()))

    weifang.start()
    eventually(lambda: shown(jinan)["erased"]["missing"] == [], "weifang has deleted it, too")
    assert shown(weifang)["erased"] | {"at": ""} == {
        "at": "", "reason": REASON, "index": 202, "acknowledged": [], "missing": []
    }  # fmt: skip
    assert traces(weifang, WORD.encode(), salt) == []

    # The log is what it was, and other records are proved by it.
    for node in mesh.nodes.values():
        log = read_log_file(node, "jinan")
        log.require_sound()
        assert (log.head_size, 200 in log.records) == (203, False)
        assert mesh.verify(node.bundle("jinan/result/OPEN-000199")).verified
    with pytest.raises(grpc.RpcError) as refused:
        jinan.bundle(SECRET)
    assert code_of(refused.value) is grpc.StatusCode.NOT_FOUND
    assert f"erased by its author at {shown(jinan)['erased']['at']}: {REASON}" in str(refused.value)


def require_grant(jinan: Node, weifang: Node, mesh: Mesh) -> None:
    """Weifang can neither show nor prove the record before the grant, and both after it."""
    assert not weifang.sees(SECRET)
    code, content = labmesh(jinan, "grant", SECRET, "--to", "weifang")
    assert (code, content) == (
        0, {"id": f"{SECRET}@1", "index": 200, "granted": ["weifang"], "readers": ["qingdao", "weifang"]}
    )  # fmt: skip
    weifang.await_record(SECRET)
    assert shown(weifang)["granted"] == shown(jinan)["granted"] == ["weifang"]
    eventually(lambda: weifang.hits(WORD) == [SECRET], "what came late is found, too")
    verdict = mesh.verify(weifang.bundle(SECRET))
    assert verdict.verified
    assert labmesh(jinan, "grant", SECRET, "--to", "weifang,qingdao")[1]["granted"] == []


def test_only_the_author_is_told_and_only_of_its_own_log(mesh: Mesh) -> None:
    origin = log_origin(ALLIANCE, "jinan")
    with mesh.call_as("weifang", "qingdao") as stub, pytest.raises(grpc.RpcError) as refused:
        stub.AcknowledgeErasure(peer_pb2.AcknowledgeErasureRequest(origin=origin, indexes=[0]), timeout=30)
    assert code_of(refused.value) is grpc.StatusCode.NOT_FOUND
    with mesh.call_as("weifang", "jinan") as stub:
        answer = stub.AcknowledgeErasure(
            peer_pb2.AcknowledgeErasureRequest(origin=origin, indexes=[0, 199, 5_000]), timeout=30
        )
        assert list(answer.indexes) == []
        for indexes in ([2**40], [2**64 - 1], list(range(1001))):
            with pytest.raises(grpc.RpcError) as limited:
                stub.AcknowledgeErasure(peer_pb2.AcknowledgeErasureRequest(origin=origin, indexes=indexes), timeout=30)
            assert code_of(limited.value) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_daemon_killed_before_it_had_swept_goes_on_at_its_start(mesh: Mesh) -> None:
    jinan = mesh["jinan"]
    word = b"killed7731qz"
    jinan.push([result_record("KILLED", word.decode(), audience=[])])
    jinan.await_index()
    request = node_pb2.EraseRecordRequest(id="jinan/result/KILLED", reason="test")
    assert list(jinan.stub.EraseRecord(request, timeout=30).erased) == ["jinan/result/KILLED@1"]
    jinan.kill()
    jinan.start()
    eventually(lambda: traces(jinan, word) == [], "nothing is left")
    assert jinan.show("jinan/result/KILLED").status == node_pb2.RECORD_STATUS_ERASED
