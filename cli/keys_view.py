"""The keys of a member as `labmesh keys show` gives them: what the card says, and what lies on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cli.governance import read_held_alliance
from node.errors import HomeError

if TYPE_CHECKING:
    from node.core.card import Card
    from node.home import Home


def build_keys_document(home: Home) -> dict[str, Any]:
    """The keys in the home's own card.

    Raises:
        HomeError: there is no home, it is of another version, or it lacks its card.
    """
    from node.core.card import parse_card
    from node.core.keys import format_base64
    from node.core.times import format_seconds

    envelope, card = parse_card(read_held_alliance(home).own_card)
    formers = card.former_witness_keys
    return {
        "member": card.member,
        "card": {"seq": card.seq, "issued": format_seconds(card.issued), "hash": envelope.hash},
        "protected": _is_protected(home),
        "identity": {"key": format_base64(card.identity_key)},
        "log": {"key": str(card.log_key), "since_size": card.former_log_keys[-1].size if card.former_log_keys else 0},
        "witness": {
            "key": str(card.witness_key),
            "since": format_seconds(formers[-1].until) if formers else None,
        },
        "tls": list(_certificates(card)),
        "former_log_keys": [
            {"key": str(item.key), "size": item.size, "root": format_base64(item.root)} for item in card.former_log_keys
        ],
        "former_witness_keys": [{"key": str(item.key), "until": format_seconds(item.until)} for item in formers],
    }


def keys_table(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """The document as lines for people: key, since, until, public key."""
    yield "identity", "", "", document["identity"]["key"]
    yield "log", f"size {document['log']['since_size']}", "", document["log"]["key"]
    for former in reversed(document["former_log_keys"]):
        yield "log, former", "", f"size {former['size']}", former["key"]
    yield "witness", document["witness"]["since"] or "", "", document["witness"]["key"]
    for former in reversed(document["former_witness_keys"]):
        yield "witness, former", "", former["until"], former["key"]
    for number, certificate in enumerate(document["tls"]):
        name = "tls" if number == 0 else "tls, coming"
        yield name, certificate["from"], certificate["until"], f"sha256 {certificate['sha256']}"


def _certificates(card: Card) -> Iterator[dict[str, str]]:
    from cryptography import x509

    from node.core.times import format_seconds
    from node.keyfiles import CERTIFICATE_GRACE

    for der in card.tls_certificates:
        certificate = x509.load_der_x509_certificate(der)
        yield {
            "sha256": sha256(der).hexdigest(),
            "from": format_seconds((certificate.not_valid_before_utc + CERTIFICATE_GRACE).replace(microsecond=0)),
            "until": format_seconds(certificate.not_valid_after_utc.replace(microsecond=0)),
        }


def _is_protected(home: Home) -> bool | None:
    try:
        return home.key_files().protected()
    except HomeError:
        return None
