"""What an audit found: one named check each, with how much was looked at and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from node.core.canonical import Json
from node.core.keys import format_base64

SHOWN_MAX = 3


@dataclass(slots=True)
class Check:
    """One check. `count` is how many things were looked at; the first faults are kept in words, all are counted."""

    name: str
    count: int = 0
    remark: str = ""
    faults: int = 0
    shown: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.faults == 0

    @property
    def detail(self) -> str:
        """The first faults, or what is worth knowing."""
        if self.ok:
            return self.remark
        more = f" (and {self.faults - len(self.shown)} more)" if self.faults > len(self.shown) else ""
        return "; ".join(self.shown) + more

    def fault(self, text: str) -> None:
        """Something is wrong."""
        self.faults += 1
        if len(self.shown) < SHOWN_MAX:
            self.shown.append(text)


@dataclass(frozen=True, slots=True)
class Progress:
    """So many entries of the log have been looked at."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Report:
    """The result of an audit. `root` is what the entries give at `size`, recomputed; empty when they are not all there."""

    member: str
    origin: str
    size: int
    root: bytes
    checks: Sequence[Check]

    @property
    def verified(self) -> bool:
        """Whether every check held."""
        return all(check.ok for check in self.checks)


def report_content(report: Report) -> dict[str, Json]:
    """The report as JSON."""
    return {
        "member": report.member,
        "origin": report.origin,
        "size": report.size,
        "root": format_base64(report.root),
        "verified": report.verified,
        "checks": [
            {"check": check.name, "ok": check.ok, "count": check.count, "detail": check.detail} for check in report.checks
        ],
    }
