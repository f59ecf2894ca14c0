"""Whose fault it is that something told cannot be taken: never that of whoever passed on what another has signed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.core.amendment import ReplaceIdentity
from node.core.card import parse_card
from node.core.told import Refusal, is_outdated
from node.identity import propose_identity
from node.membership import Update
from node.sync.peers import Alarms
from tests.alliance import SimulatedAlliance
from tests.builders import build_card, sign_card
from tests.rotating import RotatingAlliance

ERASED = "what was erased is not yet gone from the files of this node"


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    made = SimulatedAlliance(tmp_path, 3)
    yield made
    made.close()


def refusal_of(alliance: SimulatedAlliance, raw: bytes) -> Refusal:
    (refusal,) = alliance["jinan"].membership.accept_update([], [raw]).refusals
    return refusal


def test_a_card_that_its_member_signed_is_that_members(alliance: SimulatedAlliance) -> None:
    lab = alliance["yantai"].lab
    refusal = refusal_of(alliance, sign_card(build_card(lab, seq=2, previous="0" * 64), lab))
    assert (refusal.signer, refusal.reason, refusal.accused("qingdao")) == ("yantai", "GOVERNANCE", "yantai")
    assert refusal.sentence("qingdao").startswith("yantai signed a card that cannot be taken (qingdao passed it on): ")
    assert refusal.sentence("yantai").startswith("yantai signed a card that cannot be taken: ")


def test_what_nobody_is_known_to_have_signed_is_the_tellers(alliance: SimulatedAlliance) -> None:
    """Neither the member that a forged card names, nor one that is in no roster, is blamed."""
    yantai, qingdao = alliance["yantai"].lab, alliance["qingdao"].lab
    unknown = replace(yantai, member="nobody")
    forged = sign_card(build_card(yantai, seq=2, previous=parse_card(alliance["yantai"].card)[0].hash), qingdao)
    for raw in (b"no card", forged, sign_card(build_card(unknown), unknown)):
        refusal = refusal_of(alliance, raw)
        assert (refusal.signer, refusal.accused("qingdao")) == ("", "qingdao")
        sentence = refusal.sentence("qingdao")
        assert sentence == f"qingdao passed on a roster or card that cannot be taken: {refusal.message}"


def test_a_card_by_a_replaced_identity_key_is_nobodys_fault(trio: RotatingAlliance) -> None:
    """Of whoever was away since: its home holds the old card in good faith, whatever its `seq`."""
    jinan, yantai, qingdao = (trio[name] for name in ("jinan", "yantai", "qingdao"))
    first = qingdao.member.membership.own_card
    qingdao.rotation.rotate("witness")
    assert trio.tell_card("qingdao", "yantai") == []
    assert jinan.member.membership.amend(ReplaceIdentity("qingdao", propose_identity(qingdao.files, first))).complete
    joined = jinan.member.membership.joined
    told = yantai.member.membership.newer_than(2, jinan.member.membership.held_cards())
    assert [parse_card(raw)[1].seq > joined.card("qingdao").seq for raw in told[1]] == [True]
    assert jinan.member.membership.accept_update(*told, teller="yantai") == Update(False, ())
    lab = qingdao.member.lab
    forged, elsewhere = sign_card(first[1], yantai.member.lab), sign_card(replace(first[1], alliance="a.example"), lab)
    for raw in (forged, elsewhere):
        (refusal,) = jinan.member.membership.accept_update([], [raw]).refusals
        assert refusal.accused("yantai") == "yantai"
    assert [is_outdated(joined, raw) for raw in (told[1][0], forged, elsewhere, b"no card")] == [True, False, False, False]
    held = yantai.member.membership.joined
    assert not is_outdated(held, told[1][0]), "nobody told yantai of the new key yet"


def test_no_number_of_cards_keeps_another_alarm_out(alliance: SimulatedAlliance) -> None:
    """As the followers of a node raise them: a liar has many words and one sentence for each kind of fault."""
    alarms, liar = Alarms(), alliance["yantai"].lab
    elsewhere = [build_card(replace(liar, alliance=f"a{i}.example")) for i in range(120)]
    told = [sign_card(replace(card, identity_key=liar.identity_key), liar) for card in elsewhere]
    alliance.tampering.cards = lambda cards: [*told, *cards]
    alliance.tampering.exchange = lambda answer: replace(answer, cards_digest=bytes(32))
    alliance.follow("jinan", "qingdao", lambda state: alarms.sentences(), on_alarm=alarms.raise_told)
    alarms.raise_sentence(ERASED)
    alarms.raise_told("qingdao", "FORMAT", "qingdao told nonsense")
    first, *others = alarms.sentences()
    assert first == ERASED
    assert others == [
        "yantai signed a card that cannot be taken (qingdao passed it on): the card of yantai is for a0.example, not for "
        f"{liar.alliance}",
        "qingdao told nonsense",
    ]
