"""What a node is asked and told: files, settings, words to search for, pages of a log, every call of its services."""

from __future__ import annotations

import asyncio
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc
from click.testing import CliRunner
from google.protobuf import text_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from cli.main import labmesh
from cli.outcome import UsageFault
from cli.push_input import PushInput
from cli.records_file import compact, split_records
from cli.texts import parse_fingerprint
from labmesh.v1 import node_pb2, peer_pb2
from node.config import load_settings, parse_listen
from node.core.card import parse_endpoint
from node.core.checkpoint import parse_checkpoint
from node.core.entry import LogPage
from node.core.mirror import Mirror
from node.errors import ConfigError, FormatError, LabmeshError, PeerFaultError
from node.lab.text import index_terms, query_expression, searchable_texts
from node.rpc.convert import message_from_wire, page_to_wire
from node.rpc.faults import DETAILS_KEY, build_status, error_of_node, error_of_peer
from node.rpc.tls import TrustedCertificates, certificate_pem
from node.store.records import Filter
from node.store.search import SearchIndex
from tests.attacks.calling import admit, caller, node_servicer, peer_servicer
from tests.attacks.scene import HELD, JINAN, PROVED, QINGDAO, SIZE, YANTAI
from tests.fuzz.files import evidence_seeds, proposal_seeds
from tests.fuzz.formats import card_seeds, draft_seeds, note_seeds, roster_seeds, texts
from tests.fuzz.statements import statement_page, statement_seeds
from tests.fuzz.target import Finding, target
from tests.fuzz.world import scene, sent_text, shipped_kinds, text

ROOT = Path(__file__).parents[2]
MESSAGES_MAX = 50


# The command line


def push_seeds() -> list[bytes]:
    lines = draft_seeds()
    return [b"\n".join(lines), b"[" + b", ".join(lines) + b"]", lines[0], b"\xef\xbb\xbf" + lines[0], b'{\n "key": "x"\n}\n']


@target("push file", seeds=push_seeds)
def push_file(raw: bytes) -> None:
    for one in split_records(raw):
        if not one.fault and compact(one.raw) != compact(compact(one.raw)):
            raise Finding("a compacted record can be compacted again")
    given = PushInput([("records", raw)])
    count = sum(len(batch) for batch in given.batches())
    if count and not given.locate(count).line:
        raise Finding("the last record has no line")


@target("settings", ConfigError, seeds=lambda: [(ROOT / "config" / "labmesh.toml").read_bytes()])
def settings(raw: bytes) -> None:
    with tempfile.NamedTemporaryFile(prefix="labmesh-fuzz-", suffix=".toml") as file:
        file.write(raw)
        file.flush()
        load_settings(Path(file.name))


@target("address", FormatError, seeds=texts("lab.example:7443", "[2001:db8::1]:7443", "10.0.0.1:1"), write=str.encode)
def address(raw: bytes) -> str:
    return parse_endpoint(text(raw))


@target("listen", ConfigError, seeds=texts("0.0.0.0:7443", "[::]:0"))
def listen(raw: bytes) -> None:
    parse_listen(text(raw))


@target("fingerprint", UsageFault, seeds=texts("ab" * 32, "AB:" * 32))
def fingerprint(raw: bytes) -> None:
    parse_fingerprint(sent_text(raw))


COMMANDS = {"show", "list", "search", "verify", "status", "peers"}
"""Commands that write nothing, whatever their arguments."""


LINES = texts(
    f"show\x00{PROVED}",
    "list\x00--kind\x00result\x00--limit\x005",
    "search\x00铅\x00--author\x00jinan",
    "verify\x00x.labmesh\x00--fingerprint\x00" + "ab" * 32,
    "status\x00--json",
)


@target("command line", seeds=LINES)
def command_line(raw: bytes) -> None:
    words = text(raw).split("\x00")
    if words[0] not in COMMANDS:
        words.insert(0, "show")
    ended = CliRunner().invoke(labmesh, ["--home", str(scene().folder / "nowhere"), *words])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    if ended.exit_code not in (0, 1, 2, 3):
        raise Finding(f"exit code {ended.exit_code}")


# Searching and listing


WORDS = texts(
    "铅 GB/T 5009.12-2003",
    'lead AND (x OR y) NEAR/2 "z" *',
    "ISO/IEC 17025:2017",
    "地下水",
    "ASTM E8/E8M-16aε1",
    "DB11/T 307",
)


@target("words to search for", seeds=WORDS)
def words(raw: bytes) -> None:
    scene().jinan.store.records.search(query_expression(sent_text(raw)), Filter(), limit=5)


@target("words to index", seeds=WORDS)
def index_words(raw: bytes) -> None:
    found = index_terms([sent_text(raw), *searchable_texts({"a": sent_text(raw), "quantity": {"value": sent_text(raw)}})])
    if "\n" in found.words or "  " in found.words:
        raise Finding(f"terms that are not separated by one space: {found.words!r}")


@target("cursor of a list", FormatError, seeds=texts("p1099511627776", "p0"))
def list_cursor(raw: bytes) -> None:
    scene().jinan.store.records.list(Filter(), limit=5, token=sent_text(raw))


@target("cursor of a search", FormatError, seeds=texts("o0", "o50"))
def search_cursor(raw: bytes) -> None:
    _index()
    scene().jinan.store.records.search(query_expression("铅"), Filter(), limit=5, token=sent_text(raw))


def _index() -> None:
    """Without terms in the index no search would look at its cursor."""
    store = scene().jinan.store
    index = SearchIndex(store.database, scene().jinan.path / "search.sqlite")
    while index.advance():
        pass
    index.close()


# A peer's answers


def stream_seeds() -> list[Message]:
    log = scene().jinan.ledger.log
    page = page_to_wire(scene().jinan.store.logs.read_page(log, start=HELD, stop=SIZE, reader="qingdao"))
    late = map(page_to_wire, scene().jinan.store.late.late_pages(log.id, before=HELD, after=0, upto=99, reader="qingdao"))
    announced = peer_pb2.ReadLogResponse(checkpoint=bytes(scene().checkpoint()))
    statements = page_to_wire(statement_page(*statement_seeds()))
    return [page, *late, announced, statements]


def stream_message(received: peer_pb2.ReadLogResponse) -> None:
    message = message_from_wire(received)
    log = scene().reader.mirror_of("jinan")
    mirror = Mirror(scene().joined.card("jinan"), reader="qingdao", kinds=shipped_kinds(), head=log.head, staged=log.staged)
    mirror.accept_announcement(bytes(scene().checkpoint()))
    if not isinstance(message, LogPage):
        signed = mirror.accept_announcement(message)
        if parse_checkpoint(message).checkpoint != signed.checkpoint:
            raise Finding("another checkpoint was accepted than the one announced")
        return
    mirror.accept_page(message, lambda index: scene().reader.store.logs.commitment_at(log.id, index))
    if mirror.complete:
        mirror.accept_head()


@target("notes that a peer tells", seeds=note_seeds)
def told_notes(raw: bytes) -> None:
    scene().reader.exchange.accept_notes([raw], peer="yantai")


@target("a note of the own log", PeerFaultError, seeds=note_seeds)
def told_own_note(raw: bytes) -> None:
    scene().jinan.confirmation.accept_told("qingdao", raw)


@target("rosters and cards that a peer tells", seeds=lambda: [*roster_seeds(), *card_seeds()])
def told_membership(raw: bytes) -> None:
    update = scene().reader.membership.accept_update([raw], [raw])
    if not all(update.faults):
        raise Finding("a fault without words")


@target("certificate of a caller", seeds=lambda: [certificate_pem(JINAN.certificate), certificate_pem(YANTAI.certificate)])
def caller_certificate(raw: bytes) -> None:
    membership = scene().reader.membership
    TrustedCertificates(own_card=lambda: membership.own_card[1], alliance=lambda: membership.alliance).member_of(raw)


class _Answer(grpc.RpcError):
    def __init__(self, status: bytes) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return "x"

    def trailing_metadata(self) -> Any:
        return ((DETAILS_KEY, self._status),)


@target("status of a failed call", seeds=lambda: [build_status(FormatError("x", hint="y")).SerializeToString()])
def failed_call(raw: bytes) -> None:
    for judge in (lambda error: error_of_peer(error, "jinan"), error_of_node):
        if not judge(_Answer(raw)).message:
            raise Finding("a failed call without words")


# Every call of the services


SEEDS: dict[str, Callable[[], list[Message]]] = {
    "GetRoster": lambda: [peer_pb2.GetRosterRequest(version=1, cards=[peer_pb2.HeldCard(member="jinan", seq=1)])],
    "ReadLog": lambda: [peer_pb2.ReadLogRequest(origin=JINAN.origin, start=2, after=3, entries_max=100)],
    "ExchangeCheckpoints": lambda: [
        peer_pb2.ExchangeCheckpointsRequest(
            digest=bytes(32), notes=note_seeds(), roster_version=4, rosters=roster_seeds()[-1:], card=card_seeds()[0]
        )
    ],
    "Push": lambda: [node_pb2.PushRequest(batch=node_pb2.PushBatch(records=draft_seeds()))],
    "ListRecords": lambda: [node_pb2.ListRecordsRequest(kind="result", author="jinan", page_size=5, page_token="p1")],
    "SearchRecords": lambda: [node_pb2.SearchRecordsRequest(text="铅 lead", kind="result", page_size=2, page_token="o1")],
    "GetRecord": lambda: [node_pb2.GetRecordRequest(id=PROVED)],
    "ExportBundle": lambda: [node_pb2.ExportBundleRequest(id=PROVED)],
    "AddMembers": lambda: [node_pb2.AddMembersRequest(cards=card_seeds())],
    "ImportAlliance": lambda: [node_pb2.ImportAllianceRequest(rosters=roster_seeds(), cards=card_seeds())],
    "FoundAlliance": lambda: [node_pb2.FoundAllianceRequest(title="T", threshold=1)],
    "AmendRoster": lambda: [
        node_pb2.AmendRosterRequest(threshold=3),
        node_pb2.AmendRosterRequest(quorum=1),
        node_pb2.AmendRosterRequest(council=node_pb2.Council(members=["jinan", "yantai"], threshold=2)),
    ],
    "SignRoster": lambda: [node_pb2.SignRosterRequest(file=raw) for raw in proposal_seeds()],
    "WithdrawRoster": lambda: [
        node_pb2.WithdrawRosterRequest(hash=hash_) for hash_ in ("", "a" * 64, scene().joined.fingerprint)
    ],
    "GrantRecord": lambda: [node_pb2.GrantRecordRequest(id="jinan/result/PRIVATE", members=["yantai"])],
    "EraseRecord": lambda: [node_pb2.EraseRecordRequest(id="jinan/result/HELD-0", reason="R", preview=True)],
    "ConfirmLost": lambda: [node_pb2.ConfirmLostRequest(total=total) for total in (0, 1)],
    "AcknowledgeErasure": lambda: [peer_pb2.AcknowledgeErasureRequest(origin=QINGDAO.origin, indexes=[0, 2**40])],
    "ReportEvidence": lambda: [peer_pb2.ReportEvidenceRequest(evidence=raw) for raw in evidence_seeds()],
    "ExportEvidence": lambda: [node_pb2.ExportEvidenceRequest(id="ab" * 32)],
    "AuditLog": lambda: [node_pb2.AuditLogRequest(member="jinan")],
    "AddClient": lambda: [node_pb2.AddClientRequest(name="lims", role="push", kinds=["result"])],
    "RevokeClient": lambda: [node_pb2.RevokeClientRequest(name="lims")],
    "RemoveMember": lambda: [node_pb2.RemoveMemberRequest(member="yantai")],
}
"""Requests that succeed, or nearly; a call without one is fuzzed from the empty request."""

SKIPPED = {"GetStatus", "RotateKey", "RevokeLogKey", "AbandonIdentity"}
"""What asks the whole daemon, or writes its key files, of which there are none here."""


@lru_cache(maxsize=1)
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


def call_target(method: MethodDescriptor, servicer: Callable[[], Any]) -> None:
    """Fuzz one call: its request's bytes, then its request's fields."""
    request_class = GetMessageClass(method.input_type)

    def requests() -> list[Message]:
        return [request_class(), *SEEDS.get(method.name, list)()]

    def perform(request: Any) -> None:
        if "follow" in method.input_type.fields_by_name:
            request.follow = False  # nothing comes later here, so it would be waited for in vain
        _runner().run(answer(getattr(servicer(), method.name), request))

    async def answer(called: Callable[..., Any], request: Message) -> None:
        await admit()
        given: Any = _stream(request) if method.client_streaming else request
        outcome = called(given, caller(YANTAI.certificate))
        if not method.server_streaming:
            await outcome
            return
        count = 0
        async for _ in outcome:
            count += 1
            if count == MESSAGES_MAX:
                break

    message_targets(f"call {method.name}", request_class, requests, perform, LabmeshError)


def message_targets(
    name: str,
    model: type[Any],
    examples: Callable[[], Sequence[Message]],
    perform: Callable[[Any], Any],
    *refusals: type[Exception],
) -> None:
    """Fuzz what takes a message in two ways: the bytes on the wire, and the values of its fields."""

    def wire(raw: bytes) -> Any:
        return perform(model.FromString(raw))

    def fields(raw: bytes) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # by protobuf itself, for escapes that are none
            request = text_format.Parse(raw.decode("utf-8", "replace"), model())
        return perform(request)

    def wire_seeds() -> list[bytes]:
        return [message.SerializeToString() for message in examples()]

    def field_seeds() -> list[bytes]:
        return [text_format.MessageToString(message, as_utf8=True).encode() for message in examples()]

    target(name, DecodeError, *refusals, seeds=wire_seeds)(wire)
    target(f"{name}, by fields", text_format.ParseError, *refusals, seeds=field_seeds)(fields)


async def _stream(request: Message) -> AsyncIterator[Message]:
    yield node_pb2.PushRequest(options=node_pb2.PushOptions(kind="result", keep_going=True))
    yield request


message_targets("message of a log stream", peer_pb2.ReadLogResponse, stream_seeds, stream_message, PeerFaultError)

for _service, _servicer in (
    (peer_pb2.DESCRIPTOR.services_by_name["PeerService"], lambda: peer_servicer(scene().reader)),
    (node_pb2.DESCRIPTOR.services_by_name["NodeService"], lambda: node_servicer(scene().jinan)),
):
    for _method in _service.methods:
        if _method.name not in SKIPPED:
            call_target(_method, _servicer)
