"""Where this home's member stands: may it change the roster, what becomes of its card, whose card is missing here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.app import App
from cli.governance import open_membership, read_held_alliance
from cli.output import print_note
from node.errors import FormatError, GovernanceError, SignatureError

if TYPE_CHECKING:
    from cli.governance import HeldAlliance
    from node.core.alliance import Alliance


@dataclass(frozen=True, slots=True)
class MissingCard:
    """An active member of which no card counts here, and why."""

    member: str
    reason: str

    @property
    def sentence(self) -> str:
        """Who, why, and what does not work without it."""
        return f"no card of {self.member} counts here ({self.reason}), so this node neither reaches it nor verifies its log"

    @property
    def hint(self) -> str:
        """What to do."""
        return f"ask {self.member} to type: labmesh card -o FILE; with that file type: labmesh join FILE"

    def __str__(self) -> str:
        """Both, as one remark."""
        return f"{self.sentence}; {self.hint}"


def require_seat(app: App) -> None:
    """Refuse a change of the roster at once, before anything is asked, where this member has no seat.

    Raises:
        GovernanceError: it has none; the hint names the council.
    """
    held = read_held_alliance(app.home)
    if held.alliance is None:
        return  # a refusal of its own
    member, council = held.identity.member, held.alliance.council_members()
    if member not in council:
        raise GovernanceError(
            f"{member} does not sit on the council of {held.alliance.name}, so it cannot change the roster",
            hint=f"send the card or the wish to a member of the council: {', '.join(council)}",
        )


def describe_card_use(held: HeldAlliance) -> str:
    """What the member's own card is good for now, and what to type with it."""
    from node.core.card import parse_card

    alliance, member = held.alliance, held.identity.member
    if alliance is None:
        return f"Send it to a member of the council of {held.identity.alliance}, who types: labmesh roster add FILE"
    council, line = ", ".join(alliance.council_members()), alliance.roster.members.get(member)
    if line is None or line.status == "removed":
        return f"{member} was removed from {alliance.name} for good, so no node takes its card; ask the council ({council})."
    if line.identity_key != parse_card(held.own_card)[1].identity_key:
        return (
            f"The roster names another identity key for {member}. Send it to a member of the council ({council}), who "
            f"compares the key by telephone and types: labmesh roster rekey {member} FILE"
        )
    return (
        f"{member} is a member of {alliance.name}: running nodes get this card by themselves. Where none lets this node "
        "in, bring it to one, and type at a peer: labmesh join FILE"
    )


def find_missing_cards(app: App, alliance: Alliance) -> list[MissingCard]:
    """The active members without a card in `alliance`, which is what the home (or the node far away) holds."""
    missing = [member for member in alliance.active_members() if member not in alliance.cards]
    if not missing:
        return []
    if app.is_remote:
        return [MissingCard(member, "the node at home can say why: labmesh doctor") for member in missing]
    with open_membership(app.home) as store:
        return [MissingCard(member, explain_missing(alliance, store.load_cards(member))) for member in missing]


def note_missing_cards(app: App, alliance: Alliance) -> None:
    """Say on stderr of which members no card counts here."""
    for missing in find_missing_cards(app, alliance):
        print_note(app.complete(str(missing)))


def explain_missing(alliance: Alliance, stored: Sequence[bytes]) -> str:
    """Why none of the stored cards of one member counts in an alliance; the newest is the last of them."""
    reason = "none has arrived yet"
    for raw in stored:
        try:
            alliance.accept_card(raw)
        except (FormatError, GovernanceError, SignatureError) as error:
            reason = error.message
    return reason
