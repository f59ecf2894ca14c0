"""Transport: who is calling, and how much anybody may send, ask for, or hold up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from labmesh.v1 import peer_pb2
from node.core.entry import PAGE_BYTES_AIM, PAGE_ENTRIES_MAX, LogPage
from node.core.record import RECORD_SIZE_MAX
from node.rpc.client import MESSAGE_SIZE_MAX
from node.rpc.log_stream import LogStream
from node.rpc.peer_service import NOTES_MAX, STREAMS_PER_MEMBER
from node.sync import follower as follower_module
from node.sync.peer import ROSTERS_TOLD_MAX
from tests.alliance import draft
from tests.attacks.calling import call, caller, peer_servicer
from tests.attacks.scene import HELD, JINAN, WEIFANG, YANTAI, Scene, signed_by_jinan
from tests.attacks.surfaces import CALL, MESSAGES, NOTE, PAGE, PROPERTY, STREAM
from tests.attacks.table import attack
from tests.builders import certificate
from tests.simulated_client import Tampering

FAMILY = "transport"
ENTRY = bytes(range(32))
COUNTERS = ("qingdao: cursor", "qingdao: log")
ROSTER_REQUEST = peer_pb2.GetRosterRequest()


# Who is calling


@attack(FAMILY, CALL, "ACCESS_REFUSED", "in no active member's card")
def a_leaf_in_another_members_name(scene: Scene):
    """Made by yantai with jinan's name in it: TLS may take it, but it stands in nobody's card."""
    leaf = certificate("jinan.quality", label="yantai's")
    call(peer_servicer(scene.reader).GetRoster(ROSTER_REQUEST, caller(leaf)))


@attack(FAMILY, CALL, "ACCESS_REFUSED", "in no active member's card")
def a_caller_without_a_certificate(scene: Scene):
    call(peer_servicer(scene.reader).GetRoster(ROSTER_REQUEST, caller()))


@attack(FAMILY, CALL, "ACCESS_REFUSED", "weifang was removed from quality.jinan.example on 2026-11-20")
def a_former_member_calls(scene: Scene):
    call(peer_servicer(scene.reader).GetRoster(ROSTER_REQUEST, caller(WEIFANG.certificate)))


@attack(FAMILY, CALL, "ACCESS_REFUSED", "weifang was removed from")
def a_former_member_reads_a_log(scene: Scene):
    request = peer_pb2.ReadLogRequest(origin=JINAN.origin, entries_max=1)
    call(peer_servicer(scene.reader).ReadLog(request, caller(WEIFANG.certificate)))


@attack(FAMILY, CALL, "ACCESS_REFUSED", "weifang was removed from")
def a_member_removed_while_its_stream_is_open(scene: Scene):
    """The next message is not sent: the certificate is looked up before each."""
    presented = iter([YANTAI.certificate, YANTAI.certificate])
    removed = caller()
    removed.auth_context = lambda: caller(next(presented, WEIFANG.certificate)).auth_context()
    call(peer_servicer(scene.reader).ReadLog(peer_pb2.ReadLogRequest(origin=JINAN.origin, entries_max=99), removed))


@attack(FAMILY, CALL, "NOT_FOUND", "no member of quality.jinan.example has a log named")
def a_log_that_is_no_members(scene: Scene):
    request = peer_pb2.ReadLogRequest(origin="quality.jinan.example/log/../jinan")
    call(peer_servicer(scene.reader).ReadLog(request, caller(YANTAI.certificate)))


# How much may be sent


@attack(FAMILY, CALL, "LIMIT", "1001 notes in one call")
def more_notes_than_members(scene: Scene):
    request = peer_pb2.ExchangeCheckpointsRequest(notes=[bytes(scene.checkpoint())] * (NOTES_MAX + 1))
    call(peer_servicer(scene.reader).ExchangeCheckpoints(request, caller(YANTAI.certificate)))


@attack(FAMILY, CALL, "LIMIT", "101 rosters in one call")
def more_rosters_than_a_call_takes(scene: Scene):
    request = peer_pb2.ExchangeCheckpointsRequest(rosters=[b"{}"] * (ROSTERS_TOLD_MAX + 1))
    call(peer_servicer(scene.reader).ExchangeCheckpoints(request, caller(YANTAI.certificate)))


@attack(FAMILY, CALL, "LIMIT", "8 log streams open already")
def more_streams_than_a_member_may_open(scene: Scene):
    servicer = peer_servicer(scene.reader)
    request = peer_pb2.ReadLogRequest(origin=JINAN.origin, entries_max=99)

    async def open_many():
        streams: list[Any] = [servicer.ReadLog(request, caller(YANTAI.certificate)) for _ in range(STREAMS_PER_MEMBER + 1)]
        try:
            for stream in streams:
                await anext(stream)
        finally:
            for stream in streams:
                await stream.aclose()

    call(open_many())


@attack(FAMILY, MESSAGES, "MALFORMED", "an empty page")
def endless_empty_pages(messages):
    return [*messages[:1], *[LogPage(HELD, b"", [])] * 100_000]


@attack(FAMILY, MESSAGES, "MALFORMED", "announced out of turn")
def endless_announcements(messages):
    return [messages[0]] * 1000


@attack(FAMILY, STREAM, "MALFORMED", "more late openings than the 3 entries before them", COUNTERS)
def endless_late_openings(peer, scene: Scene):
    """One verified entry, opened again and again, each time correctly."""
    held = scene.jinan.store.logs.read_page(scene.jinan.ledger.log, start=0, stop=1, reader="qingdao").openings[0]
    late = [LogPage(HELD, b"", [replace(held, sequence=100 + i)]) for i in range(50)]
    peer.stream = lambda messages: [*messages[:1], *late]


@attack(FAMILY, PAGE, "MALFORMED", "a page of more than 1000 entries")
def a_page_of_too_many_entries(page):
    return replace(page, commitments=ENTRY * (PAGE_ENTRIES_MAX + 1))


@attack(FAMILY, PAGE, "MALFORMED", "a page of more than 1000 entries")
def a_page_of_too_many_openings(page):
    return replace(page, openings=[replace(page.openings[0], index=i) for i in range(PAGE_ENTRIES_MAX + 1)])


@attack(FAMILY, PAGE, "MALFORMED", "impossible size")
def a_page_bomb(page):
    return replace(page, openings=[replace(page.openings[0], record=bytes(2 * RECORD_SIZE_MAX))])


@attack(FAMILY, PAGE, "MALFORMED", "truncated page")
def a_truncated_page(page):
    return replace(page, commitments=page.commitments[:-1])


@attack(FAMILY, PAGE, "MALFORMED", "beyond the announced size")
def entries_beyond_the_announced_size(page):
    return replace(page, commitments=page.commitments + ENTRY)


@attack(FAMILY, PAGE, "MALFORMED", "a page from entry 4, but 3 comes next")
def a_page_that_skips_one(page):
    return replace(page, start=page.start + 1)


@attack(FAMILY, PAGE, "MALFORMED", "a page from entry 0, but 3 comes next")
def a_page_that_begins_again(page):
    return replace(page, start=0)


@attack(FAMILY, PAGE, "MALFORMED", "not in the page")
def an_opening_twice(page):
    return replace(page, openings=[page.openings[0], *page.openings])


@attack(FAMILY, PAGE, "MALFORMED", "impossible size or number")
def an_impossible_sequence_number(page):
    return replace(page, openings=[replace(page.openings[0], sequence=2**64 - 1), *page.openings[1:]])


@attack(FAMILY, PAGE, "PROOF", "does not fit its commitment")
def a_wrong_commitment(page):
    return replace(page, commitments=bytes([page.commitments[0] ^ 1]) + page.commitments[1:])


@attack(FAMILY, PAGE, "PROOF", "do not have the root signed")
def a_wrong_commitment_of_a_restricted_entry(page):
    return replace(page, commitments=page.commitments[:-64] + ENTRY + page.commitments[-32:])


@attack(FAMILY, PAGE, "PROOF", "do not have the root signed")
def two_commitments_exchanged(page):
    return replace(page, commitments=page.commitments[32:64] + page.commitments[:32] + page.commitments[64:], openings=[])


@attack(FAMILY, MESSAGES, "MALFORMED", "before any checkpoint was announced")
def pages_without_an_announcement(messages):
    return messages[1:]


@attack(FAMILY, NOTE, "STAGING_LIMIT", "may wait unverified")
def a_huge_announcement(note):
    return signed_by_jinan(2**30, ENTRY)


@attack(FAMILY, NOTE, "STAGING_LIMIT", "may wait unverified")
def the_largest_announcement(note):
    return signed_by_jinan(2**40 - 1, ENTRY)


@attack(FAMILY, PROPERTY, "", "")
def records_that_would_burst_a_message(scene: Scene):
    """However large the records, no page comes near what a connection takes, nor near gRPC's own four mebibytes."""
    with scene.other() as alliance:
        jinan = alliance["jinan"]
        jinan.push(*(draft(f"LARGE-{i}", body={"value": "1", "notes": ["x" * (RECORD_SIZE_MAX - 1000)]}) for i in range(5)))
        stream = LogStream(jinan.store, _from_the_start(), reader="qingdao", ceiling=jinan.ceiling)
        sizes = []
        while messages := stream.advance():
            sizes += [message.ByteSize() for message in messages]
        assert len(sizes) == 1 + 3
        assert max(sizes) < PAGE_BYTES_AIM + RECORD_SIZE_MAX + 64 * 1024 < 4 * 2**20 < MESSAGE_SIZE_MAX


@attack(FAMILY, PROPERTY, "", "")
def a_slow_reader(scene: Scene):
    """Pages are read when they are asked for: a reader that takes one message holds one page in the server's memory."""
    with scene.other() as alliance:
        jinan = alliance["jinan"]
        jinan.push(*(draft(f"R-{i}") for i in range(3 * PAGE_ENTRIES_MAX)))
        stream = LogStream(jinan.store, _from_the_start(), reader="qingdao", ceiling=jinan.ceiling)
        first = stream.advance()
        assert [len(message.page.commitments) // 32 for message in first] == [0, PAGE_ENTRIES_MAX]


@attack(FAMILY, PROPERTY, "", "")
def a_server_that_announces_and_falls_silent(scene: Scene):
    """It counts as unreachable, and the others go on."""
    scene.peer.stream = lambda messages: messages[:1]
    before, follower_module.STALL_S = follower_module.STALL_S, 0.02
    try:
        state = scene.alliance.follow("qingdao", "jinan", lambda state: state.error)
    finally:
        follower_module.STALL_S = before
    assert (state.state, state.reason) == ("retrying", "PEER_UNREACHABLE") and "sent nothing for" in state.error
    scene.alliance.tampering = Tampering()


def _from_the_start() -> peer_pb2.ReadLogRequest:
    return peer_pb2.ReadLogRequest(origin=JINAN.origin, entries_max=10_000)
