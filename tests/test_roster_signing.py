"""A running node signs no roster before peers have told what it signed: two of one version are proof against it for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labmesh.v1 import node_pb2
from node.core.amendment import Renew, SeatCouncil, SetQuorum
from node.errors import UnconfirmedError
from tests.alliance import SimulatedAlliance, SimulatedMember
from tests.attacks.calling import call, caller, node_servicer, refused
from tests.builders import Lab, build_card, sign_card
from tests.sync.equivocation import contact


def renew(member: SimulatedMember) -> Any:
    """Ask the member's node for the next roster."""
    return node_servicer(member).AmendRoster(node_pb2.AmendRosterRequest(renewal=node_pb2.Renewal()), caller())


def test_a_restored_home_takes_the_newer_roster_before_it_signs(alliance: SimulatedAlliance, tmp_path: Path) -> None:
    jinan = alliance["jinan"]
    backup = jinan.snapshot(tmp_path / "backup")
    jinan.clock.turn(5)
    assert jinan.membership.amend(SetQuorum(2)).complete
    contact(alliance, "jinan", "qingdao")
    jinan.roll_back(backup)
    jinan.clock.turn(5)
    error = refused(renew(jinan))
    assert error.reason == UnconfirmedError.reason and "labmesh status" in str(error.hint)
    assert jinan.membership.joined.roster.version == 2 and jinan.store.membership.load_signed(3) is None
    for peer in ("qingdao", "yantai"):  # the newer roster asks for both
        contact(alliance, "jinan", peer)
    assert call(renew(jinan)).version == 4
    for caller_name, server in (("jinan", "qingdao"), ("jinan", "yantai"), ("yantai", "qingdao")):
        contact(alliance, caller_name, server)
    assert {member.membership.joined.fingerprint for member in alliance.members.values()} == {
        jinan.membership.joined.fingerprint
    }
    assert not any(member.evidence.pieces() for member in alliance.members.values())


def test_every_way_to_sign_one_is_closed(alliance: SimulatedAlliance) -> None:
    jinan, qingdao = alliance["jinan"], alliance["qingdao"]
    proposed = jinan.membership.amend(SeatCouncil(("jinan", "qingdao"), 2))
    assert not proposed.complete
    jinan.reopen()
    qingdao.reopen()
    lab = Lab("zibo", alliance["jinan"].lab.alliance)
    services, context = node_servicer(jinan), caller()
    works = [
        services.AddMembers(node_pb2.AddMembersRequest(cards=[sign_card(build_card(lab), lab)]), context),
        services.RemoveMember(node_pb2.RemoveMemberRequest(member="yantai"), context),
        renew(jinan),
        node_servicer(qingdao).SignRoster(node_pb2.SignRosterRequest(file=proposed.proposal), context),
    ]
    for work in works:
        assert refused(work).reason == UnconfirmedError.reason
    assert qingdao.store.membership.load_signed(3) is None
    qingdao.confirm()
    signed = node_servicer(qingdao).SignRoster(node_pb2.SignRosterRequest(file=proposed.proposal), caller())
    assert call(signed).version == 3


def test_alone_it_signs_at_once_and_stays_confirmed(tmp_path: Path) -> None:
    alone = SimulatedAlliance(tmp_path / "alone", 1, confirmed=False)
    jinan, lab = alone["jinan"], Lab("qingdao", alone["jinan"].lab.alliance)
    added = node_servicer(jinan).AddMembers(node_pb2.AddMembersRequest(cards=[sign_card(build_card(lab), lab)]), caller())
    assert call(added).version == 2
    assert jinan.confirmation.confirmed and call(renew(jinan)).version == 3
    jinan.reopen()
    assert refused(renew(jinan)).reason == UnconfirmedError.reason
    jinan.confirm()
    jinan.membership.amend(Renew())
    alone.close()
