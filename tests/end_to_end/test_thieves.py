"""A stolen log key: once its card says where it ends, nobody shows what the thief made with it, not even a longer copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import pytest

from node.core.kinds import Kinds
from node.schemas import load_schemas
from tests.builders import MemoryLog
from tests.end_to_end.disk import read_log_file
from tests.end_to_end.harness import ALLIANCE, Mesh, Node, eventually, open_mesh, result_records
from tests.end_to_end.hostile import BODY, HomeLab
from tests.end_to_end.nursery import run_labmesh
from tests.end_to_end.test_keys import await_card, held_cards
from tests.store.filling import Mirrored

MEMBERS = ("jinan", "qingdao", "weifang", "yantai")
TRUE = [f"TRUE-{i:06d}" for i in range(3)]


def labmesh(node: Node, *args: object) -> Any:
    """A command of its own process, and its JSON."""
    done = run_labmesh("--home", node.home.path, "--json", *args)
    done.check_returncode()
    return orjson.loads(done.stdout)


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with ExitStack() as stack:
        yield stack.enter_context(open_mesh(*MEMBERS))


def steal(owner: Node, count: int) -> MemoryLog:
    """What a thief makes of the owner's log: the same beginning, and `count` entries of its own."""
    log, held = MemoryLog(HomeLab(owner.member, ALLIANCE, signer=owner.load_keys().log)), read_log_file(owner, owner.member)
    for index in range(held.signed_size):
        salt, record = held.records[index]
        log.salts.append(salt)
        log.records.append(record)
        log.commitments.append(held.commitments[index])
    log.frontier = log.frontier.extend(log.commitments)[0]
    log.append_numbered(count, body=BODY)
    return log


def show_to(victim: Node, log: MemoryLog) -> None:
    """The victim's home verifies it, as its daemon does when the thief stands in its way."""
    store = victim.home.open_store()
    try:
        Mirrored(store, log, reader=victim.member, schemas=Kinds(load_schemas())).accept()
    finally:
        store.close()


def test_a_longer_copy_of_a_thief_s_log_is_gone_as_soon_as_the_card_is_there(mesh: Mesh) -> None:
    """The victim holds twelve entries, nine of them the thief's. It hears of the revocation while the author is away."""
    jinan, qingdao, _, yantai = (mesh[member] for member in MEMBERS)
    mesh.start("jinan", "qingdao", "yantai")
    jinan.push(result_records("TRUE", 3))
    for node in (qingdao, yantai):
        node.await_log("jinan", 3)
    yantai.stop()
    show_to(yantai, steal(jinan, 9))
    assert len(read_log_file(yantai, "jinan").keys()) == 12

    labmesh(jinan, "keys", "revoke", "log", "--size", 3, "--yes")
    await_card(qingdao, held_cards(jinan)["jinan"])
    jinan.stop()
    yantai.start()
    eventually(lambda: yantai.listed("jinan") == TRUE, "the thief's entries are gone")
    assert read_log_file(yantai, "jinan").head_size == 3
    assert yantai.peer("jinan").state != "connected"

    # The honest log is shorter than the thief's copy was, and is followed at once.
    jinan.start()
    eventually(lambda: jinan.status().state == "ready", "jinan may publish")
    jinan.push(result_records("NEXT", 1))
    for node in (qingdao, yantai):
        node.await_record("jinan/result/NEXT-000000")
        assert node.listed("jinan") == [*TRUE, "NEXT-000000"]
        node.await_index()
        assert read_log_file(node, "jinan").root(4) == read_log_file(jinan, "jinan").root(4)
        read_log_file(node, "jinan").require_sound()
        assert node.hits("地下水") and not [alarm for alarm in node.status().alarms if "jinan" in alarm]
