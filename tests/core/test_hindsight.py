"""A bundle judged by who has learned more since it was made: removals, replaced identity keys, revoked log keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import pytest

from node.core.alliance import Alliance, load_alliance
from node.core.card import FormerLogKey, FormerWitnessKey, parse_card
from node.core.dsse import build_envelope
from node.core.hindsight import newer_cards, with_newer_rosters, with_newest_cards
from node.core.merkle import Frontier
from node.core.roster import ROSTER_TYPE, Head, Roster, roster_content
from node.core.times import parse_seconds
from node.core.verdict import Verdict, verify_bundle
from node.errors import GovernanceError
from tests.builders import START, BundleCase, Lab, build_bundle_case, build_card, build_labs, kinds, sign_card, sign_roster
from tests.verifiers import agreed_verdict

JINAN, QINGDAO, YANTAI = LABS = build_labs(3)
LATER = START + timedelta(days=9)


@lru_cache(maxsize=1)
def case() -> BundleCase:
    return build_bundle_case()


def next_roster(case: BundleCase, **lines: Any) -> bytes:
    """Version 3, with these changes to members' lines, signed by the council."""
    envelope, held = case.alliance.rosters[-1]
    members = {name: replace(line, **lines.get(name, {})) for name, line in held.members.items()}
    roster: Roster = replace(held, version=3, previous=envelope.hash, members=members)
    return sign_roster(roster, *LABS[: roster.threshold])


def known(*cards: bytes, **lines: Any) -> Alliance:
    """What a home holds that has followed the alliance: version 3, and cards."""
    rosters = [*case().rosters, next_roster(case(), **lines)] if lines else case().rosters
    alliance = load_alliance(rosters)
    for raw in (*case().cards.values(), *cards):
        try:
            alliance = alliance.accept_card(raw)
        except Exception as error:
            assert "identity key" in str(error)
    return alliance


def judged(alliance: Alliance | None, *, fingerprint: str = "") -> Verdict:
    bundle = case().bundle()
    if alliance is None:  # the second verifier knows no home: it judges by the bundle alone
        return agreed_verdict(bundle, fingerprint=fingerprint or case().fingerprint, kinds=kinds())
    return verify_bundle(bundle, fingerprint=fingerprint or case().fingerprint, kinds=kinds(), known=alliance)


def failed(verdict: Verdict) -> tuple[str, str]:
    step = next(step for step in verdict.steps if not step.ok)
    return step.step, step.detail


def removed(**changes: Any) -> dict[str, Any]:
    return {"status": "removed", "left": LATER, **changes}


def successor(lab: Lab, **changes: Any) -> bytes:
    """The member's second card."""
    previous = build_envelope_hash(case().cards[lab.member])
    return sign_card(build_card(lab, **{"seq": 2, "previous": previous, **changes}), lab)


def build_envelope_hash(raw: bytes) -> str:
    from node.core.card import parse_card

    return parse_card(raw)[0].hash


def test_nothing_newer_changes_nothing() -> None:
    alone = judged(None)
    assert alone.verified
    assert judged(known()) == replace(alone, alliance=judged(known()).alliance)
    assert "home" not in judged(known()).steps[0].detail


def test_a_home_of_another_alliance_is_not_asked() -> None:
    other = load_alliance(build_bundle_case(title="Another").rosters[:1])
    stranger = load_alliance([sign_roster(replace(other.roster, title="Stranger"), JINAN)])
    assert judged(stranger).verified and "home" not in judged(stranger).steps[0].detail


def test_a_home_behind_the_bundle_changes_nothing() -> None:
    assert judged(load_alliance(case().rosters[:1])).verified


def test_a_home_with_another_roster_of_one_version_refuses() -> None:
    _, second = case().alliance.rosters[-1]
    forked = load_alliance([case().rosters[0], sign_roster(replace(second, title="Fork"), *LABS[: second.threshold])])
    assert failed(judged(forked))[0] == "roster" and "version 2" in failed(judged(forked))[1]


def test_a_newer_fingerprint_that_only_the_home_can_reach() -> None:
    alliance = known(yantai={"joined": START + timedelta(seconds=5)})
    assert not judged(None, fingerprint=alliance.fingerprint).verified
    verdict = judged(alliance, fingerprint=alliance.fingerprint)
    assert verdict.verified and "judged by version 3" in verdict.steps[0].detail


def test_the_verdict_names_the_newest_roster() -> None:
    alliance = known(yantai={"joined": START + timedelta(seconds=5)})
    verdict = judged(alliance)
    assert verdict.alliance is not None and verdict.alliance.roster.version == 3


@pytest.mark.parametrize(("size", "holds"), [(1, False), (2, True), (5, True), (9, True)])
def test_a_removal_with_a_head_ends_the_log(size: int, holds: bool) -> None:
    root = case().log.tree.root(min(size, case().log.size))
    verdict = judged(known(jinan=removed(head=Head(size, root))))
    assert verdict.verified == holds
    assert holds or failed(verdict)[0] == "checkpoint"


def test_a_removed_author_s_earlier_records_stay_provable() -> None:
    assert judged(known(jinan=removed())).verified


def test_a_removed_cosigner_counts_no_longer_and_fails_nothing() -> None:
    verdict = judged(known(yantai=removed()))
    assert verdict.verified and sorted(verdict.cosigners) == ["qingdao"]
    assert (verdict.quorum_met, verdict.seen_by) == (False, None)
    assert "no longer counted: yantai" in verdict.steps[3].detail


def test_a_replaced_identity_key_without_its_card() -> None:
    alliance = known(jinan={"identity_key": Lab("thief").identity_key})
    step, detail = failed(judged(alliance))
    assert step == "cards" and "was replaced" in detail


def test_a_replaced_identity_key_with_its_card() -> None:
    anew, second = Lab("anew"), replace(JINAN, generation=2)
    card = sign_card(build_card(JINAN, identity_key=anew.identity_key), anew)
    assert judged(known(card, jinan={"identity_key": anew.identity_key})).verified
    former = (FormerLogKey(JINAN.log.key, 3, case().log.tree.root(3)),)
    stolen = sign_card(build_card(second, identity_key=anew.identity_key, former_log_keys=former), anew)
    assert failed(judged(known(stolen, jinan={"identity_key": anew.identity_key})))[0] == "checkpoint"


def test_a_cosigner_whose_identity_key_was_replaced_counts_by_its_newest_card() -> None:
    anew = Lab("anew")
    lines = {"yantai": {"identity_key": anew.identity_key}}
    assert sorted(judged(known(**lines)).cosigners) == ["qingdao"]
    same = sign_card(build_card(YANTAI, identity_key=anew.identity_key), anew)
    assert sorted(judged(known(same, **lines)).cosigners) == ["qingdao", "yantai"]


@pytest.mark.parametrize(("size", "holds"), [(3, False), (5, True), (9, True)])
def test_a_log_key_revoked_since(size: int, holds: bool) -> None:
    former = FormerLogKey(JINAN.log.key, size, case().log.tree.root(min(size, 5)))
    card = successor(JINAN, log_key=replace(JINAN, generation=2).log.key, former_log_keys=(former,))
    verdict = judged(known(card))
    assert verdict.verified == holds
    if holds:
        assert "newer ones are known to this home of jinan" in verdict.steps[1].detail
    else:
        assert failed(verdict)[0] == "checkpoint"


@pytest.mark.parametrize(("until", "count"), [("2026-11-20T08:30:05Z", 1), ("2026-11-20T08:31:30Z", 2)])
def test_a_witness_key_retired_since(until: str, count: int) -> None:
    """Qingdao's cosignatures are of 08:30:07 and 08:31:00."""
    former = FormerWitnessKey(QINGDAO.witness.key, parse_seconds(until))
    card = successor(QINGDAO, witness_key=replace(QINGDAO, generation=2).witness.key, former_witness_keys=(former,))
    verdict = judged(known(card))
    assert verdict.verified and len(verdict.cosigners) == count
    assert isinstance(former.until, datetime)


def test_a_second_card_of_one_seq_is_refused() -> None:
    twice = sign_card(build_card(JINAN, region="elsewhere"), JINAN)
    alliance = load_alliance(case().rosters, [twice])
    step, detail = failed(judged(alliance))
    assert step == "cards" and "two different cards" in detail


@pytest.mark.parametrize("later", ["one seq", "a key dropped"])
def test_a_cosigner_s_cards_that_cannot_both_stand_fail_nothing(later: str) -> None:
    """It is the cosigner who lies, not the author: its lines count no more, whichever of the two a home holds."""
    newer = replace(YANTAI, generation=2)
    twice = sign_card(build_card(YANTAI, region="elsewhere"), YANTAI)
    dropped = sign_card(build_card(newer, seq=5, previous="0" * 64), YANTAI)
    alliance = load_alliance(case().rosters, [case().cards["jinan"], twice if later == "one seq" else dropped])
    verdict = judged(alliance)
    assert verdict.verified and sorted(verdict.cosigners) == ["qingdao"]
    assert "no longer counted: yantai" in verdict.steps[3].detail
    assert verdict.alliance is not None and "yantai" not in verdict.alliance.cards


def test_whoever_lists_another_s_keys_as_former_ones_keeps_nobody_out() -> None:
    """A home took them one after the other: qingdao's card with the keys of two members, and then newer cards of these."""
    former = (FormerLogKey(replace(JINAN.log.key, name=QINGDAO.origin), 0, Frontier().root()),)
    witnesses = (FormerWitnessKey(replace(YANTAI.witness.key, name=QINGDAO.witness.key.name), START),)
    stolen = successor(QINGDAO, former_log_keys=former, former_witness_keys=witnesses)
    cards = {
        card.member: (envelope, card) for envelope, card in map(parse_card, (stolen, successor(JINAN), successor(YANTAI)))
    }
    verdict = judged(replace(known(), cards=cards))
    assert verdict.verified and "yantai" in verdict.cosigners


MUTATIONS: dict[str, Callable[[Alliance], Alliance]] = {
    "none": lambda a: a,
    "without cards": lambda a: replace(a, cards={}),
}


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS)
def test_the_pieces(mutate: Callable[[Alliance], Alliance]) -> None:
    packed = load_alliance(case().rosters, case().cards.values())
    held = mutate(known(yantai=removed()))
    newest = with_newer_rosters(packed, held)
    assert newest.roster.version == 3 and not newest.cards
    merged = with_newest_cards(newest, packed, held, author="jinan")
    assert sorted(merged.cards) == ["jinan", "qingdao", "yantai"] and newer_cards(packed, merged) == []
    assert with_newer_rosters(packed, None) is packed
    parted = load_alliance([case().rosters[0]])
    assert with_newer_rosters(parted, packed).roster.version == 2


def test_parted_chains_raise() -> None:
    packed = load_alliance(case().rosters)
    _, second = packed.rosters[-1]
    forked = load_alliance([case().rosters[0], sign_roster(replace(second, title="Fork"), *LABS[: second.threshold])])
    with pytest.raises(GovernanceError, match="version 2"):
        with_newer_rosters(packed, forked)
    assert build_envelope(roster_content(second), ROSTER_TYPE).hash == packed.fingerprint
