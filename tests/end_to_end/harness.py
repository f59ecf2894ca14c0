"""An alliance of real daemons on this machine: homes in a temporary folder, one process for each member.

Nothing here waits for a fixed time. `eventually` polls until something holds and fails after a minute; a test that fails
shows what each daemon wrote to stderr (see conftest). Only processes that were started here are ended.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import orjson
from google.rpc import error_details_pb2, status_pb2

from labmesh.v1 import node_pb2, node_pb2_grpc, peer_pb2_grpc
from node.clock import utc_now
from node.core.alliance import format_card
from node.core.bundle import parse_bundle
from node.core.card import Card
from node.core.kinds import Kinds
from node.core.verdict import Verdict
from node.home import Home, Keys, create_home
from node.membership import Membership
from node.rpc.tls import channel_credentials, expected_name
from node.schemas import load_schemas
from tests.end_to_end.nursery import Child
from tests.verifiers import agreed_verdict, surviving_changes

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
ALLIANCE = "quality.jinan.example"
PATIENCE_S = 60.0
POLL_S = 0.05
CALL_S = 30.0

_NODE_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", 16 * 1024 * 1024)]

running: list[Mesh] = []
"""Alliances that are open now, for the report of a failed test."""


def eventually(condition: Callable[[], T], what: str, *, poll_s: float = POLL_S) -> T:
    """Wait until `condition` is true and return what it returned. A call that is refused counts as not yet."""
    deadline = time.monotonic() + PATIENCE_S
    seen: object = None
    while time.monotonic() < deadline:
        try:
            seen = found = condition()
            if found:
                return found
        except grpc.RpcError as error:
            seen = error
        time.sleep(poll_s)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}; at last: {seen!r}")


def result_record(key: str, text: str = "地下水", **members: Any) -> bytes:
    """A record for push, as a lab system writes it; `text` stands in its body."""
    quantity = {"form": "numeric", "value": "0.10", "unit": "mg/L"}
    result = {"parameter": "铅", "method": "GB/T 5009.12-2003", "quantity": quantity}
    body = {"report": key, "sample": {"id": key, "matrix": text}, "results": [result]}
    return orjson.dumps({"key": key, "body": body, **members})


def result_records(prefix: str, count: int, text: str = "地下水") -> list[bytes]:
    """Records with numbered keys."""
    return [result_record(f"{prefix}-{i:06d}", text) for i in range(count)]


class Node:
    """One member: its home, and its daemon while that runs."""

    def __init__(self, home: Home, card: Card, port: int, logs: Path) -> None:
        """Start nothing yet."""
        self.home, self.card, self.member, self.port = home, card, card.member, port
        self.stderr_path, self._stdout_path = logs / f"{card.member}.err", logs / f"{card.member}.out"
        self.process: Child | None = None
        self._channel: grpc.Channel | None = None

    def spawn(self) -> Child:
        """Start a daemon on this home without waiting for it."""
        with self.stderr_path.open("ab") as stderr, self._stdout_path.open("wb") as stdout:
            return Child("--home", self.home.path, "run", stdout=stdout, stderr=stderr)

    def start(self) -> Node:
        """Start the daemon and wait until it says `ready`."""
        self.begin()
        return self.wait_ready()

    def begin(self) -> None:
        """Start the daemon."""
        assert self.process is None, f"{self.member} runs already"
        self.process = self.spawn()
        self._channel = grpc.insecure_channel(f"unix:{self.home.socket_path}", options=_NODE_OPTIONS)

    def wait_ready(self) -> Node:
        """Wait until the daemon says `ready`."""

        def is_ready() -> bool:
            code = self.running.poll()
            assert code is None, f"{self.member} ended with {code}: {self.stderr_path.read_text()}"
            return self._stdout_path.read_bytes() == b"ready\n"

        eventually(is_ready, f"{self.member} says that it is ready")
        return self

    @property
    def running(self) -> Child:
        """The daemon's process."""
        assert self.process is not None, f"{self.member} does not run"
        return self.process

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the daemon with a signal and return its exit code."""
        process, self.process = self.running, None
        process.send_signal(number)
        try:
            return process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
            self._close_channel()

    def kill(self) -> None:
        """End the daemon as a power cut would."""
        assert self.stop(signal.SIGKILL) == -signal.SIGKILL

    def close(self) -> None:
        """End the daemon if it runs still."""
        if self.process is not None:
            self.stop(signal.SIGKILL)

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    @property
    def channel(self) -> grpc.Channel:
        """The channel to the daemon's socket."""
        assert self._channel is not None, f"{self.member} does not run"
        return self._channel

    @property
    def stub(self) -> node_pb2_grpc.NodeServiceStub:
        """NodeService of the daemon."""
        return node_pb2_grpc.NodeServiceStub(self.channel)

    def push(self, records: Sequence[bytes], *, kind: str = "result", **options: Any) -> node_pb2.PushResponse:
        """Push records in batches of 500."""

        def requests() -> Iterator[node_pb2.PushRequest]:
            yield node_pb2.PushRequest(options=node_pb2.PushOptions(kind=kind, **options))
            for i in range(0, len(records), 500):
                yield node_pb2.PushRequest(batch=node_pb2.PushBatch(records=records[i : i + 500]))

        return self.stub.Push(requests(), timeout=PATIENCE_S, wait_for_ready=True)

    def status(self) -> node_pb2.GetStatusResponse:
        """The node's state."""
        return self.stub.GetStatus(node_pb2.GetStatusRequest(), timeout=CALL_S, wait_for_ready=True)

    def peer(self, member: str) -> node_pb2.PeerStatus:
        """What the node says of one peer."""
        return next(peer for peer in self.status().peers if peer.member == member)

    def show(self, record_id: str) -> node_pb2.RecordView:
        """One record."""
        return self.stub.GetRecord(node_pb2.GetRecordRequest(id=record_id), timeout=CALL_S).record

    def await_log(self, author: str, size: int) -> None:
        """Wait until the log of a peer is verified here up to this size."""
        eventually(lambda: self.peer(author).verified == size, f"{self.member} has {size} entries of {author}")

    def await_index(self) -> None:
        """Wait until everything that is verified can be found."""
        eventually(lambda: self.status().index_backlog == 0, f"{self.member} has indexed everything")

    def await_record(self, record_id: str) -> dict[str, Any]:
        """Wait until a record is shown here, and return its content."""
        eventually(lambda: self.sees(record_id), f"{self.member} shows {record_id}")
        content: dict[str, Any] = orjson.loads(self.show(record_id).record)
        return content

    def await_peer(self, member: str, state: str, reason: str = "") -> node_pb2.PeerStatus:
        """Wait until the node says this of a peer."""

        def found() -> node_pb2.PeerStatus | None:
            peer = self.peer(member)
            return peer if (peer.state, peer.reason) == (state, reason) else None

        peer = eventually(found, f"{self.member} says of {member}: {state} {reason}")
        assert peer is not None
        return peer

    def sees(self, record_id: str) -> bool:
        """Whether the node shows this record."""
        try:
            return self.show(record_id).status == node_pb2.RECORD_STATUS_VISIBLE
        except grpc.RpcError as error:
            if code_of(error) is grpc.StatusCode.NOT_FOUND:
                return False
            raise

    def listed(self, author: str = "") -> list[str]:
        """Keys of all records that are listed, page by page."""
        found: list[str] = []
        token = ""
        while True:
            request = node_pb2.ListRecordsRequest(author=author, page_size=1000, page_token=token)
            page = self.stub.ListRecords(request, timeout=CALL_S)
            found += [view.id.split("/", 2)[2] for view in page.records]
            token = page.next_page_token
            if not token:
                return found

    def hits(self, text: str) -> list[str]:
        """Ids of the records that a search finds."""
        request = node_pb2.SearchRecordsRequest(text=text, page_size=1000)
        return [view.id for view in self.stub.SearchRecords(request, timeout=CALL_S).records]

    def bundle(self, record_id: str) -> bytes:
        """The bundle that proves a record."""
        answer = self.stub.ExportBundle(node_pb2.ExportBundleRequest(id=record_id), timeout=CALL_S)
        return b"".join(message.chunk for message in answer)

    def configure(self, **settings: object) -> None:
        """Change settings in labmesh.toml; `staging_bytes=…` means `bytes` under `[staging]`."""
        text = self.home.config_path.read_text(encoding="utf-8")
        for name, value in settings.items():
            section, _, line = name.rpartition("_") if name.startswith(("staging_", "remote_")) else ("", "", name)
            before, heading, after = text.partition(f"[{section}]\n") if section else ("", "", text)
            after, count = re.subn(rf"(?m)^{line} = .*$", f"{line} = {orjson.dumps(value).decode()}", after, count=1)
            assert count == 1, f"{name} is not in the settings"
            text = before + heading + after
        self.home.config_path.write_text(text, encoding="utf-8")

    def load_keys(self) -> Keys:
        """The private keys in the home."""
        return self.home.load_keys(self.member, ALLIANCE)

    def card_bytes(self) -> bytes:
        """The member's own card as it travels. The daemon must not run."""
        with self.membership() as membership:
            return format_card(membership.own_card)

    @contextmanager
    def membership(self) -> Iterator[Membership]:
        """The home's membership, opened from here. The daemon must not run."""
        assert self.process is None
        store = self.home.open_store()
        try:
            yield Membership(store.membership, identity=self.load_keys().identity, clock=utc_now)
        finally:
            store.close()


class Mesh:
    """An alliance whose homes lie in one temporary folder."""

    def __init__(self) -> None:
        """Make the folder: Unix sockets have short paths, so it does not lie where pytest puts its own."""
        self.folder = Path(tempfile.mkdtemp(prefix="lm-"))
        self.nodes: dict[str, Node] = {}
        self.fingerprint = ""

    def __getitem__(self, member: str) -> Node:
        """One member."""
        return self.nodes[member]

    def add_home(self, member: str) -> Node:
        """Make a home with settings for impatient people."""
        port = free_port()
        path, address = self.folder / member, f"127.0.0.1:{port}"
        name = member.title()
        card = create_home(path, member=member, alliance=ALLIANCE, name=name, region="CN-37", address=address)
        node = Node(Home(path), card, port, self.folder)
        node.configure(contact_interval_s=1, retry_max_s=1, listen=address)
        self.nodes[member] = node
        return node

    def found(self) -> None:
        """The first member founds the alliance and takes in the others, who join with its fingerprint."""
        founder, *others = self.nodes.values()
        with founder.membership() as membership:
            alliance = membership.found("Jinan Quality Alliance")
            if others:
                alliance = membership.add_members([node.card_bytes() for node in others])
            rosters, cards = membership.newer_than(0, {})
        self.fingerprint = alliance.fingerprint
        for node in others:
            with node.membership() as membership:
                membership.import_alliance(rosters, cards, fingerprint=self.fingerprint)

    def start(self, *members: str) -> None:
        """Start these members, or all, at once, and wait until they are ready."""
        nodes = [self.nodes[member] for member in members or self.nodes]
        for node in nodes:
            node.begin()
        for node in nodes:
            node.wait_ready()

    def verify(self, bundle: bytes) -> Verdict:
        """Verify a bundle as an auditor does, from the fingerprint alone, with both verifiers."""
        return agreed_verdict(parse_bundle(bundle), fingerprint=self.fingerprint, kinds=Kinds(load_schemas()))

    def verify_changes(self, bundle: bytes, *, count: int) -> None:
        """Change a byte of a bundle, so many times at random: both verifiers refuse each."""
        kinds = Kinds(load_schemas())
        assert surviving_changes(bundle, self.fingerprint, kinds, count=count, seed=500) == []

    @contextmanager
    def call_as(self, caller: str, target: str) -> Iterator[peer_pb2_grpc.PeerServiceStub]:
        """PeerService of `target`, called with the key and certificate of `caller`."""
        with self.channel_as(caller, target) as channel:
            yield peer_pb2_grpc.PeerServiceStub(channel)

    @contextmanager
    def channel_as(self, caller: str, target: str) -> Iterator[grpc.Channel]:
        """A channel to the peer port of `target`, opened with the key and certificate of `caller`."""
        node = self.nodes[caller]
        credentials = channel_credentials(self.nodes[target].card, key_pem=node.load_keys().tls_key_pem, own_card=node.card)
        with self.dial(target, credentials) as channel:
            yield channel

    @contextmanager
    def dial(self, target: str, credentials: grpc.ChannelCredentials) -> Iterator[grpc.Channel]:
        """A channel to the peer port of `target` with any credentials."""
        node = self.nodes[target]
        name = ("grpc.ssl_target_name_override", expected_name(node.card))
        options = [name, ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"127.0.0.1:{node.port}", credentials, options=options) as channel:
            yield channel

    def close(self) -> None:
        """End what runs still, and take the folder away."""
        for node in self.nodes.values():
            node.close()
        assert not [node.member for node in self.nodes.values() if node.process is not None]
        shutil.rmtree(self.folder)


@contextmanager
def open_mesh(*members: str) -> Iterator[Mesh]:
    """An alliance of these members, the first of them its founder; nothing runs yet."""
    mesh = Mesh()
    running.append(mesh)
    try:
        for member in members:
            mesh.add_home(member)
        if members:
            mesh.found()
        yield mesh
    finally:
        running.remove(mesh)
        mesh.close()


def free_port() -> int:
    """A free port on the loopback interface.

    Below the range from which the system takes ports for outgoing connections: a node that dials a stopped peer again and
    again could otherwise meet itself there, and an unrelated connection could take the port while its node is down.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


# What a refused call says


def code_of(error: Any) -> grpc.StatusCode:
    """The status code of a failed call."""
    code: grpc.StatusCode = error.code()
    return code


def reason_of(error: Any) -> str:
    """The reason in a failed call's ErrorInfo; empty when it carries none."""
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        assert isinstance(value, bytes)
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return info.reason
    return ""
