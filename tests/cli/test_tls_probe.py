"""What a peer makes of this node's certificate, as a plain TLS handshake shows it."""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cli.tls_probe import PEERS_MAX, probe_peers
from node.core.card import Card
from node.keyfiles import KeyFiles
from tests.builders import Lab, build_card
from tests.rotating import tls_key

JINAN, QINGDAO = Lab("jinan"), Lab("qingdao")
OWN = build_card(JINAN)


def write_keys(folder: Path, lab: Lab, passphrase: bytes | None = None) -> Path:
    """The TLS key and certificate of a lab as files; returns the key's."""
    files = KeyFiles(folder, passphrase)
    files.write(path := folder / f"{lab.member}.pem", tls_key(lab))
    (folder / f"{lab.member}.crt").write_text(ssl.DER_cert_to_PEM_cert(lab.certificate))
    return path


@contextmanager
def peer(folder: Path, lab: Lab, trusted: Lab | None, *, greets: bool = True) -> Iterator[Card]:
    """A port that wants the certificate of `trusted` (of anybody: None) and greets; its card."""
    write_keys(folder, lab)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / f"{lab.member}.crt", folder / f"{lab.member}.pem")
    if trusted is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(trusted.certificate))
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            with suppress(OSError):
                plain, _ = server.accept()
                with plain, context.wrap_socket(plain, server_side=True) as secure:
                    if greets:
                        secure.sendall(b"\0")
                        secure.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield replace(build_card(lab), endpoints=(f"127.0.0.1:{server.getsockname()[1]}",))
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
@pytest.mark.parametrize(("trusted", "greets", "expected"), [
    (JINAN, True, "welcome"), (None, True, "welcome"), (QINGDAO, True, "refused"), (JINAN, False, "refused"),
])  # fmt: skip
def test_what_a_peer_makes_of_it(
    folder: Path, trusted: Lab | None, greets: bool, expected: str, passphrase: bytes | None
) -> None:
    key = write_keys(folder, JINAN, passphrase)
    with peer(folder, QINGDAO, trusted, greets=greets) as card:
        assert list(probe_peers([card], OWN, key, passphrase)) == [("qingdao", expected)]


def test_a_certificate_that_is_not_in_the_card(folder: Path) -> None:
    key = write_keys(folder, JINAN)
    with peer(folder, QINGDAO, JINAN) as card:
        held = replace(card, tls_certificates=(Lab("qingdao", generation=2).certificate,))
        assert list(probe_peers([held], OWN, key, None)) == [("qingdao", "other certificate")]


def test_nobody_answers_and_few_are_asked(folder: Path) -> None:
    key = write_keys(folder, JINAN)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    cards = [replace(build_card(Lab(f"m{i}")), endpoints=(f"127.0.0.1:{port}",)) for i in range(PEERS_MAX + 2)]
    cards.insert(0, replace(build_card(QINGDAO), endpoints=()))
    assert list(probe_peers(cards, OWN, key, None)) == [(f"m{i}", "away") for i in range(PEERS_MAX)]


def test_a_key_that_is_not_that_of_the_certificate(folder: Path) -> None:
    with pytest.raises(ssl.SSLError):
        list(probe_peers([build_card(QINGDAO)], OWN, write_keys(folder, QINGDAO), None))
