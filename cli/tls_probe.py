"""Why peers do not connect: a TLS handshake with their port, by plain means, because gRPC does not say.

A peer that does not know the certificate shown to it ends the connection right after the handshake, where one that does
greets. Nothing of the member leaves but its certificate; what the peer shows is compared with its card.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from node.core.card import Card

PROBE_S = 3.0
PEERS_MAX = 5

Welcome = Literal["welcome", "refused", "other certificate", "away"]
"""What a peer makes of a connection: it greets; it ends it; it shows a certificate that is not in its card; no answer."""


def probe_peers(cards: list[Card], own: Card, key_path: Path, passphrase: bytes | None) -> Iterator[tuple[str, Welcome]]:
    """Try the first peers that have an address, at most five, each at its first one.

    Args:
        cards: the peers' cards.
        own: the own card, whose first certificate is the one that the node presents.
        key_path: the TLS key of the home.
        passphrase: what opens it.
    """
    context = _client_context(own.tls_certificates[0], key_path, passphrase)
    for card in [card for card in cards if card.endpoints][:PEERS_MAX]:
        yield card.member, _knock(context, card)


def _client_context(certificate: bytes, key_path: Path, passphrase: bytes | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # compared with the card below
    context.set_alpn_protocols(["h2"])
    with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:  # Python takes certificates from files alone
        file.write(ssl.DER_cert_to_PEM_cert(certificate))
        file.flush()
        context.load_cert_chain(file.name, key_path, password=passphrase or b"")
    return context


def _knock(context: ssl.SSLContext, peer: Card) -> Welcome:
    host, _, port = peer.endpoints[0].rpartition(":")
    try:
        plain = socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S)
    except (OSError, UnicodeError):
        return "away"
    with plain, suppress(TimeoutError):
        try:
            with context.wrap_socket(plain, server_hostname=None) as secure:
                if secure.getpeercert(binary_form=True) not in peer.tls_certificates:
                    return "other certificate"
                return "welcome" if secure.recv(1) else "refused"
        except (ssl.SSLError, ConnectionError):
            return "refused"
    return "away"
