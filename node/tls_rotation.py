"""Rotate the TLS key, in two steps, because a peer that was away knows only the old certificate.

First the card lists both and the node goes on presenting the old one; when every active peer is known to hold that card,
or after 30 days, a card with the new one alone follows, and the node presents it. Where nobody can connect with the present
one, because the card names it no more or it has expired, a person may put the new one in its place at once, without asking
peers first.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from node.core.card import Card
from node.errors import GovernanceError, HomeError, UnconfirmedError
from node.key_change import NO_CARD, KeyChange
from node.keyfiles import CERTIFICATE_GRACE, build_certificate, format_key, is_certificate_of
from node.lost_keys import TLS_LOST

logger = logging.getLogger(__name__)

TLS_PATIENCE = timedelta(days=30)
WAIT_FOR_PEERS_TLS = (
    "wait until enough peers are connected (labmesh status); if they refuse this home's certificate: labmesh doctor"
)


class TlsRotation(KeyChange):
    """The TLS key, and the certificates of it. Any thread may call."""

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

    @property
    def tls_is_changing(self) -> bool:
        """Whether the card names two certificates, so that a confirmation may end a rotation. Reads no file."""
        return len(self._parts.membership.own_card[1].tls_certificates) > 1

    def tls_waits_for(self) -> list[str]:
        """The active members not yet known to hold the card with both certificates; empty when no rotation waits."""
        membership = self._parts.membership
        card = membership.own_card[1]
        if len(card.tls_certificates) < 2 or membership.alliance is None:
            return []
        return self._parts.spread.missing(membership.alliance.other_members(membership.member), card.seq)

    def advance_tls(self) -> bool:
        """Present the new certificate once nobody needs the old one; returns whether that happened now.

        Where the new key is lost, or another than the card names, because key files or the database were restored, the
        rotation begins again with another one.

        Raises:
            HomeError: a key cannot be opened.
        """
        with self._lock:
            return self._advance_tls()

    def _tls_key_fits(self, card: Card) -> bool:
        key = self._load_presented()
        return any(is_certificate_of(der, key) for der in card.tls_certificates)

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
        if len(card.tls_certificates) > 1 and self._find_coming(card) is not None:
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
        card = self._parts.membership.own_card[1]
        if not self._tls_key_fits(card):
            return self._present_named(card)
        if len(card.tls_certificates) < 2 or not self._parts.confirmation.confirmed:
            return False
        now = self._parts.clock()
        if self.tls_waits_for() and now < self._tls_deadline(card.tls_certificates[-1]) and now < self._expiry(card):
            return False
        found = self._find_coming(card)
        if found is None:
            logger.warning("event=tls_rotation_lost seq=%d; it begins again", card.seq)
            self._begin_tls(card)
            return False
        coming, key, name = found
        pem = format_key(key)

        def present() -> None:
            self.tls_key_pem = pem

        issued = self._issue(name, lambda held: replace(held, tls_certificates=(coming,)), then=present)
        logger.warning("event=tls_key_changed seq=%d", issued.seq)
        return True

    def _present_named(self, card: Card) -> bool:
        """Present the waiting key where a peer's or a person's newer card names it alone, as the next start would."""
        files = self._parts.files
        if not files.next_path("tls").exists():
            return False
        key = files.load_tls(files.next_path("tls"))
        if not any(is_certificate_of(der, key) for der in card.tls_certificates):
            return False
        files.promote("tls")
        self.tls_key_pem = format_key(key)
        logger.warning("event=tls_key_presented seq=%d", card.seq)
        return True

    def _find_coming(self, card: Card) -> tuple[bytes, ec.EllipticCurvePrivateKey, str] | None:
        """The new certificate, its key, and which next key must take its place for it; None where the key is lost.

        Key files that are newer than the database have it in its place already.
        """
        files, newest = self._parts.files, card.tls_certificates[-1]
        current = files.load_tls(files.path("tls"))
        if is_certificate_of(newest, current):
            return newest, current, ""
        if not files.next_path("tls").exists():
            return None
        key = files.load_tls(files.next_path("tls"))
        return (newest, key, "tls") if is_certificate_of(newest, key) else None

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
