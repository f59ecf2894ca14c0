"""What a rollback of this home has cost."""

from __future__ import annotations

import asyncio
from bisect import bisect_right

from labmesh.v1 import node_pb2
from node.clock import milliseconds
from node.errors import FormatError
from node.rpc.calls.parts import Calls, Context
from node.rpc.faults import answered
from node.store.records import page_size


class RecoveryCalls(Calls):
    """Entries that are only commitments."""

    async def ListLost(self, request: node_pb2.ListLostRequest, context: Context) -> node_pb2.ListLostResponse:
        """Published entries without an opening, page by page."""
        return await answered(asyncio.to_thread(self._list_lost, request), context)

    def _list_lost(self, request: node_pb2.ListLostRequest) -> node_pb2.ListLostResponse:
        rebase, log, limit = self._parts.store.rebase, self._parts.ledger.log, page_size(request.page_size)
        found = rebase.read_unopened(log, start=_parse_start(request.page_token), limit=limit + 1)
        page, sizes = found[:limit], rebase.signed_sizes(log)
        seen = self._parts.store.losses.seen_among(log, [index for index, _ in page])
        entries = [
            node_pb2.LostEntry(
                index=index,
                commitment=commitment,
                checkpoint_size=sizes[bisect_right(sizes, index)],
                seen=index in seen,
            )
            for index, commitment in page
        ]
        token = f"i{page[-1][0] + 1}" if len(found) > limit else ""
        return node_pb2.ListLostResponse(entries=entries, next_page_token=token, total=rebase.count_unopened(log))

    async def ConfirmLost(self, request: node_pb2.ConfirmLostRequest, context: Context) -> node_pb2.ConfirmLostResponse:
        """A person has seen what is lost."""
        return await answered(asyncio.to_thread(self._confirm_lost, request.total), context)

    def _confirm_lost(self, total: int) -> node_pb2.ConfirmLostResponse:
        store, now_ms = self._parts.store, milliseconds(self._parts.clock())
        losses = store.losses.save_seen(self._parts.ledger.log, total=total, now_ms=now_ms)
        return node_pb2.ConfirmLostResponse(total=losses.total)


def _parse_start(token: str) -> int:
    if not token:
        return 0
    number = token[1:]
    if token[0] != "i" or not number.isascii() or not number.isdigit() or len(number) > 12:
        raise FormatError(f"{token[:40]!r} is not a cursor of this list", hint="take it from 'next' of the page before")
    return int(number)
