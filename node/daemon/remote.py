"""The port for lab systems on other machines, as the settings want it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from labmesh.v1 import node_pb2
from node.clients import Clients
from node.config import RemoteSettings
from node.core.times import format_seconds
from node.errors import ConfigError
from node.remote_certificate import RemoteFiles, prepare_files
from node.rpc.access import RemoteAccess
from node.rpc.server import RemotePort
from node.rpc.tls import remote_credentials

logger = logging.getLogger(__name__)


class RemoteService:
    """Prepares the port, and says how it is."""

    def __init__(self, settings: RemoteSettings, home: Path, clients: Clients, *, now: Callable[[], datetime]) -> None:
        """Make or find the certificate.

        Raises:
            ConfigError: it cannot be used.
        """
        self._settings, self._clients = settings, clients
        self._files: RemoteFiles | None = None
        self.bound_port: Callable[[], int] = lambda: 0
        if settings.listen:
            self._files = prepare_files(settings, home, now=now())
            self._shown = self._files.load()

    def build_port(self) -> RemotePort | None:
        """What the server needs; None when nobody is to be served."""
        if self._files is None:
            return None
        credentials = remote_credentials(self._load, self._files.state)
        return RemotePort(self._settings.listen, credentials, RemoteAccess(self._clients))

    def status(self) -> node_pb2.RemoteStatus | None:
        """The port as `status` tells it."""
        if self._files is None:
            return None
        return node_pb2.RemoteStatus(
            port=self.bound_port(),
            names=self._shown.names,
            certificate_expires=format_seconds(self._shown.expires),
            clients=sum(client.revoked_ms is None for client in self._clients.list()),
        )

    def _load(self) -> tuple[bytes, bytes]:
        if self._files is None:
            raise ConfigError("no remote port is set up")
        self._shown = self._files.load()
        return self._shown.key_pem, self._shown.chain_pem
