"""Every failure that Labmesh names, by whose fault it is.

::

    LabmeshError
    ├── UserError                  the person or program that called; nothing was changed
    │   ├── ConfigError            labmesh.toml, an option or an address is wrong
    │   ├── HomeError              the home is missing, taken, locked, or of another version
    │   ├── InvalidRecordError     a record breaks the format or its schema; carries every violation
    │   ├── ConflictError          the key exists with other content, or another revision was expected
    │   ├── GovernanceError        a roster or card change breaks the rules of the alliance
    │   │   └── DisownedError      a card takes back what its member has signed
    │   ├── NotFoundError          no such record, member or log, or not readable by the caller
    │   ├── LimitError             more than one call, page or queue may hold
    │   ├── UnconfirmedError       this node may not publish that much yet
    │   ├── UnauthenticatedError   a lab system's token is missing, unknown or revoked
    │   ├── DeniedError            the client's role or kinds do not allow this
    │   └── VerificationError      a bundle does not verify; names the step
    ├── FormatError                text or bytes that are not in the one form allowed
    ├── PeerFaultError             a peer, or the author of a log, broke a rule; nothing became visible
    │   ├── MalformedError         a message that no honest node sends
    │   ├── SignatureError         a signature is missing or wrong, or its key is not valid here
    │   ├── ProofError             commitments or hashes do not lead to the signed root
    │   ├── RollbackError          a smaller log than the one already verified
    │   ├── SplitViewError         two signed histories of one log; both notes are attached
    │   ├── StagingLimitError      more unverified entries than this node keeps
    │   └── AccessRefusedError     the peer does not take us for a member
    ├── PeerUnreachableError       no answer in time: the only class that is retried
    └── StoreError                 the database refused; nothing was acknowledged

``reason`` is the stable name that travels in ``google.rpc.ErrorInfo`` and in the JSON of the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: a JSON pointer into the record (empty for the whole) and what is wrong there."""

    path: str
    message: str

    def __str__(self) -> str:
        """The violation as one line for a person."""
        return f"{self.path}: {self.message}" if self.path else self.message


MAKE_HOME = "type: labmesh init; for a member whose home is lost: labmesh restore BACKUP"
"""What to type where there is no home."""

OTHER_CERTIFICATE = "shows another certificate than the member's card names"
"""What is said of a peer's address where somebody else answers, or a home that is older than its card."""

HANGS = "has the home, but does not answer"
"""What is said of a node's own process that takes connections and does nothing with them: stopped, or stuck."""


class LabmeshError(Exception):
    """Root of the tree. ``hint`` says what to do or type next, and may be empty."""

    reason: str = "INTERNAL"

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message for people, and the hint of what to type next."""
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(LabmeshError):
    """The caller asked for something that cannot be done."""

    reason = "INVALID_REQUEST"


class ConfigError(UserError):
    """A setting, option or address is wrong."""

    reason = "CONFIG"


class HomeError(UserError):
    """The node's home is missing, taken, locked, or of another version."""

    reason = "HOME"


class InvalidRecordError(UserError):
    """A record breaks the record format or its schema."""

    reason = "INVALID_RECORD"

    def __init__(self, violations: Sequence[Violation], *, hint: str = "") -> None:
        """Keep every violation; the message is the first few of them."""
        shown = "; ".join(str(violation) for violation in violations[:3])
        more = f" (and {len(violations) - 3} more)" if len(violations) > 3 else ""
        super().__init__(shown + more, hint=hint)
        self.violations = tuple(violations)


class ConflictError(UserError):
    """The key exists with other content, or the revision is not the expected one."""

    reason = "CONFLICT"


class GovernanceError(UserError):
    """A roster or card change breaks the rules of the alliance."""

    reason = "GOVERNANCE"


class DisownedError(GovernanceError):
    """A card takes back what its member has signed and others have seen."""

    reason = "DISOWNED"


class NotFoundError(UserError):
    """No such record, member or log, or the caller may not read it."""

    reason = "NOT_FOUND"


class LimitError(UserError):
    """More than one call may hold."""

    reason = "LIMIT"


class UnconfirmedError(UserError):
    """Too few peers have said what they hold of our log since the start."""

    reason = "UNCONFIRMED"


class UnauthenticatedError(UserError):
    """A lab system on another machine brought no token, or one that is unknown or revoked."""

    reason = "UNAUTHENTICATED"


class DeniedError(UserError):
    """The client is known, but its role or its kinds do not allow this."""

    reason = "DENIED"


class VerificationError(UserError):
    """A bundle does not verify. ``step`` is the name of the failed step."""

    reason = "VERIFICATION"

    def __init__(self, step: str, message: str, *, hint: str = "") -> None:
        """Name the failed step beside the message."""
        super().__init__(message, hint=hint)
        self.step = step


class FormatError(LabmeshError):
    """Text or bytes that are not in the one form the specification allows."""

    reason = "FORMAT"


class PeerFaultError(LabmeshError):
    """A peer, or the author of a log, broke a rule. Retrying the same request cannot help."""

    reason = "PEER_FAULT"


class MalformedError(PeerFaultError):
    """A message that no honest node sends."""

    reason = "MALFORMED"


class SignatureError(PeerFaultError):
    """A signature is missing or wrong, or its key is not valid for what it signs."""

    reason = "SIGNATURE"


class ProofError(PeerFaultError):
    """Commitments or hashes do not lead to the signed root."""

    reason = "PROOF"


class RollbackError(PeerFaultError):
    """A peer offered a smaller log than the one we verified."""

    reason = "ROLLBACK"

    def __init__(self, origin: str, *, held_size: int, offered_size: int) -> None:
        """Keep both sizes for the operator."""
        super().__init__(f"{origin}: offered size {offered_size}, but size {held_size} was already verified")
        self.origin, self.held_size, self.offered_size = origin, held_size, offered_size


class SplitViewError(PeerFaultError):
    """One log key signed two histories. The two notes are the evidence."""

    reason = "SPLIT_VIEW"

    def __init__(self, origin: str, *, size: int, held_note: bytes, offered_note: bytes) -> None:
        """Attach both signed notes, so that the evidence travels with the error."""
        super().__init__(f"{origin}: two signed checkpoints of size {size} have different roots")
        self.origin, self.size = origin, size
        self.held_note, self.offered_note = held_note, offered_note


class StagingLimitError(PeerFaultError):
    """A log announces or sends more than this node keeps unverified."""

    reason = "STAGING_LIMIT"


class AccessRefusedError(PeerFaultError):
    """The peer answered, but does not take us for a member, or may not give us this."""

    reason = "ACCESS_REFUSED"


class PeerUnreachableError(LabmeshError):
    """No answer in time. The only class that is retried."""

    reason = "PEER_UNREACHABLE"


class StoreError(LabmeshError):
    """The database refused. Nothing was acknowledged."""

    reason = "STORE"
