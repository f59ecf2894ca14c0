"""Bundles: one file that proves one record to someone who has no node, no network and one fingerprint.

This module knows the file: which members it has. How they are packed is `archive`'s business, what they prove `verdict`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from node.core.archive import format_archive, parse_archive
from node.errors import FormatError

BUNDLE_SIZE_MAX = 3 * 1024 * 1024 * 1024
MEMBER_SIZE_MAX = 4 * 1024 * 1024

README = """This is a Labmesh bundle: it proves one record of a testing laboratory offline.

Check it:  labmesh verify FILE --fingerprint HEX
where HEX is the alliance's fingerprint, which you must have from a source other than the sender of this file.

Or, without trusting Labmesh:  python3 verify_bundle.py FILE --fingerprint HEX
This second verifier is scripts/verify_bundle.py of the Labmesh sources: 250 lines of Python to read, which need nothing but
the package cryptography and share no code with Labmesh.

What is in it, and how to check it with other tools:
  record.json          the record, in the exact bytes that were committed to
  record.tlog-proof    C2SP tlog-proof: salt (extra), index, inclusion path, signed checkpoint with cosignatures
  first.tlog-proof     the same for the earliest checkpoint that enough other members had cosigned (if there is one)
  roster/N.json        the alliance's rosters (DSSE); the SHA-256 of the payload of one of them is the fingerprint
  cards/MEMBER.json    the keys of the author and of the cosigners (DSSE, signed by the identity key in the roster)

  commitment = SHA-256("labmesh/commitment/v1" 00 | u16be(len(origin)) | origin | salt | u64be(len(record)) | record)
  leaf       = SHA-256(00 | commitment), then RFC 9162 section 2.1.3.2 up to the checkpoint's root
"""

_ROSTER = re.compile(r"roster/([1-9][0-9]{0,5})\.json", re.ASCII)
_CARD = re.compile(r"cards/([a-z0-9][a-z0-9-]{0,30})\.json", re.ASCII)
_BLOB = re.compile(r"blobs/([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The members of a bundle, unverified. Rosters are in order of version, cards by member, blobs by SHA-256."""

    record: bytes
    proof: bytes
    rosters: tuple[bytes, ...]
    cards: Mapping[str, bytes]
    first_proof: bytes | None = None
    blobs: Mapping[str, bytes] = field(default_factory=dict)


def format_bundle(bundle: Bundle) -> bytes:
    """The bundle as a file."""
    members = {"README.txt": README.encode(), "record.json": bundle.record, "record.tlog-proof": bundle.proof}
    members |= {f"roster/{i}.json": raw for i, raw in enumerate(bundle.rosters, 1)}
    members |= {f"cards/{member}.json": raw for member, raw in bundle.cards.items()}
    members |= {f"blobs/{name}": raw for name, raw in bundle.blobs.items()}
    if bundle.first_proof is not None:
        members["first.tlog-proof"] = bundle.first_proof
    return format_archive(members)


def parse_bundle(raw: bytes) -> Bundle:
    """Read a bundle's members.

    Raises:
        FormatError: not a bundle: another ZIP, a damaged one, or one with missing, doubled or unknown members.
    """
    members = parse_archive(raw, noun="bundle", size_max=BUNDLE_SIZE_MAX, member_size_max=_member_size_max)
    members.pop("README.txt", None)
    rosters: dict[int, bytes] = {}
    cards: dict[str, bytes] = {}
    blobs: dict[str, bytes] = {}
    for name in list(members):
        if match := _ROSTER.fullmatch(name):
            rosters[int(match[1])] = members.pop(name)
        elif match := _CARD.fullmatch(name):
            cards[match[1]] = members.pop(name)
        elif match := _BLOB.fullmatch(name):
            blobs[match[1]] = members.pop(name)
    record, proof = members.pop("record.json", None), members.pop("record.tlog-proof", None)
    first_proof = members.pop("first.tlog-proof", None)
    if members:
        raise FormatError(f"the bundle has an unknown member {next(iter(members))[:80]!r}")
    if record is None or proof is None or sorted(rosters) != list(range(1, len(rosters) + 1)) or not rosters:
        raise FormatError("the bundle lacks record.json, record.tlog-proof or one of its rosters")
    return Bundle(record, proof, tuple(rosters[i] for i in sorted(rosters)), cards, first_proof, blobs)


def _member_size_max(name: str) -> int:
    return BUNDLE_SIZE_MAX if name.startswith("blobs/") else MEMBER_SIZE_MAX
