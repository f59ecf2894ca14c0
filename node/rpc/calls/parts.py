"""What every call of NodeService may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from labmesh.v1 import node_pb2
from node.clients import Clients
from node.clock import Clock
from node.confirmation import Confirmation
from node.core.kinds import Kinds
from node.disclosure import Disclosure
from node.evidence import EvidenceKeeper
from node.ledger import Ledger
from node.membership import Membership
from node.rotation import KeyRotation
from node.rpc.waiting import describe_waiting
from node.store import Store
from node.sync.peer import PeerState

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class NodeServiceParts:
    """What the service speaks for."""

    store: Store
    ledger: Ledger
    membership: Membership
    confirmation: Confirmation
    clients: Clients
    disclosure: Disclosure
    evidence: EvidenceKeeper
    clock: Clock
    peer_states: Callable[[], dict[str, PeerState]]
    build_status: Callable[[], node_pb2.GetStatusResponse]
    on_confirm: Callable[[], None]
    remote_port: Callable[[], int]
    rotation: KeyRotation
    kinds: Kinds


class Calls:
    """Some calls of the service."""

    def __init__(self, parts: NodeServiceParts) -> None:
        """Answer from `parts`."""
        self._parts = parts

    def _describe_waiting(self) -> str:
        return describe_waiting(self._parts.confirmation, self._parts.rotation.lost_roles())
