"""How the command line asks a node: synchronous calls over the Unix socket in the home, or over the remote port.

Every call has a deadline, so a node that hangs is told from one that works. A socket that nobody answers, and one that a
killed node left behind, give the same error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc

from labmesh.v1 import node_pb2, node_pb2_grpc
from node.errors import LabmeshError, PeerUnreachableError
from node.rpc.connection import Connection, SocketConnection
from node.rpc.faults import error_of_node

READ_DEADLINE_S = 30.0
CHANGE_DEADLINE_S = 60.0
STALL_S = 600.0
AUDIT_DEADLINE_S = 3600.0

Request = TypeVar("Request")
Response = TypeVar("Response")


class NodeClient:
    """A connection to a node. Use it as a context manager.

    Every method raises PeerUnreachableError when the node does not answer, and what `error_of_node` makes of a refusal.
    """

    def __init__(self, way: Path | Connection) -> None:
        """Name the node's socket, or another way to it; nothing is opened yet."""
        self._way: Connection = SocketConnection(way.absolute()) if isinstance(way, Path) else way
        self._channel: grpc.Channel | None = None

    def __enter__(self) -> Self:
        """Open the connection.

        Raises:
            PeerUnreachableError: nobody answers there.
            ConfigError: who answers there is not the node that was meant.
        """
        if failure := self._way.probe():
            raise failure
        self._channel = self._way.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def push(self, options: node_pb2.PushOptions, batches: Iterable[Sequence[bytes]]) -> node_pb2.PushResponse:
        """Push records, batch by batch. Takes as long as it moves; gives up when nothing moves for `STALL_S`."""
        moved = [time.monotonic()]
        failed: list[Exception] = []

        def requests() -> Iterator[node_pb2.PushRequest]:
            try:
                yield node_pb2.PushRequest(options=options)
                for batch in batches:
                    moved[0] = time.monotonic()
                    yield node_pb2.PushRequest(batch=node_pb2.PushBatch(records=batch))
                moved[0] = time.monotonic()
            except Exception as error:  # not the GeneratorExit of a call that ended before it had read everything
                failed.append(error)
                raise

        call = self._stub.Push.future(requests())
        try:
            while True:
                try:
                    return call.result(timeout=1.0)
                except grpc.FutureTimeoutError:
                    if time.monotonic() - moved[0] > STALL_S:
                        raise PeerUnreachableError(
                            f"the node did not answer for {STALL_S:.0f} s; whether the records were appended is not known",
                            hint="push again: records that are there already are reported as unchanged",
                        ) from None
        except grpc.RpcError as error:
            raise (failed[0] if failed else self._translate(error)) from error
        finally:
            call.cancel()

    def list_records(
        self, *, kind: str = "", author: str = "", page_size: int = 0, page_token: str = ""
    ) -> node_pb2.ListRecordsResponse:
        """One page of the newest revisions."""
        request = node_pb2.ListRecordsRequest(kind=kind, author=author, page_size=page_size, page_token=page_token)
        return self._call(self._stub.ListRecords, request)

    def search_records(
        self, text: str, *, kind: str = "", author: str = "", page_size: int = 0, page_token: str = ""
    ) -> node_pb2.SearchRecordsResponse:
        """One page of hits."""
        request = node_pb2.SearchRecordsRequest(
            text=text, kind=kind, author=author, page_size=page_size, page_token=page_token
        )
        return self._call(self._stub.SearchRecords, request)

    def get_record(self, record_id: str) -> node_pb2.RecordView:
        """One record."""
        return self._call(self._stub.GetRecord, node_pb2.GetRecordRequest(id=record_id)).record

    def export_bundle(self, record_id: str) -> bytes:
        """The bundle of one record, as the bytes of a file."""
        try:
            pieces = self._stub.ExportBundle(node_pb2.ExportBundleRequest(id=record_id), timeout=STALL_S)
            return b"".join(piece.chunk for piece in pieces)
        except grpc.RpcError as error:
            raise self._translate(error) from error

    def get_status(self) -> node_pb2.GetStatusResponse:
        """The state of the node and of its peers."""
        return self._call(self._stub.GetStatus, node_pb2.GetStatusRequest())

    def export_alliance(self) -> tuple[list[bytes], list[bytes]]:
        """Every roster envelope from version 1, and the newest card envelope of each member."""
        answer = self._call(self._stub.ExportAlliance, node_pb2.ExportAllianceRequest())
        return list(answer.rosters), list(answer.cards)

    def import_alliance(
        self, rosters: Iterable[bytes], cards: Iterable[bytes], *, fingerprint: str | None
    ) -> tuple[int, str]:
        """Give rosters and cards; returns the newest roster's version and fingerprint."""
        request = node_pb2.ImportAllianceRequest(rosters=rosters, cards=cards, fingerprint=fingerprint or "")
        answer = self._call(self._stub.ImportAlliance, request, CHANGE_DEADLINE_S)
        return answer.version, answer.fingerprint

    def found_alliance(self, title: str, threshold: int) -> tuple[int, str]:
        """Found the alliance; returns the roster's version and fingerprint."""
        request = node_pb2.FoundAllianceRequest(title=title, threshold=threshold)
        answer = self._call(self._stub.FoundAlliance, request, CHANGE_DEADLINE_S)
        return answer.version, answer.fingerprint

    def add_members(self, cards: Iterable[bytes]) -> node_pb2.AddMembersResponse:
        """Propose or publish the roster with the members of these cards."""
        return self._call(self._stub.AddMembers, node_pb2.AddMembersRequest(cards=cards), CHANGE_DEADLINE_S)

    def remove_member(self, member: str, head_size: int | None = None) -> node_pb2.RemoveMemberResponse:
        """Propose or publish the roster without one member."""
        request = node_pb2.RemoveMemberRequest(member=member, head_size=head_size)
        return self._call(self._stub.RemoveMember, request, CHANGE_DEADLINE_S)

    def amend_roster(self, request: node_pb2.AmendRosterRequest) -> node_pb2.AmendRosterResponse:
        """Propose or publish the roster with another change."""
        return self._call(self._stub.AmendRoster, request, CHANGE_DEADLINE_S)

    def sign_roster(self, file: bytes, head_size: int | None = None) -> node_pb2.SignRosterResponse:
        """Sign a proposal; the last signature publishes it."""
        request = node_pb2.SignRosterRequest(file=file, head_size=head_size)
        return self._call(self._stub.SignRoster, request, CHANGE_DEADLINE_S)

    def withdraw_roster(self, roster_hash: str) -> int:
        """Give up the signed roster with this hash, which is not in force; returns its version."""
        request = node_pb2.WithdrawRosterRequest(hash=roster_hash)
        return self._call(self._stub.WithdrawRoster, request, CHANGE_DEADLINE_S).version

    def confirm_log(self) -> node_pb2.ConfirmLogResponse:
        """Publish although too few peers have answered."""
        return self._call(self._stub.ConfirmLog, node_pb2.ConfirmLogRequest(), CHANGE_DEADLINE_S)

    def list_lost(self, *, page_size: int = 0, page_token: str = "") -> node_pb2.ListLostResponse:
        """One page of the own entries that nobody can open again."""
        return self._call(self._stub.ListLost, node_pb2.ListLostRequest(page_size=page_size, page_token=page_token))

    def confirm_lost(self, total: int) -> int:
        """A person has seen that these are lost; returns how many there are, which must be `total`."""
        return self._call(self._stub.ConfirmLost, node_pb2.ConfirmLostRequest(total=total), CHANGE_DEADLINE_S).total

    def grant_record(self, record_id: str, members: Iterable[str]) -> node_pb2.GrantRecordResponse:
        """Open one record of this member to further members."""
        request = node_pb2.GrantRecordRequest(id=record_id, members=members)
        return self._call(self._stub.GrantRecord, request, CHANGE_DEADLINE_S)

    def erase_record(self, record_id: str, reason: str, *, preview: bool = False) -> node_pb2.EraseRecordResponse:
        """Delete one record of this member for good; with `preview` only say what that would be."""
        request = node_pb2.EraseRecordRequest(id=record_id, reason=reason, preview=preview)
        return self._call(self._stub.EraseRecord, request, CHANGE_DEADLINE_S)

    def add_client(self, name: str, role: str, kinds: Iterable[str]) -> node_pb2.AddClientResponse:
        """Issue a token for a lab system on another machine."""
        request = node_pb2.AddClientRequest(name=name, role=role, kinds=kinds)
        return self._call(self._stub.AddClient, request, CHANGE_DEADLINE_S)

    def list_clients(self) -> list[node_pb2.Client]:
        """The lab systems that have or had a token, by name."""
        return list(self._call(self._stub.ListClients, node_pb2.ListClientsRequest()).clients)

    def revoke_client(self, name: str) -> node_pb2.Client:
        """Take a lab system's token back."""
        return self._call(self._stub.RevokeClient, node_pb2.RevokeClientRequest(name=name), CHANGE_DEADLINE_S).client

    def rotate_key(self, role: str, *, without_peers: bool = False) -> tuple[bytes, list[str]]:
        """Rotate a key; returns the new card's envelope, and for TLS the members that must take it first."""
        request = node_pb2.RotateKeyRequest(role=role, without_peers=without_peers)
        answer = self._call(self._stub.RotateKey, request, CHANGE_DEADLINE_S)
        return answer.card, list(answer.waiting_for)

    def revoke_log_key(self, size: int, *, without_peers: bool = False) -> bytes:
        """End the log key at an earlier size; returns the new card's envelope."""
        request = node_pb2.RevokeLogKeyRequest(size=size, without_peers=without_peers)
        return self._call(self._stub.RevokeLogKey, request, CHANGE_DEADLINE_S).card

    def abandon_identity(self) -> None:
        """Give up the new identity key that waits for the council."""
        self._call(self._stub.AbandonIdentity, node_pb2.AbandonIdentityRequest(), CHANGE_DEADLINE_S)

    def list_evidence(self) -> list[node_pb2.EvidenceView]:
        """What the node can prove against members, the oldest first."""
        return list(self._call(self._stub.ListEvidence, node_pb2.ListEvidenceRequest()).evidence)

    def export_evidence(self, evidence_id: str) -> bytes:
        """One piece of evidence, as the bytes of a file."""
        try:
            request = node_pb2.ExportEvidenceRequest(id=evidence_id)
            pieces = self._stub.ExportEvidence(request, timeout=CHANGE_DEADLINE_S)
            return b"".join(piece.chunk for piece in pieces)
        except grpc.RpcError as error:
            raise self._translate(error) from error

    def audit_log(
        self, member: str, on_progress: Callable[[int, int], None] = lambda _done, _total: None
    ) -> node_pb2.AuditReport:
        """Audit a log that the node holds; calls `on_progress` with the entries done and in all."""
        try:
            for answer in self._stub.AuditLog(node_pb2.AuditLogRequest(member=member), timeout=AUDIT_DEADLINE_S):
                if answer.HasField("report"):
                    return answer.report
                on_progress(answer.progress.done, answer.progress.total)
        except grpc.RpcError as error:
            raise self._translate(error) from error
        raise PeerUnreachableError("the node stopped in the middle of the audit", hint="type it again")

    @property
    def _stub(self) -> node_pb2_grpc.NodeServiceStub:
        assert self._channel is not None, "use NodeClient as a context manager"
        return node_pb2_grpc.NodeServiceStub(self._channel)

    def _call(
        self,
        method: Callable[..., Response],
        request: Request,
        deadline_s: float = READ_DEADLINE_S,
    ) -> Response:
        try:
            return method(request, timeout=deadline_s)
        except grpc.RpcError as error:
            raise self._translate(error) from error

    def _translate(self, error: grpc.RpcError) -> LabmeshError:
        failed = error_of_node(error)
        if isinstance(failed, PeerUnreachableError):
            # It may have stopped since the connection was opened; then the cause is worth more than gRPC's words.
            return self._way.probe() or failed
        return failed
