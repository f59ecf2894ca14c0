"""Evidence: two signed statements of one member that cannot both be honest, in one file anyone can check.

This module knows the file (`.labevidence`): its members, and how a file is made of what a node holds. What it proves is the
business of `misconduct`. The names of the members say the kind:

| kind | members beside README.txt and roster/1.json … |
| --- | --- |
| `split-view` | cards/MEMBER.json, first.note, second.note; consistency.txt where the two sizes differ |
| `contradiction` | cards/MEMBER.json, first.json, first.tlog-proof, second.json, second.tlog-proof |
| `roster` | first.roster, second.roster |
| `card` | first.card, second.card |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from node.core.alliance import Alliance, format_card, format_roster
from node.core.archive import format_archive, parse_archive
from node.core.card import CARD_TYPE
from node.core.checkpoint import SignedCheckpoint
from node.core.dsse import Envelope, format_envelope, parse_envelope
from node.core.keys import format_base64, parse_base64
from node.core.merkle import HASH_SIZE, Tree
from node.core.proof import TlogProof, format_tlog_proof
from node.core.roster import ROSTER_TYPE
from node.errors import FormatError

Kind = Literal["split-view", "contradiction", "roster", "card"]

EVIDENCE_SIZE_MAX = 6 * 1024 * 1024
CONSISTENCY_MAX = 128

_STATEMENTS: Mapping[Kind, frozenset[str]] = MappingProxyType(
    {
        "split-view": frozenset({"first.note", "second.note"}),
        "contradiction": frozenset({"first.json", "first.tlog-proof", "second.json", "second.tlog-proof"}),
        "roster": frozenset({"first.roster", "second.roster"}),
        "card": frozenset({"first.card", "second.card"}),
    }
)
_CONSISTENCY = "consistency.txt"
_WITH_CARD = frozenset({"split-view", "contradiction"})
_ROSTER = re.compile(r"roster/([1-9][0-9]{0,5})\.json", re.ASCII)
_CARD = re.compile(r"cards/([a-z0-9][a-z0-9-]{0,30})\.json", re.ASCII)

README_START = """This is Labmesh evidence: two signed statements of one member of an alliance that cannot both be honest.

Check it:  labmesh evidence verify FILE --fingerprint HEX
where HEX is the alliance's fingerprint, which you must have from a source other than the sender of this file.

What is in it, and how to check it with other tools:
  roster/N.json    the alliance's rosters (DSSE); the SHA-256 of the payload of one of them is the fingerprint
"""
README_KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        "split-view": """  cards/M.json     the accused member's keys (DSSE, signed by the identity key in the roster)
  first.note       a checkpoint of its log (C2SP signed note: origin, size, root), signed by its log key
  second.note      another one
If both have one size, their roots differ: one log cannot have both.
If the second is larger, consistency.txt holds a root on its first line, then an RFC 9162 consistency proof (section 2.1.4.2)
from that root at the first note's size to the second note. It verifies, so that root is the only one that the second history
can have at the first size; and it is not the root that the first note signs.
""",
        "contradiction": """  cards/M.json         the accused member's keys (DSSE, signed by the identity key in the roster)
  first.json           a record, in the exact bytes that were committed to
  first.tlog-proof     C2SP tlog-proof: salt (extra), index, inclusion path, checkpoint signed by its log key
  second.json, second.tlog-proof    another record of the same kind, key and revision
  commitment = SHA-256("labmesh/commitment/v1" 00 | u16be(len(origin)) | origin | salt | u64be(len(record)) | record)
  leaf       = SHA-256(00 | commitment), then RFC 9162 section 2.1.3.2 up to the checkpoint's root
An honest log says each kind, key and revision once.
""",
        "roster": """  first.roster     a roster (DSSE) with the signature of one council key
  second.roster    another roster of the same version, signed by the same key
Nobody who is honest signs two rosters of one version.
""",
        "card": """  first.card       a card (DSSE) signed by the member's identity key
  second.card      another card with the same seq, signed by the same key
Nobody who is honest signs two cards with one seq.
""",
    }
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The members of a file, unverified. `statements` are those that make the kind, by name."""

    kind: Kind
    rosters: tuple[bytes, ...]
    statements: Mapping[str, bytes]
    cards: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Consistency:
    """A root at the smaller size, and the RFC 9162 proof that leads from it to the larger checkpoint."""

    root: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One opened entry of a log."""

    index: int
    salt: bytes
    record: bytes


def format_evidence(evidence: Evidence) -> bytes:
    """The evidence as a file."""
    return _format(evidence, (README_START + README_KINDS[evidence.kind]).encode())


def parse_evidence(raw: bytes) -> Evidence:
    """Read a file in its one form; only the words of README.txt are free.

    Raises:
        FormatError: anything else.
    """
    members = parse_archive(
        raw, noun="evidence", size_max=EVIDENCE_SIZE_MAX, member_size_max=lambda _name: EVIDENCE_SIZE_MAX
    )
    readme = members.pop("README.txt", None)
    rosters: dict[int, bytes] = {}
    cards: dict[str, bytes] = {}
    for name in list(members):
        if match := _ROSTER.fullmatch(name):
            rosters[int(match[1])] = members.pop(name)
        elif match := _CARD.fullmatch(name):
            cards[match[1]] = members.pop(name)
    kind = _kind_of(members)
    if readme is None or not rosters or sorted(rosters) != list(range(1, len(rosters) + 1)):
        raise FormatError("the evidence lacks README.txt or one of its rosters")
    if len(cards) != (kind in _WITH_CARD):
        raise FormatError(f"evidence of the kind {kind} with {len(cards)} members' cards")
    evidence = Evidence(kind, tuple(rosters[i] for i in sorted(rosters)), members, cards)
    if _format(evidence, readme) != raw:
        raise FormatError("evidence that is not in its one form")
    return evidence


def format_consistency(proof: Consistency) -> str:
    """The text of consistency.txt."""
    return "".join(f"{format_base64(item)}\n" for item in (proof.root, *proof.path))


def parse_consistency(raw: bytes) -> Consistency:
    """Parse consistency.txt in its one form.

    Raises:
        FormatError: anything else.
    """
    if not raw.isascii() or raw.count(b"\n") > CONSISTENCY_MAX:
        raise FormatError("consistency.txt is no list of hashes")
    hashes = [parse_base64(line) for line in raw.decode().split("\n")[:-1]]
    if not hashes or any(len(item) != HASH_SIZE for item in hashes):
        raise FormatError("consistency.txt needs a root and hashes, of 32 bytes each")
    proof = Consistency(hashes[0], tuple(hashes[1:]))
    if format_consistency(proof).encode() != raw:
        raise FormatError("consistency.txt is not in canonical form")
    return proof


def build_split_view(
    alliance: Alliance, author: str, one: SignedCheckpoint, other: SignedCheckpoint, tree: Tree | None = None
) -> Evidence:
    """Two checkpoints of one log that no one history explains.

    Args:
        alliance: the alliance as it is held.
        author: whose log it is.
        one: a checkpoint signed by its log key.
        other: another one.
        tree: the log that the larger checkpoint commits to; not needed for equal sizes.
    """
    card = alliance.card(author)
    first, second = sorted((one, other), key=lambda signed: (signed.size, signed.root))
    notes = [bytes(signed.signed_by(card.log_key_at(signed.size, signed.root))) for signed in (first, second)]
    statements = {"first.note": notes[0], "second.note": notes[1]}
    if first.size != second.size:
        if tree is None:
            raise FormatError("checkpoints of two sizes need the larger one's log")
        proof = Consistency(tree.root(first.size), tuple(tree.consistency(first.size, second.size)))
        statements[_CONSISTENCY] = format_consistency(proof).encode()
    return Evidence("split-view", _chain(alliance), statements, _card_of(alliance, author))


def build_contradiction(
    alliance: Alliance, author: str, signed: SignedCheckpoint, exhibits: Sequence[Exhibit], tree: Tree
) -> Evidence:
    """Two openings of one log, both covered by `signed`, that say one kind, key and revision."""
    note = signed.signed_by(alliance.card(author).log_key_at(signed.size, signed.root))
    statements: dict[str, bytes] = {}
    for name, exhibit in zip(("first", "second"), sorted(exhibits, key=lambda item: item.index), strict=True):
        path = tuple(tree.inclusion(exhibit.index, signed.size))
        proof = TlogProof(exhibit.index, path, bytes(note).decode(), exhibit.salt)
        statements[f"{name}.json"] = exhibit.record
        statements[f"{name}.tlog-proof"] = format_tlog_proof(proof).encode()
    return Evidence("contradiction", _chain(alliance), statements, _card_of(alliance, author))


def build_conflicts(alliance: Alliance, envelopes: Iterable[bytes]) -> list[Evidence]:
    """Two rosters of one version, or two cards of one `seq`: one piece for each key that has signed both, or none.

    Each keeps the one signature that counts: so a file cannot make its reader verify thousands. Each signer answers for
    itself: who signs with a stolen key beside the own one is not cleared when the council replaces the stolen one.
    """
    pair = list(envelopes)
    for kind, payload_type in (("roster", ROSTER_TYPE), ("card", CARD_TYPE)):
        try:
            parsed = [parse_envelope(raw, payload_type) for raw in pair]
        except FormatError:
            continue
        if kind == "roster":
            keys = council_keys(alliance, parsed[0][1]["version"])
        else:
            keys = identity_keys(alliance, parsed[0][1]["member"])
        first, second = sorted((envelope for envelope, _ in parsed), key=lambda envelope: envelope.hash)
        return [
            Evidence(
                "roster" if kind == "roster" else "card",
                _chain(alliance),
                {f"first.{kind}": _signed_by(first, key), f"second.{kind}": _signed_by(second, key)},
            )
            for key in sorted(first.signers(keys) & second.signers(keys))
        ]
    raise FormatError("neither two rosters nor two cards")


def rebase_evidence(evidence: Evidence, alliance: Alliance) -> Evidence:
    """The same statements, beside the rosters and the card that somebody has verified."""
    cards = {member: format_card(alliance.cards[member]) for member in evidence.cards}
    return replace(evidence, rosters=_chain(alliance), cards=cards)


def council_keys(alliance: Alliance, version: int) -> set[bytes]:
    """The keys whose signatures roster `version` needs: the council of the version before, and its own where it is held."""
    chain = alliance.rosters
    if not 0 < version <= len(chain) + 1:
        return set()
    near = [chain[i][1] for i in (version - 2, version - 1) if 0 <= i < len(chain)]
    return {key for roster in near for key in roster.council}


def identity_keys(alliance: Alliance, member: str) -> set[bytes]:
    """The identity key that the newest roster gives a member; none for a stranger."""
    line = alliance.roster.members.get(member)
    return set() if line is None else {line.identity_key}


def _signed_by(envelope: Envelope, key: bytes) -> bytes:
    single = (Envelope(envelope.payload, envelope.payload_type, (signature,)) for signature in envelope.signatures)
    return format_envelope(next(item for item in single if item.signers([key])))


def _chain(alliance: Alliance) -> tuple[bytes, ...]:
    return tuple(format_roster(signed) for signed in alliance.rosters)


def _card_of(alliance: Alliance, member: str) -> dict[str, bytes]:
    return {member: format_card(alliance.cards[member])}


def _kind_of(members: Mapping[str, bytes]) -> Kind:
    names = set(members)
    for kind, wanted in _STATEMENTS.items():
        if names == wanted or (kind == "split-view" and names == wanted | {_CONSISTENCY}):
            return kind
    raise FormatError(f"the evidence has no known kind; its members are {', '.join(sorted(names))[:200] or 'none'}")


def _format(evidence: Evidence, readme: bytes) -> bytes:
    members = {"README.txt": readme, **evidence.statements}
    members |= {f"roster/{i}.json": raw for i, raw in enumerate(evidence.rosters, 1)}
    members |= {f"cards/{member}.json": raw for member, raw in evidence.cards.items()}
    return format_archive(members)
