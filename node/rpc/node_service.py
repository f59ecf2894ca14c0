"""NodeService: what this node answers the command line and lab systems on its socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from labmesh.v1 import node_pb2, node_pb2_grpc
from node.audit import build_bundle
from node.clock import Clock, milliseconds
from node.confirmation import Confirmation
from node.core.alliance import Alliance, format_card, format_roster
from node.core.bundle import format_bundle
from node.core.names import parse_kind, parse_member, parse_record_id
from node.errors import NotFoundError, UnconfirmedError, UserError
from node.lab.text import query_expression
from node.ledger import Ledger
from node.membership import Membership
from node.rpc.convert import options_from_wire, outcome_to_wire, record_to_wire
from node.rpc.faults import answered
from node.store import Store
from node.store.records import Filter, RecordPage, StoredRecord, page_size
from node.sync.peer import PeerState

logger = logging.getLogger(__name__)

CHUNK = 1024 * 1024

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class NodeServiceParts:
    """What the service speaks for."""

    store: Store
    ledger: Ledger
    membership: Membership
    confirmation: Confirmation
    clock: Clock
    peer_states: Callable[[], dict[str, PeerState]]
    build_status: Callable[[], node_pb2.GetStatusResponse]
    on_confirm: Callable[[], None]


class NodeServicer(node_pb2_grpc.NodeServiceServicer):
    """Answers whoever may open the socket."""

    def __init__(self, parts: NodeServiceParts) -> None:
        """Answer from `parts`."""
        self._parts = parts

    async def Push(self, request_iterator: AsyncIterator[node_pb2.PushRequest], context: Context) -> node_pb2.PushResponse:
        """Check records as they arrive; append when all are there."""

        async def answer() -> node_pb2.PushResponse:
            call = None
            async for message in request_iterator:
                if message.HasField("options"):
                    if call is not None:
                        raise UserError("the options of a push come once")
                    call = self._parts.ledger.begin_push(options_from_wire(message.options))
                elif call is None:
                    raise UserError("a push begins with its options")
                else:
                    await asyncio.to_thread(call.add, message.batch.records)
            if call is None:
                raise UserError("a push without options")
            await _require_whole(context)
            outcome = await asyncio.to_thread(self._parts.ledger.push, call)
            logger.info(
                "event=pushed accepted=%d unchanged=%d rejected=%d size=%d arrived=%.6f",
                outcome.accepted,
                outcome.unchanged,
                outcome.rejected,
                outcome.checkpoint.size,
                call.arrived.timestamp(),
            )
            return outcome_to_wire(outcome)

        return await answered(answer(), context)

    async def ListRecords(self, request: node_pb2.ListRecordsRequest, context: Context) -> node_pb2.ListRecordsResponse:
        """Newest revisions, page by page."""

        async def answer() -> node_pb2.ListRecordsResponse:
            chosen, limit = self._filter(request.kind, request.author), page_size(request.page_size)
            page = await asyncio.to_thread(
                self._parts.store.records.list, chosen, limit=limit, token=request.page_token or None
            )
            return node_pb2.ListRecordsResponse(records=self._views(page), next_page_token=page.next_token or "")

        return await answered(answer(), context)

    async def SearchRecords(
        self, request: node_pb2.SearchRecordsRequest, context: Context
    ) -> node_pb2.SearchRecordsResponse:
        """Newest revisions that contain every word."""

        async def answer() -> node_pb2.SearchRecordsResponse:
            chosen, limit = self._filter(request.kind, request.author), page_size(request.page_size)
            expression = query_expression(request.text)
            page = await asyncio.to_thread(
                self._parts.store.records.search, expression, chosen, limit=limit, token=request.page_token or None
            )
            return node_pb2.SearchRecordsResponse(records=self._views(page), next_page_token=page.next_token or "")

        return await answered(answer(), context)

    async def GetRecord(self, request: node_pb2.GetRecordRequest, context: Context) -> node_pb2.GetRecordResponse:
        """One record."""

        async def answer() -> node_pb2.GetRecordResponse:
            record_id = parse_record_id(request.id)
            stored = await asyncio.to_thread(self._parts.store.records.find, record_id)
            if stored is None:
                raise NotFoundError(
                    f"there is no record {record_id} here, or this member may not read it", hint="type: labmesh list"
                )
            return node_pb2.GetRecordResponse(record=self._view(stored))

        return await answered(answer(), context)

    async def ExportBundle(
        self, request: node_pb2.ExportBundleRequest, context: Context
    ) -> AsyncIterator[node_pb2.ExportBundleResponse]:
        """A bundle, in pieces."""
        raw = await answered(asyncio.to_thread(self._build_bundle, request.id), context)
        for i in range(0, len(raw), CHUNK):
            yield node_pb2.ExportBundleResponse(chunk=raw[i : i + CHUNK])

    async def GetStatus(self, request: node_pb2.GetStatusRequest, context: Context) -> node_pb2.GetStatusResponse:
        """The state of this node."""
        return await answered(asyncio.to_thread(self._parts.build_status), context)

    async def ExportAlliance(
        self, request: node_pb2.ExportAllianceRequest, context: Context
    ) -> node_pb2.ExportAllianceResponse:
        """Every roster and the newest cards."""

        async def answer() -> node_pb2.ExportAllianceResponse:
            alliance = self._parts.membership.joined
            return node_pb2.ExportAllianceResponse(
                rosters=[format_roster(signed) for signed in alliance.rosters],
                cards=[format_card(alliance.cards[member]) for member in sorted(alliance.cards)],
            )

        return await answered(answer(), context)

    async def ImportAlliance(
        self, request: node_pb2.ImportAllianceRequest, context: Context
    ) -> node_pb2.ImportAllianceResponse:
        """Newer rosters and cards that a person brought."""
        rosters, cards, fingerprint = list(request.rosters), list(request.cards), request.fingerprint or None
        alliance = await self._changed(
            context, self._parts.membership.import_alliance, rosters, cards, fingerprint=fingerprint
        )
        return node_pb2.ImportAllianceResponse(version=alliance.roster.version, fingerprint=alliance.fingerprint)

    async def FoundAlliance(
        self, request: node_pb2.FoundAllianceRequest, context: Context
    ) -> node_pb2.FoundAllianceResponse:
        """Roster version 1."""
        alliance = await self._changed(context, self._parts.membership.found, request.title, request.threshold)
        return node_pb2.FoundAllianceResponse(version=alliance.roster.version, fingerprint=alliance.fingerprint)

    async def AddMembers(self, request: node_pb2.AddMembersRequest, context: Context) -> node_pb2.AddMembersResponse:
        """The next roster, with new members."""
        confirmed = self._parts.confirmation.confirmed
        alliance = await self._changed(context, self._parts.membership.add_members, list(request.cards))
        if confirmed:
            self._parts.confirmation.keep()
        return node_pb2.AddMembersResponse(version=alliance.roster.version, fingerprint=alliance.fingerprint)

    async def RemoveMember(self, request: node_pb2.RemoveMemberRequest, context: Context) -> node_pb2.RemoveMemberResponse:
        """The next roster, without a member."""
        head = await asyncio.to_thread(self._parts.store.logs.head_of, request.member)
        alliance = await self._changed(context, self._parts.membership.remove_member, request.member, head)
        return node_pb2.RemoveMemberResponse(version=alliance.roster.version, fingerprint=alliance.fingerprint)

    async def ConfirmLog(self, request: node_pb2.ConfirmLogRequest, context: Context) -> node_pb2.ConfirmLogResponse:
        """Publish without waiting for peers."""

        async def answer() -> node_pb2.ConfirmLogResponse:
            size = self._parts.confirmation.override()
            if not self._parts.confirmation.confirmed:
                raise UnconfirmedError(
                    "a peer holds entries of this log that this home does not have, so nothing more is published",
                    hint="type: labmesh status",
                )
            self._parts.on_confirm()
            return node_pb2.ConfirmLogResponse(size=size)

        return await answered(answer(), context)

    async def _changed(self, context: Context, change: Callable[..., Alliance], *args: Any, **named: Any) -> Alliance:
        return await answered(asyncio.to_thread(change, *args, **named), context)

    def _build_bundle(self, text: str) -> bytes:
        parts = self._parts
        bundle = build_bundle(
            parts.store,
            parts.membership.joined,
            parse_record_id(text),
            member=parts.membership.member,
            ceiling=parts.confirmation.ceiling,
        )
        return format_bundle(bundle)

    def _filter(self, kind: str, author: str) -> Filter:
        return Filter(parse_kind(kind) if kind else None, parse_member(author) if author else None)

    def _views(self, page: RecordPage) -> list[node_pb2.RecordView]:
        return [self._view(stored) for stored in page.records]

    def _view(self, stored: StoredRecord) -> node_pb2.RecordView:
        if stored.author == self._parts.membership.member:
            return record_to_wire(stored, 0.0)
        state = self._parts.peer_states().get(stored.author)
        seen_ms = max(stored.head_ms, state.last_contact_ms if state else 0)
        return record_to_wire(stored, max(0.0, (milliseconds(self._parts.clock()) - seen_ms) / 1000))


async def _require_whole(context: Context) -> None:
    """End the call if its stream broke off.

    gRPC ends the requests of a caller that is gone like those of one that has sent everything. Only to the latter can
    something still be sent.
    """
    await context.send_initial_metadata(())
