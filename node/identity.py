"""Replace the identity key of a home, with the council's help: the key signs the member's cards, so no card can do it alone.

The new key waits as `keys/identity.next.pem`. The card that names it goes to the council; when the roster that names it has
arrived, and with it the card, the next start puts the file in the place of the old one. Where the old file is lost, the new
one takes its place at once. As long as the roster does not name it, it can be given up.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.core.alliance import Alliance
from node.core.card import CARD_TYPE, Card, card_content, parse_card
from node.core.dsse import build_envelope, format_envelope
from node.core.succession import SignedCard
from node.errors import GovernanceError
from node.keyfiles import KeyFiles

NAME = "identity"
CARD_INTERVAL = timedelta(seconds=1)
NEW_IDENTITY = (
    "labmesh keys identity -o FILE, and the council, where its threshold is met without that key, types: labmesh roster "
    "rekey MEMBER FILE"
)


def propose_identity(files: KeyFiles, own: SignedCard) -> bytes:
    """The envelope of the member's next card, signed by a new identity key, which it names.

    The key is made once; the same call again signs with the one that waits already, and gives the same bytes, also in a
    home restored from a backup: two cards of one `seq` under one key would be evidence against the member. So the card
    takes no time from the clock; it is `issued` a second after the one that it follows. Once that key's card is the home's
    own, because the roster has come, it is that card.

    Raises:
        HomeError: the waiting key cannot be opened.
    """
    envelope, card = own
    path = files.next_path(NAME)
    if not path.exists():
        files.write(path, Ed25519PrivateKey.generate())
    key = files.load_ed25519(path)
    identity_key = key.public_key().public_bytes_raw()
    if card.identity_key == identity_key:
        return format_envelope(envelope)
    successor = replace(
        card,
        identity_key=identity_key,
        seq=card.seq + 1,
        previous=envelope.hash,
        issued=card.issued + CARD_INTERVAL,
    )
    raw = format_envelope(build_envelope(card_content(successor), CARD_TYPE, key.sign))
    parse_card(raw)
    return raw


def abandon_identity(files: KeyFiles, member: str, alliance: Alliance | None) -> None:
    """Give up the waiting key; the one in the home stays. Only for whoever can take no roster meanwhile.

    Raises:
        GovernanceError: none waits, the roster names it already, or there is no other.
        HomeError: the waiting key cannot be opened.
    """
    require_identity_pending(files)
    if is_identity_in_force(files, member, alliance):
        raise GovernanceError(
            "the roster names the new identity key already, so the old one signs nothing any more",
            hint="restart the node: it takes the new key into use",
        )
    if not files.path(NAME).exists():
        raise GovernanceError("the old identity key is gone, so the new one is the only one", hint=NEW_IDENTITY)
    files.drop_next(NAME)


def require_identity_pending(files: KeyFiles) -> None:
    """Refuse where there is nothing to give up.

    Raises:
        GovernanceError: no new identity key waits.
    """
    if not is_identity_pending(files):
        raise GovernanceError("no new identity key waits", hint="type: labmesh keys show")


def is_identity_pending(files: KeyFiles) -> bool:
    """Whether a new identity key waits, whose card has the next `seq` already."""
    return files.next_path(NAME).exists()


def is_identity_in_force(files: KeyFiles, member: str, alliance: Alliance | None) -> bool:
    """Whether the roster that is held names the waiting key.

    Raises:
        HomeError: it cannot be opened.
    """
    entry = None if alliance is None else alliance.roster.members.get(member)
    if entry is None or not is_identity_pending(files):
        return False
    return entry.identity_key == files.load_ed25519(files.next_path(NAME)).public_key().public_bytes_raw()


def settle_identity(files: KeyFiles, card: Card) -> bool:
    """Put the waiting key in its place when the home's newest card names it, or the old one is lost.

    Raises:
        HomeError: the waiting key cannot be opened.
    """
    waiting = files.next_path(NAME)
    if not waiting.exists():
        return False
    key = files.load_ed25519(waiting).public_key().public_bytes_raw()
    if key != card.identity_key and files.path(NAME).exists():
        return False
    files.promote(NAME)
    return True
