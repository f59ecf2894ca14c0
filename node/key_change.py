"""What every change of a key has in common: its order, and when this home may not change any.

The order is always the same: the new key is on disk as `<name>.next.pem`, then the card that names it is saved, then the
file is renamed and the running node signs with it, then peers are told. A crash in between is healed at the next start
(`node.keyfiles.settle_keys`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from node.clock import Clock
from node.confirmation import Confirmation
from node.core.card import Card, parse_card
from node.core.keys import Signer, VerifierKey
from node.errors import FormatError, GovernanceError, HomeError, UnconfirmedError
from node.identity import NEW_IDENTITY, is_identity_in_force, is_identity_pending
from node.keyfiles import KeyFiles, settle_keys
from node.ledger import Ledger
from node.lost_keys import find_lost_roles
from node.membership import Membership
from node.store import Store
from node.sync.exchange import CheckpointExchange
from node.sync.spread import CardSpread

logger = logging.getLogger(__name__)

NO_CARD = "this home may be older than what was published, so no card is signed: it could name a wrong size or `seq` again"


@dataclass(frozen=True, slots=True)
class RotationParts:
    """What changes when a key does."""

    files: KeyFiles
    store: Store
    membership: Membership
    ledger: Ledger
    exchange: CheckpointExchange
    confirmation: Confirmation
    spread: CardSpread
    clock: Clock


class KeyChange:
    """One change of a key at a time. Any thread may call."""

    def __init__(self, parts: RotationParts, *, tls_key_pem: bytes) -> None:
        """Begin with the TLS key that is presented now."""
        self.tls_key_pem = tls_key_pem
        self._parts = parts
        self._stand_in: bytes | None = None
        self._lock = threading.Lock()

    def _find_lost(self) -> list[str]:
        parts = self._parts
        return find_lost_roles(
            parts.membership.own_card[1],
            log_key=parts.ledger.log_key,
            witness_key=parts.exchange.witness_key,
            tls_key=self._load_presented(),
        )

    def _load_presented(self) -> ec.EllipticCurvePrivateKey:
        key = load_pem_private_key(self.tls_key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def _issue(self, name: str, change: Callable[[Card], Card], then: Callable[[], None] | None = None) -> Card:
        """Save the card, then put the next key `name` (if any) in its place.

        Where the peers were not asked, the home may have forgotten cards that it signed: then the `seq` leaps.
        """
        leap = not self._parts.confirmation.confirmed or self._parts.confirmation.presumed

        def saved(_: Card) -> None:
            # The card is on disk and names the new key: from here on nothing may stop the change in this process.
            if name:
                try:
                    self._parts.files.promote(name)
                except OSError as error:
                    logger.error("event=key_not_renamed name=%s error=%r; the next start does it", name, error.strerror)
            if then is not None:
                then()

        try:
            return self._parts.membership.issue_card(change, saved=saved, leap=leap)
        except FormatError as error:
            self._settle()
            raise GovernanceError(f"the key cannot be changed: {error.message}", hint=error.hint) from error
        except BaseException:
            self._settle()
            raise

    def _prepare(self, name: str, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
        files = self._parts.files
        if self._settle():
            files.drop_next(name)  # of a rotation whose key was lost: the card names neither it nor the current one
        elif files.next_path(name).exists():
            raise HomeError(f"{files.next_path(name)} is in the way", hint="restart the node; it sorts the keys out")
        files.write(files.next_path(name), key)

    def _settle(self) -> bool:
        """Take away an unused next key, unless the database holds another card than this process knows of: then False."""
        membership = self._parts.membership
        raw = self._parts.store.membership.load_own_card(membership.member)
        if raw is None or parse_card(raw)[0].hash != membership.own_card[0].hash:
            return False
        settle_keys(self._parts.files, membership.own_card[1])
        return True

    def _require_settled_identity(self) -> None:
        """The card that names the waiting identity key has the next `seq` already; another one would be evidence."""
        membership = self._parts.membership
        if membership.identity_key != membership.own_card[1].identity_key and not is_identity_pending(self._parts.files):
            raise GovernanceError(
                "the identity key in this home is not the one in its card, so it can sign no card",
                hint=f"restore keys/identity.pem, or make a new one: {NEW_IDENTITY}",
            )
        if is_identity_in_force(self._parts.files, membership.member, membership.alliance):
            raise GovernanceError(
                "the roster names the new identity key of this home already, and this process has the old one still",
                hint="restart the node, which takes the new key into use, and type it again",
            )
        if is_identity_pending(self._parts.files):
            raise GovernanceError(
                "a new identity key waits for the council, so no other key can change before its roster is here",
                hint="let the council type: labmesh roster rekey MEMBER CARD   and restart this node when it is in force; "
                "or give the new key up, if the council has not signed: labmesh keys identity --abandon",
            )

    def _require_confirmed(self) -> None:
        if self._parts.confirmation.conflict is not None:
            raise UnconfirmedError(
                f"{self._parts.confirmation.conflict}, so this home may be the one that was rolled back",
                hint="if the key was stolen: labmesh keys revoke log --size N, once enough peers are connected; otherwise "
                "the council says which history survives: labmesh roster settle",
            )
        if not self._parts.confirmation.confirmed:
            said = self._parts.confirmation.outdated
            raise UnconfirmedError(f"{said}; {NO_CARD}" if said else NO_CARD, hint=self._parts.confirmation.remedy)


def name_signer(key: Ed25519PrivateKey, former: VerifierKey) -> Signer:
    """The signer that takes the place of a key, under the same name and for the same role."""
    public = key.public_key().public_bytes_raw()
    return Signer(VerifierKey(former.name, former.signature_type, public), key.sign)
