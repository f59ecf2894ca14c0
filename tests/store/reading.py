"""What a store shows: its records, pages and hits."""

from __future__ import annotations

from typing import Any

from node.core.entry import LogPage, split_commitments
from node.core.names import RecordId
from node.store import Store
from node.store.logs import LogState
from node.store.records import Filter


def result_id(key: str, revision: int | None = None, author: str = "jinan") -> RecordId:
    return RecordId(author, "result", key, revision)


def keys(records: list[Any]) -> list[str]:
    return [stored.key for stored in records]


def page_sizes(page: LogPage) -> tuple[int, int]:
    """Commitments and openings in a page."""
    return len(split_commitments(page.commitments)), len(page.openings)


def search_all(store: Store, expression: str, chosen: Filter | None = None, *, limit: int = 1000) -> list[str]:
    """The ids of every hit, page by page."""
    found: list[str] = []
    token: str | None = None
    while True:
        page = store.records.search(expression, chosen or Filter(), limit=limit, token=token)
        assert len(page.records) <= limit
        found += [f"{stored.id}@{stored.revision}" for stored in page.records]
        if (token := page.next_token) is None:
            return found


def late_pages(store: Store, log: LogState, *, before: int, after: int, reader: str) -> list[LogPage]:
    """What became readable late, page by page."""
    return list(store.late.late_pages(log.id, before=before, after=after, upto=log.last_sequence, reader=reader))


def index_all(store: Store) -> None:
    while store.search.advance():
        pass


ANY = 'words : "wj"'
