"""The servers of a node: peers over mutual TLS, its own people over a Unix socket, and, if wanted, lab systems over TLS."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from labmesh.v1 import node_pb2, node_pb2_grpc, peer_pb2, peer_pb2_grpc
from node.errors import ConfigError
from node.rpc.access import RemoteAccess, SocketAccess
from node.rpc.client import MESSAGE_SIZE_MAX, RECEIVE_SIZE_MAX
from node.rpc.node_service import NodeServicer
from node.rpc.peer_service import PeerServicer

PEER_SERVICE = peer_pb2.DESCRIPTOR.services_by_name["PeerService"].full_name
NODE_SERVICE = node_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name

_OPTIONS = [
    ("grpc.max_send_message_length", RECEIVE_SIZE_MAX),
    ("grpc.max_receive_message_length", RECEIVE_SIZE_MAX),
    ("grpc.so_reuseport", 0),
]
_PEER_OPTIONS = [
    ("grpc.max_send_message_length", RECEIVE_SIZE_MAX),
    ("grpc.max_receive_message_length", MESSAGE_SIZE_MAX),
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 64),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
]


@dataclass(frozen=True, slots=True)
class RemotePort:
    """Where lab systems on other machines are served, with which certificate, and whom `access` lets in."""

    listen: str
    credentials: grpc.ServerCredentials
    access: RemoteAccess


@dataclass(slots=True)
class Servers:
    """Running servers, and the ports on which peers and lab systems (0: nowhere) are served."""

    peers: grpc.aio.Server
    node: grpc.aio.Server
    port: int
    health: health.aio.HealthServicer
    remote: grpc.aio.Server | None = None
    remote_port: int = 0

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let running ones end within `grace_s`."""
        await self.health.enter_graceful_shutdown()
        running = [server for server in (self.node, self.peers, self.remote) if server is not None]
        await asyncio.gather(*(server.stop(grace_s) for server in running))


async def start_servers(
    *,
    listen: str,
    credentials: grpc.ServerCredentials,
    peer_servicer: PeerServicer,
    node_servicer: NodeServicer,
    socket_path: Path,
    socket_group: str,
    reflect: bool,
    remote: RemotePort | None = None,
) -> Servers:
    """Start the servers.

    Raises:
        ConfigError: the address or the socket cannot be had.
    """
    healthy = health.aio.HealthServicer()
    peers = grpc.aio.server(options=_PEER_OPTIONS)
    peer_pb2_grpc.add_PeerServiceServicer_to_server(peer_servicer, peers)
    port = _bind_port(peers, listen, credentials)
    servers = Servers(peers, grpc.aio.server(options=_OPTIONS, interceptors=[SocketAccess()]), port, healthy)
    node = servers.node
    node_pb2_grpc.add_NodeServiceServicer_to_server(node_servicer, node)
    _bind_socket(node, socket_path, socket_group)
    for server, service in ((peers, PEER_SERVICE), (node, NODE_SERVICE)):
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        if reflect:
            names = (service, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
    for service in ("", PEER_SERVICE, NODE_SERVICE):
        await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
    if remote is not None:
        servers.remote = grpc.aio.server(options=_PEER_OPTIONS, interceptors=[remote.access])
        node_pb2_grpc.add_NodeServiceServicer_to_server(node_servicer, servers.remote)
        servers.remote_port = _bind_port(servers.remote, remote.listen, remote.credentials, setting="remote.listen")
        await servers.remote.start()
    await node.start()
    await peers.start()
    return servers


def _bind_port(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials, *, setting: str = "listen") -> int:
    try:
        return server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise ConfigError(
            f"cannot listen on {listen}: {error}",
            hint=f"another program may use the port; change `{setting}` in labmesh.toml or stop that program",
        ) from error


def _bind_socket(server: grpc.aio.Server, path: Path, group: str) -> None:
    """Bind the socket, never readable by others, not even for a moment."""
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{quote(str(path))}")
    except RuntimeError as error:
        raise ConfigError(f"cannot make the socket {path}: {error}") from error
    finally:
        os.umask(before)
    if group:
        try:
            shutil.chown(path, group=group)
        except (LookupError, PermissionError) as error:
            raise ConfigError(f"socket_group is {group!r}: {error}") from error
        path.chmod(0o660)
    else:
        path.chmod(0o600)
