"""The exception tree: the drawing in the docstring is the tree of the classes."""

from __future__ import annotations

import inspect
import re

import pytest

from node import errors
from node.errors import InvalidRecordError, LabmeshError, RollbackError, SplitViewError, VerificationError, Violation

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
}
LINE = re.compile(r"^ {4}(?P<bars>(?:[│ ] {3})*(?:[├└]── )?)(?P<name>\w+Error)\b(?P<meaning>.*)$", re.MULTILINE)


def drawn_tree() -> dict[str, str | None]:
    """Each class in the drawing with the class above it."""
    above: list[str] = []
    parents: dict[str, str | None] = {}
    for match in LINE.finditer(errors.__doc__ or ""):
        depth = len(match["bars"]) // 4
        above[depth:] = [match["name"]]
        assert match["name"] not in parents
        parents[match["name"]] = above[depth - 1] if depth else None
    return parents


def test_the_drawing_shows_every_class_under_its_parent() -> None:
    actual = {
        name: None if value is LabmeshError else next(base.__name__ for base in value.__mro__[1:])
        for name, value in CLASSES.items()
    }
    assert drawn_tree() == actual
    assert len(actual) > 20


def test_every_class_in_the_drawing_says_what_it_means() -> None:
    root, *others = LINE.finditer(errors.__doc__ or "")
    assert root["name"] == "LabmeshError"
    assert all(match["meaning"].strip() for match in others)


def test_every_class_has_a_reason_of_its_own() -> None:
    reasons = [value.__dict__.get("reason") for value in CLASSES.values()]
    assert None not in reasons
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)*", str(reason)) for reason in reasons)


def test_every_error_says_what_to_do_next_when_it_knows() -> None:
    error = errors.ConfigError("listen is wrong", hint="for example 0.0.0.0:7443")
    assert (str(error), error.message, error.hint) == ("listen is wrong", "listen is wrong", "for example 0.0.0.0:7443")
    assert errors.ConfigError("listen is wrong").hint == ""


def test_an_invalid_record_carries_every_violation() -> None:
    found = [Violation(f"/body/{i}", f"wrong {i}") for i in range(5)]
    error = InvalidRecordError(found, hint="look")
    assert error.violations == tuple(found)
    assert str(error) == "/body/0: wrong 0; /body/1: wrong 1; /body/2: wrong 2 (and 2 more)"
    assert str(InvalidRecordError(found[:3])) == "/body/0: wrong 0; /body/1: wrong 1; /body/2: wrong 2"
    assert str(InvalidRecordError([Violation("", "not JSON")])) == "not JSON"


def test_the_numbers_travel_in_the_error() -> None:
    error = RollbackError("a/log/b", held_size=812, offered_size=790)
    assert (error.origin, error.held_size, error.offered_size) == ("a/log/b", 812, 790)
    assert str(error) == "a/log/b: offered size 790, but size 812 was already verified"


def test_the_evidence_travels_in_the_error() -> None:
    error = SplitViewError("a/log/b", size=7, held_note=b"held", offered_note=b"offered")
    assert (error.size, error.held_note, error.offered_note) == (7, b"held", b"offered")


def test_a_failed_verification_names_its_step() -> None:
    error = VerificationError("inclusion", "not in the log", hint="ask again")
    assert (error.step, error.message, error.hint) == ("inclusion", "not in the log", "ask again")


@pytest.mark.parametrize("name", ["SignatureError", "SplitViewError", "AccessRefusedError"])
def test_a_fault_of_the_peer_is_not_retried(name: str) -> None:
    assert not issubclass(CLASSES[name], errors.PeerUnreachableError)
    assert issubclass(CLASSES[name], errors.PeerFaultError)
