"""Cards of this member that others have shown and that its home has not taken: the home is older than what it has signed.

Only a card with the signature of the member's identity key counts, so no peer can make one up. While one stands out,
nothing of the log is signed: the keys that it names may have signed those sizes already. A checkpoint alone by a key that
is not known here proves nothing, and needs no look: whoever holds an honest one holds the card that names its key, and
shows that first. What was shown is kept in memory; after a restart each contact shows it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from node.core.card import Card, parse_card, verify_card
from node.core.merkle import Tree
from node.core.succession import continues, continues_log
from node.errors import FormatError, SignatureError

TAKE_CARD = (
    "labmesh status says why it is not taken; bring it from there (there: labmesh roster export -o FILE; here: labmesh join "
    "FILE); if that is refused, too, the council decides: labmesh roster settle, or roster rekey"
)

END_PARTED_CARDS = (
    "the two cards end keys in different ways, so neither can follow the other, whichever is taken, and only a new identity "
    "key ends that: labmesh keys identity -o FILE, and the council types: labmesh roster rekey MEMBER FILE; where the "
    "council needs this home for it: stop the node here, and type: labmesh roster rekey MEMBER FILE --offline"
)


@dataclass(frozen=True, slots=True)
class ShownCard:
    """A card that is not held here, and the peer that showed it; no peer where a person brought it in a file."""

    teller: str
    card: Card

    def describe(self, held: Card, tree: Tree, signed_size: int) -> str:
        """One sentence: who has shown what, and what it says of the log beside what is signed here."""
        who = self.teller or "a file"
        said = f"{who} has shown a card of this member, seq {self.card.seq}, that this home has signed and forgotten"
        for former in self.card.former_log_keys:
            if former.size > signed_size:
                return f"{said}; it ends a log key at size {former.size}, and only {signed_size} entries are signed here"
            if former not in held.former_log_keys and tree.root(former.size) != former.root:
                return f"{said}; it ends a log key at size {former.size} with another root than is signed here"
        return f"{said}; it names other keys" if self.card.log_key != held.log_key else said

    def remedy(self, held: Card) -> str:
        """What to do, and to type, so that it stands out no more."""
        return TAKE_CARD if continues(held, self.card) or continues(self.card, held) else END_PARTED_CARDS


class ShownCards:
    """The newest such card of each teller. Notes come one at a time; any thread may read."""

    def __init__(self) -> None:
        """Nobody has shown any."""
        self._cards: tuple[ShownCard, ...] = ()

    def note(self, held: Card, raws: Iterable[bytes], *, teller: str) -> None:
        """Look at what somebody told, after what could be taken was taken.

        Args:
            held: the own card now.
            raws: card envelopes, of any member.
            teller: a member, or nobody for a file. What it showed before is forgotten when it shows a card of this member.
        """
        found = [parsed for raw in raws if (parsed := _parse_own(held, raw)) is not None]
        if not found:
            return
        unheld = [ShownCard(teller, card) for card in found if is_unheld(held, card)]
        self._cards = (*(shown for shown in self._cards if shown.teller != teller), *unheld[-1:])

    def unheld(self, held: Card) -> list[ShownCard]:
        """Those that still stand out beside the own card."""
        return [shown for shown in self._cards if is_unheld(held, shown.card)]


def is_unheld(held: Card, card: Card) -> bool:
    """Whether a card by the same identity key is newer than the one held, or says of log keys what that one does not."""
    if card.identity_key != held.identity_key:
        return False
    return card.seq > held.seq or not continues_log(card, held)


def _parse_own(held: Card, raw: bytes) -> Card | None:
    """The card, if it is this member's by its word and by its signature."""
    try:
        envelope, card = parse_card(raw)
        if (card.alliance, card.member) != (held.alliance, held.member):
            return None
        verify_card(envelope, card, held.identity_key)
    except (FormatError, SignatureError):
        return None
    return card
