"""Homes whose keys are older than the card that their member has published: nothing is signed twice, nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from node.backup import create_backup, restore_backup
from node.clock import utc_now
from tests.end_to_end.harness import Mesh, Node, eventually, result_record
from tests.end_to_end.test_audit import audit
from tests.end_to_end.test_keys import await_card, await_quorum, await_ready, key_files, rotate

PASSPHRASE = b"correct horse battery"


def publish(mesh: Mesh, *keys: str) -> int:
    """Push at jinan, and wait until the others have verified it; returns the size."""
    size = mesh["jinan"].push([result_record(key) for key in keys]).checkpoint.size
    for reader in ("qingdao", "weifang"):
        mesh[reader].await_log("jinan", size)
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
    for peer in ("qingdao", "weifang"):
        jinan.await_peer(peer, "connected")
    answer = jinan.push([result_record("WAITS")])
    assert (answer.accepted, answer.unsigned) == (1, True)
    card = [rotate(jinan, role)[0] for role in roles][-1]
    assert card.former_log_keys[-1].size == size
    eventually(lambda: jinan.status().state == "ready", "jinan is ready")
    assert not jinan.status().alarms
    size = publish(mesh, "AFTER")
    for peer in ("qingdao", "weifang"):
        await_card(mesh[peer], card)
        mesh[peer].await_log("jinan", size)
        assert not mesh[peer].status().alarms
    mesh["qingdao"].push([result_record("SEEN")])
    await_quorum(mesh, mesh["qingdao"], "qingdao/result/SEEN")
    for key in ("OLD", "NEW", "WAITS", "AFTER"):
        assert mesh.verify(await_quorum(mesh, jinan, f"jinan/result/{key}")).verified
    for node in (jinan, mesh["qingdao"]):
        code, report = audit(node, "jinan")
        assert (code, report["verified"]) == (0, True), report


@pytest.mark.parametrize("kept", ["backup", "snapshot", "keys alone"])
def test_keys_from_before_a_rotation(make_mesh, tmp_path: Path, kept: str) -> None:
    mesh: Mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan = mesh["jinan"]
    mesh.start()
    await_ready(mesh, "jinan", "qingdao", "weifang")
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
    for peer in ("qingdao", "weifang"):
        await_card(mesh[peer], newest)
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
