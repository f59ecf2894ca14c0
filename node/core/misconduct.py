"""What evidence proves: five steps, each named in the result.

 1. roster     the chain of rosters holds from version 1, and one version is the pinned one
 2. key        whose key is to be held to account: the member's log key, council key or identity key
 3. first      the first statement is signed by that key (and, for a record, opened by it and in the signed log)
 4. second     so is the second
 5. conflict   the two cannot both be honest

Validity goes by the newest card: what a retired key signed beyond the size that its member named proves nothing. Where the
reader holds the alliance, its rosters and cards count beside those of the file, the newer one each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from node.core.alliance import Alliance, format_roster, load_alliance
from node.core.canonical import Json, parse_canonical
from node.core.card import CARD_TYPE, Card, parse_card
from node.core.checkpoint import SignedCheckpoint, parse_checkpoint, verify_checkpoint
from node.core.dsse import Envelope, parse_envelope
from node.core.entry import SALT_SIZE, committer
from node.core.evidence import Evidence, council_keys, identity_keys, parse_consistency
from node.core.keys import format_base64
from node.core.merkle import verify_consistency, verify_inclusion
from node.core.names import RecordId, parse_kind
from node.core.proof import TlogProof, parse_tlog_proof
from node.core.record import may_read
from node.core.roster import ROSTER_TYPE, parse_roster
from node.core.verdict import Step, run_steps
from node.errors import (
    FormatError,
    GovernanceError,
    InvalidRecordError,
    NotFoundError,
    SignatureError,
    VerificationError,
)

STEPS = ("roster", "key", "first", "second", "conflict")


@dataclass(frozen=True, slots=True)
class Statement:
    """One verified statement: what it is about, what it says, its number, and who may read it.

    The number is a checkpoint's size, a record's index, a roster's version or a card's `seq`.
    """

    subject: str
    content: bytes
    number: int
    audience: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a file proves. `member` and `summary` are empty unless it proves misconduct.

    `subject` names what was said in two ways. `covered` is the size that a surviving history must have to settle the matter
    (0: no history can). `alliance` is what the keys were taken from: the rosters, and the newest card of the member. `key`
    is the council or identity key that signed two rosters or cards; empty for other kinds.
    """

    steps: tuple[Step, ...]
    kind: str
    member: str = ""
    summary: str = ""
    subject: str = ""
    covered: int = 0
    statements: tuple[Statement, ...] = ()
    alliance: Alliance | None = None
    key: bytes = b""

    @property
    def verified(self) -> bool:
        """Whether every step held: the file proves misconduct."""
        return all(step.ok for step in self.steps)

    def may_be_told(self, reader: str) -> bool:
        """Whether the records in it, if there are any, are for this reader by their own audience."""
        return all(may_read(list(item.audience), author=self.member, reader=reader) for item in self.statements)


@dataclass(slots=True)
class _Trial:
    """What the steps have established so far."""

    evidence: Evidence
    fingerprint: str | None
    held: Alliance | None
    alliance: Alliance | None = None
    member: str = ""
    card: Card | None = None
    key: bytes = b""
    statements: list[Statement] = field(default_factory=list)
    checkpoints: list[SignedCheckpoint] = field(default_factory=list)
    summary: str = ""
    covered: int = 0

    @property
    def trusted(self) -> Alliance:
        """The alliance that step 1 established."""
        assert self.alliance is not None
        return self.alliance

    @property
    def accused(self) -> Card:
        """The card that step 2 established."""
        assert self.card is not None
        return self.card


def judge_evidence(evidence: Evidence, *, fingerprint: str | None = None, held: Alliance | None = None) -> Judgement:
    """Run every step and say what holds; never raises for what a file says.

    Args:
        evidence: the members of the file.
        fingerprint: hash that one of its rosters must have; needed unless `held` is given.
        held: the alliance that the reader has verified; one of the two chains must begin with the other.
    """
    trial = _Trial(evidence, fingerprint, held)
    steps = run_steps(STEPS, _RUNNERS, trial)
    if not all(step.ok for step in steps):
        return Judgement(steps, evidence.kind)
    subject, statements = trial.statements[0].subject, tuple(trial.statements)
    return Judgement(
        steps, evidence.kind, trial.member, trial.summary, subject, trial.covered, statements, trial.trusted, trial.key
    )


def find_settlement(judgement: Judgement, alliance: Alliance) -> str:
    """Why proven misconduct needs nobody any more: what the council decided; empty while it has not.

    A council key that was replaced may have been stolen before, and nobody can tell when it signed: so the decision that
    replaced it settles what it signed twice, as it does for cards, of which only the newest identity key's count.
    """
    line = alliance.roster.members[judgement.member]
    if line.status == "removed":
        return f"{judgement.member} was removed"
    if judgement.key and judgement.key != line.identity_key:
        return f"the council has replaced the identity key of {judgement.member} that signed both"
    if line.head is not None and 0 < judgement.covered <= line.head.size:
        return f"the roster names the history that survives, up to size {line.head.size}"
    return ""


def judgement_content(judgement: Judgement) -> dict[str, Json]:
    """The judgement as JSON."""
    return {
        "verified": judgement.verified,
        "kind": judgement.kind,
        "member": judgement.member or None,
        "summary": judgement.summary or None,
        "steps": [{"step": step.step, "ok": step.ok, "detail": step.detail} for step in judgement.steps],
    }


def _verify_roster(trial: _Trial) -> str:
    """Step 1."""
    rosters, held = trial.evidence.rosters, trial.held
    if held is None:
        if trial.fingerprint is None:
            raise VerificationError("roster", "no fingerprint was given to hold against the rosters")
        trial.alliance = alliance = load_alliance(rosters, fingerprint=trial.fingerprint)
        return f"{alliance.name}, version {alliance.roster.version}, reached from the pinned fingerprint"
    for raw, signed in zip(rosters, held.rosters, strict=False):
        if raw != format_roster(signed) and parse_envelope(raw, ROSTER_TYPE)[0].hash != signed[0].hash:
            raise GovernanceError(f"roster version {signed[1].version} in the evidence is not the one held here")
    for raw in rosters[len(held.rosters) :]:
        held = held.accept_roster(raw)
    if trial.fingerprint is not None and not held.knows_fingerprint(trial.fingerprint):
        raise GovernanceError(f"no roster has the fingerprint {trial.fingerprint}")
    trial.alliance = held
    return f"{held.name}, the chain held here, version {held.roster.version}"


def _verify_key(trial: _Trial) -> str:
    """Step 2."""
    if trial.evidence.kind in ("roster", "card"):
        return _find_signer(trial)
    alliance = trial.trusted
    ((member, raw),) = trial.evidence.cards.items()
    if parse_card(raw)[1].member != member:
        raise FormatError(f"cards/{member}.json is the card of another member")
    try:
        alliance = alliance.accept_card(raw)
    except (SignatureError, GovernanceError):
        # An older card under an identity key that was replaced since: the one held here counts.
        if trial.held is None or member not in alliance.cards:
            raise
    trial.alliance, trial.member, trial.card = alliance, member, alliance.card(member)
    return f"the log keys of {member}, by its card with seq {trial.card.seq}"


def _find_signer(trial: _Trial) -> str:
    """Step 2 for rosters and cards: the one key of a member that signed both."""
    alliance, kind = trial.trusted, trial.evidence.kind
    first, second = (_parse_signed(trial, name) for name in ("first", "second"))
    if kind == "roster":
        version = parse_roster(trial.evidence.statements["first.roster"])[1].version
        keys, noun = council_keys(alliance, version), "council key"
    else:
        trial.member = parse_card(trial.evidence.statements["first.card"])[1].member
        keys, noun = identity_keys(alliance, trial.member), "identity key"
    common = first.signers(keys) & second.signers(keys)
    if not common:
        raise SignatureError(f"no one {noun} has signed both")
    trial.key = common.pop()
    if kind == "roster":
        trial.member = _holder(alliance, trial.key)
    return f"the {noun} of {trial.member}"


def _parse_signed(trial: _Trial, name: str) -> Envelope:
    """One of the two envelopes, with the one signature that counts."""
    kind = trial.evidence.kind
    raw = trial.evidence.statements[f"{name}.{kind}"]
    envelope, _ = parse_envelope(raw, ROSTER_TYPE if kind == "roster" else CARD_TYPE)
    if len(envelope.signatures) != 1:
        raise FormatError(f"{name}.{kind} carries {len(envelope.signatures)} signatures; exactly one counts")
    return envelope


def _holder(alliance: Alliance, key: bytes) -> str:
    """The member whose identity key this is or was."""
    for _, roster in reversed(alliance.rosters):
        for member, line in roster.members.items():
            if line.identity_key == key:
                return member
    raise NotFoundError("the council key that signed both belongs to no member")


def _verify_statement(trial: _Trial, name: str) -> str:
    """Steps 3 and 4."""
    return _STATEMENTS[trial.evidence.kind](trial, name)


def _verify_note(trial: _Trial, name: str) -> str:
    signed = _verify_checkpoint(trial, f"{name}.note", trial.evidence.statements[f"{name}.note"])
    trial.statements.append(Statement(signed.origin, signed.root, signed.size))
    return f"{signed.origin} of size {signed.size} with root {format_base64(signed.root)}, signed by {trial.member}"


def _verify_checkpoint(trial: _Trial, name: str, raw: bytes) -> SignedCheckpoint:
    try:
        signed = parse_checkpoint(raw)
    except FormatError as error:
        raise FormatError(f"{name}: {error.message}") from error
    if signed.origin != trial.accused.origin or len(signed.note.signatures) != 1:
        raise FormatError(f"{name} is not a checkpoint of {trial.accused.origin} with its author's signature alone")
    verify_checkpoint(signed, trial.accused.log_key_at(signed.size, signed.root))
    trial.checkpoints.append(signed)
    return signed


def _verify_opening(trial: _Trial, name: str) -> str:
    proof = _parse_proof(name, trial.evidence.statements[f"{name}.tlog-proof"])
    signed = _verify_checkpoint(trial, f"{name}.tlog-proof", proof.checkpoint.encode())
    raw = trial.evidence.statements[f"{name}.json"]
    if proof.extra is None or len(proof.extra) != SALT_SIZE:
        raise FormatError(f"{name}.tlog-proof carries no salt of 32 bytes")
    commitment = committer(signed.origin)(proof.extra, raw)
    verify_inclusion(commitment, proof.index, signed.size, proof.path, signed.root)
    record_id, audience = _read_record(name, raw, trial.member)
    trial.statements.append(Statement(str(record_id), raw, proof.index, audience))
    return f"{record_id} is entry {proof.index} of the {signed.size} that {trial.member} signed"


def _parse_proof(name: str, raw: bytes) -> TlogProof:
    try:
        return parse_tlog_proof(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}.tlog-proof is not UTF-8") from error
    except FormatError as error:
        raise FormatError(f"{name}.tlog-proof: {error.message}") from error


def _read_record(name: str, raw: bytes, author: str) -> tuple[RecordId, tuple[str, ...]]:
    """Id and audience. The schema does not matter: whatever else it says, an id is said once."""
    try:
        content = parse_canonical(raw)
    except InvalidRecordError as error:
        raise FormatError(f"{name}.json: {error.message}") from error
    if not isinstance(content, dict) or content.get("author") != author:
        raise FormatError(f"{name}.json is no record of {author}")
    kind, key, revision, audience = (content.get(item) for item in ("kind", "key", "revision", "audience"))
    if not isinstance(kind, str) or not isinstance(key, str) or type(revision) is not int:
        raise FormatError(f"{name}.json has no kind, key and revision")
    if not isinstance(audience, list) or not all(isinstance(item, str) for item in audience):
        raise FormatError(f"{name}.json has no audience")
    return RecordId(author, parse_kind(kind), key, revision), tuple(audience)


def _verify_roster_statement(trial: _Trial, name: str) -> str:
    envelope, roster = parse_roster(trial.evidence.statements[f"{name}.roster"])
    if roster.alliance != trial.trusted.name or not envelope.signers([trial.key]):
        raise SignatureError(f"{name}.roster is not a roster of {trial.trusted.name} signed by {trial.member}")
    trial.statements.append(Statement(f"roster {roster.version}", envelope.payload, roster.version))
    return f"roster version {roster.version}, {envelope.hash}, signed by {trial.member}"


def _verify_card_statement(trial: _Trial, name: str) -> str:
    envelope, card = parse_card(trial.evidence.statements[f"{name}.card"])
    if (card.alliance, card.member) != (trial.trusted.name, trial.member) or not envelope.signers([trial.key]):
        raise SignatureError(f"{name}.card is not a card of {trial.member} signed by its identity key")
    trial.statements.append(Statement(f"card {card.seq}", envelope.payload, card.seq))
    return f"card with seq {card.seq}, {envelope.hash}, signed by {trial.member}"


def _verify_conflict(trial: _Trial) -> str:
    """Step 5."""
    first, second = trial.statements
    if first.subject != second.subject:
        raise VerificationError("conflict", f"the statements are about {first.subject} and {second.subject}")
    if trial.evidence.kind == "split-view":
        return _verify_two_histories(trial)
    if first.content == second.content:
        raise VerificationError("conflict", "the two statements say the same")
    if trial.evidence.kind == "contradiction":
        if first.number >= second.number:
            raise VerificationError("conflict", "the entries do not stand in the order of the log")
        trial.covered = second.number + 1
        trial.summary = (
            f"{trial.member} signed two records with the id {first.subject}: its entries {first.number} and {second.number}"
        )
    else:
        what = "rosters of version" if trial.evidence.kind == "roster" else "cards with seq"
        trial.summary = f"{trial.member} signed two {what} {first.number}"
    return trial.summary


def _verify_two_histories(trial: _Trial) -> str:
    first, second = trial.checkpoints
    raw = trial.evidence.statements.get("consistency.txt")
    if (raw is None) != (first.size == second.size) or first.size > second.size:
        raise VerificationError("conflict", "notes of two sizes need consistency.txt, the smaller first; of one size none")
    root = second.root
    if raw is not None:
        proof = parse_consistency(raw)
        verify_consistency(first.size, second.size, proof.path, proof.root, second.root)
        root = proof.root
    if root == first.root:
        raise VerificationError("conflict", f"both notes have one root at size {first.size}: they are one history")
    trial.covered = first.size
    if raw is None:
        trial.summary = f"{trial.member} signed two different roots for size {first.size} of its log"
    else:
        trial.summary = (
            f"{trial.member} signed two histories of its log: its checkpoint of size {second.size} does not contain "
            f"its checkpoint of size {first.size}"
        )
    return trial.summary


_STATEMENTS: dict[str, Callable[[_Trial, str], str]] = {
    "split-view": _verify_note,
    "contradiction": _verify_opening,
    "roster": _verify_roster_statement,
    "card": _verify_card_statement,
}

_RUNNERS: tuple[Callable[[_Trial], str], ...] = (
    _verify_roster,
    _verify_key,
    lambda trial: _verify_statement(trial, "first"),
    lambda trial: _verify_statement(trial, "second"),
    _verify_conflict,
)
