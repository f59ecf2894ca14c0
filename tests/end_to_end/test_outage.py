"""A node that was away catches up; one that lost contact says so."""

from __future__ import annotations

from tests.end_to_end.disk import read_log_file
from tests.end_to_end.harness import result_records


def test_a_node_that_was_down_catches_up(make_mesh):
    mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan, qingdao, weifang = (mesh[member] for member in ("jinan", "qingdao", "weifang"))
    mesh.start()
    jinan.push(result_records("EARLY", 10))
    weifang.await_log("jinan", 10)
    jinan.await_peer("weifang", "connected")
    contact = jinan.peer("weifang").last_contact
    assert weifang.stop() == 0

    jinan.push(result_records("J", 700))
    qingdao.push(result_records("Q", 300))
    qingdao.await_log("jinan", 710)
    jinan.await_log("qingdao", 300)
    for node in (jinan, qingdao):
        lost = node.await_peer("weifang", "retrying", "PEER_UNREACHABLE")
        assert "weifang cannot be reached" in lost.error
        assert lost.last_contact
        assert node.status().state == "ready"
    assert jinan.peer("weifang").last_contact >= contact

    weifang.start()
    weifang.await_log("jinan", 710)
    weifang.await_log("qingdao", 300)
    assert len(weifang.listed()) == 1010
    assert len(set(weifang.listed("jinan"))) == 710
    for author, size in (("jinan", 710), ("qingdao", 300)):
        log = read_log_file(weifang, author)
        log.require_sound()
        assert (log.head_size, log.root(size)) == (size, mesh[author].status().root)
    for node in (jinan, qingdao):
        node.await_peer("weifang", "connected")
    weifang.await_index()
    assert len(weifang.hits("地下水")) == 1000
