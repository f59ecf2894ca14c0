"""The daemon as its administrator meets it: socket, signals, health, reflection, and the one lock."""

from __future__ import annotations

import signal
import stat
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from labmesh.v1 import node_pb2, peer_pb2, peer_pb2_grpc
from node.core.names import log_origin
from node.home import Home
from tests.end_to_end.harness import ALLIANCE, PATIENCE_S, Mesh, Node, code_of, eventually, open_mesh, result_record

NODE, PEER = "labmesh.v1.NodeService", "labmesh.v1.PeerService"


@pytest.fixture(scope="module")
def mesh():
    with open_mesh("jinan", "qingdao") as mesh:
        mesh["qingdao"].configure(reflection=True)
        mesh.start()
        yield mesh


def list_services(channel: grpc.Channel) -> list[str]:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    answer = next(stub.ServerReflectionInfo(iter([request]), timeout=30))
    return [service.name for service in answer.list_services_response.service]


def test_the_socket_is_for_the_owner_alone(mesh: Mesh):
    for node in mesh.nodes.values():
        mode = node.home.socket_path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600


def test_the_databases_and_keys_are_for_the_owner_alone(mesh: Mesh):
    for path in mesh["jinan"].home.path.rglob("*"):
        if path.is_file() and path.name != "labmesh.toml":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name


def test_health_says_serving_on_both_servers(mesh: Mesh):
    jinan = mesh["jinan"]
    with mesh.channel_as("qingdao", "jinan") as peers:
        for channel in (jinan.channel, peers):
            for service in ("", NODE, PEER):
                request = health_pb2.HealthCheckRequest(service=service)
                stub: Any = health_pb2_grpc.HealthStub(channel)
                answer = stub.Check(request, timeout=30)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_is_off_unless_it_is_switched_on(mesh: Mesh):
    with mesh.channel_as("qingdao", "jinan") as peers:
        for channel in (mesh["jinan"].channel, peers):
            with pytest.raises(grpc.RpcError) as refusal:
                list_services(channel)
            assert code_of(refusal.value) is grpc.StatusCode.UNIMPLEMENTED
    assert NODE in list_services(mesh["qingdao"].channel)
    with mesh.channel_as("jinan", "qingdao") as peers:
        assert PEER in list_services(peers)


def test_a_second_daemon_on_one_home_is_refused_and_changes_nothing(mesh: Mesh):
    jinan = mesh["jinan"]
    jinan.push([result_record("BEFORE")])
    socket = jinan.home.socket_path.stat().st_ino
    before = files_of(jinan.home)
    second = jinan.spawn()
    try:
        assert second.wait(PATIENCE_S) == 1
    finally:
        second.kill()
        second.wait()
    assert "another process is using" in jinan.stderr_path.read_text()
    assert files_of(jinan.home) == before
    assert jinan.home.socket_path.stat().st_ino == socket
    assert jinan.push([result_record("AFTER")]).accepted == 1


def files_of(home: Home) -> set[str]:
    """Names of what lies in the home; the contents are the running daemon's, which may write at any time."""
    return {str(path.relative_to(home.path)) for path in home.path.rglob("*")}


def test_a_folder_that_is_no_home_is_refused(mesh: Mesh):
    folder = mesh.folder / "empty"
    folder.mkdir()
    stranger = Node(Home(folder), mesh["jinan"].card, 0, folder.parent)
    process = stranger.spawn()
    try:
        assert process.wait(PATIENCE_S) == 1
    finally:
        process.kill()
        process.wait()
    assert not any(folder.iterdir())


class OpenPush:
    """A push that is never finished: its records have been sent, its end has not."""

    def __init__(self, node: Node, key: str) -> None:
        """Send one record, and wait until it has gone."""
        self._key, self._sent, self._let_go = key, threading.Event(), threading.Event()
        self.call = node.stub.Push.future(self._requests(), timeout=PATIENCE_S)
        assert self._sent.wait(PATIENCE_S)
        for _ in range(3):
            node.status()

    def _requests(self) -> Iterator[node_pb2.PushRequest]:
        yield node_pb2.PushRequest(options=node_pb2.PushOptions(kind="result"))
        yield node_pb2.PushRequest(batch=node_pb2.PushBatch(records=[result_record(self._key)]))
        self._sent.set()
        self._let_go.wait(PATIENCE_S)

    def close(self) -> None:
        """Let the thread that sends end."""
        self._let_go.set()


def test_a_push_that_breaks_off_appends_nothing(mesh: Mesh):
    jinan = mesh["jinan"]
    size = jinan.status().size
    for i in range(10):
        push = OpenPush(jinan, f"BROKEN-{i}")
        push.call.cancel()
        push.close()
    assert jinan.push([result_record("WHOLE")]).checkpoint.size == size + 1
    assert [key for key in jinan.listed() if key.startswith("BROKEN")] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_while_streams_are_open(mesh: Mesh, number: signal.Signals):
    jinan = mesh["jinan"]
    jinan.push([result_record("R")])
    eventually(lambda: jinan.status().state == "ready", "jinan publishes its log")
    before = jinan.listed()
    request = peer_pb2.ReadLogRequest(origin=log_origin(ALLIANCE, "jinan"), follow=True, entries_max=1000)
    with mesh.channel_as("qingdao", "jinan") as channel:
        stream = peer_pb2_grpc.PeerServiceStub(channel).ReadLog(request, timeout=PATIENCE_S)
        assert next(stream).HasField("checkpoint")
        push = OpenPush(jinan, "NEVER")
        assert jinan.stop(number) == 0
        push.close()
        with pytest.raises(grpc.RpcError):
            list(stream)
        with pytest.raises(grpc.RpcError):
            push.call.result()
    assert not jinan.home.socket_path.exists()

    jinan.start()
    assert jinan.listed() == before
