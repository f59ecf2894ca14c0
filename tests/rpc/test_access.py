"""Who may call what: every method of the service, every role, and what a stranger costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from hypothesis import given
from hypothesis import strategies as st

from labmesh.v1 import node_pb2
from node.clients import SOCKET, Caller, Clients, Role
from node.core.token import format_token
from node.errors import DeniedError, UnauthenticatedError
from node.rpc import access
from node.rpc.access import PERMITTED, SERVICE, Guesses, RemoteAccess, SocketAccess, bearer_token, current_caller
from node.rpc.faults import answered, error_of_node
from node.store import Store
from tests.alliance import TurnedClock
from tests.builders import kinds
from tests.new_stores import new_store

T = TypeVar("T")

METHODS: list[MethodDescriptor] = list(node_pb2.DESCRIPTOR.services_by_name["NodeService"].methods)
NAMES = [method.name for method in METHODS]

# Written out here a second time: who changes what a role may do has to say it twice.
PUSHES = {"Push"}
READS = {"ListRecords", "SearchRecords", "GetRecord", "ExportBundle", "GetStatus", "ExportAlliance"}
AT_THE_NODE = {"AddClient", "RotateKey", "RevokeLogKey", "AbandonIdentity"}


def expected(role: Role) -> set[str]:
    """The methods that a role includes."""
    return {Role.PUSH: PUSHES, Role.READ: READS, Role.ADMIN: set(NAMES) - AT_THE_NODE}[role]


class Served:
    """A service with every method of NodeService, which answers at once and remembers who called."""

    def __init__(self, clients: Clients) -> None:
        """Nobody called yet."""
        self.clients, self.calls, self.pauses = clients, list[tuple[str, Caller]](), list[float]()
        self.gate, self.second_gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.second_gate.set()
        self.access = RemoteAccess(clients, pause=self._pause)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def handlers(self) -> grpc.GenericRpcHandler:
        """One handler for each method, of the right shape."""
        return grpc.method_handlers_generic_handler(
            "labmesh.v1.NodeService", {method.name: self._handler(method) for method in METHODS}
        )

    def _handler(self, method: MethodDescriptor) -> Any:
        answer_type: Any = message_factory.GetMessageClass(method.output_type)

        async def single(request: Any, context: Any) -> Any:
            return await answered(answer(request), context)

        async def answer(request: Any) -> Any:
            if method.client_streaming:
                async for _ in request:
                    pass
            await self.gate.wait()
            self.calls.append((method.name, await asyncio.to_thread(current_caller)))
            return answer_type()

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            yield await single(request, context)
            await self.second_gate.wait()
            yield answer_type()

        request_type: Any = message_factory.GetMessageClass(method.input_type)
        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]
        behaviour = stream if method.server_streaming else single
        return make(behaviour, request_type.FromString, answer_type.SerializeToString)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path / "home")
    yield store
    store.close()


@pytest.fixture
def clients(store: Store) -> Clients:
    return Clients(store.clients, kinds=kinds(), clock=TurnedClock())


def serve(clients: Clients, work: Callable[[Served, Any], Awaitable[T]], *, interceptor: Any = None) -> tuple[Served, T]:
    """Serve on a free port of this machine while `work` runs."""

    async def run() -> tuple[Served, T]:
        served = Served(clients)
        server = grpc.aio.server(interceptors=[interceptor or served.access])
        server.add_generic_rpc_handlers((served.handlers(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return served, await work(served, channel)
        finally:
            await server.stop(0)

    return asyncio.run(asyncio.wait_for(run(), 60))


def metadata_of(token: str | None) -> tuple[tuple[str, str], ...]:
    return () if token is None else (("authorization", f"Bearer {token}"),)


async def call(channel: Any, name: str, token: str | None) -> grpc.StatusCode:
    """Call a method with one empty message, or none; returns how it ended."""
    method = next((item for item in METHODS if item.name == name), None)
    streaming = (method.client_streaming, method.server_streaming) if method else (False, False)
    path, metadata = SERVICE + name, metadata_of(token)
    try:
        if streaming == (True, False):
            await channel.stream_unary(path)(iter([b""]), metadata=metadata)
        elif streaming == (False, True):
            async for _ in channel.unary_stream(path)(b"", metadata=metadata):
                pass
        elif streaming == (True, True):
            async for _ in channel.stream_stream(path)(iter([b""]), metadata=metadata):
                pass
        else:
            await channel.unary_unary(path)(b"", metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def call_each(channel: Any, token: str | None) -> dict[str, grpc.StatusCode]:
    return {name: await call(channel, name, token) for name in NAMES}


class TestEveryMethod:
    def test_each_stands_in_the_table(self) -> None:
        assert set(PERMITTED) == set(NAMES)
        assert set(NAMES) >= PUSHES | READS | AT_THE_NODE

    @pytest.mark.parametrize("role", list(Role))
    def test_a_role_may_do_what_it_says_and_nothing_else(self, clients: Clients, role: Role) -> None:
        token = clients.add("lims", role, ())
        served, ends = serve(clients, lambda _, channel: call_each(channel, token))
        allowed = {name for name, code in ends.items() if code is grpc.StatusCode.OK}
        assert allowed == expected(role)
        assert {code for name, code in ends.items() if name not in allowed} <= {grpc.StatusCode.PERMISSION_DENIED}
        assert {name for name, _ in served.calls} == allowed
        assert {caller for _, caller in served.calls} == {Caller("lims", role)}

    def test_the_socket_may_do_everything(self, clients: Clients) -> None:
        served, ends = serve(clients, lambda _, channel: call_each(channel, None), interceptor=SocketAccess())
        assert set(ends.values()) == {grpc.StatusCode.OK}
        assert {caller for _, caller in served.calls} == {SOCKET}

    @pytest.mark.parametrize("kind", ["none", "unknown", "revoked", "socket"])
    def test_a_stranger_may_do_nothing(self, clients: Clients, kind: str) -> None:
        token = {"none": None, "unknown": format_token(bytes(32)), "socket": ""}.get(kind)
        if kind == "revoked":
            token = clients.add("lims", "admin", ())
            clients.revoke("lims")
        served, ends = serve(clients, lambda _, channel: call_each(channel, token))
        assert set(ends.values()) == {grpc.StatusCode.UNAUTHENTICATED}
        assert served.calls == []

    def test_a_method_that_is_in_no_table_is_closed(self, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
        token = clients.add("boss", "admin", ())
        monkeypatch.setattr(access, "PERMITTED", {name: PERMITTED[name] for name in NAMES if name != "ListRecords"})
        served, ends = serve(clients, lambda _, channel: call_each(channel, token))
        assert ends["ListRecords"] is grpc.StatusCode.PERMISSION_DENIED
        assert "ListRecords" not in {name for name, _ in served.calls}

    def test_a_method_that_does_not_exist(self, clients: Clients) -> None:
        token = clients.add("boss", "admin", ())
        _, code = serve(clients, lambda _, channel: call(channel, "Format", token))
        assert code is grpc.StatusCode.UNIMPLEMENTED

    def test_without_a_guard_nobody_is_anybody(self, clients: Clients) -> None:
        class Nothing(grpc.aio.ServerInterceptor):
            async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
                return await continuation(handler_call_details)

        served, ends = serve(clients, lambda _, channel: call_each(channel, None), interceptor=Nothing())
        assert grpc.StatusCode.OK not in ends.values()
        assert served.calls == []


class TestRefusals:
    def test_a_refusal_says_what_to_do(self, clients: Clients) -> None:
        token = clients.add("lims", "push", ())

        async def refused(_: Served, channel: Any) -> grpc.RpcError:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(SERVICE + "ListRecords")(b"", metadata=metadata_of(token))
            return caught.value

        error = error_of_node(serve(clients, refused)[1])
        assert error.reason == "DENIED"
        assert error.message == "the client lims has the role push, which does not include ListRecords"
        assert "read or admin" in error.hint

    def test_an_address_waits_longer_each_time_and_a_good_token_never(self, clients: Clients) -> None:
        token, wrong = clients.add("lims", "read", ()), format_token(bytes(32))

        async def guess(_: Served, channel: Any) -> None:
            for _number in range(8):
                assert await call(channel, "GetStatus", wrong) is grpc.StatusCode.UNAUTHENTICATED
                assert await call(channel, "GetStatus", token) is grpc.StatusCode.OK

        served, _ = serve(clients, guess)
        assert len(served.pauses) == 8
        assert served.pauses == sorted(served.pauses)
        assert served.pauses[0] < 0.1 and served.pauses[-1] == Guesses.PAUSE_MAX_S

    def test_the_log_has_few_lines_and_no_token(self, clients: Clients, caplog: pytest.LogCaptureFixture) -> None:
        token, wrong = clients.add("lims", "push", ()), format_token(bytes(32))

        async def guess(_: Served, channel: Any) -> None:
            for _number in range(20):
                await call(channel, "GetStatus", wrong)
            await call(channel, "GetStatus", token)

        with caplog.at_level("DEBUG"):
            serve(clients, guess)
        lines = [record.getMessage() for record in caplog.records if record.name == "node.rpc.access"]
        assert [line.partition(" error")[0].rpartition("=")[2] for line in lines[:-1]] == ["1", "2", "4", "8", "16"]
        assert lines[-1] == "event=client_denied client=lims method=GetStatus"
        assert "127.0.0.1" in lines[0]
        assert not [line for line in caplog.messages if token in line or wrong in line]

    @pytest.mark.parametrize(
        "metadata",
        [
            (),
            (("authorization", ""),),
            (("authorization", "Bearer"),),
            (("authorization", "Bearer "),),
            (("authorization", "Basic abc"),),
            (("authorization", "Bearer a"), ("authorization", "Bearer a")),
            (("authorization", b"Bearer a"),),
            (("x-authorization", "Bearer a"),),
        ],
    )
    def test_other_metadata_is_no_token(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        with pytest.raises(UnauthenticatedError) as caught:
            bearer_token(metadata)
        assert "--token-file" in caught.value.hint

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_the_scheme_in_any_case(self, scheme: str) -> None:
        assert bearer_token((("te", "trailers"), ("authorization", f"{scheme} secret"))) == "secret"

    @given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=40) | st.binary(max_size=40)), max_size=4))
    def test_any_metadata_is_a_token_or_refused(self, metadata: list[tuple[str, str | bytes]]) -> None:
        try:
            assert isinstance(bearer_token(metadata), str)
        except UnauthenticatedError as error:
            assert error.hint

    @given(st.text(max_size=60), st.sampled_from(list(Role)))
    def test_any_other_method_is_denied(self, method: str, role: Role) -> None:
        for path in (method, SERVICE + method):
            if path.removeprefix(SERVICE) in PERMITTED and path.startswith(SERVICE):
                continue
            with pytest.raises(DeniedError):
                access.require_permitted(Caller("lims", role), path)


class TestRunningCalls:
    def test_a_revocation_ends_a_stream_that_is_sent(self, clients: Clients) -> None:
        token = clients.add("lims", "push", ())

        async def push(served: Served, channel: Any) -> grpc.StatusCode:
            sending = channel.stream_unary(SERVICE + "Push")(metadata=metadata_of(token))
            await sending.write(b"")
            clients.revoke("lims")
            await sending.write(b"")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await sending
            return caught.value.code()

        served, code = serve(clients, push)
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert served.calls == []

    def test_a_revocation_ends_a_stream_that_is_read(self, clients: Clients) -> None:
        token = clients.add("reader", "read", ())

        async def read(served: Served, channel: Any) -> grpc.StatusCode:
            served.second_gate.clear()
            reading = channel.unary_stream(SERVICE + "ExportBundle")(b"", metadata=metadata_of(token))
            assert await reading.read() is not grpc.aio.EOF
            clients.revoke("reader")
            served.second_gate.set()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await reading.read()
            return caught.value.code()

        assert serve(clients, read)[1] is grpc.StatusCode.UNAUTHENTICATED

    def test_a_client_that_sends_nothing_more_is_given_up(self, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access, "STALL_S", 0.1)
        token = clients.add("lims", "push", ())

        async def stall(served: Served, channel: Any) -> grpc.StatusCode:
            sending = channel.stream_unary(SERVICE + "Push")(metadata=metadata_of(token))
            await sending.write(b"")
            return await asyncio.wait_for(sending.code(), 30)

        served, code = serve(clients, stall)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert served.calls == []

    @pytest.mark.parametrize(("name", "most"), [("Push", access.PUSHES_PER_CLIENT), ("GetStatus", access.CALLS_PER_CLIENT)])
    def test_one_client_runs_only_so_many_at_once(self, clients: Clients, name: str, most: int) -> None:
        token, other = clients.add("boss", "admin", ()), clients.add("other", "admin", ())

        async def crowd(served: Served, channel: Any) -> list[grpc.StatusCode]:
            served.gate.clear()
            running = [asyncio.create_task(call(channel, name, token)) for _ in range(most + 3)]
            done, waiting = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 3:
                more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            assert {task.result() for task in done} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            free = asyncio.create_task(call(channel, name, other))
            await asyncio.sleep(0)
            served.gate.set()
            return [*[await task for task in waiting], await free, await call(channel, name, token)]

        served, ends = serve(clients, crowd)
        assert ends == [grpc.StatusCode.OK] * (most + 2)
        assert served.access._running == {}


class TestGuesses:
    def test_it_grows_and_is_forgotten(self) -> None:
        guesses = Guesses()
        found = [guesses.note("a", 100.0 + i) for i in range(10)]
        assert [count for count, _ in found] == list(range(1, 11))
        assert [pause for _, pause in found][:4] == [0.05, 0.1, 0.2, 0.4]
        assert guesses.note("b", 110.0) == (1, 0.05)
        assert guesses.note("a", 110.0 + Guesses.FORGOTTEN_S) == (1, 0.05)

    @given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 1000)), max_size=60))
    def test_it_is_bounded(self, calls: list[tuple[int, float]]) -> None:
        guesses, now_s = Guesses(), 0.0
        for number, later_s in calls:
            now_s += later_s
            count, pause_s = guesses.note(f"a{number}", now_s)
            assert count >= 1 and 0 < pause_s <= Guesses.PAUSE_MAX_S

    def test_many_addresses_cost_no_more(self) -> None:
        guesses = Guesses()
        for number in range(5000):
            guesses.note(f"a{number}", 0.0)
        assert len(guesses._refused) == Guesses.ADDRESSES_MAX
        assert guesses.note("a4999", 0.0)[0] == 2
        assert guesses.note("a0", 0.0)[0] == 1
