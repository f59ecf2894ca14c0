"""Every attack in the table is refused, says so to the operator, and leaves nothing behind."""

from __future__ import annotations

import re

import pytest

from node.core.evidence import parse_evidence
from node.core.misconduct import judge_evidence
from tests.alliance import visible
from tests.attacks import accusations, clients, clocks, disclosure, equivocation, keys, notes, proofs, rosters, transport
from tests.attacks.scene import EVIDENCE_TABLES, VICTIMS, Scene
from tests.attacks.table import ATTACKS, Attack

FAMILIES = {
    proofs.FAMILY: 16,
    notes.FAMILY: 12,
    keys.FAMILY: 8,
    rosters.FAMILY: 8,
    equivocation.FAMILY: 6,
    disclosure.FAMILY: 7,
    transport.FAMILY: 8,
    clocks.FAMILY: 4,
    clients.FAMILY: 8,
    accusations.FAMILY: 10,
}
"""Each family of attacks, and how many it has at least."""


def test_every_family_is_there_with_sixty_attacks_and_more() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names)
    # The fourteen keys of low order are one idea.
    ideas = {re.sub(r" \d+$", "", name) for name in names}
    assert len(ideas) >= 60
    for family, least in FAMILIES.items():
        assert sum(attack.family == family for attack in ATTACKS) >= least, family
    assert {attack.family for attack in ATTACKS} == set(FAMILIES)


def test_the_properties_are_few() -> None:
    """What is refused by nothing must stay the exception."""
    silent = [attack.name for attack in ATTACKS if not attack.reason]
    assert len(silent) <= len(ATTACKS) // 5, silent


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.family}: {attack.name}")
def test_an_attack_is_refused_is_shown_and_saves_nothing(scene: Scene, attack: Attack) -> None:
    before, seen = scene.saved(), visible(scene.reader.store)
    refusal = attack.surface.strike(scene, attack.perform)
    assert refusal.reason == attack.reason, refusal
    assert re.search(attack.shown, refusal.shown), refusal.shown
    after = scene.saved()
    allowed = {*attack.counters, *(f"{name}: {table}" for name in VICTIMS for table in EVIDENCE_TABLES)}
    assert [name for name in before if after[name] != before[name] and name not in allowed] == []
    for piece in scene.reader.evidence.pieces():
        _, raw = scene.reader.evidence.export(piece.id)
        assert judge_evidence(parse_evidence(raw), fingerprint=scene.joined.fingerprint).verified
    assert visible(scene.reader.store) == seen
    attack.surface.recover(scene)
