"""An audit of a whole log: honest logs pass, and every kind of damage to the database is found and named."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.keys import format_base64
from node.errors import NotFoundError
from node.inspection import Inspector, Progress, Report, report_content
from node.store import DATABASE_NAME
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts, examples
from tests.builders import build_log, kinds, record_bytes
from tests.rotating import RotatingAlliance
from tests.store.filling import JINAN, Mirrored

NAMES = [
    "rosters", "cards", "head", "checkpoints", "signatures", "cosignatures", "entries", "tiles", "openings", "records",
    "restricted", "erased", "lost", "quarantined", "not understood", "revisions", "staged",
]  # fmt: skip


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedAlliance]:
    """Jinan pushed 600 records, revised some and kept some private; qingdao mirrors and cosigned twice."""
    made = SimulatedAlliance(tmp_path_factory.mktemp("audit"), 3)
    jinan, qingdao = made["jinan"], made["qingdao"]
    jinan.push(*drafts(300, "A"))
    jinan.push(draft("PRIVATE", audience=[]), draft("A-000003", "0.11"), draft("A-000004", "0.11"), revise=True)
    cosign(made)
    jinan.push(*drafts(297, "B"), draft("A-000003", "0.12"), revise=True)
    qingdao.clock.turn(60)
    cosign(made)
    yield made
    made.close()


def cosign(made: SimulatedAlliance) -> None:
    made.catch_up("qingdao", "jinan")
    assert made["qingdao"].exchange.cosign_head(JINAN.origin)
    made["jinan"].exchange.accept_notes(made["qingdao"].exchange.held_notes(), peer="qingdao")


def audit(member: SimulatedMember, whose: str = "jinan") -> Report:
    steps = list(Inspector(member.store.inspection, kinds(), whose).run())
    report = steps[-1]
    assert isinstance(report, Report)
    assert all(isinstance(step, Progress) for step in steps[:-1])
    assert [check.name for check in report.checks] == NAMES
    return report


def counts(report: Report) -> dict[str, int]:
    return {check.name: check.count for check in report.checks}


def failed(report: Report) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if not check.ok}


# Honest logs


def test_the_own_log(alliance: SimulatedAlliance) -> None:
    report = audit(alliance["jinan"])
    assert failed(report) == {} and report.verified
    log = alliance["jinan"].ledger.log
    assert (report.member, report.origin, report.size, report.root) == ("jinan", JINAN.origin, 601, log.head_frontier.root())
    assert counts(report) == {
        "rosters": 2, "cards": 3, "head": 1, "checkpoints": 4, "signatures": 4, "cosignatures": 2, "entries": 601,
        "tiles": 2, "openings": 601, "records": 601, "restricted": 0, "erased": 0, "lost": 0, "quarantined": 0,
        "not understood": 0,
        "revisions": 598, "staged": 0,
    }  # fmt: skip


def test_a_mirrored_log(alliance: SimulatedAlliance) -> None:
    report = audit(alliance["qingdao"])
    assert failed(report) == {} and report.verified
    assert counts(report)["restricted"] == 1 and counts(report)["openings"] == 600


def test_as_json(alliance: SimulatedAlliance) -> None:
    report = audit(alliance["qingdao"])
    content = report_content(report)
    assert list(content) == ["member", "origin", "size", "root", "verified", "checks"]
    assert content["root"] == format_base64(report.root) and content["verified"] is True
    assert all(list(check) == ["check", "ok", "count", "detail"] for check in content["checks"])


def test_a_log_that_is_not_held(alliance: SimulatedAlliance) -> None:
    with pytest.raises(NotFoundError, match="no log of dezhou"):
        Inspector(alliance["jinan"].store.inspection, kinds(), "dezhou")


def test_an_empty_log(tmp_path: Path) -> None:
    made = SimulatedAlliance(tmp_path, 2)
    report = audit(made["jinan"])
    assert report.verified and report.size == 0, failed(report)
    made.close()


def test_a_staged_part_and_quarantined_bytes_are_counted(tmp_path: Path) -> None:
    made = SimulatedAlliance(tmp_path, 3)
    log = build_log(JINAN, 300)
    log.append(record_bytes(key="BROKEN", body={"unit": "mg/L"}), record_bytes(kind="recipe", schema="recipe/1"))
    mirrored = Mirrored(made["qingdao"].store, log)
    mirrored.accept()
    log.append_numbered(40)
    mirrored.stage(302, 330)
    report = audit(made["qingdao"])
    assert failed(report) == {}
    found = counts(report)
    assert (found["staged"], found["quarantined"], found["not understood"], found["entries"]) == (28, 1, 1, 302)
    made.close()


@examples(15)
@given(data=st.data())
def test_any_honest_history_passes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Pushes of any size, revisions and audiences, taken over by a peer at any time."""
    made = SimulatedAlliance(tmp_path_factory.mktemp("honest"), 2)
    jinan = made["jinan"]
    for _ in range(data.draw(st.integers(1, 6))):
        keys = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=6, unique=True))
        audience = data.draw(st.sampled_from([["*"], [], ["qingdao"]]))
        value = f"0.{data.draw(st.integers(10, 99))}"
        jinan.push(*(draft(f"K{key}", value, audience=audience) for key in keys), revise=True)
        if data.draw(st.booleans()):
            made.catch_up("qingdao", "jinan")
    assert failed(audit(jinan)) == {}
    if made["qingdao"].store.logs.find_log(JINAN.origin):
        assert failed(audit(made["qingdao"])) == {}
    made.close()


def test_a_log_whose_key_changed(tmp_path: Path) -> None:
    """Rotated, and revoked below what a peer holds: its author signs it again; until then the peer's mirror is no damage."""
    made = RotatingAlliance(tmp_path)
    jinan, qingdao = made["jinan"].member, made["qingdao"].member
    jinan.push(*drafts(3, "A"))
    made["jinan"].rotation.rotate("log")
    jinan.push(*drafts(2, "B"))
    made.simulated.catch_up("qingdao", "jinan")
    assert failed(audit(jinan)) == failed(audit(qingdao)) == {}
    jinan.push(*drafts(2, "C"))
    made.tell_card("jinan", "qingdao")
    made.simulated.catch_up("qingdao", "jinan")
    made["jinan"].rotation.revoke_log(5)
    made.tell_card("jinan", "qingdao")
    assert failed(audit(jinan)) == failed(audit(qingdao)) == {}
    (signatures,) = [check for check in audit(qingdao).checks if check.name == "signatures"]
    assert "was revoked at size 5" in signatures.detail
    made.close()


# Damage. What stands behind each statement is the check that must name it, and a word of what it must say.

ENTRY = "position = (SELECT id << 40 FROM log WHERE member = 'jinan') + 7"
LOG = "log_id = (SELECT id FROM log WHERE member = 'jinan')"
DAMAGES: dict[str, tuple[str, dict[str, str]]] = {
    "a flipped commitment": (
        f"UPDATE entry SET commitment = zeroblob(32) WHERE {ENTRY}",
        {"openings": "entry 7 does not fit", "tiles": "tile 0", "checkpoints": "size 300", "head": "size 601"},
    ),
    "a short commitment": (f"UPDATE entry SET commitment = x'00' WHERE {ENTRY}", {"entries": "entry 7 has 1 bytes"}),
    "a missing entry": (f"DELETE FROM entry WHERE {ENTRY}", {"entries": "entry 7 is missing", "tiles": "tile 0"}),
    "the last entry missing": (
        "DELETE FROM entry WHERE position = (SELECT (id << 40) + 600 FROM log WHERE member = 'jinan')",
        {"entries": "entry 600 is missing", "head": "frontier"},
    ),
    "a flipped tile": (
        "UPDATE tile SET root = zeroblob(32) WHERE position = (SELECT (id << 40) + 1 FROM log WHERE member = 'jinan')",
        {"tiles": "tile 1 (entries 256 to 511) is not what"},
    ),
    "a missing tile": (
        "DELETE FROM tile WHERE position = (SELECT id << 40 FROM log WHERE member = 'jinan')",
        {"tiles": "tile 0 (entries 0 to 255) is missing"},
    ),
    "another record": (
        f"UPDATE opening SET record = CAST(replace(CAST(record AS TEXT), '0.10', '0.19') AS BLOB) WHERE {ENTRY}",
        {"openings": "the opening of entry 7 does not fit"},
    ),
    "a record that is no JSON": (
        f"UPDATE opening SET record = CAST(x'7b' || record AS BLOB) WHERE {ENTRY}",
        {"openings": "entry 7", "records": "entry 7"},
    ),
    "text where bytes belong": (
        f"UPDATE opening SET record = 'text' WHERE {ENTRY}",
        {"entries": "entries 0 to 600 cannot be read", "head": "frontier"},
    ),
    "another salt": (f"UPDATE opening SET salt = zeroblob(32) WHERE {ENTRY}", {"openings": "entry 7 does not fit"}),
    "a row that says another key": (f"UPDATE opening SET key = 'OTHER' WHERE {ENTRY}", {"records": "entry 7"}),
    "a row for another audience": (f"UPDATE opening SET audience = '' WHERE {ENTRY}", {"records": "entry 7"}),
    "a row of another log": (f"UPDATE opening SET log_id = 99 WHERE {ENTRY}", {"records": "entry 7"}),
    "an unknown status": (f"UPDATE opening SET status = 7 WHERE {ENTRY}", {"records": "unknown status 7"}),
    "another revision": (
        f"UPDATE opening SET revision = 9 WHERE {ENTRY}",
        {"records": "entry 7", "revisions": "revision 9 of result/A-000007 cannot be in entry 7"},
    ),
    "a note that is none": (f"UPDATE checkpoint SET note = x'00' WHERE {LOG} AND size = 300", {"checkpoints": "size 300"}),
    "another checkpoint's note": (
        f"UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE {LOG} AND size = 300) WHERE {LOG} AND size = 303",
        {"checkpoints": "the row of size 303 holds"},
    ),
    "a root that was never signed": (
        "UPDATE checkpoint SET note = CAST(replace(note, substr(note, instr(note, x'0a333030') + 5, 4), x'41414141')"
        f" AS BLOB) WHERE {LOG} AND size = 300",
        {"checkpoints": "size 300", "signatures": "size 300"},
    ),
    "a checkpoint that is gone under its cosignature": (
        f"DELETE FROM checkpoint WHERE {LOG} AND size = 303",
        {"cosignatures": "that checkpoint is missing"},
    ),
    "a checkpoint beyond the head": (
        f"INSERT INTO checkpoint (log_id, size, note) SELECT log_id, 999, note FROM checkpoint WHERE {LOG} AND size = 300",
        {"staged": "1 rows of the table checkpoint"},
    ),
    "a cosignature on another size": (
        f"UPDATE cosignature SET size = 300 WHERE {LOG} AND size = 303",
        {"cosignatures": "of qingdao on size 300"},
    ),
    "a cosignature in another's name": (
        f"UPDATE cosignature SET witness = 'yantai' WHERE {LOG} AND size = 303",
        {"cosignatures": "no card of yantai"},
    ),
    "a cosignature at another time": (
        f"UPDATE cosignature SET time = time - 1 WHERE {LOG} AND size = 303",
        {"cosignatures": "another time"},
    ),
    "a cosignature that is none": (
        f"UPDATE cosignature SET line = 'x' WHERE {LOG} AND size = 303",
        {"cosignatures": "of qingdao on size 303"},
    ),
    "another head": (
        f"UPDATE log SET head_note = (SELECT note FROM checkpoint WHERE {LOG} AND size = 303) WHERE member = 'jinan'",
        {"head": "held is that of size 601, but the log names size 303"},
    ),
    "no head": ("UPDATE log SET head_note = x'' WHERE member = 'jinan'", {"head": "the log names size 0"}),
    "another frontier": (
        "UPDATE log SET head_frontier = zeroblob(length(head_frontier)) WHERE member = 'jinan'",
        {"head": "frontier"},
    ),
    "another staged frontier": (
        "UPDATE log SET staged_frontier = zeroblob(length(staged_frontier)) WHERE member = 'jinan'",
        {"staged": "frontier"},
    ),
    "an entry beyond the end": (
        "INSERT INTO entry SELECT (id << 40) + 5000, zeroblob(32) FROM log WHERE member = 'jinan'",
        {"staged": "1 rows of the table entry"},
    ),
    "another member's card": (
        "UPDATE card SET envelope = (SELECT envelope FROM card WHERE member = 'qingdao') WHERE member = 'jinan'",
        {"cards": "holds card 1 of qingdao", "signatures": "no valid card of jinan"},
    ),
    "a changed card": (
        "UPDATE card SET envelope = replace(envelope, x'736967223a22', x'736967223a2241') WHERE member = 'jinan'",
        {"cards": "card 1 of jinan"},
    ),
    "no card of a cosigner": ("DELETE FROM card WHERE member = 'qingdao'", {"cosignatures": "no card of qingdao"}),
    "another roster's hash": (
        "UPDATE roster SET hash = '00' WHERE version = 2",
        {"rosters": "the row of version 2"},
    ),
    "a roster gone": ("DELETE FROM roster WHERE version = 1", {"rosters": "begins with version 2"}),
    "all rosters gone": ("DELETE FROM roster", {"rosters": "missing"}),
    "another fingerprint": ("UPDATE node SET fingerprint = '00'", {"rosters": "fingerprint"}),
}


def damaged(member: SimulatedMember, path: Path, statement: str) -> Report:
    """The audit of a copy of a member's database after one statement by somebody with a shell."""
    from node.store.database import Database
    from node.store.inspection import InspectionStore

    copy = path / "copy.sqlite"
    member.store.database.backup(copy)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute(statement).rowcount == 1 or statement.startswith("DELETE FROM roster")
        connection.commit()
    database = Database(copy)
    try:
        *_, report = Inspector(InspectionStore(database), kinds(), "jinan").run()
    finally:
        database.close()
    assert isinstance(report, Report)
    return report


@pytest.mark.parametrize(("statement", "expected"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_named(
    alliance: SimulatedAlliance, tmp_path: Path, statement: str, expected: dict[str, str]
) -> None:
    report = damaged(alliance["jinan"], tmp_path, statement)
    assert not report.verified
    found = failed(report)
    for name, words in expected.items():
        assert words in found.get(name, ""), found


def remarks(report: Report) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if check.ok}


def test_an_opening_of_the_own_log_is_counted_as_lost(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    report = damaged(alliance["jinan"], tmp_path, f"DELETE FROM opening WHERE {ENTRY}")
    assert report.verified and counts(report)["lost"] == 1
    assert "from entry 7 on" in remarks(report)["lost"]


def test_a_restored_home_that_lost_entries_passes_and_so_do_its_readers(tmp_path: Path) -> None:
    made = SimulatedAlliance(tmp_path / "members", 3)
    jinan = made["jinan"]
    snapshot = jinan.snapshot(tmp_path / "snapshot")
    jinan.push(draft("X"), draft("Y"), audience=("yantai",))
    made.catch_up("qingdao", "jinan")
    made.catch_up("yantai", "jinan")
    jinan.roll_back(snapshot)
    made.meet("jinan", "qingdao")
    jinan.push(draft("Z"))
    for name in ("jinan", "qingdao", "yantai"):
        if name != "jinan":
            made.catch_up(name, "jinan")
        assert failed(audit(made[name])) == {}
    assert counts(audit(jinan))["lost"] == 2
    assert "revision 1 of result/Z is left out before revision 3" in remarks(audit(made["yantai"]))["revisions"]
    made.meet("jinan", "yantai")
    report = audit(jinan)
    assert failed(report) == {} and counts(report)["lost"] == 0
    made.close()


def test_a_mirror_between_a_revocation_and_the_new_signature(tmp_path: Path) -> None:
    made = RotatingAlliance(tmp_path, 3)
    sim, yantai = made.simulated, made.simulated["yantai"]
    for prefix, count in (("A", 3), ("B", 2)):
        sim["jinan"].push(*drafts(count, prefix))
        sim.catch_up("yantai", "jinan")
    made["jinan"].rotation.revoke_log(3)
    assert made.tell_card("jinan", "yantai") == []
    for _ in range(2):
        report = audit(yantai)
        assert failed(report) == {}
        assert "revoked at size 3, and the new one has not signed size 5 yet" in remarks(report)["head"]
        assert not yantai.exchange.cosign_head(JINAN.origin)
    sim.catch_up("yantai", "jinan")
    sim["jinan"].push(draft("C"))
    sim.catch_up("yantai", "jinan")
    assert yantai.exchange.cosign_head(JINAN.origin)
    assert failed(audit(yantai)) == {} and "revoked" not in remarks(audit(yantai))["head"]
    made.close()


def test_a_mirror_cannot_know_which_openings_it_should_have(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    report = damaged(alliance["qingdao"], tmp_path, f"DELETE FROM opening WHERE {ENTRY}")
    assert report.verified and counts(report)["restricted"] == 2


def test_a_mirror_misses_a_revision_that_no_unreadable_entry_explains(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    where = "key = 'A-000003' AND revision = 3"
    report = damaged(alliance["qingdao"], tmp_path, f"UPDATE opening SET revision = 9 WHERE {where}")
    assert "revision 3 of result/A-000003 is left out before revision 9" in remarks(report)["revisions"]


def test_revisions_in_the_wrong_order(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    statement = "UPDATE opening SET revision = 3 WHERE key = 'A-000004' AND revision = 1"
    report = damaged(alliance["jinan"], tmp_path, statement)
    assert "revision 3 of result/A-000004 stands before revision 2 in the log" in failed(report)["revisions"]


def test_many_faults_are_counted_and_three_are_shown(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    from node.store.database import Database
    from node.store.inspection import InspectionStore

    copy = tmp_path / "copy.sqlite"
    alliance["jinan"].store.database.backup(copy)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("UPDATE opening SET salt = zeroblob(32)").rowcount == 601
        connection.commit()
    database = Database(copy)
    *_, report = Inspector(InspectionStore(database), kinds(), "jinan").run()
    database.close()
    assert isinstance(report, Report)
    (openings,) = [check for check in report.checks if check.name == "openings"]
    assert openings.faults == 601 and openings.detail.count("does not fit") == 3 and "and 598 more" in openings.detail


def test_a_torn_database_file_is_a_finding_and_no_exception(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    from node.store.database import Database
    from node.store.inspection import InspectionStore

    copy = tmp_path / DATABASE_NAME
    alliance["jinan"].store.database.backup(copy)
    database = Database(copy)
    store = InspectionStore(database)
    inspector = Inspector(store, kinds(), "jinan")
    raw = bytearray(copy.read_bytes())
    for page in range(12, len(raw) // 4096, 3):
        raw[page * 4096 : page * 4096 + 200] = bytes(200)
    copy.write_bytes(raw)
    try:
        *_, report = inspector.run()
    finally:
        database.close()
    assert isinstance(report, Report) and not report.verified


def test_an_entry_erased_and_yet_here(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    statement = (
        "INSERT INTO erasure (position, log_id, kind, key, revision, reason, erased_ms, statement_index, swept, told) "
        f"SELECT position, log_id, kind, key, revision, 'asked', 1, 600, 1, 1 FROM opening WHERE {ENTRY}"
    )
    assert "entry 7 was erased, but its opening is here" in failed(damaged(alliance["jinan"], tmp_path, statement))["erased"]
