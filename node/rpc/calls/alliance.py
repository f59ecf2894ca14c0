"""Found, join and change the alliance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from labmesh.v1 import node_pb2
from node.accusation import accusing_proposal, import_accusing
from node.core.alliance import Alliance, format_card, format_roster
from node.core.amendment import (
    AddMembers,
    Amendment,
    NameSurvivor,
    RemoveMember,
    Renew,
    ReplaceIdentity,
    SeatCouncil,
    SetQuorum,
    SetThreshold,
)
from node.core.roster import Head
from node.ending import choose_end
from node.errors import UnconfirmedError, UserError
from node.membership import Ballot
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
        membership, keeper = self._parts.membership, self._parts.evidence
        rosters, cards, fingerprint = list(request.rosters), list(request.cards), request.fingerprint or None
        alliance = await self._changed(
            context, import_accusing, membership, lambda: keeper, rosters, cards, fingerprint=fingerprint
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
        ballot = await self._voted(context, self._parts.membership.amend, AddMembers(tuple(request.cards)))
        return node_pb2.AddMembersResponse(**_outcome(ballot))

    async def RemoveMember(self, request: node_pb2.RemoveMemberRequest, context: Context) -> node_pb2.RemoveMemberResponse:
        """The next roster, without a member."""
        size = request.head_size if request.HasField("head_size") else None
        ballot = await self._voted(context, self._remove, request.member, size)
        return node_pb2.RemoveMemberResponse(**_outcome(ballot))

    async def AmendRoster(self, request: node_pb2.AmendRosterRequest, context: Context) -> node_pb2.AmendRosterResponse:
        """The next roster, with another change."""
        ballot = await self._voted(context, lambda: self._parts.membership.amend(amendment_from_wire(request)))
        return node_pb2.AmendRosterResponse(**_outcome(ballot))

    async def SignRoster(self, request: node_pb2.SignRosterRequest, context: Context) -> node_pb2.SignRosterResponse:
        """A proposal, with this member's signature."""
        size = request.head_size if request.HasField("head_size") else None
        ballot = await self._voted(context, self._sign, request.file, size)
        return node_pb2.SignRosterResponse(**_outcome(ballot))

    async def WithdrawRoster(
        self, request: node_pb2.WithdrawRosterRequest, context: Context
    ) -> node_pb2.WithdrawRosterResponse:
        """Give up a roster that this member has signed."""

        async def answer() -> node_pb2.WithdrawRosterResponse:
            self._require_confirmed()
            version = await asyncio.to_thread(self._parts.membership.withdraw_proposal, request.hash)
            return node_pb2.WithdrawRosterResponse(version=version)

        return await answered(answer(), context)

    def _sign(self, proposal: bytes, head_size: int | None) -> Ballot:
        with accusing_proposal(self._parts.membership, lambda: self._parts.evidence, proposal):
            return self._parts.membership.sign_proposal(proposal, head_size=head_size)

    def _remove(self, member: str, size: int | None) -> Ballot:
        membership = self._parts.membership
        head = choose_end(self._parts.store, membership.joined, member, size)
        return membership.amend(RemoveMember(member, head, by_hand=size is not None))

    async def _voted(self, context: Context, change: Callable[..., Ballot], *args: Any) -> Ballot:
        """Make a change. A roster that grows must not make this node unconfirmed: it is no news from outside."""

        async def answer() -> Ballot:
            self._require_confirmed()
            ballot = await asyncio.to_thread(change, *args)
            if ballot.complete:
                self._parts.confirmation.keep()
            return ballot

        return await answered(answer(), context)

    def _require_confirmed(self) -> None:
        """Refuse to sign, or to withdraw, a roster of a version that this home may have signed before it was rolled back.

        Raises:
            UnconfirmedError: too few peers have told what they hold, and with it their rosters.
        """
        if not self._parts.confirmation.confirmed:
            raise UnconfirmedError(
                "this home may be older than what it has signed, so no roster is signed: two of one version are misconduct",
                hint=self._parts.confirmation.remedy,
            )

    async def _changed(self, context: Context, change: Callable[..., Alliance], *args: Any, **named: Any) -> Alliance:
        return await answered(asyncio.to_thread(change, *args, **named), context)


def amendment_from_wire(request: node_pb2.AmendRosterRequest) -> Amendment:
    """The change that a request names.

    Raises:
        UserError: it names none, for example one that only a newer version knows.
    """
    match request.WhichOneof("change"):
        case "council":
            return SeatCouncil(tuple(request.council.members), request.council.threshold or None)
        case "threshold":
            return SetThreshold(request.threshold)
        case "quorum":
            return SetQuorum(request.quorum or None)
        case "identity":
            return ReplaceIdentity(request.identity.member, request.identity.card)
        case "survivor":
            return NameSurvivor(request.survivor.member, Head(request.survivor.size, request.survivor.root))
        case "renewal":
            return Renew()
        case None:
            raise UserError(
                "the request names no change that this version knows", hint="is the node older than the command?"
            )


def _outcome(ballot: Ballot) -> dict[str, Any]:
    """The fields that every answer to a change has."""
    proposal = node_pb2.RosterProposal(file=ballot.proposal, have=ballot.have, needed=ballot.needed)
    return {"version": ballot.alliance.roster.version, "fingerprint": ballot.alliance.fingerprint, "proposal": proposal}
