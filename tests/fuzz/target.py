"""A parser under fuzzing, and what may come of an input: a value that formats back to it, or one of the named errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.errors import LabmeshError

SMALL = 64 * 1024
SECONDS_MAX = 1.0


class Finding(AssertionError):  # noqa: N818 -- it is found, not raised by what is tested
    """An input that a parser takes in a wrong way, although it raises nothing unexpected."""


@dataclass(frozen=True, slots=True)
class Target:
    """`parse` may raise `refusals` and nothing else; `write`, where there is one, must give the input back."""

    name: str
    parse: Callable[[bytes], Any]
    refusals: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]
    write: Callable[[Any], bytes] | None = None


TARGETS: list[Target] = []


def target(
    name: str,
    *refusals: type[Exception],
    seeds: Callable[[], Sequence[bytes]],
    write: Callable[[Any], bytes] | None = None,
) -> Callable[[Callable[[bytes], Any]], Callable[[bytes], Any]]:
    """Put a parser into the table, with the errors that it may raise."""

    def register(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        TARGETS.append(Target(name, parse, refusals, seeds, write))
        return parse

    return register


@dataclass(slots=True)
class Counts:
    """What became of the inputs of one target."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    corpus: list[bytes] = field(default_factory=list)


def judge(item: Target, raw: bytes, counts: Counts) -> bool:
    """Parse one input; returns whether it was accepted.

    Raises:
        Finding: too slow, a refusal that says nothing, or bytes that do not come back.
        Exception: whatever the parser raises that is not one of its refusals.
    """
    begin = time.process_time()
    try:
        value, accepted = item.parse(raw), True
    except item.refusals as error:
        value, accepted = None, False
        _require_words(error)
    took = time.process_time() - begin
    counts.inputs += 1
    counts.slowest_s = max(counts.slowest_s, took)
    if took > SECONDS_MAX and len(raw) <= SMALL:
        raise Finding(f"{len(raw)} bytes took {took:.1f} s")
    if accepted and item.write is not None and (again := item.write(value)) != raw:
        raise Finding(f"accepted, but it formats back to {again[:200]!r}")
    counts.accepted += accepted
    counts.refused += not accepted
    return accepted


def _require_words(error: Exception) -> None:
    """A refusal must say something, in text that can be printed and sent."""
    if isinstance(error, LabmeshError):
        if not error.message or error.reason == "INTERNAL":
            raise Finding(f"a refusal without words: {error.reason} {error.message!r}")
        if len(error.message) > 10_000:
            raise Finding(f"a refusal of {len(error.message)} characters")
