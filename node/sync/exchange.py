"""Checkpoints that nodes tell each other, and the cosignatures on them.

A node cosigns a peer's checkpoint only as its verified head, which never moves but to a proven extension; so two
cosignatures of one witness never lie on different histories, but for two deliberate exceptions: after the council has named
another history as the survivor, or the author has revoked the key of what was cosigned, the own cosignatures on what is
given up are forgotten, and the history that counts is cosigned. A home that was rolled back has forgotten its verified head,
too: so nothing is cosigned before enough peers have told what they hold, nor while one of them has told a larger checkpoint
of that log than was reached. Cosignatures are collected by whoever holds the checkpoint.

Every checkpoint that is told or announced is held against what is known of its log. A smaller one must be the root that our
tree has at its size; a larger one is remembered until our log reaches it. What cannot be one history becomes evidence.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from hashlib import sha256

from node.clock import Clock, milliseconds
from node.confirmation import Confirmation
from node.core.alliance import Alliance
from node.core.card import FormerWitnessKey
from node.core.checkpoint import Cosignature, SignedCheckpoint, cosign_checkpoint, parse_checkpoint, verify_checkpoint
from node.core.keys import Signer, VerifierKey
from node.core.merkle import Tree
from node.core.quorums import quorums_over
from node.core.roster import Head
from node.core.succession import vouched_size
from node.core.witness import accept_cosignatures, outlives, retired_keys, without_borrowed
from node.errors import FormatError, NotFoundError, SignatureError, SplitViewError
from node.evidence import EvidenceKeeper
from node.membership import Membership
from node.store import Store
from node.store.forgetting import cut_mirror, forget_mirror
from node.store.logs import LogState
from node.sync.ahead import SeenAhead
from node.sync.unreached import Unreached

logger = logging.getLogger(__name__)

# How far the clock may have gone back since this node signed what a peer tells it as its own.
_CLOCK_STEP_S = 300


class CheckpointExchange:
    """Which checkpoints this node holds, and what it makes of those it is told. Any thread may call."""

    def __init__(
        self,
        store: Store,
        *,
        membership: Membership,
        confirmation: Confirmation,
        evidence: EvidenceKeeper,
        witness: Signer,
        clock: Clock,
    ) -> None:
        """Use an open store and the witness key."""
        self.evidence, self.ahead = evidence, SeenAhead()
        self._store, self._membership, self._confirmation = store, membership, confirmation
        self._witness, self._clock = witness, clock
        self._lock, self._witness_lock = threading.Lock(), threading.Lock()
        # A history is not forgotten while it is read here, nor by two at once. Always taken before the other locks.
        self.histories = threading.RLock()
        self._notes: dict[str, tuple[int, int, bytes]] = {}
        self.unreached = Unreached()
        self._held_lock = threading.Lock()
        self._held_back: set[str] = set()
        self._settled_keys: tuple[FormerWitnessKey, ...] = ()  # what these had signed after their ends is forgotten

    def held_notes(self) -> list[bytes]:
        """The newest checkpoint of every log that may be told, with its cosignatures, by origin."""
        notes = []
        with self.histories:
            for log in self._store.logs.load_logs():
                size = self.tellable_size(log)
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

    def accept_notes(
        self, notes: Iterable[bytes], *, peer: str, version: int | None = None
    ) -> tuple[int, list[SplitViewError]]:
        """Take cosignatures on checkpoints that are held here, and notice split views.

        Returns how many cosignatures were new, and the split views found, of which evidence is kept then. Notes that do not
        verify are left out: the peer may know a newer roster or card than this node.

        Args:
            notes: checkpoints, one of each log.
            peer: who told them.
            version: the newest roster that the peer holds. Where one of the two has not heard yet which history of a log
                survives, the other history is no news.
        """
        alliance, saved, splits = self._membership.joined, 0, []
        seen: set[str] = set()
        for raw in notes:
            try:
                signed = parse_checkpoint(raw)
                if signed.origin not in seen:  # one note a log is all that an honest peer tells
                    seen.add(signed.origin)
                    author = alliance.author_of(signed.origin)
                    if version is None or _head_version(alliance, author) <= version <= alliance.roster.version:
                        with self.histories:
                            saved += self._accept_note(alliance, author, signed, peer)
            except SplitViewError as error:
                splits.append(error)
            except (FormatError, SignatureError, NotFoundError):
                continue
        return saved, splits

    def change_witness(self, retire: Callable[[], Signer]) -> None:
        """Put another witness key in the place of the current one, while nothing is cosigned."""
        with self._witness_lock:
            self._witness = retire()

    @property
    def witness_key(self) -> VerifierKey:
        """The key that cosigns now."""
        return self._witness.key

    def forget_void_cosignatures(self) -> None:
        """Delete what former witness keys of this home cosigned after their ends.

        A home that was rolled back to before a rotation did not know of it until a peer told the newer card. Nobody counts
        these, and in their place none that counts could be kept. A crash may come between the card and this. Looking reads
        every cosignature, so it is done once for the former keys that the own card names.

        Raises:
            StoreError: the database refused; the next call looks again.
        """
        alliance, (_, card) = self._membership.alliance, self._membership.own_card
        if alliance is None or card.former_witness_keys == self._settled_keys:
            return
        found: dict[int, list[int]] = defaultdict(list)
        for log_id, size in self._store.checkpoints.find_outlived(card.member, retired_keys([card])):
            found[log_id].append(size)
        for log_id, sizes in found.items():
            self._forget_void(alliance, self._store.logs.load_log(log_id), sizes)
        self._settled_keys = card.former_witness_keys

    def _forget_void(self, alliance: Alliance, log: LogState, sizes: Collection[int]) -> None:
        _, card = self._membership.own_card
        gone = self._store.checkpoints.forget_outlived(
            log.id, sizes, card.member, retired_keys([card]), quorums=quorums_over(alliance, log.member)
        )
        if gone:
            self.forget_note(log.origin)
            logger.warning("event=void_cosignatures_forgotten origin=%s count=%d largest=%d", log.origin, gone, max(sizes))

    def _forget_if_void(self, log: LogState, size: int, own: Cosignature | None) -> None:
        """Forget an own cosignature just saved, if the card that ends its key came since it was made or judged."""
        if own is not None and outlives(str(own.line), own.time, retired_keys([self._membership.own_card[1]])):
            self._forget_void(self._membership.joined, log, [size])

    def forget_note(self, origin: str) -> None:
        """Make the note of a log anew: another key has signed its checkpoints."""
        with self._lock:
            self._notes.pop(origin, None)

    def note_announced(self, signed: SignedCheckpoint, *, surviving: Head | None, teller: str = "") -> None:
        """Remember a checkpoint that verifies, but that our log has not reached: a few of each log and teller.

        Args:
            signed: the checkpoint.
            surviving: what the roster said of the log when it was told; what has been decided since may be against it.
            teller: the peer that told it; empty for what the author announced.

        Raises:
            SplitViewError: another root was signed for this size.
        """
        author = self._membership.joined.author_of(signed.origin)
        if self.surviving_head(author) != surviving:
            return
        other = self.unreached.remember(signed, teller=teller, surviving=surviving)
        if other is not None:
            self._refuse(author, other, signed, surviving=surviving)

    def review_announced(self, log: LogState) -> None:
        """Hold what was announced or told before against a log that has grown; it is remembered until that is done.

        Raises:
            SplitViewError: the verified log does not contain a checkpoint that its author signed.
        """
        surviving, head = self.surviving_head(log.member), log.head
        for signed in self.unreached.list_reached(log.origin, log.head_size, surviving=surviving):
            if head is not None and (signed.size, signed.root) != (head.size, head.root):
                self._require_same_history(log, signed, surviving)
            self.unreached.forget_judged(signed)

    def forget_history(self, log: LogState) -> None:
        """Forget what is held of a log, because another history of it survives."""
        logger.warning("event=history_forgotten origin=%s size=%d", log.origin, log.head_size)
        with self.histories:
            forget_mirror(self._store, log.id)

    def cut_history(self, log: LogState, size: int) -> None:
        """Forget what lies beyond `size`, because its author's newest card vouches for no more."""
        with self.histories:
            cut_mirror(self._store, log, size)
        self.forget_note(log.origin)

    def tellable_size(self, log: LogState) -> int:
        """How much of a log may be told and served: what counts, and of the own log what may be published."""
        if not self.survives(log):
            return 0
        counted = self._membership.joined.counted_size(log.member, log.head_size)
        return min(counted, self._confirmation.ceiling) if log.member == self._membership.member else counted

    def survives(self, log: LogState) -> bool:
        """Whether what is held of a log is the history that the roster lets survive, as far as it says."""
        head = self.surviving_head(log.member)
        if head is None or log.head_size < head.size or log.member == self._membership.member:
            return True
        return self._store.logs.tree(log.id).root(head.size) == head.root

    def surviving_head(self, member: str) -> Head | None:
        """What the roster says of a member's log after a fork or a removal."""
        alliance = self._membership.alliance
        line = alliance.roster.members.get(member) if alliance else None
        return None if line is None else line.head

    def cosign_head(self, origin: str) -> bool:
        """Cosign the verified head of a peer's log, once; returns whether a cosignature was made.

        Nothing is cosigned for a member that was removed or has signed two histories, nor a head whose key was revoked
        before it, nor anything while the own card names another witness key than this home holds. What is not cosigned
        because this node is unconfirmed is told by `take_held_back` when it is confirmed.
        """
        held = self._store.logs.find_log(origin)
        if held is None or held.head is None or held.member == self._membership.member:
            return False
        with self.histories:  # none may be forgotten meanwhile
            signed = self._sign_head(origin)
        if signed is None or not self._store.checkpoints.save_own_cosignature(signed[0], self._membership.member, signed[1]):
            return False
        with self.histories:  # a note that is being made of what was read before must not stay
            self.forget_note(origin)
        self._forget_if_void(signed[0], signed[0].signed_size, signed[1])
        return True

    def _sign_head(self, origin: str) -> tuple[LogState, Cosignature] | None:
        """The head that may be cosigned now, and the cosignature; None where it may not."""
        with self._witness_lock:  # a retired key must not sign with a later time than the card gives it
            if self._witness.key != self._membership.own_card[1].witness_key or not self._is_confirmed_for(origin):
                return None
            # Only now: a contact brings its notes and evidence first, and confirms then.
            log = self._store.logs.find_log(origin)
            if log is None or log.head is None or not self._may_cosign(log, log.head):
                return None
            # Again, so that as little as possible lies between this and the signature.
            if not self._is_confirmed_for(origin):
                return None
            return log, cosign_checkpoint(log.head.checkpoint, self._witness, milliseconds(self._clock()) // 1000)

    def take_held_back(self) -> list[str]:
        """The origins of the logs that were not cosigned because this node was unconfirmed, once it is not; each once.

        May read the database, but never waits for a change of the witness key.
        """
        if not self._held_back or not self._confirmation.confirmed:
            return []
        with self._held_lock:
            origins, self._held_back = sorted(self._held_back), set()
        return origins

    @property
    def holds_back(self) -> bool:
        """Whether there is anything for `take_held_back`; costs nothing, and waits for nobody."""
        return bool(self._held_back)

    def _is_confirmed_for(self, origin: str) -> bool:
        """Whether this node is confirmed, so that a log may be cosigned; where it is not, that is held back.

        Noted before looking: whoever confirms this node meanwhile finds it.
        """
        with self._held_lock:
            self._held_back.add(origin)
        if not self._confirmation.confirmed:
            return False
        with self._held_lock:
            self._held_back.discard(origin)
        return True

    def _may_cosign(self, log: LogState, head: SignedCheckpoint) -> bool:
        """Whether this head of a peer's log counts, and nothing is known that it would have to contain and does not yet."""
        alliance = self._membership.joined
        if log.member not in alliance.other_members(self._membership.member) or log.member not in alliance.cards:
            return False  # without a card: its identity key was replaced, and the first one under the new key is on its way
        try:
            self.review_announced(log)
        except SplitViewError:
            return False  # the evidence is kept
        if self.evidence.split_view_of(log.member) is not None or not self.survives(log):
            return False
        card, surviving = alliance.card(log.member), self.surviving_head(log.member)
        # What the author itself says keeps nobody from cosigning: it may go on announcing, and be read, without end.
        # Nor does what a member has told that was removed since.
        without = {"", *alliance.roster.members}.difference(alliance.other_members(log.member))
        larger = self.unreached.list_beyond(log.origin, head.size, surviving=surviving, without=without)
        return all(vouched_size(card, signed) is not None for signed in larger) and vouched_size(card, head) is None

    def _accept_note(self, alliance: Alliance, author: str, signed: SignedCheckpoint, peer: str) -> int:
        key, surviving = alliance.card(author).log_key_at(signed.size, signed.root), alliance.roster.members[author].head
        verify_checkpoint(signed, key)
        log = self._store.logs.find_log(signed.origin)
        # Of the own log, what lies beyond the signed head is judged when a peer tells it to us as ours (`confirmation`).
        if signed.size == 0 or signed.size > alliance.counted_size(author, signed.size):
            return 0
        if log is None or signed.size > log.signed_size:
            if author != self._membership.member:
                self.note_announced(signed.signed_by(key), surviving=surviving, teller=peer)
                self.ahead.note(alliance, author, signed)
            return 0
        held = self._store.checkpoints.find(log.id, signed.size)
        if not self._require_same_history(log, signed, surviving) or held is None:
            return 0
        return self._take_cosignatures(alliance, log, held, signed)

    def _take_cosignatures(self, alliance: Alliance, log: LogState, held: SignedCheckpoint, told: SignedCheckpoint) -> int:
        """Save cosignatures that are new and count, also in the place of those by the same witnesses that count no more."""
        known = set(held.note.signatures)
        accepted = accept_cosignatures(alliance, log.member, told)
        if all(item.line in known for item in accepted.values()):
            return 0
        counting = accept_cosignatures(alliance, log.member, held)
        accepted = without_borrowed(alliance, accepted, held=counting)
        if self._is_ahead(accepted.get(self._membership.member)):
            del accepted[self._membership.member]
        if not accepted:
            return 0
        names = {line.name for line in known}
        # Each witness has one place.
        void = [member for member in accepted.keys() - counting.keys() if accepted[member].key.name in names]
        quorums = quorums_over(alliance, log.member)
        saved = self._store.checkpoints.save_cosignatures(log.id, held.size, accepted, void=void, quorums=quorums)
        if saved:
            self.forget_note(log.origin)
            self._forget_if_void(log, held.size, accepted.get(self._membership.member))
        return saved

    def _is_ahead(self, cosignature: Cosignature | None) -> bool:
        """Whether a cosignature is from a time to come: a rotation would let its key count until then."""
        return cosignature is not None and cosignature.time > milliseconds(self._clock()) // 1000 + _CLOCK_STEP_S

    def _require_same_history(self, log: LogState, signed: SignedCheckpoint, surviving: Head | None) -> bool:
        """Whether our log contains a checkpoint that was told while the roster said `surviving` of that log.

        Raises:
            SplitViewError: it does not, and that is news.
        """
        held = self._store.checkpoints.find(log.id, signed.size)
        tree = self._store.logs.tree(log.id)
        if (held.root if held is not None else tree.root(signed.size)) == signed.root:
            return True
        # The newest that may be told; for the own log nothing beyond it may leave this node, not even as evidence.
        size = self.tellable_size(log)
        larger = held or self._store.checkpoints.choose(log.id, start=size, entries_max=0, ceiling=size)
        if larger is not None and signed.size <= larger.size <= size:
            self._refuse(log.member, larger, signed, tree, surviving=surviving)
        return False

    def _refuse(
        self,
        author: str,
        held: SignedCheckpoint,
        offered: SignedCheckpoint,
        tree: Tree | None = None,
        *,
        surviving: Head | None,
    ) -> None:
        """Keep the evidence; raise where the author's misconduct is proved now and was not before."""
        if self.surviving_head(author) != surviving:
            return  # decided a moment ago: what is still told of the other history is no news
        if self.evidence.split_view_of(author) is None and self.evidence.accept_split_view(author, held, offered, tree):
            size = min(held.size, offered.size)
            raise SplitViewError(offered.origin, size=size, held_note=bytes(held), offered_note=bytes(offered))

    def _note(self, log: LogState, size: int) -> bytes | None:
        with self._lock:
            cached = self._notes.get(log.origin)
        if cached is not None and cached[:2] == (log.id, size):
            return cached[2]
        signed = self._store.checkpoints.choose(log.id, start=0, entries_max=size, ceiling=size)
        if signed is None:
            return None
        note = bytes(signed)
        with self._lock:
            self._notes[log.origin] = (log.id, size, note)
        return note


def _head_version(alliance: Alliance, member: str) -> int:
    """The roster version that gave a member the head it has now; 0 when it has none."""
    head, version = alliance.roster.members[member].head, 0
    if head is None:
        return 0
    for _, roster in reversed(alliance.rosters):
        if member not in roster.members or roster.members[member].head != head:
            break
        version = roster.version
    return version
