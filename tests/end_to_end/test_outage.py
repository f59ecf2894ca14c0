"""A node that was away catches up; one that lost contact says so."""

from __future__ import annotations

from tests.end_to_end.harness import eventually, read_log_file, result_records


def test_a_node_that_was_down_catches_up(make_mesh):
    mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan, qingdao, weifang = (mesh[member] for member in ("jinan", "qingdao", "weifang"))
    mesh.start()
    jinan.push(result_records("EARLY", 10))
    eventually(lambda: weifang.peer("jinan").verified == 10, "weifang has the first records")
    eventually(lambda: jinan.peer("weifang").state == "connected", "jinan is connected to weifang")
    contact = jinan.peer("weifang").last_contact
    assert weifang.stop() == 0

    jinan.push(result_records("J", 700))
    qingdao.push(result_records("Q", 300))
    eventually(lambda: qingdao.peer("jinan").verified == 710, "qingdao goes on without weifang")
    eventually(lambda: jinan.peer("qingdao").verified == 300, "jinan goes on without weifang")
    for node in (jinan, qingdao):
        lost = eventually(lambda node=node: (peer := node.peer("weifang")).state == "retrying" and peer, "weifang is missed")
        assert lost.reason == "PEER_UNREACHABLE"
        assert "weifang cannot be reached" in lost.error
        assert lost.last_contact
        assert node.status().state == "ready"
    assert jinan.peer("weifang").last_contact >= contact

    weifang.start()
    eventually(lambda: weifang.peer("jinan").verified == 710, "weifang has the log of jinan")
    eventually(lambda: weifang.peer("qingdao").verified == 300, "weifang has the log of qingdao")
    assert len(weifang.keys()) == 1010
    assert len(set(weifang.keys("jinan"))) == 710
    for author, size in (("jinan", 710), ("qingdao", 300)):
        log = read_log_file(weifang, author)
        log.require_sound()
        assert (log.head_size, log.root(size)) == (size, mesh[author].status().root)
    for node in (jinan, qingdao):
        eventually(
            lambda node=node: (node.peer("weifang").state, node.peer("weifang").reason) == ("connected", ""),
            f"{node.member} meets weifang again",
        )
    eventually(lambda: weifang.status().index_backlog == 0, "the search index is complete")
    assert len(weifang.hits("地下水")) == 1000
