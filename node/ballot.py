"""What became of a change of the roster: how many have signed it; and what a node objects to in its cards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from node.core.alliance import Alliance
from node.core.card import Card, parse_card
from node.core.roster import Head, Roster
from node.errors import DisownedError, GovernanceError


@dataclass(frozen=True, slots=True)
class Ballot:
    """What became of a change: the alliance as it is now, and the roster with `have` of the `needed` signatures."""

    alliance: Alliance
    proposal: bytes
    have: int
    needed: int

    @property
    def complete(self) -> bool:
        """Whether the roster is in force."""
        return self.have >= self.needed


class Objector(Protocol):
    """Why a card may not be taken, as far as this node knows, in words; None when it may (`node.disowning`)."""

    def judge_successor(self, held: Card, card: Card) -> str | None:
        """Why `card` may not take the place of `held`."""

    def judge_first(self, card: Card) -> str | None:
        """Why `card` may not be the first of its identity key."""

    def judge_proposed(self, card: Card) -> str | None:
        """Why no roster with the card's identity key should be signed here."""

    def judge_end(self, member: str, head: Head) -> str | None:
        """Why no roster that removes the member, and ends its log at `head`, should be signed here."""

    def judge_root(self, member: str, head: Head) -> str | None:
        """Why a person should look twice before a roster that names this head of the member's log is signed here."""

    def seen_size(self, member: str) -> int:
        """How much of a member's log a quorum is known to have cosigned."""

    def gives_up_entries(self, card: Card) -> bool:
        """Whether entries that are held here count no more once this card is taken."""


def require_nothing_disowned(objector: Objector | None, cards: Iterable[bytes]) -> None:
    """Refuse to sign a roster with an identity key whose card takes back what its member has signed.

    Raises:
        DisownedError: it does.
    """
    for card in [parse_card(raw)[1] for raw in cards]:
        if objector is not None and (reason := objector.judge_proposed(card)):
            raise DisownedError(
                reason,
                hint=f"{card.member} first takes the newer card that you hold: send it the file of labmesh roster export -o "
                "FILE; there: labmesh join FILE, then again: labmesh keys identity -o CARD",
            )


def require_good_heads(objector: Objector | None, held: Roster, roster: Roster, *, size: int | None, command: str) -> None:
    """Refuse to sign a roster that ends a log, or lets a history survive, where it should not, as far as this node knows.

    Args:
        objector: what this node knows.
        held: the roster in force.
        roster: the next one.
        size: of the head, as a person has named it: then its root may be another one than is verified here, and it may lie
            below what a quorum has cosigned.
        command: what a person types to name it.

    Raises:
        GovernanceError: it does.
    """
    for name, line in held.members.items():
        new = roster.members[name]
        if objector is not None and new.head is not None and (new.status, new.head) != (line.status, line.head):
            ends, by_hand = new.cut is not None, new.head.size == size
            _require_good_head(objector, name, new.head, ends=ends, by_hand=by_hand, command=command)


def _require_good_head(objector: Objector, name: str, head: Head, *, ends: bool, by_hand: bool, command: str) -> None:
    if ends and (reason := objector.judge_end(name, head)):
        raise GovernanceError(reason, hint="let it be proposed where the node has the surviving history: labmesh peers")
    all_the_same = f"{command} --head-size {head.size}"
    if not by_hand and (reason := objector.judge_root(name, head)):
        raise GovernanceError(
            f"{reason}: if it were in force, nothing that {name} has said in the history held here could be proved any more",
            hint=f"do not sign it unless {name} has signed two histories (labmesh evidence list) and the council chooses "
            f"the other one; then type: {all_the_same}",
        )
    if ends and not by_hand and head.size < (seen := objector.seen_size(name)):
        raise GovernanceError(
            f"the roster would end the log of {name} at size {head.size}, but a quorum cosigned it up to size {seen}: "
            "nothing between could ever be proved again",
            hint="let a council member propose it whose node has read the log that far (labmesh peers); to end it there "
            f"all the same: {all_the_same}",
        )


def require_unopposed(objector: Objector | None, alliance: Alliance, card: Card) -> None:
    """Refuse a card from outside that takes back what this node has seen.

    Where none is held of its member, that is a newcomer, of whom nothing is held, or one whose identity key was replaced.

    Raises:
        DisownedError: what it takes back.
    """
    if objector is None:
        return
    held = alliance.cards.get(card.member)
    reason = objector.judge_first(card) if held is None else objector.judge_successor(held[1], card)
    if reason is not None:
        raise DisownedError(reason)
