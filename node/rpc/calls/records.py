"""Push, list, search, show and prove records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from labmesh.v1 import node_pb2
from node.audit import build_bundle
from node.clock import milliseconds
from node.core.bundle import format_bundle
from node.core.names import RecordId, parse_kind, parse_member, parse_record_id
from node.core.standing import build_push_warnings
from node.errors import NotFoundError, UserError
from node.lab.text import query_expression
from node.rpc.access import current_caller
from node.rpc.calls.parts import Calls, Context
from node.rpc.convert import erased_to_wire, options_from_wire, outcome_to_wire, record_to_wire
from node.rpc.faults import answered
from node.store.records import Filter, RecordPage, StoredRecord, page_size

logger = logging.getLogger(__name__)

CHUNK = 1024 * 1024


class RecordCalls(Calls):
    """What lab systems ask for most."""

    async def Push(self, request_iterator: AsyncIterator[node_pb2.PushRequest], context: Context) -> node_pb2.PushResponse:
        """Check records as they arrive; append when all are there."""

        async def answer() -> node_pb2.PushResponse:
            caller, call = current_caller(), None
            async for message in request_iterator:
                if message.HasField("options"):
                    if call is not None:
                        raise UserError("the options of a push come once")
                    caller.require_kind(message.options.kind)
                    call = self._parts.ledger.begin_push(options_from_wire(message.options))
                elif call is None:
                    raise UserError("a push begins with its options")
                else:
                    await asyncio.to_thread(call.add, message.batch.records)
            if call is None:
                raise UserError("a push without options")
            await _require_whole(context)
            self._parts.clients.require_active(caller)
            outcome = await asyncio.to_thread(self._parts.ledger.push, call, client=caller.name)
            logger.info(
                "event=pushed accepted=%d unchanged=%d rejected=%d size=%d arrived=%.6f client=%s",
                outcome.accepted,
                outcome.unchanged,
                outcome.rejected,
                outcome.checkpoint.size,
                call.arrived.timestamp(),
                caller.name,
            )
            answer = outcome_to_wire(outcome)
            if answer.unsigned:
                answer.waits_for = await asyncio.to_thread(self._describe_waiting)
            membership = self._parts.membership
            answer.warnings.extend(build_push_warnings(membership.alliance, membership.member, membership.identity_key))
            return answer

        return await answered(answer(), context)

    async def ListRecords(self, request: node_pb2.ListRecordsRequest, context: Context) -> node_pb2.ListRecordsResponse:
        """Newest revisions, page by page."""

        async def answer() -> node_pb2.ListRecordsResponse:
            chosen, limit = self._filter(request.kind, request.author), page_size(request.page_size)
            page = await asyncio.to_thread(
                self._parts.store.records.list, chosen, limit=limit, token=request.page_token or None
            )
            self._require_known(page, request.kind, request.author)
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
            self._require_known(page, request.kind, request.author)
            return node_pb2.SearchRecordsResponse(records=self._views(page), next_page_token=page.next_token or "")

        return await answered(answer(), context)

    async def GetRecord(self, request: node_pb2.GetRecordRequest, context: Context) -> node_pb2.GetRecordResponse:
        """One record."""

        async def answer() -> node_pb2.GetRecordResponse:
            record_id = parse_record_id(request.id)
            current_caller().require_kind(record_id.kind)
            return node_pb2.GetRecordResponse(record=await asyncio.to_thread(self._find, record_id))

        return await answered(answer(), context)

    async def ExportBundle(
        self, request: node_pb2.ExportBundleRequest, context: Context
    ) -> AsyncIterator[node_pb2.ExportBundleResponse]:
        """A bundle, in pieces."""
        raw = await answered(asyncio.to_thread(self._build_bundle, request.id), context)
        for i in range(0, len(raw), CHUNK):
            yield node_pb2.ExportBundleResponse(chunk=raw[i : i + CHUNK])

    def _build_bundle(self, text: str) -> bytes:
        parts, record_id = self._parts, parse_record_id(text)
        current_caller().require_kind(record_id.kind)
        bundle = build_bundle(
            parts.store,
            parts.membership.joined,
            record_id,
            member=parts.membership.member,
            ceiling=parts.confirmation.ceiling,
            remedy=parts.confirmation.remedy,
        )
        return format_bundle(bundle)

    def _filter(self, kind: str, author: str) -> Filter:
        caller = current_caller()
        if kind:
            caller.require_kind(parse_kind(kind))
        return Filter(kind or None, parse_member(author) if author else None, caller.kinds)

    def _require_known(self, page: RecordPage, kind: str, author: str) -> None:
        """Refuse a kind or an author of which there is nothing because it does not exist.

        Peers may have kinds that are unknown here; a removed member still has records.
        """
        if page.records:
            return
        if kind:
            self._parts.kinds.newest_schema(kind)
        membership = self._parts.membership
        known = {membership.member} if membership.alliance is None else membership.alliance.roster.members.keys()
        if author and author not in known:
            raise NotFoundError(f"there is no member {author}", hint="type: labmesh roster show")

    def _add_pusher(self, view: node_pb2.RecordView, stored: StoredRecord) -> None:
        """Say who pushed an own record; of others' records there is no push here."""
        push = self._parts.store.clients.find_push(stored.log_id, stored.index)
        if push is not None:
            view.pushed_by, view.pushed_ms = push.client, push.pushed_ms

    def _find(self, record_id: RecordId) -> node_pb2.RecordView:
        stored = self._parts.store.records.find(record_id)
        if stored is not None:
            view = self._view(stored)
            self._add_pusher(view, stored)
            return view
        erased = self._parts.store.erasures.find(record_id)
        if erased is None:
            raise NotFoundError(
                f"there is no record {record_id} here, or this member may not read it", hint="type: labmesh list"
            )
        age_s = self._age_s(erased.author, erased.head_ms)
        return erased_to_wire(erased, self._parts.disclosure.acknowledgements(erased), age_s)

    def _views(self, page: RecordPage) -> list[node_pb2.RecordView]:
        return [self._view(stored) for stored in page.records]

    def _view(self, stored: StoredRecord) -> node_pb2.RecordView:
        return record_to_wire(stored, self._age_s(stored.author, stored.head_ms))

    def _age_s(self, author: str, head_ms: int) -> float:
        """Seconds since this node last verified that the author's log is as it publishes it."""
        if author == self._parts.membership.member:
            return 0.0
        state = self._parts.peer_states().get(author)
        seen_ms = max(head_ms, state.last_contact_ms if state else 0)
        return max(0.0, (milliseconds(self._parts.clock()) - seen_ms) / 1000)


async def _require_whole(context: Context) -> None:
    """End the call if its stream broke off.

    gRPC ends the requests of a caller that is gone like those of one that has sent everything. Only to the latter can
    something still be sent.
    """
    await context.send_initial_metadata(())
