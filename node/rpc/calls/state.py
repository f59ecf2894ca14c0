"""The state of the node itself."""

from __future__ import annotations

import asyncio

from labmesh.v1 import node_pb2
from node.errors import UnconfirmedError
from node.rpc.access import current_caller, visible_status
from node.rpc.calls.parts import Calls, Context
from node.rpc.faults import answered


class StateCalls(Calls):
    """What it is doing, and what a person decides for it."""

    async def GetStatus(self, request: node_pb2.GetStatusRequest, context: Context) -> node_pb2.GetStatusResponse:
        """The state of this node."""
        return await answered(asyncio.to_thread(self._status), context)

    def _status(self) -> node_pb2.GetStatusResponse:
        return visible_status(self._parts.build_status(), current_caller())

    async def ConfirmLog(self, request: node_pb2.ConfirmLogRequest, context: Context) -> node_pb2.ConfirmLogResponse:
        """Publish without waiting for peers."""

        async def answer() -> node_pb2.ConfirmLogResponse:
            await asyncio.to_thread(self._override)
            self._parts.on_confirm()
            size, waiting = self._parts.confirmation.ceiling, self._parts.ledger.log.unsigned
            waits_for = await asyncio.to_thread(self._describe_waiting) if waiting else ""
            return node_pb2.ConfirmLogResponse(size=size, waiting=waiting, waits_for=waits_for)

        return await answered(answer(), context)

    def _override(self) -> None:
        """Sign what waits, on a person's word.

        Raises:
            UnconfirmedError: it is no risk any more, but known, that this home is older than what it published, or that its
                log has two histories. Then the word does not stand for later either.
        """
        confirmation = self._parts.confirmation
        confirmation.override()
        if not confirmation.confirmed:
            said = (
                confirmation.outdated
                or confirmation.conflict
                or "a peer holds entries of this log that this home does not have"
            )
            raise UnconfirmedError(f"{said}, so nothing more is published", hint=confirmation.remedy)
        self._parts.ledger.sign_head()
