"""A home that has lost entries for good says nothing that could contradict what they said to those who still read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from node.core.names import RecordId, parse_record_id
from node.push import PushOptions
from tests.alliance import SimulatedAlliance, SimulatedMember, draft
from tests.builders import sign_roster
from tests.disclosing import KINDS


@pytest.fixture
def alliance(tmp_path: Path) -> SimulatedAlliance:
    return SimulatedAlliance(tmp_path / "members", 3, schemas=KINDS)


@pytest.fixture
def jinan(alliance: SimulatedAlliance) -> SimulatedMember:
    return alliance["jinan"]


def publish(alliance: SimulatedAlliance) -> None:
    for peer in ("qingdao", "yantai"):
        alliance.catch_up(peer, "jinan")


def revisions(member: SimulatedMember, key: str = "X", kind: str = "result") -> list[int]:
    found = member.store.records.revisions(RecordId("jinan", kind, key))
    return [stored.revision for stored in found]


def require_no_evidence(alliance: SimulatedAlliance) -> None:
    assert [member.evidence.pieces() for member in alliance.members.values()] == [(), (), ()]


def ask_for_both(alliance: SimulatedAlliance) -> None:
    joined = alliance["jinan"].membership.joined
    roster = replace(joined.roster, version=joined.roster.version + 1, previous=joined.fingerprint, quorum=2)
    raw = sign_roster(roster, alliance["jinan"].lab)
    for member in alliance.members.values():
        assert member.membership.accept_update([raw], []).changed


def lose(alliance: SimulatedAlliance, snapshot: Path) -> None:
    """The home goes back to the snapshot; only qingdao answers, which cannot read what was for yantai."""
    alliance["jinan"].roll_back(snapshot)
    alliance.meet("jinan", "qingdao")
    assert alliance["jinan"].confirmation.confirmed


def test_the_same_key_again(alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path) -> None:
    snapshot = jinan.snapshot(tmp_path / "snapshot")
    jinan.push(draft("X", "0.1"), audience=("yantai",))
    publish(alliance)
    lose(alliance, snapshot)
    jinan.push(draft("X", "0.2"), audience=("yantai",))
    publish(alliance)
    require_no_evidence(alliance)
    assert revisions(alliance["yantai"]) == [1, 2]
    # When the lost one comes back at last, everything is there.
    alliance.meet("jinan", "yantai")
    assert revisions(jinan) == [1, 2]
    jinan.push(draft("X", "0.3"), draft("Y"), revise=True)
    assert (revisions(jinan), revisions(jinan, "Y")) == ([1, 2, 3], [1])


def test_pushed_before_the_loss_was_known(alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path) -> None:
    snapshot = jinan.snapshot(tmp_path / "snapshot")
    jinan.push(draft("X", "0.1"), draft("Y"), audience=("yantai",))
    publish(alliance)
    jinan.roll_back(snapshot)
    jinan.push(draft("X", "0.2"), audience=("yantai",))
    assert revisions(jinan) == [1]
    assert [stored.index for stored in jinan.store.records.revisions(RecordId("jinan", "result", "X"))] == [0]
    alliance.meet("jinan", "qingdao")
    assert revisions(jinan) == [3]
    # The words are found where the record is now.
    while jinan.store.search.advance() or jinan.store.search.backlog():
        pass
    publish(alliance)
    require_no_evidence(alliance)
    assert revisions(alliance["yantai"]) == [1, 3]


def test_what_may_still_come_back_names_the_readers(
    alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path
) -> None:
    """Two peers must tell: the second gives back who may read the key, before anything is signed."""
    snapshot = jinan.snapshot(tmp_path / "snapshot")
    jinan.push(draft("X", "0.1"), audience=("yantai",))
    publish(alliance)
    jinan.roll_back(snapshot)
    ask_for_both(alliance)
    jinan.push(draft("X", "0.2"))
    alliance.meet("jinan", "qingdao")
    assert not jinan.confirmation.confirmed and jinan.store.rebase.count_unopened(jinan.ledger.log) == 1
    jinan.push(draft("X", "0.3"), revise=True)
    alliance.meet("jinan", "yantai")
    publish(alliance)
    require_no_evidence(alliance)
    assert (revisions(jinan), revisions(alliance["qingdao"])) == ([1, 2, 3], [])


def test_lost_again_and_again(alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path) -> None:
    """What was pushed beyond a loss is lost itself, and part of the first loss has come back meanwhile."""
    snapshot = jinan.snapshot(tmp_path / "snapshot")
    jinan.push(draft("A"), draft("B"), draft("C"), audience=("yantai",))
    publish(alliance)
    lose(alliance, snapshot)
    second = jinan.snapshot(tmp_path / "second")
    jinan.push(draft("X", "0.1"), audience=("yantai",))
    publish(alliance)
    assert revisions(alliance["yantai"]) == [4]
    lose(alliance, second)
    for value in ("0.2", "0.3", "0.4", "0.5"):
        jinan.push(draft("X", value), audience=("yantai",), revise=True)
    publish(alliance)
    require_no_evidence(alliance)
    assert revisions(alliance["yantai"]) == [4, 5, 6, 7, 8]


def test_a_grant_that_was_lost(alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path) -> None:
    jinan.push(draft("X", audience=[]))
    publish(alliance)
    snapshot = jinan.snapshot(tmp_path / "snapshot")
    jinan.disclosure.grant(parse_record_id("jinan/result/X"), ["yantai"])
    publish(alliance)
    lose(alliance, snapshot)
    assert jinan.store.rebase.count_unopened(jinan.ledger.log) == 1
    jinan.disclosure.grant(parse_record_id("jinan/result/X"), ["qingdao", "yantai"])
    publish(alliance)
    require_no_evidence(alliance)
    assert revisions(alliance["yantai"], "0", "grant") == [1, 3]


def test_a_revision_that_was_asked_for(alliance: SimulatedAlliance, jinan: SimulatedMember, tmp_path: Path) -> None:
    jinan.push(draft("X", "0.1"))
    publish(alliance)
    snapshot = jinan.snapshot(tmp_path / "snapshot")
    jinan.push(draft("X", "0.2"), audience=("yantai",), revise=True)
    publish(alliance)
    lose(alliance, snapshot)
    [error] = jinan.ledger.push_records(PushOptions("result"), [draft("X", "0.3", revision=2)]).errors
    assert error.path == "/revision"
    assert "the newest is 1, and entries that nobody can open may have numbers below 3: the next is 3" in error.message
    assert jinan.push(draft("X", "0.3", revision=3)).accepted == 1
    assert jinan.push(draft("X", "0.3", revision=3)).unchanged == 1
    newest = jinan.store.records.find(RecordId("jinan", "result", "X"))
    assert newest is not None and orjson.loads(newest.record)["revision"] == 3
