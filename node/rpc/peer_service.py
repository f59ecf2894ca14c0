"""PeerService: what this node answers its peers.

The caller is looked up by its exact leaf certificate on every call and before every message of a stream, so a member that
was removed gets nothing more, not even on a connection that is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from labmesh.v1 import peer_pb2, peer_pb2_grpc
from node.clock import Clock, milliseconds
from node.confirmation import Confirmation
from node.disclosure import Disclosure
from node.errors import AccessRefusedError, LabmeshError, LimitError
from node.membership import Membership
from node.rpc.faults import abort, abort_unknown, answered
from node.rpc.heads import Heads
from node.rpc.log_stream import LogStream
from node.rpc.tls import TrustedCertificates
from node.store import Store
from node.store.erasures import ACKNOWLEDGED_AT_ONCE_MAX
from node.store.logs import LogState
from node.store.tables import INDEX_MASK
from node.sync.exchange import CheckpointExchange
from node.sync.peer import ROSTERS_TOLD_MAX

NOTES_MAX = 1000
STREAMS_PER_MEMBER = 8

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class PeerServiceParts:
    """What the service reads from."""

    store: Store
    membership: Membership
    confirmation: Confirmation
    disclosure: Disclosure
    exchange: CheckpointExchange
    trusted: TrustedCertificates
    heads: Heads
    clock: Clock
    on_call: Callable[[str], None]
    on_notes: Callable[[str, list[bytes], int], Awaitable[None]]
    on_news: Callable[[str], None]
    on_alarm: Callable[[str, str, str], None]
    on_card_held: Callable[[str, int], None]


class PeerServicer(peer_pb2_grpc.PeerServiceServicer):
    """Answers active members, and nobody else."""

    def __init__(self, parts: PeerServiceParts) -> None:
        """Answer from `parts`."""
        self._parts = parts
        self._streams: dict[str, int] = {}
        self._telling: set[str] = set()
        self._updating: set[str] = set()
        self._reporting: set[str] = set()

    async def GetRoster(self, request: peer_pb2.GetRosterRequest, context: Context) -> peer_pb2.GetRosterResponse:
        """Rosters and cards newer than the caller's."""

        async def answer() -> peer_pb2.GetRosterResponse:
            caller = self._require_member(context)
            held = {item.member: item.seq for item in request.cards}
            self._parts.on_card_held(caller, held.get(self._parts.membership.member, 0))
            rosters, cards = await asyncio.to_thread(self._parts.membership.newer_than, request.version, held)
            return peer_pb2.GetRosterResponse(rosters=rosters, cards=cards)

        return await answered(answer(), context)

    async def ExchangeCheckpoints(
        self, request: peer_pb2.ExchangeCheckpointsRequest, context: Context
    ) -> peer_pb2.ExchangeCheckpointsResponse:
        """Both sides' newest checkpoints."""

        async def answer() -> peer_pb2.ExchangeCheckpointsResponse:
            caller = self._require_member(context)
            parts, notes = self._parts, list(request.notes)
            if len(notes) > NOTES_MAX:
                raise LimitError(f"{len(notes)} notes in one call; at most {NOTES_MAX} are taken")
            seq = parts.membership.own_card[1].seq  # before the digest, which changes with it
            if request.cards_digest == parts.membership.cards_digest():
                parts.on_card_held(caller, seq)
            if len(request.evidence_ids) > NOTES_MAX:
                raise LimitError(f"{len(request.evidence_ids)} ids in one call; at most {NOTES_MAX} are taken")
            if request.rosters or request.card:  # first: they may say which history of a log survives
                await self._take_membership(caller, request)
            version = parts.membership.joined.roster.version
            held = await asyncio.to_thread(parts.exchange.held_notes)
            digest = parts.exchange.digest(held)
            if notes:
                await self._take_notes(caller, notes, request.roster_version)
            keeper = parts.exchange.evidence
            await asyncio.to_thread(keeper.note_held, caller, list(request.evidence_ids))
            evidence = await asyncio.to_thread(keeper.untold, caller)
            if request.roster_version > parts.membership.joined.roster.version:
                parts.on_news(caller)
            return peer_pb2.ExchangeCheckpointsResponse(
                digest=digest,
                notes=held if digest != request.digest and not notes else [],
                roster_version=version,
                cards_digest=parts.membership.cards_digest(),
                caller_note=await asyncio.to_thread(parts.exchange.note_for, caller),
                time_ms=milliseconds(parts.clock()),
                roster_hash=bytes.fromhex(parts.membership.joined.fingerprint),
                evidence=[raw for _, raw in evidence],
                evidence_ids=peer_pb2.EvidenceIds(ids=await asyncio.to_thread(keeper.known_ids, caller)),
            )

        return await answered(answer(), context)

    async def AcknowledgeErasure(
        self, request: peer_pb2.AcknowledgeErasureRequest, context: Context
    ) -> peer_pb2.AcknowledgeErasureResponse:
        """A peer has deleted what the own log says is erased."""

        async def answer() -> peer_pb2.AcknowledgeErasureResponse:
            caller, indexes = self._require_member(context), list(request.indexes)
            if len(indexes) > ACKNOWLEDGED_AT_ONCE_MAX or any(index > INDEX_MASK for index in indexes):
                raise LimitError(
                    f"{len(indexes)} entries in one call; at most {ACKNOWLEDGED_AT_ONCE_MAX} of a log are taken"
                )
            taken = await asyncio.to_thread(
                self._parts.disclosure.accept_acknowledgement,
                request.origin,
                indexes,
                member=caller,
                now_ms=milliseconds(self._parts.clock()),
            )
            return peer_pb2.AcknowledgeErasureResponse(indexes=taken)

        return await answered(answer(), context)

    async def _take_membership(self, caller: str, request: peer_pb2.ExchangeCheckpointsRequest) -> None:
        """Take rosters and the caller's own card from a caller that this node may be unable to dial."""
        if len(request.rosters) > ROSTERS_TOLD_MAX:
            raise LimitError(f"{len(request.rosters)} rosters in one call; at most {ROSTERS_TOLD_MAX} are taken")
        cards = [request.card] if request.card else []
        with _one_at_a_time(self._updating, caller, "telling rosters or its card"):
            accept = self._parts.membership.accept_update
            update = await asyncio.to_thread(accept, list(request.rosters), cards, teller=caller)
        for refusal in update.refusals:
            self._parts.on_alarm(refusal.accused(caller), refusal.reason, refusal.sentence(caller))
        await asyncio.to_thread(self._parts.exchange.evidence.accept_conflicts, update.conflicts)

    async def _take_notes(self, caller: str, notes: list[bytes], version: int) -> None:
        with _one_at_a_time(self._telling, caller, "telling its checkpoints"):
            await self._parts.on_notes(caller, notes, version)

    async def ReportEvidence(
        self, request: peer_pb2.ReportEvidenceRequest, context: Context
    ) -> peer_pb2.ReportEvidenceResponse:
        """Judge one piece of evidence; one at a time for each caller, because judging costs more than sending."""

        async def answer() -> peer_pb2.ReportEvidenceResponse:
            caller = self._require_member(context)
            accept = self._parts.exchange.evidence.accept
            with _one_at_a_time(self._reporting, caller, "reporting evidence"):
                return peer_pb2.ReportEvidenceResponse(taken=await asyncio.to_thread(accept, request.evidence, peer=caller))

        return await answered(answer(), context)

    async def ReadLog(self, request: peer_pb2.ReadLogRequest, context: Context) -> AsyncIterator[peer_pb2.ReadLogResponse]:
        """A log from an index on, then live."""
        caller = ""
        try:
            caller = self._require_member(context)
            self._open_stream(caller)
            async for message in self._read_log(request, caller, context):
                yield message
        except LabmeshError as error:
            await abort(context, error)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as error:
            await abort_unknown(context, error)
        finally:
            if caller:
                self._streams[caller] -= 1

    async def _read_log(
        self, request: peer_pb2.ReadLogRequest, caller: str, context: Context
    ) -> AsyncIterator[peer_pb2.ReadLogResponse]:
        """What the caller does not have yet, then what comes."""
        self._parts.membership.joined.author_of(request.origin)
        stream = LogStream(self._parts.store, request, reader=caller, ceiling=self._ceiling)
        while True:
            generation = self._parts.heads.generation
            self._require_same(caller, context)
            messages = await asyncio.to_thread(stream.advance)
            for message in messages:
                self._require_same(caller, context)
                yield message
            if not messages:
                if not request.follow:
                    return
                await self._parts.heads.wait_beyond(generation)

    def _ceiling(self, log: LogState) -> int:
        return self._parts.exchange.tellable_size(log)

    def _require_member(self, context: Context) -> str:
        """The caller's member id.

        Raises:
            AccessRefusedError: the certificate presented stands in no active member's card.
        """
        pem = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
        member = None if pem is None else self._parts.trusted.member_of(pem)
        if member is None:
            raise AccessRefusedError(self._refusal(pem))
        self._parts.on_call(member)
        return member

    def _refusal(self, pem: bytes | None) -> str:
        removed = None if pem is None else self._parts.trusted.removed_member_of(pem)
        if removed is None:
            return "the certificate presented is in no active member's card"
        roster = self._parts.membership.joined.roster
        return f"{removed} was removed from {roster.alliance} on {roster.members[removed].left:%Y-%m-%d}"

    def _require_same(self, caller: str, context: Context) -> None:
        if self._require_member(context) != caller:
            raise AccessRefusedError("the certificate presented now belongs to another member")

    def _open_stream(self, caller: str) -> None:
        count = self._streams.get(caller, 0) + 1
        self._streams[caller] = count
        if count > STREAMS_PER_MEMBER:
            raise LimitError(f"{caller} has {STREAMS_PER_MEMBER} log streams open already")


@contextmanager
def _one_at_a_time(busy: set[str], caller: str, what: str) -> Iterator[None]:
    """Refuse a second call of one kind by one caller: judging costs more than sending.

    Raises:
        LimitError: the caller's earlier call is not done yet.
    """
    if caller in busy:
        raise LimitError(f"{caller} is {what} already; one call at a time")
    busy.add(caller)
    try:
        yield
    finally:
        busy.discard(caller)
