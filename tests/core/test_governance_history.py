"""Random histories of an alliance's government: what one node accepts every node accepts, and no broken step passes.

The machine governs with `build_successor` and real signatures; the model knows which signatures a change must carry. After
every step a second node takes the same rosters, in one go and one by one.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.core.alliance import Alliance, format_roster, found_alliance, load_alliance
from node.core.amendment import (
    AddMembers,
    Amendment,
    RemoveMember,
    Renew,
    ReplaceIdentity,
    SeatCouncil,
    SetQuorum,
    build_successor,
)
from node.core.card import CARD_TYPE, card_content
from node.core.proposal import Proposal, review_proposal
from node.core.roster import ROSTER_TYPE, Roster, roster_content
from node.errors import GovernanceError, LabmeshError
from tests.builders import (
    START,
    build_card,
    build_labs,
    build_roster,
    public_key,
    sign_content,
    sign_roster,
    sign_with,
)

LABS = build_labs(6)
BY_NAME = {lab.member: lab for lab in LABS}


class Government(RuleBasedStateMachine):
    """An alliance that changes, and everything that an attacker could do to its next roster."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = {lab.member: lab.identity_label for lab in LABS}
        self.rekeyed = 0
        self.days = 0

    @initialize()
    def found(self) -> None:
        """One member alone."""
        self.alliance = found_alliance(sign_roster(build_roster(LABS[:1]), LABS[0]))
        self.follower = Alliance(self.alliance.rosters)

    @rule(count=st.integers(1, 3))
    def add(self, count: int) -> None:
        """Newcomers, while there are any."""
        members = self.alliance.roster.members
        labs = [lab for lab in LABS if lab.member not in members][:count]
        if labs:
            self.step(AddMembers(tuple(self.card(lab.member, self.labels[lab.member]) for lab in labs)))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Somebody without a seat."""
        if names := [name for name in self.alliance.active_members() if name not in self.alliance.council_members()]:
            self.step(RemoveMember(data.draw(st.sampled_from(names))))

    @rule(data=st.data())
    def seat(self, data: st.DataObject) -> None:
        """Any council of active members, with any threshold that fits."""
        names = data.draw(st.lists(st.sampled_from(self.alliance.active_members()), min_size=1, unique=True))
        self.step(SeatCouncil(tuple(names), data.draw(st.integers(len(names) // 2 + 1, len(names)))))

    @precondition(lambda self: len(self.alliance.active_members()) > 2)
    @rule(data=st.data())
    def rekey(self, data: st.DataObject) -> None:
        """A new identity key, with or without a seat."""
        member = data.draw(st.sampled_from(self.alliance.active_members()))
        self.rekeyed += 1
        label = f"{member}/{self.rekeyed}"
        change = ReplaceIdentity(member, self.card(member, label))
        try:
            build_successor(self.alliance, change, now=self.now)
        except GovernanceError as error:
            assert "too few council members are left" in error.message
            return
        self.step(change)
        self.labels[member] = label

    @rule(data=st.data())
    def choose_quorum(self, data: st.DataObject) -> None:
        """A number, or the default."""
        most = max(1, len(self.alliance.active_members()) - 1)
        self.step(SetQuorum(data.draw(st.none() | st.integers(1, most))))

    @rule()
    def renew(self) -> None:
        """The date alone."""
        self.step(Renew())

    @invariant()
    def every_node_agrees(self) -> None:
        """Whoever takes the chain at once or step by step holds the same."""
        loaded = load_alliance(map(format_roster, self.alliance.rosters))
        assert loaded.rosters == self.follower.rosters == self.alliance.rosters
        roster = self.alliance.roster
        assert len(roster.council) < 2 * roster.threshold <= 2 * len(roster.council)
        assert set(self.alliance.council_members()) <= set(self.alliance.active_members())

    @property
    def now(self) -> Any:
        """A day a step."""
        return START + timedelta(days=self.days)

    def card(self, member: str, label: str) -> bytes:
        """A member's card, signed by the identity key of a label."""
        card = build_card(BY_NAME[member], identity_key=public_key(label))
        return sign_content(card_content(card), CARD_TYPE, sign_with(label))

    def step(self, amendment: Amendment) -> None:
        """Collect signatures one by one; until the last nothing is acceptable, with it everything is."""
        self.days += 1
        held = self.alliance
        try:
            roster, cards = build_successor(held, amendment, now=self.now)
        except GovernanceError as error:
            assert "would change nothing" in error.message
            return
        labels = {public_key(label): label for label in self.labels.values()}
        keys = [key for key in (*held.roster.council, *roster.council) if key in labels]
        signers: list[str] = []
        for key in dict.fromkeys(keys):
            signers.append(labels[key])
            raw = self.sign(roster, *signers)
            missing = review_proposal(held, Proposal(raw, cards)).missing
            enough = self.carries(roster, signers)
            assert (missing == 0) == enough
            if not enough:
                self.refuse(raw)
                continue
            self.attack(roster, signers)
            self.alliance = held.accept_roster(raw)
            assert self.alliance.roster == roster
            self.follower = self.follower.accept_roster(raw)
            return
        raise AssertionError("both councils together cannot carry the change")

    def carries(self, roster: Roster, signers: list[str]) -> bool:
        """The model: distinct keys of each council against its threshold."""
        keys = {public_key(label) for label in signers}
        return all(len(keys & set(one.council)) >= one.threshold for one in (self.alliance.roster, roster))

    def attack(self, roster: Roster, signers: list[str]) -> None:
        """Each one step away from what is acceptable, signed by everyone who signs the real one."""
        held = self.alliance.roster
        skipped = replace(roster, version=roster.version + 1)
        forked = replace(roster, previous="0" * 64)
        rolled_back = replace(roster, version=held.version)
        dropped = replace(roster, members=dict(list(roster.members.items())[1:]))
        for broken in (skipped, forked, rolled_back, dropped, replace(roster, alliance="other.example")):
            self.refuse(self.sign(broken, *signers))
        for seats in (0, len(roster.council) // 2, len(roster.council) + 1):
            self.refuse(self.sign(replace(roster, threshold=seats), *signers))
        self.refuse(self.sign(replace(roster, council=(*roster.council, roster.council[0])), *signers))
        self.refuse(self.sign(roster, "somebody else"))
        self.refuse(self.sign(roster, *["somebody else"] * 9))
        one_short = signers[:-1]
        if one_short and not self.carries(roster, one_short):
            self.refuse(self.sign(roster, *one_short, *[one_short[0]] * len(signers)))

    def sign(self, roster: Roster, *labels: str) -> bytes:
        """The roster signed with the keys of these labels."""
        return sign_content(roster_content(roster), ROSTER_TYPE, *map(sign_with, labels))

    def refuse(self, raw: bytes) -> None:
        """Nobody takes it, and nothing changes."""
        for node in (self.alliance, self.follower):
            before = node.rosters
            with pytest.raises(LabmeshError):
                node.accept_roster(raw)
            assert node.rosters is before


Government.TestCase.settings = settings(max_examples=15, stateful_step_count=10, deadline=None, database=None)
TestGovernment = Government.TestCase


def test_the_machine_knows_its_labs() -> None:
    """Each label is a key of its own, or the model would count wrongly."""
    assert len({public_key(lab.identity_label) for lab in LABS}) == len(LABS) == len(BY_NAME)
