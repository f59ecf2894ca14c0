"""One catalogue of errors, and one translation each way between them and gRPC statuses.

A status carries `google.rpc.ErrorInfo` always (domain `labmesh`, reason as in `errors.proto`, the hint as metadata),
`BadRequest` with every violation where a record or request is at fault, and `RetryInfo` only where repeating can help.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from labmesh.v1 import errors_pb2
from node.errors import (
    OTHER_CERTIFICATE,
    AccessRefusedError,
    ConfigError,
    ConflictError,
    DeniedError,
    DisownedError,
    FormatError,
    GovernanceError,
    HomeError,
    InvalidRecordError,
    LabmeshError,
    LimitError,
    MalformedError,
    NotFoundError,
    PeerFaultError,
    PeerUnreachableError,
    ProofError,
    RollbackError,
    SignatureError,
    SplitViewError,
    StagingLimitError,
    StoreError,
    UnauthenticatedError,
    UnconfirmedError,
    UserError,
    VerificationError,
)

logger = logging.getLogger(__name__)

_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"  # BoringSSL's words for it, in the middle of 200 other characters

T = TypeVar("T")

DOMAIN = "labmesh"
DETAILS_KEY = "grpc-status-details-bin"
INTERNAL_MESSAGE = "a fault of this software; the node's log has one line about it"
RETRY_AFTER_S = 5

CODES: dict[type[LabmeshError], grpc.StatusCode] = {
    LabmeshError: grpc.StatusCode.INTERNAL,
    UserError: grpc.StatusCode.INVALID_ARGUMENT,
    ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    HomeError: grpc.StatusCode.FAILED_PRECONDITION,
    InvalidRecordError: grpc.StatusCode.INVALID_ARGUMENT,
    ConflictError: grpc.StatusCode.ALREADY_EXISTS,
    GovernanceError: grpc.StatusCode.FAILED_PRECONDITION,
    DisownedError: grpc.StatusCode.FAILED_PRECONDITION,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnconfirmedError: grpc.StatusCode.FAILED_PRECONDITION,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    DeniedError: grpc.StatusCode.PERMISSION_DENIED,
    VerificationError: grpc.StatusCode.FAILED_PRECONDITION,
    FormatError: grpc.StatusCode.INVALID_ARGUMENT,
    PeerFaultError: grpc.StatusCode.FAILED_PRECONDITION,
    MalformedError: grpc.StatusCode.INVALID_ARGUMENT,
    SignatureError: grpc.StatusCode.FAILED_PRECONDITION,
    ProofError: grpc.StatusCode.FAILED_PRECONDITION,
    RollbackError: grpc.StatusCode.FAILED_PRECONDITION,
    SplitViewError: grpc.StatusCode.FAILED_PRECONDITION,
    StagingLimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    AccessRefusedError: grpc.StatusCode.PERMISSION_DENIED,
    PeerUnreachableError: grpc.StatusCode.UNAVAILABLE,
    StoreError: grpc.StatusCode.INTERNAL,
}
"""Every class of the tree, each with its status code; a test keeps it complete."""

REASONS = frozenset(name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name)
"""Every reason of the wire contract. What a peer calls its fault must be one of them: it ends up in logs."""

_UNREACHABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
}
_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def build_status(error: LabmeshError) -> status_pb2.Status:
    """The error as `google.rpc.Status`."""
    code: int = CODES[type(error)].value[0]
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if error.hint:
        info.metadata["hint"] = error.hint
    details = [_pack(info)]
    if isinstance(error, InvalidRecordError):
        details.append(_pack(_bad_request(error)))
    if isinstance(error, PeerUnreachableError):
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER_S))))
    return status_pb2.Status(code=code, message=error.message, details=details)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: LabmeshError) -> NoReturn:
    """End the call with the error's status."""
    status = build_status(error)
    await context.abort(CODES[type(error)], error.message, ((DETAILS_KEY, status.SerializeToString()),))
    raise AssertionError("abort returned")  # pragma: no cover -- grpc raises


async def abort_unknown(context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> NoReturn:
    """End the call for an exception outside the tree: a fixed text for the caller, one line in the log."""
    logger.error("event=internal_error type=%s", type(error).__name__, exc_info=error)
    await abort(context, LabmeshError(INTERNAL_MESSAGE))


async def answered(work: Awaitable[T], context: grpc.aio.ServicerContext[Any, Any]) -> T:
    """The answer of a unary call, with every error as a status."""
    try:
        return await work
    except LabmeshError as error:
        await abort(context, error)
    except (asyncio.CancelledError, grpc.aio.AbortError):
        raise
    except Exception as error:
        await abort_unknown(context, error)


def error_of_peer(error: grpc.RpcError, peer: str) -> LabmeshError:
    """What a peer's failed call means for us: unreachable (retried), access refused, or a fault of the peer."""
    code, message = _code(error), _message(error)
    info = _error_info(error)
    if info is not None and info.reason == AccessRefusedError.reason:
        return AccessRefusedError(f"{peer} refuses: {message}")
    if code in _UNREACHABLE:
        if _UNTRUSTED in message:
            message = f"what answers there {OTHER_CERTIFICATE}"
        return PeerUnreachableError(f"{peer} cannot be reached: {message}")
    if code in _REFUSED and info is None:
        return AccessRefusedError(f"{peer} refuses: {message}")
    fault = PeerFaultError(f"{peer} answered {code.name}: {message}")
    if info is not None and info.reason in REASONS:
        fault.reason = info.reason
    return fault


def error_of_node(error: grpc.RpcError) -> LabmeshError:
    """What our own node's failed call means for the caller, with its reason and hint."""
    info = _error_info(error)
    message = _message(error)
    if info is None or info.domain != DOMAIN:
        if _code(error) in _UNREACHABLE:
            return PeerUnreachableError(f"the node does not answer: {message}", hint="type: labmesh doctor")
        return LabmeshError(f"the node answered {_code(error).name}: {message}")
    failed = UserError(message, hint=info.metadata.get("hint", ""))
    failed.reason = info.reason
    return failed


def _pack(message: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _bad_request(error: InvalidRecordError) -> error_details_pb2.BadRequest:
    violations = (
        error_details_pb2.BadRequest.FieldViolation(field=violation.path, description=violation.message)
        for violation in error.violations
    )
    return error_details_pb2.BadRequest(field_violations=violations)


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code


def _message(error: grpc.RpcError) -> str:
    text = str(error.details() or "no further text")
    return text if len(text) <= 500 else text[:500] + "…"


def _error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    # The stubs give a call's metadata no usable type.
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == DETAILS_KEY:
            return _find_info(value)
    return None


def _find_info(raw: bytes) -> error_details_pb2.ErrorInfo | None:
    status, info = status_pb2.Status(), error_details_pb2.ErrorInfo()
    try:
        status.ParseFromString(raw)
        return info if any(detail.Unpack(info) for detail in status.details) else None
    except DecodeError:
        return None
