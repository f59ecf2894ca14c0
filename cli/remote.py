"""A node on another machine, as the command line names it: `--remote HOST:PORT --token-file F --ca F`.

The token is never an option's value: those are shown to every account of the machine.
"""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cli.outcome import UsageFault
from node.errors import ConfigError, FormatError

if TYPE_CHECKING:
    from node.rpc.connection import RemoteConnection

VARIABLES = {"remote": "LABMESH_REMOTE", "token_file": "LABMESH_TOKEN_FILE", "ca": "LABMESH_CA"}
FILE_SIZE_MAX = 1024 * 1024


@dataclass(slots=True)
class RemoteOptions:
    """What was given; empty for not. `typed` names the options that stood on the command line, not in the environment."""

    remote: str = ""
    token_file: str = ""
    ca: str = ""
    typed: set[str] = field(default_factory=set)

    def typed_options(self) -> str:
        """What stood on the command line, to be typed again."""
        given = ((name, getattr(self, name)) for name in VARIABLES if name in self.typed)
        return " ".join(f"--{name.replace('_', '-')} {shlex.quote(value)}" for name, value in given)

    def build_connection(self) -> RemoteConnection:
        """The way to the node.

        Raises:
            UsageFault: an option is missing or wrong.
            ConfigError: a file cannot be used.
        """
        from node.rpc.connection import RemoteConnection

        address = parse_address(self.remote)
        for name, value in (("token_file", self.token_file), ("ca", self.ca)):
            if not value:
                option = "--" + name.replace("_", "-")
                raise UsageFault(
                    f"--remote needs {option}",
                    hint=f"give {option} FILE or {VARIABLES[name]}; the token is what labmesh client add wrote at the node, "
                    "the other file is remote.crt from its home",
                )
        return RemoteConnection(address, read_token(self.token_file), _read(self.ca, "--ca"), self.ca)


def parse_address(text: str) -> str:
    """Return `text` if it is host:port.

    Raises:
        UsageFault: it is not.
    """
    from node.core.card import parse_endpoint

    try:
        return parse_endpoint(text)
    except FormatError as error:
        raise UsageFault(f"--remote: {error.message}", hint=error.hint) from error


def read_token(name: str) -> str:
    """The token in a file that nobody else may read.

    Raises:
        ConfigError: the file is missing, open to others, or holds no token.
    """
    from node.core.token import parse_token

    path = Path(name).expanduser()
    raw = _read(name, "--token-file")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path} can be read by others", hint=f"type: chmod 600 {shlex.quote(str(path))}")
    try:
        return parse_token(raw.decode("ascii", "replace").strip())
    except FormatError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error


def _read(name: str, option: str) -> bytes:
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{option} {os.fsdecode(name)}: {error.strerror}", hint="name a file that exists") from error
    if len(raw) > FILE_SIZE_MAX:
        raise ConfigError(f"{option} {os.fsdecode(name)} has more than {FILE_SIZE_MAX} bytes", hint="name another file")
    return raw
