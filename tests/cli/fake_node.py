"""A NodeService that answers what a test tells it, and remembers what it was asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import grpc

from labmesh.v1 import node_pb2, node_pb2_grpc
from node.errors import LabmeshError
from node.rpc.faults import CODES, DETAILS_KEY, build_status

Answer = Any


@dataclass
class FakeNode(node_pb2_grpc.NodeServiceServicer):
    """`answers` by method name: a message, an error of the tree, or nothing (INTERNAL). `calls` keeps the requests."""

    answers: dict[str, Answer] = field(default_factory=dict)
    calls: list[Any] = field(default_factory=list)
    delay_s: float = 0.0

    def Push(self, request_iterator, context):
        self.calls.append(list(request_iterator))
        return self._answer("Push", context)

    def ListRecords(self, request, context):
        return self._unary("ListRecords", request, context)

    def SearchRecords(self, request, context):
        return self._unary("SearchRecords", request, context)

    def GetRecord(self, request, context):
        return self._unary("GetRecord", request, context)

    def ExportBundle(self, request, context):
        raw = self._unary("ExportBundle", request, context)
        for i in range(0, len(raw), 7):
            yield node_pb2.ExportBundleResponse(chunk=raw[i : i + 7])

    def GetStatus(self, request, context):
        return self._unary("GetStatus", request, context)

    def ExportAlliance(self, request, context):
        return self._unary("ExportAlliance", request, context)

    def ImportAlliance(self, request, context):
        return self._unary("ImportAlliance", request, context)

    def FoundAlliance(self, request, context):
        return self._unary("FoundAlliance", request, context)

    def AddMembers(self, request, context):
        return self._unary("AddMembers", request, context)

    def RemoveMember(self, request, context):
        return self._unary("RemoveMember", request, context)

    def AmendRoster(self, request, context):
        return self._unary("AmendRoster", request, context)

    def SignRoster(self, request, context):
        return self._unary("SignRoster", request, context)

    def WithdrawRoster(self, request, context):
        return self._unary("WithdrawRoster", request, context)

    def ConfirmLog(self, request, context):
        return self._unary("ConfirmLog", request, context)

    def ListLost(self, request, context):
        return self._unary("ListLost", request, context)

    def ConfirmLost(self, request, context):
        return self._unary("ConfirmLost", request, context)

    def GrantRecord(self, request, context):
        return self._unary("GrantRecord", request, context)

    def EraseRecord(self, request, context):
        return self._unary("EraseRecord", request, context)

    def AddClient(self, request, context):
        return self._unary("AddClient", request, context)

    def ListClients(self, request, context):
        return self._unary("ListClients", request, context)

    def RevokeClient(self, request, context):
        return self._unary("RevokeClient", request, context)

    def RotateKey(self, request, context):
        return self._unary("RotateKey", request, context)

    def RevokeLogKey(self, request, context):
        return self._unary("RevokeLogKey", request, context)

    def AbandonIdentity(self, request, context):
        return self._unary("AbandonIdentity", request, context)

    def ListEvidence(self, request, context):
        return self._unary("ListEvidence", request, context)

    def ExportEvidence(self, request, context):
        raw = self._unary("ExportEvidence", request, context)
        for i in range(0, len(raw), 1000):
            yield node_pb2.ExportEvidenceResponse(chunk=raw[i : i + 1000])

    def AuditLog(self, request, context):
        yield from self._unary("AuditLog", request, context)

    def _unary(self, name, request, context):
        self.calls.append(request)
        return self._answer(name, context)

    def _answer(self, name, context):
        time.sleep(self.delay_s)
        answer = self.answers[name]
        if isinstance(answer, LabmeshError):
            abort(context, answer)
        return answer


def abort(context: Any, error: LabmeshError) -> NoReturn:
    """Refuse as a node does."""
    context.set_trailing_metadata(((DETAILS_KEY, build_status(error).SerializeToString()),))
    context.abort(CODES[type(error)], error.message)
    raise AssertionError("abort returned")


@contextmanager
def serve(socket_path: Path) -> Iterator[FakeNode]:
    """Serve a fake node on a socket."""
    fake = FakeNode()
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    node_pb2_grpc.add_NodeServiceServicer_to_server(fake, server)
    server.add_insecure_port("unix:" + quote(str(socket_path)))
    server.start()
    try:
        yield fake
    finally:
        server.stop(0).wait()
