"""Errors on the wire: the catalogue is complete, the details are all there, and what a peer answers has one meaning."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from labmesh.v1 import errors_pb2
from node import errors
from node.errors import (
    OTHER_CERTIFICATE,
    AccessRefusedError,
    InvalidRecordError,
    LabmeshError,
    NotFoundError,
    PeerFaultError,
    PeerUnreachableError,
    RollbackError,
    SplitViewError,
    StoreError,
    UserError,
    VerificationError,
    Violation,
)
from node.rpc.faults import (
    CODES,
    DETAILS_KEY,
    DOMAIN,
    INTERNAL_MESSAGE,
    answered,
    build_status,
    error_of_node,
    error_of_peer,
)

TREE = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, LabmeshError)]
REASONS = {name.removeprefix("ERROR_REASON_") for name in dict(errors_pb2.ErrorReason.items())} - {"UNSPECIFIED"}
ALL_CODES = list(grpc.StatusCode)


def example_of(kind: type[LabmeshError]) -> LabmeshError:
    if kind is InvalidRecordError:
        return InvalidRecordError([Violation("/key", "wrong")], hint="look")
    if kind is VerificationError:
        return VerificationError("inclusion", "wrong", hint="look")
    if kind is RollbackError:
        return RollbackError("a/log/b", held_size=2, offered_size=1)
    if kind is SplitViewError:
        return SplitViewError("a/log/b", size=2, held_note=b"", offered_note=b"")
    return kind("wrong", hint="look")


class FakeRpcError(grpc.RpcError):
    """What a failed call looks like to its caller."""

    def __init__(
        self, code: grpc.StatusCode, details: str | None = "said so", metadata: list[tuple[str, Any]] | None = None
    ) -> None:
        super().__init__()
        self._answer = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str | None:
        return self._answer[1]

    def trailing_metadata(self) -> Any:
        return self._answer[2]


def failed(error: LabmeshError) -> FakeRpcError:
    """The error as its caller sees it."""
    status = build_status(error)
    code = next(code for code in ALL_CODES if code.value[0] == status.code)
    return FakeRpcError(code, status.message, [("x-other", "y"), (DETAILS_KEY, status.SerializeToString())])


def details_of(status: status_pb2.Status) -> tuple[Any, Any, Any]:
    """ErrorInfo, BadRequest and RetryInfo of a status; None for what is not there."""
    found: list[Any] = []
    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
        message: Any = kind()
        matching = [detail for detail in status.details if detail.Is(message.DESCRIPTOR)]
        assert len(matching) < 2
        found.append(message if matching and matching[0].Unpack(message) else None)
    return found[0], found[1], found[2]


class TestCatalogue:
    def test_every_class_has_a_code(self) -> None:
        assert set(CODES) == set(TREE)

    def test_every_reason_is_in_the_contract_and_every_one_is_used(self) -> None:
        assert {kind.reason for kind in TREE} == REASONS

    def test_only_what_may_be_repeated_says_unavailable(self) -> None:
        assert [kind for kind, code in CODES.items() if code is grpc.StatusCode.UNAVAILABLE] == [PeerUnreachableError]
        assert grpc.StatusCode.OK not in CODES.values()


class TestStatus:
    @pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
    def test_what_every_error_says(self, kind: type[LabmeshError]) -> None:
        error = example_of(kind)
        status = build_status(error)
        info, bad_request, retry = details_of(status)
        assert (status.code, status.message) == (CODES[kind].value[0], error.message)
        assert (info.reason, info.domain, info.metadata.get("hint", "")) == (kind.reason, DOMAIN, error.hint)
        assert (bad_request is not None) == (kind is InvalidRecordError)
        assert (retry is not None) == (kind is PeerUnreachableError)

    def test_every_violation_travels(self) -> None:
        found = [Violation(f"/body/{i}", f"wrong {i}") for i in range(7)]
        bad_request = details_of(build_status(InvalidRecordError(found)))[1]
        assert [(item.field, item.description) for item in bad_request.field_violations] == [
            (item.path, item.message) for item in found
        ]

    def test_when_to_try_again(self) -> None:
        retry = details_of(build_status(PeerUnreachableError("away")))[2]
        assert retry.retry_delay.seconds > 0


class TestOfPeer:
    def test_another_certificate_than_the_card_names(self) -> None:
        text = "failed to connect to all addresses; last error: SSL_ERROR_SSL: error:1000007d:CERTIFICATE_VERIFY_FAILED"
        error = error_of_peer(FakeRpcError(grpc.StatusCode.UNAVAILABLE, text), "qingdao")
        assert isinstance(error, PeerUnreachableError)
        assert error.message == f"qingdao cannot be reached: what answers there {OTHER_CERTIFICATE}"

    @pytest.mark.parametrize("code", ALL_CODES, ids=lambda code: code.name)
    def test_a_bare_code(self, code: grpc.StatusCode) -> None:
        error = error_of_peer(FakeRpcError(code), "qingdao")
        unreachable = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"}
        refused = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
        expected = (
            PeerUnreachableError
            if code.name in unreachable
            else AccessRefusedError
            if code.name in refused
            else PeerFaultError
        )
        assert type(error) is expected
        assert error.message.startswith("qingdao ")
        assert error.message.endswith("said so")

    @pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
    def test_an_error_of_the_catalogue_keeps_its_reason(self, kind: type[LabmeshError]) -> None:
        error = error_of_peer(failed(example_of(kind)), "qingdao")
        assert error.reason == kind.reason
        assert isinstance(error, PeerUnreachableError) == (kind is PeerUnreachableError)
        assert isinstance(error, AccessRefusedError) == (kind is AccessRefusedError)

    def test_a_peer_cannot_change_a_class_for_everyone(self) -> None:
        error_of_peer(failed(NotFoundError("no such log")), "qingdao")
        assert PeerFaultError.reason == "PEER_FAULT"

    @pytest.mark.parametrize(
        "raw",
        [
            b"\xff\xff\xff",
            b"",
            status_pb2.Status(
                details=[AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")]
            ).SerializeToString(),
            status_pb2.Status(details=[AnyMessage(type_url="nonsense", value=b"x")]).SerializeToString(),
        ],
        ids=["no status", "empty", "no ErrorInfo", "unknown detail"],
    )
    def test_broken_details_are_a_fault_like_any_other(self, raw: bytes) -> None:
        error = error_of_peer(FakeRpcError(grpc.StatusCode.INTERNAL, "said so", [(DETAILS_KEY, raw)]), "qingdao")
        assert (type(error), error.reason) == (PeerFaultError, "PEER_FAULT")

    def test_another_domain_gives_no_reason(self) -> None:
        detail = AnyMessage()
        detail.Pack(error_details_pb2.ErrorInfo(reason="QUOTA", domain="proxy.example"))
        raw = status_pb2.Status(details=[detail]).SerializeToString()
        error = error_of_peer(FakeRpcError(grpc.StatusCode.INTERNAL, "x", [(DETAILS_KEY, raw)]), "qingdao")
        assert error.reason == "PEER_FAULT"

    def test_what_a_peer_says_is_cut(self) -> None:
        error = error_of_peer(FakeRpcError(grpc.StatusCode.INTERNAL, "x" * 100_000), "qingdao")
        assert len(error.message) < 600
        assert "no further text" in error_of_peer(FakeRpcError(grpc.StatusCode.INTERNAL, None), "qingdao").message


class TestOfNode:
    @pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
    def test_the_reason_and_the_hint_arrive(self, kind: type[LabmeshError]) -> None:
        error = example_of(kind)
        arrived = error_of_node(failed(error))
        assert (arrived.reason, arrived.message, arrived.hint) == (kind.reason, error.message, error.hint)

    def test_a_node_that_does_not_answer(self) -> None:
        assert isinstance(error_of_node(FakeRpcError(grpc.StatusCode.UNAVAILABLE)), PeerUnreachableError)
        assert isinstance(error_of_node(FakeRpcError(grpc.StatusCode.DEADLINE_EXCEEDED)), PeerUnreachableError)

    def test_something_else_answers(self) -> None:
        error = error_of_node(FakeRpcError(grpc.StatusCode.UNIMPLEMENTED))
        assert (type(error), error.reason) == (LabmeshError, "INTERNAL")
        assert "UNIMPLEMENTED: said so" in error.message


class AbortedError(Exception):
    """What grpc raises inside a handler that aborts."""


class FakeContext:
    """The server's side of a call."""

    def __init__(self) -> None:
        self.calls: list[tuple[grpc.StatusCode, str, Any]] = []

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Any) -> NoReturn:
        self.calls.append((code, details, metadata))
        raise AbortedError


def answer(error: BaseException | None) -> FakeContext:
    """How a call ends whose work raises."""
    context: Any = FakeContext()

    async def work() -> str:
        if error is not None:
            raise error
        return "done"

    async def call() -> None:
        assert await answered(work(), context) == "done"

    if error is None:
        asyncio.run(call())
    else:
        with pytest.raises((AbortedError, grpc.aio.AbortError)):
            asyncio.run(call())
    found: FakeContext = context
    return found


class TestAnswering:
    def test_an_answer(self) -> None:
        assert answer(None).calls == []

    def test_an_error_of_the_tree_ends_the_call_with_its_status(self) -> None:
        error = StoreError("the database refused: disk full")
        ((code, details, metadata),) = answer(error).calls
        assert (code, details) == (grpc.StatusCode.INTERNAL, error.message)
        assert metadata == ((DETAILS_KEY, build_status(error).SerializeToString()),)

    def test_an_unknown_error_is_told_to_the_log_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.ERROR):
            ((code, details, metadata),) = answer(ZeroDivisionError("secret")).calls
        assert (code, details) == (grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)
        assert b"secret" not in metadata[0][1]
        assert len(caplog.records) == 1
        assert caplog.records[0].getMessage() == "event=internal_error type=ZeroDivisionError"

    def test_a_call_that_was_aborted_already_is_left_alone(self) -> None:
        assert answer(grpc.aio.AbortError()).calls == []


def test_the_caller_of_a_node_is_never_told_a_class_it_could_retry() -> None:
    assert type(error_of_node(failed(PeerUnreachableError("away")))) is UserError
