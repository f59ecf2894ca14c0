"""Wherever openings are deleted, by whatever way, a sweep is owed in the same transaction, and leaves nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

import node.store
from node.core.entry import LogPage
from node.core.names import parse_record_id
from node.push import PushOptions
from node.store.forgetting import cut_mirror, forget_mirror
from node.store.owed import Owed, note_swept, owe_sweep, read_owed
from node.store.tables import LogRow, table_of
from node.sync.recovery import RecoverySession
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts
from tests.disclosing import KINDS, Author, Reader, erased_indexes
from tests.store.reading import index_all

SECRET = "geheimwort"
K = parse_record_id("jinan/result/K")

DELETIONS = """
CREATE TABLE gone (position INTEGER, recorded BLOB);
CREATE TRIGGER opening_deleted AFTER DELETE ON opening BEGIN INSERT INTO gone VALUES (old.position, old.record); END
"""


class Scene:
    """Jinan and qingdao; a copy of jinan's home was made when it had one record."""

    def __init__(self, folder: Path) -> None:
        """Begin with one record, which qingdao holds."""
        self.alliance = SimulatedAlliance(folder / "alliance", 2, schemas=KINDS)
        self.jinan, self.qingdao = self.alliance["jinan"], self.alliance["qingdao"]
        self.jinan.push(draft("FIRST"))
        self.alliance.catch_up("qingdao", "jinan")
        self.snapshot = self.jinan.snapshot(folder / "snapshot")

    def roll_back(self) -> None:
        """Publish something, then return jinan to the copy."""
        self.jinan.push(draft("LOST"))
        self.alliance.catch_up("qingdao", "jinan")
        self.jinan.roll_back(self.snapshot)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.alliance.close()


def forget(scene: Scene) -> SimulatedMember:
    scene.jinan.push(draft("K", SECRET))
    scene.alliance.catch_up("qingdao", "jinan")
    forget_mirror(scene.qingdao.store, scene.qingdao.mirror_of("jinan").id)
    return scene.qingdao


def cut(scene: Scene) -> SimulatedMember:
    scene.jinan.push(draft("K", SECRET))
    scene.alliance.catch_up("qingdao", "jinan")
    cut_mirror(scene.qingdao.store, scene.qingdao.mirror_of("jinan"), 1)
    return scene.qingdao


def say_again(scene: Scene) -> SimulatedMember:
    """A home that was rolled back takes the same push again: the log says it already."""
    scene.jinan.push(draft("K", SECRET))
    scene.alliance.catch_up("qingdao", "jinan")
    scene.jinan.roll_back(scene.snapshot)
    scene.jinan.clock.turn(5)
    scene.jinan.push(draft("K", SECRET))
    scene.alliance.meet("jinan", "qingdao")
    return scene.jinan


def erase_unpublished(scene: Scene) -> SimulatedMember:
    """What nobody has seen is erased, and the log comes back before that was swept."""
    scene.roll_back()
    scene.jinan.push(draft("K", SECRET))
    scene.jinan.disclosure.erase(K, "never to be seen")
    scene.alliance.meet("jinan", "qingdao")
    assert scene.jinan.store.erasures.unswept() == []
    return scene.jinan


def stage(scene: Scene) -> RecoverySession:
    """One page of what a home lacks is staged, and no more comes."""
    jinan = scene.jinan
    jinan.push(draft("K", SECRET), *drafts(1200))
    scene.alliance.catch_up("qingdao", "jinan")
    jinan.roll_back(scene.snapshot)
    session = RecoverySession(jinan.recovery.parts, jinan.ledger.log.head)

    async def read() -> None:
        client = scene.alliance.client("jinan", "qingdao")
        async for message in client.read_log(
            jinan.ledger.origin, start=session.start, after=0, follow=False, entries_max=100_000
        ):
            session.apply(message)
            if isinstance(message, LogPage):
                return

    scene.alliance.run(read)
    return session


def break_off(scene: Scene) -> SimulatedMember:
    stage(scene)
    scene.jinan.store.rebase.discard_staging(scene.jinan.ledger.log)
    return scene.jinan


def crash(scene: Scene) -> SimulatedMember:
    stage(scene)
    scene.jinan.reopen()
    return scene.jinan


def erase(scene: Scene) -> SimulatedMember:
    scene.jinan.push(draft("K", SECRET))
    scene.jinan.disclosure.erase(K, "wrong customer")
    return scene.jinan


@pytest.mark.parametrize("delete", [forget, cut, say_again, erase_unpublished, break_off, crash, erase])
def test_whatever_deletes_openings_owes_a_sweep(scene: Scene, delete: Callable[[Scene], SimulatedMember]) -> None:
    for member in (scene.jinan, scene.qingdao):
        _note_deletions(member)
    scene.snapshot = scene.jinan.snapshot(scene.snapshot.with_name("noting"))
    member = delete(scene)
    with member.store.database.write() as connection:
        gone = connection.exec_driver_sql("SELECT count(*) FROM gone WHERE instr(recorded, ?)", (SECRET.encode(),)).scalar()
        assert gone
        connection.exec_driver_sql("DELETE FROM gone")
    assert member.store.erasures.owed().total or member.store.erasures.unswept()
    index_all(member.store)
    if delete is say_again:  # it is still there, once
        return
    assert member.store.sweeper.sweep() is True
    assert SECRET.encode() not in member.stored_bytes()
    assert member.store.sweeper.sweep() is None


def test_what_was_staged_and_dropped_is_no_reason_to_acknowledge_at_once(tmp_path: Path) -> None:
    """A page with a wrong commitment came behind the record, on the connection that brought it."""
    jinan, reader = Author(tmp_path / "jinan"), Reader(tmp_path / "qingdao", "qingdao")
    jinan.push("FIRST")
    reader.read(jinan.store)
    jinan.push("K", SECRET)
    jinan.ledger.push_records(PushOptions("result"), drafts(1200))
    reader.read(jinan.store, messages=2)
    assert reader.log.staged.size > reader.log.head_size
    reader.store.logs.drop_staged(reader.log)
    jinan.erase("result/K")
    reader.read(jinan.store)
    assert erased_indexes(reader.store) == {1}
    assert reader.store.erasures.to_acknowledge(reader.log.id) == []
    index_all(reader.store)
    assert reader.store.sweeper.sweep() is True
    assert reader.store.erasures.to_acknowledge(reader.log.id) == [1]
    assert not any(SECRET.encode() in path.read_bytes() for path in reader.path.iterdir())


def test_what_was_staged_and_dropped_has_time(tmp_path: Path) -> None:
    jinan, reader = Author(tmp_path / "jinan"), Reader(tmp_path / "qingdao", "qingdao")
    jinan.push("K", SECRET)
    jinan.ledger.push_records(PushOptions("result"), drafts(1200))
    for count in (1, 2):
        reader.read(jinan.store, messages=2)
        reader.store.logs.drop_staged(reader.log)
        assert reader.store.erasures.owed() == Owed(count, staged=count)
        assert reader.store.sweeper.sweep(with_staged=False) is None
    assert any(SECRET.encode() in path.read_bytes() for path in reader.path.iterdir())
    reader.reopen()
    assert reader.store.sweeper.sweep() is True
    assert reader.store.erasures.owed() == Owed()
    assert not any(SECRET.encode() in path.read_bytes() for path in reader.path.iterdir())


@given(st.lists(st.sampled_from(["urgent", "staged", "begin", "end"]), max_size=40))
def test_a_sweep_takes_off_what_it_began_with(steps: list[str]) -> None:
    owed, begun = Owed(), Owed()
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        table_of(LogRow).create(connection)
        for step in steps:
            if step == "begin":
                begun = read_owed(connection)
            elif step == "end":
                note_swept(connection, begun)
                owed, begun = Owed(owed.total - begun.total, owed.staged - begun.staged), Owed()
            else:
                owe_sweep(connection, staged=step == "staged")
                owed = Owed(owed.total + 1, owed.staged + (step == "staged"))
            assert read_owed(connection) == owed
    engine.dispose()


def test_while_a_reader_holds_up_a_sweep_what_is_dropped_does_not_begin_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jinan, reader = Author(tmp_path / "jinan"), Reader(tmp_path / "qingdao", "qingdao")
    jinan.push("K", SECRET)
    reader.read(jinan.store)
    jinan.erase("result/K")
    reader.read(jinan.store)
    jinan.ledger.push_records(PushOptions("result"), drafts(1200))
    index_all(reader.store)
    rewritten: list[int] = []
    rewrite, truncate = reader.store.database.rewrite, reader.store.database.truncate

    def count() -> None:
        rewritten.append(1)
        rewrite()

    monkeypatch.setattr(reader.store.database, "rewrite", count)
    monkeypatch.setattr(reader.store.database, "truncate", lambda: False)
    for _ in range(3):
        assert reader.store.sweeper.sweep(with_staged=False) is False
        reader.read(jinan.store, messages=2)
        reader.store.logs.drop_staged(reader.log)
    monkeypatch.setattr(reader.store.database, "truncate", truncate)
    assert reader.store.sweeper.sweep(with_staged=False) is True
    assert (len(rewritten), reader.store.erasures.unswept(), reader.store.erasures.owed()) == (1, [], Owed(3, 3))


def test_nothing_is_owed_where_nothing_was_staged(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "qingdao", "qingdao")
    reader.store.logs.drop_staged(reader.log)
    assert (reader.store.erasures.owed().total, reader.store.sweeper.sweep()) == (0, None)


def test_openings_are_deleted_in_two_places_only() -> None:
    """Who deletes them in a new place is led to the rule."""
    folder = Path(node.store.__file__).parent
    deleting = {path.name for path in folder.glob("*.py") if "delete(_OPENING)" in path.read_text()}
    looping = {
        path.name
        for path in folder.glob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith("for table in") and "_OPENING" in line and path.name != "following.py"
    }
    assert (deleting, looping) == ({"effects.py", "owed.py"}, set())


def _note_deletions(member: SimulatedMember) -> None:
    with member.store.database.write() as connection:
        for statement in DELETIONS.strip().split(";\n"):
            connection.exec_driver_sql(statement)
