"""Open an own entry to further members, or erase one: each is a record in the own log, and takes effect with it.

Both go through the ledger: the statement is judged, appended and signed under its lock, and one transaction writes it
together with what it does. Peers do the same when the statement becomes visible to them (`node.store.effects`).

A home that was rolled back may grant what it does not know to be erased, or erase without knowing of a grant. Once the
statement that it lacked has come back, the entry is erased again, for those who were granted it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from node.clock import Clock
from node.core.canonical import Json
from node.core.disclosure import ERASURE, GRANT, STATEMENT_KINDS, erasure_body, grant_body
from node.core.kinds import Kinds
from node.core.names import RecordId, parse_member
from node.core.record import EVERYONE, Draft, Record, build_record, parse_record
from node.errors import ConflictError, LimitError, NotFoundError, UserError
from node.ledger import Ledger
from node.store import Store
from node.store.erasures import ErasedRecord, LeftOut
from node.store.records import StoredRecord
from node.store.tables import STATUS_QUARANTINED

REVISIONS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class GrantOutcome:
    """What became of a grant: `granted` are those who may read it only now, `readers` all (`("*",)` for everyone)."""

    id: str
    index: int
    granted: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """What became of an erasure: ids with their revisions; `readers` are the members whose nodes are to delete it, too."""

    erased: tuple[str, ...]
    already: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Acknowledgements:
    """Who has said that an erased entry is gone there, and which active members have not yet."""

    acknowledged: tuple[str, ...]
    missing: tuple[str, ...]


class Disclosure:
    """Grants and erasures of the own log. Any thread may call."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        author: str,
        kinds: Kinds,
        clock: Clock,
        members: Callable[[], Collection[str]],
        unheard: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """Append through `ledger`; `members` gives the active members, `unheard` those not asked since the start."""
        self._store, self._ledger, self._author = store, ledger, author
        self._kinds, self._clock, self._members, self._unheard = kinds, clock, members, unheard
        self._completed = 0

    def grant(self, record_id: RecordId, members: Sequence[str], *, client: str = "") -> GrantOutcome:
        """Open one entry to further members; without a revision the newest. Nothing is appended when all may read it.

        Raises:
            UserError: not a record of this member, or not one that can be granted; or somebody is not an active member.
            NotFoundError: there is no such record.
            ConflictError: it was erased, or nobody can tell yet whether it was.
        """
        self._require_own(record_id, "granted")
        self._require_active(members)
        outcome: list[GrantOutcome] = []

        def decide() -> list[Record]:
            stored = self._find(record_id)
            own = parse_record(stored.record, author=self._author, kinds=self._kinds).audience
            held = own if own == EVERYONE else tuple(sorted({*own, *stored.granted}))
            wanted = () if held == EVERYONE else tuple(sorted(set(members) - {*held, self._author}))
            readers = held if not wanted else tuple(sorted({*held, *wanted}))
            named = f"{stored.id}@{stored.revision}"
            outcome.append(GrantOutcome(named, stored.index, wanted, readers))
            if not wanted:
                return []
            self._require_heard(named)
            body = grant_body(stored.index, _with_revision(stored), [*stored.granted, *wanted])
            return [self._build(GRANT, stored.index, body, readers)]

        self._ledger.append_statements(decide, client=client)
        return outcome[0]

    def erase(self, record_id: RecordId, reason: str, *, preview: bool = False, client: str = "") -> ErasureOutcome:
        """Delete the opening of one revision, or of every one when `record_id` names none, here and at every peer.

        Args:
            record_id: a record of this member.
            reason: why; everybody who could read the record reads it.
            preview: only say what would be erased.
            client: who asks for it; empty for the socket.

        Raises:
            UserError: not a record of this member, or not one that can be erased.
            NotFoundError: there is no such record.
        """
        self._require_own(record_id, "erased")
        outcome: list[ErasureOutcome] = []

        def decide() -> list[Record]:
            found, gone = self._revisions(record_id)
            readers: set[str] = set()
            records = []
            for stored in found:
                own = parse_record(stored.record, author=self._author, kinds=self._kinds).audience
                audience = own if own == EVERYONE else tuple(sorted({*own, *stored.granted}))
                readers.update(self._active(audience))
                body = erasure_body(stored.index, _with_revision(stored), reason)
                records.append(self._build(ERASURE, stored.index, body, audience))
            for left in self._left_out(record_id):
                readers.update(self._active(left.members))
                records.append(self._erase_again(left))
            erased = tuple(dict.fromkeys(f"{stored.id}@{stored.revision}" for stored in found))
            already = tuple(f"{item.id}@{item.revision}" for item in gone)
            outcome.append(ErasureOutcome(erased, already, tuple(sorted(readers))))
            return [] if preview else records

        self._ledger.append_statements(decide, client=client)
        return outcome[0]

    def complete_erasures(self) -> list[str]:
        """Erase again what is erased and was granted to somebody whom no erasure tells; returns their ids.

        To be called at the start and after each recovery, which alone can bring this about. It goes by what is stored, so
        what a crash cut off is done at the next start.

        Raises:
            StoreError: the database refused; nothing was appended.
        """
        if self._completed == self._ledger.returned:
            return []
        found: list[LeftOut] = []

        def decide() -> list[Record]:
            self._completed = self._ledger.returned
            found.extend(self._left_out(None))
            return [self._erase_again(left) for left in found]

        try:
            self._ledger.append_statements(decide)
        except BaseException:
            self._completed = 0
            raise
        return [f"{left.erased.id}@{left.erased.revision}" for left in found]

    def acknowledgements(self, erased: ErasedRecord) -> Acknowledgements:
        """Who has deleted an erased entry of the own log; empty for another member's, of which only its author knows."""
        if erased.author != self._author:
            return Acknowledgements((), ())
        # The own member's word is another: that its people have seen the entry to be lost, before it came back.
        told = self._store.erasures.acknowledged_by(erased.log_id, erased.index)
        done = [member for member in told if member != self._author]
        missing = [member for member in self._active(erased.audience) if member not in done]
        return Acknowledgements(tuple(done), tuple(missing))

    def accept_acknowledgement(self, origin: str, indexes: Collection[int], *, member: str, now_ms: int) -> list[int]:
        """A peer says that it has deleted these entries of the own log; returns those that count.

        Raises:
            NotFoundError: `origin` is not the own log.
        """
        if origin != self._ledger.origin:
            raise NotFoundError(f"{origin[:120]} is not the log of this node, whose author alone is told of deletions")
        log_id = self._ledger.log.id
        return self._store.erasures.save_acknowledgements(log_id, indexes, member=member, now_ms=now_ms)

    def _require_own(self, record_id: RecordId, done: str) -> None:
        if record_id.author != self._author:
            raise UserError(
                f"{record_id} is a record of {record_id.author}; only its author can have it {done}",
                hint=f"ask {record_id.author}; the records of this member begin with {self._author}/",
            )
        if record_id.kind in STATEMENT_KINDS:
            raise UserError(
                f"records of the kind {record_id.kind} cannot be {done}: they say what happened to others",
                hint="name the record itself; labmesh list shows the records",
            )

    def _require_active(self, members: Sequence[str]) -> None:
        if not members:
            raise UserError("nobody to grant it to", hint="name member ids: --to qingdao,yantai")
        active = sorted(self._members())
        for member in members:
            if member == "*":
                raise UserError("a grant names its members; '*' is not one", hint="name member ids: --to qingdao,yantai")
            if parse_member(member) not in active:
                raise UserError(
                    f"{member} is not an active member of the alliance", hint=f"the members are {', '.join(active)}"
                )

    def _require_heard(self, named: str) -> None:
        """Refuse to open a record while the erasure of it may still come back from a peer."""
        unseen, unheard = self._store.losses.count(self._ledger.log).unseen, sorted(self._unheard())
        if unheard and not self._ledger.publishes:
            raise ConflictError(
                f"nothing is published yet, because this home may be older than its log, which may say that {named} was "
                f"erased; not asked since the start: {', '.join(unheard)}",
                hint="try again when labmesh status says ready",
            )
        if unseen and unheard:
            raise ConflictError(
                f"{unseen} entries of this member's log cannot be opened here, and one of them may say that {named} was "
                f"erased; not asked since the start: {', '.join(unheard)}",
                hint="try again when labmesh peers says that they were reached; "
                "if they will not be: labmesh list --lost   and then: labmesh confirm --lost",
            )

    def _left_out(self, record_id: RecordId | None) -> list[LeftOut]:
        """Erased entries, of one record or of all, that were granted to somebody whom no erasure tells."""
        return [
            left
            for left in self._store.erasures.left_out(self._ledger.log.id)
            if record_id is None or _is_of(left.erased, record_id)
        ]

    def _erase_again(self, left: LeftOut) -> Record:
        """The same erasure, for everybody."""
        erased = left.erased
        record_id = RecordId(erased.author, erased.kind, erased.key, erased.revision)
        body = erasure_body(erased.index, record_id, erased.reason)
        return self._build(ERASURE, erased.index, body, sorted({*erased.audience, *left.members}))

    def _find(self, record_id: RecordId) -> StoredRecord:
        stored = self._store.records.find(record_id)
        if stored is None or stored.status == STATUS_QUARANTINED:
            erased = self._store.erasures.find(record_id)
            if erased is not None:
                raise ConflictError(erased.sentence(), hint="what is erased cannot be opened to anybody")
            raise _unknown(record_id)
        return stored

    def _revisions(self, record_id: RecordId) -> tuple[list[StoredRecord], list[ErasedRecord]]:
        """What is to be erased, and what was erased before."""
        newest_gone = self._store.erasures.find(record_id)
        gone = [newest_gone] if newest_gone else []
        # An entry that says again what another one said is no revision, but holds the same person's data.
        found = [*self._store.records.revisions(record_id), *self._store.records.duplicates(record_id)]
        if not found and not gone:
            raise _unknown(record_id)
        if len(found) > REVISIONS_MAX:
            raise LimitError(f"{record_id} has {len(found)} revisions; at most {REVISIONS_MAX} are erased at once")
        return found, gone

    def _active(self, audience: Sequence[str]) -> list[str]:
        active = sorted(set(self._members()) - {self._author})
        return active if tuple(audience) == EVERYONE else [member for member in active if member in audience]

    def _build(self, kind: str, index: int, body: dict[str, Json], audience: Sequence[str]) -> Record:
        """The next statement of this kind about entry `index`."""
        key = str(index)
        held = self._store.records.newest(self._ledger.log.id, kind, [key])
        revision = self._ledger.revision_after(held[key][0] if key in held else 0)
        draft = Draft(key, body, tuple(audience))
        return build_record(
            draft, author=self._author, kind=kind, revision=revision, published=self._clock(), kinds=self._kinds
        )


def _with_revision(stored: StoredRecord) -> RecordId:
    return RecordId(stored.author, stored.kind, stored.key, stored.revision)


def _is_of(erased: ErasedRecord, record_id: RecordId) -> bool:
    """Whether an erased record of the own log is the one of this id, or one of its revisions."""
    same_key = (erased.kind, erased.key) == (record_id.kind, record_id.key)
    return same_key and record_id.revision in (None, erased.revision)


def _unknown(record_id: RecordId) -> NotFoundError:
    return NotFoundError(f"there is no record {record_id} in this member's log", hint="type: labmesh list")
