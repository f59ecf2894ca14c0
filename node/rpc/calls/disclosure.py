"""Grant and erase records of this member."""

from __future__ import annotations

import asyncio
import logging

from labmesh.v1 import node_pb2
from node.core.names import parse_record_id
from node.rpc.access import current_caller
from node.rpc.calls.parts import Calls, Context
from node.rpc.faults import answered

logger = logging.getLogger(__name__)


class DisclosureCalls(Calls):
    """Who may read a record later, and what nobody may read any more."""

    async def GrantRecord(self, request: node_pb2.GrantRecordRequest, context: Context) -> node_pb2.GrantRecordResponse:
        """Open one record to further members."""

        async def answer() -> node_pb2.GrantRecordResponse:
            record_id, members = parse_record_id(request.id), list(request.members)
            outcome = await asyncio.to_thread(self._parts.disclosure.grant, record_id, members, client=current_caller().name)
            logger.info("event=granted index=%d members=%s", outcome.index, ",".join(outcome.granted))
            return node_pb2.GrantRecordResponse(
                id=outcome.id, index=outcome.index, granted=outcome.granted, readers=outcome.readers
            )

        return await answered(answer(), context)

    async def EraseRecord(self, request: node_pb2.EraseRecordRequest, context: Context) -> node_pb2.EraseRecordResponse:
        """Delete one record for good."""

        async def answer() -> node_pb2.EraseRecordResponse:
            record_id = parse_record_id(request.id)
            outcome = await asyncio.to_thread(
                self._parts.disclosure.erase,
                record_id,
                request.reason,
                preview=request.preview,
                client=current_caller().name,
            )
            if not request.preview:
                logger.info("event=erased entries=%d", len(outcome.erased))
            return node_pb2.EraseRecordResponse(erased=outcome.erased, already=outcome.already, readers=outcome.readers)

        return await answered(answer(), context)
