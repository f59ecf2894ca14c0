"""Who signs two rosters with its own key and a stolen one answers for it, whichever of the two keys sorts first."""

from __future__ import annotations

from itertools import permutations

import pytest

from node.core.alliance import Alliance
from node.core.evidence import build_conflicts, format_evidence, parse_evidence
from node.core.misconduct import find_settlement, judge_evidence
from tests.builders import Lab
from tests.evidence_cases import ALLIANCE, LABS
from tests.two_signers import TwoSigners, build_two_signers

PAIRS = pytest.mark.parametrize(("liar", "victim"), [*permutations(LABS, 2)], ids=lambda lab: lab.member)


def join(made: TwoSigners) -> tuple[Alliance, Alliance]:
    """The alliance before and after the stolen key was replaced."""
    stolen = ALLIANCE.accept_roster(made.before).accept_roster(made.pair[0])
    return stolen, stolen.accept_roster(made.rekeying)


@PAIRS
def test_both_answer_until_the_stolen_key_is_replaced_and_then_the_liar_alone(liar: Lab, victim: Lab) -> None:
    made = build_two_signers(ALLIANCE, LABS, liar, victim)
    stolen, rekeyed = join(made)
    files = [format_evidence(piece) for piece in build_conflicts(stolen, made.pair)]
    before = [judge_evidence(parse_evidence(raw), held=stolen) for raw in files]
    assert {judgement.member for judgement in before} == {liar.member, victim.member}
    assert [find_settlement(judgement, stolen) for judgement in before] == ["", ""]
    after = [judge_evidence(parse_evidence(raw), held=rekeyed) for raw in files]
    assert [item.member for item in after if not find_settlement(item, rekeyed)] == [liar.member]


@PAIRS
def test_a_pair_that_turns_up_after_the_replacement_convicts_the_liar(liar: Lab, victim: Lab) -> None:
    """An auditor with the file and the fingerprint alone says of each file what the node says."""
    made = build_two_signers(ALLIANCE, LABS, liar, victim)
    _, rekeyed = join(made)
    standing = []
    for piece in build_conflicts(rekeyed, made.pair):
        held, alone = judge_evidence(piece, held=rekeyed), judge_evidence(piece, fingerprint=ALLIANCE.fingerprint)
        assert held.verified and alone.verified
        assert (held.member, held.summary, held.key) == (alone.member, alone.summary, alone.key)
        assert find_settlement(held, rekeyed) == find_settlement(alone, rekeyed)
        if not find_settlement(held, rekeyed):
            standing.append(held.member)
    assert standing == [liar.member]
