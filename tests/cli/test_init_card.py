"""`init` makes a home once; `card` shows what it made."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing

import pytest

from node.core.card import parse_card
from tests.cli.conftest import ALLIANCE, init, run

ARGUMENTS = {
    "--alliance": ALLIANCE,
    "--name": "济南市产品质量检验院",
    "--region": "CN-37",
    "--address": "jinan.example:7443",
}


def _init(home, member="jinan", *extra, **changes):
    options = {**ARGUMENTS, **{f"--{name}": value for name, value in changes.items()}}
    return run("init", member, *(part for pair in options.items() for part in pair), *extra, home=home)


def _everything(path):
    return {item: item.read_bytes() for item in path.rglob("*") if item.is_file()}


def test_init_makes_a_home_and_says_what_comes_next(tmp_path):
    ended = _init(tmp_path / "home")
    assert ended.exit_code == 0
    assert "roster create" in ended.out and "join" in ended.out and "card" in ended.out
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home" / "keys").iterdir()}
    assert set(modes.values()) == {0o600} and len(modes) == 4


def test_init_as_json(tmp_path):
    content = _init(tmp_path / "home", "jinan", "--json").document
    card = content.pop("card")
    home = str(tmp_path / "home")
    assert content == {"home": home, "member": "jinan", "alliance": ALLIANCE, "origin": f"{ALLIANCE}/log/jinan"}
    envelope, _ = parse_card(run("card", home=tmp_path / "home").out.strip().encode())
    assert card == envelope.hash


def test_a_second_init_is_refused_and_changes_nothing(home):
    before = _everything(home)
    ended = _init(home, "jinan", "--json")
    assert ended.exit_code == 1 and ended.error["reason"] == "HOME"
    assert "nothing was changed" in ended.error["message"]
    assert _everything(home) == before


@pytest.mark.parametrize(
    ("member", "changes", "named"),
    [
        ("Jinan", {}, "member id"),
        ("-jinan", {}, "-j"),
        ("j" * 32, {}, "member id"),
        ("jinan", {"alliance": "nodots"}, "alliance name"),
        ("jinan", {"alliance": "Upper.example"}, "alliance name"),
        ("jinan", {"address": "no-port"}, "not an address"),
        ("jinan", {"address": "host:0"}, "not an address"),
        ("jinan", {"address": "host:70000"}, "not an address"),
        ("jinan", {"listen": "everywhere"}, "listen"),
        ("jinan", {"name": ""}, "name"),
        ("jinan", {"name": "x" * 1000}, "name"),
        ("jinan", {"region": ""}, "region"),
    ],
)
def test_bad_names_are_usage_and_leave_nothing(tmp_path, member, changes, named):
    ended = _init(tmp_path / "home", member, "--json", **changes)
    assert ended.exit_code == 2
    assert named in ended.error["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_made_comes_with_what_to_type(tmp_path):
    (tmp_path / "file").write_text("")
    options = ("--alliance", ALLIANCE, "--name", "J", "--region", "CN", "--address", "a.example:7443", "--json")
    ended = run("init", "jinan", *options, home=tmp_path / "file" / "a" / "home")
    assert ended.exit_code == 1 and "file/a/home cannot be made: Not a directory" in ended.error["message"]
    assert ended.error["hint"].endswith(f"install -d -m 0700 -o USER {tmp_path / 'file' / 'a' / 'home'}")


def test_the_card_is_the_json_document_with_and_without_the_option(home):
    plain, as_json = run("card", home=home), run("card", "--json", home=home)
    assert plain.exit_code == as_json.exit_code == 0
    assert plain.out == as_json.out
    assert set(json.loads(plain.out)) == {"payload", "payloadType", "signatures"}


def test_the_card_in_a_file(home, tmp_path):
    file = tmp_path / "jinan.card"
    content = run("card", "-o", file, "--json", home=home).document
    envelope, card = parse_card(file.read_bytes().strip())
    assert content == {"file": str(file), "member": "jinan", "card": envelope.hash}
    assert card.name == "Jinan 检验院"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert "roster add" in run("card", "-o", file, "--force", home=home).out


def test_a_file_in_no_folder_is_usage(home, tmp_path):
    assert run("card", "-o", tmp_path / "none" / "card", home=home).exit_code == 2
    assert run("card", "-o", tmp_path, home=home).exit_code == 2


def test_a_home_of_another_version_is_named(home):
    with closing(sqlite3.connect(home / "labmesh.sqlite")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    ended = run("card", "--json", home=home)
    assert ended.exit_code == 1 and ended.error["hint"] == "type: labmesh upgrade"


def test_an_empty_database_is_no_older_version(home):
    (home / "labmesh.sqlite").write_bytes(b"")
    ended = run("card", "--json", home=home)
    assert ended.exit_code == 1 and "restore" in ended.error["hint"]


def test_upgrade_of_a_new_home_changes_nothing(home):
    assert run("upgrade", "--json", home=home).document == {"upgraded": False, "backup": None}


def test_upgrade_while_the_home_is_in_use(home):
    from node.home import Home

    with Home(home).lock():
        ended = run("upgrade", "--json", home=home)
    assert ended.exit_code == 1 and "stop the node" in ended.error["hint"]


def test_run_maps_errors_too(home):
    (home / "labmesh.toml").write_text("bogus = 1\n")
    ended = run("run", "--json", home=home)
    assert ended.exit_code == 1 and ended.error["reason"] == "CONFIG"


def test_two_members_have_two_cards(home, tmp_path):
    other = init(tmp_path / "other", "qingdao")
    assert run("card", home=home).out != run("card", home=other).out
