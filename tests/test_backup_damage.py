"""A backup that was cut off, or that a disk has changed, is refused in words and leaves nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from node import backup as backup_module
from node.backup import create_backup, read_manifest, restore_backup
from node.errors import HomeError
from node.home import Home, create_home
from node.store.snapshot import copy_database
from tests.alliance import NOON

PASSPHRASE = b"correct horse"


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A backup of a new home, with its keys."""
    folder = tmp_path_factory.mktemp("backup")
    create_home(folder / "home", member="jinan", alliance="a.example", name="N", region="R", address="h:1", listen="h:1")
    create_backup(Home(folder / "home"), folder / "backup", keys=True, passphrase=PASSPHRASE, made=NOON)
    return (folder / "backup").read_bytes()


def restore(raw: bytes, folder: Path) -> None:
    file = folder / "backup"
    file.write_bytes(raw)
    restore_backup(file, folder / "home", keys_from=None, ask_passphrase=lambda: PASSPHRASE)


def test_a_rotation_during_the_copy_makes_it_begin_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_home(tmp_path / "home", member="jinan", alliance="a.example", name="N", region="R", address="h:1", listen="h:1")
    folder, copies = tmp_path / "home" / "keys", list[Path]()
    old = (folder / "log.pem").read_bytes()
    new = (folder / "witness.pem").read_bytes()

    def copy(source: Path, target: Path) -> None:
        copies.append(target)
        if len(copies) == 1:  # the whole rotation
            (folder / "log.pem").write_bytes(new)
        elif len(copies) == 2:  # another one begins
            (folder / "log.next.pem").touch(mode=0o600)
            (folder / "log.next.pem").write_bytes(old)
        elif len(copies) == 3:  # and ends
            (folder / "log.next.pem").rename(folder / "log.pem")
        copy_database(source, target)

    monkeypatch.setattr(backup_module, "copy_database", copy)
    monkeypatch.setattr(backup_module, "RETRY_S", 0.0)
    create_backup(Home(tmp_path / "home"), tmp_path / "backup", keys=True, passphrase=PASSPHRASE, made=NOON)
    assert len(copies) == 4
    (tmp_path / "to").mkdir()
    restore((tmp_path / "backup").read_bytes(), tmp_path / "to")


def test_the_whole_backup_is_taken(backup: bytes, tmp_path: Path) -> None:
    restore(backup, tmp_path)
    assert read_manifest(tmp_path / "backup").member == "jinan"
    assert (tmp_path / "home" / "labmesh.toml").is_file()


@pytest.mark.parametrize("low", [0, 1, 30, 1000, 4000])
@pytest.mark.parametrize("high", [1, 22, 100, 4000])
def test_a_backup_with_a_gap_is_refused(backup: bytes, tmp_path: Path, low: int, high: int) -> None:
    """The directory at its end then points before its beginning, or to other bytes."""
    with pytest.raises(HomeError, match=r"is not a backup|is damaged") as refused:
        restore(backup[:low] + backup[-high:], tmp_path)
    assert refused.value.hint
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("seed", range(60))
def test_a_changed_byte_where_the_members_are_described_is_refused_or_changes_nothing(
    backup: bytes, tmp_path: Path, seed: int
) -> None:
    numbers = random.Random(seed)
    directory = backup.index(b"PK\x01\x02")
    at = numbers.choice([numbers.randrange(200), numbers.randrange(directory, len(backup))])
    raw = backup[:at] + bytes([backup[at] ^ 1 << numbers.randrange(8)]) + backup[at + 1 :]
    try:
        restore(raw, tmp_path)
    except HomeError as error:
        assert str(error) and not (tmp_path / "home").exists()
        return
    assert read_manifest(tmp_path / "backup").member == "jinan"


@pytest.mark.parametrize("raw", [b"", b"PK\x05\x06" + bytes(18), b"x" * 5000])
def test_another_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(HomeError, match="is not a backup"):
        restore(raw, tmp_path)
