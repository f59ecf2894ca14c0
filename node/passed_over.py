"""Files of evidence that peers told and that need no second hearing, and what that rests on.

What such a file proves is held in another form already, or nothing was found in it. Each peer's are counted by themselves,
so that who tells ever new ones has nobody else's forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PASSED_OVER_MAX = 200


@dataclass(frozen=True, slots=True)
class PassedFile:
    """Why a file needs no second hearing: while all pieces in `instead` stand; without any, while `basis` is the same.

    `basis` is what it was judged under: the newest roster and the newest card of `member` (`node.held_evidence.basis_of`).
    """

    member: str
    basis: tuple[str, str]
    instead: frozenset[str] = frozenset()


class PassedOver:
    """Who told which files in vain; the newest few of each peer are remembered."""

    def __init__(self) -> None:
        """Nothing was told."""
        self._told: dict[str, dict[str, PassedFile]] = {}

    def add(self, evidence_id: str, passed: PassedFile, *, peer: str) -> None:
        """A peer has told this file."""
        files = self._told.setdefault(peer, {})
        while evidence_id not in files and len(files) >= PASSED_OVER_MAX:
            del files[next(iter(files))]
        files[evidence_id] = passed

    def find(self, evidence_id: str) -> PassedFile | None:
        """Why a file needs no second hearing, whoever told it."""
        return next((files[evidence_id] for files in self._told.values() if evidence_id in files), None)

    def told_by(self, peer: str) -> list[str]:
        """Ids of what this peer needs not tell again."""
        return list(self._told.get(peer, ()))

    def retain(self, is_needless: Callable[[str, PassedFile], bool]) -> None:
        """Forget the files that need to be heard again."""
        for files in self._told.values():
            for evidence_id in [item for item, passed in files.items() if not is_needless(item, passed)]:
                del files[evidence_id]
