"""What followers make of rosters: a fork comes to light at the next contact, and whoever is removed is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from node.core.alliance import format_roster
from node.core.amendment import AddMembers, RemoveMember, Renew
from node.core.standing import build_notices
from node.membership import Update
from node.sync.peer import Exchange
from node.sync.peers import tell_removed
from tests.alliance import SimulatedAlliance, SimulatedMember, wait_until
from tests.builders import Lab, build_card, sign_card, sign_roster

ZIBO = Lab("zibo")


def fork(alliance: SimulatedAlliance) -> tuple[bytes, bytes]:
    """Jinan signs two rosters of version 3, and shows one to qingdao, the other to yantai."""
    held = alliance["jinan"].membership.joined
    one, other = (
        sign_roster(replace(held.roster, version=3, previous=held.fingerprint, title=title), alliance["jinan"].lab)
        for title in ("One", "Another")
    )
    assert alliance["qingdao"].membership.accept_update([one], []).changed
    assert alliance["yantai"].membership.accept_update([other], []).changed
    return one, other


def note_asked(member: SimulatedMember, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After which versions a member is asked for rosters, by whomever."""
    asked: list[int] = []
    newer_than = member.membership.newer_than

    def noted(version: int, held_cards: Mapping[str, int]) -> tuple[list[bytes], list[bytes]]:
        asked.append(version)
        return newer_than(version, held_cards)

    monkeypatch.setattr(member.membership, "newer_than", noted)
    return asked


class TestForks:
    @pytest.mark.parametrize("later", [0, 1, 2])
    def test_two_nodes_with_other_rosters_of_one_version_find_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int
    ) -> None:
        """Also when one of them has gone on, so that the versions differ."""
        alliance = SimulatedAlliance(tmp_path, 3)
        one, other = fork(alliance)
        for number in range(later):
            held = alliance["yantai"].membership.joined
            following = replace(held.roster, version=4 + number, previous=held.fingerprint)
            raw = sign_roster(following, alliance["jinan"].lab)
            assert alliance["yantai"].membership.accept_update([raw], []).changed
        membership = alliance["qingdao"].membership
        updates: list[Update] = []
        accept = membership.accept_update

        def noted(*args: list[bytes], teller: str = "") -> Update:
            updates.append(accept(*args, teller=teller))
            return updates[-1]

        monkeypatch.setattr(membership, "accept_update", noted)
        alliance.follow("qingdao", "yantai", lambda state: alliance["qingdao"].evidence.pieces())
        assert [update.conflicts for update in updates if update.conflicts] == [((one, other),)]
        assert membership.joined.roster.title == "One", "the one held first stays"
        alliance.close()

    def test_the_same_other_roster_is_looked_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        alliance = SimulatedAlliance(tmp_path, 3)
        fork(alliance)
        asked = note_asked(alliance["yantai"], monkeypatch)
        contacts: list[int] = []

        def count(answer: Exchange) -> Exchange:
            contacts.append(1)
            return answer

        alliance.tampering.exchange = count
        alliance.follow("qingdao", "yantai", lambda state: len(contacts) > 4, contact_interval_s=0.01)
        assert asked.count(0) == 1
        alliance.close()

    def test_honest_peers_are_not_asked_for_what_is_held(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        alliance = SimulatedAlliance(tmp_path, 3)
        alliance["jinan"].membership.amend(Renew())
        asked = note_asked(alliance["jinan"], monkeypatch)
        membership = alliance["yantai"].membership
        alliance.follow("yantai", "jinan", lambda state: membership.joined.roster.version == 3)
        assert asked == [2]
        assert alliance["yantai"].alarms == []
        alliance.close()


def test_who_tells_the_other_side_of_a_fork_is_blamed_for_nothing(tmp_path: Path) -> None:
    """Neither for the roster that it holds, nor for the evidence that it made under it."""
    alliance = SimulatedAlliance(tmp_path, 3)
    _, other = fork(alliance)
    reader = alliance["qingdao"]
    alliance["yantai"].evidence.accept_conflicts(
        alliance["yantai"].membership.accept_update(alliance.exported("qingdao")[0], []).conflicts
    )
    assert [piece.member for piece in alliance["yantai"].evidence.pieces()] == ["jinan"]
    alliance.follow("qingdao", "yantai", lambda state: state.state == "connected" and alliance.reads)
    assert [(piece.kind, piece.member) for piece in reader.evidence.pieces()] == [("roster", "jinan")]
    assert format_roster(reader.membership.joined.rosters[2]) != other
    assert reader.alarms == []
    alliance.close()


class TestFarewell:
    def test_a_removed_member_is_told_the_roster_that_removed_it(self, tmp_path: Path) -> None:
        alliance = SimulatedAlliance(tmp_path, 3)

        async def work() -> None:
            async with alliance.all_connected() as running:
                await wait_until(lambda: "yantai" in running["jinan"].states)
                await asyncio.to_thread(alliance["jinan"].membership.amend, RemoveMember("yantai"))
                membership = alliance["yantai"].membership
                await wait_until(lambda: membership.joined.roster.version == 3)

        alliance.run(work)
        yantai = alliance["yantai"]
        (notice,) = build_notices(yantai.membership.joined, "yantai", yantai.lab.identity_key, now=alliance.clock())
        assert "yantai was removed from quality.jinan.example by roster version 3" in notice.sentence
        alliance.close()

    def test_one_that_is_away_or_has_no_address_holds_nobody_up(self, tmp_path: Path) -> None:
        alliance = SimulatedAlliance(tmp_path, 3)
        silent = sign_card(build_card(ZIBO, endpoints=()), ZIBO)
        jinan = alliance["jinan"].membership
        jinan.amend(AddMembers((silent,)))
        for member in ("yantai", "zibo"):
            jinan.amend(RemoveMember(member))
        alliance.unreachable.add("yantai")

        async def work() -> None:
            for member in ("yantai", "zibo", "nobody"):
                await tell_removed(alliance.parts("jinan"), member)

        alliance.run(work)
        assert alliance.closed == 1, "the connection that was tried is given up"
        assert alliance["yantai"].membership.joined.roster.version == 2
        chain = [format_roster(item) for item in jinan.joined.rosters]
        assert alliance["yantai"].membership.accept_update(chain, []).changed
        alliance.close()
