"""Mirror: every one-line mutation of a session raises what it is, and the head stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from node.core.card import FormerLogKey
from node.core.checkpoint import parse_checkpoint, verify_checkpoint
from node.core.entry import LogPage, Opening
from node.core.mirror import Mirror
from node.core.record import RECORD_SIZE_MAX
from node.errors import (
    MalformedError,
    PeerFaultError,
    ProofError,
    RollbackError,
    SignatureError,
    SplitViewError,
    StagingLimitError,
)
from tests.builders import NOW_S, MemoryLog, build_card, build_log, cosign, kinds, record_bytes
from tests.core.sessions import JINAN, QINGDAO, READER, YANTAI, begin, build_mirror, flip, held_by, pull, sign

# Faults in the announcement

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
