"""The connection to one peer: implements `node.sync.peer.PeerClient` over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import grpc

from labmesh.v1 import peer_pb2, peer_pb2_grpc
from node.core.card import Card
from node.core.entry import LogPage
from node.errors import MalformedError
from node.rpc.convert import message_from_wire
from node.rpc.faults import error_of_peer
from node.rpc.tls import channel_credentials, expected_name
from node.sync.peer import Exchange

MESSAGE_SIZE_MAX = 8 * 1024 * 1024
RECEIVE_SIZE_MAX = 16 * 1024 * 1024

CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", MESSAGE_SIZE_MAX),
    ("grpc.max_receive_message_length", RECEIVE_SIZE_MAX),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The follower decides when to try again; the channel must not hold it back for longer.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]


class GrpcPeerClient:
    """Calls one peer. Made for one endpoint; closed when the connection is given up."""

    def __init__(self, peer: Card, endpoint: str, *, key_pem: bytes, own_card: Card, deadline_s: float) -> None:
        """Connect lazily to `endpoint`, trusting only the certificates in the peer's card."""
        self._member, self._deadline_s = peer.member, deadline_s
        credentials = channel_credentials(peer, key_pem=key_pem, own_card=own_card)
        options = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", expected_name(peer))]
        self._channel = grpc.aio.secure_channel(f"dns:///{endpoint}", credentials, options=options)
        self._stub = peer_pb2_grpc.PeerServiceStub(self._channel)

    async def get_roster(self, version: int, held_cards: Mapping[str, int]) -> tuple[list[bytes], list[bytes]]:
        """Roster and card envelopes newer than these."""
        cards = [peer_pb2.HeldCard(member=member, seq=seq) for member, seq in held_cards.items()]
        request = peer_pb2.GetRosterRequest(version=version, cards=cards)
        try:
            answer = await self._stub.GetRoster(request, timeout=self._deadline_s)
        except grpc.RpcError as error:
            raise error_of_peer(error, self._member) from error
        self._require_message(answer)
        return list(answer.rosters), list(answer.cards)

    async def exchange_checkpoints(
        self,
        *,
        digest: bytes,
        notes: Sequence[bytes],
        roster_version: int,
        cards_digest: bytes,
        rosters: Sequence[bytes] = (),
        card: bytes = b"",
        evidence_ids: Sequence[str] = (),
    ) -> Exchange:
        """Tell what we hold, hear what the peer holds; `rosters` and `card` are what it lacked in its last answer."""
        request = peer_pb2.ExchangeCheckpointsRequest(
            digest=digest,
            notes=notes,
            roster_version=roster_version,
            cards_digest=cards_digest,
            rosters=rosters,
            card=card,
            evidence_ids=evidence_ids,
        )
        try:
            answer = await self._stub.ExchangeCheckpoints(request, timeout=self._deadline_s)
        except grpc.RpcError as error:
            raise error_of_peer(error, self._member) from error
        self._require_message(answer)
        return Exchange(
            answer.digest,
            list(answer.notes),
            answer.roster_version,
            answer.cards_digest,
            answer.caller_note,
            answer.time_ms,
            answer.roster_hash,
            evidence=list(answer.evidence),
            evidence_ids=list(answer.evidence_ids.ids) if answer.HasField("evidence_ids") else None,
        )

    async def report_evidence(self, evidence: bytes) -> bool:
        """Tell one piece of evidence; returns whether the peer needs not be told again."""
        request = peer_pb2.ReportEvidenceRequest(evidence=evidence)
        try:
            answer = await self._stub.ReportEvidence(request, timeout=self._deadline_s)
        except grpc.RpcError as error:
            raise error_of_peer(error, self._member) from error
        self._require_message(answer)
        return answer.taken

    async def read_log(
        self, origin: str, *, start: int, after: int, follow: bool, entries_max: int
    ) -> AsyncIterator[bytes | LogPage]:
        """A log's announcements and pages. A followed stream has no deadline: keep-alive pings notice a dead peer."""
        request = peer_pb2.ReadLogRequest(origin=origin, start=start, after=after, follow=follow, entries_max=entries_max)
        call = self._stub.ReadLog(request, timeout=None if follow else 60 * self._deadline_s)
        try:
            async for message in call:
                self._require_message(message)
                yield message_from_wire(message)
        except grpc.RpcError as error:
            raise error_of_peer(error, self._member) from error
        finally:
            call.cancel()

    async def acknowledge_erasures(self, origin: str, indexes: Sequence[int]) -> list[int]:
        """Tell the author what is gone here; returns what it took."""
        request = peer_pb2.AcknowledgeErasureRequest(origin=origin, indexes=indexes)
        try:
            answer = await self._stub.AcknowledgeErasure(request, timeout=self._deadline_s)
        except grpc.RpcError as error:
            raise error_of_peer(error, self._member) from error
        self._require_message(answer)
        return list(answer.indexes)

    def _require_message(self, answer: object) -> None:
        """Refuse what gRPC gives for bytes that are no message: it logs them, and hands on None."""
        if answer is None:
            raise MalformedError(f"{self._member} sent bytes that are not a message")

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()
