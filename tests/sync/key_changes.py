"""Jinan's log under its own and other keys, and what its peers make of it."""

from __future__ import annotations

from node.core.card import Card
from node.core.checkpoint import verify_checkpoint
from node.store.logs import LogState
from tests.alliance import drafts
from tests.rotating import RotatingAlliance


def push(alliance: RotatingAlliance, count: int, prefix: str) -> None:
    alliance["jinan"].member.push(*drafts(count, prefix))


def mirror(alliance: RotatingAlliance, reader: str) -> LogState:
    return alliance[reader].member.mirror_of("jinan")


def card_of(alliance: RotatingAlliance, reader: str) -> Card:
    return alliance[reader].member.membership.joined.card("jinan")


def require_followed(alliance: RotatingAlliance, reader: str) -> None:
    """The reader holds the author's whole log, under a head that the newest card vouches for."""
    log, author = mirror(alliance, reader), alliance["jinan"].member.ledger
    assert log.head is not None and log.head.checkpoint == author.checkpoint
    verify_checkpoint(log.head, card_of(alliance, reader).log_key_at(log.head.size, log.head.root))
    assert not alliance[reader].member.alarms and not alliance[reader].member.splits


def cosign_by(alliance: RotatingAlliance, *names: str) -> None:
    """These members cosign what they hold of jinan's log, and everybody hears of it."""
    jinan = alliance["jinan"].member
    for name in names:
        alliance[name].member.exchange.cosign_head(jinan.lab.origin)
    for teller in names:
        for name in alliance.members:
            alliance[name].member.exchange.accept_notes(alliance[teller].member.exchange.held_notes(), peer=teller)
