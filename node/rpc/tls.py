"""Mutual TLS pinned from cards.

The trusted roots are the certificates in the members' cards, read anew at every handshake, so a change of the roster needs
no restart; whether a member is active is asked at every call. A root may have issued other leaves, in any name: therefore a
caller is never taken for whom its certificate names, but for the member whose card holds exactly the presented leaf.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from ssl import PEM_cert_to_DER_cert

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from node.core.alliance import Alliance
from node.core.card import Card
from node.core.certificate import certificate_name
from node.errors import ConfigError, HomeError

logger = logging.getLogger(__name__)


def certificate_pem(der: bytes) -> bytes:
    """A certificate as PEM."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


@lru_cache(maxsize=16)
def presented_certificate(key_pem: bytes, certificates: tuple[bytes, ...]) -> bytes:
    """The certificate (DER) of this key among those in a card; two are there while the key is rotated.

    Raises:
        HomeError: none is.
    """
    public = load_pem_private_key(key_pem, None).public_key()
    wanted = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for der in certificates:
        held = x509.load_der_x509_certificate(der).public_key()
        if held.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == wanted:
            return der
    raise HomeError("the TLS key in this home is not that of its card", hint="restore keys/ from a backup")


class TrustedCertificates:
    """Who may connect now."""

    def __init__(self, *, own_card: Callable[[], Card], alliance: Callable[[], Alliance | None]) -> None:
        """Look at the current card and alliance whenever asked."""
        self._own_card, self._alliance = own_card, alliance
        self._snapshot: Alliance | None = None
        self._members: dict[bytes, str] = {}
        self._removed: dict[bytes, str] = {}

    def member_of(self, pem: bytes) -> str | None:
        """The active member whose card holds exactly this certificate (PEM), if there is one."""
        der = _der_of(pem)
        return None if der is None else self._by_certificate().get(der)

    def removed_member_of(self, pem: bytes) -> str | None:
        """The removed member whose last card holds this certificate, if there is one: it is refused, but told why."""
        self._by_certificate()
        der = _der_of(pem)
        return None if der is None else self._removed.get(der)

    def state(self) -> tuple[tuple[bytes, ...], ...]:
        """What the TLS configuration is made of: it has changed when this has."""
        return self._roots(), self._own_card().tls_certificates

    def roots(self) -> bytes:
        """PEM of every member's certificates; the own one where there are no others.

        Those of removed members are among them: a handshake that fails tells nobody why. No call of theirs is answered.
        """
        return b"".join(certificate_pem(der) for der in self._roots() or self._own_card().tls_certificates)

    def _roots(self) -> tuple[bytes, ...]:
        return tuple(sorted({**self._by_certificate(), **self._removed}))

    def _by_certificate(self) -> dict[bytes, str]:
        alliance = self._alliance()
        if alliance is not self._snapshot:
            active: dict[bytes, str] = {}
            removed: dict[bytes, str] = {}
            for member, (_, card) in alliance.cards.items() if alliance else ():
                known = removed if alliance and alliance.roster.has_removed(member) else active
                known.update(dict.fromkeys(card.tls_certificates, member))
            self._members, self._removed, self._snapshot = active, removed, alliance
        return self._members


def server_credentials(
    trusted: TrustedCertificates, *, key_pem: Callable[[], bytes], own_card: Callable[[], Card]
) -> grpc.ServerCredentials:
    """Credentials that ask `trusted` at every handshake, and `key_pem` for the key, and demand a client certificate."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        key = key_pem()
        chain = certificate_pem(presented_certificate(key, own_card().tls_certificates))
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=trusted.roots())

    def current_state() -> object:
        return trusted.state(), key_pem()

    served = [current_state()]

    def configuration_if_changed() -> grpc.ServerCertificateConfiguration | None:
        # Called at every handshake, before anyone is authenticated: a stranger must not make it cost anything.
        state = current_state()
        if state == served[0]:
            return None
        changed = configuration()
        served[0] = state  # only now: had making it failed, the next handshake would have to try again
        return changed

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        configuration_if_changed,  # type: ignore[arg-type]  # the stubs do not know None, which means "as before"
        require_client_authentication=True,
    )


def channel_credentials(peer: Card, *, key_pem: bytes, own_card: Card) -> grpc.ChannelCredentials:
    """Credentials for a connection to one peer: only the certificates in its card are trusted."""
    return grpc.ssl_channel_credentials(
        root_certificates=b"".join(certificate_pem(der) for der in peer.tls_certificates),
        private_key=key_pem,
        certificate_chain=certificate_pem(presented_certificate(key_pem, own_card.tls_certificates)),
    )


def expected_name(peer: Card) -> str:
    """The DNS name that the peer's certificate must carry."""
    return certificate_name(peer.alliance, peer.member)


def remote_credentials(load: Callable[[], tuple[bytes, bytes]], state: Callable[[], object]) -> grpc.ServerCredentials:
    """Credentials that show a certificate and ask for none. `load` gives key and chain (PEM), again after `state` changed.

    Raises:
        ConfigError: the first `load` failed. A later one keeps what was served, and is tried again at the next change.
    """
    served = [state()]

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([load()])

    def configuration_if_changed() -> grpc.ServerCertificateConfiguration | None:
        now = state()
        if now == served[0]:
            return None
        served[0] = now
        try:
            changed = configuration()
        except ConfigError as error:
            logger.error("event=remote_certificate_kept error=%r", error.message)
            return None
        logger.info("event=remote_certificate_changed")
        return changed

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        configuration_if_changed,  # type: ignore[arg-type]  # the stubs do not know None, which means "as before"
        require_client_authentication=False,
    )


def _der_of(pem: bytes) -> bytes | None:
    """The bytes of a certificate that a caller has presented, to be compared and not parsed; None where it is no PEM."""
    try:
        return PEM_cert_to_DER_cert(pem.decode())
    except ValueError:
        return None
