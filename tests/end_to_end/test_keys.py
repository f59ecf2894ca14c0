"""Keys that change in a living alliance: nothing that was signed is lost, and nobody is cut off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from labmesh.v1 import node_pb2
from node.core.card import Card, parse_card
from node.keyfiles import is_protected
from tests.end_to_end.harness import Mesh, Node, eventually, reason_of, result_records
from tests.end_to_end.nursery import run_labmesh


def rotate(node: Node, role: str) -> tuple[Card, list[str]]:
    answer = node.stub.RotateKey(node_pb2.RotateKeyRequest(role=role), timeout=30)
    return parse_card(answer.card)[1], list(answer.waiting_for)


def held_cards(node: Node) -> dict[str, Card]:
    """The newest cards that a running node holds."""
    answer = node.stub.ExportAlliance(node_pb2.ExportAllianceRequest(), timeout=30)
    return {card.member: card for _, card in map(parse_card, answer.cards)}


def await_card(node: Node, card: Card) -> None:
    eventually(lambda: held_cards(node)[card.member] == card, f"{node.member} has card {card.seq} of {card.member}")


def await_ready(mesh: Mesh, *members: str) -> None:
    eventually(lambda: all(mesh[name].status().state == "ready" for name in members), f"{members} may publish")


def await_quorum(mesh: Mesh, node: Node, record: str) -> bytes:
    eventually(lambda: mesh.verify(node.bundle(record)).quorum_met, f"a quorum has seen {record}")
    return node.bundle(record)


def key_files(node: Node) -> dict[str, bytes]:
    folder: Path = node.home.path / "keys"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_keys_rotate_while_records_are_pushed_and_a_peer_is_away(make_mesh):
    mesh = make_mesh("jinan", "qingdao", "weifang")
    mesh.start()
    jinan, qingdao, weifang = (mesh[name] for name in ("jinan", "qingdao", "weifang"))
    await_ready(mesh, "jinan", "qingdao", "weifang")
    jinan.push(result_records("A", 3))
    before = await_quorum(mesh, jinan, "jinan/result/A-000000")
    old_files, old_card = key_files(jinan), held_cards(jinan)["jinan"]
    qingdao.await_log("jinan", 3)
    weifang.await_log("jinan", 3)
    assert weifang.stop() == 0

    log_card, _ = rotate(jinan, "log")
    jinan.push(result_records("B", 2))
    rotate(jinan, "witness")
    tls_card, waiting = rotate(jinan, "tls")
    jinan.push(result_records("C", 2))
    assert log_card.former_log_keys[0].key == old_card.log_key and log_card.former_log_keys[0].size == 3
    assert waiting == ["qingdao", "weifang"] and len(tls_card.tls_certificates) == 2
    await_card(qingdao, tls_card)
    qingdao.await_log("jinan", 7)
    qingdao.push(result_records("Q", 1))
    jinan.await_log("qingdao", 1)
    assert held_cards(jinan)["jinan"] == tls_card, "the old certificate stays while weifang is away"
    assert key_files(jinan)["tls.pem"] == old_files["tls.pem"] and "tls.next.pem" in key_files(jinan)

    # Weifang knows only the old card: it connects all the same, and then the new certificate is presented.
    weifang.start()
    weifang.await_log("jinan", 7)
    weifang.await_peer("jinan", "connected")
    eventually(lambda: len(held_cards(jinan)["jinan"].tls_certificates) == 1, "jinan presents the new certificate")
    newest = held_cards(jinan)["jinan"]
    assert newest.tls_certificates == tls_card.tls_certificates[1:]
    for peer in (qingdao, weifang):
        await_card(peer, newest)
    assert set(key_files(jinan)) == set(old_files)
    assert not {key_files(jinan)[f"{name}.pem"] for name in ("log", "witness", "tls")} & set(old_files.values())

    jinan.push(result_records("D", 1))
    for peer in (qingdao, weifang):
        peer.await_log("jinan", 8)
        peer.await_peer("jinan", "connected")
        jinan.await_peer(peer.member, "connected")
    after = [await_quorum(mesh, jinan, f"jinan/result/{key}-000000") for key in "ABCD"]
    assert all(mesh.verify(bundle).verified for bundle in (before, *after))
    assert not [alarm for node in (jinan, qingdao, weifang) for alarm in node.status().alarms]

    # Everything stands in the files: a restart changes nothing.
    assert jinan.stop() == 0
    jinan.start()
    await_ready(mesh, "jinan")
    jinan.push(result_records("E", 1))
    weifang.await_log("jinan", 9)


def test_a_log_key_is_revoked_and_peers_go_on(make_mesh):
    mesh = make_mesh("jinan", "qingdao")
    mesh.start()
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    await_ready(mesh, "jinan", "qingdao")
    jinan.push(result_records("GOOD", 3))
    await_quorum(mesh, jinan, "jinan/result/GOOD-000000")
    with pytest.raises(grpc.RpcError) as refusal:
        jinan.stub.RevokeLogKey(node_pb2.RevokeLogKeyRequest(size=2), timeout=30)
    assert reason_of(refusal.value) == "GOVERNANCE" and "up to size 3" in str(refusal.value.details())

    # Qingdao does not cosign what it does not see.
    assert qingdao.stop() == 0
    jinan.push(result_records("LATER", 2))
    answer = jinan.stub.RevokeLogKey(node_pb2.RevokeLogKeyRequest(size=3), timeout=30)
    card = parse_card(answer.card)[1]
    assert [former.size for former in card.former_log_keys] == [3]
    qingdao.start()
    await_card(qingdao, card)
    qingdao.await_log("jinan", 5)
    jinan.push(result_records("AFTER", 1))
    qingdao.await_log("jinan", 6)
    for key in ("GOOD", "LATER", "AFTER"):
        assert mesh.verify(await_quorum(mesh, jinan, f"jinan/result/{key}-000000")).verified
    assert not [*jinan.status().alarms, *qingdao.status().alarms]


def labmesh(home: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own."""
    return run_labmesh("--home", home, *arguments)


def test_a_node_whose_keys_are_protected(make_mesh, tmp_path):
    """It starts with the passphrase only, needs none for what signs nothing, and new keys are protected, too."""
    mesh = make_mesh("jinan")
    home = mesh["jinan"].home
    secret = tmp_path / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("correct horse 口令\n", encoding="utf-8")
    assert labmesh(home.path, "keys", "protect", "--passphrase-file", str(secret)).returncode == 0
    refused = labmesh(home.path, "run")
    assert refused.returncode == 1 and b"--passphrase-file" in refused.stderr and b"Traceback" not in refused.stderr
    command = [sys.executable, "-m", "cli.main", "--home", str(home.path), "run", "--passphrase-file", str(secret)]
    with (tmp_path / "err").open("wb") as stderr:
        daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL)
    try:
        assert daemon.stdout is not None and daemon.stdout.readline() == b"ready\n", (tmp_path / "err").read_text()
        before = key_files(mesh["jinan"])
        for role in ("log", "witness", "tls"):
            rotated = labmesh(home.path, "keys", "rotate", role, "--json")
            assert rotated.returncode == 0, rotated.stderr
        assert labmesh(home.path, "status").returncode == 0
        after = key_files(mesh["jinan"])
        assert set(after) == set(before) and sum(after[name] != before[name] for name in after) == 3
        assert all(is_protected(raw) for raw in after.values())
        assert b"correct horse" not in (tmp_path / "err").read_bytes()
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0
        if daemon.stdout is not None:
            daemon.stdout.close()


def test_a_running_node_gives_up_a_new_identity_key(make_mesh, tmp_path: Path) -> None:
    """And changes other keys again; a key that the roster names already stays until the restart takes it into use."""
    mesh = make_mesh("jinan", "qingdao")
    mesh.start()
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    await_ready(mesh, "jinan", "qingdao")
    file, waiting = tmp_path / "new.card", qingdao.home.key_files().next_path("identity")

    def keys(node: Node, *arguments: object) -> str:
        ended = run_labmesh("--home", node.home.path, *arguments)
        return f"{ended.returncode} {(ended.stdout + ended.stderr).decode()}"

    assert "no new identity key waits" in keys(qingdao, "keys", "identity", "--abandon")
    assert keys(qingdao, "keys", "identity", "-o", file).startswith("0") and waiting.exists()
    assert "waits for the council" in keys(qingdao, "keys", "rotate", "log")
    assert "the old one stays" in keys(qingdao, "keys", "identity", "--abandon") and not waiting.exists()
    assert keys(qingdao, "keys", "rotate", "log").startswith("0")
    assert keys(qingdao, "keys", "identity", "-o", file, "--force").startswith("0")
    assert keys(jinan, "roster", "rekey", "qingdao", file).startswith("0")
    eventually(lambda: qingdao.status().roster_version == jinan.status().roster_version, "the roster has arrived")
    assert "names the new identity key already" in keys(qingdao, "keys", "identity", "--abandon") and waiting.exists()
    assert "restart the node" in keys(qingdao, "keys", "rotate", "log")
    assert qingdao.stop() == 0
    qingdao.start()
    await_ready(mesh, "qingdao")
    assert not waiting.exists() and keys(qingdao, "keys", "rotate", "log").startswith("0")
