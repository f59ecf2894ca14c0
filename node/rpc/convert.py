"""Between the values of the core and the messages of the wire."""

from __future__ import annotations

from labmesh.v1 import node_pb2, peer_pb2
from node.core.entry import LogPage, Opening
from node.disclosure import Acknowledgements
from node.push import PushOptions, PushOutcome
from node.store.erasures import ErasedRecord
from node.store.records import StoredRecord
from node.store.tables import STATUS_QUARANTINED


def page_to_wire(page: LogPage) -> peer_pb2.ReadLogResponse:
    """A page as a stream message."""
    openings = [
        peer_pb2.Opening(index=item.index, sequence=item.sequence, salt=item.salt, record=item.record)
        for item in page.openings
    ]
    return peer_pb2.ReadLogResponse(
        page=peer_pb2.LogPage(start=page.start, commitments=page.commitments, openings=openings, cursor=page.cursor)
    )


def message_from_wire(message: peer_pb2.ReadLogResponse) -> bytes | LogPage:
    """A stream message: an announced note, or a page. An empty message becomes an empty page, which is refused."""
    if message.HasField("checkpoint"):
        return message.checkpoint
    page = message.page
    openings = [Opening(item.index, item.salt, item.record, item.sequence) for item in page.openings]
    return LogPage(page.start, page.commitments, openings, page.cursor)


def options_from_wire(options: node_pb2.PushOptions) -> PushOptions:
    """Push options."""
    audience = tuple(sorted(set(options.audience.members))) if options.HasField("audience") else None
    return PushOptions(options.kind, audience, options.revise, options.keep_going)


def outcome_to_wire(outcome: PushOutcome) -> node_pb2.PushResponse:
    """What became of a push."""
    checkpoint = outcome.checkpoint
    return node_pb2.PushResponse(
        accepted=outcome.accepted,
        unsigned=not outcome.signed,
        unchanged=outcome.unchanged,
        rejected=outcome.rejected,
        checkpoint=node_pb2.PushedCheckpoint(origin=checkpoint.origin, size=checkpoint.size, root=checkpoint.root),
        errors=[node_pb2.PushError(record=error.record, path=error.path, message=error.message) for error in outcome.errors],
    )


def record_to_wire(stored: StoredRecord, age_s: float) -> node_pb2.RecordView:
    """A stored record as it is shown."""
    quarantined = stored.status == STATUS_QUARANTINED
    return node_pb2.RecordView(
        record=stored.record,
        id=stored.id,
        index=stored.index,
        origin=stored.origin,
        checkpoint_age_s=age_s,
        status=node_pb2.RECORD_STATUS_QUARANTINED if quarantined else node_pb2.RECORD_STATUS_VISIBLE,
        reason=stored.fault,
        granted=stored.granted,
    )


def erased_to_wire(erased: ErasedRecord, known: Acknowledgements, age_s: float) -> node_pb2.RecordView:
    """An erased record as it is shown."""
    return node_pb2.RecordView(
        id=erased.id,
        index=erased.index,
        origin=erased.origin,
        checkpoint_age_s=age_s,
        status=node_pb2.RECORD_STATUS_ERASED,
        erased=node_pb2.ErasureView(
            at=erased.erased_at,
            reason=erased.reason,
            index=erased.statement_index,
            revision=erased.revision,
            acknowledged=known.acknowledged,
            missing=known.missing,
        ),
    )
