"""Checkpoints in the store: written with their time, cosigned by compare-and-set, and thinned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from node.audit import build_bundle
from node.core.alliance import load_alliance
from node.core.checkpoint import cosign_checkpoint
from node.core.names import parse_record_id
from node.core.thinning import HOUR_S
from node.core.witness import line_start
from node.daemon.thinning import Thinning, named_sizes
from node.inspection import Inspector, Report
from node.store import Store
from node.store.checkpoints import ThinningRule
from node.store.tables import CheckpointRow, CosignatureRow, table_of
from tests.alliance import SimulatedAlliance, SimulatedMember, TurnedClock, draft
from tests.builders import Lab, build_bundle_case, kinds, record_bytes
from tests.new_stores import new_store
from tests.store.filling import JINAN, NOW_MS, QINGDAO, YANTAI, OwnLog
from tests.verifiers import agreed_verdict

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def store(tmp_path: Path):
    made = new_store(tmp_path / "home")
    yield made
    made.close()


def made_ms(store: Store, size: int) -> int:
    table = table_of(CheckpointRow)
    with store.database.read() as connection:
        return int(connection.execute(select(table.c.made_ms).where(table.c.size == size)).scalar_one())


def sizes(store: Store, log_id: int) -> list[int]:
    table = table_of(CheckpointRow)
    with store.database.read() as connection:
        statement = select(table.c.size).where(table.c.log_id == log_id).order_by(table.c.size)
        return list(connection.execute(statement).scalars())


def lonely_cosignatures(store: Store) -> int:
    checkpoint, cosignature = table_of(CheckpointRow), table_of(CosignatureRow)
    held = select(checkpoint.c.size).where(checkpoint.c.log_id == cosignature.c.log_id)
    with store.database.read() as connection:
        statement = select(func.count()).select_from(cosignature).where(cosignature.c.size.not_in(held))
        return int(connection.execute(statement).scalar_one())


def test_a_checkpoint_says_when_it_was_made(store: Store) -> None:
    OwnLog(store).append(record_bytes(key="A"))
    assert made_ms(store, 1) == NOW_MS


# Compare-and-set


def own_cosignature(log: OwnLog, size: int, time: int):
    return cosign_checkpoint(log.memory.checkpoint(size).checkpoint, QINGDAO.witness, time)


def test_a_head_is_cosigned_only_while_it_is_the_head(store: Store) -> None:
    log = OwnLog(store)
    first = log.append_numbered(3)
    second = log.append_numbered(2)
    assert not store.checkpoints.save_own_cosignature(first, "qingdao", own_cosignature(log, 3, 10))
    assert store.checkpoints.save_own_cosignature(second, "qingdao", own_cosignature(log, 5, 11))
    assert not store.checkpoints.save_own_cosignature(second, "qingdao", own_cosignature(log, 5, 12))
    found = store.checkpoints.find(second.id, 5)
    assert found is not None and [line.signature[:8] for line in found.note.signatures[1:]] == [(11).to_bytes(8, "big")]


def test_no_smaller_size_after_a_larger_one(store: Store) -> None:
    log = OwnLog(store)
    first = log.append_numbered(3)
    later = own_cosignature(log, 3, 10)
    log.append_numbered(2)
    assert store.checkpoints.save_cosignatures(first.id, 5, {"qingdao": own_cosignature(log, 5, 9)}) == 1
    with store.database.write() as connection:  # as a database that somebody has set back would say
        connection.exec_driver_sql("UPDATE log SET head_note = ? WHERE id = ?", (first.head_note, first.id))
    assert not store.checkpoints.save_own_cosignature(first, "qingdao", later)


def test_the_newest_time_of_each_witness_key(store: Store) -> None:
    """A member's next key has the same name; another member's key is another's."""
    log, newer = OwnLog(store), replace(QINGDAO, generation=2)
    for size, (lab, time) in enumerate(((QINGDAO, 50), (QINGDAO, 20), (newer, 30)), 1):
        state = log.append_numbered(1)
        signed = cosign_checkpoint(log.memory.checkpoint(size).checkpoint, lab.witness, time)
        store.checkpoints.save_cosignatures(state.id, size, {"qingdao": signed})
    newest = store.checkpoints.newest_cosigned_time
    assert [newest("qingdao", lab.witness.key) for lab in (QINGDAO, newer)] == [50, 30]
    assert [newest("qingdao", QINGDAO.witness.key, until_s=until_s) for until_s in (50, 49, 20, 19)] == [50, 20, 20, 0]
    assert newest("yantai", YANTAI.witness.key) == newest("yantai", QINGDAO.witness.key) == 0


def test_a_quorum_is_found_at_once_whatever_outlives_its_key(store: Store) -> None:
    """A witness that ends its key before it used it costs nobody a question for each of its cosignatures."""
    log, asked = OwnLog(store), list[str]()
    for size in range(1, 31):
        state = log.append_numbered(1)
        for lab in (QINGDAO, replace(YANTAI, generation=1 + (size > 28))):
            signed = cosign_checkpoint(log.memory.checkpoint(size).checkpoint, lab.witness, 50)
            store.checkpoints.save_cosignatures(state.id, size, {lab.member: signed})

    @event.listens_for(store.database._reader, "before_cursor_execute")
    def note(_connection, _cursor, statement, _parameters, _context, _many):
        if statement.startswith("SELECT"):
            asked.append(statement)

    retired = {line_start(YANTAI.witness.key): 49, line_start(JINAN.witness.key): 0}
    smallest = store.checkpoints.find_quorum_size(
        log.state.id, index=0, quorum=2, witnesses=["qingdao", "yantai"], retired=retired
    )
    assert smallest == 29 and len(asked) == 1


def test_a_cosignature_on_what_was_thinned_is_not_kept(store: Store) -> None:
    log = OwnLog(store)
    state = log.append_numbered(3)
    assert store.checkpoints.save_cosignatures(state.id, 2, {"qingdao": own_cosignature(log, 2, 9)}) == 0
    assert lonely_cosignatures(store) == 0


# Thinning


def rule(before_ms: int, **changes: object) -> ThinningRule:
    return ThinningRule(**{"before_ms": before_ms, "quorum": 2, "witnesses": ["qingdao", "yantai"], **changes})  # type: ignore[arg-type]


class BusyLog:
    """An own log with a push every ten minutes for two days; two witnesses cosign every second one."""

    def __init__(self, store: Store, pushes: int = 288) -> None:
        """Fill it."""
        self.store, self.log = store, OwnLog(store)
        self.first_s = NOW_MS // 1000 // HOUR_S * HOUR_S
        for i in range(pushes):
            now_s = self.first_s + 600 * i
            low = self.log.memory.size
            signed = self.log.memory.append(record_bytes(key=f"K-{i}"))
            self._append(low, signed, now_s)
            if i % 2:
                cosigned = {
                    lab.member: cosign_checkpoint(signed.checkpoint, lab.witness, now_s + 5 + j)
                    for j, lab in enumerate((QINGDAO, YANTAI))
                }
                assert store.checkpoints.save_cosignatures(self.log.state.id, signed.size, cosigned) == 2

    def _append(self, low, signed, now_s: int) -> None:
        from node.core.record import parse_record
        from node.store.logs import NewEntry

        memory = self.log.memory
        record = parse_record(memory.records[low], author="jinan", kinds=kinds())
        entry = NewEntry(memory.commitments[low], memory.salts[low], record)
        frontier, tiles = self.log.state.staged.extend(memory.commitments[low:])
        self.log.state = self.store.logs.append(
            self.log.state, [entry], frontier=frontier, tiles=tiles, signed=signed, now_ms=now_s * 1000
        )

    def quorum_size(self, index: int) -> int | None:
        return self.store.checkpoints.find_quorum_size(
            self.log.state.id, index=index, quorum=2, witnesses=["qingdao", "yantai"]
        )


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory):
    """Read only: `thinned` copies it."""
    store = new_store(tmp_path_factory.mktemp("busy") / "home")
    yield BusyLog(store)
    store.close()


@pytest.fixture
def thinned(busy: BusyLog, tmp_path: Path):
    from node.store import DATABASE_NAME, open_store

    (tmp_path / "copy").mkdir()
    busy.store.database.backup(tmp_path / "copy" / DATABASE_NAME)
    store = open_store(tmp_path / "copy")
    yield store
    store.close()


def test_one_an_hour_stays_of_what_is_old(busy: BusyLog, thinned: Store) -> None:
    log_id, end_ms = busy.log.state.id, (busy.first_s + 48 * HOUR_S) * 1000
    assert thinned.checkpoints.thin(log_id, rule(end_ms - DAY_MS)) == 144 - 25
    left = sizes(thinned, log_id)
    assert left[1:25] == [6 * hour for hour in range(1, 25)]
    assert left[25:] == list(range(145, 289)) and left[0] == 1
    assert lonely_cosignatures(thinned) == 0
    assert thinned.checkpoints.thin(log_id, rule(end_ms - DAY_MS)) == 0
    assert thinned.checkpoints.count(log_id) == 25 + 144


def test_what_outlives_a_witness_key_lets_nothing_go(busy: BusyLog, thinned: Store) -> None:
    """At the end of each hour a quorum in name only: it must not push out the one before it, which counts."""
    log_id, end_ms = busy.log.state.id, (busy.first_s + 48 * HOUR_S) * 1000
    start = line_start(replace(QINGDAO, generation=2).witness.key)
    with thinned.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE cosignature SET line = ? || substr(line, ?) WHERE witness = 'qingdao' AND size % 6 = 0",
            (start, len(start) + 1),
        )
    thinned.checkpoints.thin(log_id, rule(end_ms - DAY_MS, retired={start: 0}))
    assert {6 * hour + 4 for hour in range(24)} <= set(sizes(thinned, log_id))


def test_every_entry_is_seen_less_than_an_hour_later(busy: BusyLog, thinned: Store) -> None:
    log_id = busy.log.state.id
    before = [busy.quorum_size(index) for index in range(288)]
    thinned.checkpoints.thin(log_id, rule((busy.first_s + 48 * HOUR_S) * 1000))
    for index, size in enumerate(before):
        after = thinned.checkpoints.find_quorum_size(log_id, index=index, quorum=2, witnesses=["qingdao", "yantai"])
        assert size is not None and after is not None
        assert 0 <= (after - size) * 600 < HOUR_S


def test_named_sizes_and_the_last_cosigned_stay(busy: BusyLog, thinned: Store) -> None:
    log_id, end_ms = busy.log.state.id, (busy.first_s + 100 * HOUR_S) * 1000
    with thinned.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM cosignature WHERE witness = 'yantai' AND size > 100")
    thinned.checkpoints.thin(log_id, rule(end_ms, keep={7, 8, 9, 200}))
    left = sizes(thinned, log_id)
    assert {7, 8, 9, 200, 100, 288} <= set(left) and len(left) < 60


def test_what_was_thinned_is_not_looked_at_again(busy: BusyLog, thinned: Store) -> None:
    log_id, half = busy.log.state.id, (busy.first_s + 24 * HOUR_S) * 1000
    end_ms = half + DAY_MS
    assert thinned.checkpoints.thin(log_id, rule(end_ms, since_ms=half)) in range(115, 125)
    assert sizes(thinned, log_id)[:140] == list(range(1, 141))
    thinned.checkpoints.thin(log_id, rule(end_ms))
    assert thinned.checkpoints.count(log_id) in range(49, 53)


def test_the_head_always_stays(busy: BusyLog, thinned: Store) -> None:
    log_id = busy.log.state.id
    thinned.checkpoints.thin(log_id, rule((busy.first_s + 10_000 * HOUR_S) * 1000, quorum=9))
    assert sizes(thinned, log_id)[-1] == 288


def test_an_empty_log(store: Store) -> None:
    log = store.logs.open_log(JINAN.origin, "jinan")
    assert store.checkpoints.thin(log.id, rule(NOW_MS)) == 0 and store.checkpoints.count(log.id) == 0


# In an alliance


def cosign_all(made: SimulatedAlliance) -> None:
    for name in ("qingdao", "yantai"):
        made.catch_up(name, "jinan")
        assert made[name].exchange.cosign_head(JINAN.origin)
        made["jinan"].exchange.accept_notes(made[name].exchange.held_notes(), peer=name)


def bundle_verdict(member: SimulatedMember, key: str):
    alliance = member.membership.joined
    found = build_bundle(member.store, alliance, parse_record_id(f"jinan/result/{key}"), member=member.name, ceiling=10**6)
    return agreed_verdict(found, fingerprint=alliance.fingerprint, kinds=member.kinds)


def test_bundles_hold_after_thinning_and_are_seen_less_than_an_hour_later(tmp_path: Path) -> None:
    made = SimulatedAlliance(tmp_path, 3)
    jinan = made["jinan"]
    clocks = {id(member.clock): member.clock for member in made.members.values()}
    for i in range(40):
        jinan.push(draft(f"K-{i}"))
        cosign_all(made)
        for clock in clocks.values():
            clock.turn(900)
    before = {i: bundle_verdict(jinan, f"K-{i}") for i in range(40)}
    for clock in clocks.values():
        clock.turn(2 * 24 * 3600)
    for member in (jinan, made["qingdao"]):
        thinning = Thinning(member.store, member.membership, member.clock)
        log = member.store.logs.find_log(JINAN.origin)
        assert log is not None
        assert thinning.thin(log.id, "jinan") in range(27, 31)
        assert thinning.thin(log.id, "jinan") == 0
        *_, report = Inspector(member.store.inspection, member.kinds, "jinan").run()
        assert isinstance(report, Report) and report.verified
        if member is jinan:
            for i, old in before.items():
                new = bundle_verdict(member, f"K-{i}")
                assert new.verified and new.quorum_met
                assert old.seen_by is not None and new.seen_by is not None
                assert 0 <= new.seen_by - old.seen_by < HOUR_S
    made.close()


def test_without_an_alliance_nothing_is_thinned(tmp_path: Path) -> None:
    member = SimulatedMember(Lab("jinan"), tmp_path / "home", clock=TurnedClock())
    assert Thinning(member.store, member.membership, member.clock).thin(1, "jinan") == 0
    member.store.close()


def test_the_sizes_that_cards_and_rosters_name() -> None:
    from dataclasses import replace
    from datetime import timedelta

    from node.core.card import FormerLogKey
    from node.core.roster import Head
    from tests.builders import START, build_card, build_members, sign_card

    labs = [JINAN, QINGDAO, YANTAI]
    line = replace(build_members(labs)["jinan"], status="removed", left=START + timedelta(days=1), head=Head(4, bytes(32)))
    case = build_bundle_case(members={**build_members(labs), "jinan": line})
    former = (FormerLogKey(JINAN.log.key, 3, bytes(32)),)
    card = sign_card(build_card(replace(JINAN, generation=2), former_log_keys=former), JINAN)
    alliance = load_alliance(case.rosters, [card])
    assert named_sizes(alliance, "jinan") == {3, 4} and named_sizes(alliance, "yantai") == set()
