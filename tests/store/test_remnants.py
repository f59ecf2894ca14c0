"""What SQLite leaves of deleted rows in a file, and that writing the file anew leaves nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

from sqlalchemy import delete

from node.store.rows import OPENING_COLUMNS
from node.store.tables import OpeningRow, table_of
from tests.new_stores import new_store

ROWS, DELETED, BATCH = 1500, 700, 20


def test_copies_that_balancing_left_are_gone_after_a_rewrite(tmp_path: Path) -> None:
    """Rows that come between others split pages, and a split leaves copies where no page says that anything is.

    On the SQLite this was written with, `secure_delete` alone leaves the salts of some of these rows in the file.
    """
    store, chance = new_store(tmp_path / "home"), random.Random(1)
    order = chance.sample(range(ROWS), ROWS)
    salts = [os.urandom(32) for _ in range(ROWS)]
    records = [os.urandom(chance.choice([100, 600, 1500])) for _ in range(ROWS)]
    rows = [(i, 0, i, 0, "result", f"K{i}", 1, "*", "", salts[i], records[i]) for i in order]
    for start in range(0, ROWS, BATCH):
        with store.database.write() as connection:
            store.database.insert_rows(connection, table_of(OpeningRow), OPENING_COLUMNS, rows[start : start + BATCH])
    doomed = chance.sample(range(ROWS), DELETED)
    with store.database.write() as connection:
        for i in doomed:
            connection.execute(delete(table_of(OpeningRow)).where(table_of(OpeningRow).c.position == i))

    def left() -> list[int]:
        raw = b"".join(path.read_bytes() for path in (tmp_path / "home").iterdir())
        return [i for i in doomed if salts[i] in raw or records[i][:40] in raw or records[i][-40:] in raw]

    assert store.database.truncate()
    assert left() != []
    store.database.rewrite()
    assert store.database.truncate()
    assert left() == []
    assert store.logs.find_log("x") is None
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM opening").scalar() == ROWS - DELETED
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    store.close()
