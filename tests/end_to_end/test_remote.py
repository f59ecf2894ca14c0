"""Lab systems on other machines, with a real daemon: TLS, tokens, roles, and what outlives a restart."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from labmesh.v1 import node_pb2, node_pb2_grpc
from node.core.bundle import parse_bundle
from node.core.kinds import Kinds
from node.rpc.access import PERMITTED
from node.schemas import load_schemas
from tests.end_to_end.harness import (
    CALL_S,
    ROOT,
    Node,
    code_of,
    eventually,
    free_port,
    open_mesh,
    reason_of,
    result_record,
    result_records,
)
from tests.end_to_end.nursery import run_labmesh
from tests.test_remote_certificate import write_pair
from tests.verifiers import agreed_verdict

METHODS = [method.name for method in node_pb2.DESCRIPTOR.services_by_name["NodeService"].methods]
CAPABILITY: dict[str, Any] = {
    "object": "大米",
    "parameter": "铅",
    "methods": [{"standard": "GB 5009.12-2017"}],
    "status": "active",
}


@dataclass
class Gate:
    """A node with a remote port, and the tokens of its clients."""

    node: Node
    port: int
    folder: Path

    def add(self, name: str, role: str, kinds: tuple[str, ...] = ()) -> str:
        """A new client's token, also in a file of its name."""
        request = node_pb2.AddClientRequest(name=name, role=role, kinds=kinds)
        answer = self.node.stub.AddClient(request, timeout=CALL_S)
        assert answer.remote_port == self.port
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(answer.token)
        return str(answer.token)

    @contextmanager
    def channel(self, token: str) -> Iterator[grpc.Channel]:
        """A channel as any gRPC program opens it."""
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials((self.node.home.path / "remote.crt").read_bytes()),
            grpc.access_token_call_credentials(token),
        )
        with grpc.secure_channel(f"localhost:{self.port}", credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield channel

    def labmesh(self, client: str, *args: object) -> tuple[int, str, str]:
        """The command line on another machine: no home, the client's token, the node's certificate."""
        there = ["--remote", f"localhost:{self.port}", "--token-file", self.folder / client]
        done = run_labmesh(*there, "--ca", self.node.home.path / "remote.crt", *args, env={"HOME": "/nonexistent"})
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def revoke(self, name: str) -> None:
        """Take a client's token back."""
        self.node.stub.RevokeClient(node_pb2.RevokeClientRequest(name=name), timeout=CALL_S)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with open_mesh("jinan") as mesh:
        port = free_port()
        mesh["jinan"].configure(remote_listen=f"127.0.0.1:{port}", remote_names=["localhost"])
        mesh.start()
        yield Gate(mesh["jinan"], port, tmp_path_factory.mktemp("clients"))


def requests(*batches: list[bytes], kind: str = "result") -> Iterator[node_pb2.PushRequest]:
    yield node_pb2.PushRequest(options=node_pb2.PushOptions(kind=kind))
    for batch in batches:
        yield node_pb2.PushRequest(batch=node_pb2.PushBatch(records=batch))


def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call() if callable(call) else call:
            pass
    return code_of(caught.value), reason_of(caught.value)


DENIED = (grpc.StatusCode.PERMISSION_DENIED, "DENIED")
STRANGER = (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def call_empty(channel: grpc.Channel, name: str) -> Any:
    """Call a method with nothing in the request; as a list of answers."""
    method: Any = getattr(node_pb2_grpc.NodeServiceStub(channel), name)
    descriptor = node_pb2.DESCRIPTOR.services_by_name["NodeService"].methods_by_name[name]
    empty: Any = getattr(node_pb2, descriptor.input_type.name)()
    answer = method(iter([empty]) if descriptor.client_streaming else empty, timeout=CALL_S)
    return list(answer) if descriptor.server_streaming else [answer]


@pytest.mark.parametrize("role", ["push", "read"])
def test_every_method_that_a_role_does_not_include_is_denied(gate: Gate, role: str) -> None:
    token = gate.add(f"every-{role}", role)
    with gate.channel(token) as channel:
        for name in METHODS:
            if role not in PERMITTED[name]:
                assert refusal(lambda name=name: call_empty(channel, name)) == DENIED, name
    with gate.channel(gate.add(f"boss-{role}", "admin")) as channel:
        assert refusal(lambda: call_empty(channel, "AddClient")) == DENIED


def test_a_stranger_gets_nothing(gate: Gate) -> None:
    for token in ("", "labmesh_" + "A" * 43):
        with gate.channel(token) as channel:
            assert refusal(lambda channel=channel: call_empty(channel, "GetStatus")) == STRANGER
    roots = (gate.node.home.path / "remote.crt").read_bytes()
    with grpc.secure_channel(f"localhost:{gate.port}", grpc.ssl_channel_credentials(roots)) as channel:
        assert refusal(lambda: call_empty(channel, "GetStatus")) == STRANGER
    with grpc.insecure_channel(f"localhost:{gate.port}") as channel:
        assert refusal(lambda: call_empty(channel, "GetStatus"))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("name", "taken"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_old_tls_is_refused(gate: Gate, name: str, taken: bool) -> None:
    context = ssl.create_default_context(cafile=str(gate.node.home.path / "remote.crt"))
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # so that this side would still speak the old one
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[name]
    with socket.create_connection(("127.0.0.1", gate.port), timeout=CALL_S) as plain:
        if not taken:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain, server_hostname="localhost")
            return
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            assert (secure.version(), secure.selected_alpn_protocol()) == (name.replace("_", "."), "h2")


def test_a_lims_pushes_and_the_node_knows_it_was_the_lims(gate: Gate, tmp_path: Path) -> None:
    gate.add("lims", "push", ("result",))
    file = tmp_path / "records.jsonl"
    file.write_bytes(result_record("WJ-1") + b"\n" + result_record("WJ-2"))
    code, out, _ = gate.labmesh("lims", "push", file, "--kind", "result", "--json")
    assert (code, orjson.loads(out)["accepted"]) == (0, 2)
    gate.node.push([result_record("WJ-3")])
    views = {key: gate.node.show(f"jinan/result/{key}") for key in ("WJ-1", "WJ-2", "WJ-3")}
    assert [view.pushed_by for view in views.values()] == ["lims", "lims", ""]
    assert all(view.HasField("pushed_by") and view.pushed_ms for view in views.values())
    assert b"lims" not in views["WJ-1"].record
    assert "client=lims" in gate.node.stderr_path.read_text()

    code, out, _ = gate.labmesh("lims", "list", "--json")
    assert (code, orjson.loads(out)["error"]["reason"]) == (1, "DENIED")
    used = gate.node.stub.ListClients(node_pb2.ListClientsRequest(), timeout=CALL_S).clients
    assert next(client for client in used if client.name == "lims").last_used


def test_kinds_bound_what_is_pushed_and_what_is_read(gate: Gate, tmp_path: Path) -> None:
    capability = orjson.dumps({"key": "SCOPE-1", "body": CAPABILITY})
    gate.node.push([result_record("BOUND-1", "特别的词")])
    answer = gate.node.push([capability], kind="capability")
    assert not answer.errors, answer
    gate.node.await_index()
    size = gate.node.status().size
    with gate.channel(gate.add("results-only", "push", ("result",))) as channel:
        stub = node_pb2_grpc.NodeServiceStub(channel)
        records = [orjson.dumps({"key": "SCOPE-2", "body": CAPABILITY})]
        assert refusal(lambda: [stub.Push(requests(records, kind="capability"), timeout=CALL_S)]) == DENIED
    assert gate.node.status().size == size
    with gate.channel(gate.add("scopes", "read", ("capability",))) as channel:
        stub = node_pb2_grpc.NodeServiceStub(channel)
        listed = stub.ListRecords(node_pb2.ListRecordsRequest(page_size=1000), timeout=CALL_S).records
        assert [view.id for view in listed] == ["jinan/capability/SCOPE-1"]
        found = stub.SearchRecords(node_pb2.SearchRecordsRequest(text="特别的词"), timeout=CALL_S).records
        assert list(found) == [] and gate.node.hits("特别的词") == ["jinan/result/BOUND-1"]
        for request in (
            node_pb2.ListRecordsRequest(kind="result"),
            node_pb2.ListRecordsRequest(kind="result", author="jinan"),
        ):
            assert refusal(lambda request=request: [stub.ListRecords(request, timeout=CALL_S)]) == DENIED
        search = node_pb2.SearchRecordsRequest(text="x", kind="result")
        assert refusal(lambda: [stub.SearchRecords(search, timeout=CALL_S)]) == DENIED
        for record_id in ("jinan/result/BOUND-1", "jinan/result/NONE"):
            show, prove = node_pb2.GetRecordRequest(id=record_id), node_pb2.ExportBundleRequest(id=record_id)
            assert refusal(lambda show=show: [stub.GetRecord(show, timeout=CALL_S)]) == DENIED
            assert refusal(lambda prove=prove: stub.ExportBundle(prove, timeout=CALL_S)) == DENIED
        assert stub.GetRecord(node_pb2.GetRecordRequest(id="jinan/capability/SCOPE-1"), timeout=CALL_S).record.record
        bundle = stub.ExportBundle(node_pb2.ExportBundleRequest(id="jinan/capability/SCOPE-1"), timeout=CALL_S)
        proved, fingerprint = parse_bundle(b"".join(piece.chunk for piece in bundle)), gate.node.status().fingerprint
        assert agreed_verdict(proved, fingerprint=fingerprint, kinds=Kinds(load_schemas())).verified


def test_a_revocation_during_a_push_leaves_nothing_of_it(gate: Gate) -> None:
    token = gate.add("leaver", "push")
    size = gate.node.status().size
    sent, revoked = threading.Event(), threading.Event()

    def slowly() -> Iterator[node_pb2.PushRequest]:
        yield from requests(result_records("LEFT", 10))
        sent.set()
        assert revoked.wait(30)
        yield node_pb2.PushRequest(batch=node_pb2.PushBatch(records=result_records("LATE", 10)))

    with gate.channel(token) as channel:
        call = node_pb2_grpc.NodeServiceStub(channel).Push.future(slowly(), timeout=CALL_S)
        assert sent.wait(30)
        gate.revoke("leaver")
        revoked.set()
        with pytest.raises(grpc.RpcError) as caught:
            call.result()
        assert (code_of(caught.value), reason_of(caught.value)) == STRANGER
        assert refusal(lambda: call_empty(channel, "Push")) == STRANGER
    assert gate.node.status().size == size
    assert not gate.node.sees("jinan/result/LEFT-000000")


def test_wrong_places_are_told_in_words(gate: Gate, tmp_path: Path) -> None:
    gate.add("reader", "read")
    code, out, err = gate.labmesh("reader", "list", "--remote", f"127.0.0.1:{gate.port}")
    # The node listens on 127.0.0.1, so its certificate is for that, too.
    assert (code, err) == (0, "") and "jinan/" in out
    code, out, err = gate.labmesh("reader", "list", "--remote", f"127.0.0.2:{gate.port}")
    assert (code, out) == (3, "") and "no node can be reached" in err
    code, out, err = gate.labmesh("reader", "list", "--remote", f"localhost:{gate.node.port}")
    assert (code, out) == (1, "") and "does not vouch for" in err
    code, out, err = gate.labmesh("reader", "list", "--ca", ROOT / "README.md")
    assert (code, out) == (1, "") and "no file of certificates" in err


def test_clients_and_the_certificate_outlive_a_kill(gate: Gate) -> None:
    gate.add("stays", "read")
    gate.add("gone", "read")
    gate.revoke("gone")
    certificate = (gate.node.home.path / "remote.crt").read_bytes()
    gate.node.kill()
    gate.node.start()
    assert (gate.node.home.path / "remote.crt").read_bytes() == certificate
    code, out, _ = gate.labmesh("stays", "status", "--json")
    assert code == 0
    remote = orjson.loads(out)["remote"]
    assert remote["port"] == gate.port and remote["names"] == ["localhost", "127.0.0.1"]
    code, out, _ = gate.labmesh("gone", "status", "--json")
    assert (code, orjson.loads(out)["error"]["reason"]) == (1, "UNAUTHENTICATED")
    log = gate.node.stderr_path.read_text()
    assert not [name for name in ("stays", "gone", "lims") if (gate.folder / name).exists() and token_of(gate, name) in log]


def token_of(gate: Gate, name: str) -> str:
    return (gate.folder / name).read_text()


def test_without_the_setting_nothing_listens_and_sigterm_still_ends_it() -> None:
    with open_mesh("jinan") as mesh:
        jinan = mesh["jinan"].start()
        assert not jinan.status().HasField("remote")
        assert not (jinan.home.path / "remote.crt").exists()
        answer = jinan.stub.AddClient(node_pb2.AddClientRequest(name="early", role="push"), timeout=CALL_S)
        assert answer.remote_port == 0
        port = free_port()
        assert jinan.stop() == 0
        jinan.configure(remote_listen=f"127.0.0.1:{port}")
        jinan.start()
        assert jinan.status().remote.clients == 1
        assert jinan.stop(signal.SIGINT) == 0


def test_an_authoritys_certificate_is_read_again_when_it_is_renewed(tmp_path: Path) -> None:
    with open_mesh("jinan") as mesh:
        jinan, port = mesh["jinan"], free_port()
        write_pair(tmp_path, ec.generate_private_key(ec.SECP256R1()), names=("localhost",))
        jinan.configure(
            remote_listen=f"127.0.0.1:{port}",
            remote_certificate=str(tmp_path / "own.pem"),
            remote_key=str(tmp_path / "own.key"),
        )
        jinan.start()
        gate = Gate(jinan, port, tmp_path)
        gate.add("reader", "read")
        first = (tmp_path / "own.pem").read_bytes()
        assert gate.labmesh("reader", "status", "--json", "--ca", tmp_path / "own.pem")[0] == 0
        write_pair(tmp_path, ec.generate_private_key(ec.SECP256R1()), names=("localhost",))
        eventually(
            lambda: gate.labmesh("reader", "status", "--json", "--ca", tmp_path / "own.pem")[0] == 0, "the new one is shown"
        )
        (tmp_path / "first.pem").write_bytes(first)
        assert gate.labmesh("reader", "status", "--json", "--ca", tmp_path / "first.pem")[0] == 1
        (tmp_path / "own.key").write_bytes(b"half a file")
        assert gate.labmesh("reader", "status", "--json", "--ca", tmp_path / "own.pem")[0] == 0
        assert "event=remote_certificate_kept" in jinan.stderr_path.read_text()
