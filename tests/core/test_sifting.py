"""Rosters told in one message: what nobody honest sends costs nothing."""

from __future__ import annotations

import os
from dataclasses import replace

from node.core.alliance import Alliance, format_roster, load_alliance
from node.core.dsse import format_envelope
from node.core.keys import SIGNATURE_SIZE
from node.core.roster import parse_roster
from node.core.sifting import first_of_each_version
from tests.builders import build_labs, build_roster_chain, sign_roster

LABS = build_labs(3)


def held() -> Alliance:
    return load_alliance(build_roster_chain(LABS, threshold=2))


def another(title: str) -> bytes:
    """A roster of the newest version that is not held."""
    return sign_roster(replace(held().roster, title=title), *LABS[:2])


def with_signatures(raw: bytes, number: int) -> bytes:
    """The same roster, with signatures by nobody."""
    envelope, _ = parse_roster(raw)
    return format_envelope(replace(envelope, signatures=tuple(os.urandom(SIGNATURE_SIZE) for _ in range(number))))


def test_an_honest_chain_is_judged_whole() -> None:
    chain = [format_roster(signed) for signed in held().rosters]
    assert list(first_of_each_version([*chain, *chain], held=held())) == [*chain, *chain]


def test_of_each_version_the_held_one_and_the_first_other() -> None:
    newest = format_roster(held().rosters[-1])
    told = [another(str(number)) for number in range(50)]
    assert list(first_of_each_version([*told, newest], held=held())) == [told[0], newest]


def test_more_signatures_than_seats() -> None:
    most = with_signatures(another("A"), 2 * len(LABS))
    assert list(first_of_each_version([with_signatures(another("B"), 2 * len(LABS) + 1), most], held=held())) == [most]


def test_what_is_no_roster_comes_through() -> None:
    assert list(first_of_each_version([b"no roster", b"no roster"], held=held())) == [b"no roster", b"no roster"]
