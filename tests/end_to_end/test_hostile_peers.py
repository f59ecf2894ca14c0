"""A member with real keys lies to a node: nothing becomes visible, the node says why, and everything else goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256

import grpc
import pytest

from labmesh.v1 import node_pb2, peer_pb2
from node.core.checkpoint import sign_checkpoint
from node.core.entry import LogPage, Opening
from node.rpc.convert import page_to_wire
from tests.builders import private_key, record_bytes
from tests.end_to_end.disk import database_size, read_log_file
from tests.end_to_end.harness import Mesh, eventually, open_mesh, result_record
from tests.end_to_end.hostile import (
    BODY,
    HostilePeer,
    Message,
    Play,
    RefusalError,
    answer_exchange,
    honest,
    serve_hostile,
)

STAGING_ENTRIES, STAGING_BYTES = 5000, 2 * 1024 * 1024
# What a node may keep of a flood: the staged bytes, the write-ahead log, and as much again for what SQLite frees late.
FILES_MAX = 2 * (STAGING_BYTES + 16 * 1024 * 1024)
OTHER_ROOT = sha256(b"another history").digest()
# Lies are signed for sizes that the honest log never reaches, each for its own: two roots of one size would be evidence, and
# end the following of this log for good.
FAR = 1000


@dataclass
class Stage:
    """Jinan is honest, weifang is not, qingdao believes neither."""

    mesh: Mesh
    fake: HostilePeer
    pushed: int = 0

    @property
    def victim(self):
        return self.mesh["qingdao"]

    def knock(self) -> bool:
        """Call the victim, so that it does not wait out its pause after a fault; the liar may do that, too."""
        with self.mesh.call_as("weifang", "qingdao") as stub:
            stub.ExchangeCheckpoints(peer_pb2.ExchangeCheckpointsRequest(), timeout=20)
        return True

    def play(self, play: Play) -> None:
        """Change the play, and wait until the victim reads it."""
        before = self.fake.reads
        self.fake.change(play)
        eventually(lambda: self.knock() and self.fake.reads > before, "the victim reads the log again", poll_s=0.2)

    def visible(self) -> tuple[object, ...]:
        """Everything the victim shows of weifang."""
        status, log = self.victim.status(), read_log_file(self.victim, "weifang")
        log.require_sound()
        return (
            self.victim.peer("weifang").verified,
            log.head_note,
            sorted(self.victim.listed("weifang")),
            sorted(hit for hit in self.victim.hits("地下水") if hit.startswith("weifang/")),
            status.records - len(self.victim.listed("jinan")),
        )

    def require_refused(self, state: str, reason: str) -> None:
        """The victim says what is wrong with weifang."""
        assert self.victim.await_peer("weifang", state, reason).error

    def require_others_go_on(self) -> None:
        """A record of jinan arrives at the victim, live."""
        self.pushed += 1
        key = f"ON-{self.pushed}"
        self.mesh["jinan"].push([result_record(key)])
        self.victim.await_record(f"jinan/result/{key}")

    def require_recovery(self) -> None:
        """As soon as weifang is honest again, its records arrive, too."""
        self.fake.append()
        self.fake.change(honest)
        size = self.fake.log.size

        def is_followed() -> bool:
            self.knock()
            peer = self.victim.peer("weifang")
            return (peer.verified, peer.behind, peer.state, peer.reason) == (size, 0, "connected", "")

        eventually(is_followed, "weifang is followed again", poll_s=0.2)
        read_log_file(self.victim, "weifang").require_sound()


@pytest.fixture(scope="module")
def opened() -> Iterator[Stage]:
    with open_mesh("jinan", "qingdao", "weifang") as mesh, serve_hostile(mesh, "weifang", victim="qingdao") as fake:
        mesh["qingdao"].configure(staging_entries=STAGING_ENTRIES, staging_bytes=STAGING_BYTES, deadline_s=3)
        fake.append(20)
        mesh.start("jinan", "qingdao")
        stage = Stage(mesh, fake)
        stage.victim.await_log("weifang", 20)
        yield stage
        written = stage.victim.stderr_path.read_text()
        assert "follower_died" not in written
        assert "internal_error" not in written


@pytest.fixture
def stage(opened: Stage) -> Stage:
    """The stage, with the search index complete."""
    opened.victim.await_index()
    return opened


def wrong_root(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    """Entries of another history under a root that the log key did sign."""
    yield fake.sign(FAR, OTHER_ROOT)
    yield page_to_wire(LogPage(request.start, OTHER_ROOT * (FAR - request.start), []))


def shrunken_log(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    yield fake.announce(fake.log.size - 1)


def truncated_page(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    yield fake.sign(FAR + 1, OTHER_ROOT)
    yield page_to_wire(LogPage(request.start, bytes(63), []))


def page_with_a_gap(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    yield fake.sign(FAR + 2, OTHER_ROOT)
    yield page_to_wire(LogPage(request.start + 1, bytes(32), []))


def page_beyond_the_announcement(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    yield fake.announce()
    yield page_to_wire(LogPage(request.start, bytes(64), []))


def page_without_an_announcement(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    yield page_to_wire(LogPage(request.start, bytes(32), []))


def foreign_key(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    """The honest checkpoint, signed with another key in the name of weifang's."""
    signer = replace(fake.log.lab.log, sign=private_key("somebody else's").sign)
    yield peer_pb2.ReadLogResponse(checkpoint=bytes(sign_checkpoint(fake.log.checkpoint().checkpoint, signer)))


def opening_that_does_not_fit(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    yield fake.sign(FAR + 3, OTHER_ROOT)
    yield page_to_wire(LogPage(request.start, bytes(32), [Opening(request.start, bytes(32), b"{}", 10**6)]))


def changed_late_opening(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    """A verified entry again, with other bytes."""
    yield fake.announce()
    held = fake.log.opening(3)
    changed = held.record.replace(b"0.10", b"0.01")
    assert changed != held.record
    yield page_to_wire(LogPage(request.start, b"", [Opening(3, held.salt, changed, 10**6)]))


def impossible_sequence(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    yield fake.announce()
    held = fake.log.opening(3)
    yield page_to_wire(LogPage(request.start, b"", [Opening(3, held.salt, held.record, 2**64 - 1)]))


def empty_page(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    yield fake.sign(FAR + 4, OTHER_ROOT)
    yield peer_pb2.ReadLogResponse()


def garbage_note(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    yield peer_pb2.ReadLogResponse(checkpoint=bytes(range(256)))


def garbage_message(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    """Bytes that are no protobuf message at all."""
    yield b"\xff" * 200


def announcements_for_ever(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    while True:
        yield fake.announce()


def ever_larger_announcements(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    for size in range(FAR + 5, request.start + STAGING_ENTRIES):
        yield fake.sign(size, OTHER_ROOT)


def late_openings_for_ever(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    """Valid openings of entries that are there already: every page passes, none brings anything."""
    yield fake.announce()
    sequence = 10**6
    while True:
        openings = [fake.log.opening(index) for index in range(min(request.start, 20))]
        sequence += len(openings)
        numbered = [Opening(item.index, item.salt, item.record, sequence + item.index) for item in openings]
        yield page_to_wire(LogPage(request.start, b"", numbered))


def impossible_size(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    """An announcement of 10^12 entries, and pages without end."""
    yield fake.sign(10**12, OTHER_ROOT)
    for start in range(request.start, 10**12, 1000):
        yield page_to_wire(LogPage(start, OTHER_ROOT * 1000, []))


def flood_of_openings(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
    """As many entries as may be staged, each opened with as many bytes as a record may have."""
    yield fake.sign(request.start + STAGING_ENTRIES - 1, OTHER_ROOT)
    commit = fake.log.lab.origin.encode()
    bound = b"labmesh/commitment/v1\x00" + len(commit).to_bytes(2, "big") + commit
    record, salt = b"x" * 1_000_000, bytes(32)
    commitment = sha256(bound + salt + len(record).to_bytes(8, "big") + record).digest()
    for index in range(request.start, request.start + STAGING_ENTRIES - 1):
        yield page_to_wire(LogPage(index, commitment, [Opening(index, salt, record, 10**6 + index)]))


LIES: dict[Play, tuple[str, str]] = {
    wrong_root: ("refused", "PROOF"),
    shrunken_log: ("refused", "ROLLBACK"),
    truncated_page: ("refused", "MALFORMED"),
    page_with_a_gap: ("refused", "MALFORMED"),
    page_beyond_the_announcement: ("refused", "MALFORMED"),
    page_without_an_announcement: ("refused", "MALFORMED"),
    foreign_key: ("refused", "SIGNATURE"),
    opening_that_does_not_fit: ("refused", "PROOF"),
    changed_late_opening: ("refused", "PROOF"),
    impossible_sequence: ("refused", "MALFORMED"),
    empty_page: ("refused", "MALFORMED"),
    garbage_note: ("refused", "MALFORMED"),
    garbage_message: ("refused", "MALFORMED"),
    announcements_for_ever: ("refused", "MALFORMED"),
    ever_larger_announcements: ("refused", "MALFORMED"),
    late_openings_for_ever: ("refused", "MALFORMED"),
    impossible_size: ("refused", "STAGING_LIMIT"),
    flood_of_openings: ("refused", "STAGING_LIMIT"),
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_is_refused_and_changes_nothing(stage: Stage, lie: Play):
    before = stage.visible()
    stage.play(lie)
    stage.require_refused(*LIES[lie])
    stage.require_others_go_on()
    assert stage.visible() == before
    assert database_size(stage.victim) < FILES_MAX
    stage.require_recovery()


def test_floods_do_not_add_up(stage: Stage):
    """The liar calls its victim again after each refusal, and floods it anew."""
    before = stage.visible()
    for _ in range(2):
        for lie in (flood_of_openings, impossible_size):
            stage.play(lie)
            stage.require_refused(*LIES[lie])
    assert stage.visible() == before
    assert database_size(stage.victim) < FILES_MAX
    stage.require_recovery()


def test_a_hang_after_an_announcement_stops_only_that_log(stage: Stage):
    before = stage.visible()

    def hang(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
        yield fake.sign(2 * FAR, OTHER_ROOT)

    stage.play(hang)
    behind = 2 * FAR - stage.victim.peer("weifang").verified
    eventually(lambda: stage.victim.peer("weifang").behind == behind, "entries are announced that never come")
    stage.require_others_go_on()
    assert stage.visible() == before
    assert stage.victim.peer("weifang").state == "connected"
    # What was announced and never came is forgotten when the log goes on.
    stage.fake.append(6)
    stage.require_recovery()


def test_broken_records_are_quarantined_and_the_log_goes_on(stage: Stage):
    fake, victim = stage.fake, stage.victim
    broken = {
        "SCHEMA": record_bytes("weifang", "SCHEMA", body={**BODY, "results": []}),
        "AUTHOR": record_bytes("jinan", "AUTHOR", body=BODY),
        "BYTES": b"\xff\xfe no JSON at all",
        "SPACES": record_bytes("weifang", "SPACES", body=BODY).replace(b":", b": "),
        "REVISION": record_bytes("weifang", "WJ-000001", body={**BODY, "report": "R-2"}),
    }
    before, size = set(victim.listed()), fake.log.size
    fake.log.append(*broken.values())
    fake.append(1)
    fake.change()
    victim.await_log("weifang", size + len(broken) + 1)
    assert set(victim.listed()) == before | {f"WJ-{size + len(broken):06d}"}
    peer = victim.peer("weifang")
    assert (peer.state, peer.quarantined) == ("connected", len(broken))
    view = victim.show("weifang/result/SCHEMA")
    assert view.status == node_pb2.RECORD_STATUS_QUARANTINED
    assert "/results" in view.reason
    with pytest.raises(grpc.RpcError):
        victim.show("jinan/result/AUTHOR")
    # The first statement under a key stays; the second, which contradicts it, is the quarantined one.
    assert b'"report":"R-1"' in victim.show("weifang/result/WJ-000001").record
    victim.await_index()
    assert not {"weifang/result/SCHEMA", "weifang/result/SPACES"} & set(victim.hits("地下水"))
    # A mirror does not pass on what it has quarantined, but the log it serves is whole.
    with stage.mesh.call_as("jinan", "qingdao") as stub:
        request = peer_pb2.ReadLogRequest(origin=fake.log.lab.origin, entries_max=1000)
        messages = list(stub.ReadLog(request, timeout=30))
    pages = [message.page for message in messages if message.HasField("page")]
    assert sum(len(page.commitments) for page in pages) == 32 * fake.log.size
    assert not set(range(size, size + len(broken))) & {item.index for page in pages for item in page.openings}


EXCHANGES: dict[str, tuple[Callable[[peer_pb2.ExchangeCheckpointsRequest], object], str, str]] = {
    "garbage message": (lambda request: b"\xff" * 99, "refused", "MALFORMED"),
    "garbage notes": (lambda request: answer_exchange(request, digest=b"x", notes=[b"\xff" * 99] * 500), "connected", ""),
    "garbage note of the caller": (
        lambda request: answer_exchange(request, caller_note=b"\xff" * 99),
        "refused",
        "MALFORMED",
    ),
    "a clock at the beginning of time": (lambda request: answer_exchange(request, time_ms=-(2**63)), "connected", ""),
    "a clock at the end of time": (lambda request: answer_exchange(request, time_ms=2**63 - 1), "connected", ""),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_lie_about_checkpoints_is_survived(stage: Stage, name: str):
    exchange, state, reason = EXCHANGES[name]
    answered = []

    def lie(request: peer_pb2.ExchangeCheckpointsRequest) -> object:
        answered.append(request)
        return exchange(request)

    before = stage.visible()
    stage.fake.exchange = lie
    try:
        eventually(lambda: stage.knock() and len(answered) > 2, "the victim has asked", poll_s=0.2)
        stage.victim.await_peer("weifang", state, reason)
        stage.require_others_go_on()
        assert stage.visible() == before
    finally:
        stage.fake.exchange = answer_exchange
    stage.require_recovery()


def test_a_status_of_garbage_is_survived(stage: Stage):
    """An error whose details are no `google.rpc.Status`."""
    before = stage.visible()

    def fail(fake: HostilePeer, request: peer_pb2.ReadLogRequest) -> Iterator[Message]:
        raise RefusalError(grpc.StatusCode.DATA_LOSS, "x" * 3000, b"\xff" * 50)

    stage.play(fail)
    stage.require_refused("refused", "PEER_FAULT")
    stage.require_others_go_on()
    assert stage.visible() == before
    stage.require_recovery()
