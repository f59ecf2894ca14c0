"""Looking a record up by its id costs the same, however many there are: by index, never by reading every opening."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import event

from node.core.names import parse_record_id
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts

IDS = ["jinan/result/WJ-000003", "jinan/result/WJ-000003@1", "jinan/result/NOT-THERE", "nobody/result/WJ-000003"]


@pytest.fixture
def author(tmp_path) -> Iterator[SimulatedMember]:
    alliance = SimulatedAlliance(tmp_path, 1)
    alliance["jinan"].push(*drafts(20))
    yield alliance["jinan"]
    alliance.close()


@pytest.mark.parametrize("text", IDS)
@pytest.mark.parametrize("name", ["find", "revisions", "duplicates"])
def test_an_id_is_found_by_index(author: SimulatedMember, name: str, text: str) -> None:
    asked = []

    @event.listens_for(author.store.database._reader, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, _context, _many):
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    getattr(author.store.records, name)(parse_record_id(text))
    with closing(sqlite3.connect(author.store.database.path)) as connection:
        plans = [
            connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall() for statement, parameters in asked
        ]
    steps = [row[3] for plan in plans for row in plan]
    assert any(step.startswith("SEARCH opening USING INDEX") for step in steps), steps
    assert not any(step.startswith("SCAN opening") for step in steps), steps
