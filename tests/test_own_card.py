"""The own card after the settings changed: one for each `seq` that was ever signed, whatever home was restored."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from node import membership as membership_module
from node.config import Settings
from node.core.card import CARD_TYPE, parse_card
from node.core.dsse import build_envelope
from node.daemon.card import OwnCard
from node.errors import ConfigError, StoreError
from node.identity import propose_identity
from node.keyfiles import KeyFiles
from tests.alliance import SimulatedAlliance, SimulatedMember, wait_until
from tests.sync.equivocation import contact


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> dict[int, set[bytes]]:
    """Every card that is signed from now on, by its `seq`."""
    cards: dict[int, set[bytes]] = defaultdict(set)

    def sign(content, payload_type, signer):
        envelope = build_envelope(content, payload_type, signer)
        # The settings are tried out in a card that nobody has signed.
        if payload_type == CARD_TYPE and any(envelope.signatures[0]):
            cards[content["seq"]].add(envelope.payload)
        return envelope

    monkeypatch.setattr(membership_module, "build_envelope", sign)
    return cards


def settings_of(member: SimulatedMember, **changes: Any) -> Settings:
    """The settings that the member's card says already, but for the changes."""
    card = member.membership.own_card[1]
    return replace(Settings(name=card.name, region=card.region, address=card.endpoints, listen="127.0.0.1:0"), **changes)


def start(member: SimulatedMember, **changes: Any) -> OwnCard:
    """As the daemon starts."""
    return OwnCard(
        member.membership,
        member.confirmation,
        settings_of(member, **changes),
        files=KeyFiles(member.path / "keys"),
        on_alarm=member.alarms.append,
    )


def pieces(alliance: SimulatedAlliance) -> list[str]:
    """Every piece of evidence anywhere."""
    return [f"{name}: {piece.kind}" for name, member in alliance.members.items() for piece in member.evidence.pieces()]


def test_a_restored_home_at_another_address_signs_no_second_card_of_a_seq(alliance, tmp_path, signed) -> None:
    jinan = alliance["jinan"]
    backup = jinan.snapshot(tmp_path / "backup")
    assert start(jinan, address=("new.example:1",)).reissue()
    contact(alliance, "jinan", "qingdao")
    jinan.roll_back(backup)
    card = start(jinan, address=("restored.example:1",))
    assert not card.reissue(), "nobody has told what this home has signed"
    assert jinan.membership.own_card[1].seq == 1
    contact(alliance, "jinan", "qingdao")
    assert jinan.membership.own_card[1].endpoints == ("new.example:1",)
    assert card.reissue() and not card.reissue()
    for caller, server in (("jinan", "qingdao"), ("jinan", "yantai"), ("yantai", "qingdao")):
        contact(alliance, caller, server)
    assert [len(cards) for cards in signed.values()] == [1, 1]
    for member in alliance.members.values():
        assert member.membership.joined.card("jinan").endpoints == ("restored.example:1",)
    assert pieces(alliance) == [] and all(not member.alarms for member in alliance.members.values())


def test_a_home_without_peers_signs_at_once(tmp_path, signed) -> None:
    alone = SimulatedAlliance(tmp_path / "alone", 1, confirmed=False)
    assert start(alone["jinan"], name="Another name").reissue()
    assert list(signed) == [2]
    alone.close()


def test_it_is_signed_when_confirmation_comes(alliance) -> None:
    jinan = alliance["jinan"]
    jinan.reopen()
    card = start(jinan, name="Another name")

    async def work() -> None:
        running = asyncio.create_task(card.run())
        await asyncio.sleep(0.02)
        assert jinan.membership.own_card[1].seq == 1
        jinan.confirmation.override()
        card.notice()
        await wait_until(lambda: jinan.membership.own_card[1].name == "Another name")
        running.cancel()

    alliance.run(work)


def test_settings_that_no_card_can_hold_are_refused_at_the_start(alliance, signed) -> None:
    jinan = alliance["jinan"]
    jinan.reopen()
    with pytest.raises(ConfigError, match="cannot stand in a card"):
        start(jinan, name="x" * 201)
    assert not signed


def test_no_card_beside_the_one_that_names_a_new_identity_key(alliance, signed) -> None:
    jinan = alliance["jinan"]
    files = KeyFiles(jinan.path / "keys")
    files.folder.mkdir(mode=0o700, exist_ok=True)
    card = start(jinan, name="Another name")
    assert parse_card(propose_identity(files, jinan.membership.own_card))[1].seq == 2
    assert not card.reissue() and not signed
    files.next_path("identity").unlink()
    assert card.reissue() and jinan.alarms == []


def test_what_stands_in_the_way_is_said(alliance, monkeypatch) -> None:
    jinan = alliance["jinan"]
    card = start(jinan, name="Another name")

    def refuse(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(jinan.store.membership, "save_card", refuse)
    assert not card.reissue()
    assert jinan.alarms == ["the card cannot say what the settings say: the disk is full"]
    assert parse_card(jinan.card)[1].seq == 1
