"""Call a member's services without a network: the real servicers, a context that says which certificate was presented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import grpc

from node.clients import Clients
from node.errors import LabmeshError
from node.rpc.access import SocketAccess
from node.rpc.calls.parts import NodeServiceParts
from node.rpc.faults import DETAILS_KEY, error_of_node
from node.rpc.node_service import NodeServicer
from node.rpc.peer_service import PeerServiceParts, PeerServicer
from node.rpc.tls import TrustedCertificates, certificate_pem
from tests.alliance import SimulatedMember

T = TypeVar("T")


class CallerContext:
    """What a servicer sees of a caller. A refused call raises what the caller's own client would raise."""

    def __init__(self, certificate: bytes | None = None) -> None:
        """A caller with this certificate (DER), or with none."""
        self._presented = {} if certificate is None else {"x509_pem_cert": [certificate_pem(certificate)]}

    def auth_context(self) -> Mapping[str, list[bytes]]:
        """What TLS has established."""
        return self._presented

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """No token."""
        return ()

    async def send_initial_metadata(self, metadata: Any) -> None:
        """The caller is still there."""

    async def abort(self, code: Any, details: str, trailing: Any) -> None:
        """End the call."""
        raise error_of_node(_FailedError(code, details, trailing))


class _FailedError(grpc.RpcError):
    def __init__(self, code: Any, details: str, trailing: Any) -> None:
        self._code, self._details, self._trailing = code, details, trailing
        assert trailing[0][0] == DETAILS_KEY

    def code(self) -> Any:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing


def peer_servicer(member: SimulatedMember) -> PeerServicer:
    """What a member answers its peers."""
    membership = member.membership
    trusted = TrustedCertificates(own_card=lambda: membership.own_card[1], alliance=lambda: membership.alliance)

    async def on_notes(caller: str, notes: list[bytes], version: int) -> None:
        member.exchange.accept_notes(notes, peer=caller, version=version)

    known = {"heads": NoNews(), "trusted": trusted, "on_notes": on_notes, "on_alarm": member.raise_told}
    return PeerServicer(_build_parts(PeerServiceParts, member, known))


def node_servicer(member: SimulatedMember) -> NodeServicer:
    """What a member answers its own lab."""
    clients = Clients(member.store.clients, kinds=member.kinds, clock=member.clock)
    rotation = SimpleNamespace(lost_roles=list)  # a simulated member has its keys in memory, and loses none
    known = {"peer_states": dict, "clients": clients, "rotation": rotation}
    return NodeServicer(_build_parts(NodeServiceParts, member, known))


async def admit() -> None:
    """Make the calls of this task those of whoever may open the socket, as the server's interceptor does."""

    async def no_handler(_: Any) -> None:
        return None

    await SocketAccess().intercept_service(no_handler, cast(Any, None))


def call(work: Any) -> Any:
    """Await one call, or read a whole stream."""

    async def inside() -> Any:
        await admit()
        if isinstance(work, AsyncIterator):
            return [message async for message in work]
        return await work

    return asyncio.run(inside())


def _build_parts(model: type[T], member: SimulatedMember, known: dict[str, Any]) -> T:
    """The parts by their names; what a member does not have does nothing."""
    parts = {}
    for item in fields(model):  # type: ignore[arg-type]  # every model here is a dataclass
        parts[item.name] = known.get(item.name, getattr(member, item.name, None)) or _nothing
    return model(**parts)


def _nothing(*_: object) -> None:
    return None


def caller(certificate: bytes | None = None) -> Any:
    """The context of a call with this certificate (DER), or with none."""
    return CallerContext(certificate)


class NoNews:
    """As `node.rpc.heads.Heads`, on a node where nothing happens."""

    generation = 0

    async def wait_beyond(self, generation: int) -> int:
        """Wait for ever."""
        await asyncio.Event().wait()
        return generation


def refused(work: Any) -> LabmeshError:
    """The error that a call ends with."""
    try:
        call(work)
    except LabmeshError as error:
        return error
    raise AssertionError("it was answered")
