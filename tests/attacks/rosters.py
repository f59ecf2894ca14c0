"""Rosters: who belongs is decided by a threshold of two councils, one step at a time, and never twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from node.core.alliance import format_card, format_roster
from node.core.canonical import dumps_canonical
from node.core.proposal import Proposal, format_proposal
from node.core.roster import ROSTER_TYPE, Head, roster_content
from tests.attacks.scene import COUNCIL, JINAN, OUTSIDER, QINGDAO, STRANGER, YANTAI, Scene, identity_of, with_members
from tests.attacks.surfaces import CALL, ROSTER
from tests.attacks.table import attack
from tests.builders import Lab, build_roster, sign_content, sign_roster

FAMILY = "rosters"
TWO = COUNCIL[:2]


@attack(FAMILY, ROSTER, "GOVERNANCE", "roster version 6 does not follow version 4")
def a_skipped_version(scene):
    return sign_roster(scene.next_roster(version=scene.joined.roster.version + 2), *TWO)


@attack(FAMILY, ROSTER, "GOVERNANCE", "another roster of version 1 is already held")
def a_rollback_to_a_founding_of_ones_own(scene):
    return sign_roster(build_roster([JINAN, QINGDAO], title="Ours"), JINAN)


@attack(FAMILY, ROSTER, "GOVERNANCE", "another roster of version 4 is already held")
def a_fork_signed_by_the_whole_council(scene):
    return sign_roster(replace(scene.joined.roster, title="Ours"), *COUNCIL)


@attack(FAMILY, ROSTER, "GOVERNANCE", "roster version 5 does not follow version 4")
def a_predecessor_that_is_not_held(scene):
    return sign_roster(scene.next_roster(previous="0" * 64), *TWO)


@attack(FAMILY, ROSTER, "FORMAT", "threshold")
def a_threshold_of_zero(scene):
    return sign_roster(scene.next_roster(threshold=0), *COUNCIL)


@attack(FAMILY, ROSTER, "FORMAT", "2 is not more than half of 4")
def a_threshold_of_half(scene):
    council = tuple(lab.identity_key for lab in (*COUNCIL, STRANGER))
    return sign_roster(scene.next_roster(council=council, threshold=2), *COUNCIL)


@attack(FAMILY, ROSTER, "FORMAT", "4 is not more than half of 3|threshold")
def a_threshold_that_nobody_can_reach(scene):
    return sign_roster(scene.next_roster(threshold=4), *COUNCIL)


@attack(FAMILY, ROSTER, "GOVERNANCE", "carries 1 of the 2 signatures")
def one_signature_where_two_are_needed(scene):
    return sign_roster(scene.next_roster(title="Ours"), JINAN)


@attack(FAMILY, ROSTER, "GOVERNANCE", "carries 1 of the 2 signatures")
def one_member_signs_twice(scene):
    return sign_roster(scene.next_roster(title="Ours"), JINAN, JINAN)


@attack(FAMILY, ROSTER, "FORMAT", "distinct strings")
def one_key_sits_on_the_council_twice(scene):
    council = (JINAN.identity_key, JINAN.identity_key, QINGDAO.identity_key)
    return sign_roster(scene.next_roster(council=council), *TWO)


@attack(FAMILY, ROSTER, "GOVERNANCE", "0 of the 2 signatures that the council of version 4")
def a_council_replaced_in_one_step_by_the_new_one(scene):
    return sign_roster(scene.next_roster(council=identity_of(STRANGER), threshold=1), STRANGER)


@attack(FAMILY, ROSTER, "GOVERNANCE", "0 of the 1 signatures that the council of version 5")
def a_council_replaced_in_one_step_by_the_old_one(scene):
    return sign_roster(scene.next_roster(council=identity_of(STRANGER), threshold=1), *COUNCIL)


@attack(FAMILY, ROSTER, "GOVERNANCE", "drops weifang")
def a_member_dropped_without_a_trace(scene):
    return sign_roster(with_members(scene.next_roster(), lambda members: members.pop("weifang")), *TWO)


@attack(FAMILY, ROSTER, "FORMAT", "one identity key belongs to two members")
def one_key_for_two_members(scene):
    def add_twin(members):
        members["zibo"] = members["yantai"]

    return sign_roster(with_members(scene.next_roster(), add_twin), *TWO)


@attack(FAMILY, ROSTER, "FORMAT", "low order")
def a_council_key_of_low_order(scene):
    council = (JINAN.identity_key, QINGDAO.identity_key, bytes(32))
    return sign_roster(scene.next_roster(council=council), *TWO)


@attack(FAMILY, ROSTER, "GOVERNANCE", "is for elsewhere.example")
def the_roster_of_another_alliance(scene):
    return sign_roster(scene.next_roster(alliance="elsewhere.example"), *TWO)


@attack(FAMILY, ROSTER, "FORMAT", "not after issued")
def a_roster_that_is_over_before_it_begins(scene):
    return sign_roster(scene.next_roster(expires=scene.joined.roster.issued - timedelta(days=1)), *TWO)


@attack(FAMILY, ROSTER, "FORMAT", "left is the time of the removal")
def a_removal_without_a_time(scene):
    def remove(members):
        members["yantai"] = replace(members["yantai"], status="removed")

    return sign_roster(with_members(scene.next_roster(), remove), *TWO)


@attack(FAMILY, ROSTER, "FORMAT", "head: size")
def a_cut_beyond_any_log(scene):
    def cut(members):
        members["weifang"] = replace(members["weifang"], head=Head(2**40 + 1, bytes(32)))

    return sign_roster(with_members(scene.next_roster(), cut), *TWO)


@attack(FAMILY, ROSTER, "FORMAT", "unknown members: note")
def a_word_that_the_format_does_not_have(scene):
    content = {**roster_content(scene.next_roster()), "note": "x"}
    return sign_content(content, ROSTER_TYPE, *(lab.sign for lab in TWO))


@attack(FAMILY, ROSTER, "FORMAT", "an envelope of type")
def a_card_in_the_place_of_a_roster(scene):
    return format_card(scene.joined.cards["yantai"])


@attack(FAMILY, ROSTER, "FORMAT", "not canonical JSON")
def an_envelope_with_spaces(scene):
    return format_roster(scene.joined.rosters[-1]).replace(b",", b", ")


@attack(FAMILY, ROSTER, "FORMAT", "signatures")
def an_envelope_without_signatures(scene):
    return sign_content(roster_content(scene.next_roster()), ROSTER_TYPE)


@attack(FAMILY, ROSTER, "FORMAT", "with 300 signatures")
def an_envelope_with_three_hundred_signatures(scene):
    return sign_roster(scene.next_roster(), *[YANTAI] * 300)


@attack(FAMILY, ROSTER, "FORMAT", "an envelope of")
def an_envelope_of_two_mebibytes(scene):
    return dumps_canonical({"payload": "A" * 2**21})


@attack(FAMILY, ROSTER, "GOVERNANCE", "0 of the 2 signatures")
def a_roster_by_an_outsider(scene):
    return sign_roster(scene.next_roster(title="Ours"), OUTSIDER)


# Proposals


def proposed(scene: Scene, *labs: Lab, **changes: Any) -> bytes:
    """A proposal as it is sent from hand to hand."""
    return format_proposal(Proposal(sign_roster(scene.next_roster(**changes), *labs), ()))


@attack(FAMILY, CALL, "GOVERNANCE", "version 5")
def two_rosters_of_one_version_to_sign(scene: Scene):
    """A home remembers which of a version it has signed, also when it is asked in two files."""
    with scene.undone():
        scene.reader.membership.sign_proposal(proposed(scene, COUNCIL[0], threshold=3))
        scene.reader.membership.sign_proposal(proposed(scene, COUNCIL[0], title="Ours", threshold=3))


@attack(FAMILY, CALL, "GOVERNANCE", "version 4|version 6")
def a_proposal_that_skips_a_version(scene: Scene):
    scene.reader.membership.sign_proposal(proposed(scene, COUNCIL[0], version=6))


@attack(FAMILY, CALL, "GOVERNANCE", "does not follow|not follow|another")
def a_proposal_that_follows_another_roster(scene: Scene):
    scene.reader.membership.sign_proposal(proposed(scene, COUNCIL[0], previous="0" * 64))


@attack(FAMILY, CALL, "FORMAT", "exactly the members cards, a list, and roster")
def a_proposal_with_words_of_its_own(scene: Scene):
    content = proposed(scene, COUNCIL[0]).replace(b'{"cards"', b'{"and":1,"cards"')
    scene.reader.membership.sign_proposal(content)


@attack(FAMILY, CALL, "GOVERNANCE", "council")
def a_proposal_signed_by_a_stranger_only(scene: Scene):
    scene.reader.membership.sign_proposal(proposed(scene, STRANGER, title="Ours"))
