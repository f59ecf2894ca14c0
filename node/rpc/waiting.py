"""Why what is pushed is not published yet, in one sentence that says whose turn it is."""

from __future__ import annotations

from collections.abc import Collection

from node.confirmation import Confirmation
from node.lost_keys import describe_lost_role


def describe_waiting(confirmation: Confirmation, lost_roles: Collection[str]) -> str:
    """What entries of the own log wait for that are stored and not signed.

    Args:
        confirmation: what peers and cards say of this home.
        lost_roles: the roles whose key in the own card this home does not hold.
    """
    if (said := confirmation.forgotten_card) is not None:
        return f"{said}; {confirmation.remedy}"
    if "log" in lost_roles:
        return describe_lost_role("log")
    if (said := confirmation.outdated) is not None:
        return f"{said}; {confirmation.remedy}"
    if confirmation.conflict is not None:
        return f"{confirmation.conflict}, so nothing more is published: type labmesh status"
    if (longer := confirmation.longer) is not None:
        peer, size = longer
        return f"{peer} holds {size} entries of this log; this node takes back what it lacks, and publishes the rest then"
    return (
        "since its start this node has not heard from enough peers what they hold of its log; what waits is published then "
        "(labmesh status)"
    )
