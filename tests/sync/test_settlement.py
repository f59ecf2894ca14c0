"""The council says which of two histories survives: those who held the other one give it up, and go on."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from node.core.checkpoint import parse_checkpoint
from node.core.roster import Head
from tests.alliance import SimulatedAlliance, drafts, list_all, visible
from tests.builders import Lab, build_log, sign_roster
from tests.evidence_cases import LABS, build_fork
from tests.sync.disputes import JINAN, YANTAI, settle
from tests.sync.equivocation import contact, holders, show
from tests.two_signers import build_two_signers


class TestSettlement:
    """Jinan showed qingdao seven entries and yantai nine others; they met, and the council decides."""

    @pytest.fixture
    def forked(self, alliance: SimulatedAlliance) -> SimulatedAlliance:
        alliance["jinan"].push(*drafts(3, "COMMON"))
        for name in ("qingdao", "yantai"):
            alliance.catch_up(name, "jinan")
        log = build_log(JINAN)
        page = alliance["jinan"].store.logs.read_page(alliance["jinan"].ledger.log, start=0, stop=3, reader="jinan")
        for opening in page.openings:
            log.records.append(opening.record)
            log.salts.append(opening.salt)
        log.commitments = [page.commitments[i : i + 32] for i in range(0, 96, 32)]
        log.frontier = log.frontier.extend(log.commitments)[0]
        log.append_numbered(6)
        show(alliance, "yantai", log)
        alliance["jinan"].push(*drafts(4, "TRUE"))
        alliance.catch_up("qingdao", "jinan")
        contact(alliance, "qingdao", "yantai")
        assert holders(alliance, "jinan") == ["qingdao", "yantai"]
        return alliance

    def test_who_holds_the_survivor_goes_on_and_the_other_begins_again(self, forked: SimulatedAlliance) -> None:
        jinan = forked["jinan"]
        settle(forked, Head(7, jinan.ledger.checkpoint.root))
        assert holders(forked, "jinan") == []
        assert [piece.settled for piece in forked["yantai"].evidence.pieces()] == [
            "the roster names the history that survives, up to size 7"
        ]
        assert forked["yantai"].exchange.note_for("jinan")
        assert forked["yantai"].exchange.held_notes() == []  # the other history is not told any more
        jinan.push(*drafts(2, "NEXT"))
        for name in ("qingdao", "yantai"):
            forked.catch_up(name, "jinan")
            assert [item.record for item in list_all(forked[name].store)] == [item.record for item in list_all(jinan.store)]
            assert forked[name].mirror_of("jinan").head_note == jinan.ledger.log.head_note
        contact(forked, "qingdao", "yantai")
        contact(forked, "yantai", "qingdao")
        assert holders(forked, "jinan") == []

    def test_who_has_not_heard_of_it_may_still_tell_the_other(self, forked: SimulatedAlliance) -> None:
        """Qingdao has heard, and followed on past the other history; yantai tells what it holds under the older roster."""
        told = forked["yantai"].exchange.held_notes()
        settle(forked, Head(7, forked["jinan"].ledger.checkpoint.root))
        forked["jinan"].push(*drafts(5, "NEXT"))
        forked.catch_up("qingdao", "jinan")
        version = forked["qingdao"].membership.joined.roster.version
        assert forked["qingdao"].exchange.accept_notes(told, peer="yantai", version=version - 1) == (0, [])
        assert holders(forked, "jinan") == []
        forked["qingdao"].exchange.accept_notes(told, peer="yantai", version=version)
        assert holders(forked, "jinan") == ["qingdao"]

    def test_what_was_on_its_way_while_it_was_decided_is_no_news(self, forked: SimulatedAlliance) -> None:
        """Told under the older roster, looked at under the newer: neither remembered nor held against the survivor."""
        qingdao, (dead,) = forked["qingdao"], forked["yantai"].exchange.held_notes()
        settle(forked, Head(7, forked["jinan"].ledger.checkpoint.root))
        qingdao.exchange.note_announced(parse_checkpoint(dead), surviving=None)
        forked["jinan"].push(*drafts(5, "NEXT"))
        forked.catch_up("qingdao", "jinan")
        assert holders(forked, "jinan") == []
        qingdao.exchange._require_same_history(qingdao.mirror_of("jinan"), parse_checkpoint(dead), None)
        assert holders(forked, "jinan") == []

    def test_the_other_history_is_refused_from_a_new_reader(self, forked: SimulatedAlliance) -> None:
        """Even by one who begins with nothing: page after page up to the head that the roster names."""
        other = forked["yantai"].mirror_of("jinan")
        settle(forked, Head(other.head_size, other.head_frontier.root()))
        forked["jinan"].push(*drafts(4, "NEXT"))
        held = visible(forked["qingdao"].store)
        state = forked.follow("qingdao", "jinan", lambda state: state.state == "refused")
        assert "not the history that the roster lets survive" in state.error
        # Qingdao ends before the named size, and nobody has shown it the survivor: nothing is given up.
        assert visible(forked["qingdao"].store) == held

    def test_a_removal_settles_it_too(self, forked: SimulatedAlliance) -> None:
        founder = forked["jinan"].membership
        assert founder.member == "jinan"  # the council cannot be asked to remove itself; another member may be
        show(forked, "jinan", build_fork(YANTAI, 1, 4)[0])
        show(forked, "qingdao", build_fork(YANTAI, 1, 4, 6)[1])
        contact(forked, "jinan", "qingdao")
        assert holders(forked, "yantai") == ["jinan", "qingdao"]
        founder.remove_member("yantai")
        assert "yantai" not in holders(forked, "yantai") and forked["jinan"].evidence.split_view_of("yantai") is None
        assert [piece.settled for piece in forked["jinan"].evidence.pieces() if piece.member == "yantai"] == [
            "yantai was removed"
        ]

    def test_a_replaced_council_key_convicts_nobody_any_more(self, alliance: SimulatedAlliance) -> None:
        """Its thief signs another roster of a version that is long in force; the owner has a new key then."""
        before, anew = alliance["jinan"].membership.joined, Lab("anew")
        told = [sign_roster(replace(before.roster, title=f"Of a thief {i}"), JINAN) for i in range(2)]
        line = replace(before.roster.members["jinan"], identity_key=anew.identity_key)
        members = {**before.roster.members, "jinan": line}
        rekeyed = replace(before.roster, version=before.roster.version + 1, previous=before.fingerprint)
        rekeyed = replace(rekeyed, members=members, council=(anew.identity_key,))
        for member in (alliance["qingdao"], alliance["yantai"]):
            member.evidence.accept_conflicts(member.membership.accept_update(told[:1], []).conflicts)
            assert [(piece.kind, piece.member, piece.stands) for piece in member.evidence.pieces()] == [
                ("roster", "jinan", True)
            ]
            assert member.membership.accept_update([sign_roster(rekeyed, JINAN, anew)], []).changed
            update = member.membership.accept_update(told[1:], [])
            assert len(update.conflicts) == 1
            member.evidence.accept_conflicts(update.conflicts)
            assert "has replaced the identity key of jinan" in member.evidence.pieces()[0].settled
            assert (len(member.evidence.pieces()), member.evidence.alarms()) == (1, [])

    @pytest.mark.parametrize("late", [False, True], ids=["found before", "found after"])
    @pytest.mark.parametrize(("liar", "victim"), [*permutations(LABS, 2)], ids=lambda lab: lab.member)
    def test_a_liar_is_not_cleared_with_the_key_that_it_stole(
        self, alliance: SimulatedAlliance, liar: Lab, victim: Lab, late: bool
    ) -> None:
        reader = alliance[next(lab.member for lab in LABS if lab not in (liar, victim))]
        made = build_two_signers(reader.membership.joined, LABS, liar, victim)
        rosters = [made.before, made.pair[0], made.rekeying]
        assert reader.membership.accept_update(rosters if late else rosters[:2], []).changed
        reader.evidence.accept_conflicts(reader.membership.accept_update([made.pair[1]], []).conflicts)
        if not late:
            assert {piece.member for piece in reader.evidence.pieces() if piece.stands} == {liar.member, victim.member}
            assert reader.membership.accept_update([made.rekeying], []).changed
        assert [piece.member for piece in reader.evidence.pieces() if piece.stands] == [liar.member]
        (alarm,) = reader.evidence.alarms()
        assert f"{liar.member} signed two rosters of version" in alarm
        reader.reopen()
        assert reader.evidence.alarms() == [alarm]
