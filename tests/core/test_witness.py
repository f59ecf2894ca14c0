"""Whose cosignature a line is, and whether it counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from node.core.alliance import Alliance
from node.core.card import FormerWitnessKey, parse_card
from node.core.checkpoint import Checkpoint, cosign_checkpoint, sign_checkpoint
from node.core.keys import TYPE_WITNESS, Signer, VerifierKey
from node.core.note import SignatureLine
from node.core.roster import Member
from node.core.witness import (
    accept_cosignatures,
    each_key_once,
    outlives,
    retirements,
    verify_witness_line,
    without_borrowed,
)
from node.errors import GovernanceError, SignatureError
from tests.builders import (
    NOW_S,
    START,
    Lab,
    build_alliance,
    build_card,
    build_labs,
    build_members,
    build_roster,
    cosign,
    public_key,
    sign_card,
    sign_roster,
    sign_with,
)

JINAN, QINGDAO, YANTAI = LABS = build_labs(3)
ALLIANCE = build_alliance(LABS)
SIGNED = sign_checkpoint(Checkpoint(JINAN.origin, 7, bytes(range(32))), JINAN.log)


@pytest.mark.parametrize(("generation", "late_s"), [(1, 0), (1, 1), (1, 10**9), (2, 0), (2, 10**9)])
def test_what_outlives_its_key_is_told_from_the_line_alone(generation: int, late_s: int) -> None:
    """As the signature says it; the next key has the same name."""
    until, newer = datetime.fromtimestamp(NOW_S, UTC), replace(QINGDAO, generation=2)
    card = replace(build_card(newer), former_witness_keys=(FormerWitnessKey(QINGDAO.witness.key, until),))
    alliance = Alliance(ALLIANCE.rosters, {"qingdao": parse_card(sign_card(card, QINGDAO))})
    line = line_of(replace(QINGDAO, generation=generation).witness, NOW_S + late_s)
    counts = "qingdao" in accept_cosignatures(alliance, "jinan", SIGNED.with_lines((line,)))
    assert counts == (generation == 2 or late_s == 0)
    assert outlives(str(line), NOW_S + late_s, retirements(alliance)) != counts
    assert not outlives(str(line_of(YANTAI.witness, NOW_S + late_s)), NOW_S + late_s, retirements(alliance))


def line_of(signer: Signer, time: int = NOW_S) -> SignatureLine:
    return cosign_checkpoint(SIGNED.checkpoint, signer, time).line


def rotated(until: datetime) -> Alliance:
    """Qingdao has retired its first witness key."""
    envelope, card = ALLIANCE.cards["qingdao"]
    former = FormerWitnessKey(QINGDAO.witness.key, until)
    second = replace(QINGDAO, generation=2).witness.key
    newer = replace(card, seq=2, previous=envelope.hash, witness_key=second, former_witness_keys=(former,))
    return ALLIANCE.accept_card(sign_card(newer, QINGDAO))


def test_a_members_cosignature() -> None:
    member, cosignature = verify_witness_line(ALLIANCE, SIGNED, line_of(QINGDAO.witness))
    assert (member, cosignature.time, cosignature.key) == ("qingdao", NOW_S, QINGDAO.witness.key)


def removed() -> Alliance:
    gone = Member(YANTAI.identity_key, "removed", START, START + timedelta(days=1))
    members = {**build_members(LABS), "yantai": gone}
    newer = replace(build_roster(LABS), version=2, previous=ALLIANCE.fingerprint, members=members)
    return ALLIANCE.accept_roster(sign_roster(newer, JINAN))


def test_a_removed_members_cosignature_does_not_count() -> None:
    line = line_of(YANTAI.witness)
    assert verify_witness_line(ALLIANCE, SIGNED, line)[0] == "yantai"
    with pytest.raises(SignatureError, match="no active member"):
        verify_witness_line(removed(), SIGNED, line)


REFUSED = {
    "a stranger": line_of(Lab("dezhou").witness),
    "another alliance": line_of(Lab("qingdao", "other.example").witness),
    "a log key": SIGNED.note.signatures[0],
    "another key under the name": line_of(
        Signer(VerifierKey(QINGDAO.witness.key.name, TYPE_WITNESS, public_key("x")), sign_with("x"))
    ),
    "another's signature": replace(
        line_of(YANTAI.witness), name=QINGDAO.witness.key.name, key_id=QINGDAO.witness.key.key_id
    ),
    "a changed time": replace(
        line_of(QINGDAO.witness), signature=bytes(7) + b"\x01" + line_of(QINGDAO.witness).signature[8:]
    ),
    "another checkpoint": cosign_checkpoint(replace(SIGNED.checkpoint, size=8), QINGDAO.witness, NOW_S).line,
    "no time": replace(line_of(QINGDAO.witness), signature=line_of(QINGDAO.witness).signature[8:]),
    "time 0": line_of(QINGDAO.witness, 0),
    "year 10000": line_of(QINGDAO.witness, 253402300800),
    "time 2^62": line_of(QINGDAO.witness, 2**62),
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_other_lines_do_not_count(line: SignatureLine) -> None:
    with pytest.raises(SignatureError):
        verify_witness_line(ALLIANCE, SIGNED, line)
    assert accept_cosignatures(ALLIANCE, "jinan", SIGNED.with_lines((line,))) == {}


def test_the_last_second_that_can_be_written() -> None:
    assert verify_witness_line(ALLIANCE, SIGNED, line_of(QINGDAO.witness, 253402300799))[0] == "qingdao"


@pytest.mark.parametrize(("late_s", "holds"), [(-1, True), (0, True), (1, False)])
def test_a_retired_witness_key_counts_up_to_its_end(late_s: int, holds: bool) -> None:
    alliance = rotated(datetime.fromtimestamp(NOW_S, UTC))
    line = line_of(QINGDAO.witness, NOW_S + late_s)
    if holds:
        assert verify_witness_line(alliance, SIGNED, line)[0] == "qingdao"
    else:
        with pytest.raises(SignatureError, match="retired"):
            verify_witness_line(alliance, SIGNED, line)
    current = line_of(replace(QINGDAO, generation=2).witness, NOW_S + late_s)
    assert verify_witness_line(alliance, SIGNED, current)[0] == "qingdao"


def test_accept_cosignatures_leaves_out_the_author_and_what_is_wrong() -> None:
    lines = (*(line_of(lab.witness) for lab in LABS), *REFUSED.values())
    accepted = accept_cosignatures(ALLIANCE, "jinan", SIGNED.with_lines(lines))
    assert sorted(accepted) == ["qingdao", "yantai"]


def test_a_member_counts_once_with_its_first_line() -> None:
    twice = cosign(cosign(SIGNED, {QINGDAO: NOW_S}), {QINGDAO: NOW_S + 1})
    assert len(twice.note.signatures) == 3
    accepted = accept_cosignatures(ALLIANCE, "jinan", twice)
    assert {member: cosignature.time for member, cosignature in accepted.items()} == {"qingdao": NOW_S}


# Qingdao's key under yantai's name: who names it as a former key of its own can show qingdao's signature again.
SHARED = Signer(VerifierKey(YANTAI.witness.key.name, TYPE_WITNESS, QINGDAO.witness.key.public_key), QINGDAO.witness.sign)


def borrowing(alliance: Alliance) -> Alliance:
    """Yantai names qingdao's first witness key as a former one of its own."""
    former = (FormerWitnessKey(SHARED.key, datetime.fromtimestamp(NOW_S, UTC)),)
    card = build_card(YANTAI, seq=2, previous=ALLIANCE.cards["yantai"][0].hash, former_witness_keys=former)
    return alliance.accept_card(sign_card(card, YANTAI))


def claiming() -> Alliance:
    """Qingdao has retired its first witness key, and yantai says that it cosigns with it now."""
    former = (FormerWitnessKey(YANTAI.witness.key, datetime.fromtimestamp(NOW_S, UTC)),)
    changes = {"witness_key": SHARED.key, "former_witness_keys": former}
    card = build_card(YANTAI, seq=2, previous=ALLIANCE.cards["yantai"][0].hash, **changes)
    return rotated(datetime.fromtimestamp(NOW_S, UTC)).accept_card(sign_card(card, YANTAI))


BORROWED = {
    "current": borrowing(ALLIANCE),
    "retired": borrowing(rotated(datetime.fromtimestamp(NOW_S, UTC))),
    "claimed": claiming(),
}


@pytest.mark.parametrize("owner", BORROWED)
def test_whoever_names_anothers_key_gives_no_second_cosignature(owner: str) -> None:
    alliance = BORROWED[owner]
    accepted = accept_cosignatures(alliance, "jinan", SIGNED.with_lines((line_of(QINGDAO.witness), line_of(SHARED))))
    assert list(accepted) == ["qingdao", "yantai"]
    assert len(each_key_once(alliance, accepted)) == len(without_borrowed(alliance, accepted, held={})) == 1
    # What is held is not taken away from whom it was taken of, whatever another says of the key since.
    theirs, own = ({name: accepted[name]} for name in ("yantai", "qingdao"))
    assert without_borrowed(alliance, theirs, held=own) == {}
    assert without_borrowed(alliance, own, held=own) == each_key_once(alliance, own) == own


@pytest.mark.parametrize("order", [1, -1])
def test_the_member_who_cosigns_with_a_key_now_has_the_cosignature(order: int) -> None:
    lines = (line_of(QINGDAO.witness), line_of(SHARED))[::order]
    accepted = accept_cosignatures(BORROWED["current"], "jinan", SIGNED.with_lines(lines))
    assert list(each_key_once(BORROWED["current"], accepted)) == ["qingdao"]
    assert list(without_borrowed(BORROWED["current"], accepted, held={})) == ["qingdao"]
    assert without_borrowed(BORROWED["current"], {"yantai": accepted["yantai"]}, held={}) == {}


def test_two_keys_are_two_cosignatures() -> None:
    both = accept_cosignatures(ALLIANCE, "jinan", cosign(SIGNED, {QINGDAO: NOW_S, YANTAI: NOW_S}))
    assert len(both) == 2
    assert without_borrowed(ALLIANCE, both, held={}) == without_borrowed(ALLIANCE, both, held=both) == both
    assert each_key_once(ALLIANCE, both) == both


def test_two_members_cannot_cosign_with_one_key_now() -> None:
    shared = VerifierKey(YANTAI.witness.key.name, TYPE_WITNESS, QINGDAO.witness.key.public_key)
    without = replace(ALLIANCE, cards={lab.member: ALLIANCE.cards[lab.member] for lab in (JINAN, QINGDAO)})
    with pytest.raises(GovernanceError, match="signs for qingdao already"):
        without.accept_card(sign_card(build_card(YANTAI, witness_key=shared), YANTAI))


def test_a_member_without_a_card_does_not_count() -> None:
    assert accept_cosignatures(replace(ALLIANCE, cards={}), "jinan", cosign(SIGNED, {QINGDAO: NOW_S})) == {}
