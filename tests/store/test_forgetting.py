"""What a forgotten mirror leaves in the files is swept, so that an erasure that comes later is true."""

from __future__ import annotations

from pathlib import Path

from node.core.names import parse_record_id
from node.store.forgetting import forget_mirror
from tests.alliance import SimulatedAlliance, draft
from tests.disclosing import KINDS
from tests.store.reading import index_all


def test_an_erasure_after_the_record_was_forgotten_leaves_nothing(tmp_path: Path) -> None:
    made = SimulatedAlliance(tmp_path, 2, schemas=KINDS)
    jinan, qingdao = made["jinan"], made["qingdao"]
    jinan.push(draft("K-1", "geheimwort"))
    made.catch_up("qingdao", "jinan")
    index_all(qingdao.store)
    assert b"geheimwort" in qingdao.stored_bytes()
    forget_mirror(qingdao.store, qingdao.mirror_of("jinan").id)
    qingdao.reopen()  # what is owed outlives a stop
    jinan.disclosure.erase(parse_record_id("jinan/result/K-1"), "why")
    made.catch_up("qingdao", "jinan")
    index_all(qingdao.store)
    log_id = qingdao.mirror_of("jinan").id
    assert qingdao.store.erasures.to_acknowledge(log_id) == []
    assert qingdao.store.sweeper.sweep() is True
    assert b"geheimwort" not in qingdao.stored_bytes()
    assert qingdao.store.erasures.to_acknowledge(log_id) == [0]
    assert qingdao.store.sweeper.sweep() is None
    made.close()
