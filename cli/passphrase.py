"""Where a passphrase comes from: a file, the environment or a prompt; never an option's value, which others could read.

A file that others can read is refused. What systemd passes to a service (LoadCredential=) belongs to root and shows its
access list as the group's bits, so root's group does not count as others.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import ConfigError, HomeError

if TYPE_CHECKING:
    from node.home import Home

HOME_VARIABLE = "LABMESH_PASSPHRASE"
LENGTH_MIN = 8
SIZE_MAX = 1000


def read_passphrase(*, variable: str, file: str | None, confirm: bool, noun: str = "Passphrase") -> bytes:
    """The passphrase, as UTF-8.

    Args:
        variable: the environment variable that may hold it; the file goes first, the prompt last.
        file: a file whose first line it is, or None.
        confirm: a new passphrase: ask for it twice, and refuse a short one.
        noun: what the prompt asks for.

    Raises:
        HomeError: there is none and nobody to ask, or it cannot be used.
    """
    if file is not None:
        passphrase = read_passphrase_file(Path(file))
    elif variable in os.environ:
        passphrase = os.environ[variable].encode("utf-8", "surrogateescape")
    else:
        passphrase = _ask(noun, variable, confirm=confirm)
    if not passphrase or len(passphrase) > SIZE_MAX:
        raise HomeError(f"a passphrase has 1 to {SIZE_MAX} bytes, this one {len(passphrase)}")
    if confirm and len(passphrase.decode("utf-8", "replace")) < LENGTH_MIN:
        raise HomeError(
            f"the passphrase has fewer than {LENGTH_MIN} characters",
            hint="take several words: whoever copies the file can try millions of passphrases a second",
        )
    return passphrase


def read_passphrase_file(path: Path) -> bytes:
    """The first line of a file that only its owner may read.

    Raises:
        HomeError: others may read it, or it cannot be read.
    """
    try:
        state = path.stat()
        if is_open_to_others(state):
            raise HomeError(f"{path} can be read by others", hint=f"type: chmod 600 {shlex.quote(str(path))}")
        with path.open("rb") as file:
            first = file.read(SIZE_MAX + 2).split(b"\n", 1)[0]
    except OSError as error:
        raise HomeError(
            f"the passphrase file {path} cannot be read: {error.strerror}", hint="name the right file with --passphrase-file"
        ) from error
    return first.removesuffix(b"\r")


def is_open_to_others(state: os.stat_result) -> bool:
    """Whether anybody but the owner (and root's group, for a file of root) may read or change the file."""
    by_root = state.st_uid == 0 and state.st_gid == 0
    return bool(stat.S_IMODE(state.st_mode) & (0o007 if by_root else 0o077))


def _ask(noun: str, variable: str, *, confirm: bool) -> bytes:
    if not sys.stdin.isatty():
        raise HomeError(
            f"a passphrase is needed, and there is no terminal to ask for it ({noun.lower()})",
            hint=f"name a file that only you can read with --passphrase-file FILE, or set {variable} in the environment",
        )
    import click

    # The prompt's own words go to stderr, so that --json stays one document.
    answer: str = click.prompt(noun, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer.encode("utf-8", "surrogateescape")


def home_passphrase(home: Home, chosen: str | None) -> bytes | None:
    """What opens the private keys of a home; None where they are not protected.

    `chosen` is the file of --passphrase-file; after it come the environment, the setting passphrase_file, and the prompt.

    Raises:
        HomeError: they are protected, and there is no passphrase; or a file is open to others.
    """
    if not home.key_files().protected():
        return None
    file = chosen
    if file is None and HOME_VARIABLE not in os.environ:
        file = str(home.path / setting) if (setting := _passphrase_setting(home)) else None
    return read_passphrase(variable=HOME_VARIABLE, file=file, confirm=False, noun="Passphrase of the private keys")


def _passphrase_setting(home: Home) -> str:
    try:
        return home.load_settings().passphrase_file
    except (ConfigError, OSError):
        return ""  # whoever needs the settings says what is wrong with them
