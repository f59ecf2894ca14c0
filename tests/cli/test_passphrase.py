"""Where a passphrase comes from, and which files and passphrases are refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click
import pytest

from cli import passphrase as passphrase_module
from cli.passphrase import is_open_to_others, read_passphrase, read_passphrase_file
from node.errors import HomeError

VARIABLE = "LABMESH_TEST_PASSPHRASE"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def read(file: Any = None, *, confirm: bool = False) -> bytes:
    return read_passphrase(variable=VARIABLE, file=None if file is None else str(file), confirm=confirm)


def write(path, content: bytes, mode: int = 0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"correct horse\n", b"correct horse"), (b"no newline", b"no newline"), (b"dos line\r\nmore", b"dos line"),
     ("口令 很长\n".encode(), "口令 很长".encode()), (b" spaces stay \n", b" spaces stay ")],
)  # fmt: skip
def test_the_first_line_of_a_file(tmp_path, content, expected):
    assert read(write(tmp_path / "secret", content)) == expected


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644, 0o601])
def test_a_file_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path, mode, monkeypatch):
    path = write(tmp_path / "a file", b"secret words\n", mode)
    monkeypatch.setattr(passphrase_module, "is_open_to_others", lambda state: bool(state.st_mode & 0o077))
    with pytest.raises(HomeError) as refusal:
        read_passphrase_file(path)
    assert refusal.value.hint == f"type: chmod 600 '{path}'"
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "refused"),
    [(1000, 1000, 0o100600, False), (1000, 1000, 0o100640, True), (1000, 1000, 0o100604, True), (1000, 0, 0o100640, True),
     (0, 0, 0o100440, False), (0, 0, 0o100444, True), (0, 1000, 0o100640, True)],
)  # fmt: skip
def test_what_systemd_passes_is_taken(uid, gid, mode, refused):
    """Under LoadCredential= the access list for the service shows as the group's bits of a file of root."""
    state: Any = SimpleNamespace(st_uid=uid, st_gid=gid, st_mode=mode)
    assert is_open_to_others(state) is refused


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(HomeError, match="cannot be read: No such file"):
        read(tmp_path / "none")


def test_the_environment_and_the_file_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "from the environment")
    assert read() == b"from the environment"
    assert read(write(tmp_path / "secret", b"from the file")) == b"from the file"


@pytest.mark.parametrize("confirm", [False, True])
@pytest.mark.parametrize("text", ["", "x" * 1001])
def test_impossible_passphrases(monkeypatch, text, confirm):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(HomeError, match="1 to 1000 bytes"):
        read(confirm=confirm)


def test_a_new_passphrase_is_not_short(monkeypatch):
    monkeypatch.setenv(VARIABLE, "1234567")
    assert read() == b"1234567"
    with pytest.raises(HomeError, match="fewer than 8"):
        read(confirm=True)


def test_without_a_terminal_nobody_is_asked(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(HomeError) as refusal:
        read()
    assert "--passphrase-file" in refusal.value.hint and VARIABLE in refusal.value.hint


@pytest.mark.parametrize("confirm", [False, True])
def test_on_a_terminal_a_person_is_asked(monkeypatch, confirm):
    asked: dict[str, Any] = {}

    def prompt(text: str, **options: Any) -> str:
        asked.update(options, text=text)
        return "typed by a person"

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(click, "prompt", prompt)
    assert read(confirm=confirm) == b"typed by a person"
    assert asked == {"text": "Passphrase", "hide_input": True, "confirmation_prompt": confirm, "err": True}
