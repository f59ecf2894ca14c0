"""Values to messages and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labmesh.v1 import node_pb2, peer_pb2
from node.core.checkpoint import Checkpoint
from node.core.entry import LogPage, Opening
from node.push import PushError, PushOptions, PushOutcome
from node.rpc.convert import message_from_wire, options_from_wire, outcome_to_wire, page_to_wire, record_to_wire
from node.store.records import StoredRecord
from node.store.tables import STATUS_NOT_UNDERSTOOD, STATUS_QUARANTINED, STATUS_VISIBLE
from tests.alliance import examples

numbers = st.integers(0, 2**64 - 1)
openings = st.builds(Opening, numbers, st.binary(max_size=40), st.binary(max_size=40), numbers)
pages = st.builds(LogPage, numbers, st.binary(max_size=100), st.lists(openings, max_size=4))


@examples(150)
@given(pages)
def test_a_page_arrives_as_it_was_sent(page: LogPage) -> None:
    raw = page_to_wire(page).SerializeToString()
    assert message_from_wire(peer_pb2.ReadLogResponse.FromString(raw)) == page


@examples(50)
@given(st.binary(max_size=100))
def test_an_announcement_arrives_as_it_was_sent(note: bytes) -> None:
    raw = peer_pb2.ReadLogResponse(checkpoint=note).SerializeToString()
    assert message_from_wire(peer_pb2.ReadLogResponse.FromString(raw)) == note


def test_an_empty_message_is_an_empty_page() -> None:
    assert message_from_wire(peer_pb2.ReadLogResponse()) == LogPage(0, b"", [])


def test_push_options() -> None:
    message = node_pb2.PushOptions(kind="result", revise=True, keep_going=True)
    assert options_from_wire(message) == PushOptions("result", None, True, True)
    assert options_from_wire(node_pb2.PushOptions(kind="result")) == PushOptions("result")
    message.audience.members.extend(["yantai", "qingdao", "yantai"])
    assert options_from_wire(message).audience == ("qingdao", "yantai")
    nobody = node_pb2.PushOptions(kind="result", audience=node_pb2.Audience())
    assert options_from_wire(nobody).audience == ()


def test_what_became_of_a_push() -> None:
    outcome = PushOutcome(Checkpoint("a/log/b", 7, bytes(32)), 1, 2, 3, [PushError(4, "/key", "wrong")])
    message = outcome_to_wire(outcome)
    assert (message.accepted, message.unchanged, message.rejected) == (1, 2, 3)
    assert (message.checkpoint.origin, message.checkpoint.size, message.checkpoint.root) == ("a/log/b", 7, bytes(32))
    assert [(error.record, error.path, error.message) for error in message.errors] == [(4, "/key", "wrong")]


def test_a_stored_record() -> None:
    for status, expected in (
        (STATUS_VISIBLE, node_pb2.RECORD_STATUS_VISIBLE),
        (STATUS_NOT_UNDERSTOOD, node_pb2.RECORD_STATUS_VISIBLE),
        (STATUS_QUARANTINED, node_pb2.RECORD_STATUS_QUARANTINED),
    ):
        stored = StoredRecord(1, "a/log/b", "b", 5, "result", "K", 2, status, "fault", bytes(32), b"{}", 1000)
        message = record_to_wire(stored, 1.5)
        assert (message.id, message.index, message.origin, message.record) == ("b/result/K", 5, "a/log/b", b"{}")
        assert (message.status, message.reason, message.checkpoint_age_s) == (expected, "fault", 1.5)
