"""Grants and erasures when the home of their author is rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.core.names import RecordId
from node.disclosure import Disclosure
from node.store.records import StoredRecord
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, list_all
from tests.disclosing import KINDS
from tests.soundness import require_sound


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Three members who know grants and erasures."""
    made = SimulatedAlliance(tmp_path / "alliance", schemas=KINDS)
    yield made
    made.close()


@pytest.fixture
def jinan(alliance: SimulatedAlliance) -> SimulatedMember:
    return alliance["jinan"]


@pytest.fixture
def snapshot(alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path) -> Path:
    """One record for everybody and one for qingdao are published, and jinan's database is copied."""
    jinan.push(draft("OPEN"), draft("FOR-Q", audience=["qingdao"]))
    alliance.catch_up("qingdao", "jinan")
    return jinan.snapshot(tmp_path / "snapshot")


def disclosure(member: SimulatedMember) -> Disclosure:
    members = ("jinan", "qingdao", "yantai")
    return Disclosure(
        member.store,
        member.ledger,
        author=member.name,
        kinds=member.kinds,
        clock=member.clock,
        members=lambda: members,
    )


def result(key: str, revision: int | None = None) -> RecordId:
    return RecordId("jinan", "result", key, revision)


def find(member: SimulatedMember, key: str) -> StoredRecord | None:
    return member.store.records.find(result(key))


def test_a_restored_home_erases_again(alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path) -> None:
    disclosure(jinan).erase(result("OPEN"), "published by mistake")
    alliance.catch_up("qingdao", "jinan")
    jinan.roll_back(snapshot)
    assert find(jinan, "OPEN") is not None
    alliance.meet("jinan", "qingdao")
    assert find(jinan, "OPEN") is None
    erased = jinan.store.erasures.find(result("OPEN"))
    assert erased is not None and (erased.reason, erased.statement_index) == ("published by mistake", 2)
    assert jinan.store.erasures.unswept() == [jinan.ledger.log.id << 40]
    assert jinan.store.rebase.count_unopened(jinan.ledger.log) == 0
    require_sound(jinan)


def test_a_restored_home_grants_again(alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path) -> None:
    disclosure(jinan).grant(result("FOR-Q"), ["yantai"])
    alliance.catch_up("qingdao", "jinan")
    jinan.roll_back(snapshot)
    alliance.meet("jinan", "qingdao")
    stored = find(jinan, "FOR-Q")
    assert stored is not None and stored.granted == ("yantai",)
    alliance.catch_up("yantai", "jinan")
    assert find(alliance["yantai"], "FOR-Q") is not None


def test_an_unpublished_erasure_follows_its_log(alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path) -> None:
    jinan.push(draft("LOST"))
    alliance.catch_up("qingdao", "jinan")
    jinan.roll_back(snapshot)
    disclosure(jinan).erase(result("OPEN"), "meanwhile")
    alliance.meet("jinan", "qingdao")
    erased = jinan.store.erasures.find(result("OPEN"))
    assert erased is not None and (erased.index, erased.statement_index) == (0, 3)
    assert jinan.store.erasures.unswept() == [jinan.ledger.log.id << 40]
    alliance.catch_up("qingdao", "jinan")
    assert find(alliance["qingdao"], "OPEN") is None
    require_sound(jinan)


def test_statements_about_unpublished_records_name_where_these_stand_then(
    alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
) -> None:
    jinan.push(draft("LOST"), draft("K", "1"))
    alliance.catch_up("qingdao", "jinan")
    jinan.roll_back(snapshot)
    jinan.clock.turn(5)
    jinan.push(draft("K", "2", audience=["qingdao"]), draft("GONE"), draft("LAST"))
    made = disclosure(jinan)
    assert made.grant(result("K"), ["yantai"]).index == 2
    made.erase(result("GONE"), "never to be seen")
    alliance.meet("jinan", "qingdao")
    # OPEN, FOR-Q, LOST, K@1, K@2, LAST, the grant; what was erased before anybody saw it is not there at all.
    assert jinan.ledger.log.signed_size == 7
    stored = find(jinan, "K")
    assert stored is not None and (stored.index, stored.revision, stored.granted) == (4, 2, ("yantai",))
    assert jinan.store.erasures.find(result("GONE")) is None
    require_sound(jinan)
    alliance.catch_up("yantai", "jinan")
    granted = find(alliance["yantai"], "K")
    assert granted is not None and granted.revision == 2
    assert [stored.key for stored in list_all(alliance["yantai"].store)].count("GONE") == 0


def test_what_was_erased_stays_with_its_readers_when_it_is_pushed_again(
    alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
) -> None:
    """A restored node does not know that the record was erased; a new push of it is for nobody new."""
    jinan.push(draft("S", "1", audience=["qingdao"]))
    disclosure(jinan).erase(result("S"), "withdrawn")
    alliance.catch_up("qingdao", "jinan")
    jinan.roll_back(snapshot)
    jinan.clock.turn(5)
    jinan.push(draft("S", "2"))
    alliance.meet("jinan", "qingdao")
    stored = find(jinan, "S")
    assert stored is not None and stored.revision == 2
    alliance.catch_up("yantai", "jinan")
    assert find(alliance["yantai"], "S") is None
    require_sound(jinan)
