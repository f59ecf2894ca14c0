"""What a home that was rolled back shows, and records that peers hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from node.core.names import RecordId
from node.lab.text import query_expression
from node.store.records import Filter
from tests.alliance import SimulatedAlliance, SimulatedMember, list_all
from tests.builders import build_labs

JINAN, QINGDAO = build_labs(2)


def publish(alliance: SimulatedAlliance, *records: bytes, to: Sequence[str] = ("qingdao",), **options: Any) -> None:
    """Push records of jinan that these peers hold then."""
    alliance["jinan"].push(*records, **options)
    for peer in to:
        alliance.catch_up(peer, "jinan")


def shown(member: SimulatedMember, key: str) -> dict[str, Any]:
    """The newest revision of a result."""
    stored = member.store.records.find(RecordId(member.name, "result", key))
    assert stored is not None
    content: dict[str, Any] = orjson.loads(stored.record)
    return content


def keys(member: SimulatedMember) -> list[str]:
    return [stored.key for stored in list_all(member.store)]


def state(member: SimulatedMember) -> tuple[bool, int, int]:
    """Whether it is confirmed, how much is signed, and how much there is."""
    log = member.ledger.log
    return member.confirmation.confirmed, log.signed_size, log.head_size


def found(member: SimulatedMember, words: str) -> list[str]:
    page = member.store.records.search(query_expression(words), Filter(), limit=50)
    return [stored.key for stored in page.records]
