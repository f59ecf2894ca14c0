"""Tests of node.core.alliance: one key has one role, whoever signs what first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from node.core.alliance import Alliance
from node.core.amendment import AddMembers, build_successor
from node.core.card import FormerLogKey
from node.core.keys import TYPE_LOG, TYPE_WITNESS, VerifierKey
from node.core.roster import Member
from node.errors import GovernanceError
from tests.builders import START, build_alliance, build_card, build_labs, sign_card, sign_roster

LABS = build_labs(5)
JINAN, QINGDAO, YANTAI, WEIFANG, ZIBO = LABS
NOW = START + timedelta(days=100)


def build(count: int = 4) -> Alliance:
    """An alliance whose first member is its council."""
    return build_alliance(LABS[:count])


class TestCardsAndRosterKeys:
    """One key, one role, also where a card and a roster come from different hands."""

    @pytest.mark.parametrize("role", ["log", "witness"])
    def test_a_card_with_a_key_of_the_roster_is_refused(self, role: str) -> None:
        held = build()
        log = VerifierKey(YANTAI.origin, TYPE_LOG, JINAN.identity_key)
        roles: dict[str, dict[str, Any]] = {
            "log": {"log_key": log},
            "witness": {"witness_key": VerifierKey(YANTAI.witness.key.name, TYPE_WITNESS, JINAN.identity_key)},
        }
        envelope, card = held.cards["yantai"]
        raw = sign_card(replace(card, seq=2, previous=envelope.hash, **roles[role]), YANTAI)
        with pytest.raises(GovernanceError, match="uses a key of the roster"):
            held.accept_card(raw)

    def test_a_former_key_claims_nothing(self) -> None:
        """Nobody proves that it was its own: else one member keeps a newcomer, or another's new identity key, out."""
        held = build()
        envelope, card = held.cards["yantai"]
        names = [ZIBO.identity_key, ZIBO.log.key.public_key, ZIBO.witness.key.public_key]
        former = [
            FormerLogKey(VerifierKey(YANTAI.origin, TYPE_LOG, key), 0, bytes(32)) for key in (*names, JINAN.identity_key)
        ]
        squatting = replace(
            card,
            seq=2,
            previous=envelope.hash,
            log_key=replace(YANTAI, generation=2).log.key,
            former_log_keys=(FormerLogKey(card.log_key, 0, bytes(32)), *former),
        )
        squatted = held.accept_card(sign_card(squatting, YANTAI))
        roster, cards = build_successor(squatted, AddMembers((sign_card(build_card(ZIBO), ZIBO),)), now=NOW)
        grown = squatted.accept_roster(sign_roster(roster, JINAN)).accept_card(cards[0])
        assert sorted(grown.cards) == ["jinan", "qingdao", "weifang", "yantai", "zibo"]

    def test_whatever_comes_first_the_outcome_is_the_same(self) -> None:
        """A roster that takes a card's log key as an identity key stands, and the card does not."""
        founded = build(3)
        zibo = Member(founded.card("yantai").log_key.public_key, "active", NOW)
        members = {**founded.roster.members, "zibo": zibo}
        raw = sign_roster(replace(founded.roster, version=2, previous=founded.fingerprint, members=members), JINAN)
        card_first = founded.accept_roster(raw)
        assert sorted(card_first.cards) == ["jinan", "qingdao"]
        roster_first = Alliance(founded.rosters).accept_roster(raw)
        with pytest.raises(GovernanceError):
            roster_first.accept_card(sign_card(build_card(YANTAI), YANTAI))
