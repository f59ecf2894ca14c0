"""A record for two members does not exist for the third: not in its files, and not on the wire to it."""

from __future__ import annotations

import pytest

from labmesh.v1 import peer_pb2
from node.core.names import log_origin
from tests.end_to_end.disk import LogFile, database_files, read_log_file
from tests.end_to_end.harness import ALLIANCE, Mesh, Node, open_mesh, result_record

ORIGIN = log_origin(ALLIANCE, "jinan")
OPEN, SHARED, PRIVATE, LATER = "marker-open-7d1c", "marker-shared-91ab", "marker-private-e05f", "marker-later-44c2"
RESTRICTED = {1: SHARED, 2: PRIVATE, 3: LATER}
MAY_READ = {
    OPEN: {"jinan", "qingdao", "weifang"},
    SHARED: {"jinan", "qingdao"},
    PRIVATE: {"jinan"},
    LATER: {"jinan", "qingdao"},
}


@pytest.fixture(scope="module")
def mesh():
    with open_mesh("jinan", "qingdao", "weifang") as mesh:
        mesh.start()
        jinan = mesh["jinan"]
        jinan.push([result_record("OPEN", OPEN)])
        jinan.push([result_record("SHARED", SHARED, audience=["qingdao"]), result_record("PRIVATE", PRIVATE, audience=[])])
        # The default of the call, and a revision that keeps its audience.
        jinan.push([result_record("LATER", "空")], audience={"members": ["qingdao"]})
        jinan.push([result_record("LATER", LATER)], revise=True)
        for member in ("qingdao", "weifang"):
            mesh[member].await_log("jinan", 5)
            mesh[member].await_index()
        yield mesh


def holds(node: Node, text: str) -> bool:
    """Whether these bytes occur in a database file."""
    return any(text.encode() in path.read_bytes() for path in database_files(node))


def holders(mesh: Mesh) -> dict[str, set[str]]:
    """In whose files each text lies."""
    return {text: {name for name, node in mesh.nodes.items() if holds(node, text)} for text in MAY_READ}


def test_the_bytes_of_a_restricted_record_lie_only_where_they_may_be_read(mesh: Mesh):
    assert holders(mesh) == MAY_READ


def test_the_log_verifies_to_one_root_for_all(mesh: Mesh):
    logs: dict[str, LogFile] = {member: read_log_file(mesh[member], "jinan") for member in mesh.nodes}
    for log in logs.values():
        log.require_sound()
        assert log.head_size == 5
        assert log.root(5) == mesh["jinan"].status().root
        assert log.commitments == logs["jinan"].commitments
    assert {member: sorted(log.records) for member, log in logs.items()} == {
        "jinan": [0, 1, 2, 3, 4],
        "qingdao": [0, 1, 3, 4],
        "weifang": [0],
    }


def test_a_member_sees_what_is_for_it_and_nothing_of_the_rest(mesh: Mesh):
    visible = {"jinan": ["LATER", "OPEN", "PRIVATE", "SHARED"], "qingdao": ["LATER", "OPEN", "SHARED"], "weifang": ["OPEN"]}
    for member, keys in visible.items():
        node = mesh[member]
        assert sorted(node.listed("jinan")) == keys
        assert {key for key in ("OPEN", "SHARED", "PRIVATE", "LATER") if node.sees(f"jinan/result/{key}")} == set(keys)
        found = {text for text in (OPEN, SHARED, PRIVATE, LATER) if node.hits(text)}
        assert len(found) == len(keys)


@pytest.mark.parametrize("server", ["jinan", "qingdao"])
def test_nobody_sends_the_third_member_an_opening_that_is_not_for_it(mesh: Mesh, server: str):
    # Qingdao mirrors the log, so it could give away what was meant for it.
    for start in range(5):
        with mesh.call_as("weifang", server) as stub:
            request = peer_pb2.ReadLogRequest(origin=ORIGIN, start=start, entries_max=1000)
            messages = list(stub.ReadLog(request, timeout=30))
        raw = b"".join(message.SerializeToString() for message in messages)
        assert [text for text in RESTRICTED.values() if text.encode() in raw] == []
        pages = [message.page for message in messages if message.HasField("page")]
        assert {opening.index for page in pages for opening in page.openings} == {0}
        assert sum(len(page.commitments) for page in pages) == 32 * (5 - start)


def test_the_partner_is_sent_what_is_for_it(mesh: Mesh):
    with mesh.call_as("qingdao", "jinan") as stub:
        messages = list(stub.ReadLog(peer_pb2.ReadLogRequest(origin=ORIGIN, entries_max=1000), timeout=30))
    openings = {opening.index: opening.record for message in messages for opening in message.page.openings}
    assert sorted(openings) == [0, 1, 3, 4]
    assert SHARED.encode() in openings[1]


def test_they_lie_nowhere_else_after_a_stop(mesh: Mesh):
    for node in mesh.nodes.values():
        assert node.stop() == 0
    assert holders(mesh) == MAY_READ
