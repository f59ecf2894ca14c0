"""Homes whose keys are older than the card that their member has published: nothing is signed twice, nothing is lost."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labmesh.v1 import node_pb2
from node.backup import create_backup, restore_backup
from node.clock import utc_now
from tests.end_to_end.disk import read_log_file
from tests.end_to_end.harness import Mesh, Node, eventually, result_record
from tests.end_to_end.test_audit import audit
from tests.end_to_end.test_keys import await_card, await_quorum, await_ready, held_cards, key_files, labmesh, rotate

PASSPHRASE = b"correct horse battery"


def peers_of(mesh: Mesh) -> list[Node]:
    return [node for name, node in mesh.nodes.items() if name != "jinan"]


def publish(mesh: Mesh, *keys: str) -> int:
    """Push at jinan, and wait until the others have verified it; returns the size."""
    size = mesh["jinan"].push([result_record(key) for key in keys]).checkpoint.size
    for peer in peers_of(mesh):
        peer.await_log("jinan", size)
    return size


def restore_old_keys(node: Node, files: dict[str, bytes], *names: str) -> None:
    """The database stays; these key files are of an earlier day."""
    for name in names:
        (node.home.path / "keys" / f"{name}.pem").write_bytes(files[f"{name}.pem"])


def alarms(node: Node) -> str:
    return " ".join(node.status().alarms)


def go_on(mesh: Mesh, size: int, *roles: str) -> None:
    """Jinan lacks these keys: it keeps its whole log and signs nothing; with new keys all of it goes on."""
    jinan = mesh["jinan"]
    eventually(lambda: jinan.status().size == size and jinan.status().state == "degraded", "all is back, without the keys")
    eventually(lambda: all(f"keys rotate {role}" in alarms(jinan) for role in roles), "it says what to type")
    for peer in peers_of(mesh):
        jinan.await_peer(peer.member, "connected")
    answer = jinan.push([result_record("WAITS")])
    assert (answer.accepted, answer.unsigned) == (1, True)
    # Refused until every peer has told what it holds, which may be a moment after it is connected.
    card = [eventually(lambda: rotate(jinan, role)[0], f"{role} is replaced") for role in roles][-1]  # noqa: B023
    assert card.former_log_keys[-1].size == size
    eventually(lambda: jinan.status().state == "ready", "jinan is ready")
    assert not jinan.status().alarms
    size = publish(mesh, "AFTER")
    for peer in peers_of(mesh):
        await_card(peer, card)
        assert not peer.status().alarms
    mesh["qingdao"].push([result_record("SEEN")])
    await_quorum(mesh, mesh["qingdao"], "qingdao/result/SEEN")
    for key in ("OLD", "NEW", "WAITS", "AFTER"):
        assert mesh.verify(await_quorum(mesh, jinan, f"jinan/result/{key}")).verified
    code, report = audit(jinan, "jinan")
    assert (code, report["verified"]) == (0, True), report


@pytest.mark.parametrize("kept", ["backup", "snapshot", "keys alone"])
def test_keys_from_before_a_rotation(make_mesh, tmp_path: Path, kept: str) -> None:
    mesh: Mesh = make_mesh("jinan", "qingdao")
    jinan = mesh["jinan"]
    mesh.start()
    await_ready(mesh, "jinan", "qingdao")
    publish(mesh, "OLD")
    old, backup, frozen = key_files(jinan), tmp_path / "jinan.backup", mesh.folder / "frozen"
    create_backup(jinan.home, backup, keys=True, passphrase=PASSPHRASE, made=utc_now())
    if kept == "snapshot":
        assert jinan.stop() == 0
        shutil.copytree(jinan.home.path, frozen)
        jinan.start()
        await_ready(mesh, "jinan")
    rotate(jinan, "log")
    newest, _ = rotate(jinan, "witness")
    size = publish(mesh, "NEW", "MORE")
    await_card(mesh["qingdao"], newest)
    jinan.kill()
    if kept == "keys alone":
        restore_old_keys(jinan, old, "log", "witness")
    else:
        shutil.rmtree(jinan.home.path)
    if kept == "snapshot":
        shutil.copytree(frozen, jinan.home.path)
    if kept == "backup":
        restore_backup(backup, jinan.home.path, keys_from=None, ask_passphrase=lambda: PASSPHRASE)
    jinan.start()
    go_on(mesh, size, "log", "witness")
    # Everything stands in the files.
    assert jinan.stop() == 0
    jinan.start()
    await_ready(mesh, "jinan")
    publish(mesh, "LATER")


def type_at(node: Node, *arguments: str, refused: bool = False) -> str:
    """What the command line says."""
    ended = labmesh(node.home.path, *arguments)
    said = (ended.stdout + ended.stderr).decode().replace(f" --home {node.home.path}", "")
    assert (ended.returncode == 1) == refused and "Traceback" not in said, said
    return said


def test_a_home_from_the_middle_of_a_change_of_its_tls_key(make_mesh, tmp_path: Path) -> None:
    """It is refused, and once it has its newest card it presents the key that waited; nothing else is typed."""
    mesh: Mesh = make_mesh("jinan", "qingdao")
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    mesh.start()
    await_ready(mesh, "jinan", "qingdao")
    publish(mesh, "OLD")
    assert qingdao.stop() == 0
    assert rotate(jinan, "tls")[1] == ["qingdao"]
    backup, export = tmp_path / "jinan.backup", tmp_path / "alliance.json"
    create_backup(jinan.home, backup, keys=True, passphrase=PASSPHRASE, made=utc_now())
    # The only peer tells that it has the card before it has confirmed this home.
    assert jinan.stop() == 0
    mesh.start()
    eventually(lambda: len(held_cards(jinan)["jinan"].tls_certificates) == 1, "the change goes on after a start")
    newest = held_cards(jinan)["jinan"]
    await_card(qingdao, newest)
    jinan.kill()
    shutil.rmtree(jinan.home.path)
    restore_backup(backup, jinan.home.path, keys_from=None, ask_passphrase=lambda: PASSPHRASE)
    jinan.start()
    eventually(lambda: "cannot be reached" in jinan.peer("qingdao").error, "the old certificate is refused")
    type_at(qingdao, "roster", "export", "-o", str(export))
    type_at(jinan, "join", str(export))
    await_ready(mesh, "jinan")
    assert held_cards(jinan)["jinan"] == newest and not jinan.status().alarms
    assert not (jinan.home.path / "keys" / "tls.next.pem").exists()


def test_a_home_from_before_a_change_of_its_tls_key(make_mesh, tmp_path: Path) -> None:
    """It meets nobody. Its people type what the doctor says, and one peer takes its card from a file."""
    mesh: Mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    mesh.start()
    await_ready(mesh, "jinan", "qingdao", "weifang")
    publish(mesh, "OLD")
    backup = tmp_path / "jinan.backup"
    create_backup(jinan.home, backup, keys=True, passphrase=PASSPHRASE, made=utc_now())
    rotate(jinan, "log")
    rotate(jinan, "tls")
    eventually(lambda: len(held_cards(jinan)["jinan"].tls_certificates) == 1, "the new certificate is presented")
    lost = held_cards(jinan)["jinan"]
    for peer in peers_of(mesh):
        await_card(peer, lost)
    size = publish(mesh, "NEW")
    jinan.kill()
    shutil.rmtree(jinan.home.path)
    restore_backup(backup, jinan.home.path, keys_from=None, ask_passphrase=lambda: PASSPHRASE)
    jinan.start()
    eventually(lambda: all("cannot be reached" in peer.error for peer in jinan.status().peers), "all refuse")
    told = type_at(jinan, "doctor", refused=True)
    assert "refused this home's TLS certificate" in told
    assert "labmesh doctor" in type_at(jinan, "keys", "rotate", "tls", refused=True)
    assert "roster export" in type_at(jinan, "keys", "rotate", "tls", "--without-peers", refused=True)
    assert held_cards(jinan)["jinan"].seq == 1

    steps = ("roster export -o", "join FILE", "keys rotate tls --without-peers", "card -o CARD", "join CARD")
    places = [told.index(step) for step in steps]
    assert places == sorted(places), "in the order in which they are typed"
    export, card = tmp_path / "alliance.json", tmp_path / "jinan.card"
    type_at(qingdao, "roster", "export", "-o", str(export))
    type_at(jinan, "join", str(export))
    assert held_cards(jinan)["jinan"] == lost and jinan.status().state == "degraded"
    assert jinan.stop() == 0
    jinan.start()
    assert "--without-peers" in type_at(jinan, "doctor", refused=True)
    said = type_at(jinan, "keys", "rotate", "tls", "--without-peers")
    newest = held_cards(jinan)["jinan"]
    assert newest.seq > lost.seq + 1000 and "card -o" in said
    type_at(jinan, "card", "-o", str(card))
    assert f"seq {newest.seq} is taken" in type_at(qingdao, "join", str(card))
    await_card(mesh["weifang"], newest)
    go_on(mesh, size, "log")
    for node in peers_of(mesh):
        assert node.stub.ListEvidence(node_pb2.ListEvidenceRequest(), timeout=30).evidence == []


def test_records_and_a_file_while_the_peers_of_a_rolled_back_home_are_away(make_mesh, tmp_path: Path) -> None:
    """The log key was rotated since: pushes only wait, no word publishes them, and the whole log comes back."""
    mesh: Mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan, export, frozen = mesh["jinan"], tmp_path / "alliance.json", mesh.folder / "frozen"
    mesh.start()
    await_ready(mesh, "jinan", "qingdao", "weifang")
    publish(mesh, "OLD")
    assert jinan.stop() == 0
    shutil.copytree(jinan.home.path, frozen)
    jinan.start()
    await_ready(mesh, "jinan")
    publish(mesh, "A", "B", "C")
    newest, _ = rotate(jinan, "log")
    size = publish(mesh, "D", "NEW")
    for peer in peers_of(mesh):
        await_card(peer, newest)
    type_at(mesh["qingdao"], "roster", "export", "-o", str(export))
    jinan.kill()
    shutil.rmtree(jinan.home.path)
    shutil.copytree(frozen, jinan.home.path)
    with paused(*peers_of(mesh)):
        jinan.start()
        for prefix in "EF":
            assert jinan.push([result_record(f"{prefix}{i}") for i in range(4)]).unsigned
        assert "has not heard from enough peers" in push_at(jinan, tmp_path, "G")
        type_at(jinan, "join", str(export))
        said = type_at(jinan, "confirm", refused=True)
        assert "ends a log key at size 4, and only 1 entries are signed here" in said and "labmesh peers" in said
        assert "labmesh confirm" not in type_at(jinan, "keys", "rotate", "log", refused=True)
        assert "type: labmesh keys rotate log" in push_at(jinan, tmp_path, "H")
        assert jinan.status().state == "degraded" and read_log_file(jinan, "jinan").head_note.split("\n")[1] == "1"
    size += 10
    eventually(lambda: jinan.status().size == size, "the log is back, and what waits stands behind it")
    jinan.await_peer("weifang", "connected")
    assert "10 more are stored" in eventually(lambda: type_at(jinan, "confirm"), "the lost key is named")
    card = eventually(lambda: rotate(jinan, "log")[0], "the lost key is replaced")
    assert [former.size for former in card.former_log_keys] == [4, 6]
    eventually(lambda: jinan.status().state == "ready" and not jinan.status().alarms, "jinan is ready")
    assert publish(mesh, "AFTER") == size + 1
    logs = [read_log_file(node, "jinan").commitments for node in mesh.nodes.values()]
    assert logs == logs[:1] * 3 and len(logs[0]) == size + 1
    for node in mesh.nodes.values():
        assert node.stub.ListEvidence(node_pb2.ListEvidenceRequest(), timeout=30).evidence == []


def push_at(node: Node, folder: Path, key: str) -> str:
    """`labmesh push`, typed by a person."""
    (folder / "record.json").write_bytes(result_record(key))
    return type_at(node, "push", str(folder / "record.json"), "--kind", "result")


@contextmanager
def paused(*nodes: Node) -> Iterator[None]:
    """These answer nobody meanwhile, and know nothing of it."""
    for node in nodes:
        node.running.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for node in nodes:
            node.running.send_signal(signal.SIGCONT)


def test_a_database_older_than_the_keys_signs_nothing_when_its_card_comes_in_a_file(make_mesh, tmp_path: Path) -> None:
    """`restore --keys`, `confirm` and pushes that wait for the lost log key; then the card names the key in the home."""
    mesh: Mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan, export, frozen, keys = mesh["jinan"], tmp_path / "alliance.json", mesh.folder / "frozen", mesh.folder / "keys"
    mesh.start()
    await_ready(mesh, "jinan", "qingdao", "weifang")
    publish(mesh, "OLD")
    assert jinan.stop() == 0
    shutil.copytree(jinan.home.path, frozen)
    jinan.start()
    await_ready(mesh, "jinan")
    newest, _ = rotate(jinan, "log")
    publish(mesh, "A", "B")
    for peer in peers_of(mesh):
        await_card(peer, newest)
    type_at(mesh["qingdao"], "roster", "export", "-o", str(export))
    published = signed_text(jinan)
    jinan.kill()
    shutil.move(jinan.home.path / "keys", keys)
    shutil.rmtree(jinan.home.path)
    shutil.copytree(frozen, jinan.home.path, ignore=shutil.ignore_patterns("keys"))
    shutil.copytree(keys, jinan.home.path / "keys")
    with paused(*peers_of(mesh)):
        jinan.start()
        type_at(jinan, "confirm")
        for prefix in "EF":
            assert jinan.push([result_record(prefix)]).unsigned
        type_at(jinan, "join", str(export))
        assert held_cards(jinan)["jinan"] == newest
        assert jinan.push([result_record("G")]).unsigned and signed_text(jinan)[1] == "1"
    eventually(lambda: signed_text(jinan)[1] == "6", "what was lost is back, and what waited is signed behind it")
    for peer in peers_of(mesh):
        peer.await_log("jinan", 6)
    assert published[1] == "3" and not jinan.status().alarms


def signed_text(node: Node) -> list[str]:
    """Origin, size and root of the newest checkpoint that is signed in the database."""
    return read_log_file(node, "jinan").head_note.split("\n")[:3]
