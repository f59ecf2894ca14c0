"""Settings: `labmesh.toml` in the home, read once at start into frozen values. An unknown name is refused, not ignored."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from node.core.card import parse_endpoint
from node.core.mirror import STAGING_BYTES_MAX, STAGING_ENTRIES_MAX, StagingLimits
from node.errors import MAKE_HOME, ConfigError, FormatError

CONFIG_NAME = "labmesh.toml"
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How peers are followed."""

    contact_interval_s: int = 15
    deadline_s: int = 10
    retry_max_s: int = 60


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Where lab systems on other machines are served; nowhere while `listen` is empty.

    Without `certificate` and `key` (PEM files; relative paths lie in the home) the node makes a certificate for `names`.
    """

    listen: str = ""
    names: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything in labmesh.toml. What stands in the card (name, region, address) is published when it changes."""

    name: str
    region: str
    address: tuple[str, ...]
    listen: str
    reflection: bool = False
    log_level: str = "info"
    socket_group: str = ""
    passphrase_file: str = ""
    staging: StagingLimits = field(default_factory=StagingLimits)
    sync: SyncSettings = field(default_factory=SyncSettings)
    remote: RemoteSettings = field(default_factory=RemoteSettings)


TEMPLATE = """\
# Settings of this Labmesh node. Change them, then restart `labmesh run`.

# What other members see. A change of these three is signed into a new card at the next start.
name = {name}
region = {region}
# Where peers reach this node, host:port; a list for several ways in. With an empty list ([]) no peer can follow this node.
address = [{address}]

# Where this node listens. Port 0 takes a free one.
listen = {listen}

# Let gRPC tools list the services (grpcurl and the like). Off unless you are looking for a fault.
reflection = false

# debug, info, warning or error
log_level = "info"

# A Unix group whose members may use the node's socket (mode 0660 instead of 0600). The home must then let the group pass:
# chgrp GROUP HOME && chmod 710 HOME. Empty for none.
socket_group = ""

# Where private keys are protected (labmesh keys protect): a file of mode 0600 whose first line is the passphrase. The option
# --passphrase-file and LABMESH_PASSPHRASE go first; without any, `labmesh run` asks on a terminal and refuses elsewhere.
passphrase_file = ""

[staging]
# How much of one peer's log may wait on disk until its checkpoint is verified.
entries = {entries}
bytes = {bytes}

[sync]
# How often a quiet peer is asked, how long an answer may take, and the longest pause between two tries, in seconds.
contact_interval_s = 15
deadline_s = 10
retry_max_s = 60

[remote]
# Where lab systems on other machines reach this node, host:port; nowhere while it is empty. They need tokens, which
# `labmesh client add` makes.
listen = ""
# The names and addresses by which they know this machine, such as ["node.lab.example", "10.0.0.5"]. For them the node makes
# a certificate, remote.crt in the home, which every such system must get.
names = []
# Or a certificate from the lab's own authority: PEM files of it and its chain, and of its key. Read again when they change.
certificate = ""
key = ""
"""


def format_settings(*, name: str, region: str, address: str, listen: str) -> str:
    """The settings file of a new home."""
    return TEMPLATE.format(
        name=_quote(name),
        region=_quote(region),
        address=_quote(address),
        listen=_quote(listen),
        entries=STAGING_ENTRIES_MAX,
        bytes=STAGING_BYTES_MAX,
    )


def load_settings(path: Path) -> Settings:
    """Read the settings file.

    Raises:
        ConfigError: it is missing, not TOML, or a setting is unknown or wrong.
    """
    try:
        return parse_settings(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}", hint=MAKE_HOME) from error
    except (ValueError, RecursionError) as error:  # tomllib names neither a number of 5,000 digits nor deep nesting its own
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error


def parse_settings(table: Mapping[str, Any]) -> Settings:
    """Check the settings one by one.

    Raises:
        ConfigError: a setting is unknown, missing or wrong.
    """
    _refuse_unknown(table, {item.name for item in fields(Settings)}, "")
    for name in ("name", "region", "address", "listen"):
        if name not in table:
            raise ConfigError(f"{name} is missing")
    level = _typed(table, "log_level", str, "info")
    if level not in LOG_LEVELS:
        raise ConfigError(f"log_level is {level!r:.120}; it may be {', '.join(LOG_LEVELS)}")
    return Settings(
        name=_typed(table, "name", str, ""),
        region=_typed(table, "region", str, ""),
        address=_parse_addresses(table["address"]),
        listen=parse_listen(_typed(table, "listen", str, "")),
        reflection=_typed(table, "reflection", bool, False),
        log_level=level,
        socket_group=_typed(table, "socket_group", str, ""),
        passphrase_file=_typed(table, "passphrase_file", str, ""),
        staging=_section(table, "staging", StagingLimits),
        sync=_section(table, "sync", SyncSettings),
        remote=_parse_remote(_typed(table, "remote", dict, {})),
    )


def parse_listen(text: str) -> str:
    """Return `text` if it is host:port to listen on; port 0 is allowed.

    Raises:
        ConfigError: it is not.
    """
    try:
        parse_endpoint(text.removesuffix(":0") + ":1" if text.endswith(":0") else text)
    except FormatError as error:
        raise ConfigError(f"listen is {text!r:.120}, which is not host:port", hint="for example 0.0.0.0:7443") from error
    return text


def _parse_remote(section: Mapping[str, Any]) -> RemoteSettings:
    _refuse_unknown(section, {item.name for item in fields(RemoteSettings)}, "remote.")
    listen, certificate, key = (_typed(section, name, str, "") for name in ("listen", "certificate", "key"))
    names = section.get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError("remote.names is not a list of names", hint='for example names = ["node.lab.example", "10.0.0.5"]')
    if bool(certificate) != bool(key):
        raise ConfigError("remote.certificate and remote.key belong together", hint="give both, or neither")
    if certificate and names:
        raise ConfigError(
            "remote.names is for a certificate that the node makes", hint="leave it empty beside remote.certificate"
        )
    try:
        return RemoteSettings(parse_listen(listen) if listen else "", tuple(map(_parse_host, names)), certificate, key)
    except ConfigError as error:
        raise ConfigError(f"remote.{error.message}", hint=error.hint) from error


def _parse_host(text: str) -> str:
    """A name or address as a certificate may carry it: what an endpoint of the card may have for a host."""
    try:
        parse_endpoint(f"[{text}]:1" if ":" in text else f"{text}:1")
    except FormatError as error:
        raise ConfigError(
            f"names: {text!r} is not a host name or an address", hint="for example node.lab.example"
        ) from error
    return text


def _parse_addresses(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise ConfigError("address is not a list of host:port")
    try:
        return tuple(parse_endpoint(item) for item in values)
    except FormatError as error:
        raise ConfigError(f"address: {error.message}", hint=error.hint) from error


def _section(table: Mapping[str, Any], name: str, model: type[Any]) -> Any:
    section = _typed(table, name, dict, {})
    known = {item.name: item for item in fields(model)}
    _refuse_unknown(section, set(known), f"{name}.")
    values = {key: _typed(section, key, int, 0) for key in section}
    for key, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}.{key} is {value}; it must be at least 1")
    return model(**values)


def _refuse_unknown(table: Mapping[str, Any], known: set[str], prefix: str) -> None:
    if unknown := sorted(table.keys() - known):
        raise ConfigError(f"{prefix}{unknown[0]:.120} is not a setting", hint=f"the settings are {', '.join(sorted(known))}")


def _typed(table: Mapping[str, Any], name: str, wanted: type, default: Any) -> Any:
    value = table.get(name, default)
    if type(value) is not wanted:
        raise ConfigError(f"{name} is {value!r:.120}, but must be of type {wanted.__name__}")
    return value


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
