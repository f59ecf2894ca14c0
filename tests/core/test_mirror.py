"""Mirror: a good session moves the head; every one-line mutation of it raises, and the head stays."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.card import FormerLogKey
from node.core.checkpoint import Checkpoint, SignedCheckpoint, parse_checkpoint, sign_checkpoint, verify_checkpoint
from node.core.entry import PAGE_ENTRIES_MAX, LogPage, Opening, committer
from node.core.merkle import Frontier
from node.core.mirror import AcceptedPage, Mirror, StagingLimits
from node.core.note import SignatureLine
from node.core.record import RECORD_SIZE_MAX
from node.errors import (
    FormatError,
    LabmeshError,
    MalformedError,
    PeerFaultError,
    ProofError,
    RollbackError,
    SignatureError,
    SplitViewError,
    StagingLimitError,
)
from tests.builders import (
    NOW_S,
    Lab,
    MemoryLog,
    build_card,
    build_labs,
    build_log,
    cosign,
    kinds,
    record_bytes,
)
from tests.core.naive import NaiveTree

JINAN, QINGDAO, YANTAI = build_labs(3)
READER = "qingdao"


def build_mirror(log: MemoryLog, **changes: Any) -> Mirror:
    return Mirror(build_card(log.lab), **{"reader": READER, "kinds": kinds(), **changes})


def held_by(log: MemoryLog) -> Callable[[int], bytes | None]:
    return lambda index: log.commitments[index] if 0 <= index < log.size else None


def pull(mirror: Mirror, log: MemoryLog, *, cuts: Sequence[int] = ()) -> list[AcceptedPage]:
    """An honest session: announcement, pages cut at these indexes, head."""
    signed = mirror.accept_announcement(bytes(log.checkpoint()))
    start = mirror.staged.size
    edges = [start, *sorted(cut for cut in cuts if start < cut < log.size), log.size]
    pages = [log.page(lo, hi) for lo, hi in pairwise(edges) if lo < hi]
    accepted = [mirror.accept_page(page, held_by(log)) for page in pages]
    assert mirror.complete
    assert mirror.accept_head() == signed == mirror.head
    return accepted


def begin(held: int = 3, size: int = 8) -> tuple[Mirror, MemoryLog]:
    """A mirror that verified `held` entries, of a log that has `size`, with the newest checkpoint announced."""
    log = build_log(JINAN, held)
    mirror = build_mirror(log, limits=StagingLimits(entries=1000))
    pull(mirror, log)
    log.append_numbered(size - held)
    mirror.accept_announcement(bytes(log.checkpoint()))
    return mirror, log


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


# Faults in the announcement


def sign(log: MemoryLog, size: int, root: bytes, lab: Lab = JINAN) -> bytes:
    """A checkpoint of this log by any laboratory's log key, under the log's name."""
    signer = replace(lab.log, key=replace(lab.log.key, name=log.lab.origin))
    return bytes(sign_checkpoint(Checkpoint(log.lab.origin, size, root), signer))


ANNOUNCEMENTS: dict[str, tuple[type[PeerFaultError], Callable[[MemoryLog], bytes]]] = {
    "nothing": (MalformedError, lambda log: b""),
    "no note": (MalformedError, lambda log: b"hello"),
    "not canonical": (MalformedError, lambda log: bytes(log.checkpoint()).replace(b"\n8\n", b"\n08\n")),
    "CRLF": (MalformedError, lambda log: bytes(log.checkpoint()).replace(b"\n", b"\r\n")),
    "another origin": (MalformedError, lambda log: bytes(build_log(QINGDAO, 8).checkpoint())),
    "unsigned": (MalformedError, lambda log: log.checkpoint().note.text.encode()),
    "signed by another member": (SignatureError, lambda log: sign(log, 8, log.tree.root(8), QINGDAO)),
    "a size that was not signed": (SignatureError, lambda log: bytes(log.checkpoint()).replace(b"\n8\n", b"\n9\n")),
    "only a cosignature": (SignatureError, lambda log: only_cosigned(log)),
    "a shrunken log": (RollbackError, lambda log: bytes(log.checkpoint(2))),
    "an emptied log": (RollbackError, lambda log: bytes(log.checkpoint(0))),
    "a split view": (SplitViewError, lambda log: sign(log, 3, bytes(32))),
    "far ahead": (StagingLimitError, lambda log: sign(log, 3 + 1001, bytes(32))),
}


def only_cosigned(log: MemoryLog) -> bytes:
    cosigned = cosign(log.checkpoint(), {YANTAI: NOW_S})
    return bytes(replace(cosigned, note=replace(cosigned.note, signatures=cosigned.note.signatures[1:])))


@pytest.mark.parametrize(("expected", "announce"), ANNOUNCEMENTS.values(), ids=ANNOUNCEMENTS)
def test_bad_announcements(expected: type[PeerFaultError], announce: Callable[[MemoryLog], bytes]) -> None:
    mirror, log = begin()
    head, target, staged = mirror.head, mirror.target, mirror.staged
    with pytest.raises(PeerFaultError) as caught:
        mirror.accept_announcement(announce(log))
    assert type(caught.value) is expected
    assert (mirror.head, mirror.target, mirror.staged) == (head, target, staged)
    mirror.accept_page(log.page(3, 8), held_by(log))
    assert mirror.accept_head().size == 8


def test_a_rollback_tells_both_sizes() -> None:
    mirror, log = begin()
    with pytest.raises(RollbackError) as caught:
        mirror.accept_announcement(bytes(log.checkpoint(2)))
    assert (caught.value.origin, caught.value.held_size, caught.value.offered_size) == (JINAN.origin, 3, 2)


def test_a_split_view_carries_two_notes_that_anyone_can_verify() -> None:
    mirror, log = begin()
    with pytest.raises(SplitViewError) as caught:
        mirror.accept_announcement(sign(log, 3, bytes(32)))
    notes = [parse_checkpoint(raw) for raw in (caught.value.held_note, caught.value.offered_note)]
    checkpoints = [verify_checkpoint(note, JINAN.log.key) for note in notes]
    assert [checkpoint.size for checkpoint in checkpoints] == [3, 3] == [caught.value.size] * 2
    assert checkpoints[0].root != checkpoints[1].root


@pytest.mark.parametrize(("size", "generation", "holds"), [(5, 1, True), (5, 2, False), (6, 2, True), (6, 1, False)])
def test_the_log_key_must_be_valid_at_the_size(size: int, generation: int, holds: bool) -> None:
    log = build_log(JINAN, 6)
    now, former = replace(JINAN, generation=2), FormerLogKey(JINAN.log.key, 5, log.tree.root(5))
    card = replace(build_card(JINAN), log_key=now.log.key, former_log_keys=(former,))
    mirror = Mirror(card, reader=READER, kinds=kinds())
    raw = sign(log, size, log.tree.root(size), replace(JINAN, generation=generation))
    if holds:
        assert mirror.accept_announcement(raw).size == size
    else:
        with pytest.raises(SignatureError):
            mirror.accept_announcement(raw)
        assert mirror.target is None


def test_a_retired_key_covers_only_its_own_root() -> None:
    log = build_log(JINAN, 5)
    former = FormerLogKey(JINAN.log.key, 5, bytes(32))
    card = replace(build_card(JINAN), log_key=replace(JINAN, generation=2).log.key, former_log_keys=(former,))
    with pytest.raises(SignatureError):
        Mirror(card, reader=READER, kinds=kinds()).accept_announcement(bytes(log.checkpoint()))


# Faults in a page


def flip(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def with_opening(log: MemoryLog, **changes: Any) -> LogPage:
    page = log.page(3, 8)
    return replace(page, openings=[*page.openings[:2], replace(page.openings[2], **changes), *page.openings[3:]])


def copied_from_another_log() -> tuple[bytes, Opening]:
    """A commitment of qingdao's log, and its opening under another index."""
    other = build_log(QINGDAO, 1)
    return other.commitments[0], replace(other.opening(0), index=3)


PAGES: dict[str, tuple[type[PeerFaultError], Callable[[MemoryLog], LogPage]]] = {
    "a truncated page": (MalformedError, lambda log: replace(log.page(3, 8), commitments=log.page(3, 8).commitments[:-1])),
    "half a commitment": (MalformedError, lambda log: LogPage(3, log.commitments[3][:16], [])),
    "a page beyond the target": (
        MalformedError,
        lambda log: LogPage(3, b"".join(log.commitments[3:8]) + bytes(32), []),
    ),
    "a gap": (MalformedError, lambda log: log.page(4, 8)),
    "an overlap": (MalformedError, lambda log: log.page(2, 8)),
    "the beginning again": (MalformedError, lambda log: log.page(0, 8)),
    "a negative start": (MalformedError, lambda log: replace(log.page(3, 8), start=-3)),
    "an empty page": (MalformedError, lambda log: LogPage(3, b"", [])),
    "too many entries": (MalformedError, lambda log: LogPage(3, bytes(32 * 1001), [])),
    "too many openings": (MalformedError, lambda log: LogPage(3, b"", [log.opening(0)] * 1001)),
    "a wrong commitment": (
        ProofError,
        lambda log: replace(log.page(3, 8), commitments=flip(log.page(3, 8).commitments, 70)),
    ),
    "commitments in another order": (
        ProofError,
        lambda log: replace(log.page(3, 8), commitments=b"".join(log.commitments[3:8][::-1])),
    ),
    "another salt": (ProofError, lambda log: with_opening(log, salt=bytes(32))),
    "a short salt": (MalformedError, lambda log: with_opening(log, salt=bytes(31))),
    "a long salt": (MalformedError, lambda log: with_opening(log, salt=bytes(33))),
    "no salt": (MalformedError, lambda log: with_opening(log, salt=b"")),
    "another record": (ProofError, lambda log: with_opening(log, record=log.records[0])),
    "a changed record": (ProofError, lambda log: with_opening(log, record=flip(log.records[5], 60))),
    "an enormous record": (MalformedError, lambda log: with_opening(log, record=bytes(RECORD_SIZE_MAX + 1))),
    "an opening under another index": (
        ProofError,
        lambda log: replace(log.page(3, 8), openings=[replace(log.opening(5), index=6)]),
    ),
    "an opening beyond the page": (MalformedError, lambda log: log.page(3, 5, openings=[5])),
    "an opening beyond the log": (
        MalformedError,
        lambda log: replace(log.page(3, 8), openings=[replace(log.opening(3), index=8)]),
    ),
    "an opening of a negative index": (
        MalformedError,
        lambda log: replace(log.page(3, 8), openings=[replace(log.opening(3), index=-1)]),
    ),
    "an opening twice": (MalformedError, lambda log: log.page(3, 8, openings=[4, 4])),
    "a late opening that does not fit": (ProofError, lambda log: LogPage(3, b"", [replace(log.opening(1), index=2)])),
    "a late opening twice": (MalformedError, lambda log: LogPage(3, b"", [log.opening(1), log.opening(1)])),
    "a late opening of what was not held": (MalformedError, lambda log: LogPage(3, b"", [log.opening(3)])),
    "another's commitment": (
        ProofError,
        lambda log: LogPage(3, copied_from_another_log()[0], [copied_from_another_log()[1]]),
    ),
}


@pytest.mark.parametrize(("expected", "make"), PAGES.values(), ids=PAGES)
def test_bad_pages(expected: type[PeerFaultError], make: Callable[[MemoryLog], LogPage]) -> None:
    mirror, log = begin()
    head, target, staged, staged_bytes = mirror.head, mirror.target, mirror.staged, mirror.staged_bytes
    with pytest.raises(PeerFaultError) as caught:
        mirror.accept_page(make(log), held_by(log))
    assert type(caught.value) is expected
    assert JINAN.origin in caught.value.message
    assert (mirror.head, mirror.target, mirror.staged, mirror.staged_bytes) == (head, target, staged, staged_bytes)
    mirror.accept_page(log.page(3, 8), held_by(log))
    assert mirror.accept_head().size == 8


def test_a_page_before_any_announcement() -> None:
    log = build_log(JINAN, 3)
    mirror = build_mirror(log)
    with pytest.raises(MalformedError, match="before any checkpoint"):
        mirror.accept_page(log.page(0, 3), held_by(log))
    assert (mirror.head, mirror.staged.size) == (None, 0)


def test_a_late_opening_whose_commitment_the_store_does_not_have() -> None:
    mirror, log = begin()
    with pytest.raises(MalformedError):
        mirror.accept_page(LogPage(3, b"", [log.opening(1)]), lambda index: None)


def test_an_opening_for_another_reader() -> None:
    log = MemoryLog(JINAN)
    audiences: list[list[str]] = [["yantai"], [], ["qingdao"]]
    log.append(*(record_bytes(key=f"k{i}", audience=audience) for i, audience in enumerate(audiences)))
    mirror = build_mirror(log)
    mirror.accept_announcement(bytes(log.checkpoint()))
    for index in (0, 1):
        with pytest.raises(MalformedError, match="not for qingdao"):
            mirror.accept_page(log.page(0, 3, openings=[index]), held_by(log))
        assert (mirror.head, mirror.staged.size) == (None, 0)
    mirror.accept_page(log.page(0, 3, openings=[2]), held_by(log))
    assert mirror.accept_head().size == 3


def test_the_author_takes_back_its_own_log() -> None:
    log = MemoryLog(JINAN)
    log.append(record_bytes(key="a", audience=["yantai"]), record_bytes(key="b", audience=[]))
    (page,) = pull(build_mirror(log, reader="jinan"), log)
    assert [accepted.record and accepted.record.key for accepted in page.openings] == ["a", "b"]


# Faults at the end


def test_the_head_waits_for_every_entry() -> None:
    mirror, log = begin()
    head = mirror.head
    for upto in (3, 7):
        if upto > 3:
            mirror.accept_page(log.page(3, upto), held_by(log))
        with pytest.raises(MalformedError, match="ended before"):
            mirror.accept_head()
        assert mirror.head == head
    with pytest.raises(MalformedError):
        build_mirror(log).accept_head()


@pytest.mark.parametrize("at", [3, 5, 7])
def test_a_wrong_root(at: int) -> None:
    """A commitment without an opening is not recomputed; only the root tells."""
    mirror, log = begin()
    head = mirror.head
    page = log.page(3, 8, openings=[])
    mirror.accept_page(replace(page, commitments=flip(page.commitments, (at - 3) * 32)), held_by(log))
    with pytest.raises(ProofError, match="root"):
        mirror.accept_head()
    assert mirror.head == head
    assert mirror.head_size == 3


def test_a_rewritten_history() -> None:
    """The author signs a longer log that does not contain the one it signed before."""
    mirror, _ = begin()
    head = mirror.head
    other = MemoryLog(JINAN)
    other.append_numbered(8, body={"value": "another"})
    mirror.accept_announcement(bytes(other.checkpoint()))
    mirror.accept_page(other.page(3, 8), held_by(other))
    with pytest.raises(ProofError):
        mirror.accept_head()
    assert mirror.head == head


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
