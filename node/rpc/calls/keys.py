"""Change this member's keys."""

from __future__ import annotations

import asyncio

from labmesh.v1 import node_pb2
from node.core.alliance import format_card
from node.core.checkpoint import SIZE_MAX
from node.errors import UserError
from node.rpc.calls.parts import Calls, Context
from node.rpc.faults import answered


class KeyCalls(Calls):
    """Rotate, revoke and give up."""

    async def RotateKey(self, request: node_pb2.RotateKeyRequest, context: Context) -> node_pb2.RotateKeyResponse:
        """A new key, and the card that names it."""

        async def answer() -> node_pb2.RotateKeyResponse:
            rotation = self._parts.rotation
            await asyncio.to_thread(rotation.rotate, request.role, without_peers=request.without_peers)
            waiting = self._parts.rotation.tls_waits_for() if request.role == "tls" else []
            return node_pb2.RotateKeyResponse(card=self._own_card(), waiting_for=waiting)

        return await answered(answer(), context)

    async def RevokeLogKey(self, request: node_pb2.RevokeLogKeyRequest, context: Context) -> node_pb2.RevokeLogKeyResponse:
        """The end of the log key at an earlier size, and the card that says so."""

        async def answer() -> node_pb2.RevokeLogKeyResponse:
            if request.size > SIZE_MAX:
                raise UserError(f"{request.size} is not a log size")
            revoke = self._parts.rotation.revoke_log
            await asyncio.to_thread(revoke, request.size, without_peers=request.without_peers)
            self._parts.on_confirm()  # a thief's history may have been all that kept this node unconfirmed
            return node_pb2.RevokeLogKeyResponse(card=self._own_card())

        return await answered(answer(), context)

    async def AbandonIdentity(
        self, _request: node_pb2.AbandonIdentityRequest, context: Context
    ) -> node_pb2.AbandonIdentityResponse:
        """The end of a new identity key that waits."""

        async def answer() -> node_pb2.AbandonIdentityResponse:
            await asyncio.to_thread(self._parts.rotation.abandon_identity)
            return node_pb2.AbandonIdentityResponse()

        return await answered(answer(), context)

    def _own_card(self) -> bytes:
        return format_card(self._parts.membership.own_card)
