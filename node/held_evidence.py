"""One piece of evidence as a node holds it: what it proves now, and whether it still stands."""

from __future__ import annotations

from dataclasses import dataclass

from node.core.alliance import Alliance
from node.core.evidence import parse_evidence
from node.core.misconduct import Judgement, find_settlement, judge_evidence
from node.errors import FormatError
from node.store.evidence import EvidenceEntry


@dataclass(frozen=True, slots=True)
class HeldEvidence:
    """A piece that this node holds. `settled` says why it no longer stands; empty while it does.

    The judgement of one that does not stand may be empty but for kind and member.
    """

    id: str
    found_ms: int
    kind: str
    member: str
    judgement: Judgement
    settled: str = ""

    @property
    def stands(self) -> bool:
        """Whether nobody has settled it."""
        return not self.settled


def basis_of(alliance: Alliance, member: str) -> tuple[str, str]:
    """What a judgement rests on: the hash of the newest roster, and of the member's newest card."""
    return alliance.fingerprint, alliance.cards[member][0].hash if member in alliance.cards else ""


def judge_stored(row: EvidenceEntry, file: bytes, alliance: Alliance) -> HeldEvidence:
    """Judge a stored piece under the newest rosters and cards; where it proves nothing more, say what it proved then.

    Args:
        row: what the store says of the piece.
        file: the file; empty where it is gone.
        alliance: the alliance as it is held now.
    """
    try:
        evidence = parse_evidence(file)
    except FormatError as error:
        return HeldEvidence(row.id, row.found_ms, row.kind, row.member, Judgement((), row.kind), error.message)
    judgement = judge_evidence(evidence, held=alliance)
    if judgement.verified:
        return HeldEvidence(row.id, row.found_ms, row.kind, row.member, judgement, find_settlement(judgement, alliance))
    failed = next(step for step in judgement.steps if not step.ok)
    settled = f"under the newest rosters and cards it proves nothing more: {failed.detail}"
    version = min(len(evidence.rosters), len(alliance.rosters))
    then = judge_evidence(evidence, fingerprint=alliance.rosters[version - 1][0].hash)
    return HeldEvidence(row.id, row.found_ms, row.kind, row.member, then, settled)


def describe(piece: HeldEvidence, own: str) -> str:
    """The alarm for a standing piece: what it proves, and what to do with it.

    Args:
        piece: the piece.
        own: the member whose node this is.
    """
    export = f"labmesh evidence export {piece.id} -o FILE"
    if piece.member == own:
        advice = f"this is the own member: has somebody its keys, or was its home rolled back? look at it: {export}"
    elif piece.kind == "split-view":
        advice = f"its log is not followed any more until the council settles it; for the council: {export}"
    else:
        advice = f"for the council: {export}"
    return f"{piece.judgement.summary}; {advice}"
