"""Round after round over every target, until the time is over or something is found.

Within a round the examples are fixed, so that one seed always makes the same inputs; what a parser accepted in a round is
among the examples of the next.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky

from tests.fuzz.inputs import inputs
from tests.fuzz.target import Counts, Target, judge

CORPUS_MAX = 300


@dataclass(frozen=True, slots=True)
class Found:
    """An input that something is wrong with."""

    target: str
    raw: bytes
    problem: str


@dataclass(slots=True)
class Fuzzing:
    """The state of one run."""

    targets: Sequence[Target]
    seed: int
    examples: int
    prepare: Callable[[], None] = lambda: None
    """Puts back, before each round, what the rounds before have changed."""
    counts: dict[str, Counts] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    rounds: int = 0
    thrown: Any = field(default_factory=sha256)
    """Hash over every input, by which two runs can be compared."""

    def run(self, minutes: float) -> None:
        """Go round until the time is over; every target has at least one round. One finding ends a target."""
        end = time.monotonic() + 60 * minutes
        while self.rounds == 0 or time.monotonic() < end:
            for item in self.targets:
                if self.rounds and time.monotonic() >= end:
                    return
                if item.name not in {one.target for one in self.found}:
                    self.run_round(item)
            self.rounds += 1

    def run_round(self, item: Target) -> None:
        """One round of one target."""
        self.prepare()
        counts = self.counts.setdefault(item.name, Counts())
        pool = [*item.seeds(), *counts.corpus]
        news: dict[bytes, None] = {}
        failing = [b""]

        @seed(self.seed * 1_000_003 + self.rounds)
        @settings(
            max_examples=self.examples,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(inputs(pool))
        def throw(raw: bytes) -> None:
            failing[0] = raw
            self.thrown.update(len(raw).to_bytes(4, "big") + raw)
            if judge(item, raw, counts):
                news[raw] = None

        try:
            with contextlib.redirect_stdout(None):
                throw()
        except Flaky as error:
            self.found.append(Found(item.name, failing[0], f"not every time: {error}"))
        except (Exception, ExceptionGroup) as error:
            self.found.append(Found(item.name, failing[0], f"{type(error).__name__}: {str(error)[:2000]}"))
        counts.corpus = [*counts.corpus, *(raw for raw in news if raw not in pool)][-CORPUS_MAX:]

    def report(self) -> dict[str, Any]:
        """Counts and findings, ready for JSON."""
        return {
            "seed": self.seed,
            "rounds": self.rounds,
            "digest": self.thrown.hexdigest(),
            "inputs": sum(one.inputs for one in self.counts.values()),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "targets": {
                name: {
                    "inputs": one.inputs,
                    "accepted": one.accepted,
                    "refused": one.refused,
                    "corpus": len(one.corpus),
                    "slowest_ms": round(1000 * one.slowest_s, 1),
                }
                for name, one in sorted(self.counts.items())
            },
            "findings": [
                {"target": one.target, "problem": one.problem, "size_bytes": len(one.raw), "hex": one.raw[:200].hex()}
                for one in self.found
            ],
        }
