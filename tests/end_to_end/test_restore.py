"""A home made from an old backup, or returned to a snapshot, ends with its full log and one history."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from cli.main import labmesh
from labmesh.v1 import node_pb2
from node.backup import create_backup, restore_backup
from node.clock import utc_now
from tests.end_to_end.disk import read_log_file
from tests.end_to_end.harness import Mesh, Node, eventually, reason_of, result_record


def publish(mesh: Mesh, *records: bytes) -> None:
    """Push at jinan, and wait until qingdao and weifang have verified it."""
    size = mesh["jinan"].push(list(records)).checkpoint.size
    for reader in ("qingdao", "weifang"):
        mesh[reader].await_log("jinan", size)


def lost(node: Node) -> list[int]:
    return [entry.index for entry in node.stub.ListLost(node_pb2.ListLostRequest(), timeout=30).entries]


def require_one_history(mesh: Mesh, keys: list[str]) -> None:
    """Jinan and its readers hold the same log, which has these records that everybody may read, each once."""
    jinan = mesh["jinan"]
    eventually(lambda: jinan.status().state == "ready", "jinan is ready")
    size = jinan.status().size
    own = read_log_file(jinan, "jinan")
    own.require_sound()
    for reader in ("qingdao", "weifang"):
        mesh[reader].await_log("jinan", size)
        mirrored = read_log_file(mesh[reader], "jinan")
        mirrored.require_sound()
        assert mirrored.commitments == own.commitments
        assert sorted(mesh[reader].listed("jinan")) == sorted(keys)
        assert [alarm for alarm in mesh[reader].status().alarms if "jinan" in alarm] == []
        assert mesh[reader].peer("jinan").state == "connected"


def test_a_home_restored_from_an_old_backup(make_mesh, tmp_path: Path) -> None:
    mesh: Mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan, qingdao, weifang = (mesh[name] for name in ("jinan", "qingdao", "weifang"))
    mesh.start()
    publish(mesh, result_record("OLD"))
    # While the node runs and takes records.
    backup = tmp_path / "jinan.backup"
    assert create_backup(jinan.home, backup, keys=True, passphrase=b"correct horse battery", made=utc_now()).size == 1
    publish(mesh, result_record("LOST"), result_record("KEY", "1"))
    publish(mesh, result_record("FOR-QINGDAO", audience=["qingdao"]), result_record("FOR-WEIFANG", audience=["weifang"]))
    publish(mesh, result_record("SECRET", audience=[]))
    jinan.kill()
    shutil.rmtree(jinan.home.path)
    restore_backup(backup, jinan.home.path, keys_from=None, ask_passphrase=lambda: b"correct horse battery")

    weifang.stop()
    qingdao.stop()
    jinan.start()
    answer = jinan.push([result_record("NEW"), result_record("KEY", "2")])
    assert (answer.accepted, answer.unsigned, jinan.status().state) == (2, True, "unconfirmed")
    assert read_log_file(jinan, "jinan").head_note.split("\n")[1] == "1"
    qingdao.start()
    eventually(lambda: jinan.sees("jinan/result/FOR-QINGDAO"), "qingdao gives back what it holds")
    eventually(lambda: lost(jinan) == [4, 5], "the rest is listed as lost")
    [alarm] = [alarm for alarm in jinan.status().alarms if "labmesh list --lost" in alarm]
    assert "one may have erased a record that can be read here again" in alarm
    weifang.start()
    eventually(lambda: lost(jinan) == [5], "weifang gives back what only it could read")
    eventually(lambda: not jinan.push([result_record("AFTER")]).unsigned, "jinan signs again")
    # Entry 5 may have said any revision up to 6: the next one of a key is beyond it.
    assert jinan.show("jinan/result/KEY@7").index == 7
    eventually(lambda: jinan.status().state == "ready", "jinan is ready")
    size = jinan.status().size
    qingdao.await_log("jinan", size)
    weifang.await_log("jinan", size)
    own, theirs = read_log_file(jinan, "jinan"), read_log_file(qingdao, "jinan")
    own.require_sound()
    theirs.require_sound()
    assert own.commitments == theirs.commitments == read_log_file(weifang, "jinan").commitments
    assert sorted(jinan.listed("jinan")) == ["AFTER", "FOR-QINGDAO", "FOR-WEIFANG", "KEY", "LOST", "NEW", "OLD"]
    assert mesh.verify(jinan.bundle("jinan/result/NEW")).verified
    require_seen_for_good(jinan)


def require_seen_for_good(jinan: Node) -> None:
    """What a person has seen to be lost is no alarm any more, also after a crash; it stays listed and counted."""
    assert any("labmesh confirm --lost" in alarm for alarm in jinan.status().alarms)
    ended = CliRunner().invoke(labmesh, ["--home", str(jinan.home.path), "confirm", "--lost", "--json"])
    assert (ended.exit_code, json.loads(ended.stdout)) == (0, {"lost": 1})
    jinan.kill()
    jinan.start()
    status = jinan.status()
    assert (status.lost, status.lost_seen, lost(jinan)) == (1, 1, [5])
    assert not any("--lost" in alarm for alarm in status.alarms)


def test_a_home_folder_that_was_copied_back(make_mesh) -> None:
    """As a virtual machine's snapshot does it: the whole folder is of an earlier moment."""
    mesh: Mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan = mesh["jinan"]
    mesh.start()
    publish(mesh, *(result_record(f"OLD-{i}") for i in range(300)))
    assert jinan.stop() == 0
    frozen = mesh.folder / "frozen"
    shutil.copytree(jinan.home.path, frozen)
    jinan.start()
    eventually(lambda: jinan.status().state == "ready", "jinan is ready")
    publish(mesh, *(result_record(f"LOST-{i}") for i in range(300)))
    jinan.kill()
    shutil.rmtree(jinan.home.path)
    shutil.copytree(frozen, jinan.home.path)

    jinan.begin()
    jinan.wait_ready()
    jinan.push([result_record("NEW")])
    jinan.kill()
    jinan.start()
    keys = [f"{prefix}-{i}" for prefix in ("OLD", "LOST") for i in range(300)] + ["NEW"]
    eventually(lambda: jinan.status().size == 601, "everything is there")
    require_one_history(mesh, keys)
    assert lost(jinan) == []
    jinan.await_index()
    assert len(jinan.hits("LOST-7")) == 1


def test_confirm_is_refused_while_a_peer_holds_more(make_mesh) -> None:
    mesh: Mesh = make_mesh("jinan", "qingdao", "weifang")
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    mesh.start()
    publish(mesh, result_record("OLD"))
    assert jinan.stop() == 0
    shutil.copytree(jinan.home.path, mesh.folder / "frozen")
    jinan.start()
    publish(mesh, result_record("LOST"))
    jinan.kill()
    shutil.rmtree(jinan.home.path)
    shutil.copytree(mesh.folder / "frozen", jinan.home.path)
    for name in ("qingdao", "weifang"):
        mesh[name].stop()
    # Qingdao lost what it had of the entries, and still has the checkpoint: it tells, and cannot deliver.
    with closing(sqlite3.connect(qingdao.home.database_path)) as database, database:
        log_id = database.execute("SELECT id FROM log WHERE member='jinan'").fetchone()[0]
        database.execute("UPDATE entry SET commitment = zeroblob(32) WHERE position = ?", ((log_id << 40) + 1,))
    mesh.start("qingdao")
    jinan.start()
    eventually(lambda: jinan.status().state == "recovering", "jinan knows that it is behind")
    with pytest.raises(grpc.RpcError) as refusal:
        jinan.stub.ConfirmLog(node_pb2.ConfirmLogRequest(), timeout=30)
    assert reason_of(refusal.value) == "UNCONFIRMED"
    eventually(lambda: any("does not give them back" in alarm for alarm in jinan.status().alarms), "it is said")
    mesh.start("weifang")
    eventually(lambda: jinan.status().state == "ready", "weifang delivers")
    assert sorted(jinan.listed("jinan")) == ["LOST", "OLD"]
