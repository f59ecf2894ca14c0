"""What an ended witness key signed for later is forgotten at a cost that does not grow with the log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import event

from node.core.quorums import Quorum
from node.store import Store
from node.store.seen import SIGNATURE_CHARACTERS, load_mark
from node.store.tables import CheckpointRow, CosignatureRow, LogRow, table_of
from tests.new_stores import new_store
from tests.store.filling import OwnLog

WITNESSES = ("jinan", "qingdao", "yantai")
END_S = 1000
RETIRED = {"jinan".rjust(8, "-"): END_S}
MET, UNMET = (Quorum(count, frozenset(WITNESSES), None) for count in (3, 4))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = new_store(tmp_path / "home")
    yield made
    made.close()


def fill(store: Store, sizes: Collection[int], times: Mapping[int, int] | None = None) -> int:
    """Checkpoints of these sizes, each cosigned by all at its size or the time given; returns the number of the log."""
    log_id = OwnLog(store).append_numbered(1).id
    rows = [
        (
            log_id,
            size,
            name,
            (times or {}).get(size, size),
            name.rjust(8, "-") + f"{name}{size}".rjust(SIGNATURE_CHARACTERS, "-"),
        )
        for size in sizes
        for name in WITNESSES
    ]
    notes = [(log_id, size, b"", 0) for size in sizes if size > 1]
    with store.database.write() as connection:
        store.database.insert_rows(connection, table_of(CheckpointRow), ("log_id", "size", "note", "made_ms"), notes)
        columns = ("log_id", "size", "witness", "time", "line")
        store.database.insert_rows(connection, table_of(CosignatureRow), columns, rows)
    return log_id


def mark_of(store: Store, log_id: int) -> int:
    with store.database.read() as connection:
        return load_mark(connection, log_id)


def held(store: Store) -> dict[str, int]:
    with store.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT witness, count(*) FROM cosignature GROUP BY witness")
        return {row[0]: row[1] for row in rows}


class Steps:
    """Counts the instructions that SQLite runs on the writing connection."""

    def __init__(self, store: Store) -> None:
        self.count = 0
        with store.database._writer.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.set_progress_handler(self._note, 1)

    def _note(self) -> int:
        self.count += 1
        return 0


@pytest.mark.parametrize("quorum", [MET, UNMET])
def test_a_cosignature_gives_way_at_the_same_cost_in_a_log_of_any_length(tmp_path: Path, quorum: Quorum) -> None:
    counts = []
    for length in (20, 2000):
        store = new_store(tmp_path / f"{length}")
        log_id = fill(store, range(1, length + 1))
        steps = Steps(store)
        store.checkpoints.save_cosignatures(log_id, 7, {}, void=["jinan"], quorums=[quorum])
        counts.append(steps.count)
        assert mark_of(store, log_id) == (7 if quorum is MET else 0)
        assert store.checkpoints.find_seen_size(log_id, [quorum]) == (length if quorum is MET else 0)
        assert held(store) == {"jinan": length - 1, "qingdao": length, "yantai": length}
        store.close()
    assert 0 < counts[1] < counts[0] + 100, "a page more of the tree, and not a scan"


def test_the_mark_stays_at_the_largest_that_was_seen(store: Store) -> None:
    log_id = fill(store, range(1, 10))
    for size in (5, 3, 6):
        store.checkpoints.save_cosignatures(log_id, size, {}, void=["jinan"], quorums=[MET])
    assert mark_of(store, log_id) == 6
    store.checkpoints.forget_outlived(log_id, range(1, 10), "jinan", {next(iter(RETIRED)): 0}, quorums=[MET])
    assert mark_of(store, log_id) == store.checkpoints.find_seen_size(log_id, [MET]) == 9
    assert held(store) == {"qingdao": 9, "yantai": 9}


def test_many_go_in_a_few_transactions(store: Store) -> None:
    """Only what outlives its key goes, whatever sizes are named."""
    length = END_S + 1200
    log_id = fill(store, range(1, length + 1))
    found = store.checkpoints.find_outlived("jinan", RETIRED)
    assert sorted(found) == [(log_id, size) for size in range(END_S + 1, length + 1)]
    commits, steps = list[object](), Steps(store)
    event.listen(store.database._writer, "commit", commits.append)
    sizes = [size for _, size in found]
    assert store.checkpoints.forget_outlived(log_id, [*sizes, 1, 2], "jinan", RETIRED, quorums=[UNMET]) == 1200
    assert len(commits) == 3 and mark_of(store, log_id) == 0
    assert steps.count < 1200 * 300, "no scan of the log for each row"
    assert held(store) == {"jinan": END_S, "qingdao": length, "yantai": length}
    assert store.checkpoints.find_outlived("jinan", RETIRED) == []


def test_each_batch_notes_what_was_seen_with_what_it_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after the first leaves the mark at the largest of it."""
    log_id = fill(store, range(END_S + 1, END_S + 701))
    write, begun = store.database.write, list[int]()

    def crash_at_the_second():
        begun.append(1)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return write()

    sizes = range(END_S + 1, END_S + 701)
    with monkeypatch.context() as patch:
        patch.setattr(store.database, "write", crash_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            store.checkpoints.forget_outlived(log_id, sizes, "jinan", RETIRED, quorums=[MET])
    assert mark_of(store, log_id) == END_S + 500 and held(store)["jinan"] == 200
    with store.database.write() as connection:
        connection.execute(table_of(LogRow).update().values(seen_size=0))
    store.checkpoints.forget_outlived(log_id, sizes, "jinan", RETIRED, quorums=[MET])
    assert mark_of(store, log_id) == END_S + 700 and "jinan" not in held(store)
