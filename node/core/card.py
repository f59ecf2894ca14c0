"""A member's card: what it says about itself, signed by its identity key (DESIGN section 4).

The card says HOW to reach a member and with which keys its log, its cosignatures and its TLS connections are signed.
`seq` counts up, so all of this changes without the council. It also names the identity key that signed it: from a newcomer's
card the council takes the key into the roster, and from then on the roster's word counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from node.core.canonical import Json
from node.core.certificate import certificate_name, parse_certificate, require_name
from node.core.dsse import Envelope, parse_envelope
from node.core.fields import Fields
from node.core.keys import (
    TYPE_LOG,
    TYPE_WITNESS,
    VerifierKey,
    format_base64,
    parse_base64,
    parse_public_key,
    parse_verifier_key,
)
from node.core.merkle import HASH_SIZE
from node.core.names import log_origin, parse_alliance, parse_member, witness_name
from node.core.times import format_seconds, parse_seconds
from node.errors import FormatError, SignatureError

CARD_SIZE_MAX = 64 * 1024
CARD_TYPE = "application/vnd.labmesh.card.v1+json"

_NAMES = [
    "alliance",
    "member",
    "name",
    "region",
    "identity_key",
    "seq",
    "previous",
    "issued",
    "endpoints",
    "log_key",
    "witness_key",
    "former_log_keys",
    "former_witness_keys",
    "tls_certificates",
]
_ENDPOINT = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:.]{2,45}\]):([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class FormerLogKey:
    """A retired log key: valid up to `size`, and at `size` only with `root`."""

    key: VerifierKey
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class FormerWitnessKey:
    """A retired witness key: its cosignatures count up to `until`."""

    key: VerifierKey
    until: datetime


@dataclass(frozen=True, slots=True)
class Card:
    """A card whose form is valid. Whether the roster's identity key signed it is `verify_card`'s business."""

    alliance: str
    member: str
    name: str
    region: str
    identity_key: bytes
    seq: int
    previous: str | None
    issued: datetime
    endpoints: tuple[str, ...]
    log_key: VerifierKey
    witness_key: VerifierKey
    former_log_keys: tuple[FormerLogKey, ...]
    former_witness_keys: tuple[FormerWitnessKey, ...]
    tls_certificates: tuple[bytes, ...]

    @property
    def origin(self) -> str:
        """The origin of this member's log."""
        return log_origin(self.alliance, self.member)

    def log_key_at(self, size: int, root: bytes) -> VerifierKey:
        """The log key that must have signed the checkpoint of this size and root.

        Raises:
            SignatureError: a key was retired at this size with another root.
        """
        for former in self.former_log_keys:
            if size <= former.size:
                if size == former.size and root != former.root:
                    raise SignatureError(f"{self.origin}: the key retired at size {size} does not cover this root")
                return former.key
        return self.log_key

    def witness_keys(self) -> tuple[VerifierKey, ...]:
        """The current witness key and the former ones."""
        return (self.witness_key, *(former.key for former in self.former_witness_keys))


def parse_endpoint(text: str) -> str:
    """Return `text` if it is host:port, with an IPv6 host in brackets.

    Raises:
        FormatError: it is not.
    """
    match = _ENDPOINT.fullmatch(text)
    if not match or not 0 < int(match[1]) < 65536:
        raise FormatError(
            f"{text[:80]!r} is not an address", hint="use host:port, for example lab.example:7443 or [2001:db8::1]:7443"
        )
    return text


def card_content(card: Card) -> Json:
    """The card as the JSON object that is signed."""
    return {
        "alliance": card.alliance,
        "member": card.member,
        "name": card.name,
        "region": card.region,
        "identity_key": format_base64(card.identity_key),
        "seq": card.seq,
        "previous": card.previous,
        "issued": format_seconds(card.issued),
        "endpoints": list(card.endpoints),
        "log_key": str(card.log_key),
        "witness_key": str(card.witness_key),
        "former_log_keys": [
            {"key": str(former.key), "size": former.size, "root": format_base64(former.root)}
            for former in card.former_log_keys
        ],
        "former_witness_keys": [
            {"key": str(former.key), "until": format_seconds(former.until)} for former in card.former_witness_keys
        ],
        "tls_certificates": [format_base64(der) for der in card.tls_certificates],
    }


def parse_card(raw: bytes) -> tuple[Envelope, Card]:
    """Parse a card's envelope and check its form; the signature is not verified here.

    Raises:
        FormatError: not a card.
    """
    if len(raw) > CARD_SIZE_MAX:
        raise FormatError(f"a card of {len(raw)} bytes; at most {CARD_SIZE_MAX} are taken")
    envelope, content = parse_envelope(raw, CARD_TYPE)
    fields = Fields("card", content, _NAMES)
    card = Card(
        alliance=fields.parsed("alliance", parse_alliance),
        member=fields.parsed("member", parse_member),
        name=fields.text("name"),
        region=fields.text("region", length_max=100),
        identity_key=fields.parsed("identity_key", parse_public_key),
        seq=fields.integer("seq", 1, 2**31),
        previous=fields.optional_hash("previous"),
        issued=fields.parsed("issued", parse_seconds),
        endpoints=fields.texts("endpoints", parse_endpoint, least=0, most=8),
        log_key=fields.parsed("log_key", _parse_log_key),
        witness_key=fields.parsed("witness_key", _parse_witness_key),
        former_log_keys=tuple(map(_parse_former_log_key, fields.objects("former_log_keys", least=0, most=100))),
        former_witness_keys=tuple(map(_parse_former_witness_key, fields.objects("former_witness_keys", least=0, most=100))),
        tls_certificates=fields.texts("tls_certificates", parse_certificate, least=1, most=2),
    )
    _require_consistent(card)
    return envelope, card


def verify_card(envelope: Envelope, card: Card, identity_key: bytes) -> None:
    """Verify that a member's identity key signed the card.

    Args:
        envelope: the card's envelope.
        card: what it says.
        identity_key: the key that the roster names; for a newcomer, the one that its card names.

    Raises:
        SignatureError: another key, or no valid signature by it.
    """
    if card.identity_key != identity_key or identity_key not in envelope.signers([identity_key]):
        raise SignatureError(f"the card of {card.member} is not signed by the identity key that the roster names")


def _require_consistent(card: Card) -> None:
    if (card.seq == 1) != (card.previous is None):
        raise FormatError("card: previous: only the first card has none")
    keys = _all_keys(card)
    if len({key.public_key for key in keys} | {card.identity_key}) != len(keys) + 1:
        raise FormatError("card: one key serves in two roles")
    log_names = {key.name for key in (card.log_key, *(former.key for former in card.former_log_keys))}
    if log_names != {card.origin}:
        raise FormatError(f"card: log_key: the name must be {card.origin}")
    if {key.name for key in card.witness_keys()} != {witness_name(card.alliance, card.member)}:
        raise FormatError(f"card: witness_key: the name must be {witness_name(card.alliance, card.member)}")
    sizes = [former.size for former in card.former_log_keys]
    if sizes != sorted(sizes):
        raise FormatError("card: former_log_keys: sizes must not shrink")
    for der in card.tls_certificates:
        require_name(der, certificate_name(card.alliance, card.member))


def _all_keys(card: Card) -> list[VerifierKey]:
    return [card.log_key, *(former.key for former in card.former_log_keys), *card.witness_keys()]


def _parse_log_key(text: str) -> VerifierKey:
    return parse_verifier_key(text, signature_type=TYPE_LOG)


def _parse_witness_key(text: str) -> VerifierKey:
    return parse_verifier_key(text, signature_type=TYPE_WITNESS)


def _parse_former_log_key(value: Json) -> FormerLogKey:
    fields = Fields("former log key", value, ("key", "size", "root"))
    root = fields.parsed("root", parse_base64)
    if len(root) != HASH_SIZE:
        raise FormatError("former log key: root: not 32 bytes")
    return FormerLogKey(fields.parsed("key", _parse_log_key), fields.integer("size", 0, 2**40), root)


def _parse_former_witness_key(value: Json) -> FormerWitnessKey:
    fields = Fields("former witness key", value, ("key", "until"))
    return FormerWitnessKey(fields.parsed("key", _parse_witness_key), fields.parsed("until", parse_seconds))
