"""After a start a node publishes nothing new until peers have told what they hold of its log."""

from __future__ import annotations

import grpc
import pytest

from labmesh.v1 import node_pb2, peer_pb2
from node.core.names import log_origin
from tests.end_to_end.disk import read_log_file
from tests.end_to_end.harness import ALLIANCE, Mesh, Node, code_of, eventually, reason_of, result_record

REQUEST = peer_pb2.ReadLogRequest(origin=log_origin(ALLIANCE, "jinan"), entries_max=1000)


def require_unconfirmed(mesh: Mesh, record_id: str) -> None:
    """Jinan gives no proof of this record, and serves its log to nobody."""
    jinan = mesh["jinan"]
    assert jinan.status().state == "unconfirmed"
    assert jinan.sees(record_id)
    with pytest.raises(grpc.RpcError) as refusal:
        jinan.bundle(record_id)
    assert code_of(refusal.value) is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(refusal.value) == "UNCONFIRMED"
    with mesh.call_as("weifang", "jinan") as stub:
        assert list(stub.ReadLog(REQUEST, timeout=30)) == []
        told = stub.ExchangeCheckpoints(peer_pb2.ExchangeCheckpointsRequest(), timeout=30)
        assert [note for note in told.notes if note.startswith(REQUEST.origin.encode())] == []


def test_an_author_waits_for_its_peers_after_a_restart(make_mesh):
    mesh: Mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    mesh.start("jinan", "qingdao")
    jinan.push([result_record("OLD")])
    eventually(lambda: qingdao.sees("jinan/result/OLD"), "qingdao has the first record")
    assert jinan.status().state == "ready"
    assert qingdao.stop() == 0
    assert jinan.stop() == 0

    jinan.start()
    assert jinan.push([result_record("NEW")]).accepted == 1
    require_unconfirmed(mesh, "jinan/result/NEW")
    require_unconfirmed(mesh, "jinan/result/OLD")

    qingdao.start()
    eventually(lambda: jinan.status().state == "ready", "a peer has told what it holds")
    eventually(lambda: qingdao.sees("jinan/result/NEW"), "the new record arrives")
    assert mesh.verify(jinan.bundle("jinan/result/NEW")).verified
    read_log_file(qingdao, "jinan").require_sound()


def test_a_person_may_confirm_without_peers(make_mesh):
    mesh: Mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan: Node = mesh["jinan"]
    mesh.start("jinan")
    assert jinan.push([result_record("A"), result_record("B")]).accepted == 2
    require_unconfirmed(mesh, "jinan/result/B")
    assert jinan.stub.ConfirmLog(node_pb2.ConfirmLogRequest(), timeout=30).size == 2
    assert jinan.status().state == "ready"
    verdict = mesh.verify(jinan.bundle("jinan/result/B"))
    assert (verdict.verified, verdict.quorum_met) == (True, False)
    with mesh.call_as("weifang", "jinan") as stub:
        openings = [opening for message in stub.ReadLog(REQUEST, timeout=30) for opening in message.page.openings]
    assert [opening.index for opening in openings] == [0, 1]
    # The next start asks again.
    assert jinan.stop() == 0
    jinan.start()
    require_unconfirmed(mesh, "jinan/result/B")
