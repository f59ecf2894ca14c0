"""A member that names other members' keys as its own former ones: it takes nothing from them, at their peers or at home."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.core.card import FormerLogKey
from node.core.merkle import EMPTY_ROOT
from node.disowning import Objector
from node.rpc.tls import TrustedCertificates, certificate_pem
from tests.alliance import SimulatedAlliance, SimulatedMember, draft
from tests.builders import sign_card
from tests.sync.equivocation import contact

VICTIM, THIEF, OTHER = "qingdao", "jinan", "yantai"


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    made = SimulatedAlliance(tmp_path / "alliance", 3)
    yield made
    made.close()


@pytest.fixture
def squatted(alliance: SimulatedAlliance) -> SimulatedAlliance:
    """The victim and another member have taken the thief's card, which names both keys of the victim as former ones."""
    thief, victim = alliance[THIEF], alliance[VICTIM].membership.own_card[1]
    envelope, card = thief.membership.own_card
    names = [
        card.log_key,
        *(replace(card.log_key, public_key=key.public_key) for key in (victim.log_key, victim.witness_key)),
    ]
    former = tuple(FormerLogKey(name, 0, EMPTY_ROOT) for name in names)
    log_key = replace(thief.lab, generation=2).log.key
    raw = sign_card(
        replace(card, seq=card.seq + 1, previous=envelope.hash, log_key=log_key, former_log_keys=former), thief.lab
    )
    for name in (VICTIM, OTHER):
        assert alliance[name].membership.accept_update([], [raw]).changed
    return alliance


def next_card(victim: SimulatedMember) -> bytes:
    envelope, card = victim.membership.own_card
    return sign_card(replace(card, seq=card.seq + 1, previous=envelope.hash, name="Qingdao moved"), victim.lab)


def test_every_card_stands_after_a_restart(squatted: SimulatedAlliance) -> None:
    for name in (VICTIM, OTHER):
        squatted[name].reopen()
        assert sorted(squatted[name].membership.joined.cards) == sorted((VICTIM, THIEF, OTHER))
    squatted[VICTIM].push(draft("WJ-2026-000001"))
    contact(squatted, VICTIM, OTHER)
    squatted.catch_up(OTHER, VICTIM)
    assert squatted[OTHER].mirror_of(VICTIM).head_size == 1


def test_the_victim_is_still_known_by_its_certificate(squatted: SimulatedAlliance) -> None:
    other = squatted[OTHER]
    other.reopen()
    trusted = TrustedCertificates(own_card=lambda: other.membership.own_card[1], alliance=lambda: other.membership.alliance)
    certificate = squatted[VICTIM].membership.own_card[1].tls_certificates[0]
    assert trusted.member_of(certificate_pem(certificate)) == VICTIM


def test_the_victims_next_card_is_taken(squatted: SimulatedAlliance) -> None:
    victim, other = squatted[VICTIM], squatted[OTHER]
    other.membership._objector = Objector(other.store, lambda: other.membership.alliance)
    update = other.membership.accept_update([], [next_card(victim)])
    assert update.changed and not update.faults
    assert victim.membership.reissue_card(name="Qingdao moved", region="CN-37", endpoints=("192.0.2.9:7443",))
