"""Checkpoints that nodes tell each other, and the cosignatures on them.

A node cosigns a peer's checkpoint only as its verified head, which never moves but to a proven extension; so two
cosignatures of one witness never lie on different histories. Cosignatures are collected by whoever holds the checkpoint.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from hashlib import sha256

from node.clock import Clock, milliseconds
from node.confirmation import Confirmation
from node.core.alliance import Alliance
from node.core.card import Card
from node.core.checkpoint import Cosignature, SignedCheckpoint, cosign_checkpoint, parse_checkpoint, verify_checkpoint
from node.core.keys import Signer
from node.core.succession import vouched_size
from node.core.witness import accept_cosignatures
from node.errors import FormatError, NotFoundError, SignatureError, SplitViewError
from node.membership import Membership
from node.store import Store
from node.store.logs import LogState


class CheckpointExchange:
    """Which checkpoints this node holds, and what it makes of those it is told. Any thread may call."""

    def __init__(
        self, store: Store, *, membership: Membership, confirmation: Confirmation, witness: Signer, clock: Clock
    ) -> None:
        """Use an open store and the witness key."""
        self._store, self._membership, self._confirmation = store, membership, confirmation
        self._witness, self._clock = witness, clock
        self._lock, self._witness_lock = threading.Lock(), threading.Lock()
        self._notes: dict[str, tuple[int, bytes]] = {}

    def held_notes(self) -> list[bytes]:
        """The newest checkpoint of every log that may be told, with its cosignatures, by origin."""
        notes = []
        for log in self._store.logs.load_logs():
            size = self._tellable_size(log)
            if size and (note := self._note(log, size)):
                notes.append(note)
        return notes

    def digest(self, notes: Iterable[bytes]) -> bytes:
        """SHA-256 over the SHA-256 of each note, the notes sorted by their bytes."""
        return sha256(b"".join(sha256(note).digest() for note in sorted(notes))).digest()

    def note_for(self, member: str) -> bytes:
        """The checkpoint that this node holds of a member's log; empty for none."""
        alliance = self._membership.joined
        if member not in alliance.cards:
            return b""
        log = self._store.logs.find_log(alliance.card(member).origin)
        return log.head_note if log is not None else b""

    def accept_notes(self, notes: Iterable[bytes], *, peer: str) -> tuple[int, list[SplitViewError]]:
        """Take cosignatures on checkpoints that are held here, and notice split views.

        Returns how many cosignatures were new, and the split views found. Notes that do not verify are left out: the peer
        may know a newer roster or card than this node.
        """
        alliance, saved, splits = self._membership.joined, 0, []
        seen: set[str] = set()
        for raw in notes:
            try:
                signed = parse_checkpoint(raw)
                if signed.origin not in seen:  # one note a log is all that an honest peer tells
                    seen.add(signed.origin)
                    saved += self._accept_note(alliance, signed)
            except SplitViewError as error:
                splits.append(error)
            except (FormatError, SignatureError, NotFoundError):
                continue
        return saved, splits

    def change_witness(self, retire: Callable[[], Signer]) -> None:
        """Put another witness key in the place of the current one, while nothing is cosigned."""
        with self._witness_lock:
            self._witness = retire()

    def forget_note(self, origin: str) -> None:
        """Make the note of a log anew: another key has signed its checkpoints."""
        with self._lock:
            self._notes.pop(origin, None)

    def cosign_head(self, origin: str) -> bool:
        """Cosign the verified head of a peer's log, once; returns whether a cosignature was made."""
        log = self._store.logs.find_log(origin)
        if log is None or log.head is None or log.member == self._membership.member:
            return False
        checkpoint = log.head.checkpoint
        with self._witness_lock:  # a retired key must not sign with a later time than the card gives it
            cosignature = cosign_checkpoint(checkpoint, self._witness, milliseconds(self._clock()) // 1000)
        return self._save(log, checkpoint.size, {self._membership.member: cosignature}) > 0

    def _accept_note(self, alliance: Alliance, signed: SignedCheckpoint) -> int:
        author = alliance.author_of(signed.origin)
        key = alliance.card(author).log_key_at(signed.size, signed.root)
        verify_checkpoint(signed, key)
        log = self._store.logs.find_log(signed.origin)
        # Of the own log, what lies beyond the signed head is judged when a peer tells it to us as ours (`confirmation`).
        if log is None or signed.size > log.signed_size or signed.size == 0:
            return 0
        self._require_same_history(log, signed, alliance.card(author))
        if self._store.checkpoints.find(log.id, signed.size) is None:
            return 0
        return self._save(log, signed.size, accept_cosignatures(alliance, author, signed))

    def _require_same_history(self, log: LogState, signed: SignedCheckpoint, card: Card) -> None:
        held = self._store.checkpoints.find(log.id, signed.size)
        root = held.root if held is not None else self._store.logs.tree(log.id).root(signed.size)
        if root != signed.root:
            if log.head is not None and vouched_size(card, log.head) is not None:
                raise SignatureError(f"{log.origin}: the key of the head held here was revoked, so it contradicts nobody")
            note = bytes(held) if held is not None else log.head_note
            raise SplitViewError(log.origin, size=signed.size, held_note=note, offered_note=bytes(signed))

    def _save(self, log: LogState, size: int, cosignatures: dict[str, Cosignature]) -> int:
        if not cosignatures:
            return 0
        saved = self._store.checkpoints.save_cosignatures(log.id, size, cosignatures)
        if saved:
            with self._lock:
                self._notes.pop(log.origin, None)
        return saved

    def _note(self, log: LogState, size: int) -> bytes | None:
        with self._lock:
            cached = self._notes.get(log.origin)
        if cached is not None and cached[0] == size:
            return cached[1]
        signed = self._store.checkpoints.choose(log.id, start=0, entries_max=size, ceiling=size)
        if signed is None:
            return None
        note = bytes(signed)
        with self._lock:
            self._notes[log.origin] = (size, note)
        return note

    def _tellable_size(self, log: LogState) -> int:
        own = log.member == self._membership.member
        return min(log.head_size, self._confirmation.ceiling) if own else log.head_size
