"""Honest things to test with: keys from labels, cards, rosters, alliances, records, logs in memory, bundles.

Everything here is valid. A test breaks it by one visible mutation: `dataclasses.replace`, a changed member of
`card_content` or `roster_content`, another signer. Keys come from SHA-256 of a label, so they are the same in every run
(certificates are not: ECDSA signs with a random number).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.core.alliance import Alliance, load_alliance
from node.core.bundle import Bundle
from node.core.canonical import Json, dumps_canonical
from node.core.card import CARD_TYPE, Card, card_content
from node.core.certificate import certificate_name, certificate_subject
from node.core.checkpoint import Checkpoint, SignedCheckpoint, cosign_checkpoint, sign_checkpoint
from node.core.dsse import build_envelope, format_envelope
from node.core.entry import LogPage, Opening, committer
from node.core.keys import TYPE_LOG, TYPE_WITNESS, Sign, Signer, VerifierKey
from node.core.kinds import Kinds
from node.core.merkle import Frontier, Tree
from node.core.names import log_origin, witness_name
from node.core.proof import TlogProof, format_tlog_proof
from node.core.roster import ROSTER_TYPE, Member, Roster, quorum_default, roster_content

ALLIANCE = "quality.jinan.example"
NAMES = ("jinan", "qingdao", "yantai", "weifang", "zibo", "linyi", "dezhou", "heze")
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW_S = int(datetime(2026, 11, 20, 8, 30, tzinfo=UTC).timestamp())

RESULT_1: Json = {
    "type": "object",
    "required": ["value"],
    "additionalProperties": False,
    "properties": {
        "value": {"type": "string", "maxLength": 20000},
        "unit": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
        "count": {"type": "integer"},
    },
}
NOTICE_1: Json = {"type": "object"}
SCHEMAS: Mapping[str, Json] = {"result/1": RESULT_1, "notice/1": NOTICE_1, "notice/2": NOTICE_1}


@lru_cache(maxsize=1)
def kinds() -> Kinds:
    """Two small kinds, so that the core's tests do not depend on the schemas that are shipped."""
    return Kinds(SCHEMAS)


# Keys


@lru_cache(maxsize=4096)
def private_key(label: str) -> Ed25519PrivateKey:
    """The Ed25519 key of a label."""
    return Ed25519PrivateKey.from_private_bytes(sha256(label.encode()).digest())


def public_key(label: str) -> bytes:
    """The 32 raw bytes of a label's public key."""
    return private_key(label).public_key().public_bytes_raw()


def sign_with(label: str) -> Sign:
    """The signing function of a label's key."""
    return private_key(label).sign


def signer(name: str, signature_type: int, label: str) -> Signer:
    """A named signer for checkpoints (type 1) or cosignatures (type 4)."""
    return Signer(VerifierKey(name, signature_type, public_key(label)), sign_with(label))


@lru_cache(maxsize=256)
def certificate(*names: str, label: str = "tls", curve: str = "secp256r1") -> bytes:
    """A self-signed certificate in DER with these DNS names (none: without the extension)."""
    curves: dict[str, ec.EllipticCurve] = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}
    key = ec.derive_private_key(int.from_bytes(sha256(label.encode()).digest(), "big") >> 1, curves[curve])
    subject = certificate_subject(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1 + len(label))
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=36500))
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True, slots=True)
class Lab:
    """One member's secrets. `generation` counts its log, witness and TLS keys; the identity key stays."""

    member: str
    alliance: str = ALLIANCE
    generation: int = 1

    @property
    def identity_label(self) -> str:
        """Label of the identity key."""
        return f"{self.alliance}/{self.member}/identity"

    @property
    def identity_key(self) -> bytes:
        """Public identity key."""
        return public_key(self.identity_label)

    @property
    def sign(self) -> Sign:
        """Sign with the identity key, which also sits on the council."""
        return sign_with(self.identity_label)

    @property
    def origin(self) -> str:
        """Origin of the log."""
        return log_origin(self.alliance, self.member)

    @property
    def log(self) -> Signer:
        """Signer of checkpoints."""
        return signer(self.origin, TYPE_LOG, f"{self.origin}/{self.generation}")

    @property
    def witness(self) -> Signer:
        """Signer of cosignatures."""
        name = witness_name(self.alliance, self.member)
        return signer(name, TYPE_WITNESS, f"{name}/{self.generation}")

    @property
    def certificate(self) -> bytes:
        """TLS certificate in DER."""
        return certificate(certificate_name(self.alliance, self.member), label=f"{self.origin}/{self.generation}")


def build_labs(count: int = 3, alliance: str = ALLIANCE) -> list[Lab]:
    """The first `count` laboratories; beyond the eight named ones they are numbered."""
    names = [*NAMES, *(f"lab-{i}" for i in range(len(NAMES), count))]
    return [Lab(name, alliance) for name in names[:count]]


# Cards and rosters


def sign_content(content: Json, payload_type: str, *signs: Sign) -> bytes:
    """An envelope around any content, also a broken one."""
    return format_envelope(build_envelope(content, payload_type, *signs))


def build_card(lab: Lab, **changes: Any) -> Card:
    """The first card of a laboratory, with `changes` to its fields."""
    card = Card(
        alliance=lab.alliance,
        member=lab.member,
        name=f"{lab.member.title()} Institute of Quality Inspection",
        region="CN-37",
        identity_key=lab.identity_key,
        seq=1,
        previous=None,
        issued=START,
        endpoints=(f"{lab.member}.example:7443",),
        log_key=lab.log.key,
        witness_key=lab.witness.key,
        former_log_keys=(),
        former_witness_keys=(),
        tls_certificates=(lab.certificate,),
    )
    return replace(card, **changes)


def sign_card(card: Card, lab: Lab) -> bytes:
    """The card in an envelope signed by the laboratory's identity key."""
    return sign_content(card_content(card), CARD_TYPE, lab.sign)


def sign_roster(roster: Roster, *labs: Lab) -> bytes:
    """The roster in an envelope signed by these laboratories."""
    return sign_content(roster_content(roster), ROSTER_TYPE, *(lab.sign for lab in labs))


def build_members(labs: Iterable[Lab]) -> Mapping[str, Member]:
    """Active members, all joined at the start."""
    return MappingProxyType({lab.member: Member(lab.identity_key, "active", START) for lab in labs})


def build_roster(labs: Sequence[Lab], *, council: Sequence[Lab] | None = None, **changes: Any) -> Roster:
    """Version 1 with these members; the council is the first laboratory unless told otherwise."""
    seats = labs[:1] if council is None else council
    roster = Roster(
        alliance=labs[0].alliance,
        title="Jinan Quality Alliance",
        version=1,
        previous=None,
        issued=START,
        expires=START + timedelta(days=365),
        council=tuple(lab.identity_key for lab in seats),
        threshold=len(seats) // 2 + 1,
        quorum=quorum_default(len(labs)),
        members=build_members(labs),
    )
    return replace(roster, **changes)


def build_alliance(labs: Sequence[Lab], **changes: Any) -> Alliance:
    """An alliance of one roster version with every laboratory's card."""
    return load_alliance(
        [sign_roster(build_roster(labs, **changes), labs[0])], [sign_card(build_card(lab), lab) for lab in labs]
    )


# Records and logs


def record_content(author: str = "jinan", key: str = "WJ-2026-000001", **changes: Any) -> dict[str, Json]:
    """The content of a valid record; a change to None takes the member away."""
    content: dict[str, Json] = {
        "audience": ["*"],
        "author": author,
        "body": {"value": "0.10", "unit": "mg/L"},
        "key": key,
        "kind": "result",
        "published": "2026-11-20T08:30:00.123Z",
        "revision": 1,
        "schema": "result/1",
        **changes,
    }
    return {name: value for name, value in content.items() if value is not None}


def record_bytes(author: str = "jinan", key: str = "WJ-2026-000001", **changes: Any) -> bytes:
    """The canonical bytes of a valid record."""
    return dumps_canonical(record_content(author, key, **changes))


def build_salt(origin: str, index: int) -> bytes:
    """A salt that is the same in every run."""
    return sha256(f"{origin}/{index}".encode()).digest()


@dataclass(slots=True)
class MemoryLog:
    """A member's own log in memory: everything it appended, and what it signs."""

    lab: Lab
    records: list[bytes] = field(default_factory=list)
    salts: list[bytes] = field(default_factory=list)
    commitments: list[bytes] = field(default_factory=list)
    tiles: list[bytes] = field(default_factory=list)
    frontier: Frontier = field(default_factory=Frontier)

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.records)

    @property
    def tree(self) -> Tree:
        """Proofs over the log."""
        return Tree(lambda lo, hi: self.commitments[lo:hi], lambda lo, hi: self.tiles[lo:hi])

    def append(self, *records: bytes) -> SignedCheckpoint:
        """Append record bytes and sign the checkpoint after them."""
        commit = committer(self.lab.origin)
        salts = [build_salt(self.lab.origin, self.size + i) for i in range(len(records))]
        commitments = [commit(salt, record) for salt, record in zip(salts, records, strict=True)]
        self.frontier, tiles = self.frontier.extend(commitments)
        self.records += records
        self.salts += salts
        self.commitments += commitments
        self.tiles += tiles
        return self.checkpoint()

    def append_numbered(self, count: int, **changes: Any) -> SignedCheckpoint:
        """Append `count` valid records with keys of their own."""
        first = self.size
        return self.append(*(record_bytes(self.lab.member, f"WJ-{first + i:06d}", **changes) for i in range(count)))

    def checkpoint(self, size: int | None = None) -> SignedCheckpoint:
        """The signed checkpoint of the newest or an earlier size."""
        at = self.size if size is None else size
        return sign_checkpoint(Checkpoint(self.lab.origin, at, self.tree.root(at)), self.lab.log)

    def opening(self, index: int) -> Opening:
        """The opening of one entry."""
        return Opening(index, self.salts[index], self.records[index], index + 1)

    def page(self, low: int, high: int, *, openings: Iterable[int] | None = None) -> LogPage:
        """Entries low…high-1 with all their openings, or with those of `openings`."""
        opened = range(low, high) if openings is None else openings
        return LogPage(low, b"".join(self.commitments[low:high]), [self.opening(index) for index in opened])

    def proof(self, index: int, signed: SignedCheckpoint) -> TlogProof:
        """The tlog-proof of one entry under a checkpoint."""
        path = tuple(self.tree.inclusion(index, signed.size))
        return TlogProof(index, path, bytes(signed).decode(), self.salts[index])


def build_log(lab: Lab, count: int = 0) -> MemoryLog:
    """A log of `count` valid records."""
    log = MemoryLog(lab)
    if count:
        log.append_numbered(count)
    return log


# Bundles


def cosign(signed: SignedCheckpoint, times: Mapping[Lab, int]) -> SignedCheckpoint:
    """The checkpoint with a cosignature by each laboratory at its time."""
    lines = [cosign_checkpoint(signed.checkpoint, lab.witness, time).line for lab, time in times.items()]
    return signed.with_lines(tuple(lines))


BLOB = b"%PDF-1.7 a scanned report"


@dataclass(slots=True)
class BundleCase:
    """A bundle and everything it was made from, for tests that make it again with one thing changed.

    Three members; two roster versions, the second with a council of three of which two signed; a log of five entries;
    `first` at size 3 and `newest` at size 5, both cosigned by the two others; a quorum of two.
    """

    labs: list[Lab]
    rosters: list[bytes]
    cards: dict[str, bytes]
    log: MemoryLog
    first: SignedCheckpoint
    newest: SignedCheckpoint
    index: int = 1
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def alliance(self) -> Alliance:
        """The alliance that the bundle describes."""
        return load_alliance(self.rosters, self.cards.values())

    @property
    def fingerprint(self) -> str:
        """Hash of the newest roster."""
        return self.alliance.fingerprint

    def proof(self, signed: SignedCheckpoint) -> bytes:
        """The tlog-proof of the entry under a checkpoint."""
        return format_tlog_proof(self.log.proof(self.index, signed)).encode()

    def bundle(self) -> Bundle:
        """The bundle."""
        return Bundle(
            record=self.log.records[self.index],
            proof=self.proof(self.newest),
            rosters=tuple(self.rosters),
            cards=dict(self.cards),
            first_proof=self.proof(self.first),
            blobs=dict(self.blobs),
        )


def build_roster_chain(labs: Sequence[Lab], **changes: Any) -> list[bytes]:
    """Version 1 by the first laboratory alone, and version 2, which seats them all and which two of them sign."""
    first = build_roster(labs[:1])
    raw = sign_roster(first, labs[0])
    previous = build_envelope(roster_content(first), ROSTER_TYPE).hash
    second = build_roster(labs, council=labs, **{"version": 2, "previous": previous, "quorum": 2, **changes})
    return [raw, sign_roster(second, *labs[: second.threshold])]


def build_bundle_case(**roster_changes: Any) -> BundleCase:
    """A small case in which every part of a bundle is present."""
    labs = build_labs(3)
    digest = sha256(BLOB).hexdigest()
    blob = {"name": "report.pdf", "sha256": digest, "size": len(BLOB), "type": "application/pdf"}
    log = MemoryLog(labs[0])
    log.append_numbered(1)
    log.append(record_bytes("jinan", "WJ-BLOB", blobs=[blob]))
    log.append_numbered(1)
    first = cosign(log.checkpoint(), {labs[1]: NOW_S + 7, labs[2]: NOW_S + 3})
    log.append_numbered(2)
    newest = cosign(log.checkpoint(), {labs[1]: NOW_S + 60, labs[2]: NOW_S + 61})
    cards = {lab.member: sign_card(build_card(lab), lab) for lab in labs}
    return BundleCase(labs, build_roster_chain(labs, **roster_changes), cards, log, first, newest, blobs={digest: BLOB})
