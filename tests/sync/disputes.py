"""What the council says once a member has told two histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from node.core.roster import Head
from tests.alliance import SimulatedAlliance
from tests.builders import build_labs, sign_roster

JINAN, QINGDAO, YANTAI = build_labs(3)


def settle(alliance: SimulatedAlliance, head: Head) -> None:
    """The council says which history of jinan's log survives; everyone hears of it."""
    founder = alliance["jinan"].membership
    before = founder.joined.roster
    line = replace(before.members["jinan"], head=head)
    envelope = founder.joined.rosters[-1][0]
    roster = replace(
        before,
        version=before.version + 1,
        previous=envelope.hash,
        issued=before.issued + timedelta(seconds=1),
        members={**before.members, "jinan": line},
    )
    raw = sign_roster(roster, JINAN)
    for member in alliance.members.values():
        assert member.membership.accept_update([raw], []).changed
