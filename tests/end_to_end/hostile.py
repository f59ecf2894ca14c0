"""A member that lies: a PeerService with a real member's keys and certificate, whose answers a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from cryptography import x509

from labmesh.v1 import peer_pb2
from node.core.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from node.core.entry import LogPage
from node.core.keys import Signer
from node.rpc.convert import page_to_wire
from node.rpc.tls import certificate_pem
from tests.builders import Lab, MemoryLog
from tests.end_to_end.harness import ALLIANCE, Mesh, Node

Context = grpc.ServicerContext
Message = peer_pb2.ReadLogResponse | bytes
Play = Callable[["HostilePeer", peer_pb2.ReadLogRequest], Iterator[Message]]

WAIT = b""
"""What a play yields to wait until the test goes on."""

BODY = {
    "report": "R-1",
    "sample": {"id": "S-1", "matrix": "地下水"},
    "results": [{"parameter": "铅", "quantity": {"form": "numeric", "value": "0.10", "unit": "mg/L"}}],
}


class RefusalError(Exception):
    """Ends a played stream with a code, a text, and any bytes as its `google.rpc.Status`."""

    def __init__(self, code: grpc.StatusCode, details: str, status: bytes) -> None:
        """Say it like this."""
        super().__init__(details)
        self.code, self.details, self.status = code, details, status


@dataclass(frozen=True, slots=True)
class HomeLab(Lab):
    """A laboratory whose log key lies in its home."""

    signer: Signer = field(kw_only=True)

    @property
    def log(self) -> Signer:
        """Signer of checkpoints."""
        return self.signer


class HostilePeer:
    """The fake node of one member. It keeps an honest log; `play` decides what is told of it."""

    def __init__(self, node: Node, victim: Node) -> None:
        """Begin honestly, with an empty log; `reads` counts how often the victim has asked for it."""
        self.node, self._victim = node, load_certificate(victim)
        self.log = MemoryLog(HomeLab(node.member, ALLIANCE, signer=node.load_keys().log))
        self.reads = 0
        self.exchange: Callable[[peer_pb2.ExchangeCheckpointsRequest], Any] = answer_exchange
        self._play: Play = honest
        self._scene = threading.Event()

    def change(self, play: Play | None = None) -> None:
        """Play something else; without a play, tell open streams that the log has grown."""
        self._play = play or self._play
        old, self._scene = self._scene, threading.Event()
        old.set()

    def append(self, count: int = 1, **changes: Any) -> SignedCheckpoint:
        """Append valid records to the honest log."""
        return self.log.append_numbered(count, **{"body": BODY, **changes})

    def sign(self, size: int, root: bytes) -> peer_pb2.ReadLogResponse:
        """An announcement of anything, signed with the real log key."""
        signed = sign_checkpoint(Checkpoint(self.log.lab.origin, size, root), self.log.lab.log)
        return peer_pb2.ReadLogResponse(checkpoint=bytes(signed))

    def announce(self, size: int | None = None) -> peer_pb2.ReadLogResponse:
        """An honest announcement of the newest or an earlier size."""
        return peer_pb2.ReadLogResponse(checkpoint=bytes(self.log.checkpoint(size)))

    def pages(self, start: int, stop: int) -> Iterator[peer_pb2.ReadLogResponse]:
        """Honest pages."""
        for low in range(start, stop, 1000):
            yield page_to_wire(self.log.page(low, min(stop, low + 1000)))

    def read_log(self, request: peer_pb2.ReadLogRequest, context: Context) -> Iterator[Message]:
        """What is played to the victim, and the truth to everybody else; open until there is another play."""
        play = self._play_for(context)
        self.reads += self._is_victim(context)
        try:
            for message in play(self, request):
                if message is not WAIT:
                    yield message
                elif not self._wait(play, context):
                    return
                if not context.is_active():
                    return
        except RefusalError as refusal:
            context.set_trailing_metadata((("grpc-status-details-bin", refusal.status),))
            context.abort(refusal.code, refusal.details)
        while self._wait(play, context):
            pass

    def _play_for(self, context: Context) -> Play:
        return self._play if self._is_victim(context) else honest

    def _is_victim(self, context: Context) -> bool:
        # The stubs know one value a property; gRPC gives a tuple of them.
        pems: Any = context.auth_context()["x509_pem_cert"]
        return x509.load_pem_x509_certificate(pems[0]) == self._victim

    def _wait(self, play: Play, context: Context) -> bool:
        """Wait for the next scene; returns whether it is the same play, and the caller still there."""
        scene = self._scene
        while not scene.wait(0.05):
            if not context.is_active():
                return False
        return self._play_for(context) is play

    def _exchange(self, request: peer_pb2.ExchangeCheckpointsRequest, context: Context) -> Any:
        return (self.exchange if self._is_victim(context) else answer_exchange)(request)

    def serve(self, mesh: Mesh) -> grpc.Server:
        """A server on the member's own port, with its own key and certificate."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "GetRoster": grpc.unary_unary_rpc_method_handler(
                lambda request, context: peer_pb2.GetRosterResponse(),
                request_deserializer=peer_pb2.GetRosterRequest.FromString,
                response_serializer=to_bytes,
            ),
            "ExchangeCheckpoints": grpc.unary_unary_rpc_method_handler(
                self._exchange,
                request_deserializer=peer_pb2.ExchangeCheckpointsRequest.FromString,
                response_serializer=to_bytes,
            ),
            "ReadLog": grpc.unary_stream_rpc_method_handler(
                self.read_log,
                request_deserializer=peer_pb2.ReadLogRequest.FromString,
                response_serializer=to_bytes,
            ),
        }
        options = [("grpc.so_reuseport", 0), ("grpc.max_send_message_length", 64 * 1024 * 1024)]
        server = grpc.server(ThreadPoolExecutor(16), options=options)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("labmesh.v1.PeerService", handlers),))
        roots = b"".join(certificate_pem(node.card.tls_certificates[0]) for node in mesh.nodes.values())
        own = (self.node.load_keys().tls_key_pem, certificate_pem(self.node.card.tls_certificates[0]))
        credentials = grpc.ssl_server_credentials([own], root_certificates=roots, require_client_auth=True)
        server.add_secure_port(f"127.0.0.1:{self.node.port}", credentials)
        server.start()
        return server


@contextmanager
def serve_hostile(mesh: Mesh, member: str, *, victim: str) -> Iterator[HostilePeer]:
    """Serve a peer that is hostile to one member, in this process, in the place of its daemon."""
    peer = HostilePeer(mesh[member], mesh[victim])
    server = peer.serve(mesh)
    try:
        yield peer
    finally:
        server.stop(0).wait()


def load_certificate(node: Node) -> x509.Certificate:
    """The member's certificate."""
    return x509.load_der_x509_certificate(node.card.tls_certificates[0])


def to_bytes(message: Any) -> bytes:
    """Serialise; bytes go out as they are, whether they are a message or not."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def answer_exchange(request: peer_pb2.ExchangeCheckpointsRequest, **changes: Any) -> peer_pb2.ExchangeCheckpointsResponse:
    """An answer that gives no reason to ask further."""
    answer = {
        "digest": request.digest,
        "roster_version": request.roster_version,
        "cards_digest": request.cards_digest,
        **changes,
    }
    return peer_pb2.ExchangeCheckpointsResponse(**answer)


def honest(peer: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    """The protocol as it should be: announcement, late openings, pages; then whatever is appended."""
    sent, announced = request.start, -1
    late = [peer.log.opening(index) for index in range(request.start) if index + 1 > request.after]
    while True:
        if peer.log.size > announced and peer.log.size >= sent:
            announced = peer.log.size
            yield peer.announce()
            if late:
                yield page_to_wire(LogPage(sent, b"", late))
                late = []
            yield from peer.pages(sent, announced)
            sent = announced
        yield WAIT
