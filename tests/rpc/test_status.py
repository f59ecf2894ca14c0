"""What `status` says of the roster: degraded when a person is needed, and a warning while there is time."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from labmesh.v1 import node_pb2
from node.clients import SOCKET, Caller, Role
from node.core.amendment import RemoveMember, Renew, ReplaceIdentity, SeatCouncil
from node.core.card import CARD_TYPE, card_content
from node.core.standing import EXPIRY_NOTICE
from node.membership import ROSTER_LIFETIME
from node.rpc import access
from node.rpc.calls.parts import Context, NodeServiceParts
from node.rpc.calls.state import StateCalls
from node.rpc.status import StatusParts, build_status
from tests.alliance import SimulatedAlliance, SimulatedMember
from tests.builders import build_labs, public_key, sign_content, sign_with

DAY_S = 86400


@pytest.fixture
def alliance(tmp_path: Path) -> SimulatedAlliance:
    return SimulatedAlliance(tmp_path, 2)


def status(alliance: SimulatedAlliance, name: str) -> node_pb2.GetStatusResponse:
    return status_of(alliance[name])


def status_of(member: SimulatedMember) -> node_pb2.GetStatusResponse:
    return build_status(
        StatusParts(
            store=member.store,
            ledger=member.ledger,
            membership=member.membership,
            confirmation=member.confirmation,
            recovery=member.recovery,
            peer_states=dict,
            alarms=list,
            split_views=list,
            lost_roles=list,
            now=member.clock,
            port=lambda: 7443,
            remote=lambda: None,
            version="0",
        )
    )


def test_expiry_is_told_from_thirty_days_before(alliance: SimulatedAlliance) -> None:
    alliance.clock.turn((ROSTER_LIFETIME - EXPIRY_NOTICE).total_seconds() - 1)
    assert (status(alliance, "jinan").state, list(status(alliance, "jinan").alarms)) == ("ready", [])
    alliance.clock.turn(2)
    soon = status(alliance, "jinan")
    assert (soon.state, list(soon.alarms)) == (
        "ready",
        ["the roster expires on 2028-11-19; type: labmesh roster renew"],
    )
    alliance.clock.turn(30 * DAY_S)
    for name, hint in (("jinan", "type: labmesh roster renew"), ("qingdao", "ask a council member (jinan)")):
        expired = status(alliance, name)
        assert expired.state == "degraded"
        assert "nobody new can join" in expired.alarms[0]
        assert hint in expired.alarms[0]
    alliance["jinan"].membership.amend(Renew())
    assert (status(alliance, "jinan").state, list(status(alliance, "jinan").alarms)) == ("ready", [])


def test_a_change_that_waits_for_signatures_is_told_after_a_week(alliance: SimulatedAlliance) -> None:
    seated = alliance["jinan"].membership.amend(SeatCouncil(("jinan", "qingdao"), 2))
    alliance.clock.turn(7 * DAY_S - 1)
    assert list(status(alliance, "jinan").alarms) == []
    alliance.clock.turn(1)
    told = status(alliance, "jinan")
    assert told.state == "ready"
    (alarm,) = told.alarms
    assert "has signed, version 3 made at" in alarm
    assert "labmesh roster proposal" in alarm
    assert list(status(alliance, "qingdao").alarms) == [], "it has not signed"
    alliance["qingdao"].membership.sign_proposal(seated.proposal)
    alliance["jinan"].membership.accept_update(*alliance.exported("qingdao"))
    assert list(status(alliance, "jinan").alarms) == []


def test_whether_it_is_confirmed_is_told_whatever_the_state_is(tmp_path: Path) -> None:
    """A roster that expired, like a lost key, makes a node degraded, and it may be unconfirmed all the same."""
    alliance = SimulatedAlliance(tmp_path, 2, confirmed=False)
    assert (status(alliance, "qingdao").state, status(alliance, "qingdao").confirmed) == ("unconfirmed", False)
    alliance.clock.turn(ROSTER_LIFETIME.total_seconds() + 1)
    assert (status(alliance, "qingdao").state, status(alliance, "qingdao").confirmed) == ("degraded", False)
    alliance["qingdao"].confirm()
    assert (status(alliance, "qingdao").state, status(alliance, "qingdao").confirmed) == ("degraded", True)


def test_a_removed_member_is_degraded(alliance: SimulatedAlliance) -> None:
    alliance["jinan"].membership.amend(RemoveMember("qingdao"))
    alliance["qingdao"].membership.accept_update(*alliance.exported("jinan"))
    told = status(alliance, "qingdao")
    assert told.state == "degraded"
    assert "qingdao was removed from quality.jinan.example by roster version 3" in told.alarms[0]
    assert status(alliance, "jinan").state == "ready"


def test_before_an_alliance_nothing_is_said(tmp_path: Path) -> None:
    alone = SimulatedMember(build_labs(1)[0], tmp_path / "alone")
    assert (list(status_of(alone).alarms), status_of(alone).roster_version) == ([], 0)
    alone.store.close()


def test_a_home_whose_identity_key_was_replaced_is_degraded(tmp_path: Path) -> None:
    """Also when it has taken the card that the new key has signed."""
    alliance = SimulatedAlliance(tmp_path, 2)
    envelope, card = alliance["qingdao"].membership.own_card
    new = replace(card, identity_key=public_key("new"), seq=2, previous=envelope.hash)
    raw = sign_content(card_content(new), CARD_TYPE, sign_with("new"))
    alliance["jinan"].membership.amend(ReplaceIdentity("qingdao", raw))
    alliance["qingdao"].membership.accept_update(*alliance.exported("jinan"))
    assert alliance["qingdao"].membership.own_card[1] == new
    told = status(alliance, "qingdao")
    assert told.state == "degraded"
    assert "the roster names another identity key for qingdao than this home has" in told.alarms[0]


@pytest.mark.parametrize(
    ("caller", "shown"),
    [
        (SOCKET, ["jinan/result/K-1 was said twice"]),
        (Caller("lims", Role.READ), ["jinan/result/K-1 was said twice"]),
        (Caller("lims", Role.READ, ("method",)), []),
    ],
)
def test_a_client_of_some_kinds_sees_the_health_of_the_node(caller: Caller, shown: list[str]) -> None:
    """An alarm may name a record of any kind, and a count tells of all."""
    whole = node_pb2.GetStatusResponse(
        member="jinan",
        state="degraded",
        size=3,
        records=9,
        index_backlog=2,
        port=7443,
        remote=node_pb2.RemoteStatus(port=7444, clients=3),
        lost=5,
        lost_seen=4,
        confirmed=True,
        alarms=["jinan/result/K-1 was said twice"],
        peers=[node_pb2.PeerStatus(member="qingdao", state="connected", size=5, verified=4, behind=1, quarantined=1)],
    )

    class Parts:
        def build_status(self) -> node_pb2.GetStatusResponse:
            return whole

    async def ask() -> node_pb2.GetStatusResponse:
        access._CALLER.set(caller)
        calls = StateCalls(cast(NodeServiceParts, Parts()))
        return await calls.GetStatus(node_pb2.GetStatusRequest(), cast(Context, None))

    answer = copy_context().run(asyncio.run, ask())
    assert (answer.member, answer.state, answer.size, list(answer.alarms)) == ("jinan", "degraded", 3, shown)
    if not caller.kinds:
        assert answer == whole
        return
    assert answer == node_pb2.GetStatusResponse(
        member="jinan",
        state="degraded",
        confirmed=True,
        size=3,
        kinds=["method"],
        peers=[node_pb2.PeerStatus(member="qingdao", state="connected")],
    )
