"""Which of the rosters in one message are worth the cost of their signatures.

Whoever tells rosters can make up as many of one version as fit, each with hundreds of signatures by nobody, and every one
would have to be tried against every seat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.core.alliance import Alliance
from node.core.roster import parse_roster
from node.errors import FormatError


def first_of_each_version(rosters: Iterable[bytes], *, held: Alliance) -> Iterator[bytes]:
    """The envelopes to judge: of each version those held already, and the first other one.

    One that carries more signatures than its own council and the largest held one have seats is not the work of any council,
    and is left out. What is no roster at all comes through, so that it is refused in words.
    """
    seats = max(len(roster.council) for _, roster in held.rosters)
    hashes = {envelope.hash for envelope, _ in held.rosters}
    met: set[int] = set()
    for raw in rosters:
        try:
            envelope, roster = parse_roster(raw)
        except FormatError:
            yield raw
            continue
        if envelope.hash not in hashes:
            if roster.version in met or len(envelope.signatures) > seats + len(roster.council):
                continue
            met.add(roster.version)
        yield raw
