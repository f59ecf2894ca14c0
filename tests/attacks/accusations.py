"""Accusations: false evidence against an honest member. It is judged from its bytes alone, whoever brings it."""

from __future__ import annotations

from dataclasses import replace

from node.core.alliance import format_card
from node.core.evidence import (
    Evidence,
    Exhibit,
    build_conflicts,
    build_contradiction,
    build_split_view,
    format_evidence,
)
from tests.attacks.scene import COUNCIL, HELD, JINAN, SIZE, YANTAI, Scene, signed_by_jinan
from tests.attacks.surfaces import CALL
from tests.attacks.table import attack
from tests.builders import build_roster, sign_roster

FAMILY = "accusations"
OTHER = bytes(range(32))


def accuse(scene: Scene, evidence: Evidence) -> None:
    """yantai brings it to qingdao."""
    scene.reader.evidence.accept(format_evidence(evidence), peer="yantai")


def honest(scene: Scene, one: int = HELD, other: int = SIZE) -> Evidence:
    """Two checkpoints of jinan's one history, put together as if they were two."""
    tree = scene.jinan.store.logs.tree(scene.jinan.ledger.log.id)
    return build_split_view(scene.joined, "jinan", scene.checkpoint(one), scene.checkpoint(other), tree)


def guilty() -> tuple[bytes, bytes]:
    """Two notes of one size, as a liar signs them."""
    return signed_by_jinan(SIZE, OTHER), signed_by_jinan(SIZE, OTHER[::-1])


def with_notes(evidence: Evidence, first: bytes, second: bytes) -> Evidence:
    """The evidence with other notes, and nothing between them."""
    return replace(evidence, statements={"first.note": first, "second.note": second})


@attack(FAMILY, CALL, "VERIFICATION", "both notes have one root at size 3: they are one history")
def two_checkpoints_of_one_history(scene: Scene):
    accuse(scene, honest(scene))


@attack(FAMILY, CALL, "VERIFICATION", "both notes have one root at size 11")
def one_checkpoint_twice(scene: Scene):
    accuse(scene, honest(scene, SIZE, SIZE))


@attack(FAMILY, CALL, "VERIFICATION", "the log of size 11 does not extend the log of size 3")
def a_root_in_the_consistency_that_is_not_proved(scene: Scene):
    evidence = honest(scene)
    lines = evidence.statements["consistency.txt"].split(b"\n")
    lines[0] = b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    accuse(scene, replace(evidence, statements={**evidence.statements, "consistency.txt": b"\n".join(lines)}))


@attack(FAMILY, CALL, "VERIFICATION", "first: the note has no signature by a known key")
def notes_that_the_accused_did_not_sign(scene: Scene):
    first, second = (note.replace(JINAN.origin.encode(), YANTAI.origin.encode()) for note in guilty())
    accuse(scene, replace(with_notes(honest(scene), first, second), cards=cards_of(scene, "yantai")))


@attack(FAMILY, CALL, "VERIFICATION", "first.note is not a checkpoint of .*/log/yantai")
def the_notes_of_one_under_the_card_of_another(scene: Scene):
    accuse(scene, replace(with_notes(honest(scene), *guilty()), cards=cards_of(scene, "yantai")))


def cards_of(scene: Scene, member: str) -> dict[str, bytes]:
    return {member: format_card(scene.joined.cards[member])}


@attack(FAMILY, CALL, "VERIFICATION", "roster version 1 in the evidence is not the one held here")
def true_notes_beside_an_alliance_of_ones_own(scene: Scene):
    made_up = sign_roster(build_roster([JINAN, YANTAI]), JINAN)
    accuse(scene, replace(with_notes(honest(scene), *guilty()), rosters=(made_up,)))


@attack(FAMILY, CALL, "VERIFICATION", "the two statements say the same")
def one_record_as_its_own_contradiction(scene: Scene):
    opening = scene.jinan.store.logs.read_page(scene.jinan.ledger.log, start=0, stop=1, reader="qingdao").openings[0]
    exhibit = Exhibit(0, opening.salt, opening.record)
    tree = scene.jinan.store.logs.tree(scene.jinan.ledger.log.id)
    accuse(scene, build_contradiction(scene.joined, "jinan", scene.checkpoint(), [exhibit, exhibit], tree))


@attack(FAMILY, CALL, "VERIFICATION", "no one council key has signed both")
def two_rosters_that_no_one_key_has_signed(scene: Scene):
    pair = [sign_roster(scene.next_roster(title=title), lab) for title, lab in (("A", COUNCIL[0]), ("B", COUNCIL[0]))]
    (evidence,) = build_conflicts(scene.joined, pair)
    forged = {**evidence.statements, "second.roster": sign_roster(scene.next_roster(title="C"), COUNCIL[1])}
    accuse(scene, replace(evidence, statements=forged))


@attack(FAMILY, CALL, "VERIFICATION", "the two statements say the same")
def one_roster_twice(scene: Scene):
    pair = [sign_roster(scene.next_roster(title=title), COUNCIL[0]) for title in ("A", "B")]
    (evidence,) = build_conflicts(scene.joined, pair)
    accuse(scene, replace(evidence, statements=dict.fromkeys(evidence.statements, evidence.statements["first.roster"])))


@attack(FAMILY, CALL, "FORMAT", "the evidence has no known kind")
def a_file_that_is_no_evidence(scene: Scene):
    scene.reader.evidence.accept(b"PK\x05\x06" + bytes(18), peer="yantai")


@attack(FAMILY, CALL, "FORMAT", "cannot be this evidence; at most 6291456")
def a_file_of_ten_mebibytes(scene: Scene):
    scene.reader.evidence.accept(bytes(10 * 2**20), peer="yantai")
