"""Two statements about one thing: told as a pair where one key has signed both, and only there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from node.core.alliance import Alliance, format_card, format_roster, load_alliance
from node.core.conflict import conflict_subject, find_card_conflict, find_parting, find_roster_conflict
from node.errors import FormatError
from tests.builders import (
    Lab,
    build_alliance,
    build_card,
    build_labs,
    build_roster_chain,
    sign_card,
    sign_roster,
)

LABS = build_labs(4)
JINAN, QINGDAO, YANTAI, WEIFANG = LABS
ALLIANCE: Alliance = load_alliance(build_roster_chain(LABS[:3]))
CARDS: Alliance = build_alliance(LABS[:3])


def other_roster(*signers: Lab, version: int = 2, **changes: Any) -> bytes:
    return sign_roster(replace(ALLIANCE.rosters[version - 1][1], **{"title": "Another", **changes}), *signers)


@pytest.mark.parametrize("signer", [JINAN, QINGDAO], ids=lambda lab: lab.member)
def test_whoever_signed_both_is_caught(signer: Lab) -> None:
    """Jinan sits on both councils, qingdao on the second alone; both signed the held version 2."""
    other = other_roster(signer)
    assert find_roster_conflict(ALLIANCE, other) == (format_roster(ALLIANCE.rosters[1]), other)


def test_the_first_version_too() -> None:
    other = other_roster(JINAN, version=1)
    assert find_roster_conflict(ALLIANCE, other) == (format_roster(ALLIANCE.rosters[0]), other)


@pytest.mark.parametrize(
    "raw",
    [
        other_roster(YANTAI),  # sits on the council, but did not sign the held one
        other_roster(WEIFANG),
        other_roster(JINAN, version=2, alliance="other.example"),
        other_roster(JINAN, version=1)[:-1],
        sign_roster(replace(ALLIANCE.roster, version=3, previous=ALLIANCE.fingerprint), JINAN),
        sign_roster(ALLIANCE.roster, QINGDAO, JINAN),  # the held one, with the signatures in another order
        b"no roster",
    ],
    ids=["another seat", "no seat", "another alliance", "damaged", "the next version", "the same", "no roster"],
)
def test_what_is_no_conflict_of_rosters(raw: bytes) -> None:
    assert find_roster_conflict(ALLIANCE, raw) is None


def test_two_cards_of_one_seq() -> None:
    other = sign_card(build_card(YANTAI, name="Another"), YANTAI)
    assert find_card_conflict(CARDS, other) == (format_card(CARDS.cards["yantai"]), other)


@pytest.mark.parametrize(
    "raw",
    [
        format_card(CARDS.cards["yantai"]),
        sign_card(build_card(YANTAI, name="Another"), QINGDAO),
        sign_card(build_card(YANTAI, name="Newer", seq=2, previous="0" * 64), YANTAI),
        sign_card(build_card(WEIFANG), WEIFANG),
        sign_card(build_card(Lab("yantai", "other.example")), YANTAI),
        b"no card",
    ],
    ids=["the same", "forged", "a newer one", "a stranger", "another alliance", "no card"],
)
def test_what_is_no_conflict_of_cards(raw: bytes) -> None:
    assert find_card_conflict(CARDS, raw) is None


class TestParting:
    """From which version on two chains are of two councils."""

    def test_a_chain_that_begins_with_the_other_does_not_part(self) -> None:
        chain = [format_roster(signed) for signed in ALLIANCE.rosters]
        assert [find_parting(ALLIANCE, chain[:count]) for count in range(len(chain) + 1)] == [0] * (len(chain) + 1)
        assert find_parting(ALLIANCE, [*chain, other_roster(JINAN)]) == 0

    def test_the_first_other_version(self) -> None:
        chain = [format_roster(signed) for signed in ALLIANCE.rosters]
        assert find_parting(ALLIANCE, [chain[0], other_roster(JINAN), other_roster(JINAN)]) == 2

    def test_what_is_no_roster(self) -> None:
        with pytest.raises(FormatError):
            find_parting(ALLIANCE, [b"{}"])


def test_what_a_pair_is_about() -> None:
    roster, card = other_roster(JINAN), sign_card(build_card(YANTAI, name="Another"), YANTAI)
    assert conflict_subject((format_roster(ALLIANCE.rosters[1]), roster)) == ("roster 2", "")
    assert conflict_subject((format_card(CARDS.cards["yantai"]), card)) == ("card 1", "yantai")
