"""`kill -9` at a bad moment: nothing acknowledged is lost, nothing unverified is shown, no entry stands twice."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

import grpc

from labmesh.v1 import node_pb2
from tests.end_to_end.disk import read_log_file, staged_and_head
from tests.end_to_end.harness import Node, eventually, result_record, result_records

# Pages hold about 1 MiB, so this log takes many of them.
COUNT, LARGE = 4000, "x" * 1900


def kill_when(node: Node, author: str, found) -> tuple[int, int]:
    """Kill the node as soon as `found(staged, head)` holds for its mirror; returns what it has on disk then."""
    eventually(lambda: found(*staged_and_head(node, author)), "the moment to kill has come", poll_s=0.001)
    node.kill()
    return staged_and_head(node, author)


def test_a_puller_killed_with_staged_entries_shows_none_of_them_and_catches_up(make_mesh):
    mesh = make_mesh("jinan", "qingdao")
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    jinan.start()
    # One push is one checkpoint: until its last page has come, nothing of it is verified.
    pushed = jinan.push(result_records("R", COUNT, LARGE)).checkpoint
    jinan.stub.ConfirmLog(node_pb2.ConfirmLogRequest())
    staged = 0
    for _ in range(2):
        before = staged
        qingdao.start()
        staged, head = kill_when(qingdao, "jinan", lambda staged, _, before=before: staged > before)
        assert head == 0, "everything was verified before the kill"
        assert before < staged < COUNT
        log = read_log_file(qingdao, "jinan")
        assert sorted(log.commitments) == list(range(staged))

    assert jinan.stop() == 0
    qingdao.start()
    assert staged_and_head(qingdao, "jinan") == (staged, 0)
    assert qingdao.listed() == []
    assert not qingdao.sees("jinan/result/R-000000")
    assert qingdao.hits("铅") == []
    assert qingdao.status().records == 0
    assert qingdao.peer("jinan").verified == 0

    jinan.start()
    qingdao.await_log("jinan", COUNT)
    log = read_log_file(qingdao, "jinan")
    log.require_sound()
    assert log.root(COUNT) == pushed.root
    assert log.keys() == [f"R-{i:06d}" for i in range(COUNT)]
    assert qingdao.status().records == COUNT


def test_a_puller_killed_between_two_checkpoints_keeps_the_verified_ones(make_mesh):
    mesh = make_mesh("jinan", "qingdao")
    jinan, qingdao = mesh["jinan"], mesh["qingdao"]
    qingdao.configure(staging_entries=200)
    jinan.start()
    jinan.stub.ConfirmLog(node_pb2.ConfirmLogRequest())  # first, so that each push is signed for itself
    roots = [jinan.push(result_records(f"B{batch:02d}", 100)).checkpoint.root for batch in range(40)]
    qingdao.start()
    staged, head = kill_when(qingdao, "jinan", lambda _, head: head > 0)
    assert 0 < head < 4000
    assert head <= staged

    assert jinan.stop() == 0
    qingdao.start()
    assert len(qingdao.listed("jinan")) == head == qingdao.status().records
    read_log_file(qingdao, "jinan").require_sound()

    jinan.start()
    qingdao.await_log("jinan", 4000)
    log = read_log_file(qingdao, "jinan")
    log.require_sound()
    assert log.root(4000) == roots[-1]
    assert len(set(log.keys())) == 4000


@dataclass
class Pusher:
    """Pushes small batches from a thread until the node is gone; remembers what was acknowledged."""

    node: Node
    label: str
    acknowledged: list[str] = field(default_factory=list)
    roots: dict[int, bytes] = field(default_factory=dict)
    attempted: list[list[str]] = field(default_factory=list)

    def run(self) -> None:
        while True:
            number = len(self.attempted)
            keys = [f"{self.label}-{number}-{i}" for i in range(1 + number % 3)]
            self.attempted.append(keys)
            try:
                answer = self.node.push([result_record(key) for key in keys])
            except grpc.RpcError:
                return
            assert answer.accepted == len(keys)
            self.roots[answer.checkpoint.size] = answer.checkpoint.root
            self.acknowledged += keys


def wait_for(pusher: Pusher, *, records: int, poll_s: float) -> None:
    eventually(lambda: len(pusher.acknowledged) >= records, f"{records} records", poll_s=poll_s)


def test_an_author_killed_while_it_takes_pushes_has_every_acknowledged_record_once(make_mesh):
    jinan = make_mesh("jinan", "qingdao")["jinan"]
    chance = random.Random()
    pushers: list[Pusher] = []
    for round_number in range(5):
        jinan.start()
        pusher = Pusher(jinan, f"round{round_number}")
        pushers.append(pusher)
        thread = threading.Thread(target=pusher.run)
        thread.start()
        wait_for(pusher, records=chance.randrange(1, 60), poll_s=chance.random() / 100)
        jinan.kill()
        thread.join(30)
        assert not thread.is_alive()

    jinan.start()
    log = read_log_file(jinan, "jinan")
    log.require_sound()
    assert log.staged_size == log.head_size == jinan.status().size
    assert log.root(log.head_size) == jinan.status().root
    there = log.keys()
    assert len(there) == len(set(there)) == len(log.records) == log.head_size
    assert sorted(jinan.listed()) == sorted(there)
    for pusher in pushers:
        assert set(pusher.acknowledged) <= set(there)
        for keys in pusher.attempted:
            assert len(set(keys) & set(there)) in (0, len(keys)), "a push was torn"
        for size, root in pusher.roots.items():
            assert log.root(size) == root, "an acknowledged checkpoint is not a prefix of the log"
