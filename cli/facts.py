"""What was looked at in a node: values for `cli.doctor`, collected by `cli.examination`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.core.standing import Notice


@dataclass(frozen=True, slots=True)
class Fault:
    """What could not be done, and what to type."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """One peer, as the daemon tells."""

    member: str
    state: str
    error: str = ""
    quarantined: int = 0
    clock_offset_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """The port for lab systems on other machines (None: not served), and the clients that are not revoked."""

    port: int | None
    certificate_ends: datetime | None = None
    clients: Sequence[ClientFacts] = ()


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """One lab system on another machine. `last_used` is None for never."""

    name: str
    created: datetime
    last_used: datetime | None = None


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """What the daemon says of itself."""

    state: str
    version: str
    alarms: Sequence[str] = ()
    peers: Sequence[PeerFacts] = ()
    remote: RemoteFacts | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was looked at. None: could not be looked at, or (for `…_fault`) nothing is wrong."""

    home: str
    now: datetime
    version: str
    home_fault: Fault | None = None
    modes: Sequence[tuple[str, int, int]] = ()
    """Path, mode, and the mode it should have at most."""
    missing_keys: Sequence[str] = ()
    key_faults: Sequence[Fault] | None = None
    """Where the private keys do not fit the card; None when they were not compared."""
    keys_protected: bool = False
    settings_fault: Fault | None = None
    database_faults: Sequence[str] | None = None
    disk: tuple[int, int] | None = None
    """Total and free bytes."""
    certificates_end: Sequence[datetime] = ()
    joined: bool | None = None
    roster_version: int = 0
    roster_expires: datetime | None = None
    notices: Sequence[Notice] = ()
    """How the member stands in its alliance, where its people must be told."""
    missing_cards: Sequence[Fault] = ()
    """Active members of which no card counts here."""
    daemon: DaemonFacts | None = None
    daemon_fault: Fault | None = None
    settings_differences: Sequence[str] = ()
    """What labmesh.toml says otherwise than the card."""
    listen_fault: Fault | None = None
    welcomes: Sequence[tuple[str, str]] = ()
    """Where no peer is connected: peers, each with what it made of a TLS connection (`cli.tls_probe.Welcome`)."""
    addresses: Sequence[tuple[str, str]] | None = None
    """Own endpoints, each with why it cannot be connected to (empty: it can)."""
    python: str = ""
    sqlite: str = ""
    fts5: bool | None = None
