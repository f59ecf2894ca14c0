"""A roster or card that a peer told and that cannot be taken: whose fault that is, as far as signatures show it.

Whoever passes on what it holds cannot know what another node holds. So a card that its author has signed is its author's,
and the peer that told it only passed it on; of everything else nobody but that peer is known. A card by an identity key that
a roster has replaced meanwhile is nobody's fault: who was away since holds it in good faith.
"""

from __future__ import annotations

from typing import NamedTuple

from node.core.alliance import Alliance
from node.core.card import parse_card, verify_card
from node.errors import FormatError, LabmeshError, SignatureError


class Refusal(NamedTuple):
    """Why one envelope was not taken. `signer` is whose identity key signed it, empty where no key is known to have."""

    signer: str
    reason: str
    message: str

    def accused(self, teller: str) -> str:
        """Whose fault it is, where `teller` told it."""
        return self.signer or teller

    def sentence(self, teller: str) -> str:
        """What to tell a person."""
        if not self.signer:
            return f"{teller} passed on a roster or card that cannot be taken: {self.message}"
        way = "" if self.signer == teller else f" ({teller} passed it on)"
        return f"{self.signer} signed a card that cannot be taken{way}: {self.message}"


def build_refusal(alliance: Alliance, raw: bytes, error: LabmeshError) -> Refusal:
    """What is to be said of `raw`, which `alliance` refuses with `error`."""
    return Refusal(_signer_of_card(alliance, raw), error.reason, error.message)


def is_outdated(alliance: Alliance, raw: bytes) -> bool:
    """Whether `raw` is a card that was signed by an identity key which a later roster of the chain replaced."""
    try:
        envelope, card = parse_card(raw)
    except FormatError:
        return False
    keys = [roster.members[card.member].identity_key for _, roster in alliance.rosters if card.member in roster.members]
    if card.alliance != alliance.name or card.identity_key in keys[-1:]:
        return False
    return bool(envelope.signers({card.identity_key}.intersection(keys)))


def _signer_of_card(alliance: Alliance, raw: bytes) -> str:
    """The member whose card this is, where its identity key in the roster has signed it; else the empty string."""
    try:
        envelope, card = parse_card(raw)
        member = alliance.roster.members.get(card.member)
        if member is None:
            return ""
        verify_card(envelope, card, member.identity_key)
    except (FormatError, SignatureError):
        return ""
    return card.member
