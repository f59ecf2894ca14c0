"""Misconduct of every kind, made from the builders: the evidence, and everything it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from node.core.alliance import Alliance
from node.core.checkpoint import SignedCheckpoint
from node.core.evidence import Evidence, Exhibit, build_conflicts, build_contradiction, build_split_view
from tests.builders import (
    START,
    Lab,
    MemoryLog,
    build_alliance,
    build_card,
    build_labs,
    build_roster,
    record_bytes,
    sign_card,
    sign_roster,
)

LABS = build_labs(3)
JINAN, QINGDAO, YANTAI = LABS
ALLIANCE = build_alliance(LABS)


def build_fork(lab: Lab, common: int, *lengths: int) -> list[MemoryLog]:
    """Logs of these sizes by one member that have their first `common` entries in common, and no more."""
    logs = []
    for number, length in enumerate(lengths):
        log = MemoryLog(lab)
        log.append_numbered(min(common, length))
        if length > common:
            log.append_numbered(length - common, body={"value": f"0.{number + 1}"})
        logs.append(log)
    return logs


def split_view(logs: Sequence[MemoryLog], alliance: Alliance = ALLIANCE) -> Evidence:
    """The newest checkpoints of two logs of one member, the second at least as long as the first."""
    first, second = logs
    return build_split_view(alliance, first.lab.member, first.checkpoint(), second.checkpoint(), second.tree)


def same_size() -> Evidence:
    """Two roots for size 5."""
    return split_view(build_fork(JINAN, 2, 5, 5))


def two_sizes() -> Evidence:
    """A checkpoint of size 7 that the one of size 12 does not contain."""
    return split_view(build_fork(JINAN, 3, 7, 12))


@dataclass(frozen=True)
class Said:
    """A log that says one id twice."""

    log: MemoryLog
    signed: SignedCheckpoint

    def exhibit(self, index: int) -> Exhibit:
        """One entry, opened."""
        return Exhibit(index, self.log.salts[index], self.log.records[index])

    def evidence(self, *indexes: int, alliance: Alliance = ALLIANCE) -> Evidence:
        """Evidence of these entries, whether they contradict each other or not."""
        pair = [self.exhibit(index) for index in indexes]
        return build_contradiction(alliance, self.log.lab.member, self.signed, pair, self.log.tree)


def said_twice(**changes: Any) -> Said:
    """Entry 4 says what entry 1 said, in other words; entry 5 says entry 2 again in the same words."""
    log = MemoryLog(JINAN)
    log.append_numbered(4, **changes)
    log.append(record_bytes("jinan", "WJ-000001", body={"value": "9.99"}, **changes), log.records[2])
    log.append_numbered(3, **changes)
    return Said(log, log.checkpoint())


def contradiction(**changes: Any) -> Evidence:
    """Two records with the id jinan/result/WJ-000001@1."""
    return said_twice(**changes).evidence(1, 4)


def other_roster(signers: Sequence[Lab] = (JINAN,), **changes: Any) -> bytes:
    """Another version 1 of the roster."""
    return sign_roster(replace(build_roster(LABS), **{"title": "Another Alliance", **changes}), *signers)


def two_rosters() -> Evidence:
    """Two versions 1, both signed by jinan."""
    (evidence,) = build_conflicts(ALLIANCE, (sign_roster(build_roster(LABS), JINAN), other_roster()))
    return evidence


def other_card(lab: Lab = QINGDAO, **changes: Any) -> bytes:
    """Another first card."""
    return sign_card(build_card(lab, **{"issued": START + timedelta(days=1), **changes}), lab)


def two_cards() -> Evidence:
    """Two cards of qingdao with seq 1."""
    (evidence,) = build_conflicts(ALLIANCE, (sign_card(build_card(QINGDAO), QINGDAO), other_card()))
    return evidence


KINDS: dict[str, Callable[[], Evidence]] = {
    "same size": same_size,
    "two sizes": two_sizes,
    "contradiction": contradiction,
    "rosters": two_rosters,
    "cards": two_cards,
}
