"""The roster: the signed, versioned list of an alliance's members, changed by a threshold of its council."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal, cast

from node.core.canonical import Json
from node.core.dsse import Envelope, parse_envelope
from node.core.fields import Fields
from node.core.keys import format_base64, parse_base64, parse_public_key
from node.core.merkle import HASH_SIZE
from node.core.names import parse_alliance, parse_member
from node.core.times import format_seconds, parse_seconds
from node.errors import FormatError, GovernanceError

ROSTER_TYPE = "application/vnd.labmesh.roster.v1+json"
MEMBERS_MAX = 1000
QUORUM_DEFAULT_MAX = 5

Status = Literal["active", "removed"]

_NAMES = ["alliance", "title", "version", "previous", "issued", "expires", "council", "threshold", "quorum", "members"]


@dataclass(frozen=True, slots=True)
class Head:
    """The cut-off of a member's log: nothing beyond this size counts, and at it only this root."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """One member's line in the roster."""

    identity_key: bytes
    status: Status
    joined: datetime
    left: datetime | None = None
    head: Head | None = None

    @property
    def cut(self) -> Head | None:
        """Where a removed member's log ends: entries from this size on do not count. None where it does not end."""
        return self.head if self.status == "removed" else None


@dataclass(frozen=True, slots=True)
class Roster:
    """A roster whose form is valid; `verify_first` and `verify_next` say whether it counts."""

    alliance: str
    title: str
    version: int
    previous: str | None
    issued: datetime
    expires: datetime
    council: tuple[bytes, ...]
    threshold: int
    quorum: int
    members: Mapping[str, Member]

    def active_members(self) -> list[str]:
        """Ids of the members whose status is active, sorted."""
        return sorted(name for name, member in self.members.items() if member.status == "active")

    def has_removed(self, member: str) -> bool:
        """Whether this version says that the member is removed."""
        return member in self.members and self.members[member].status == "removed"

    @property
    def needs_every_seat(self) -> bool:
        """Whether all seats must sign each change, so that a lost key of one of them can never be replaced."""
        return self.threshold >= len(self.council)


def quorum_default(active: int) -> int:
    """Half of the other members, rounded up, at least 1 and at most 5."""
    return max(1, min(QUORUM_DEFAULT_MAX, active // 2))


def roster_content(roster: Roster) -> Json:
    """The roster as the JSON object that is signed."""
    return {
        "alliance": roster.alliance,
        "title": roster.title,
        "version": roster.version,
        "previous": roster.previous,
        "issued": format_seconds(roster.issued),
        "expires": format_seconds(roster.expires),
        "council": [format_base64(key) for key in roster.council],
        "threshold": roster.threshold,
        "quorum": roster.quorum,
        "members": {name: _member_content(member) for name, member in roster.members.items()},
    }


def parse_roster(raw: bytes) -> tuple[Envelope, Roster]:
    """Parse a roster's envelope and check its form; signatures are not verified here.

    Raises:
        FormatError: not a roster.
    """
    envelope, content = parse_envelope(raw, ROSTER_TYPE)
    fields = Fields("roster", content, _NAMES)
    members = fields.mapping("members")
    if not 0 < len(members) <= MEMBERS_MAX:
        raise FormatError(f"roster: members: {len(members)} members; 1 to {MEMBERS_MAX} are possible")
    roster = Roster(
        alliance=fields.parsed("alliance", parse_alliance),
        title=fields.text("title"),
        version=fields.integer("version", 1, 2**31),
        previous=fields.optional_hash("previous"),
        issued=fields.parsed("issued", parse_seconds),
        expires=fields.parsed("expires", parse_seconds),
        council=fields.texts("council", parse_public_key, least=1, most=100),
        threshold=fields.integer("threshold", 1, 100),
        quorum=fields.integer("quorum", 1, MEMBERS_MAX),
        members=MappingProxyType({parse_member(name): _parse_member(name, value) for name, value in members.items()}),
    )
    _require_consistent(roster)
    return envelope, roster


def verify_first(envelope: Envelope, roster: Roster) -> None:
    """Verify version 1: signed by a threshold of its own council.

    Raises:
        GovernanceError: it is not version 1, or too few of its council signed it.
    """
    if roster.version != 1:
        raise GovernanceError(f"the chain of rosters begins with version {roster.version}, not 1")
    _require_threshold(envelope, roster, roster)


def verify_next(held_hash: str, held: Roster, envelope: Envelope, roster: Roster) -> None:
    """Verify that `roster` may follow `held`.

    Raises:
        GovernanceError: another alliance, a version that is not the next, another predecessor, a member
            dropped or taken back, or too few signatures of the old or the new council.
    """
    require_follows(held_hash, held, roster)
    _require_threshold(envelope, held, roster)
    _require_threshold(envelope, roster, roster)


def require_follows(held_hash: str, held: Roster, roster: Roster) -> None:
    """Everything that `verify_next` demands but the signatures.

    Raises:
        GovernanceError: another alliance, a version that is not the next, another predecessor, or a member dropped or
            taken back.
    """
    if roster.alliance != held.alliance:
        raise GovernanceError(f"the roster is for {roster.alliance}, not for {held.alliance}")
    if roster.version != held.version + 1 or roster.previous != held_hash:
        raise GovernanceError(
            f"roster version {roster.version} does not follow version {held.version}",
            hint="a member's file with every version (labmesh roster export -o FILE) has those in between",
        )
    if gone := sorted(held.members.keys() - roster.members.keys()):
        raise GovernanceError(f"roster version {roster.version} drops {gone[0]}; a member is removed, never dropped")
    for name, member in held.members.items():
        if member.status == "removed" and roster.members[name].status != "removed":
            raise GovernanceError(f"roster version {roster.version} takes back {name}; a removed id cannot be used again")


def _require_threshold(envelope: Envelope, council_of: Roster, roster: Roster) -> None:
    signed = len(envelope.signers(council_of.council))
    if signed < council_of.threshold:
        raise GovernanceError(
            f"roster version {roster.version} carries {signed} of the {council_of.threshold} signatures that the "
            f"council of version {council_of.version} must give",
            hint="council members add theirs with: labmesh roster sign FILE",
        )


def _require_consistent(roster: Roster) -> None:
    if (roster.version == 1) != (roster.previous is None):
        raise FormatError("roster: previous: only version 1 has none")
    if not len(roster.council) < 2 * roster.threshold <= 2 * len(roster.council):
        raise FormatError(f"roster: threshold: {roster.threshold} is not more than half of {len(roster.council)}")
    if roster.expires <= roster.issued:
        raise FormatError("roster: expires: not after issued")
    keys = [member.identity_key for member in roster.members.values()]
    if len(set(keys)) != len(keys):
        raise FormatError("roster: members: one identity key belongs to two members")


def _member_content(member: Member) -> Json:
    content: dict[str, Json] = {
        "identity_key": format_base64(member.identity_key),
        "status": member.status,
        "joined": format_seconds(member.joined),
        "left": None if member.left is None else format_seconds(member.left),
    }
    if member.head is not None:
        content["head"] = {"size": member.head.size, "root": format_base64(member.head.root)}
    return content


def _parse_member(name: str, value: Json) -> Member:
    fields = Fields(f"roster: members: {name[:40]}", value, ("identity_key", "status", "joined", "left"), ("head",))
    status = fields.parsed("status", _parse_status)
    left = None if fields.is_null("left") else fields.parsed("left", parse_seconds)
    if (status == "removed") != (left is not None):
        raise FormatError(f"roster: members: {name[:40]}: left is the time of the removal, and null before it")
    head = _parse_head(name, fields.mapping("head")) if "head" in fields else None
    return Member(
        fields.parsed("identity_key", parse_public_key), status, fields.parsed("joined", parse_seconds), left, head
    )


def _parse_status(text: str) -> Status:
    if text not in ("active", "removed"):
        raise FormatError(f"{text[:40]!r} is neither active nor removed")
    return cast(Status, text)


def _parse_head(name: str, value: Json) -> Head:
    fields = Fields(f"roster: members: {name[:40]}: head", value, ("size", "root"))
    root = fields.parsed("root", parse_base64)
    if len(root) != HASH_SIZE:
        raise FormatError(f"roster: members: {name[:40]}: head: root: not 32 bytes")
    return Head(fields.integer("size", 0, 2**40), root)


def verify_chain(chain: Iterable[tuple[Envelope, Roster]]) -> None:
    """Verify a whole chain from version 1.

    Raises:
        GovernanceError: a link does not hold, or the chain is empty.
    """
    held: tuple[Envelope, Roster] | None = None
    for envelope, roster in chain:
        if held is None:
            verify_first(envelope, roster)
        else:
            verify_next(held[0].hash, held[1], envelope, roster)
        held = (envelope, roster)
    if held is None:
        raise GovernanceError("the chain of rosters is empty")
