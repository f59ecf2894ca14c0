"""The own log: a batch of records becomes entries, one signed checkpoint covers them, one transaction writes both.

The signed checkpoint leaves this process only after the transaction has returned. A crash before that leaves nothing; a
crash after it leaves everything. While it is not sure that this home has its whole log (`confirmation`), nothing is signed:
records are durable and seen here, and one signature covers them all later. So no size is ever signed twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress

import orjson

from node.clock import Clock, milliseconds
from node.core.card import Card
from node.core.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from node.core.entry import SALT_SIZE, committer
from node.core.keys import Signer, VerifierKey
from node.core.kinds import Kinds
from node.core.mirror import AcceptedOpening
from node.core.record import EVERYONE, Record, seal_record, statement_of
from node.core.succession import vouched_size
from node.errors import InvalidRecordError, SplitViewError, StoreError, Violation
from node.push import Candidate, PushCall, PushOptions, PushOutcome
from node.recovery import next_revision, settle
from node.store import Store
from node.store.erasures import ErasedRecord
from node.store.following import Key, Said, Unpublished
from node.store.logs import LogState, NewEntry

SIGN_STEP_MAX = 100_000


class Ledger:
    """Appends to the own log. One append at a time; any thread may call."""

    def __init__(
        self,
        store: Store,
        *,
        author: str,
        signer: Signer,
        kinds: Kinds,
        clock: Clock,
        members: Callable[[], Collection[str]],
        may_sign: Callable[[], bool] = lambda: True,
    ) -> None:
        """Open the own log, whose origin is the log key's name.

        Args:
            store: an open store.
            author: the member whose log this is.
            signer: the log key.
            kinds: the schemas known here.
            clock: gives `published` and the time of writing.
            members: ids that an audience may name.
            may_sign: whether it is sure that no peer holds more of this log.
        """
        self.origin = signer.key.name
        self._store, self._author, self._signer = store, author, signer
        self._kinds, self._clock, self._members, self._may_sign = kinds, clock, members, may_sign
        self._commit = committer(self.origin)
        self._lock = threading.Lock()
        self._log = store.logs.open_log(self.origin, author)
        store.rebase.discard_staging(self._log)  # of a recovery that a crash ended
        self._lost: int | None = None
        self._returned = 1
        self._floor, self._signs = 0, False
        self._subscribers: list[Callable[[LogState], None]] = []

    @property
    def log(self) -> LogState:
        """The own log as last written."""
        return self._log

    @property
    def checkpoint(self) -> Checkpoint:
        """Size and root of everything pushed, signed or not; of size 0 before anything was."""
        return _checkpoint(self._log)

    @property
    def publishes(self) -> bool:
        """Whether what is appended now is signed at once: it is sure that no peer holds more of this log."""
        return self._may_sign()

    @property
    def returned(self) -> int:
        """Counts how often something came back from peers, from 1 on: what it says may have changed what is to be said."""
        return self._returned

    def subscribe(self, notify: Callable[[LogState], None]) -> None:
        """Call `notify` after each append, in the thread that appended."""
        self._subscribers.append(notify)

    def change_key(self, retire: Callable[[LogState], tuple[Signer, int]]) -> None:
        """Put another log key in the place of the current one, while nothing is appended.

        Args:
            retire: given the log as it stands, saves what must be on disk before the new key signs; returns the new key
                and the size up to which checkpoints stay as they are. Those beyond are signed again by the new key.
        """
        with self._lock:
            self._signer, above = retire(self._log)
            self._renew(above)

    @property
    def log_key(self) -> VerifierKey:
        """The key that signs now."""
        return self._signer.key

    def renew_checkpoints(self, above: int) -> None:
        """Sign the checkpoints beyond size `above` again, which a former key had signed; sizes and roots stay."""
        with self._lock:
            self._renew(above)

    def begin_push(self, options: PushOptions) -> PushCall:
        """Begin a push; its records are checked by `PushCall.add`.

        Raises:
            NotFoundError: the kind is not known.
        """
        return PushCall(options, author=self._author, kinds=self._kinds, arrived=self._clock(), members=self._members)

    def push(self, call: PushCall, *, client: str = "") -> PushOutcome:
        """Judge the call's candidates against the log and append the good ones; `client` is noted as who pushed them.

        Unless the call keeps going, one refusal means that nothing is appended.

        Raises:
            StoreError: the database refused; nothing was appended.
            UnauthenticatedError: the client was revoked in the meantime; nothing was appended.
        """
        with self._lock:
            self._pass_lost()
            records, unchanged = self._judge(call)
            if call.rejected and not call.options.keep_going:
                records, unchanged = [], 0
            if records:
                self._append(records, client)
            outcome = PushOutcome(self.checkpoint, len(records), unchanged, len(call.rejected), call.errors)
            outcome.signed = self._log.signed_size == self._log.head_size
        if records:
            self._notify()
        return outcome

    def push_records(self, options: PushOptions, records: Iterable[bytes]) -> PushOutcome:
        """A whole push in one call."""
        call = self.begin_push(options)
        call.add(records)
        return self.push(call)

    def append_statements(self, decide: Callable[[], Sequence[Record]], *, client: str = "") -> list[Record]:
        """Append what `decide` makes of the log as it is then; nothing else is appended in between.

        Raises:
            StoreError: the database refused; nothing was appended.
            UnauthenticatedError: the client was revoked in the meantime; nothing was appended.
        """
        with self._lock:
            self._pass_lost()
            records = list(decide())
            if records:
                self._append(records, client)
        if records:
            self._notify()
        return records

    def sign_head(self) -> bool:
        """Sign what was pushed while that was not allowed, if it is now; returns whether a checkpoint was signed.

        In steps, because a reader takes no more between two checkpoints than it may keep unverified.
        """
        with self._lock:
            if self._log.signed_size == self._log.head_size or not self._may_sign():
                return False
            self._pass_lost()
            while self._log.signed_size < self._log.head_size:
                self._sign_step(self._log)
        self._notify()
        return True

    def _pass_lost(self) -> None:
        """Before anything is judged or signed: whether it will be signed, and what it must then leave room for.

        While nothing is signed, what is lost may still come back, so revisions count on as if nothing were lost. Once the
        log goes on without it, every further revision lies beyond those that the lost entries can have.
        """
        self._signs = self._may_sign()
        if not self._signs:
            self._floor = 0
            return
        if self._lost is None:  # only a recovery changes it
            self._lost = self._store.rebase.revision_floor(self._log)
        self._floor = self._lost
        log = self._log
        if self._floor and log.head_size > log.signed_size:
            with self._store.search.remade():
                self._save(lambda: self._store.rebase.settle_again(log, settle=self._settle, floor=self._floor))

    def _sign_step(self, log: LogState) -> None:
        size = min(log.head_size, log.signed_size + SIGN_STEP_MAX)
        root = log.head_frontier.root() if size == log.head_size else self._store.logs.tree(log.id).root(size)
        signed = sign_checkpoint(Checkpoint(self.origin, size, root), self._signer)
        self._save(lambda: self._store.rebase.save_signed_head(log, signed, now_ms=self._now_ms()))

    def adopt_head(self, signed: SignedCheckpoint) -> bool:
        """Take over a checkpoint that this log key has signed before this home was rolled back.

        Returns whether it covers exactly what is here, and more than the signed head.
        """
        with self._lock:
            log = self._log
            if not log.signed_size < signed.size <= log.head_size:
                return False
            if self._store.logs.tree(log.id).root(signed.size) != signed.root:
                return False
            self._save(lambda: self._store.rebase.save_signed_head(log, signed, now_ms=self._now_ms()))
        self._notify()
        return True

    def renew_head(self, told: SignedCheckpoint, card: Card) -> None:
        """Take over a peer's copy of the signed head, where this home has it by a key that was revoked before it.

        Such a home was rolled back to before the revocation, and may lack the key that signed its checkpoints again. Those
        between are forgotten: peers do the same with what a revoked key had signed.
        """
        with self._lock:
            log, head = self._log, self._log.head
            if head is None or (head.size, head.root) != (told.size, told.root):
                return
            above = vouched_size(card, head)
            if above is None or vouched_size(card, told) is not None:
                return
            self._store.checkpoints.replace_renewed(log.id, told, above=above, now_ms=self._now_ms())
            self._log = self._store.logs.load_log(log.id)
        self._notify()

    def take_back(self, staging: LogState, signed: SignedCheckpoint, *, standing: int = 0) -> None:
        """Put what a peer gave back in the place of everything beyond the staging's base; unpublished entries follow it.

        Args:
            staging: what was given back.
            signed: the checkpoint at its end.
            standing: how much of what is signed here gives way to no other history.

        Raises:
            SplitViewError: the history given back leaves out some of that, or of what somebody has cosigned.
            StoreError: the database refused; nothing was changed.
        """
        with self._lock:
            log, rebase, self._lost = self._log, self._store.rebase, None
            self._returned += 1
            contained = log.signed_size
            if staging.head_size < contained:
                contained = rebase.largest_contained(log, staging)
                self._require_unseen_beyond(log, contained, signed, standing)
            with self._store.search.remade() if log.head_size > staging.head_size else nullcontext():
                self._save(
                    lambda: rebase.take_back(
                        log, staging, signed, contained=contained, settle=self._settle, now_ms=self._now_ms()
                    )
                )
        self._notify()

    def save_openings(self, openings: Iterable[AcceptedOpening]) -> None:
        """Keep openings of own entries that came back from a peer.

        Raises:
            StoreError: the database refused; nothing was changed.
        """
        with self._lock:
            log, self._lost = self._log, None
            self._returned += 1
            with self._store.search.remade() if log.head_size > log.signed_size else nullcontext():
                self._save(lambda: self._store.rebase.save_openings(log, openings, settle=self._settle))
        self._notify()

    def revision_after(self, newest: int) -> int:
        """The number of the next revision of a key; for what `append_statements` decides, and in a push."""
        return next_revision(newest, self._floor)

    def _settle(
        self, unpublished: Sequence[Unpublished], said: Mapping[Key, Sequence[Said]], floor: int
    ) -> Sequence[NewEntry | None]:
        return settle(unpublished, said, floor, commit=self._commit, draw_salt=lambda: os.urandom(SALT_SIZE))

    def _require_unseen_beyond(self, log: LogState, contained: int, signed: SignedCheckpoint, standing: int) -> None:
        seen = max(self._store.rebase.largest_cosigned(log), min(standing, log.signed_size))
        if seen > contained:
            raise SplitViewError(log.origin, size=seen, held_note=log.head_note, offered_note=bytes(signed))

    def _renew(self, above: int) -> None:
        head = self._log.head
        if head is not None and head.size > above:
            self._store.checkpoints.renew(self._log, above=above, sign=self._sign)
            self._log = self._store.logs.load_log(self._log.id)

    def _sign(self, checkpoint: Checkpoint) -> SignedCheckpoint:
        return sign_checkpoint(checkpoint, self._signer)

    def _judge(self, call: PushCall) -> tuple[list[Record], int]:
        """The records to append, in the order given, and how many are there already."""
        keys = [candidate.draft.key for candidate in call.candidates]
        newest = self._store.records.newest(self._log.id, call.options.kind, keys)
        erased = self._store.erasures.newest(self._log.id, call.options.kind, keys)
        in_call: dict[str, Candidate] = {}
        records: list[Record] = []
        unchanged = 0
        for candidate in call.candidates:
            try:
                record = self._judge_one(call.options, candidate, newest, in_call, erased.get(candidate.draft.key))
            except InvalidRecordError as error:
                call.reject(candidate.number, error.violations)
                continue
            in_call[candidate.draft.key] = candidate
            if record is None:
                unchanged += 1
            else:
                records.append(record)
        return records, unchanged

    def _judge_one(
        self,
        options: PushOptions,
        candidate: Candidate,
        newest: dict[str, tuple[int, bytes]],
        in_call: dict[str, Candidate],
        erased: ErasedRecord | None,
    ) -> Record | None:
        """The record to append, or None when it is there already."""
        key, content, expected = candidate.draft.key, candidate.content, candidate.draft.revision
        held_revision, held_raw = newest.get(key, (0, b""))
        if erased is not None and erased.revision > held_revision:
            _require_deliberate(options, candidate, erased)
            held_revision, held_raw = erased.revision, b""
        held, following = orjson.loads(held_raw) if held_raw else {}, self.revision_after(held_revision)
        if held and candidate.draft.audience is None:
            content["audience"] = held["audience"]
        if (other := in_call.get(key)) is not None:
            if statement_of(other.content) == statement_of(content):
                return None
            raise _conflict("/key", f"{key!r} stands in this call as record {other.number} with other content")
        if held:
            if statement_of(held) == statement_of(content) and expected in (None, held_revision, following):
                return None
            if expected is None and not options.revise:
                message = f"{key!r} exists with other content as revision {held_revision}; use --revise to change it"
                raise _conflict("/key", message)
        if expected not in (None, following):
            there = f"the newest is {held_revision}" if held_revision else "there is none yet"
            if following != held_revision + 1:
                there += f", and entries that nobody can open may have numbers below {following}: the next is {following}"
            raise _conflict("/revision", f"revision {expected} of {key!r} cannot come next: {there}")
        return seal_record(content, revision=following)

    def _append(self, records: list[Record], client: str) -> None:
        salts = os.urandom(SALT_SIZE * len(records))
        entries = []
        for i, record in enumerate(records):
            salt = salts[i * SALT_SIZE : (i + 1) * SALT_SIZE]
            entries.append(NewEntry(self._commit(salt, record.raw), salt, record))
        frontier, tiles = self._log.staged.extend([entry.commitment for entry in entries])
        signed = None
        if self._signs and self._may_sign():
            signed = sign_checkpoint(Checkpoint(self.origin, frontier.size, frontier.root()), self._signer)
        log, now_ms = self._log, self._now_ms()
        self._save(
            lambda: self._store.logs.append(
                log, entries, frontier=frontier, tiles=tiles, signed=signed, now_ms=now_ms, client=client
            )
        )

    def _save(self, write: Callable[[], LogState]) -> None:
        try:
            self._log = write()
        except StoreError:
            # The commit may have reached the disk although it failed: go on from what is there.
            with suppress(StoreError):
                self._log = self._store.logs.load_log(self._log.id)
            raise

    def _notify(self) -> None:
        for notify in self._subscribers:
            notify(self._log)

    def _now_ms(self) -> int:
        return milliseconds(self._clock())


def _checkpoint(log: LogState) -> Checkpoint:
    return Checkpoint(log.origin, log.head_size, log.head_frontier.root())


def _require_deliberate(options: PushOptions, candidate: Candidate, erased: ErasedRecord) -> None:
    """What was erased comes back only when somebody says so, and only to those whom somebody names."""
    key = candidate.draft.key
    if candidate.draft.revision is None and not options.revise:
        raise _conflict(
            "/key",
            f"revision {erased.revision} of {key!r} was erased at {erased.erased_at} ({erased.reason}); "
            "use --revise to publish it again",
        )
    if candidate.draft.audience is None and erased.audience != EVERYONE:
        raise _conflict(
            "/audience",
            f"revision {erased.revision} of {key!r} was erased and not for everyone: "
            "say who may read the next one (--audience)",
        )


def _conflict(path: str, message: str) -> InvalidRecordError:
    return InvalidRecordError([Violation(path, message)])
