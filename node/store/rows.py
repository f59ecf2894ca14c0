"""Rows of the table `opening`, as tuples in the order of `OPENING_COLUMNS`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from node.core.mirror import AcceptedOpening
from node.core.record import EVERYONE, Record
from node.store.tables import STATUS_NOT_UNDERSTOOD, STATUS_QUARANTINED, STATUS_VISIBLE, position_of

OPENING_COLUMNS = (
    "position",
    "log_id",
    "sequence",
    "status",
    "kind",
    "key",
    "revision",
    "audience",
    "fault",
    "salt",
    "record",
)

OpeningTuple = tuple[int, int, int, int, str | None, str | None, int | None, str, str, bytes, bytes]


def format_audience(audience: Sequence[str]) -> str:
    """The record's own audience as the database keeps it."""
    if "*" in audience:
        return "*"
    return f",{','.join(audience)}," if audience else ""


def widen_audience(column: str, members: Iterable[str]) -> str:
    """The audience with these members granted: they stand between plus signs, behind the record's own."""
    own, granted = split_audience(column)
    wider = sorted({*granted, *members} - set(own))
    if own == EVERYONE or not wider:
        return column
    return f"{format_audience(own)}+{'+'.join(wider)}+"


def split_audience(column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The record's own audience, and the members to whom it was granted later."""
    if column == "*":
        return EVERYONE, ()
    own, _, granted = column.partition("+")
    return tuple(filter(None, own.split(","))), tuple(filter(None, granted.split("+")))


def parse_audience(column: str) -> tuple[str, ...]:
    """Everybody who may read beside the author: `("*",)`, or sorted member ids."""
    own, granted = split_audience(column)
    return own if own == EVERYONE else tuple(sorted({*own, *granted}))


def opening_tuple(position: int, log_id: int, sequence: int, salt: bytes, record: Record) -> OpeningTuple:
    """The row of a valid record."""
    content = record.content
    status = STATUS_VISIBLE if record.understood else STATUS_NOT_UNDERSTOOD
    audience = format_audience(content["audience"])
    return (
        position,
        log_id,
        sequence,
        status,
        content["kind"],
        content["key"],
        content["revision"],
        audience,
        "",
        salt,
        record.raw,
    )


def accepted_tuple(log_id: int, sequence: int, accepted: AcceptedOpening) -> OpeningTuple:
    """The row of an opening that a mirror accepted or quarantined."""
    opening = accepted.opening
    position = position_of(log_id, opening.index)
    if accepted.record is not None:
        return opening_tuple(position, log_id, sequence, opening.salt, accepted.record)
    kind, key, revision = _claimed_id(opening.record)
    fault = accepted.fault[:1000]
    return (
        position, log_id, sequence, STATUS_QUARANTINED, kind, key, revision, "", fault, opening.salt, opening.record
    )  # fmt: skip


def _claimed_id(raw: bytes) -> tuple[str | None, str | None, int | None]:
    """The id that quarantined bytes claim, so that `show` can say why the record is not there."""
    try:
        content = orjson.loads(raw)
        kind, key, revision = content["kind"], content["key"], content["revision"]
    except (ValueError, TypeError, KeyError):
        return None, None, None
    if not isinstance(kind, str) or not isinstance(key, str) or type(revision) is not int or not 0 < revision < 2**53:
        return None, None, None
    return kind[:40], key[:400], revision
