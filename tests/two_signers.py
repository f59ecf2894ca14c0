"""A liar that signs two rosters of one version with its own key and a stolen one, and the roster that replaces that one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from node.core.alliance import Alliance
from tests.builders import Lab, sign_roster


@dataclass(frozen=True)
class TwoSigners:
    """`before` seats all, `pair` are the two rosters that follow it, and `rekeying` follows the first of them."""

    before: bytes
    pair: tuple[bytes, bytes]
    rekeying: bytes


def build_two_signers(alliance: Alliance, labs: list[Lab], liar: Lab, victim: Lab) -> TwoSigners:
    """The four rosters; version 1 of them is signed by the first laboratory."""

    def follow(**changes: Any) -> bytes:
        roster = replace(joined.roster, version=joined.roster.version + 1, previous=joined.fingerprint, **changes)
        return sign_roster(roster, *signers)

    joined, signers = alliance, labs
    before = follow(council=tuple(lab.identity_key for lab in labs), threshold=2)
    joined, signers = joined.accept_roster(before), [liar, victim]
    pair = follow(title="One"), follow(title="Other")
    anew = Lab(f"{victim.member} anew")
    joined, signers = joined.accept_roster(pair[0]), [*(lab for lab in labs if lab is not victim), anew]
    line = replace(joined.roster.members[victim.member], identity_key=anew.identity_key)
    members = {**joined.roster.members, victim.member: line}
    council = tuple(anew.identity_key if key == victim.identity_key else key for key in joined.roster.council)
    return TwoSigners(before, pair, follow(members=members, council=council))
