"""What a file that a person brought proves: of two rosters of one version, or two cards of one `seq`, at most one is honest.

The second one is refused, but not forgotten: where one key has signed both, the pair is kept as evidence, as if a peer had
told it, and the refusal says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from node.core.alliance import Alliance
from node.core.conflict import Conflict, find_card_conflict, find_roster_conflict
from node.core.proposal import parse_proposal
from node.errors import FormatError, GovernanceError, LabmeshError
from node.evidence import EvidenceKeeper
from node.held_evidence import HeldEvidence
from node.membership import Membership

KEPT = "kept as evidence, which every member gets"


def import_accusing(
    membership: Membership,
    open_keeper: Callable[[], EvidenceKeeper],
    rosters: list[bytes],
    cards: list[bytes],
    *,
    fingerprint: str | None,
) -> Alliance:
    """`Membership.import_alliance`; what a refused file proves against a member is kept, and told with the refusal."""
    with _accusing(membership, open_keeper, lambda: (rosters, cards)):
        return membership.import_alliance(rosters, cards, fingerprint=fingerprint)


@contextmanager
def accusing_proposal(membership: Membership, open_keeper: Callable[[], EvidenceKeeper], raw: bytes) -> Iterator[None]:
    """Around what a person does with a proposal: if it is refused, what its roster proves against a member is kept."""

    def envelopes() -> tuple[list[bytes], list[bytes]]:
        return [parse_proposal(raw).roster], []

    with _accusing(membership, open_keeper, envelopes):
        yield


def find_conflicts(alliance: Alliance, rosters: Iterable[bytes], cards: Iterable[bytes]) -> list[Conflict]:
    """Pairs of what is held and what these envelopes say of the same thing, signed by one key."""
    found = [find_roster_conflict(alliance, raw) for raw in rosters]
    found += [find_card_conflict(alliance, raw) for raw in cards]
    return [pair for pair in found if pair is not None]


@contextmanager
def _accusing(
    membership: Membership,
    open_keeper: Callable[[], EvidenceKeeper],
    envelopes: Callable[[], tuple[list[bytes], list[bytes]]],
) -> Iterator[None]:
    try:
        yield
    except LabmeshError as error:
        if membership.alliance is None or not (pieces := _keep(membership.alliance, open_keeper, envelopes)):
            raise
        proved = "; ".join(piece.judgement.summary for piece in pieces)
        raise GovernanceError(
            f"{error.message}; {KEPT}: {proved}",
            hint=f"for the council, with the node running: labmesh evidence export {pieces[0].id} -o FILE",
        ) from error


def _keep(
    alliance: Alliance,
    open_keeper: Callable[[], EvidenceKeeper],
    envelopes: Callable[[], tuple[list[bytes], list[bytes]]],
) -> list[HeldEvidence]:
    """The standing pieces that prove what these envelopes contradict, kept now or known already."""
    try:
        conflicts = find_conflicts(alliance, *envelopes())
    except FormatError:
        return []
    return open_keeper().accept_conflicts(conflicts) if conflicts else []
