"""The scene notices what it is there to notice: a change of any table, and an attack that is none."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from node.core.alliance import format_card, format_roster
from tests.alliance import drafts
from tests.attacks.keys import changed_card
from tests.attacks.scene import HELD, JINAN, SEEN, SIZE, YANTAI, Scene, dump_tables
from tests.attacks.surfaces import BUNDLE, CALL, CARD, FILE, PROOF, ROSTER, TOLD
from tests.attacks.table import Perform, Surface
from tests.builders import sign_card

TABLES = {"card", "checkpoint", "cosignature", "cursor", "entry", "log", "node", "opening", "roster", "tile"}


def test_everybody_is_where_the_attacks_expect_them(scene: Scene) -> None:
    sizes = [member.mirror_of("jinan").head_size for member in (scene.reader, scene.jinan, scene.yantai)]
    assert sizes == [HELD, SIZE, SIZE]
    assert scene.joined.active_members() == ["jinan", "qingdao", "yantai"]
    assert (scene.joined.roster.version, scene.joined.roster.threshold, len(scene.joined.roster.council)) == (4, 2, 3)
    assert scene.case.first_proof is not None and f"\n{SEEN}\n".encode() in scene.case.first_proof


def test_every_table_is_dumped(scene: Scene) -> None:
    tables = set(dump_tables(scene.reader.store))
    with closing(sqlite3.connect(scene.reader.store.database.path)) as connection:
        held = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == held >= TABLES


@pytest.mark.parametrize("table", sorted(TABLES - {"tile"}))
def test_one_changed_value_in_any_table_is_noticed(scene: Scene, table: str) -> None:
    before = scene.saved()
    with scene.jinan.store.database.write() as connection:
        # Every row of these tables has a whole number or a text that may change without breaking a rule.
        column = {"card": "member", "cosignature": "time", "cursor": "sequence", "entry": "commitment", "log": "head_ms",
                  "node": "created_ms", "opening": "fault", "roster": "hash", "checkpoint": "note"}[table]  # fmt: skip
        if table == "cursor":
            connection.exec_driver_sql("INSERT INTO cursor VALUES (9, 'x', 1)")
        connection.exec_driver_sql(f"UPDATE {table} SET {column} = 7")
    changed = [name for name, rows in scene.saved().items() if rows != before[name]]
    assert changed == [f"jinan: {table}"]


def test_what_an_attack_did_is_undone(scene: Scene) -> None:
    before = scene.saved()
    with scene.undone():
        scene.jinan.push(scene.draft("ONE-MORE"))
        scene.alliance.catch_up("qingdao", "jinan")
        assert scene.saved() != before
    assert scene.saved() == before


@pytest.mark.parametrize("surface", [PROOF, BUNDLE, FILE, CALL, ROSTER, CARD, TOLD], ids=lambda one: one.name)
def test_an_attack_that_changes_nothing_is_not_refused(
    scene: Scene, surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the table would be full of attacks that fail for another reason than theirs."""
    monkeypatch.setattr("tests.alliance.PATIENCE_S", 0.5)
    honest: dict[Surface, Perform] = {
        PROOF: lambda proof: proof,
        BUNDLE: lambda bundle, scene: bundle,
        FILE: lambda raw, scene: raw,
        CALL: lambda scene: scene.joined,
        ROSTER: lambda scene: format_roster(scene.joined.rosters[-1]),
        CARD: lambda scene: format_card(scene.joined.cards["yantai"]),
        TOLD: lambda scene: [bytes(scene.checkpoint(HELD))],
    }
    with pytest.raises((AssertionError, TimeoutError)):
        surface.strike(scene, honest[surface])


def test_a_card_that_may_follow_is_taken(scene: Scene) -> None:
    with scene.undone():
        card = sign_card(changed_card(scene, name="A new name"), YANTAI)
        assert scene.reader.membership.accept_update([], [card]).faults == ()
        assert scene.joined.card("yantai").name == "A new name"


def test_the_other_alliance_is_empty_and_goes_away(scene: Scene) -> None:
    with scene.other() as alliance:
        folder = alliance["jinan"].path.parent
        assert not dump_tables(alliance["jinan"].store)["entry"]
        alliance["jinan"].push(*drafts(1))
        assert len(dump_tables(alliance["jinan"].store)["entry"]) == 1
        assert alliance["jinan"].lab == JINAN
    assert not folder.exists()
