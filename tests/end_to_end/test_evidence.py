"""A member with real keys shows two histories to two nodes which then meet: both can prove it, and everyone hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from labmesh.v1 import peer_pb2
from node.core.evidence import parse_evidence
from node.core.misconduct import judge_evidence
from node.rpc.convert import page_to_wire
from tests.builders import MemoryLog, record_bytes
from tests.end_to_end.disk import read_log_file
from tests.end_to_end.harness import Mesh, Node, eventually, open_mesh, result_record
from tests.end_to_end.hostile import BODY, HostilePeer, Message, honest, serve_hostile
from tests.end_to_end.nursery import run_labmesh

LIAR, FIRST, SECOND, THIRD = "weifang", "jinan", "qingdao", "zibo"


def labmesh(*args: object, home: Path) -> tuple[int, Any]:
    """A command of its own process, and its JSON."""
    done = run_labmesh("--home", home, "--json", *args)
    return done.returncode, orjson.loads(done.stdout)


class TwoFaced:
    """Weifang's node: five entries for everybody but the victim, who sees seven, of which only three are the same."""

    def __init__(self, peer: HostilePeer) -> None:
        self.peer = peer
        self.other = MemoryLog(peer.log.lab)
        for log in (peer.log, self.other):
            log.append_numbered(3, body=BODY)
        changed = orjson.loads(orjson.dumps(BODY))
        changed["results"][0]["quantity"]["value"] = "9.99"
        self.other.append(*(record_bytes(LIAR, f"WJ-{i:06d}", body=changed) for i in range(3, 7)))
        peer.append(2)

    def show_other(self, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
        """The history for the victim."""
        yield peer_pb2.ReadLogResponse(checkpoint=bytes(self.other.checkpoint()))
        if request.start < self.other.size:
            yield page_to_wire(self.other.page(request.start, self.other.size))


@contextmanager
def two_faced(mesh: Mesh) -> Iterator[TwoFaced]:
    """Serve it in weifang's place; the victim is qingdao."""
    with serve_hostile(mesh, LIAR, victim=SECOND) as peer:
        liar = TwoFaced(peer)

        def play(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
            yield from liar.show_other(request)

        peer.change(play)
        yield liar


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with ExitStack() as stack:
        yield stack.enter_context(open_mesh(FIRST, SECOND, THIRD, LIAR))


def evidence_of(node: Node) -> list[dict[str, Any]]:
    code, content = labmesh("evidence", "list", home=node.home.path)
    assert code == 0
    return [piece for piece in content["evidence"] if piece["member"] == LIAR]


def confirm(node: Node) -> None:
    """A node that has just started signs no roster before its peers have answered, or a person takes the risk."""
    assert labmesh("confirm", home=node.home.path)[0] == 0


def require_settled(node: Node, log: MemoryLog) -> None:
    """The node follows the surviving history, and needs nobody any more."""
    eventually(lambda: node.peer(LIAR).verified == log.size, f"{node.member} has the surviving history", poll_s=0.3)
    assert read_log_file(node, LIAR).root(log.size) == log.frontier.root()
    eventually(lambda: node.status().state == "ready", f"{node.member} needs nobody any more")
    assert [held["settled"] for held in evidence_of(node)] == ["the roster names the history that survives, up to size 5"]


def meet_after_two_histories(first: Node, second: Node) -> dict[str, Any]:
    """Each has verified its own history when they meet; returns the evidence that the first one lists then."""
    first.start()
    first.await_log(LIAR, 5)
    first.stop()
    second.start()
    second.await_log(LIAR, 7)
    assert evidence_of(second) == []
    first.start()
    for node in (first, second):
        node.await_peer(LIAR, "quarantined", "SPLIT_VIEW")
    (piece,), (same,) = evidence_of(first), evidence_of(second)
    assert (piece["kind"], piece["settled"], piece["summary"]) == (same["kind"], None, same["summary"])
    assert "its checkpoint of size 7 does not contain its checkpoint of size 5" in piece["summary"]
    return piece


def require_told(node: Node) -> None:
    """A third, who has seen only one side, is told."""
    node.start()
    node.await_peer(LIAR, "quarantined", "SPLIT_VIEW")
    eventually(lambda: evidence_of(node), f"{node.member} is told")


def require_alarm(node: Node, evidence_id: str) -> None:
    """What a person sees."""
    status = node.status()
    assert status.state == "degraded"
    assert any(f"labmesh evidence export {evidence_id} -o FILE" in alarm for alarm in status.alarms)
    code, report = labmesh("doctor", home=node.home.path)
    assert code == 1
    assert any(evidence_id in finding["message"] for finding in report["findings"] if finding["check"] == "alarm")


def require_others_followed(node: Node, other: Node) -> None:
    """What was verified stays; other logs go on; the liar's does not."""
    read_log_file(node, LIAR).require_sound()
    other.push([result_record("ON")])
    node.await_record(f"{other.member}/result/ON")
    assert node.peer(LIAR).verified == 5


def export_verified(node: Node, evidence_id: str, fingerprint: str, folder: Path) -> Path:
    """Exported, and checked by somebody without a home."""
    file, nowhere = folder / "case.labevidence", folder / "nowhere"
    assert labmesh("evidence", "export", evidence_id[:8], "-o", file, home=node.home.path)[0] == 0
    code, verdict = labmesh("evidence", "verify", file, "--fingerprint", fingerprint, home=nowhere)
    assert (code, verdict["verified"], verdict["kind"], verdict["member"]) == (0, True, "split-view", LIAR)
    code, verdict = labmesh("evidence", "verify", file, "--fingerprint", "0" * 64, home=nowhere)
    assert (code, verdict["verified"]) == (1, False)
    return file


def require_held_after_a_kill(node: Node, evidence_id: str) -> None:
    """After a kill and a start it is as it was."""
    node.kill()
    node.start()
    node.await_peer(LIAR, "quarantined", "SPLIT_VIEW")
    assert [held["id"] for held in evidence_of(node)] == [evidence_id]


def settle_first(council: Node, file: Path, liar: TwoFaced) -> None:
    """The council lets the history survive that it has seen, and the liar goes on with it for everybody."""
    liar.peer.change(honest)
    confirm(council)
    assert labmesh("roster", "settle", file, "--keep", "first", home=council.home.path)[0] == 0
    liar.peer.append(2)
    liar.peer.change()


def test_two_that_were_shown_two_histories_meet(mesh: Mesh, tmp_path: Path) -> None:
    first, second, third = (mesh[name] for name in (FIRST, SECOND, THIRD))
    with two_faced(mesh) as liar:
        piece = meet_after_two_histories(first, second)
        require_told(third)
        require_alarm(first, piece["id"])
        require_others_followed(first, second)
        file = export_verified(first, piece["id"], mesh.fingerprint, tmp_path)
        require_held_after_a_kill(first, piece["id"])
        settle_first(first, file, liar)
        for node in (first, second):
            require_settled(node, liar.peer.log)
        for node in (first, second, third):
            written = node.stderr_path.read_text()
            assert "internal_error" not in written and "follower_died" not in written


def test_the_accused_that_is_removed_is_no_alarm_any_more(mesh: Mesh) -> None:
    """The council settles it; the evidence stays listed."""
    first = mesh[FIRST]
    with two_faced(mesh) as liar:
        first.start()
        first.await_log(LIAR, 5)
        with mesh.call_as(SECOND, FIRST) as stub:
            request = peer_pb2.ExchangeCheckpointsRequest(notes=[bytes(liar.other.checkpoint(4))], roster_version=2)
            answer = stub.ExchangeCheckpoints(request, timeout=20)
        # Within this one exchange both hold the same proof: who told the note gets it with the answer.
        assert [sha256(raw).hexdigest() for raw in answer.evidence] == [held["id"] for held in evidence_of(first)]
        judgement = judge_evidence(parse_evidence(answer.evidence[0]), fingerprint=mesh.fingerprint)
        assert (judgement.verified, judgement.kind, judgement.member) == (True, "split-view", LIAR)
        assert first.status().state == "degraded"
        confirm(first)
        code, _ = labmesh("roster", "remove", LIAR, home=first.home.path)
        assert code == 0
        eventually(lambda: not [alarm for alarm in first.status().alarms if "evidence" in alarm], "the alarm is gone")
        (piece,) = evidence_of(first)
        assert piece["settled"] == f"{LIAR} was removed"
