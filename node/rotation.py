"""Rotate and revoke this member's keys: another key, a card that says so, and nothing signed by both at once.

The order is always the same: the new key is on disk as `<name>.next.pem`, then the card that names it is saved, then the
file is renamed and the running node signs with it, then peers are told. A crash in between is healed at the next start
(`node.keyfiles.settle_keys`).

A TLS key changes in two steps, because a peer that was away knows only the old certificate: first the card lists both and
the node goes on presenting the old one; when every active peer is known to hold that card, or after 30 days, a card with
the new one alone follows, and the node presents it. Where nobody can connect with the present one, because the card names
it no more or it has expired, a person may put the new one in its place at once, without asking peers first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from node.clock import Clock
from node.confirmation import Confirmation
from node.core.card import Card, FormerLogKey, FormerWitnessKey, parse_card
from node.core.keys import Signer, VerifierKey
from node.disowning import seen_size
from node.errors import FormatError, GovernanceError, HomeError, UnconfirmedError, UserError
from node.identity import NEW_IDENTITY, is_identity_pending
from node.keyfiles import CERTIFICATE_GRACE, KeyFiles, build_certificate, format_key, is_certificate_of, settle_keys
from node.ledger import Ledger
from node.lost_keys import TLS_LOST, find_lost_roles, require_all_told, require_peers_optional
from node.membership import Membership
from node.store import Store
from node.store.logs import LogState
from node.sync.exchange import CheckpointExchange
from node.sync.spread import CardSpread

logger = logging.getLogger(__name__)

ROLES = ("log", "witness", "tls")
TLS_PATIENCE = timedelta(days=30)
NO_CARD = "this home may be older than what was published, so no card is signed: it could name a wrong size or `seq` again"
WAIT_FOR_PEERS_TLS = (
    "wait until enough peers are connected (labmesh status); if they refuse this home's certificate: labmesh doctor"
)


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


class KeyRotation:
    """Changes the keys of a running node. Any thread may call; one change at a time."""

    def __init__(self, parts: RotationParts, *, tls_key_pem: bytes) -> None:
        """Begin with the TLS key that is presented now."""
        self.tls_key_pem = tls_key_pem
        self._parts = parts
        self._stand_in: bytes | None = None
        self._lock = threading.Lock()

    def rotate(self, role: str, *, without_peers: bool = False) -> Card:
        """Put a new key in the place of the current one; returns the card that says so.

        Args:
            role: `log`, `witness` or `tls`.
            without_peers: for `tls`, do not ask peers first whether this home is older than its newest card, because none
                can connect with the present key. Its card leaps, so that no `seq` is used twice. For a lost log key, do
                not wait for every peer to tell what it holds of the log.

        Raises:
            UserError: no such role.
            UnconfirmedError: this home may be older than what was published.
            GovernanceError: a rotation of the TLS key is under way, an identity key waits for the council, or the card has
                no room.
            HomeError: the keys on disk and the card do not fit together.
        """
        with self._lock:
            self._require_settled_identity()
            lost = self._find_lost()
            if without_peers:
                require_peers_optional(role, lost)
            if role == "log":
                if "log" in lost and not without_peers:
                    self._require_confirmed()
                    require_all_told(self._parts.membership, self._parts.confirmation)
                return self._replace_log_key(None)
            if role == "witness":
                return self._replace_witness_key()
            if role == "tls":
                return self._rotate_tls(without_peers)
        raise UserError(f"there is no {role!r} key that can be rotated", hint=f"the roles are {', '.join(ROLES)}")

    def revoke_log(self, size: int) -> Card:
        """Retire the log key at an earlier size, beyond which it counts no more; returns the card that says so.

        What it signed beyond is signed again by the new key, with the same sizes and roots.

        Raises:
            GovernanceError: a quorum has, or may have, seen more, the log is shorter, a former key held longer, or an
                identity key waits for the council.
            UnconfirmedError: this home may be older than what was published.
        """
        with self._lock:
            self._require_settled_identity()
            return self._replace_log_key(size)

    def lost_roles(self) -> list[str]:
        """The roles whose key in the own card this home does not hold."""
        if not self._find_lost():
            return []
        with self._lock:  # a change under way saves the card before this process signs with the key that it names
            return self._find_lost()

    def presentable_card(self) -> Card:
        """The own card, with a certificate of the TLS key of this home.

        Where the card names none, one that nobody trusts stands in, so that the node can serve its own people.
        """
        card = self._parts.membership.own_card[1]
        if self._tls_key_fits(card):
            return card
        if self._stand_in is None or not is_certificate_of(self._stand_in, self._load_presented()):
            self._stand_in = build_certificate(self._load_presented(), card.alliance, card.member, self._parts.clock())
        return replace(card, tls_certificates=(self._stand_in,))

    def tls_waits_for(self) -> list[str]:
        """The active members not yet known to hold the card with both certificates; empty when no rotation waits."""
        membership = self._parts.membership
        card = membership.own_card[1]
        if len(card.tls_certificates) < 2 or membership.alliance is None:
            return []
        return self._parts.spread.missing(membership.alliance.other_members(membership.member), card.seq)

    def advance_tls(self) -> bool:
        """Present the new certificate once nobody needs the old one; returns whether that happened now.

        Raises:
            HomeError: the new key is not there any more.
        """
        with self._lock:
            return self._advance_tls()

    def renew_checkpoints(self) -> bool:
        """Sign again what a revoked key had signed, if a crash came in between; returns whether there was anything."""
        card, head = self._parts.membership.own_card[1], self._parts.ledger.log.head
        if head is None or not card.former_log_keys:
            return False
        above = card.former_log_keys[-1].size
        if head.size <= above or head.note.signatures_of(card.log_key) or self._parts.ledger.log_key != card.log_key:
            return False
        self._parts.ledger.renew_checkpoints(above)
        return True

    def _replace_log_key(self, size: int | None) -> Card:
        if size is None or not self._parts.confirmation.may_revoke:
            self._require_confirmed()
        key, cards = Ed25519PrivateKey.generate(), list[Card]()
        signer = _named(key, self._parts.membership.own_card[1].log_key)
        self._prepare("log", key)

        def retire(log: LogState) -> tuple[Signer, int]:
            former = self._former_log_key(log, size)
            cards.append(
                self._issue("log", lambda card: replace(
                    card, log_key=signer.key, former_log_keys=(*card.former_log_keys, former)
                ))
            )  # fmt: skip
            return signer, former.size

        try:
            self._parts.ledger.change_key(retire)
        except BaseException:
            self._settle()
            raise
        self._parts.confirmation.reconsider()  # a thief's history is in nobody's way any more
        self._parts.ledger.sign_head()
        self._parts.exchange.forget_note(signer.key.name)
        former = cards[0].former_log_keys[-1]
        logger.warning("event=log_key_changed seq=%d retired_at=%d", cards[0].seq, former.size)
        return cards[0]

    def _former_log_key(self, log: LogState, size: int | None) -> FormerLogKey:
        card, store = self._parts.membership.own_card[1], self._parts.store
        # What is not signed yet, if anything, is signed with the new key.
        at = log.signed_size if size is None else size
        if size is None and card.former_log_keys and at < card.former_log_keys[-1].size:
            raise GovernanceError(
                f"the card ends a former log key at size {card.former_log_keys[-1].size}, and this home holds only {at} "
                "signed entries: the log cannot go on without the others",
                hint="let the peers connect that hold them (labmesh peers), or restore a newer backup",
            )
        self._require_good(card, log, at)
        return FormerLogKey(card.log_key, at, store.logs.tree(log.id).root(at))

    def _require_good(self, card: Card, log: LogState, size: int) -> None:
        """Refuse to end the key where others would refuse the card."""
        alliance = self._parts.membership.alliance
        seen = seen_size(self._parts.store, alliance, card.member, log)
        since = card.former_log_keys[-1].size if card.former_log_keys else 0
        if size > log.signed_size:
            raise GovernanceError(
                f"the log is signed up to size {log.signed_size}, so no key can be retired at size {size}",
                hint=f"at most: labmesh keys revoke log --size {log.signed_size}; if nobody else may hold the key: "
                "labmesh keys rotate log",
            )
        if size < seen:
            raise GovernanceError(
                f"a quorum of the other members has cosigned the log up to size {seen}: what they have seen stays signed",
                hint=f"name that size or a larger one: labmesh keys revoke log --size {seen}",
            )
        if size < (held := self._held_size(log)):
            raise GovernanceError(
                f"the other members hold the log up to size {held} and may have cosigned it, which has not reached this "
                "node yet: they could refuse the card",
                hint=f"the smallest size that can be named: labmesh keys revoke log --size {max(held, since)}",
            )
        if size < since:
            raise GovernanceError(
                f"the current log key has been in use since size {since} only",
                hint=f"name that size or a larger one: labmesh keys revoke log --size {since}",
            )

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

    def _tls_key_fits(self, card: Card) -> bool:
        key = self._load_presented()
        return any(is_certificate_of(der, key) for der in card.tls_certificates)

    def _held_size(self, log: LogState) -> int:
        """The largest size that a quorum of the others may have cosigned, as far as they said what they hold."""
        membership, store = self._parts.membership, self._parts.store
        if membership.alliance is None:
            return 0
        others = membership.alliance.other_members(membership.member)
        told, cosigned = self._parts.confirmation.told_sizes(), store.checkpoints.largest_cosigned(log.id, others)
        sizes = sorted((max(told.get(peer, 0), cosigned.get(peer, 0)) for peer in others), reverse=True)
        quorum = membership.alliance.roster.quorum
        return min(sizes[quorum - 1], log.signed_size) if 0 < quorum <= len(sizes) else 0

    def _replace_witness_key(self) -> Card:
        self._require_confirmed()
        key, cards = Ed25519PrivateKey.generate(), list[Card]()
        signer = _named(key, self._parts.membership.own_card[1].witness_key)
        self._prepare("witness", key)

        def retire() -> Signer:
            until = self._parts.clock().replace(microsecond=0)

            def change(card: Card) -> Card:
                former = (*card.former_witness_keys, FormerWitnessKey(card.witness_key, until))
                return replace(card, witness_key=signer.key, former_witness_keys=former)

            cards.append(self._issue("witness", change))
            return signer

        self._parts.exchange.change_witness(retire)
        logger.warning("event=witness_key_changed seq=%d", cards[0].seq)
        return cards[0]

    def _rotate_tls(self, without_peers: bool) -> Card:
        card = self._parts.membership.own_card[1]
        fits = self._tls_key_fits(card)
        if without_peers:
            if fits and self._parts.clock() < self._expiry(card):
                raise GovernanceError(
                    "the newest card in this home names its TLS key, so peers that have no newer one can connect",
                    hint="if every peer refuses it: take the file that `labmesh roster export -o FILE` writes at one of "
                    "them (here: labmesh join FILE), and type this again; otherwise: labmesh keys rotate tls",
                )
            return self._replace_tls_key()
        if not self._parts.confirmation.confirmed:
            raise UnconfirmedError(NO_CARD, hint=WAIT_FOR_PEERS_TLS if fits else TLS_LOST)
        return self._begin_tls(card) if fits else self._replace_tls_key()

    def _replace_tls_key(self) -> Card:
        """Present a new certificate at once: with the old key nobody can connect anyway."""
        held = self._parts.membership.own_card[1]
        key = ec.generate_private_key(ec.SECP256R1())
        self._prepare("tls", key)
        coming, pem = build_certificate(key, held.alliance, held.member, self._parts.clock()), format_key(key)

        def present() -> None:
            self.tls_key_pem = pem

        issued = self._issue("tls", lambda card: replace(card, tls_certificates=(coming,)), then=present)
        logger.warning("event=tls_key_replaced seq=%d", issued.seq)
        return issued

    def _begin_tls(self, card: Card) -> Card:
        files = self._parts.files
        if len(card.tls_certificates) > 1 and files.next_path("tls").exists():
            waiting = ", ".join(self.tls_waits_for()) or "nobody"
            raise GovernanceError(
                f"a rotation of the TLS key is under way; it waits for {waiting}",
                hint=f"it ends by itself, at the latest on {self._tls_deadline(card.tls_certificates[-1]):%Y-%m-%d}",
            )
        presented = self._presented(card)
        key, now = ec.generate_private_key(ec.SECP256R1()), self._parts.clock()
        self._prepare("tls", key)
        coming = build_certificate(key, card.alliance, card.member, now)
        issued = self._issue("", lambda held: replace(held, tls_certificates=(presented, coming)))
        logger.warning("event=tls_rotation_begun seq=%d waiting=%s", issued.seq, ",".join(self.tls_waits_for()))
        self._advance_tls()
        return self._parts.membership.own_card[1]

    def _advance_tls(self) -> bool:
        card, files = self._parts.membership.own_card[1], self._parts.files
        if len(card.tls_certificates) < 2:
            return False
        if not self._parts.confirmation.confirmed:
            return False
        now = self._parts.clock()
        if self.tls_waits_for() and now < self._tls_deadline(card.tls_certificates[-1]) and now < self._expiry(card):
            return False
        key = files.load_tls(files.next_path("tls"))
        coming = next((der for der in card.tls_certificates if is_certificate_of(der, key)), None)
        if coming is None:
            raise HomeError(
                f"{files.next_path('tls')} is not the key of a certificate in this member's card",
                hint="begin the rotation again: labmesh keys rotate tls",
            )
        pem = format_key(key)

        def present() -> None:
            self.tls_key_pem = pem

        issued = self._issue("tls", lambda held: replace(held, tls_certificates=(coming,)), then=present)
        logger.warning("event=tls_key_changed seq=%d", issued.seq)
        return True

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
            raise UnconfirmedError(
                NO_CARD, hint="wait until enough peers are connected (labmesh status), or take the risk: labmesh confirm"
            )

    def _presented(self, card: Card) -> bytes:
        files = self._parts.files
        key = files.load_tls(files.path("tls"))
        for der in card.tls_certificates:
            if is_certificate_of(der, key):
                return der
        raise HomeError(f"{files.path('tls')} is not the key of a certificate in this member's card")

    def _expiry(self, card: Card) -> datetime:
        """When the certificate that is presented expires: after that it lets nobody connect, so waiting is of no use."""
        return x509.load_der_x509_certificate(self._presented(card)).not_valid_after_utc

    def _tls_deadline(self, coming: bytes) -> datetime:
        begun = x509.load_der_x509_certificate(coming).not_valid_before_utc + CERTIFICATE_GRACE
        return begun + TLS_PATIENCE


def _named(key: Ed25519PrivateKey, former: VerifierKey) -> Signer:
    """The signer that takes the place of a key, under the same name and for the same role."""
    public = key.public_key().public_bytes_raw()
    return Signer(VerifierKey(former.name, former.signature_type, public), key.sign)
