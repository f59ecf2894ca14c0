"""Grants and erasures: records by which an author says who else may read an earlier entry of its log, and what is gone.

Both name their target by index and by id with its revision; the key of the record is the index. Whether the id is that of
the entry can be judged only by who holds its opening. So a statement that is wrong is a valid record without effect,
never a reason for quarantine: its status must not depend on what a reader happens to hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node.core.canonical import Json
from node.core.names import RecordId, parse_record_id
from node.errors import FormatError

GRANT = "grant"
ERASURE = "erasure"
STATEMENT_KINDS = (GRANT, ERASURE)
SCHEMAS = {GRANT: "grant/1", ERASURE: "erasure/1"}
REASON_LENGTH_MAX = 1000


@dataclass(frozen=True, slots=True)
class Grant:
    """`members` may read entry `index`, which is the record `id`."""

    index: int
    id: RecordId
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Erasure:
    """The opening of entry `index`, which is the record `id`, is to be deleted wherever it is held."""

    index: int
    id: RecordId
    reason: str


def parse_statement(content: Mapping[str, Json], *, index: int) -> Grant | Erasure | None:
    """What a grant or erasure says; None where it has no effect.

    Args:
        content: a valid record of one of the two kinds, under a schema that is known here.
        index: its own index in the log.
    """
    body, author = content["body"], content["author"]
    target = body["index"]
    if target >= index or content["key"] != str(target):
        return None
    try:
        record_id = parse_record_id(body["id"])
    except FormatError:
        return None
    if record_id.author != author or record_id.revision is None or record_id.kind in STATEMENT_KINDS:
        return None
    if content["schema"] == SCHEMAS[GRANT]:
        members = body["to"]
        return Grant(target, record_id, tuple(members)) if members == sorted(set(members)) else None
    return Erasure(target, record_id, body["reason"]) if content["schema"] == SCHEMAS[ERASURE] else None


def grant_body(index: int, record_id: RecordId, members: Sequence[str]) -> dict[str, Json]:
    """Body of a grant; `record_id` has a revision."""
    return {"index": index, "id": str(record_id), "to": sorted(set(members))}


def erasure_body(index: int, record_id: RecordId, reason: str) -> dict[str, Json]:
    """Body of an erasure; `record_id` has a revision."""
    return {"index": index, "id": str(record_id), "reason": reason}


def relocate_statement(content: Mapping[str, Json], moved: Mapping[int, int]) -> dict[str, Json] | None:
    """The content of a statement that was never published, once its target stands at another index of the log.

    Returns None when the target is not in `moved`: it is in the log no more.
    """
    target = moved.get(content["body"]["index"])
    if target is None:
        return None
    return {**content, "key": str(target), "body": {**content["body"], "index": target}}
