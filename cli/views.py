"""Records as the command line shows them: the JSON of DESIGN section 9, and one line each for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from cli.output import print_table
from cli.texts import format_age

if TYPE_CHECKING:
    from labmesh.v1.node_pb2 import RecordView

LINE_LENGTH = 100

_STATUS = {1: "visible", 2: "restricted", 3: "erased", 4: "quarantined"}


def record_document(view: RecordView) -> dict[str, Any]:
    """The canonical record with its place: RECORD of section 9."""
    content = _erased_content(view) if view.HasField("erased") else _parse_content(view.record)
    return {
        **content,
        "id": view.id,
        "index": view.index,
        "origin": view.origin,
        "checkpoint_age_s": view.checkpoint_age_s,
    }


def pusher_document(view: RecordView) -> dict[str, Any]:
    """Which client pushed an own record (None: the socket), and when. The node alone knows that; it is not in the record."""
    from datetime import UTC, datetime

    from node.core.times import format_milliseconds

    pushed = datetime.fromtimestamp(view.pushed_ms / 1000, UTC)
    return {"pushed_by": view.pushed_by or None, "pushed_at": format_milliseconds(pushed)}


def record_status(view: RecordView) -> str:
    """What may be said about the record."""
    return _STATUS.get(int(view.status), "unknown")


def page_document(views: Iterable[RecordView], next_token: str) -> dict[str, Any]:
    """One page of records."""
    return {"records": [record_document(view) for view in views], "next": next_token or None}


def print_records(records: list[dict[str, Any]]) -> None:
    """A table of records for people."""
    print_table(
        ["id", "revision", "published", "verified ago", "content"],
        (
            (
                record["id"],
                record.get("revision"),
                str(record.get("published", ""))[:19].replace("T", " "),
                format_age(record["checkpoint_age_s"]),
                summarise(record),
            )
            for record in records
        ),
    )


def summarise(record: dict[str, Any]) -> str:
    """One line of what a record says. Bodies of quarantined records may have any shape."""
    body = record.get("body")
    try:
        if record.get("kind") == "capability":
            standards = ", ".join(str(method["standard"]) for method in body["methods"])  # type: ignore[index]
            line = " / ".join([str(body["object"]), str(body["parameter"]), standards])  # type: ignore[index]
        elif record.get("kind") == "result":
            sample, results = body["sample"], body["results"]  # type: ignore[index]
            line = f"{sample.get('description') or sample['id']}: {len(results)} result{'' if len(results) == 1 else 's'}"
        else:
            line = orjson.dumps(body).decode()
    except (AttributeError, KeyError, TypeError):
        line = orjson.dumps(body).decode()
    line = " ".join(line.split())
    return line if len(line) <= LINE_LENGTH else line[: LINE_LENGTH - 1] + "…"


def erased_document(view: RecordView) -> dict[str, Any]:
    """When and why a record was erased; who has deleted it and who has not is known to its author only."""
    return {
        "at": view.erased.at,
        "reason": view.erased.reason,
        "index": view.erased.index,
        "acknowledged": list(view.erased.acknowledged),
        "missing": list(view.erased.missing),
    }


def _erased_content(view: RecordView) -> dict[str, Any]:
    author, kind, key = view.id.split("/", 2)
    return {"author": author, "kind": kind, "key": key, "revision": view.erased.revision}


def _parse_content(raw: bytes) -> dict[str, Any]:
    """The record's members; none where it is erased, or quarantined for not being JSON."""
    try:
        content = orjson.loads(raw)
        orjson.dumps(content)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return {}
    return content if isinstance(content, dict) else {}
