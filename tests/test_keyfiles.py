"""Key files: closed to others, under one passphrase or none, and never half of each."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import HomeError
from node.keyfiles import KEY_NAMES, KeyFiles, format_key, is_protected, require_private

OLD, NEW = b"correct horse", "battery 口令".encode()


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    made = KeyFiles(tmp_path)
    for name in KEY_NAMES[:3]:
        made.write(made.path(name), Ed25519PrivateKey.generate())
    made.write(made.path("tls"), ec.generate_private_key(ec.SECP256R1()))
    return made


def contents(files: KeyFiles) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files.folder.iterdir()}


def publics(files: KeyFiles) -> list[bytes]:
    found = [files.load_ed25519(files.path(name)).public_key().public_bytes_raw() for name in KEY_NAMES[:3]]
    return [*found, format_key(files.load_tls(files.path("tls")))]


def test_a_key_is_written_once_and_for_its_owner_alone(files: KeyFiles) -> None:
    assert {path.stat().st_mode & 0o777 for path in files.folder.iterdir()} == {0o600}
    before = contents(files)
    with pytest.raises(FileExistsError):
        files.write(files.path("log"), Ed25519PrivateKey.generate())
    assert contents(files) == before


def test_promotion_leaves_the_new_key_alone(files: KeyFiles) -> None:
    key = Ed25519PrivateKey.generate()
    files.write(files.next_path("log"), key)
    files.promote("log")
    assert files.load_ed25519(files.path("log")).private_bytes_raw() == key.private_bytes_raw()
    assert not files.next_path("log").exists()
    files.drop_next("log")  # nothing there is fine


def test_protecting_changing_and_unprotecting(files: KeyFiles) -> None:
    before = publics(files)
    files.write(files.next_path("tls"), ec.generate_private_key(ec.SECP256R1()))
    assert not files.protected()
    assert files.protect(OLD) == 5 and files.protected()
    assert all(is_protected(path.read_bytes()) for path in files.present())
    assert publics(KeyFiles(files.folder, OLD)) == before
    assert KeyFiles(files.folder, OLD).protect(NEW) == 5
    assert publics(KeyFiles(files.folder, NEW)) == before
    with pytest.raises(HomeError, match="does not open"):
        KeyFiles(files.folder, OLD).load_ed25519(files.path("log"))
    assert KeyFiles(files.folder, NEW).protect(None) == 5
    assert publics(files) == before and not files.protected()
    assert {path.suffix for path in files.folder.iterdir()} == {".pem"}
    assert {path.stat().st_mode & 0o777 for path in files.folder.iterdir()} == {0o600}


def test_a_wrong_passphrase_changes_nothing(files: KeyFiles) -> None:
    files.protect(OLD)
    before = contents(files)
    for wrong in (None, b"wrong", OLD.upper()):
        with pytest.raises(HomeError) as refusal:
            KeyFiles(files.folder, wrong).protect(NEW)
        assert refusal.value.hint
        with pytest.raises(HomeError):
            KeyFiles(files.folder, wrong).protect(None)
    assert contents(files) == before


@pytest.mark.parametrize("done", [1, 2, 3])
@pytest.mark.parametrize(("held", "new"), [(None, OLD), (OLD, NEW), (OLD, None)])
def test_a_crash_between_two_files_is_mended_by_the_same_command(
    files: KeyFiles, monkeypatch: pytest.MonkeyPatch, held: bytes | None, new: bytes | None, done: int
) -> None:
    before = publics(files)
    if held:
        files.protect(held)
    real, count = Path.replace, 0

    def crash(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count > done:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            KeyFiles(files.folder, held).protect(new)
    assert {path.name for path in files.present()} == {f"{name}.pem" for name in KEY_NAMES}
    assert KeyFiles(files.folder, held).protect(new) == 4 - done
    assert publics(KeyFiles(files.folder, new)) == before
    assert len(contents(files)) == 4


@pytest.mark.parametrize("name", KEY_NAMES)
def test_protecting_needs_every_key(files: KeyFiles, name: str) -> None:
    files.path(name).unlink()
    before = contents(files)
    with pytest.raises(HomeError, match="cannot be read"):
        files.protect(OLD)
    assert contents(files) == before


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=1, max_size=1000))
def test_any_passphrase_opens_what_it_closed(passphrase: bytes) -> None:
    key = Ed25519PrivateKey.generate()
    raw = format_key(key, passphrase)
    assert is_protected(raw) and not is_protected(format_key(key))


@pytest.mark.parametrize(("mode", "most", "refused"), [
    (0o600, 0o600, False), (0o400, 0o600, False), (0o640, 0o600, True), (0o601, 0o600, True),
    (0o700, 0o700, False), (0o710, 0o710, False), (0o711, 0o710, True), (0o750, 0o710, True),
])  # fmt: skip
def test_modes(tmp_path: Path, mode: int, most: int, refused: bool) -> None:
    path = tmp_path / "it's here"
    path.touch()
    path.chmod(mode)
    if not refused:
        require_private(path, most)
        return
    with pytest.raises(HomeError) as refusal:
        require_private(path, most)
    assert refusal.value.hint.startswith(f"type: chmod {most & 0o700:o} ")


@pytest.mark.parametrize("other", ["2b6575", "2b6571"], ids=["a kind that nobody knows", "another kind of that length"])
def test_a_key_that_the_library_cannot_make_is_refused_in_words(tmp_path: Path, other: str) -> None:
    """Whatever the library raises: such a file is no key of a home."""
    first, *lines, last = format_key(Ed25519PrivateKey.generate()).splitlines()
    der = base64.b64decode(b"".join(lines)).replace(bytes.fromhex("2b6570"), bytes.fromhex(other), 1)
    files = KeyFiles(tmp_path)
    files.path("log").touch(mode=0o600)
    files.path("log").write_bytes(b"\n".join((first, base64.b64encode(der), last, b"")))
    with pytest.raises(HomeError, match="is not a private key in PEM"):
        files.load_ed25519(files.path("log"))
