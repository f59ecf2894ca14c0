"""Mirror: a good session moves the head, however it is cut, stopped and disturbed; limits and quarantine."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.checkpoint import SignedCheckpoint
from node.core.entry import PAGE_ENTRIES_MAX, LogPage, committer
from node.core.merkle import Frontier
from node.core.mirror import AcceptedPage, StagingLimits
from node.core.note import SignatureLine
from node.errors import FormatError, LabmeshError, MalformedError, PeerFaultError, ProofError, StagingLimitError
from tests.builders import NOW_S, MemoryLog, build_log, cosign, record_bytes
from tests.core.naive import NaiveTree
from tests.core.sessions import JINAN, QINGDAO, YANTAI, begin, build_mirror, flip, held_by, pull

# The good session


@settings(max_examples=50)
@given(st.integers(1, 700), st.lists(st.integers(0, 700), max_size=6), st.integers(0, 700))
def test_any_split_into_pages_gives_the_naive_tree(size: int, cuts: list[int], stop: int) -> None:
    log = MemoryLog(JINAN)
    mirror = build_mirror(log)
    accepted: list[AcceptedPage] = []
    for part in sorted({min(stop, size), size} - {0}):
        log.append_numbered(part - log.size)
        accepted += pull(mirror, log, cuts=cuts)
    naive = NaiveTree(log.commitments)
    assert mirror.head_size == size
    assert mirror.staged.root() == naive.root(0, size)
    assert [commitment for page in accepted for commitment in page.commitments] == log.commitments
    assert [tile for page in accepted for tile in page.tiles] == [
        naive.root(lo, lo + 256) for lo in range(0, size - 255, 256)
    ]
    records = [opening.record.raw for page in accepted for opening in page.openings if opening.record]
    assert records == log.records
    assert mirror.staged_bytes == 0


def test_a_page_tells_its_bytes_and_the_tree_after_it() -> None:
    mirror, log = begin(3, 8)
    page = mirror.accept_page(log.page(3, 5), held_by(log))
    assert page.size_bytes == sum(map(len, log.records[3:5])) == mirror.staged_bytes
    assert page.frontier == mirror.staged == Frontier().extend(log.commitments[:5])[0]
    assert (page.start, mirror.complete, mirror.head_size) == (3, False, 3)


def test_an_announcement_loses_its_cosignatures() -> None:
    log = build_log(JINAN, 2)
    cosigned = cosign(log.checkpoint(), {QINGDAO: NOW_S, YANTAI: NOW_S})
    signed = build_mirror(log).accept_announcement(bytes(cosigned))
    assert bytes(signed) == bytes(log.checkpoint())


def test_the_head_again_is_no_fault() -> None:
    mirror, log = begin(3, 8)
    mirror.accept_page(log.page(3, 8), held_by(log))
    head = mirror.accept_head()
    assert mirror.accept_announcement(bytes(log.checkpoint())) == head
    assert mirror.complete
    assert mirror.accept_head() == head


def test_late_openings_without_end() -> None:
    mirror, log = begin(3, 8)
    again = LogPage(3, b"", [log.opening(i) for i in range(3)])
    mirror.accept_page(again, held_by(log))
    mirror.accept_page(again, held_by(log))
    with pytest.raises(MalformedError, match="more late openings than the 3 entries"):
        mirror.accept_page(again, held_by(log))


def test_an_empty_log() -> None:
    log = MemoryLog(JINAN)
    mirror = build_mirror(log)
    mirror.accept_announcement(bytes(log.checkpoint()))
    assert mirror.accept_head().size == 0


def test_a_stopped_pull_goes_on_from_what_was_staged() -> None:
    mirror, log = begin(3, 8)
    page = mirror.accept_page(log.page(3, 6), held_by(log))
    resumed = build_mirror(log, head=mirror.head, staged=page.frontier, staged_bytes=page.size_bytes)
    pull(resumed, log)
    assert resumed.head_size == 8


def test_openings_may_be_withheld_but_commitments_not() -> None:
    mirror, log = begin(3, 8)
    page = mirror.accept_page(log.page(3, 8, openings=[4]), held_by(log))
    assert [accepted.opening.index for accepted in page.openings] == [4]
    assert mirror.accept_head().size == 8


def test_openings_may_come_in_any_order() -> None:
    mirror, log = begin(3, 8)
    page = mirror.accept_page(log.page(3, 8, openings=[7, 3, 5]), held_by(log))
    assert [accepted.opening.index for accepted in page.openings] == [7, 3, 5]


def test_a_late_opening() -> None:
    mirror, log = begin(3, 8)
    mirror.accept_page(log.page(3, 5, openings=[]), held_by(log))
    late = mirror.accept_page(LogPage(0, b"", [log.opening(1), log.opening(4)]), held_by(log))
    assert [accepted.record.key for accepted in late.openings if accepted.record] == ["WJ-000001", "WJ-000004"]
    assert late.commitments == late.tiles == []
    assert mirror.staged.size == 5
    both = mirror.accept_page(log.page(5, 8, openings=[2, 6]), held_by(log))
    assert [accepted.opening.index for accepted in both.openings] == [2, 6]
    assert mirror.accept_head().size == 8


def test_restart_forgets_what_is_staged() -> None:
    mirror, log = begin(3, 8)
    verified = Frontier().extend(log.commitments[:3])[0]
    mirror.accept_page(log.page(3, 6), held_by(log))
    with pytest.raises(FormatError):
        mirror.restart(mirror.staged)
    mirror.restart(verified)
    assert (mirror.staged, mirror.staged_bytes) == (verified, 0)
    pull(mirror, log, cuts=[4])
    assert mirror.head_size == 8


def test_a_full_page_is_taken() -> None:
    log = build_log(JINAN, PAGE_ENTRIES_MAX)
    mirror = build_mirror(log)
    pull(mirror, log)
    assert mirror.head_size == 1000


# Limits


def test_staging_limits_in_entries() -> None:
    log = build_log(JINAN, 20)
    for limit, holds in ((20, True), (19, False)):
        mirror = build_mirror(log, limits=StagingLimits(entries=limit))
        if holds:
            assert mirror.accept_announcement(bytes(log.checkpoint())).size == 20
        else:
            with pytest.raises(StagingLimitError, match="at most 19"):
                mirror.accept_announcement(bytes(log.checkpoint()))
            assert mirror.target is None
    mirror = build_mirror(log, limits=StagingLimits(entries=19), head=log.checkpoint(1))
    assert mirror.accept_announcement(bytes(log.checkpoint())).size == 20


def test_staging_limits_in_bytes() -> None:
    log = build_log(JINAN, 6)
    sizes = [len(record) for record in log.records]
    mirror = build_mirror(log, limits=StagingLimits(bytes=sum(sizes[:4])))
    mirror.accept_announcement(bytes(log.checkpoint()))
    mirror.accept_page(log.page(0, 4), held_by(log))
    with pytest.raises(StagingLimitError, match="bytes"):
        mirror.accept_page(log.page(4, 6), held_by(log))
    assert (mirror.head, mirror.staged.size, mirror.staged_bytes) == (None, 4, sum(sizes[:4]))
    mirror.accept_page(log.page(4, 6, openings=[]), held_by(log))
    assert mirror.accept_head().size == 6
    assert mirror.staged_bytes == 0


def test_bytes_staged_before_a_restart_of_the_node_count() -> None:
    log = build_log(JINAN, 2)
    mirror = build_mirror(log, staged_bytes=1000, limits=StagingLimits(bytes=1000))
    mirror.accept_announcement(bytes(log.checkpoint()))
    with pytest.raises(StagingLimitError):
        mirror.accept_page(log.page(0, 2), held_by(log))


# The author's faults: the entry is quarantined, the log goes on

QUARANTINED = {
    "not JSON": b"\x00\xff",
    "empty": b"",
    "not canonical": record_bytes().replace(b":", b": ", 1),
    "a doubled name": record_bytes().replace(b'"key":', b'"key":"x","key":'),
    "a float": record_bytes().replace(b'"revision":1', b'"revision":1.0'),
    "another author": record_bytes("qingdao"),
    "another schema": record_bytes(schema="notice/1"),
    "a broken schema": record_bytes(body={"value": 1}),
    "a bad key": record_bytes(key="a@b"),
    "a bad audience": record_bytes(audience=["yantai", "qingdao"]),
    "not an object": b"[]",
}


@pytest.mark.parametrize("raw", QUARANTINED.values(), ids=QUARANTINED)
def test_an_authors_bad_bytes_are_quarantined(raw: bytes) -> None:
    mirror, log = begin(3, 4)
    log.append(raw)
    log.append_numbered(2)
    mirror.accept_announcement(bytes(log.checkpoint()))
    page = mirror.accept_page(log.page(3, 7), held_by(log))
    assert [accepted.record is None for accepted in page.openings] == [False, True, False, False]
    bad = page.openings[1]
    assert bad.opening.record == raw
    assert bad.fault
    assert not any(accepted.fault for accepted in page.openings if accepted.record)
    assert mirror.accept_head().size == 7


@pytest.mark.parametrize("changes", [{"kind": "recipe", "schema": "recipe/1"}, {"schema": "result/2"}], ids=str)
def test_an_unknown_kind_or_version_is_kept_as_not_understood(changes: dict[str, Any]) -> None:
    log = MemoryLog(JINAN)
    log.append(record_bytes(body={"any": "thing"}, **changes), record_bytes())
    (page,) = pull(build_mirror(log), log)
    assert [accepted.record and accepted.record.understood for accepted in page.openings] == [False, True]
    assert not any(accepted.fault for accepted in page.openings)


def test_a_member_that_copies_anothers_commitment_cannot_open_it() -> None:
    """Qingdao takes jinan's commitment into its own log and signs it: the log stands, the opening does not."""
    jinan = build_log(JINAN, 1)
    thief = MemoryLog(QINGDAO)
    thief.append_numbered(2)
    thief.commitments[1], thief.salts[1], thief.records[1] = jinan.commitments[0], jinan.salts[0], jinan.records[0]
    thief.frontier = Frontier().extend(thief.commitments)[0]
    mirror = build_mirror(thief, reader="yantai")
    mirror.accept_announcement(bytes(thief.checkpoint()))
    with pytest.raises(ProofError, match="does not fit"):
        mirror.accept_page(thief.page(0, 2), held_by(thief))
    mirror.accept_page(thief.page(0, 2, openings=[0]), held_by(thief))
    assert mirror.accept_head().size == 2
    assert committer(QINGDAO.origin)(jinan.salts[0], jinan.records[0]) != jinan.commitments[0]


# Anything at all


@settings(max_examples=150)
@given(st.data())
def test_no_flipped_bit_of_a_session_moves_the_head(data: st.DataObject) -> None:
    mirror, log = begin()
    head = mirror.head
    page = log.page(3, 8)
    parts = [bytes(log.checkpoint()), page.commitments, *(o.salt for o in page.openings), *(o.record for o in page.openings)]
    which = data.draw(st.integers(0, len(parts) - 1))
    at = data.draw(st.integers(0, len(parts[which]) - 1))
    parts[which] = flip(parts[which], at)
    openings = [replace(opening, salt=parts[2 + i], record=parts[7 + i]) for i, opening in enumerate(page.openings)]
    with pytest.raises(PeerFaultError):
        mirror.accept_announcement(parts[0])
        mirror.accept_page(replace(page, commitments=parts[1], openings=openings), held_by(log))
        mirror.accept_head()
    assert mirror.head == head


@given(st.binary(max_size=300))
def test_any_announcement_is_refused_as_a_peers_fault(raw: bytes) -> None:
    mirror, _ = begin()
    head = mirror.head
    with pytest.raises(MalformedError):
        mirror.accept_announcement(raw)
    assert mirror.head == head


def test_random_sessions_with_random_faults_end_with_the_true_log() -> None:
    rng = random.Random(7)
    log = MemoryLog(JINAN)
    mirror = build_mirror(log)
    moved = refused = 0
    for _ in range(60):
        log.append_numbered(rng.randint(1, 30))
        mirror.accept_announcement(bytes(log.checkpoint()))
        start = mirror.staged.size
        high = log.size if rng.random() < 0.5 else rng.randint(start, log.size)
        page = log.page(start, high)
        if rng.random() < 0.3 and page.commitments:
            page = replace(page, commitments=flip(page.commitments, rng.randrange(len(page.commitments))))
        before: tuple[SignedCheckpoint | None, Frontier] = (mirror.head, mirror.staged)
        try:
            mirror.accept_page(page, held_by(log))
        except LabmeshError:
            refused += 1
            assert (mirror.head, mirror.staged) == before
        if mirror.complete:
            mirror.accept_head()
            moved += 1
            assert mirror.staged.root() == log.tree.root(log.size)
    assert moved
    assert refused
    pull(mirror, log)
    assert mirror.head_size == log.size


def test_a_line_by_another_key_under_the_logs_name_is_ignored() -> None:
    mirror, log = begin()
    foreign = SignatureLine(JINAN.origin, b"\x00\x01\x02\x03", bytes(64))
    noisy = log.checkpoint().with_lines((foreign,))
    assert bytes(mirror.accept_announcement(bytes(noisy))) == bytes(log.checkpoint())
