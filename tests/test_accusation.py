"""A file that a person brings and a node refuses: what it proves against a member is kept, and told with the refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labmesh.v1 import node_pb2
from node.accusation import accusing_proposal, find_conflicts, import_accusing
from node.core.alliance import format_card, format_roster
from node.core.amendment import Renew, SeatCouncil, SetQuorum
from node.core.card import parse_card
from node.core.proposal import format_proposal, parse_proposal
from node.core.roster import parse_roster
from node.errors import FormatError, GovernanceError, LabmeshError
from node.held_evidence import HeldEvidence
from tests.alliance import SimulatedAlliance, SimulatedMember
from tests.attacks.calling import caller, node_servicer, refused
from tests.builders import Lab, sign_card, sign_roster


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Jinan, qingdao and yantai at roster version 3; the council is jinan and qingdao, and both must sign."""
    made = SimulatedAlliance(tmp_path, 3)
    seated = made["jinan"].membership.amend(SeatCouncil(("jinan", "qingdao"), 2))
    assert made["qingdao"].membership.sign_proposal(seated.proposal).complete
    for member in made.members.values():
        assert member.membership.accept_update(*made.exported("qingdao")).faults == ()
    yield made
    made.close()


def other_roster(alliance: SimulatedAlliance, *signers: Lab) -> bytes:
    """Another roster of the newest version, with another title."""
    roster = alliance["yantai"].membership.joined.roster
    return sign_roster(replace(roster, title="Another Alliance"), *signers)


def other_card(member: SimulatedMember, signer: Lab | None = None) -> bytes:
    """Another card of the `seq` that the member's newest has."""
    return sign_card(replace(member.membership.own_card[1], name="Another name"), signer or member.lab)


def brought(member: SimulatedMember, rosters: list[bytes], cards: list[bytes]) -> LabmeshError:
    """What `join FILE` is told by the running node."""
    request = node_pb2.ImportAllianceRequest(rosters=rosters, cards=cards)
    error = refused(node_servicer(member).ImportAlliance(request, caller()))
    assert error.reason == GovernanceError.reason, error
    return error


def pieces(member: SimulatedMember) -> list[tuple[str, str, bool]]:
    return [(piece.kind, piece.member, piece.stands) for piece in member.evidence.pieces()]


def only_piece(member: SimulatedMember) -> HeldEvidence:
    (piece,) = member.evidence.pieces()
    return piece


class TestRosters:
    def test_another_roster_of_a_held_version(self, alliance: SimulatedAlliance) -> None:
        yantai = alliance["yantai"]
        before = yantai.membership.joined.fingerprint
        error = brought(yantai, [other_roster(alliance, alliance["jinan"].lab)], [])
        assert pieces(yantai) == [("roster", "jinan", True)]
        assert error.message.startswith("another roster of version 3 is already held; kept as evidence")
        assert error.message.endswith("jinan signed two rosters of version 3")
        assert f"labmesh evidence export {only_piece(yantai).id} -o FILE" in error.hint
        assert yantai.membership.joined.fingerprint == before

    def test_it_is_there_after_a_restart_and_told(self, alliance: SimulatedAlliance) -> None:
        yantai = alliance["yantai"]
        brought(yantai, [other_roster(alliance, alliance["jinan"].lab)], [])
        yantai.reopen()
        assert pieces(yantai) == [("roster", "jinan", True)]
        assert [raw for _, raw in yantai.evidence.untold("qingdao")] == [yantai.evidence.export(only_piece(yantai).id)[1]]

    def test_brought_twice_is_said_twice_and_kept_once(self, alliance: SimulatedAlliance) -> None:
        yantai, other = alliance["yantai"], other_roster(alliance, alliance["jinan"].lab)
        first, second = brought(yantai, [other], []), brought(yantai, [other], [])
        assert (first.message, first.hint) == (second.message, second.hint)
        assert len(yantai.evidence.pieces()) == 1

    def test_in_a_chain_with_what_is_held(self, alliance: SimulatedAlliance) -> None:
        yantai = alliance["yantai"]
        chain = [format_roster(item) for item in yantai.membership.joined.rosters[:-1]]
        brought(yantai, [*chain, other_roster(alliance, alliance["qingdao"].lab)], [])
        assert pieces(yantai) == [("roster", "qingdao", True)]

    @pytest.mark.parametrize("signer", ["yantai", "zibo"])
    def test_by_nobody_of_the_council_proves_nothing(self, alliance: SimulatedAlliance, signer: str) -> None:
        yantai = alliance["yantai"]
        error = brought(yantai, [other_roster(alliance, Lab(signer))], [])
        assert error.message == "another roster of version 3 is already held"
        assert pieces(yantai) == []

    def test_nothing_is_kept_of_a_file_that_is_taken(self, alliance: SimulatedAlliance) -> None:
        yantai = alliance["yantai"]
        import_accusing(yantai.membership, lambda: yantai.evidence, *alliance.exported("jinan"), fingerprint=None)
        assert pieces(yantai) == []

    def test_what_the_council_has_settled_is_not_held_against_anybody_again(self, alliance: SimulatedAlliance) -> None:
        yantai, other = alliance["yantai"], other_roster(alliance, alliance["qingdao"].lab)
        brought(yantai, [other], [])
        council = alliance["jinan"].membership, alliance["qingdao"].membership
        seated = council[0].amend(SeatCouncil(("jinan",), 1))
        council[1].sign_proposal(seated.proposal)
        for member in (alliance["jinan"], yantai):
            member.membership.accept_update(*alliance.exported("qingdao"))
        council[0].remove_member("qingdao")
        yantai.membership.accept_update(*alliance.exported("jinan"))
        assert pieces(yantai) == [("roster", "qingdao", False)]
        assert brought(yantai, [other], []).message == "another roster of version 3 is already held"


class TestCards:
    def test_another_card_of_one_seq(self, alliance: SimulatedAlliance) -> None:
        yantai, jinan = alliance["yantai"], alliance["jinan"]
        held = yantai.membership.joined.cards["jinan"]
        error = brought(yantai, [], [other_card(jinan)])
        assert pieces(yantai) == [("card", "jinan", True)]
        assert "jinan signed two cards with seq 1" in error.message
        assert f"labmesh evidence export {only_piece(yantai).id} -o FILE" in error.hint
        assert yantai.membership.joined.cards["jinan"] == held

    def test_only_the_member_of_the_card_is_named(self, alliance: SimulatedAlliance) -> None:
        """Both cards have one `seq`, and are of two members."""
        yantai = alliance["yantai"]
        brought(yantai, [], [other_card(alliance["jinan"])])
        error = brought(yantai, [], [other_card(alliance["qingdao"])])
        assert "qingdao signed two cards" in error.message and "jinan" not in error.message
        assert len(yantai.evidence.pieces()) == 2

    def test_by_another_key_proves_nothing(self, alliance: SimulatedAlliance) -> None:
        yantai = alliance["yantai"]
        forged = other_card(alliance["jinan"], alliance["qingdao"].lab)
        with pytest.raises(Exception, match="not signed by the identity key"):
            import_accusing(yantai.membership, lambda: yantai.evidence, [], [forged], fingerprint=None)
        assert pieces(yantai) == []


class TestProposals:
    def competing(self, alliance: SimulatedAlliance) -> bytes:
        """A change that jinan signed and withdrew before it signed another one of the same version, now in force."""
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        kept, second = jinan.membership.amend(Renew()).proposal, qingdao.membership.amend(SetQuorum(2)).proposal
        jinan.membership.withdraw_proposal(parse_roster(parse_proposal(kept).roster)[0].hash)
        assert jinan.membership.sign_proposal(second).complete
        qingdao.membership.accept_update(*alliance.exported("jinan"))
        return kept

    def test_a_stale_one_by_who_signed_what_is_in_force(self, alliance: SimulatedAlliance) -> None:
        kept, qingdao = self.competing(alliance), alliance["qingdao"]
        request = node_pb2.SignRosterRequest(file=kept)
        error = refused(node_servicer(qingdao).SignRoster(request, caller()))
        assert pieces(qingdao) == [("roster", "jinan", True)]
        assert error.message.startswith("the proposal is stale: another roster of version 4 is in force; kept as evidence")
        assert "jinan signed two rosters of version 4" in error.message
        assert "labmesh evidence export" in error.hint

    def test_the_way_out_of_two_proposals_accuses_nobody(self, alliance: SimulatedAlliance) -> None:
        """Neither is in force: the home that signed one is bound to it, and is told how to get on."""
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        jinan.membership.amend(Renew())
        second = qingdao.membership.amend(SetQuorum(2)).proposal
        with (
            pytest.raises(GovernanceError, match="nobody signs two of one version"),
            accusing_proposal(jinan.membership, lambda: jinan.evidence, second),
        ):
            jinan.membership.sign_proposal(second)
        assert pieces(jinan) == []

    @pytest.mark.parametrize("raw", [b"", b"{}", format_proposal(parse_proposal(b'{"cards":[],"roster":{}}'))])
    def test_what_is_no_proposal_proves_nothing(self, alliance: SimulatedAlliance, raw: bytes) -> None:
        jinan = alliance["jinan"]
        with pytest.raises(FormatError), accusing_proposal(jinan.membership, lambda: jinan.evidence, raw):
            jinan.membership.sign_proposal(raw)
        assert pieces(jinan) == []


def test_conflicts_are_pairs_with_the_held_one_first(alliance: SimulatedAlliance) -> None:
    held = alliance["yantai"].membership.joined
    roster, card = other_roster(alliance, alliance["jinan"].lab), other_card(alliance["jinan"])
    assert find_conflicts(held, [roster, format_roster(held.rosters[-1])], [card]) == [
        (format_roster(held.rosters[-1]), roster),
        (format_card(held.cards["jinan"]), card),
    ]
    assert parse_card(card)[1].seq == held.cards["jinan"][1].seq


def test_a_home_that_has_not_joined_accuses_nobody(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    stranger = SimulatedMember(Lab("zibo"), tmp_path / "zibo")
    fork = [format_roster(item) for item in alliance["jinan"].membership.joined.rosters[:-1]]
    with pytest.raises(GovernanceError):
        import_accusing(
            stranger.membership,
            lambda: stranger.evidence,
            [*fork, other_roster(alliance, alliance["jinan"].lab)],
            [],
            fingerprint=alliance["jinan"].membership.joined.fingerprint,
        )
    assert pieces(stranger) == []
    stranger.store.close()
