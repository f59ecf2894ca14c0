"""A refusal: a council member's signed word that it has not signed one roster, and never will.

Nobody takes a signature back, so two proposals of one version, each signed by a part of the council, would block it for
good. What can be given is the contrary: once so many have refused a roster that the others are too few, it can never come
into force (it is *dead*), and whoever signed it may sign another one of its version.

The payload is canonical JSON, `{"alliance", "roster", "version"}`; `roster` is the hash of the refused roster's payload. It
is signed with the member's identity key, in an envelope with one signature.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from node.core.canonical import Json
from node.core.dsse import Envelope, build_envelope, format_envelope, parse_envelope
from node.core.fields import Fields
from node.core.keys import Sign
from node.core.names import parse_alliance
from node.core.roster import Roster
from node.errors import FormatError, GovernanceError

REFUSAL_TYPE = "application/vnd.labmesh.refusal.v1+json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which roster is refused; `roster` is its hash, lower-case hex."""

    alliance: str
    version: int
    roster: str


def refusal_of(envelope: Envelope, roster: Roster) -> Refusal:
    """The refusal that fits one roster."""
    return Refusal(roster.alliance, roster.version, envelope.hash)


def sign_refusal(refusal: Refusal, sign: Sign) -> bytes:
    """The refusal in an envelope with one signature."""
    return format_envelope(build_envelope(_content(refusal), REFUSAL_TYPE, sign))


def parse_refusal(raw: bytes) -> tuple[Envelope, Refusal]:
    """Parse a refusal's envelope; the signature is not verified here.

    Raises:
        FormatError: not a refusal.
    """
    envelope, content = parse_envelope(raw, REFUSAL_TYPE)
    fields = Fields("refusal", content, ("alliance", "roster", "version"))
    roster = fields.optional_hash("roster")
    if roster is None:
        raise FormatError("refusal: roster: no hash")
    refusal = Refusal(fields.parsed("alliance", parse_alliance), fields.integer("version", 1, 2**31), roster)
    if len(envelope.signatures) != 1:
        raise FormatError(f"refusal: {len(envelope.signatures)} signatures; exactly one counts")
    return envelope, refusal


def verify_refusals(refusals: Iterable[bytes], wanted: Refusal, keys: Iterable[bytes]) -> frozenset[bytes]:
    """The keys that have refused; each refusal must be of `wanted`, and by one of `keys`, once.

    Raises:
        FormatError: one is no refusal.
        GovernanceError: it is of another roster, by no council key, or there twice.
    """
    left, refusers = set(keys), set[bytes]()
    for raw in refusals:
        envelope, refusal = parse_refusal(raw)
        signers = envelope.signers(left) if refusal == wanted else set()
        if not signers:
            raise GovernanceError(
                "the proposal carries a refusal of another roster, by nobody on its councils, or one twice",
                hint="ask the council member who sent it for the file again",
            )
        left -= signers
        refusers |= signers
    return frozenset(refusers)


def _content(refusal: Refusal) -> Json:
    return {"alliance": refusal.alliance, "roster": refusal.roster, "version": refusal.version}
