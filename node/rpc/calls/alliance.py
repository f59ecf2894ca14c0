"""Found, join and change the alliance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from labmesh.v1 import node_pb2
from node.core.alliance import Alliance, format_card, format_roster
from node.rpc.calls.parts import Calls, Context
from node.rpc.faults import answered


class AllianceCalls(Calls):
    """Rosters and cards."""

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

    async def _changed(self, context: Context, change: Callable[..., Alliance], *args: Any, **named: Any) -> Alliance:
        return await answered(asyncio.to_thread(change, *args, **named), context)
