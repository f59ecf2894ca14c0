"""Openings come back with their entries, from whichever peer holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from node.core.checkpoint import Checkpoint, sign_checkpoint
from node.core.entry import LogPage
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts
from tests.simulated_client import Tampering
from tests.soundness import require_sound
from tests.sync.recovering import JINAN, found, keys, publish, shown, state


class TestOpenings:
    def test_each_peer_gives_back_what_it_may_read(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("Q", audience=["qingdao"]), draft("Y", audience=["yantai"]), draft("SECRET", audience=[]))
        alliance.catch_up("yantai", "jinan")
        jinan.roll_back(snapshot)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 6, 6)
        rebase = jinan.store.rebase
        assert [index for index, _ in rebase.read_unopened(jinan.ledger.log, start=0, limit=10)] == [4, 5]
        assert keys(jinan)[3:] == ["Q"]
        alliance.meet("jinan", "yantai")
        assert [index for index, _ in rebase.read_unopened(jinan.ledger.log, start=0, limit=10)] == [5]
        assert rebase.count_unopened(jinan.ledger.log) == 1
        assert keys(jinan)[3:] == ["Q", "Y"]
        while jinan.store.search.advance():
            pass
        assert found(jinan, "Y") == ["Y"]
        reads = len(alliance.reads)
        alliance.meet("jinan", "yantai", "qingdao", "qingdao")
        assert len(alliance.reads) == reads  # each peer was asked once
        require_sound(jinan)

    def test_an_opening_that_says_what_an_unpublished_record_says(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        """Its revision was taken: the unpublished record becomes the next one, before anything is signed."""
        publish(alliance, draft("K", "1", audience=["yantai"]), to=("qingdao", "yantai"))
        publish(alliance, draft("LAST"), to=("yantai",))
        jinan.roll_back(snapshot)
        jinan.clock.turn(5)
        jinan.push(draft("K", "2"), draft("NEW"))
        alliance.meet("jinan", "yantai")
        assert (shown(jinan, "K")["revision"], shown(jinan, "K")["body"]["value"]) == (2, "2")
        assert state(jinan) == (True, 7, 7)
        require_sound(jinan)

    @pytest.mark.parametrize("alliance", [4], indirect=True)
    def test_an_opening_found_while_the_rest_waits(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("K", "1", audience=["yantai"]), to=("qingdao", "yantai"))
        jinan.roll_back(snapshot)
        jinan.clock.turn(5)
        jinan.push(draft("K", "2"), draft("NEW"))
        # A third length that nobody delivers keeps the node from signing.
        root = jinan.store.logs.tree(jinan.ledger.log.id).root(3)
        far = sign_checkpoint(Checkpoint(JINAN.origin, 90, root), jinan.lab.log)
        jinan.confirmation.accept_told("weifang", bytes(far))
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (False, 4, 6)
        assert shown(jinan, "K")["revision"] == 1
        alliance.meet("jinan", "yantai")
        assert state(jinan) == (False, 4, 6)
        assert shown(jinan, "K")["revision"] == 2
        require_sound(jinan)

    def test_openings_that_do_not_fit_are_refused(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, draft("Y", audience=["yantai"]), to=("qingdao", "yantai"))
        jinan.roll_back(snapshot)
        alliance.meet("jinan", "qingdao")

        def forge(page: LogPage) -> LogPage:
            return replace(page, openings=[replace(opening, salt=bytes(32)) for opening in page.openings])

        alliance.tampering = Tampering(page=forge)
        alliance.meet("jinan", "yantai")
        assert jinan.store.rebase.count_unopened(jinan.ledger.log) == 1
        require_sound(jinan)

    @pytest.mark.parametrize(
        "repeat",
        [
            lambda messages: [*messages, *messages],
            lambda messages: [messages[0], *messages] if messages else [],
            lambda messages: [item for item in messages if isinstance(item, LogPage)] * 3,
        ],
    )
    def test_pages_out_of_turn_end_the_stream(
        self,
        alliance: SimulatedAlliance,
        jinan: SimulatedMember,
        snapshot: Path,
        repeat: Callable[[Sequence[bytes | LogPage]], Iterable[bytes | LogPage]],
    ) -> None:
        publish(alliance, draft("Y", audience=["yantai"]), to=("qingdao", "yantai"))
        jinan.roll_back(snapshot)
        alliance.meet("jinan", "qingdao")
        alliance.tampering = Tampering(stream=repeat)
        alliance.meet("jinan", "yantai")
        assert jinan.confirmation.confirmed
        require_sound(jinan)


class TestSeveralPeers:
    def test_the_longest_that_verifies_counts(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, *drafts(2, "A"), to=("qingdao", "yantai"))
        publish(alliance, *drafts(2, "B"), to=("yantai",))
        jinan.roll_back(snapshot)
        jinan.confirmation.accept_told("yantai", alliance["yantai"].exchange.note_for("jinan"))
        jinan.push(draft("NEW"))
        alliance.meet("jinan", "qingdao")
        assert (state(jinan), jinan.confirmation.longer) == ((False, 5, 6), ("yantai", 7))
        alliance.meet("jinan", "yantai")
        assert (state(jinan), jinan.confirmation.longer) == ((True, 8, 8), None)
        require_sound(jinan)
        alliance.catch_up("qingdao", "jinan")
        alliance.catch_up("yantai", "jinan")

    def test_one_that_comes_after_a_confirmation_but_before_a_signature(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path
    ) -> None:
        publish(alliance, *drafts(2, "A"), to=("yantai",))
        jinan.roll_back(snapshot)
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (True, 3, 3)
        alliance.meet("jinan", "yantai")
        assert state(jinan) == (True, 5, 5)

    @pytest.mark.parametrize(
        "tampering",
        [
            Tampering(stream=lambda messages: []),
            Tampering(stream=lambda messages: [item for item in messages if not isinstance(item, LogPage)]),
            Tampering(page=lambda page: replace(page, commitments=bytes(len(page.commitments)), openings=[])),
            Tampering(page=lambda page: replace(page, start=page.start + 1)),
            Tampering(announcement=lambda note: note.replace(b"\n5\n", b"\n6\n")),
        ],
    )
    def test_one_that_does_not_deliver_blocks_nobody(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, snapshot: Path, tampering: Tampering
    ) -> None:
        publish(alliance, *drafts(2, "A"), to=("qingdao", "yantai"))
        jinan.roll_back(snapshot)
        jinan.push(draft("NEW"))
        alliance.tampering = tampering
        alliance.meet("jinan", "qingdao")
        assert state(jinan) == (False, 3, 4)
        [sentence] = jinan.recovery.sentences()
        assert sentence.startswith("qingdao has shown that it holds entries of this member's log")
        require_sound(jinan)
        alliance.tampering = Tampering()
        alliance.meet("jinan", "yantai")
        assert state(jinan) == (True, 6, 6)
        alliance.meet("jinan", "qingdao")
        require_sound(jinan)
