"""Facts for the doctor about private keys and settings: who may read them, and whether they fit the member's card."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cli.facts import Facts, Fault
from cli.passphrase import HOME_VARIABLE, home_passphrase
from node.errors import LabmeshError
from node.identity import NEW_IDENTITY

if TYPE_CHECKING:
    from node.core.card import Card
    from node.home import Home
    from node.keyfiles import KeyFiles

RESTORE = "restore keys/ from a backup that is as new as the database"
TAKE_NEWER = "at a peer: labmesh roster export -o FILE; here: labmesh join FILE"
CARD_BY_HAND = "labmesh card -o CARD; at a peer: labmesh join CARD"
ANOTHER = {
    "identity": f"; if there is none: {NEW_IDENTITY}",
    "log": "; if there is none, with the node running and every peer connected: labmesh keys rotate log",
    "witness": "; if there is none, with the node running and its peers connected: labmesh keys rotate witness",
    "tls": (
        f"; if there is none, with the node running: {TAKE_NEWER}; labmesh keys rotate tls --without-peers; {CARD_BY_HAND}"
    ),
}


def private_paths(home: Home) -> Iterator[tuple[Path, int]]:
    """What must be closed to others, also what is missing, each with the most permissive mode it may have."""
    from node.keyfiles import KEY_NAMES

    seen = dict(home.private_paths())
    seen.update((home.key_path(name), 0o600) for name in KEY_NAMES)
    seen.update((path, 0o600) for path in sorted((home.path / "keys").glob("*.pem")))
    yield from seen.items()
    try:
        named = home.load_settings().passphrase_file
    except (LabmeshError, OSError):
        return
    if named:
        yield home.path / named, 0o600


def compare_keys(facts: Facts, home: Home, card: Card, passphrase_file: str | None) -> Facts:
    """Whether the private keys are those of the card. Protected keys are compared only where nobody must be asked."""
    try:
        protected = home.key_files().protected()
        facts = replace(facts, keys_protected=protected)
        if protected and not _has_passphrase(home, passphrase_file):
            return facts
        files = home.key_files(home_passphrase(home, passphrase_file))
        return replace(facts, key_faults=list(_key_faults(files, card)))
    except LabmeshError as error:
        return replace(facts, key_faults=[Fault(error.message, error.hint)])
    except OSError:
        return facts  # the files that are missing are named already


def try_peers(facts: Facts, home: Home, passphrase_file: str | None) -> Facts:
    """Whether the peers know the certificate of this home, where none is connected and nobody must be asked."""
    import ssl

    from cli.governance import read_held_alliance
    from cli.tls_probe import probe_peers
    from node.core.card import parse_card

    peers = facts.daemon.peers if facts.daemon else ()
    if not peers or any(peer.state == "connected" for peer in peers):
        return facts
    try:
        if home.key_files().protected() and not _has_passphrase(home, passphrase_file):
            return facts
        held = read_held_alliance(home)
        if held.alliance is None:
            return facts
        cards = [held.alliance.card(peer.member) for peer in peers if peer.member in held.alliance.cards]
        own, passphrase = parse_card(held.own_card)[1], home_passphrase(home, passphrase_file)
        return replace(facts, welcomes=list(probe_peers(cards, own, home.key_path("tls"), passphrase)))
    except (LabmeshError, OSError, ssl.SSLError):
        return facts  # the key is not that of the card, or cannot be read: this is told already


def compare_settings(facts: Facts, home: Home, card: Card) -> Facts:
    """What labmesh.toml says otherwise than the card, and whether this machine can listen where it says."""
    try:
        settings = home.load_settings()
    except (LabmeshError, OSError):
        return facts
    pairs = (("name", settings.name, card.name), ("region", settings.region, card.region))
    different = [f"{name} is {here!r}, in the card {there!r}" for name, here, there in pairs if here != there]
    if settings.address != card.endpoints:
        here, there = ", ".join(settings.address) or "none", ", ".join(card.endpoints) or "none"
        different.append(f"address is {here}, in the card {there}")
    return replace(facts, settings_differences=different, listen_fault=_listen_fault(settings.listen))


def _has_passphrase(home: Home, passphrase_file: str | None) -> bool:
    return bool(passphrase_file or HOME_VARIABLE in os.environ or home.load_settings().passphrase_file)


def _key_faults(files: KeyFiles, card: Card) -> Iterator[Fault]:
    from node.keyfiles import is_certificate_of

    named = {"identity": card.identity_key, "log": card.log_key.public_key, "witness": card.witness_key.public_key}
    for name, public in named.items():
        if not files.path(name).exists():
            continue  # told as missing
        if files.load_ed25519(files.path(name)).public_key().public_bytes_raw() == public:
            continue
        if name == "identity" and _is_waiting(files, public):
            yield Fault(
                "the roster names the new identity key of this home, which the node does not use yet",
                "restart the node, which takes it into use (stop it, then: labmesh run)",
            )
        elif files.next_path(name).exists():
            yield Fault(
                f"a change of the {name} key was cut off", "restart the node, which finishes it (stop it, then: labmesh run)"
            )
        else:
            yield Fault(f"{files.path(name)} is not the {name} key that the card names", RESTORE + ANOTHER[name])
    if not files.path("tls").exists():
        return
    key = files.load_tls(files.path("tls"))
    if not any(is_certificate_of(der, key) for der in card.tls_certificates):
        yield Fault(f"{files.path('tls')} is not the key of a certificate in the card", RESTORE + ANOTHER["tls"])


def _is_waiting(files: KeyFiles, public: bytes) -> bool:
    waiting = files.next_path("identity")
    return waiting.exists() and files.load_ed25519(waiting).public_key().public_bytes_raw() == public


def _listen_fault(listen: str) -> Fault | None:
    """Why no socket can be opened on the host of `listen`; the port may be in use by the node itself, so any is tried."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(found[0], found[1]) as probe:
            probe.bind(found[4])
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Fault(
            f"this machine cannot listen on {host!r}: {reason}", "set `listen` in labmesh.toml, such as 0.0.0.0:7443"
        )
    return None
