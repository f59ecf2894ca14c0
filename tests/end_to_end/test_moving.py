"""A node whose address changes: its only peer cannot dial it any more, so it must tell the new one itself."""

from __future__ import annotations

from tests.end_to_end.harness import eventually, free_port, result_records


def test_a_new_address_reaches_the_only_peer(make_mesh):
    mesh = make_mesh("jinan", "qingdao")
    mesh.start()
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    qingdao.push(result_records("BEFORE", 3))
    jinan.await_log("qingdao", 3)
    assert qingdao.stop() == 0
    port = free_port()
    text = qingdao.home.config_path.read_text(encoding="utf-8")
    qingdao.home.config_path.write_text(text.replace(f":{qingdao.port}", f":{port}"), encoding="utf-8")
    qingdao.start()
    qingdao.push(result_records("AFTER", 4))
    jinan.await_log("qingdao", 7)
    assert jinan.await_peer("qingdao", "connected").verified == 7
    eventually(lambda: qingdao.status().state == "ready", "qingdao may publish")
