"""The table of attacks: name, family, where it strikes, and what the refusal must be.

An attack is one decorated function that mutates one thing: a note, a proof, a page, a roster. The surface it strikes knows
how the thing reaches its victim, and tells by which reason it was refused and what the operator then reads. What no message
can refuse (guessing a record from its commitment) stands here as a property: the function itself asserts it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.attacks.scene import Scene

Perform = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """How an attack ended: the error's reason (or the failed step of a verdict), and all that the operator reads."""

    reason: str
    shown: str


@dataclass(frozen=True, slots=True)
class Surface:
    """Where attacks strike. `strike` performs one on a scene; `recover` shows that honest work goes on afterwards."""

    name: str
    strike: Callable[[Scene, Perform], Refusal]
    recover: Callable[[Scene], None] = lambda scene: None


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. `shown` is a regular expression that the operator's text must match."""

    family: str
    name: str
    surface: Surface
    perform: Perform
    reason: str
    shown: str
    counters: tuple[str, ...]
    """Tables in which this node may count what was honest before the lie."""


ATTACKS: list[Attack] = []


def attack(
    family: str, surface: Surface, reason: str, shown: str, counters: tuple[str, ...] = ()
) -> Callable[[Perform], Perform]:
    """Put an attack, named by its function, into the table."""

    def register(perform: Perform) -> Perform:
        name = perform.__name__.replace("_", " ")
        ATTACKS.append(Attack(family, name, surface, perform, reason, shown, counters))
        return perform

    return register
