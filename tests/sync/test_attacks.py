"""One line of attack each: nothing becomes visible, the state says why, and an honest peer is followed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from node.core.checkpoint import Checkpoint, sign_checkpoint
from node.core.entry import LogPage, Opening
from node.core.mirror import StagingLimits
from node.store import DATABASE_NAME
from node.sync.peer import PeerState
from tests.alliance import SimulatedAlliance, Tampering, draft, drafts, visible
from tests.builders import Lab, build_card, build_labs, build_log, build_roster, sign_card, sign_roster

JINAN, QINGDAO, YANTAI = build_labs(3)
ENTRY = bytes(range(32))


def failed(state: PeerState) -> bool:
    return state.state in ("refused", "quarantined")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SimulatedAlliance, bytes]]:
    """qingdao verified three entries of jinan, and five more wait, two of which it may not read; and its database now."""
    folder = tmp_path_factory.mktemp("attacks")
    made = SimulatedAlliance(folder)
    made["jinan"].push(*drafts(2, "HELD"))
    made["jinan"].push(*drafts(1, "HELD-TOO"))
    made.catch_up("qingdao", "jinan")
    made["jinan"].push(*drafts(3, "NEW"), draft("FOR-YANTAI", audience=["yantai"]), draft("PRIVATE", audience=[]))
    made["qingdao"].store.database.backup(folder / "copy")
    yield made, (folder / "copy").read_bytes()
    made.close()


@pytest.fixture
def ready(prepared: tuple[SimulatedAlliance, bytes]) -> SimulatedAlliance:
    """The prepared alliance, with qingdao put back to where it was before the last attack."""
    alliance, database = prepared
    qingdao = alliance["qingdao"]
    qingdao.store.close()
    for path in qingdao.path.iterdir():
        path.unlink()
    (qingdao.path / DATABASE_NAME).write_bytes(database)
    qingdao.reopen()
    qingdao.confirmation.override()
    qingdao.splits.clear()
    alliance.tampering = Tampering()
    alliance.reads.clear()
    alliance.closed = 0
    return alliance


def checkpoint(size: int, root: bytes, lab: Lab = JINAN, *, log: Lab | None = None) -> bytes:
    """A checkpoint of jinan's log that somebody signs."""
    origin = (log or lab).origin
    signer = lab.log if log is None else replace(lab.log, key=replace(lab.log.key, name=origin))
    return bytes(sign_checkpoint(Checkpoint(origin, size, root), signer))


def change_opening(page: LogPage, **changes: Any) -> LogPage:
    """The page with its first opening changed."""
    first, *others = page.openings
    return replace(page, openings=[replace(first, **changes), *others])


def flip(commitments: bytes) -> bytes:
    return bytes([commitments[0] ^ 1]) + commitments[1:]


Attack = Callable[[Tampering, SimulatedAlliance], None]
ATTACKS: dict[str, tuple[Attack, str]] = {}


def attack(reason: str) -> Callable[[Attack], Attack]:
    """Put an attack, named by its function, into the table with the reason that the state must show."""

    def register(function: Attack) -> Attack:
        ATTACKS[function.__name__.replace("_", " ")] = function, reason
        return function

    return register


# What is announced


@attack("PROOF")
def another_root(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda _: checkpoint(8, ENTRY)


@attack("SIGNATURE")
def a_checkpoint_that_somebody_else_signed(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda _: checkpoint(8, ENTRY, QINGDAO, log=JINAN)


@attack("SIGNATURE")
def a_flipped_bit_in_the_signature(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda raw: raw[:-20] + bytes([raw[-20] ^ 1]) + raw[-19:]


@attack("MALFORMED")
def a_checkpoint_of_another_log(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda _: checkpoint(8, ENTRY, QINGDAO)


@attack("MALFORMED")
def no_checkpoint_at_all(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda raw: raw[:-1]


@attack("MALFORMED")
def a_note_of_a_mebibyte(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda raw: raw + b"\n" * 2**20


@attack("ROLLBACK")
def a_shrunken_log(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda _: bytes(alliance["jinan"].store.checkpoints.find(1, 2) or b"")


@attack("SPLIT_VIEW")
def another_history_of_the_same_size(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda _: checkpoint(3, ENTRY)


@attack("PROOF")
def another_history_that_is_longer(peer: Tampering, alliance: SimulatedAlliance) -> None:
    fork = build_log(JINAN, 8)
    peer.stream = lambda messages: [bytes(fork.checkpoint()), fork.page(3, 8)] if messages else []


@attack("STAGING_LIMIT")
def a_huge_announcement(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda _: checkpoint(2**30, ENTRY)


@attack("STAGING_LIMIT")
def the_largest_announcement(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.announcement = lambda _: checkpoint(2**40 - 1, ENTRY)


@attack("MALFORMED")
def pages_without_an_announcement(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.stream = lambda messages: [message for message in messages if isinstance(message, LogPage)]


# What is in a page


@attack("MALFORMED")
def a_truncated_page(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: replace(page, commitments=page.commitments[:-1])


@attack("PROOF")
def a_wrong_commitment(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: replace(page, commitments=flip(page.commitments))


@attack("PROOF")
def a_wrong_commitment_without_openings(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: replace(page, commitments=flip(page.commitments), openings=[])


@attack("PROOF")
def two_commitments_exchanged(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: replace(
        page, commitments=page.commitments[32:64] + page.commitments[:32] + page.commitments[64:], openings=[]
    )


@attack("MALFORMED")
def entries_beyond_the_announced_size(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: replace(page, commitments=page.commitments + ENTRY)


@attack("MALFORMED")
def more_entries_than_a_page_holds(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: replace(page, commitments=ENTRY * 1001)


@attack("MALFORMED")
def a_page_that_skips_one(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: replace(page, start=page.start + 1)


@attack("MALFORMED")
def a_page_that_begins_again(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: replace(page, start=0)


@attack("MALFORMED")
def endless_empty_pages(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.stream = lambda messages: [*messages[:1], *[LogPage(3, b"", [])] * 100_000]


# What is in an opening


@attack("PROOF")
def a_changed_record(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: change_opening(page, record=page.openings[0].record.replace(b"0.10", b"0.01"))


@attack("PROOF")
def another_salt(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: change_opening(page, salt=ENTRY)


@attack("MALFORMED")
def a_short_salt(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: change_opening(page, salt=page.openings[0].salt[:-1])


@attack("MALFORMED")
def a_record_of_two_mebibytes(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: change_opening(page, record=b"x" * 2**21)


@attack("MALFORMED")
def an_opening_twice(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: replace(page, openings=[page.openings[0], *page.openings])


@attack("MALFORMED")
def an_opening_of_no_entry(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: change_opening(page, index=2**63)


@attack("MALFORMED")
def an_impossible_sequence_number(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.page = lambda page: change_opening(page, sequence=2**64 - 1)


@attack("MALFORMED")
def an_opening_for_another_reader(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.reader = lambda _: "jinan"


@attack("PROOF")
def a_held_record_with_other_words(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.stream = lambda messages: [*messages[:1], LogPage(8, b"", [Opening(0, bytes(32), b"{}", 99)])]


# What is told beside the log


@attack("MALFORMED")
def a_note_of_our_log_that_is_none(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.exchange = lambda answer: replace(answer, caller_note=b"nonsense")


@attack("SIGNATURE")
def a_note_of_our_log_that_we_did_not_sign(peer: Tampering, alliance: SimulatedAlliance) -> None:
    peer.exchange = lambda answer: replace(answer, caller_note=checkpoint(9, ENTRY, JINAN, log=QINGDAO))


def a_roster_of_its_own(peer: Tampering) -> None:
    peer.exchange = lambda answer: replace(answer, roster_version=3)
    peer.rosters = lambda _: [sign_roster(build_roster([JINAN, QINGDAO], title="Ours"), JINAN)]


def a_card_in_anothers_name(peer: Tampering) -> None:
    peer.exchange = lambda answer: replace(answer, cards_digest=ENTRY)
    peer.cards = lambda _: [sign_card(build_card(YANTAI, seq=2, previous="0" * 64), JINAN)]


@pytest.mark.parametrize("perform", [a_roster_of_its_own, a_card_in_anothers_name])
def test_a_forged_membership_is_an_alarm_and_keeps_no_record_out(
    ready: SimulatedAlliance, perform: Callable[[Tampering], None]
) -> None:
    qingdao = ready["qingdao"]
    alliance_before = qingdao.membership.joined
    perform(ready.tampering)
    state = ready.catch_up("qingdao", "jinan")
    assert qingdao.membership.joined == alliance_before
    assert qingdao.alarms
    assert "jinan passed on a roster or card that cannot be taken" in qingdao.alarms[0]
    assert (state.state, state.error) == ("connected", "")


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_changes_nothing_and_is_shown(ready: SimulatedAlliance, name: str) -> None:
    perform, reason = ATTACKS[name]
    qingdao = ready["qingdao"]
    before, alliance_before = visible(qingdao.store), qingdao.membership.joined
    perform(ready.tampering, ready)
    state = ready.follow("qingdao", "jinan", failed)
    assert (state.reason, state.state) == (reason, "quarantined" if reason == "SPLIT_VIEW" else "refused")
    assert state.error
    assert (state.verified, state.failing_since_ms) in ((3, 0), (0, 0))
    assert visible(qingdao.store) == before
    assert qingdao.membership.joined == alliance_before
    assert len(qingdao.splits) == (reason == "SPLIT_VIEW")
    ready.tampering = Tampering()
    state = ready.catch_up("qingdao", "jinan")
    assert (state.state, state.error, state.reason) == ("connected", "", "")
    assert len(visible(qingdao.store).records) == 6


def test_the_evidence_of_a_split_view_is_kept(ready: SimulatedAlliance) -> None:
    another_history_of_the_same_size(ready.tampering, ready)
    ready.follow("qingdao", "jinan", failed)
    (split,) = ready["qingdao"].splits
    held = ready["qingdao"].mirror_of("jinan").head_note
    assert (split.size, split.held_note, split.offered_note) == (3, held, checkpoint(3, ENTRY))


def test_a_fault_is_not_repeated_at_once(ready: SimulatedAlliance) -> None:
    a_truncated_page(ready.tampering, ready)
    ready.follow("qingdao", "jinan", failed)
    assert (len(ready.reads), ready.closed) == (1, 1)


class TestStagingBytes:
    def test_more_than_the_limit_is_refused(self, ready: SimulatedAlliance) -> None:
        before = visible(ready["qingdao"].store)
        state = ready.follow("qingdao", "jinan", failed, limits=StagingLimits(bytes=300))
        assert (state.reason, state.state) == ("STAGING_LIMIT", "refused")
        assert visible(ready["qingdao"].store) == before
        assert ready["qingdao"].mirror_of("jinan").staged.size == 3

    def test_openings_that_follow_their_commitments_count_too(self, ready: SimulatedAlliance) -> None:
        before = visible(ready["qingdao"].store)
        log = build_log(JINAN, 60)
        late = [LogPage(60, b"", [log.opening(i)]) for i in range(3, 60)]
        ready.tampering.stream = lambda messages: [
            bytes(ready["jinan"].store.checkpoints.find(1, 3) or b""),
            checkpoint(61, ENTRY),
            log.page(3, 60, openings=[]),
            *late,
        ]
        state = ready.follow("qingdao", "jinan", failed, limits=StagingLimits(bytes=5000))
        assert (state.reason, state.state) == ("STAGING_LIMIT", "refused")
        assert visible(ready["qingdao"].store) == before

    def test_what_was_verified_does_not_count(self, alliance: SimulatedAlliance) -> None:
        limits = StagingLimits(bytes=900)
        for i in range(6):
            alliance["jinan"].push(*drafts(3, f"B{i}"))
            alliance.catch_up("qingdao", "jinan", limits=limits)
        another = checkpoint(21, ENTRY)
        alliance["jinan"].push(*drafts(3, "LAST"))
        alliance.tampering.announcement = lambda _: another
        assert alliance.follow("qingdao", "jinan", failed, limits=limits).reason == "PROOF"
        alliance.tampering = Tampering()
        alliance.catch_up("qingdao", "jinan", limits=limits)
        assert len(visible(alliance["qingdao"].store).records) == 21
        assert (alliance.reads[-1].start, alliance.reads[-1].after) == (18, 18)
