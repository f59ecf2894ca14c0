"""A liar who gives another's cosignatures as its own: no witness counts twice, and nobody's bundles fail by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.audit import build_bundle
from node.core.card import FormerWitnessKey
from node.core.checkpoint import SignedCheckpoint
from node.core.names import parse_record_id
from node.core.note import SignatureLine
from node.core.quorums import Quorum
from node.core.verdict import Verdict
from node.core.witness import accept_cosignatures
from node.store.checkpoints import ThinningRule
from tests.alliance import SimulatedMember, drafts
from tests.builders import sign_card
from tests.rotating import RotatingAlliance
from tests.sync.equivocation import contact
from tests.verifiers import agreed_verdict

AUTHOR, VICTIM, LIAR = "jinan", "qingdao", "yantai"
SIZE = 3
FAR = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[RotatingAlliance]:
    """The victim has cosigned the author's log, told it to all, and rotated its witness key since."""
    made = RotatingAlliance(tmp_path, 3)
    simulated = made.simulated
    simulated[AUTHOR].push(*drafts(SIZE, "A"))
    for reader in (VICTIM, LIAR):
        simulated.catch_up(reader, AUTHOR)
    assert simulated[VICTIM].exchange.cosign_head(simulated[AUTHOR].ledger.origin)
    contact(simulated, VICTIM, AUTHOR)
    simulated.clock.turn(60)
    made[VICTIM].rotation.rotate("witness")
    assert made.tell_card(VICTIM, AUTHOR, LIAR) == []
    yield made
    made.close()


def lie(trio: RotatingAlliance, *, current: bool) -> SignedCheckpoint:
    """Name the victim's retired key as the liar's own; returns the checkpoint with the liar's line alone."""
    author, liar = trio.simulated[AUTHOR], trio.simulated[LIAR]
    retired = trio.simulated[VICTIM].membership.own_card[1].former_witness_keys[0].key
    envelope, card = liar.membership.own_card
    borrowed = replace(retired, name=card.witness_key.name)
    former = FormerWitnessKey(card.witness_key if current else borrowed, FAR)
    card = replace(
        card,
        seq=card.seq + 1,
        previous=envelope.hash,
        former_witness_keys=(former,),
        witness_key=borrowed if current else card.witness_key,
    )
    assert author.membership.accept_update([], [sign_card(card, liar.lab)]).changed
    held = held_by(author)
    (line,) = held.note.signatures_of(retired)
    bare = replace(held, note=replace(held.note, signatures=held.note.signatures[:1]))
    return bare.with_lines((SignatureLine(borrowed.name, borrowed.key_id, line.signature),))


def held_by(member: SimulatedMember) -> SignedCheckpoint:
    held = member.store.checkpoints.find(member.mirror_of(AUTHOR).id, SIZE)
    assert held is not None
    return held


def prove(author: SimulatedMember) -> Verdict:
    alliance = author.membership.joined
    record_id = parse_record_id(f"{AUTHOR}/result/A-000000")
    bundle = build_bundle(author.store, alliance, record_id, member=AUTHOR, ceiling=SIZE)
    return agreed_verdict(bundle, fingerprint=alliance.fingerprint, kinds=author.kinds)


@pytest.mark.parametrize("current", [False, True])
def test_a_liar_takes_no_cosignature_and_adds_none(trio: RotatingAlliance, current: bool) -> None:
    author = trio.simulated[AUTHOR]
    note, before = lie(trio, current=current), held_by(author)
    assert list(accept_cosignatures(author.membership.joined, AUTHOR, note)) == [LIAR]
    assert author.exchange.accept_notes([bytes(note)], peer=LIAR) == (0, [])
    assert held_by(author) == before
    verdict = prove(author)
    assert verdict.verified and list(verdict.cosigners) == [VICTIM]


@pytest.mark.parametrize("current", [False, True])
def test_what_an_earlier_release_kept_twice_counts_once(trio: RotatingAlliance, current: bool) -> None:
    author = trio.simulated[AUTHOR]
    note, log_id = lie(trio, current=current), author.ledger.log.id
    borrowed = accept_cosignatures(author.membership.joined, AUTHOR, note)
    assert author.store.checkpoints.save_cosignatures(log_id, SIZE, borrowed) == 1
    checkpoints, witnesses = author.store.checkpoints, [VICTIM, LIAR]
    for quorum, seen in ((1, SIZE), (2, None)):
        assert checkpoints.find_quorum_size(log_id, index=0, quorum=quorum, witnesses=witnesses) == seen
        quorums = [Quorum(quorum, frozenset(witnesses), None)]
        assert checkpoints.find_seen_size(log_id, quorums) == (seen or 0)
        assert len(checkpoints.load_seen(log_id, quorums)) == (seen is not None)
        rule = ThinningRule(2**60, quorum, witnesses)
        assert [held.seen_s for held in checkpoints._old(log_id, rule)] == [
            None if seen is None else next(iter(borrowed.values())).time
        ]
    verdict = prove(author)
    assert verdict.verified and len(verdict.cosigners) == 1


def test_a_borrowed_cosignature_of_what_is_not_read_yet_makes_no_quorum(trio: RotatingAlliance) -> None:
    """The author tells both lines; nobody ends its log below a size that one witness has cosigned."""
    author = trio.simulated[AUTHOR]
    note, alliance = lie(trio, current=False), author.membership.joined
    both = held_by(author).with_lines(note.note.signatures[1:])
    assert len(accept_cosignatures(alliance, AUTHOR, both)) == 2
    quorum = replace(alliance.roster, quorum=2)
    stricter = replace(alliance, rosters=(*alliance.rosters[:-1], (alliance.rosters[-1][0], quorum)))
    author.exchange.ahead.note(stricter, AUTHOR, both)
    assert author.exchange.ahead.size_of(stricter, AUTHOR) == 0
    author.exchange.ahead.note(alliance, AUTHOR, both)
    assert author.exchange.ahead.size_of(alliance, AUTHOR) == SIZE
