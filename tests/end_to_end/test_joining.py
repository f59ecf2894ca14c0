"""A fourth member joins while the others run: nobody restarts, everybody takes its records."""

from __future__ import annotations

from functools import partial

from labmesh.v1 import node_pb2
from tests.end_to_end.disk import read_log_file
from tests.end_to_end.harness import Node, eventually, result_records


def knows(node: Node, member: str) -> bool:
    return member in [peer.member for peer in node.status().peers]


def test_a_newcomer_joins_a_running_alliance(make_mesh):
    mesh = make_mesh("jinan", "qingdao", "weifang")
    mesh.start()
    jinan = mesh["jinan"]
    jinan.push(result_records("J", 50))
    mesh["qingdao"].push(result_records("Q", 5))
    processes = {member: mesh[member].running.pid for member in ("jinan", "qingdao", "weifang")}

    yantai = mesh.add_home("yantai")
    card = yantai.card_bytes()
    yantai.start()
    assert (yantai.status().roster_version, list(yantai.status().peers)) == (0, [])
    yantai.push(result_records("BEFORE", 3))

    added = jinan.stub.AddMembers(node_pb2.AddMembersRequest(cards=[card]), timeout=30)
    assert added.version == 3
    exported = jinan.stub.ExportAlliance(node_pb2.ExportAllianceRequest(), timeout=30)
    request = node_pb2.ImportAllianceRequest(rosters=exported.rosters, cards=exported.cards, fingerprint=added.fingerprint)
    assert yantai.stub.ImportAlliance(request, timeout=30).fingerprint == added.fingerprint

    for author, size in (("jinan", 50), ("qingdao", 5)):
        yantai.await_log(author, size)
        read_log_file(yantai, author).require_sound()
    eventually(lambda: yantai.status().state == "ready", "yantai may publish")
    yantai.push(result_records("AFTER", 7))
    for member in processes:
        node = mesh[member]
        eventually(partial(knows, node, "yantai"), f"{member} has the new card")
        node.await_log("yantai", 10)
        assert node.status().roster_version == 3
        assert len(node.listed("yantai")) == 10
        read_log_file(node, "yantai").require_sound()
        assert node.running.pid == processes[member]
    assert {mesh[member].status().fingerprint for member in mesh.nodes} == {added.fingerprint}

    eventually(
        lambda: mesh.verify(mesh["weifang"].bundle("yantai/result/AFTER-000000")).quorum_met, "the others cosign yantai"
    )
    # The fingerprint that the founders pinned leads to the newcomer, too.
    assert mesh.verify(mesh["weifang"].bundle("yantai/result/AFTER-000000")).verified
    jinan.push(result_records("LIVE", 1))
    yantai.await_record("jinan/result/LIVE-000000")
