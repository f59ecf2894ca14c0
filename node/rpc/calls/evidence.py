"""What this node can prove against members."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from labmesh.v1 import node_pb2
from node.core.times import format_milliseconds
from node.held_evidence import HeldEvidence
from node.rpc.calls.parts import Calls, Context
from node.rpc.faults import answered

CHUNK = 1024 * 1024


class EvidenceCalls(Calls):
    """List and export evidence."""

    async def ListEvidence(self, request: node_pb2.ListEvidenceRequest, context: Context) -> node_pb2.ListEvidenceResponse:
        """Every piece, the oldest first."""
        return node_pb2.ListEvidenceResponse(evidence=[_view(piece) for piece in self._parts.evidence.pieces()])

    async def ExportEvidence(
        self, request: node_pb2.ExportEvidenceRequest, context: Context
    ) -> AsyncIterator[node_pb2.ExportEvidenceResponse]:
        """One piece, as a file."""
        _, raw = await answered(asyncio.to_thread(self._parts.evidence.export, request.id), context)
        for start in range(0, len(raw), CHUNK):
            yield node_pb2.ExportEvidenceResponse(chunk=raw[start : start + CHUNK])


def _view(piece: HeldEvidence) -> node_pb2.EvidenceView:
    return node_pb2.EvidenceView(
        id=piece.id,
        kind=piece.kind,
        member=piece.member,
        found=format_milliseconds(datetime.fromtimestamp(piece.found_ms / 1000, UTC)),
        summary=piece.judgement.summary,
        settled=piece.settled,
    )
