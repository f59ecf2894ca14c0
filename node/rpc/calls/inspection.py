"""Audit a log on request, while the node works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from labmesh.v1 import node_pb2
from node.core.kinds import Kinds
from node.core.names import parse_member
from node.inspection import Inspector, Progress, Report
from node.rpc.calls.parts import Calls, Context
from node.rpc.faults import answered
from node.schemas import load_schemas


class InspectionCalls(Calls):
    """What an auditor asks a node about the logs it holds."""

    async def AuditLog(
        self, request: node_pb2.AuditLogRequest, context: Context
    ) -> AsyncIterator[node_pb2.AuditLogResponse]:
        """Each step runs on a thread of its own and reads for a moment only, so everything else goes on."""
        store = self._parts.store.inspection

        def begin() -> Inspector:
            return Inspector(store, Kinds(load_schemas()), parse_member(request.member))

        steps = (await answered(asyncio.to_thread(begin), context)).run()
        while True:
            step = await answered(asyncio.to_thread(next, steps), context)
            yield _to_wire(step)
            if isinstance(step, Report):
                return


def _to_wire(step: Progress | Report) -> node_pb2.AuditLogResponse:
    if isinstance(step, Progress):
        return node_pb2.AuditLogResponse(progress=node_pb2.AuditProgress(done=step.done, total=step.total))
    checks = [
        node_pb2.AuditCheck(name=check.name, ok=check.ok, count=check.count, detail=check.detail) for check in step.checks
    ]
    report = node_pb2.AuditReport(
        member=step.member,
        origin=step.origin,
        size=step.size,
        root=step.root,
        verified=step.verified,
        checks=checks,
    )
    return node_pb2.AuditLogResponse(report=report)
