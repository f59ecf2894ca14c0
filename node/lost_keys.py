"""Keys that the own card names and this home does not hold, and what its people type.

Key files that are older than the database, or a database that learned from its peers of a card that it had lost: either
way the node runs, serves and follows as before, and leaves undone only what the lost key would sign. A new key takes the
lost one's place by a new card, as in any rotation; the lost one goes on to vouch for what the peers hold.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric import ec

from node.confirmation import Confirmation
from node.core.card import Card
from node.core.keys import VerifierKey
from node.errors import UnconfirmedError, UserError
from node.keyfiles import is_certificate_of
from node.membership import Membership

TLS_LOST = (
    "if it was not done yet, type at a peer: labmesh roster export -o FILE; and here: labmesh join FILE; then type: labmesh "
    "keys rotate tls --without-peers"
)
_SENTENCES = {
    "log": (
        "this member's card names a log key that this home does not hold, so nothing is signed: what is pushed waits, and "
        "is published by the next key; once every peer has connected type: labmesh keys rotate log"
    ),
    "witness": (
        "this member's card names a witness key that this home does not hold, so it cosigns nothing; once enough peers are "
        "connected type: labmesh keys rotate witness"
    ),
    "tls": (f"this member's card names no certificate of the TLS key in this home, so no peer can connect; {TLS_LOST}"),
}


def find_lost_roles(
    card: Card, *, log_key: VerifierKey, witness_key: VerifierKey, tls_key: ec.EllipticCurvePrivateKey
) -> list[str]:
    """The roles, of `log`, `witness` and `tls`, whose current key in the card is none of those that this home holds."""

    def found() -> Iterator[str]:
        if log_key != card.log_key:
            yield "log"
        if witness_key != card.witness_key:
            yield "witness"
        if not any(is_certificate_of(der, tls_key) for der in card.tls_certificates):
            yield "tls"

    return list(found())


def require_peers_optional(role: str, lost: list[str], *, retry: str) -> None:
    """Refuse `--without-peers` where it would mean nothing.

    Raises:
        UserError: the role is neither `tls`, nor `log` with its key lost.
    """
    if role != "tls" and not (role == "log" and "log" in lost):
        raise UserError("only the TLS key and a lost log key can be changed without peers", hint=f"type: {retry}")


def require_all_told(membership: Membership, confirmation: Confirmation, size: int | None) -> None:
    """Refuse to end a lost log key while a peer may hold entries that nobody else has.

    The card ends the key at what this home holds, and no key vouches for more: who holds more would forget it. A quorum
    that holds no more does not rule that out. A peer that showed another history has told: what it holds stands against
    what is held here, and nothing of it would come back.

    Args:
        membership: who is to be asked.
        confirmation: what they said.
        size: where the key is to end; None for the end of what is signed.

    Raises:
        UnconfirmedError: an active peer has not told since the start what it holds, or not given back yet what it holds.
    """
    alliance, heard = membership.alliance, confirmation.peers_heard()
    waiting = [] if alliance is None else [peer for peer in alliance.other_members(membership.member) if peer not in heard]
    if waiting:
        retry = "labmesh keys " + ("rotate log" if size is None else f"revoke log --size {size}")
        raise UnconfirmedError(
            f"{', '.join(waiting)} did not tell since the start how much of this log is held there, or did not give it "
            "back yet: entries beyond what is held here would be lost with the key",
            hint=f"let them connect (labmesh peers); if they never will, and what only they hold may be lost: {retry} "
            "--without-peers",
        )


def describe_lost_role(role: str) -> str:
    """One alarm: what is left undone without the key, and what to type."""
    return _SENTENCES[role]
