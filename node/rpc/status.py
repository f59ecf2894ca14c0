"""The state of a node, put together for `GetStatus`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from labmesh.v1 import node_pb2
from node.confirmation import Confirmation
from node.core.standing import Notice, build_notices
from node.core.times import format_milliseconds
from node.ledger import Ledger
from node.lost_keys import describe_lost_role
from node.membership import Membership
from node.store import Store
from node.store.losses import Losses
from node.sync.peer import PeerState
from node.sync.recovery import Recovery


@dataclass(frozen=True, slots=True)
class StatusParts:
    """Where the state comes from."""

    store: Store
    ledger: Ledger
    membership: Membership
    confirmation: Confirmation
    recovery: Recovery
    peer_states: Callable[[], dict[str, PeerState]]
    alarms: Callable[[], list[str]]
    split_views: Callable[[], list[str]]
    lost_roles: Callable[[], list[str]]
    now: Callable[[], datetime]
    port: Callable[[], int]
    remote: Callable[[], node_pb2.RemoteStatus | None]
    version: str


def build_status(parts: StatusParts) -> node_pb2.GetStatusResponse:
    """The answer to GetStatus."""
    alliance, checkpoint = parts.membership.alliance, parts.ledger.checkpoint
    losses = parts.store.losses.count(parts.ledger.log)
    quarantined = _quarantined_by_member(parts.store)
    peers = sorted(dict(parts.peer_states()).values(), key=lambda peer: peer.member)
    return node_pb2.GetStatusResponse(
        member=parts.membership.member,
        alliance=parts.membership.alliance_name,
        fingerprint=alliance.fingerprint if alliance else "",
        roster_version=alliance.roster.version if alliance else 0,
        state=_state(parts),
        size=checkpoint.size,
        root=checkpoint.root,
        records=parts.store.records.count(),
        peers=[_peer_status(peer, quarantined.get(peer.member, 0)) for peer in peers],
        alarms=_alarms(parts, losses),
        index_backlog=parts.store.search.backlog(),
        version=parts.version,
        port=parts.port(),
        remote=parts.remote(),
        lost=losses.total,
        lost_seen=losses.seen,
        confirmed=parts.confirmation.confirmed,
    )


def _state(parts: StatusParts) -> str:
    confirmation = parts.confirmation
    if confirmation.longer is not None:
        return "recovering"
    needs_person = any(notice.level == "error" for notice in _notices(parts))
    if (
        confirmation.conflict is not None
        or confirmation.forgotten_card is not None
        or needs_person
        or parts.split_views()
        or parts.lost_roles()
        or _disk_faults(parts)
    ):
        return "degraded"
    if confirmation.outdated is not None:
        return "recovering"
    return "ready" if confirmation.confirmed else "unconfirmed"


def _alarms(parts: StatusParts, losses: Losses) -> list[str]:
    found = parts.alarms()
    confirmation = parts.confirmation
    if confirmation.longer is not None:
        peer, size = confirmation.longer
        found.append(
            f"{peer} holds {size} entries of this member's log, this home {parts.ledger.log.signed_size} that were "
            "published: this home is older than what it published; it takes back what is missing, and publishes nothing "
            "until then"
        )
        found += parts.recovery.sentences()
    if losses.unseen:
        noun = (
            "1 entry of this member's log was"
            if losses.unseen == 1
            else f"{losses.unseen} entries of this member's log were"
        )
        found.append(
            f"{noun} published, but no peer reached so far has given back what "
            "was said (one may have erased a record that can be read here again); type: labmesh list --lost   and, once "
            "they are pushed or erased again, or given up: labmesh confirm --lost"
        )
    if confirmation.conflict is not None:
        found.append(f"{confirmation.conflict}; nothing more is published")
    if (outdated := confirmation.outdated) is not None:
        found.append(f"{outdated}; nothing more is published; {confirmation.remedy}")
    found += map(describe_lost_role, parts.lost_roles())
    return found + _disk_faults(parts) + [str(notice) for notice in _notices(parts)]


def _disk_faults(parts: StatusParts) -> list[str]:
    return parts.store.database.write_faults.sentences()


def _notices(parts: StatusParts) -> list[Notice]:
    membership = parts.membership
    if membership.alliance is None:
        return []
    return build_notices(
        membership.alliance,
        membership.member,
        membership.identity_key,
        now=parts.now(),
        proposed=membership.open_roster(),
    )


def _quarantined_by_member(store: Store) -> dict[str, int]:
    members = {log.id: log.member for log in store.logs.load_logs()}
    return {members[log_id]: count for log_id, count in store.records.count_quarantined().items()}


def _peer_status(peer: PeerState, quarantined: int) -> node_pb2.PeerStatus:
    contact = datetime.fromtimestamp(peer.last_contact_ms / 1000, UTC) if peer.last_contact_ms else None
    return node_pb2.PeerStatus(
        member=peer.member,
        state=peer.state,
        size=peer.size,
        verified=peer.verified,
        behind=max(0, peer.size - peer.verified),
        last_contact=format_milliseconds(contact) if contact else "",
        error=peer.error,
        reason=peer.reason,
        clock_offset_ms=None if peer.clock_offset_ms is None else _clamp(peer.clock_offset_ms),
        quarantined=quarantined,
    )


def _clamp(offset_ms: int) -> int:
    """A peer's clock may say anything; a field of the answer holds 64 bits."""
    return max(-(2**63), min(2**63 - 1, offset_ms))
