"""One push: drafts are checked as they arrive, and judged against the log when all are there.

Nothing is written here. `PushCall` collects candidates; `Ledger.push` turns them into entries.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches

from node.core.canonical import Json, parse_strict
from node.core.checkpoint import Checkpoint
from node.core.disclosure import GRANT, STATEMENT_KINDS
from node.core.kinds import Kinds
from node.core.record import RECORD_SIZE_MAX, Draft, parse_draft, prepare_content
from node.errors import InvalidRecordError, LimitError, NotFoundError, UserError, Violation

CALL_RECORDS_MAX = 1_000_000
CALL_BYTES_MAX = 512 * 1024 * 1024
ERRORS_MAX = 1000
MEMBERS_NAMED_MAX = 8


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How a push is done; `audience` None means everyone (or, for a revision, as before)."""

    kind: str
    audience: tuple[str, ...] | None = None
    revise: bool = False
    keep_going: bool = False


@dataclass(frozen=True, slots=True)
class PushError:
    """Why a record was refused; `record` counts from 1."""

    record: int
    path: str
    message: str


@dataclass(slots=True)
class PushOutcome:
    """What became of a push. Until peers have told what they hold of the log, its checkpoint is not signed yet."""

    checkpoint: Checkpoint
    accepted: int = 0
    unchanged: int = 0
    rejected: int = 0
    errors: list[PushError] = field(default_factory=list)
    signed: bool = True


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record that is valid by itself; the log has still to be asked."""

    number: int
    draft: Draft
    content: dict[str, Json]


class PushCall:
    """The records of one call, checked one by one."""

    def __init__(
        self,
        options: PushOptions,
        *,
        author: str,
        kinds: Kinds,
        arrived: datetime,
        members: Callable[[], Collection[str]],
    ) -> None:
        """Begin a call.

        Raises:
            NotFoundError: the kind is not known.
            UserError: records of this kind are written by a command of its own.
        """
        if options.kind in STATEMENT_KINDS:
            command = "grant ID --to M,…" if options.kind == GRANT else "erase ID --reason R"
            raise UserError(f"records of the kind {options.kind} are not pushed", hint=f"type: labmesh {command}")
        if options.kind not in kinds.names():
            pushed = sorted(set(kinds.names()) - set(STATEMENT_KINDS))
            raise NotFoundError(f"there is no kind {options.kind[:40]!r}", hint=f"the kinds are {', '.join(pushed)}")
        self.options, self.arrived = options, arrived
        self.candidates: list[Candidate] = []
        self.errors: list[PushError] = []
        self.rejected: set[int] = set()
        self._author, self._kinds, self._members = author, kinds, set(members())
        self._records = self._bytes = 0

    def add(self, records: Iterable[bytes]) -> None:
        """Check records as a lab system wrote them.

        Raises:
            LimitError: more than one call may hold.
        """
        for raw in records:
            self._records += 1
            self._bytes += len(raw)
            if self._records > CALL_RECORDS_MAX or self._bytes > CALL_BYTES_MAX:
                raise LimitError(
                    f"one push holds at most {CALL_RECORDS_MAX} records and {CALL_BYTES_MAX} bytes; nothing was appended",
                    hint="split the file and push the parts one after the other",
                )
            try:
                self.candidates.append(self._check(raw))
            except InvalidRecordError as error:
                self.reject(self._records, error.violations)

    def reject(self, number: int, violations: Iterable[Violation]) -> None:
        """Note why record `number` is refused."""
        self.rejected.add(number)
        for violation in violations:
            if len(self.errors) < ERRORS_MAX:
                self.errors.append(PushError(number, violation.path, violation.message))

    def _check(self, raw: bytes) -> Candidate:
        if len(raw) > 2 * RECORD_SIZE_MAX:
            message = f"the record has {len(raw)} bytes; at most {RECORD_SIZE_MAX} are possible"
            raise InvalidRecordError([Violation("", message)])
        draft = parse_draft(parse_strict(raw))
        if draft.audience is None and self.options.audience is not None:
            draft = Draft(draft.key, draft.body, self.options.audience, draft.thread, draft.replaces, draft.revision)
        if wider := self._beyond_the_call(draft):
            raise InvalidRecordError(
                [Violation("/audience", f"the record is for {wider}, which the call's audience is not")]
            )
        content = prepare_content(
            draft, author=self._author, kind=self.options.kind, published=self.arrived, kinds=self._kinds
        )
        if strangers := [name for name in content["audience"] if name != "*" and name not in self._members]:
            others = _describe_members(strangers[0], self._members - {self._author})
            message = f"{strangers[0]} is not a member of the alliance; {others}"
            raise InvalidRecordError([Violation("/audience", message)])
        if draft.revision is not None and draft.revision < 1:
            raise InvalidRecordError([Violation("/revision", "revisions count from 1")])
        return Candidate(self._records, draft, content)

    def _beyond_the_call(self, draft: Draft) -> str | None:
        """A reader whom the record names although the call's audience leaves it out: what was sent cannot be taken back."""
        allowed = self.options.audience
        if allowed is None or "*" in allowed:
            return None
        return next(iter(sorted(set(draft.audience or ()) - set(allowed))), None)


def _describe_members(name: str, members: Collection[str]) -> str:
    """Whom an audience may name instead: all of a few members, of many those whose ids are like `name`."""
    if not members:
        return "nobody else belongs to it yet"
    if len(members) <= MEMBERS_NAMED_MAX:
        return f"the others are {', '.join(sorted(members))}"
    near = get_close_matches(name, members, n=3)
    return f"like it are {', '.join(near)}" if near else f"its {len(members)} others: labmesh roster show"
