"""Tokens of lab systems on other machines."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from labmesh.v1 import node_pb2
from node.core.times import format_milliseconds
from node.rpc.access import current_caller
from node.rpc.calls.parts import Calls, Context
from node.rpc.faults import answered
from node.store.clients import StoredClient

logger = logging.getLogger(__name__)


class ClientCalls(Calls):
    """Issue tokens, list them, take them back."""

    async def AddClient(self, request: node_pb2.AddClientRequest, context: Context) -> node_pb2.AddClientResponse:
        """A token for a new client."""

        async def answer() -> node_pb2.AddClientResponse:
            name, role, kinds = request.name, request.role, tuple(request.kinds)
            token = await asyncio.to_thread(self._parts.clients.add, name, role, kinds)
            logger.info("event=client_added client=%s role=%s kinds=%s", name, role, ",".join(kinds))
            return node_pb2.AddClientResponse(token=token, remote_port=self._parts.remote_port())

        return await answered(answer(), context)

    async def ListClients(self, request: node_pb2.ListClientsRequest, context: Context) -> node_pb2.ListClientsResponse:
        """Every client that there ever was."""

        async def answer() -> node_pb2.ListClientsResponse:
            return node_pb2.ListClientsResponse(clients=map(client_to_wire, self._parts.clients.list()))

        return await answered(answer(), context)

    async def RevokeClient(self, request: node_pb2.RevokeClientRequest, context: Context) -> node_pb2.RevokeClientResponse:
        """Take a token back."""

        async def answer() -> node_pb2.RevokeClientResponse:
            client = await asyncio.to_thread(self._parts.clients.revoke, request.name)
            logger.info("event=client_revoked client=%s by=%s", client.name, current_caller().name)
            return node_pb2.RevokeClientResponse(client=client_to_wire(client))

        return await answered(answer(), context)


def client_to_wire(client: StoredClient) -> node_pb2.Client:
    """A client as it is shown: never with its token's hash."""
    return node_pb2.Client(
        name=client.name,
        role=client.role,
        kinds=client.kinds,
        created=_time(client.created_ms),
        last_used=_time(client.last_used_ms),
        revoked=_time(client.revoked_ms),
    )


def _time(moment_ms: int | None) -> str:
    return "" if moment_ms is None else format_milliseconds(datetime.fromtimestamp(moment_ms / 1000, UTC))
