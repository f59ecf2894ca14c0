"""The state of a node as JSON (DESIGN section 9) and as sentences."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labmesh.v1.node_pb2 import GetStatusResponse, PeerStatus, RemoteStatus


def status_document(status: GetStatusResponse) -> dict[str, Any]:
    """The answer of `labmesh status`."""
    return {
        "member": status.member,
        "alliance": status.alliance,
        "fingerprint": status.fingerprint or None,
        "roster_version": status.roster_version,
        "state": status.state,
        "size": status.size,
        "root": b64encode(status.root).decode(),
        "records": None if status.kinds else status.records,
        "peers": [_peer_document(peer, status) for peer in status.peers],
        "alarms": list(status.alarms),
        "index_backlog": None if status.kinds else status.index_backlog,
        "version": status.version,
        "remote": _remote_document(status.remote) if status.HasField("remote") else None,
        "kinds": list(status.kinds) or None,
        "lost": None if status.kinds else status.lost,
        "lost_seen": None if status.kinds else status.lost_seen,
        "confirmed": status.confirmed,
    }


def _remote_document(remote: RemoteStatus) -> dict[str, Any]:
    return {
        "port": remote.port,
        "names": list(remote.names),
        "certificate_expires": remote.certificate_expires,
        "clients": remote.clients,
    }


def peers_document(status: GetStatusResponse) -> dict[str, Any]:
    """The answer of `labmesh peers`."""
    return {
        "peers": [
            {
                **_peer_document(peer, status),
                "clock_offset_ms": peer.clock_offset_ms if peer.HasField("clock_offset_ms") else None,
                "quarantined": None if status.kinds else peer.quarantined,
            }
            for peer in status.peers
        ]
    }


def _peer_document(peer: PeerStatus, status: GetStatusResponse) -> dict[str, Any]:
    """What is known of a peer; a client for some kinds is told no counts, so they are None."""
    counts = {"size": peer.size, "verified": peer.verified, "behind": peer.behind}
    return {
        "member": peer.member,
        "state": peer.state,
        **{name: None if status.kinds else count for name, count in counts.items()},
        "last_contact": peer.last_contact or None,
        "error": peer.error or None,
    }
