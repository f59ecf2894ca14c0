"""Who may call which method of NodeService. Every call is judged here before its handler sees it.

The socket belongs to the administrator. On the remote port a client proves itself by its token, and may do what the table
says of its role. A method that is not in the table is answered on the socket alone: a new one is closed until somebody
decides.

To guess a token is hopeless (256 random bits). What a guesser costs is bounded: refusals to one address come later and
later, and their lines in the log become rarer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc

from labmesh.v1 import node_pb2
from node.clients import SOCKET, Caller, Clients, Role
from node.errors import DeniedError, LabmeshError, LimitError, UnauthenticatedError
from node.rpc.faults import abort

logger = logging.getLogger(__name__)

SERVICE = "/labmesh.v1.NodeService/"

_READERS = frozenset({Role.READ, Role.ADMIN})
_ADMIN = frozenset({Role.ADMIN})
_NOBODY: frozenset[Role] = frozenset()

PERMITTED: Mapping[str, frozenset[Role]] = {
    "Push": frozenset({Role.PUSH, Role.ADMIN}),
    "ListRecords": _READERS,
    "SearchRecords": _READERS,
    "GetRecord": _READERS,
    "ExportBundle": _READERS,
    "GetStatus": _READERS,
    "ExportAlliance": _READERS,
    "ImportAlliance": _ADMIN,
    "FoundAlliance": _ADMIN,
    "AddMembers": _ADMIN,
    "RemoveMember": _ADMIN,
    "AmendRoster": _ADMIN,
    "SignRoster": _ADMIN,
    "WithdrawRoster": _ADMIN,
    "ConfirmLog": _ADMIN,
    "ListLost": _ADMIN,
    "ConfirmLost": _ADMIN,
    "AuditLog": _ADMIN,  # it names keys of every kind, and costs
    "GrantRecord": _ADMIN,
    "EraseRecord": _ADMIN,
    "ListEvidence": _ADMIN,
    "ExportEvidence": _ADMIN,
    "ListClients": _ADMIN,
    "RevokeClient": _ADMIN,
    # A stolen token must not be able to make another one that outlives it.
    "AddClient": _NOBODY,
    # Keys are changed where they lie.
    "RotateKey": _NOBODY,
    "RevokeLogKey": _NOBODY,
    "AbandonIdentity": _NOBODY,
}
"""The roles that may call each method on the remote port; a test keeps the table complete."""

CALLS_PER_CLIENT = 8
PUSHES_PER_CLIENT = 2
STALL_S = 60.0

_CALLER: ContextVar[Caller] = ContextVar("caller")

Context = grpc.aio.ServicerContext[Any, Any]
Details = grpc.HandlerCallDetails
Admit = Callable[[Context], Awaitable[Caller]]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any] | None  # the class takes no parameters when it runs


def current_caller() -> Caller:
    """Who made the call that this task or thread works for.

    Raises:
        LookupError: nobody was admitted, so nothing may be done.
    """
    return _CALLER.get()


class SocketAccess(grpc.aio.ServerInterceptor):
    """On the socket: whoever could open it is the administrator."""

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], handler_call_details: Details
    ) -> Handler:
        """Mark the call as the administrator's."""
        # gRPC gives each call a context of its own, in which its handler runs, too.
        _CALLER.set(SOCKET)
        return await continuation(handler_call_details)


class RemoteAccess(grpc.aio.ServerInterceptor):
    """On the remote port: only clients, and only what their role allows."""

    def __init__(self, clients: Clients, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Let in these clients. `pause` waits before a refusal."""
        self._clients, self._pause = clients, pause
        self._guesses = Guesses()
        self._running: dict[tuple[str, str], int] = {}
        self._notes: set[asyncio.Task[None]] = set()

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], handler_call_details: Details
    ) -> Handler:
        """Put a guard in front of the handler."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # no such method: gRPC answers UNIMPLEMENTED
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata

        async def admit(context: Context) -> Caller:
            return await self._admit(method, metadata or (), context)

        if handler.response_streaming:
            return self._guard_stream(handler, method, admit)
        return self._guard_single(handler, method, admit)

    def _guard_single(self, handler: Any, method: str, admit: Admit) -> Handler:
        behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def answer(request: Any, context: Context) -> Any:
            caller = await _admitted(admit, context)
            with self._counted(caller, method) as refusal:
                if refusal is not None:
                    await abort(context, refusal)
                return await behaviour(self._guarded(request, handler, caller), context)

        make = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        return make(answer, handler.request_deserializer, handler.response_serializer)

    def _guard_stream(self, handler: Any, method: str, admit: Admit) -> Handler:
        behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
            caller = await _admitted(admit, context)
            with self._counted(caller, method) as refusal:
                if refusal is not None:
                    await abort(context, refusal)
                async for message in behaviour(self._guarded(request, handler, caller), context):
                    try:
                        self._clients.require_active(caller)
                    except UnauthenticatedError as error:
                        await abort(context, error)
                    yield message

        make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        return make(answer, handler.request_deserializer, handler.response_serializer)

    def _guarded(self, request: Any, handler: Any, caller: Caller) -> Any:
        return self._watched(request, caller) if handler.request_streaming else request

    async def _watched(self, messages: AsyncIterator[Any], caller: Caller) -> AsyncIterator[Any]:
        """What a client sends, as long as it sends and is not revoked."""
        messages = aiter(messages)
        while True:
            try:
                async with asyncio.timeout(STALL_S):
                    message = await anext(messages, None)
            except TimeoutError:
                raise LimitError(f"nothing came for {STALL_S:.0f} s; nothing was appended", hint="push again") from None
            self._clients.require_active(caller)
            if message is None:
                return
            yield message

    async def _admit(self, method: str, metadata: Iterable[tuple[str, str | bytes]], context: Context) -> Caller:
        try:
            caller = self._clients.authenticate(bearer_token(metadata))
        except UnauthenticatedError as error:
            await self._refuse_guess(context, error)
            raise
        self._note_use(caller)
        try:
            require_permitted(caller, method)
        except DeniedError:
            logger.warning("event=client_denied client=%s method=%s", caller.name, method.removeprefix(SERVICE)[:100])
            raise
        _CALLER.set(caller)
        return caller

    async def _refuse_guess(self, context: Context, error: UnauthenticatedError) -> None:
        address = unquote((context.peer() or "").rpartition(":")[0])
        count, pause_s = self._guesses.note(address, time.monotonic())
        if count & (count - 1) == 0:
            logger.warning("event=client_refused address=%s refusals=%d error=%r", address, count, error.message)
        await self._pause(pause_s)

    def _note_use(self, caller: Caller) -> None:
        if self._clients.is_use_due(caller):
            # Aside: a call must not wait for a disk that is busy with a large push.
            task = asyncio.create_task(self._save_use(caller))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    async def _save_use(self, caller: Caller) -> None:
        try:
            await asyncio.to_thread(self._clients.note_use, caller)
        except LabmeshError as error:
            logger.warning("event=use_not_noted client=%s error=%r", caller.name, error.message)

    @contextmanager
    def _counted(self, caller: Caller, method: str) -> Iterator[LimitError | None]:
        """Count a call while it runs; yields why it is one too many, or None."""
        noun, most = ("pushes", PUSHES_PER_CLIENT) if method == SERVICE + "Push" else ("calls", CALLS_PER_CLIENT)
        key = (caller.name, noun)
        count = self._running[key] = self._running.get(key, 0) + 1
        try:
            if count > most:
                message = f"the client {caller.name} has {most} {noun} running already"
                yield LimitError(message, hint="wait until one has ended, and repeat this one")
            else:
                yield None
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]


class Guesses:
    """How often each address was refused, and how long it waits for the next refusal. Bounded, whoever calls."""

    ADDRESSES_MAX = 1000
    FORGOTTEN_S = 600.0
    PAUSE_FIRST_S, PAUSE_MAX_S = 0.05, 3.0

    def __init__(self) -> None:
        """Nobody was refused yet."""
        self._refused: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def note(self, address: str, now_s: float) -> tuple[int, float]:
        """Note one more refusal at a monotonic time; returns how many there were, and the seconds to wait."""
        count, last_s = self._refused.pop(address, (0, now_s))
        count = 1 if now_s - last_s > self.FORGOTTEN_S else count + 1
        self._refused[address] = count, now_s
        if len(self._refused) > self.ADDRESSES_MAX:
            self._refused.popitem(last=False)
        return count, min(self.PAUSE_FIRST_S * 2.0 ** min(count - 1, 10), self.PAUSE_MAX_S)


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The token in a call's metadata.

    Raises:
        UnauthenticatedError: there is none, or more than one.
    """
    found = [value for key, value in metadata if key.lower() == "authorization"]
    hint = "send the metadata 'authorization: Bearer TOKEN', once; with the command line: --token-file FILE"
    if len(found) != 1 or not isinstance(found[0], str):
        raise UnauthenticatedError("this port wants a client's token, and the call has none", hint=hint)
    scheme, _, token = found[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("the call's authorization is not a bearer token", hint=hint)
    return token


def visible_status(status: node_pb2.GetStatusResponse, caller: Caller) -> node_pb2.GetStatusResponse:
    """The node's state as `caller` may see it.

    A client for some kinds sees the node's health: who it is, its own checkpoint (which every answer to a push and every
    bundle names, too), and which peers it has. Counts and alarms would tell of other kinds, so what stands here is all.
    """
    if not caller.kinds:
        return status
    peers = [
        node_pb2.PeerStatus(member=peer.member, state=peer.state, last_contact=peer.last_contact) for peer in status.peers
    ]
    return node_pb2.GetStatusResponse(
        member=status.member,
        alliance=status.alliance,
        fingerprint=status.fingerprint,
        roster_version=status.roster_version,
        state=status.state,
        confirmed=status.confirmed,
        size=status.size,
        root=status.root,
        version=status.version,
        peers=peers,
        kinds=caller.kinds,
    )


def require_permitted(caller: Caller, method: str) -> None:
    """Refuse a method that the caller's role does not include.

    Raises:
        DeniedError: it does not.
    """
    name = method.removeprefix(SERVICE)
    roles = PERMITTED.get(name, _NOBODY) if method.startswith(SERVICE) else _NOBODY
    if caller.role in roles:
        return
    wanted = " or ".join(role for role in Role if role in roles)
    raise DeniedError(
        f"the client {caller.name} has the role {caller.role}, which does not include {name[:100]}",
        hint=f"it takes the role {wanted}: ask the node's administrator for such a client"
        if wanted
        else "this can be done at the node itself only",
    )


async def _admitted(admit: Admit, context: Context) -> Caller:
    try:
        return await admit(context)
    except LabmeshError as error:
        await abort(context, error)
