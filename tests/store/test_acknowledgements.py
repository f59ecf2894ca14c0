"""What peers say they have deleted: from readers only, once, and without a write when it is said again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.disclosing import Author


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    """An author with an empty log."""
    made = Author(tmp_path / "jinan")
    yield made
    made.store.close()


def test_acknowledgements_count_once_and_from_readers_only(author: Author) -> None:
    author.push("A", audience=["qingdao"])
    author.push("B")
    author.erase("result/A")
    erasures, log_id = author.store.erasures, author.log.id
    assert erasures.save_acknowledgements(log_id, [0, 1, 2, 99], member="qingdao", now_ms=1) == [0]
    assert erasures.save_acknowledgements(log_id, [0], member="qingdao", now_ms=2) == [0]
    assert erasures.save_acknowledgements(log_id, [0], member="weifang", now_ms=2) == []
    assert erasures.acknowledged_by(log_id, 0) == ["qingdao"]


def test_what_is_said_again_writes_nothing(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer says all of it again on each connection."""
    for key in ("A", "B"):
        author.push(key)
        author.erase(f"result/{key}")
    erasures, log_id, write = author.store.erasures, author.log.id, author.store.database.write
    writes: list[str] = []

    def note_write() -> AbstractContextManager[Connection]:
        writes.append("write")
        return write()

    monkeypatch.setattr(author.store.database, "write", note_write)
    for indexes, count in (([0], 1), ([0], 1), ([0, 2], 2), ([2, 0], 2), ([1, 99], 2)):
        taken = erasures.save_acknowledgements(log_id, indexes, member="qingdao", now_ms=1)
        assert (taken, len(writes)) == ([index for index in sorted(indexes) if index in (0, 2)], count)
    assert erasures.save_acknowledgements(log_id, [0], member="weifang", now_ms=2) == [0]
    assert [erasures.acknowledged_by(log_id, index) for index in (0, 2)] == [["qingdao", "weifang"], ["qingdao"]]
