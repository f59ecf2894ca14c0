"""Grants and erasures when the home of their author is rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.core.names import RecordId
from node.disclosure import Disclosure
from node.store.records import Filter, StoredRecord
from node.store.tables import position_of
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, list_all
from tests.builders import MemoryLog, record_bytes
from tests.disclosing import KINDS
from tests.soundness import require_sound
from tests.sync.equivocation import contact, show


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


@pytest.fixture
def unshared(alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path) -> Path:
    """One record for nobody else is published, and jinan's database is copied."""
    jinan.push(draft("MINE", audience=[]))
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


def read_granted(alliance: SimulatedAlliance, key: str) -> None:
    """Let yantai read until it has what it was granted, which comes behind the head."""
    alliance.follow("yantai", "jinan", lambda _: find(alliance["yantai"], key))


def forget_a_grant(alliance: SimulatedAlliance, key: str, snapshot: Path) -> None:
    """Grant a record to yantai, let both peers read, and roll the author back to before."""
    jinan = alliance["jinan"]
    disclosure(jinan).grant(result(key), ["yantai"])
    alliance.catch_up("qingdao", "jinan")
    read_granted(alliance, key)
    jinan.roll_back(snapshot)


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
    read_granted(alliance, "FOR-Q")


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


def test_an_own_entry_that_says_an_id_again_is_erased_with_it(alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
    """A home takes back a log in which its former software said two things twice: neither copy may stay behind."""
    log = MemoryLog(jinan.lab)
    log.append(
        record_bytes("jinan", "A", body={"value": "1"}),
        record_bytes("jinan", "A", body={"value": "2"}, audience=["qingdao"]),
        record_bytes("jinan", "A", revision=2, body={"value": "3"}),
        record_bytes("jinan", "B", body={"value": "1"}),
        record_bytes("jinan", "B", body={"value": "4"}),
    )
    show(alliance, "qingdao", log)
    jinan.reopen()
    alliance.meet("jinan", "qingdao")
    assert jinan.ledger.log.head_size == 5
    outcome = disclosure(jinan).erase(result("A", 1), "two customers")
    assert (outcome.erased, outcome.already) == (("jinan/result/A@1",), ())
    assert jinan.store.erasures.unswept() == [position_of(jinan.ledger.log.id, index) for index in (0, 1)]
    # Every revision: the one that is left of A, then both that B has.
    assert disclosure(jinan).erase(result("A"), "two customers").erased == ("jinan/result/A@2",)
    assert disclosure(jinan).erase(result("B"), "two customers").erased == ("jinan/result/B@1",)
    assert list_all(jinan.store, Filter(kind="result")) == []
    jinan.store.sweeper.sweep()
    for value in (b'"value":"1"', b'"value":"2"', b'"value":"3"', b'"value":"4"'):
        assert value not in jinan.stored_bytes()
    alliance.catch_up("qingdao", "jinan")
    assert list_all(alliance["qingdao"].store, Filter(kind="result")) == []
    require_sound(jinan)


def test_a_grant_of_what_was_erased_before_the_restore_is_mended(
    alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
) -> None:
    """Who is outside the erasure's audience gives the log back, is granted the record, and must delete it all the same."""
    disclosure(jinan).erase(result("FOR-Q"), "wrong customer")
    for reader in ("qingdao", "yantai"):
        alliance.catch_up(reader, "jinan")
    jinan.roll_back(snapshot)
    alliance.meet("jinan", "yantai")
    assert jinan.confirmation.confirmed and jinan.store.rebase.count_unopened(jinan.ledger.log) == 1
    disclosure(jinan).grant(result("FOR-Q"), ["yantai"])
    read_granted(alliance, "FOR-Q")
    alliance.meet("jinan", "qingdao")
    erased = jinan.store.erasures.find(result("FOR-Q"))
    assert erased is not None and erased.audience == ("qingdao", "yantai")
    assert disclosure(jinan).acknowledgements(erased).missing == ("qingdao", "yantai")
    _require_gone_everywhere(alliance, "FOR-Q")


def test_an_erasure_without_knowledge_of_a_grant_is_mended(
    alliance: SimulatedAlliance, jinan: SimulatedMember, unshared: Path
) -> None:
    """Only the grantee has the grant's opening, and brings it back after the erasure was published."""
    forget_a_grant(alliance, "MINE", unshared)
    alliance.meet("jinan", "qingdao")
    assert disclosure(jinan).erase(result("MINE"), "wrong customer").readers == ()
    alliance.catch_up("yantai", "jinan")
    assert find(alliance["yantai"], "MINE") is not None
    alliance.meet("jinan", "yantai")
    erased = jinan.store.erasures.find(result("MINE"))
    assert erased is not None and disclosure(jinan).acknowledgements(erased).missing == ("yantai",)
    _require_gone_everywhere(alliance, "MINE")


def test_an_unpublished_erasure_reaches_a_grantee_that_comes_back_below_it(
    alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
) -> None:
    forget_a_grant(alliance, "FOR-Q", snapshot)
    assert disclosure(jinan).erase(result("FOR-Q"), "meanwhile").readers == ("qingdao",)
    alliance.meet("jinan", "qingdao")
    _require_gone_everywhere(alliance, "FOR-Q")


def test_the_erasure_of_a_record_for_nobody_else_counts_as_lost(
    alliance: SimulatedAlliance, jinan: SimulatedMember, unshared: Path
) -> None:
    """Nobody can give it back, so the record is there again: that must not be passed over in silence."""
    disclosure(jinan).erase(result("MINE"), "wrong customer")
    for reader in ("qingdao", "yantai"):
        alliance.catch_up(reader, "jinan")
    jinan.roll_back(unshared)
    alliance.meet("jinan", "qingdao", "yantai")
    assert find(jinan, "MINE") is not None
    assert jinan.store.losses.count(jinan.ledger.log).unseen == 1
    # The remedy that the alarm names.
    assert disclosure(jinan).erase(result("MINE"), "once more").erased == ("jinan/result/MINE@1",)
    assert find(jinan, "MINE") is None
    require_sound(jinan, gaps=True)


def test_acknowledgements_come_again_after_a_rollback(
    alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
) -> None:
    """Peers that go on running, and told it all before, tell an author that has forgotten it."""
    qingdao = alliance["qingdao"]
    disclosure(jinan).erase(result("OPEN"), "mistake")
    alliance.catch_up("qingdao", "jinan")
    qingdao.store.sweeper.sweep()
    contact(alliance, "qingdao", "jinan")
    log_id = qingdao.mirror_of("jinan").id
    assert qingdao.store.erasures.to_acknowledge(log_id) == []
    jinan.roll_back(snapshot)
    contact(alliance, "qingdao", "jinan")  # the author does not know of its erasure yet
    assert qingdao.store.erasures.to_acknowledge(log_id) == [0]
    alliance.meet("jinan", "qingdao", "yantai")
    erased = jinan.store.erasures.find(result("OPEN"))
    assert erased is not None and disclosure(jinan).acknowledgements(erased).acknowledged == ()
    contact(alliance, "qingdao", "jinan")
    assert disclosure(jinan).acknowledgements(erased).acknowledged == ("qingdao",)
    assert qingdao.store.erasures.to_acknowledge(log_id) == []


def _require_gone_everywhere(alliance: SimulatedAlliance, key: str) -> None:
    """Every peer reads, deletes, sweeps and acknowledges; nothing is left to be told, now or at the next start."""
    jinan = alliance["jinan"]
    for reader in ("qingdao", "yantai"):
        alliance.catch_up(reader, "jinan")
        alliance[reader].store.sweeper.sweep()
        contact(alliance, reader, "jinan")
        assert find(alliance[reader], key) is None
    erased = jinan.store.erasures.find(result(key))
    assert erased is not None
    told = disclosure(jinan).acknowledgements(erased)
    assert "yantai" in told.acknowledged and told.missing == ()
    assert disclosure(jinan).complete_erasures() == []
    require_sound(jinan)
