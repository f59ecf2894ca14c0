"""Keys that the own card names and this home does not hold, and what its people type.

Key files that are older than the database, or a database that learned from its peers of a card that it had lost: either
way the node runs, serves and follows as before, and leaves undone only what the lost key would sign. A new key takes the
lost one's place by a new card, as in any rotation; the lost one goes on to vouch for what the peers hold.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric import ec

from node.core.card import Card
from node.core.keys import VerifierKey
from node.keyfiles import is_certificate_of

TLS_LOST = (
    "if it was not done yet, type at a peer: labmesh roster export -o FILE; and here: labmesh join FILE; then type: labmesh "
    "keys rotate tls --without-peers"
)

_SENTENCES = {
    "log": (
        "this member's card names a log key that this home does not hold, so nothing is signed: what is pushed waits, and "
        "is published by the next key; once enough peers are connected type: labmesh keys rotate log"
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


def describe_lost_role(role: str) -> str:
    """One alarm: what is left undone without the key, and what to type."""
    return _SENTENCES[role]
