"""The verdict on a bundle: eight steps, in the order of DESIGN section 4, each named in the result.

 1. roster        the chain of rosters holds from version 1, and one version is the pinned one
 2. cards         the cards of the author and the cosigners are signed by the identity keys in the newest roster
 3. checkpoint    the author's log key, valid at that size, signed each checkpoint
 4. cosignatures  every further signature line is by the witness key of an active member other than the author
 5. commitment    the record's bytes and the salt give the commitment
 6. inclusion     the commitment is in the log of the signed size and root
 7. schema        the record is canonical, by this author, and obeys its schema
 8. blobs         every blob in the bundle is one that the record names, unaltered

No clock is read: expiry is reported by the caller, and fails nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TypeVar

from node.core.alliance import Alliance, load_alliance
from node.core.bundle import Bundle
from node.core.canonical import Json
from node.core.checkpoint import SignedCheckpoint, parse_checkpoint, verify_checkpoint
from node.core.dsse import Envelope
from node.core.entry import SALT_SIZE, committer
from node.core.hindsight import newer_cards, with_newer_rosters, with_newest_cards
from node.core.kinds import Kinds
from node.core.merkle import verify_inclusion
from node.core.proof import TlogProof, parse_tlog_proof
from node.core.record import Record, parse_record
from node.core.times import format_seconds
from node.core.witness import accept_cosignatures, verify_witness_line
from node.errors import FormatError, InvalidRecordError, LabmeshError, SignatureError, VerificationError

T = TypeVar("T")

STEPS = ("roster", "cards", "checkpoint", "cosignatures", "commitment", "inclusion", "schema", "blobs")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `ok` is None when it was not reached."""

    step: str
    ok: bool | None
    detail: str


def run_steps(names: Sequence[str], runners: Sequence[Callable[[T], str]], subject: T) -> tuple[Step, ...]:
    """Run steps in order; each gives its detail, or raises a LabmeshError. After a failure none is reached."""
    steps: list[Step] = []
    for name, run in zip(names, runners, strict=True):
        if steps and not steps[-1].ok:
            steps.append(Step(name, None, "not reached"))
            continue
        try:
            steps.append(Step(name, True, run(subject)))
        except LabmeshError as error:
            steps.append(Step(name, False, error.message))
    return tuple(steps)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a bundle proves. `cosigners` maps member ids to the earliest time, in seconds, of their cosignatures."""

    steps: tuple[Step, ...]
    record: Json = None
    signer: str | None = None
    signed_size: int | None = None
    alliance: Alliance | None = None
    quorum_needed: int = 0
    quorum_met: bool = False
    cosigners: dict[str, int] = field(default_factory=dict)
    seen_by: int | None = None

    @property
    def verified(self) -> bool:
        """Whether every step held."""
        return all(step.ok for step in self.steps)


@dataclass(slots=True)
class _Evidence:
    """What the steps have established so far."""

    bundle: Bundle
    fingerprint: str
    kinds: Kinds
    known: Alliance | None = None
    packed: Alliance | None = None
    alliance: Alliance | None = None
    author: str = ""
    proofs: list[tuple[TlogProof, SignedCheckpoint]] = field(default_factory=list)
    counted: list[dict[str, int]] = field(default_factory=list)
    commitment: bytes = b""
    record: Record | None = None

    @property
    def trusted(self) -> Alliance:
        """The alliance that step 1 established; from step 2 on with the newest cards."""
        assert self.alliance is not None
        return self.alliance


def verify_bundle(bundle: Bundle, *, fingerprint: str, kinds: Kinds, known: Alliance | None = None) -> Verdict:
    """Run every step and say what holds; never raises for what a bundle says.

    Args:
        bundle: what is verified.
        fingerprint: hash of a roster version, from another source than the bundle.
        kinds: the schemas known here.
        known: an alliance that the verifier follows. Where it is the bundle's, its newer rosters and cards are judged by.
    """
    evidence = _Evidence(bundle, fingerprint, kinds, known)
    return _build_verdict(evidence, run_steps(STEPS, _RUNNERS, evidence))


def _verify_roster(evidence: _Evidence) -> str:
    """Step 1."""
    evidence.packed = packed = load_alliance(evidence.bundle.rosters)
    newest = with_newer_rosters(packed, evidence.known)
    if not newest.knows_fingerprint(evidence.fingerprint):
        load_alliance(evidence.bundle.rosters, fingerprint=evidence.fingerprint)  # says what is wrong
    for envelope, roster in packed.rosters:
        _require_known_signatures(f"roster/{roster.version}.json", envelope, packed.signers_of(roster))
    evidence.alliance = newest
    version, held = packed.roster.version, newest.roster.version
    later = f"; judged by version {held}, which this home knows" if held > version else ""
    return f"{packed.name}, version {version}, reached from the pinned fingerprint{later}"


def _verify_cards(evidence: _Evidence) -> str:
    """Step 2."""
    alliance = evidence.packed
    assert alliance is not None
    for member, raw in evidence.bundle.cards.items():
        # That no two sign with one key is judged where it counts, line by line: a card proves no right to a key.
        alliance = alliance.accept_card(raw, judged=True)
        if member not in alliance.cards:
            raise FormatError(f"cards/{member}.json is the card of another member")
    if set(alliance.cards) != set(evidence.bundle.cards):
        raise FormatError("a card in the bundle stands under another member's name")
    for member, (envelope, card) in alliance.cards.items():
        _require_known_signatures(f"cards/{member}.json", envelope, {card.identity_key})
    evidence.packed = alliance
    for name, raw_proof in (
        ("record.tlog-proof", evidence.bundle.proof),
        ("first.tlog-proof", evidence.bundle.first_proof),
    ):
        if raw_proof is not None:
            evidence.proofs.append(_parse_proof(name, raw_proof))
    evidence.author = alliance.author_of(evidence.proofs[0][1].origin)
    alliance.card(evidence.author)
    evidence.alliance = newest = with_newest_cards(evidence.trusted, alliance, evidence.known, author=evidence.author)
    if evidence.author not in newest.cards:
        raise SignatureError(
            f"the identity key of {evidence.author} was replaced since, and no card by the new one is known here",
            hint="take the newest cards from a member: labmesh join FILE",
        )
    later = newer_cards(alliance, newest)
    noted = f"; newer ones are known to this home of {', '.join(later)}" if later else ""
    return f"signed by their members: {', '.join(sorted(alliance.cards))}{noted}"


def _require_known_signatures(name: str, envelope: Envelope, keys: Collection[bytes]) -> None:
    """Every signature in a bundle is by a known key, each once: nothing in it is there without being checked."""
    if len(envelope.signers(keys)) != len(envelope.signatures):
        raise SignatureError(f"{name} carries a signature that is not by one of the keys that may sign it, or one twice")


def _verify_checkpoint(evidence: _Evidence) -> str:
    """Step 3."""
    card = evidence.trusted.card(evidence.author)
    newest = evidence.proofs[0][1]
    for _, signed in evidence.proofs:
        verify_checkpoint(signed, card.log_key_at(signed.size, signed.root))
        if signed.origin != newest.origin or signed.size > newest.size:
            raise VerificationError("checkpoint", "first.tlog-proof is not an earlier checkpoint of the same log")
        if signed.size == newest.size and signed.root != newest.root:
            raise VerificationError("checkpoint", f"two roots are signed for size {signed.size}")
    _require_before_cut(evidence)
    return f"{newest.origin} of size {newest.size}, signed by {evidence.author}"


def _require_before_cut(evidence: _Evidence) -> None:
    """Where the roster ends the author's log, the record must lie before the end, and a checkpoint there have its root."""
    author = evidence.trusted.roster.members[evidence.author]
    if author.cut is not None and evidence.proofs[0][0].index >= author.cut.size:
        raise VerificationError("checkpoint", f"the roster ends the log of {evidence.author} at size {author.cut.size}")
    head = author.head
    if head is not None and any(signed.size == head.size and signed.root != head.root for _, signed in evidence.proofs):
        raise VerificationError("checkpoint", f"the roster ends the log of {evidence.author} with another history")


def _verify_cosignatures(evidence: _Evidence) -> str:
    """Step 4."""
    cosigned = [_cosigners(evidence, signed) for _, signed in evidence.proofs]
    # Each line holds by what the bundle says. Those count that hold by the newest roster and cards, too.
    lasting = [accept_cosignatures(evidence.trusted, evidence.author, signed) for _, signed in evidence.proofs]
    evidence.counted = [
        {name: time for name, time in times.items() if name in still} for times, still in zip(cosigned, lasting, strict=True)
    ]
    names = sorted(set[str]().union(*evidence.counted))
    gone = sorted(set[str]().union(*cosigned) - set(names))
    return (f"by {', '.join(names)}" if names else "none yet") + (f"; no longer counted: {', '.join(gone)}" if gone else "")


def _verify_commitment(evidence: _Evidence) -> str:
    """Step 5."""
    proof, signed = evidence.proofs[0]
    if proof.extra is None or len(proof.extra) != SALT_SIZE:
        raise VerificationError("commitment", "record.tlog-proof carries no salt of 32 bytes")
    for other, _ in evidence.proofs[1:]:
        if (other.index, other.extra) != (proof.index, proof.extra):
            raise VerificationError("commitment", "the two proofs are about different entries")
    evidence.commitment = committer(signed.origin)(proof.extra, evidence.bundle.record)
    return f"of entry {proof.index}: {evidence.commitment.hex()}"


def _verify_inclusion(evidence: _Evidence) -> str:
    """Step 6."""
    for proof, signed in evidence.proofs:
        try:
            verify_inclusion(evidence.commitment, proof.index, signed.size, proof.path, signed.root)
        except LabmeshError as error:
            author = evidence.author
            raise VerificationError(
                "inclusion",
                f"entry {proof.index} of {author} is not in the checkpoint of size {signed.size}: {error.message}. "
                "The bundle was changed after it was made, or comes from another log.",
            ) from error
    proof, signed = evidence.proofs[0]
    return f"entry {proof.index} of {signed.size}"


def _verify_schema(evidence: _Evidence) -> str:
    """Step 7."""
    try:
        record = parse_record(evidence.bundle.record, author=evidence.author, kinds=evidence.kinds)
    except InvalidRecordError as error:
        raise VerificationError("schema", f"record.json: {error.message}") from error
    evidence.record = record
    index = evidence.proofs[0][0].index
    if record.revision > index + 1:
        raise VerificationError("schema", f"revision {record.revision} cannot be entry {index} of a log")
    if not record.understood:
        return f"{record.content['schema']} is not known here: the body was not checked"
    return f"{record.content['schema']}"


def _verify_blobs(evidence: _Evidence) -> str:
    """Step 8."""
    named = {blob["sha256"]: blob for blob in evidence.record.content.get("blobs", [])} if evidence.record else {}
    for digest, raw in evidence.bundle.blobs.items():
        if digest not in named or named[digest]["size"] != len(raw) or sha256(raw).hexdigest() != digest:
            raise VerificationError("blobs", f"blobs/{digest} is not a blob of this record")
    return f"{len(evidence.bundle.blobs)} of {len(named)} are in the bundle"


_RUNNERS: tuple[Callable[[_Evidence], str], ...] = (
    _verify_roster,
    _verify_cards,
    _verify_checkpoint,
    _verify_cosignatures,
    _verify_commitment,
    _verify_inclusion,
    _verify_schema,
    _verify_blobs,
)


def _parse_proof(name: str, raw: bytes) -> tuple[TlogProof, SignedCheckpoint]:
    try:
        proof = parse_tlog_proof(raw.decode("utf-8"))
        return proof, parse_checkpoint(proof.checkpoint.encode())
    except UnicodeDecodeError as error:
        raise FormatError(f"{name} is not UTF-8") from error
    except FormatError as error:
        raise FormatError(f"{name}: {error.message}") from error


def _cosigners(evidence: _Evidence, signed: SignedCheckpoint) -> dict[str, int]:
    """Verified cosigners of one checkpoint, with their times. Every line must be known, valid, and there once."""
    assert evidence.packed is not None
    card = evidence.trusted.card(evidence.author)
    own = signed.note.signatures_of(card.log_key_at(signed.size, signed.root))
    if len(own) != 1:
        raise SignatureError(f"the checkpoint carries the signature of {evidence.author} {len(own)} times")
    times: dict[str, int] = {}
    used: set[bytes] = set()
    for line in signed.note.signatures:
        if line in own:
            continue
        member, cosignature = verify_witness_line(evidence.packed, signed, line)
        if member == evidence.author or member in times or cosignature.key.public_key in used:
            raise SignatureError(f"the cosignature of {member} cannot count")
        times[member] = cosignature.time
        used.add(cosignature.key.public_key)
    return times


def _build_verdict(evidence: _Evidence, steps: tuple[Step, ...]) -> Verdict:
    alliance = evidence.alliance
    if alliance is None:
        return Verdict(steps)
    needed = alliance.roster.quorum
    counted = evidence.counted
    merged: dict[str, int] = {}
    for one in counted:
        for name, time in one.items():
            merged[name] = min(time, merged.get(name, time))
    first = sorted(counted[1].values()) if len(counted) > 1 else []
    proved = all(step.ok for step in steps)
    signed = steps[STEPS.index("checkpoint")].ok
    return Verdict(
        steps,
        record=evidence.record.content if evidence.record else None,
        signer=evidence.author if signed else None,
        signed_size=evidence.proofs[0][1].size if signed else None,
        alliance=alliance,
        quorum_needed=needed,
        quorum_met=proved and any(len(one) >= needed for one in counted),
        cosigners=merged if proved else {},
        seen_by=first[needed - 1] if proved and len(first) >= needed else None,
    )


def verdict_content(verdict: Verdict) -> dict[str, Json]:
    """The verdict as the JSON of DESIGN section 9."""
    roster = verdict.alliance.roster if verdict.alliance else None
    return {
        "verified": verdict.verified,
        "record": verdict.record,
        "signer": verdict.signer,
        "signed_size": verdict.signed_size,
        "roster": {"version": roster.version, "expires": format_seconds(roster.expires)} if roster else None,
        "quorum": {"needed": verdict.quorum_needed, "met": verdict.quorum_met},
        "cosigners": [{"member": name, "time": _iso(time)} for name, time in sorted(verdict.cosigners.items())],
        "seen_by": None if verdict.seen_by is None else _iso(verdict.seen_by),
        "steps": [{"step": step.step, "ok": step.ok, "detail": step.detail} for step in verdict.steps],
    }


def _iso(time: int) -> str:
    return format_seconds(datetime.fromtimestamp(time, UTC))
