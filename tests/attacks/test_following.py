"""What an attack means for the work around it: bounds add up, faults are not repeated, records still arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from node.core.checkpoint import parse_checkpoint
from node.core.entry import LogPage
from node.core.evidence import format_evidence
from node.core.mirror import StagingLimits
from node.sync.peer import PeerState
from tests.alliance import drafts, visible
from tests.attacks import accusations, equivocation, keys, rosters, transport
from tests.attacks.scene import HELD, JINAN, QINGDAO, SIZE, Scene, signed_by_jinan
from tests.attacks.surfaces import failed
from tests.builders import build_log, build_roster, sign_roster
from tests.simulated_client import Tampering

ENTRY = bytes(range(32))


def a_roster_of_its_own(scene: Scene) -> None:
    told = sign_roster(build_roster([JINAN, QINGDAO], title="Ours"), JINAN)
    scene.peer.exchange = lambda answer: replace(answer, roster_version=9)
    scene.peer.rosters = lambda _: [told]


def a_card_in_anothers_name(scene: Scene) -> None:
    told = keys.a_card_that_another_member_signed(scene)
    scene.peer.exchange = lambda answer: replace(answer, cards_digest=ENTRY)
    scene.peer.cards = lambda _: [told]


@pytest.mark.parametrize("perform", [a_roster_of_its_own, a_card_in_anothers_name])
def test_a_forged_membership_is_an_alarm_and_keeps_no_record_out(scene: Scene, perform: Callable[[Scene], None]) -> None:
    joined = scene.joined
    perform(scene)
    state = scene.alliance.catch_up("qingdao", "jinan")
    assert scene.joined == joined
    proved = [sentence for sentence in scene.reader.evidence.alarms() if sentence.startswith("jinan signed two")]
    told = ("jinan passed on a roster or card that cannot be taken: ", "jinan signed a card that cannot be taken: ")
    assert proved or scene.reader.alarms[0].startswith(told)
    assert (state.state, state.error, state.verified) == ("connected", "", SIZE)


def test_the_evidence_of_a_split_view_is_kept(scene: Scene) -> None:
    scene.peer.announcement = equivocation.another_history_of_the_verified_size
    scene.alliance.follow("qingdao", "jinan", failed)
    (split,) = scene.reader.splits
    held, kept = scene.reader.mirror_of("jinan").head, parse_checkpoint(split.held_note)
    assert held is not None
    assert (split.size, kept.checkpoint, split.offered_note) == (HELD, held.checkpoint, signed_by_jinan(HELD, ENTRY))


def test_true_evidence_is_taken_where_false_is_refused(scene: Scene) -> None:
    """The accusations in the table differ from this one by what makes them false."""
    with scene.undone():
        evidence = accusations.with_notes(accusations.honest(scene), *accusations.guilty())
        assert scene.reader.evidence.accept(format_evidence(evidence), peer="yantai")
        assert scene.reader.evidence.split_view_of("jinan") is not None
        assert any("jinan" in sentence for sentence in scene.reader.evidence.alarms())


def test_a_fault_is_not_repeated_at_once(scene: Scene) -> None:
    scene.peer.page = transport.a_truncated_page
    state = scene.alliance.follow("qingdao", "jinan", failed)
    assert (state.verified, state.failing_since_ms) == (HELD, 0)
    assert (len(scene.alliance.reads), scene.alliance.closed) == (1, 1)


def test_a_fork_by_the_council_is_refused_by_everyone(scene: Scene) -> None:
    raw = rosters.a_fork_signed_by_the_whole_council(scene)
    for member in (scene.reader, scene.yantai, scene.jinan):
        held = member.membership.joined
        update = member.membership.accept_update([raw], [])
        assert (update.changed, update.faults, [pair[1] for pair in update.conflicts]) == (False, (), [raw])
        assert member.membership.joined is held


class TestStagingBytes:
    def refused_at(self, scene: Scene, limit: int) -> PeerState:
        before = visible(scene.reader.store)
        state = scene.alliance.follow("qingdao", "jinan", failed, limits=StagingLimits(bytes=limit))
        assert visible(scene.reader.store) == before
        return state

    def test_more_than_the_limit_is_refused(self, scene: Scene) -> None:
        state = self.refused_at(scene, 300)
        assert (state.reason, state.state) == ("STAGING_LIMIT", "refused")
        assert scene.reader.mirror_of("jinan").staged.size == HELD

    def test_openings_that_follow_their_commitments_count_too(self, scene: Scene) -> None:
        log = build_log(JINAN, 60)
        late = [LogPage(60, b"", [log.opening(i)]) for i in range(HELD, 60)]
        start, announced = bytes(scene.checkpoint(HELD)), signed_by_jinan(61, ENTRY)
        scene.peer.stream = lambda messages: [start, announced, log.page(HELD, 60, openings=[]), *late]
        state = self.refused_at(scene, 5000)
        assert (state.reason, state.state) == ("STAGING_LIMIT", "refused")

    def test_what_was_verified_does_not_count(self, scene: Scene) -> None:
        limits = StagingLimits(bytes=900)
        with scene.other() as alliance:
            for i in range(6):
                alliance["jinan"].push(*drafts(3, f"B{i}"))
                alliance.catch_up("qingdao", "jinan", limits=limits)
            alliance["jinan"].push(*drafts(3, "LAST"))
            alliance.tampering.page = lambda page: replace(page, commitments=bytes(32) + page.commitments[32:])
            assert alliance.follow("qingdao", "jinan", failed, limits=limits).reason == "PROOF"
            alliance.tampering = Tampering()
            alliance.catch_up("qingdao", "jinan", limits=limits)
            assert len(visible(alliance["qingdao"].store).records) == 21
            assert (alliance.reads[-1].start, alliance.reads[-1].after) == (18, 18)
