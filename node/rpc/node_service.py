"""NodeService: what this node answers the command line and lab systems on its socket and its remote port."""

from __future__ import annotations

from labmesh.v1 import node_pb2_grpc
from node.rpc.calls.alliance import AllianceCalls
from node.rpc.calls.clients import ClientCalls
from node.rpc.calls.disclosure import DisclosureCalls
from node.rpc.calls.evidence import EvidenceCalls
from node.rpc.calls.inspection import InspectionCalls
from node.rpc.calls.keys import KeyCalls
from node.rpc.calls.records import RecordCalls
from node.rpc.calls.recovery import RecoveryCalls
from node.rpc.calls.state import StateCalls


class NodeServicer(
    RecordCalls,
    AllianceCalls,
    DisclosureCalls,
    EvidenceCalls,
    InspectionCalls,
    StateCalls,
    ClientCalls,
    KeyCalls,
    RecoveryCalls,
    node_pb2_grpc.NodeServiceServicer,
):
    """Answers whom `node.rpc.access` lets through."""
