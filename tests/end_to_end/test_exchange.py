"""Records pushed at one node are listed, found, shown and proven at every other."""

from __future__ import annotations

import grpc
import pytest

from labmesh.v1 import node_pb2
from tests.end_to_end.disk import merkle_root, read_log_file
from tests.end_to_end.harness import Mesh, Node, eventually, open_mesh, result_record, result_records

MEMBERS = ("jinan", "qingdao", "weifang")


@pytest.fixture(scope="module")
def mesh():
    with open_mesh(*MEMBERS) as mesh:
        mesh.start()
        yield mesh


def test_a_batch_is_listed_and_shown_everywhere(mesh: Mesh):
    answer = mesh["jinan"].push(result_records("BATCH", 1200))
    assert (answer.accepted, answer.rejected) == (1200, 0)
    assert answer.checkpoint.size == 1200
    wanted = [f"BATCH-{i:06d}" for i in range(1200)]
    for member in MEMBERS:
        if member != "jinan":
            mesh[member].await_log("jinan", answer.checkpoint.size)
        assert mesh[member].listed("jinan")[-1200:] == wanted
    for member in MEMBERS[1:]:
        view = mesh[member].show("jinan/result/BATCH-000777")
        assert view.record == mesh["jinan"].show("jinan/result/BATCH-000777").record
        assert (view.id, view.status) == ("jinan/result/BATCH-000777", node_pb2.RECORD_STATUS_VISIBLE)
        log = read_log_file(mesh[member], "jinan")
        log.require_sound()
        assert (
            log.root(answer.checkpoint.size)
            == answer.checkpoint.root
            == merkle_root(log.commitments[i] for i in range(1200))
        )


def test_chinese_and_english_words_are_found_everywhere(mesh: Mesh):
    mesh["qingdao"].push([result_record("WJ-海水-1", "近岸海水 nearshore seawater")])
    wanted = ["qingdao/result/WJ-海水-1"]
    for member in MEMBERS:
        mesh[member].await_record(wanted[0])
        mesh[member].await_index()
        for text in ("海水", "Seawater", "近岸 铅 nearshore"):
            assert mesh[member].hits(text) == wanted
        assert mesh[member].hits("淡水") == []


def test_single_pushes_follow_live(mesh: Mesh):
    for i in range(20):
        mesh["weifang"].push([result_record(f"LIVE-{i}")])
        for member in ("jinan", "qingdao"):
            content = mesh[member].await_record(f"weifang/result/LIVE-{i}")
            assert (content["author"], content["revision"]) == ("weifang", 1)


def test_the_newest_revision_is_shown_and_older_ones_stay(mesh: Mesh):
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    assert jinan.push([result_record("REV", "first")]).accepted == 1
    assert jinan.push([result_record("REV", "first")]).unchanged == 1
    assert jinan.push([result_record("REV", "second")]).rejected == 1
    assert jinan.push([result_record("REV", "second")], revise=True).accepted == 1
    for record_id, revision, text in (("REV@2", 2, "second"), ("REV", 2, "second"), ("REV@1", 1, "first")):
        content = qingdao.await_record(f"jinan/result/{record_id}")
        assert (content["revision"], content["body"]["sample"]["matrix"]) == (revision, text)
    assert qingdao.listed("jinan").count("REV") == 1
    qingdao.await_index()
    assert qingdao.hits("second") == ["jinan/result/REV"]
    assert "jinan/result/REV" not in qingdao.hits("first")


@pytest.mark.parametrize("holder", MEMBERS)
def test_a_bundle_from_the_author_or_a_peer_verifies_with_the_fingerprint(mesh: Mesh, holder: str):
    record_id = f"jinan/result/PROOF-{holder}"
    mesh["jinan"].push([result_record(f"PROOF-{holder}")])
    mesh[holder].await_record(record_id)

    def verdict_with_quorum():
        verdict = mesh.verify(mesh[holder].bundle(record_id))
        assert verdict.verified
        return verdict if verdict.quorum_met else None

    verdict = eventually(verdict_with_quorum, f"a quorum has cosigned {record_id} at {holder}")
    assert verdict.signer == "jinan"
    assert verdict.seen_by is not None
    assert set(verdict.cosigners) <= {"qingdao", "weifang"}


def test_every_node_is_ready_and_knows_the_sizes_of_the_others(mesh: Mesh):
    for member in MEMBERS:
        node = mesh[member]
        sizes = {other: mesh[other].status().size for other in MEMBERS if other != member}

        def is_level(node: Node = node, sizes: dict[str, int] = sizes) -> bool:
            peers = node.status().peers
            return {peer.member: peer.verified for peer in peers} == sizes and all(
                (peer.state, peer.behind, peer.error) == ("connected", 0, "") for peer in peers
            )

        eventually(is_level, f"{member} has every log")
        status = node.status()
        assert (status.state, status.fingerprint, status.roster_version, list(status.alarms)) == (
            "ready",
            mesh.fingerprint,
            2,
            [],
        )


def test_what_is_not_there_is_not_found(mesh: Mesh):
    with pytest.raises(grpc.RpcError) as refusal:
        mesh["jinan"].show("qingdao/result/NOTHING")
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
