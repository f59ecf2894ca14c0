"""`labmesh backup` and `labmesh restore`: what they write, what they refuse, and what they say."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from zipfile import ZipFile

import pytest

from node.backup import create_backup, read_manifest
from node.clients import Clients
from node.clock import utc_now
from node.core.kinds import Kinds
from node.errors import HomeError
from node.home import Home
from node.schemas import load_schemas
from node.store import open_store
from node.store.database import SCHEMA_REVISION
from tests.cli.conftest import ALLIANCE, Ended, init, run

PASSPHRASE = {"LABMESH_BACKUP_PASSPHRASE": "correct horse battery"}
KEY_NAMES = ("identity.pem", "log.pem", "tls.pem", "witness.pem")


def backup(home: Path, file: Path, *options: object) -> Path:
    ended = run("backup", file, *options, home=home, env=PASSPHRASE)
    assert ended.exit_code == 0, ended
    return file


def restore(file: Path, home: Path, *options: object) -> Ended:
    return run("restore", file, *options, "--json", home=home, env=PASSPHRASE)


def refused(ended: Ended) -> str:
    assert ended.exit_code == 1
    message: str = ended.error["message"]
    assert ended.error["reason"] == "HOME"
    return message


def keys_of(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (home / "keys").iterdir()}


class TestBackup:
    def test_one_file_for_nobody_else(self, founded: Path, tmp_path: Path) -> None:
        file = backup(founded, tmp_path / "b")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "home"]
        with ZipFile(file) as archive:
            assert sorted(archive.namelist()) == ["labmesh.sqlite", "labmesh.toml", "manifest.json"]
            manifest = json.loads(archive.read("manifest.json"))
        assert (manifest["format"], manifest["member"], manifest["alliance"]) == ("labmesh-backup/1", "jinan", ALLIANCE)
        assert (manifest["schema"], manifest["size"], manifest["keys"]) == (SCHEMA_REVISION, 0, "none")

    def test_what_it_says(self, founded: Path, tmp_path: Path) -> None:
        ended = run("backup", tmp_path / "b", home=founded)
        assert "holds jinan with 0 entries of its log" in ended.out
        assert "keeps what is erased from now on" in ended.err
        assert f"keep a copy of {founded / 'keys'} in another place" in ended.err
        with_keys = run("backup", tmp_path / "c", "--keys", "--json", home=founded, env=PASSPHRASE)
        assert with_keys.document["keys"] is True and with_keys.document["file"] == str(tmp_path / "c")

    def test_private_keys_only_under_a_passphrase(self, founded: Path, tmp_path: Path) -> None:
        assert refused(run("backup", tmp_path / "b", "--keys", "--json", home=founded)).startswith("a passphrase is needed")
        assert not (tmp_path / "b").exists()
        with ZipFile(backup(founded, tmp_path / "b", "--keys")) as archive:
            found = {name: archive.read(name) for name in archive.namelist() if name.startswith("keys/")}
        assert sorted(found) == [f"keys/{name}" for name in KEY_NAMES]
        assert all(raw.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") for raw in found.values())

    def test_it_overwrites_nothing(self, founded: Path, tmp_path: Path) -> None:
        (tmp_path / "b").write_text("mine")
        ended = run("backup", tmp_path / "b", "--json", home=founded)
        assert ended.exit_code == 2 and "exists already; nothing was written" in ended.error["message"]
        assert (tmp_path / "b").read_text() == "mine"
        assert "there is no folder" in run("backup", tmp_path / "no" / "b", "--json", home=founded).error["message"]
        with pytest.raises(HomeError, match="exists already; nothing was written"):
            create_backup(Home(founded), tmp_path / "b", keys=False, passphrase=None, made=utc_now())

    def test_it_replaces_what_it_is_told_to_replace(self, founded: Path, tmp_path: Path) -> None:
        (tmp_path / "b").write_text("mine")
        assert run("backup", tmp_path / "b", "--force", "--json", home=founded).exit_code == 0
        assert read_manifest(tmp_path / "b").member == "jinan"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "home"]
        with pytest.raises(HomeError, match="exists already"):
            create_backup(Home(founded), tmp_path, keys=False, passphrase=None, made=utc_now(), replace=True)

    def test_a_damaged_database_makes_no_backup(self, founded: Path, tmp_path: Path) -> None:
        damage(founded / "labmesh.sqlite")
        ended = run("backup", tmp_path / "b", "--json", home=founded)
        assert ended.exit_code == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]

    def test_no_home(self, tmp_path: Path) -> None:
        assert "is not the home of a Labmesh node" in refused(run("backup", tmp_path / "b", "--json", home=tmp_path / "x"))


def damage(database: Path) -> None:
    """Overwrite the middle of every page but the first."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("PRAGMA page_size").fetchone()[0]
    raw = bytearray(database.read_bytes())
    for start in range(page, len(raw), page):
        raw[start : start + 200] = b"\xa5" * 200
    database.write_bytes(raw)


class TestRestore:
    def test_with_the_keys_from_the_backup(self, founded: Path, tmp_path: Path) -> None:
        file, home = backup(founded, tmp_path / "b", "--keys"), tmp_path / "new"
        ended = restore(file, home)
        assert ended.exit_code == 0, ended
        assert (ended.document["member"], ended.document["upgrade_needed"]) == ("jinan", False)
        assert keys_of(home) == keys_of(founded)
        assert (home / "labmesh.toml").read_bytes() == (founded / "labmesh.toml").read_bytes()
        assert stat.S_IMODE(home.stat().st_mode) == stat.S_IMODE((home / "keys").stat().st_mode) == 0o700
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (home / "keys").iterdir())
        Home(home).load_keys("jinan", ALLIANCE)
        shown = run("roster", "show", "--json", home=home).document
        assert shown == run("roster", "show", "--json", home=founded).document

    def test_with_keys_from_a_folder(self, founded: Path, tmp_path: Path) -> None:
        file = backup(founded, tmp_path / "b")
        assert "holds no private keys" in refused(restore(file, tmp_path / "new"))
        assert restore(file, tmp_path / "new", "--keys", founded / "keys").exit_code == 0
        assert keys_of(tmp_path / "new") == keys_of(founded)

    def test_it_says_what_to_do_next(self, founded: Path, tmp_path: Path) -> None:
        home = tmp_path / "new home"
        ended = run("restore", backup(founded, tmp_path / "b"), "--keys", founded / "keys", home=home)
        assert f"{home} is jinan as of 20" in ended.out
        assert "two homes of one member would write two logs" in ended.err
        assert f"labmesh --home '{home}' run" in ended.err
        assert "client" not in ended.err

    def test_clients_need_new_tokens(self, founded: Path, tmp_path: Path) -> None:
        with closing(open_store(founded)) as store:
            clients = Clients(store.clients, kinds=Kinds(load_schemas()), clock=utc_now)
            clients.add("lims", "push", ("capability", "result"))
            clients.add("boss", "admin", ())
        file, home = backup(founded, tmp_path / "b", "--keys"), tmp_path / "new"
        ended = run("restore", file, home=home, env=PASSPHRASE)
        assert "Every client in the backup is revoked" in ended.err
        assert f"instead of boss: labmesh --home {home} client add NAME --role admin\n" in ended.err
        assert f"instead of lims: labmesh --home {home} client add NAME --role push --kinds capability,result\n" in ended.err
        document = restore(file, tmp_path / "newer").document
        assert document["revoked_clients"] == [
            {"name": "boss", "role": "admin", "kinds": None},
            {"name": "lims", "role": "push", "kinds": ["capability", "result"]},
        ]

    def test_an_empty_folder_is_filled(self, founded: Path, tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        assert restore(backup(founded, tmp_path / "b", "--keys"), tmp_path / "new").exit_code == 0
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["keys", "labmesh.sqlite", "labmesh.toml"]

    def test_a_home_is_never_replaced(self, founded: Path, tmp_path: Path) -> None:
        before = (founded / "labmesh.sqlite").read_bytes()
        assert "exists already; nothing was changed" in refused(restore(backup(founded, tmp_path / "b"), founded))
        assert (founded / "labmesh.sqlite").read_bytes() == before

    def test_another_passphrase(self, founded: Path, tmp_path: Path) -> None:
        file = backup(founded, tmp_path / "b", "--keys")
        ended = run("restore", file, "--json", home=tmp_path / "new", env={"LABMESH_BACKUP_PASSPHRASE": "wrong"})
        assert refused(ended) == "the passphrase does not open identity.pem"
        hint = ended.error["hint"]
        assert "LABMESH_BACKUP_PASSPHRASE" in hint and "type it again" not in hint, "nothing was typed"
        assert not (tmp_path / "new").exists()

    def test_keys_of_somebody_else(self, founded: Path, made_home: Path, tmp_path: Path) -> None:
        other = tmp_path / "keys"
        shutil.copytree(founded / "keys", other)
        shutil.copyfile(other / "log.pem", other / "identity.pem")
        ended = restore(backup(founded, tmp_path / "b"), tmp_path / "new", "--keys", other)
        assert refused(ended) == "identity.pem is not the key in the card of jinan"
        (other / "tls.pem").unlink()
        shutil.copyfile(founded / "keys" / "identity.pem", other / "identity.pem")
        ended = restore(tmp_path / "b", tmp_path / "new", "--keys", other)
        assert refused(ended) == "the key tls.pem is missing"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "home", "keys"]

    def test_keys_of_another_day(self, founded: Path, tmp_path: Path) -> None:
        """The identity key shows whose they are; what the others lack, the node says, and its people rotate."""
        other, made = tmp_path / "keys", init(tmp_path / "made")
        shutil.copytree(founded / "keys", other)
        for name in ("log", "witness", "tls"):
            shutil.copyfile(made / "keys" / f"{name}.pem", other / f"{name}.pem")
        ended = restore(backup(founded, tmp_path / "b"), tmp_path / "new", "--keys", other)
        assert ended.exit_code == 0 and ended.document["lost_keys"] == ["log", "witness", "tls"]
        home = Home(tmp_path / "new")
        assert home.key_path("log").read_bytes() == (made / "keys" / "log.pem").read_bytes()
        plain = run("restore", tmp_path / "b", "--keys", other, home=tmp_path / "plain")
        assert plain.exit_code == 0 and "The witness key is not the one in the card" in plain.err

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda raw: raw[: len(raw) // 2], "is not a backup"),
            (lambda raw: raw.replace(b'"size":0', b'"size":1'), "Bad CRC-32"),
            (lambda raw: flip(raw, len(raw) // 3), "damaged"),
            (lambda raw: raw.replace(b"labmesh-backup/1", b"labmesh-backup/2"), "Bad CRC-32"),
            (lambda raw: raw.replace(b"labmesh.toml", b"../mesh.toml"), "is not a backup"),
            (lambda raw: b"", "is not a backup"),
        ],
    )
    def test_a_file_that_was_changed(
        self, founded: Path, tmp_path: Path, change: Callable[[bytes], bytes], said: str
    ) -> None:
        file = backup(founded, tmp_path / "b", "--keys")
        file.write_bytes(change(file.read_bytes()))
        ended = restore(file, tmp_path / "new")
        assert ended.exit_code == 1 and ended.error["reason"] == "HOME"
        assert said in ended.error["message"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "home"]

    def test_an_older_schema_is_upgraded_after(self, founded: Path, tmp_path: Path) -> None:
        set_revision(founded, "0001")
        file = backup(founded, tmp_path / "b", "--keys")
        ended = run("restore", file, home=tmp_path / "new", env=PASSPHRASE)
        assert (ended.exit_code, read_manifest(file).schema) == (0, "0001")
        assert "made by an older version: type labmesh --home" in ended.err

    def test_a_newer_schema_is_refused(self, founded: Path, tmp_path: Path) -> None:
        set_revision(founded, "9999")
        assert "made by a newer Labmesh" in refused(run("backup", tmp_path / "b", "--json", home=founded))


def flip(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def set_revision(home: Path, revision: str) -> None:
    with closing(sqlite3.connect(home / "labmesh.sqlite")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


class TestDamagedHomes:
    def test_an_empty_database_is_restored_not_upgraded(self, founded: Path) -> None:
        for name in ("labmesh.sqlite", "labmesh.sqlite-wal", "labmesh.sqlite-shm"):
            (founded / name).unlink(missing_ok=True)
        (founded / "labmesh.sqlite").touch(mode=0o600)
        for command in (("roster", "show"), ("upgrade",), ("run",)):
            ended = run(*command, "--json", home=founded)
            assert ended.error["message"] == f"{founded / 'labmesh.sqlite'} is empty"
            assert "restore FILE" in ended.error["hint"]
        assert (founded / "labmesh.sqlite").stat().st_size == 0

    def test_damaged_pages_are_noticed_at_the_start(self, founded: Path) -> None:
        damage(founded / "labmesh.sqlite")
        ended = run("run", "--json", home=founded)
        assert "damaged" in ended.error["message"] or "not a readable database" in ended.error["message"]
        assert "restore" in ended.error["hint"]


def open_to_others(key: Path) -> Path:
    key.chmod(0o644)
    return key


class TestKeysThatOthersCanRead:
    def test_they_do_not_go_into_a_backup(self, founded: Path, tmp_path: Path) -> None:
        key = open_to_others(founded / "keys" / "identity.pem")
        ended = run("backup", tmp_path / "b", "--keys", "--json", home=founded, env=PASSPHRASE)
        assert f"{key} can be read by others" in refused(ended)
        assert ended.error["hint"] == f"type: chmod 600 {key}"
        assert not (tmp_path / "b").exists()
        key.chmod(0o600)
        backup(founded, tmp_path / "b", "--keys")

    @pytest.mark.parametrize("name", KEY_NAMES)
    def test_they_do_not_come_into_a_home(self, founded: Path, tmp_path: Path, name: str) -> None:
        file, folder = backup(founded, tmp_path / "b"), tmp_path / "k2"
        shutil.copytree(founded / "keys", folder)
        key = open_to_others(folder / name)
        ended = restore(file, tmp_path / "new", "--keys", folder)
        assert f"{key} can be read by others" in refused(ended) and "chmod 600" in ended.error["hint"]
        assert not (tmp_path / "new").exists()
        key.chmod(0o600)
        assert restore(file, tmp_path / "new", "--keys", folder).exit_code == 0
