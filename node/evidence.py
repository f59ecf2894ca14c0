"""Evidence as this node lives it: judged before it is kept, whoever found it; told to every peer that lacks it.

One standing piece for each thing said in two ways is enough, and few are held of one kind and member, so whoever signs two
histories cannot fill a disk with them: a new one takes the place of the oldest that stands no more.
A piece *stands* until the council settles it (`core.misconduct.find_settlement`), or until the member's newest card no
longer covers one of its two statements, as after the revocation of a stolen key. It is listed even then.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from hashlib import sha256

from node.clock import Clock, milliseconds
from node.core.alliance import Alliance
from node.core.checkpoint import SignedCheckpoint
from node.core.conflict import conflict_subject, find_parting
from node.core.evidence import (
    EVIDENCE_SIZE_MAX,
    Evidence,
    build_conflicts,
    build_contradiction,
    build_split_view,
    format_evidence,
    parse_evidence,
    rebase_evidence,
)
from node.core.merkle import Tree
from node.core.misconduct import Judgement, find_settlement, judge_evidence
from node.core.names import log_origin
from node.errors import FormatError, GovernanceError, NotFoundError, SignatureError, UserError, VerificationError
from node.held_evidence import HeldEvidence, basis_of, describe, judge_stored
from node.passed_over import PassedFile, PassedOver
from node.store import Store
from node.store.evidence import Contradiction, EvidenceEntry
from node.store.logs import LogState
from node.store.tables import position_of

logger = logging.getLogger(__name__)

TOLD_AT_ONCE_MAX = 8
TOLD_BYTES_MAX = 6 * 1024 * 1024
HELD_MAX = 16
FAILURES_MAX = 10
IDS_MAX = 1000
SEARCHED_PAGES_MAX = 4
PREFIX_MIN = 8


class EvidenceKeeper:
    """Everything this node can prove against members of its alliance. Any thread may call."""

    def __init__(self, store: Store, *, member: str, alliance: Callable[[], Alliance | None], clock: Clock) -> None:
        """Judge again what the store holds."""
        self._store, self._member, self._alliance, self._clock = store, member, alliance, clock
        self._lock = threading.RLock()
        self._subscribers: list[Callable[[], None]] = []
        # Replaced as a whole, so that readers, the event loop among them, need no lock.
        self._pieces: tuple[HeldEvidence, ...] = ()
        # Under which roster and card of its member each piece was judged.
        self._judged_under: dict[str, tuple[str, str]] = {}
        self._told: dict[str, set[str]] = {}
        self._failures: set[str] = set()
        self._passed_over = PassedOver()
        self._unsearched = {log.id for log in store.logs.load_logs()}
        # By log, the number of the last pair that was looked at; begun again at each start.
        self._searched: dict[int, int] = {}
        self.refresh()

    def subscribe(self, notify: Callable[[], None]) -> None:
        """Call `notify` when a piece has come or has been settled, in the thread that found it."""
        self._subscribers.append(notify)

    def refresh(self) -> None:
        """Judge again what the newest rosters and cards concern: all after a new roster, else a new card's member's."""
        alliance = self._alliance()
        if alliance is None:
            return
        with self._lock:
            before = self._standing()
            self._pieces = tuple(self._rejudge(entry, alliance) for entry in self._store.evidence.load_entries())
            self._judged_under = {piece.id: basis_of(alliance, piece.member) for piece in self._pieces}
            self._passed_over.retain(self._needless())
            changed = before != self._standing()
        if changed:
            self._notify()

    def _rejudge(self, entry: EvidenceEntry, alliance: Alliance) -> HeldEvidence:
        if self._judged_under.get(entry.id) == basis_of(alliance, entry.member):
            known = next((piece for piece in self._pieces if piece.id == entry.id), None)
            if known is not None:
                return known
        return judge_stored(entry, self._store.evidence.find(entry.id) or b"", alliance)

    def pieces(self) -> tuple[HeldEvidence, ...]:
        """Every piece, the oldest first."""
        return self._pieces

    def split_view_of(self, member: str) -> HeldEvidence | None:
        """The standing proof that a member signed two histories: its log is not followed while there is one."""
        found = (piece for piece in self._pieces if piece.kind == "split-view" and piece.member == member)
        return next((piece for piece in found if piece.stands), None)

    def split_views(self) -> list[str]:
        """The members whose logs are not followed any more."""
        return sorted({piece.member for piece in self._pieces if piece.kind == "split-view" and piece.stands})

    def alarms(self) -> list[str]:
        """One sentence for each standing piece, and for each that could not be kept."""
        return [*(describe(piece, self._member) for piece in self._pieces if piece.stands), *sorted(self._failures)]

    def export(self, prefix: str) -> tuple[HeldEvidence, bytes]:
        """The piece whose id begins like this, and its file.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        found = [piece for piece in self._pieces if piece.id.startswith(prefix)]
        if len(found) != 1 or len(prefix) < PREFIX_MIN:
            problem = "more than one piece" if len(found) > 1 else "no piece"
            raise NotFoundError(f"{problem} of evidence has the id {prefix[:80]!r}", hint="type: labmesh evidence list")
        file = self._store.evidence.find(found[0].id)
        if file is None:
            raise NotFoundError(
                f"the evidence {found[0].id} is gone: a record in it was erased by its author",
                hint="type: labmesh evidence list",
            )
        return found[0], file

    def accept(self, raw: bytes, *, peer: str) -> bool:
        """Take a file from a peer; returns whether it needs not be told again: it is held, known otherwise, or settled.

        Raises:
            FormatError: not evidence.
            VerificationError: it does not prove misconduct, or is not for this member.
        """
        evidence_id = sha256(raw).hexdigest()
        if (passed := self._find_heard(evidence_id)) is None:
            alliance = self._require_alliance()
            evidence = parse_evidence(raw)
            if len(evidence.rosters) > len(alliance.rosters):
                return False  # made under rosters that are told first; until then nothing can be said of it
            accused = next(iter(evidence.cards), "")  # other kinds rest on the rosters alone
            passed = PassedFile(accused, basis_of(alliance, accused))
            try:
                instead = self._keep(alliance, evidence, judge_evidence(evidence, held=alliance), peer)
            except VerificationError:
                self._pass_over(evidence_id, passed, peer)
                raise
            passed = replace(passed, instead=instead)
        self._pass_over(evidence_id, passed, peer)
        self.note_told(evidence_id, peer)
        return True

    def accept_split_view(
        self, author: str, one: SignedCheckpoint, other: SignedCheckpoint, tree: Tree | None = None
    ) -> bool:
        """Keep two checkpoints of one log that contradict each other; `tree` is the larger one's log.

        Returns whether it stands now that the author signed two histories.
        """
        if self.split_view_of(author) is None:
            self._keep_found(lambda alliance: [build_split_view(alliance, author, one, other, tree)])
        return self.split_view_of(author) is not None

    def accept_conflicts(self, conflicts: Iterable[tuple[bytes, bytes]]) -> list[HeldEvidence]:
        """Keep pairs of rosters of one version, or of cards of one `seq`, that one key signed; returns what stands of it.

        Every key that signed both makes a piece of its own.
        """
        subjects = set()
        for pair in conflicts:
            self._keep_found(partial(build_conflicts, envelopes=pair))
            subjects.add(conflict_subject(pair))
        standing = [piece for piece in self._pieces if piece.stands]
        return [piece for piece in standing if {(piece.judgement.subject, name) for name in (piece.member, "")} & subjects]

    def explains_refusal(self, raw: bytes, refusal: VerificationError) -> bool:
        """Whether a file was refused only for being made under a roster that is itself part of evidence held here.

        Who took the other roster first tells the truth as it sees it. Parses rosters: not for the event loop.
        """
        if refusal.step != "roster":
            return False
        try:
            version = find_parting(self._require_alliance(), parse_evidence(raw).rosters)
        except FormatError:
            return False
        return any(piece.kind == "roster" and piece.judgement.subject == f"roster {version}" for piece in self._pieces)

    def search_contradictions(self, log: LogState) -> bool:
        """Keep what the verified entries of a log say twice; cheap where nothing was quarantined since the last call.

        One call looks at a bounded number of pairs, behind those that were looked at before: what is known, or settled,
        hides nothing that comes later. Returns whether more may be found by another call.
        """
        contradicted = self._store.logs.contradicted
        if log.head is None or not {log.id} & (contradicted | self._unsearched):
            return False
        if log.staged.size == log.head_size:  # else more waits for the next head
            contradicted.discard(log.id)
        self._unsearched.discard(log.id)
        for _ in range(SEARCHED_PAGES_MAX):
            found = self._store.evidence.find_contradictions(log.id, after=self._searched.get(log.id, 0))
            for pair in found:
                if not pair.verified:
                    return False
                if not self._has_room("contradiction", log.member):
                    self._unsearched.add(log.id)  # an erasure or a decision of the council makes room again
                    return False
                self._keep_contradiction(log, log.head, pair)
                self._searched[log.id] = pair.sequence
            if not found:
                return False
        self._unsearched.add(log.id)
        return True

    def _keep_contradiction(self, log: LogState, head: SignedCheckpoint, pair: Contradiction) -> None:
        """Judging costs signatures, so what stands already is not judged again."""
        if any(piece.stands and piece.judgement.subject == pair.record for piece in self._pieces):
            return
        exhibits, tree = (pair.kept, pair.again), self._store.logs.tree(log.id)
        self._keep_found(lambda alliance: [build_contradiction(alliance, log.member, head, exhibits, tree)])

    def forget_dropped(self) -> None:
        """Forget what the store holds no more, because a record in it was erased."""
        with self._lock:
            before, held = self._pieces, self._store.evidence.load_ids()
            self._pieces = tuple(piece for piece in before if piece.id in held)
            self._passed_over.retain(self._needless())
            changed = len(self._pieces) != len(before)
        if changed:
            self._notify()

    def search_all(self) -> None:
        """Search every log that was not searched since the start."""
        for log in self._store.logs.load_logs():
            while log.member != self._member and self.search_contradictions(log):
                pass

    def untold(self, peer: str) -> list[tuple[str, bytes]]:
        """Ids and files of standing pieces that a peer should get now, a bounded number."""
        chosen: list[tuple[str, bytes]] = []
        room = TOLD_BYTES_MAX
        for piece in self._pieces:
            if len(chosen) == TOLD_AT_ONCE_MAX or not piece.stands or piece.id in self._told_to(peer):
                continue
            file = self._store.evidence.find(piece.id) if self._may_be_told(piece, peer) else None
            if file is not None and len(file) <= room:
                chosen.append((piece.id, file))
                room -= len(file)
        return chosen

    def known_ids(self, peer: str) -> list[str]:
        """Ids that this peer needs not tell: what it told and needs no second hearing, and what it may be told.

        An id alone says that somebody contradicted himself, so it goes to nobody who may not read both records.
        """
        with self._lock:
            told = self._passed_over.told_by(peer)
        standing = [piece.id for piece in self._pieces if piece.stands and self._may_be_told(piece, peer)]
        return list(dict.fromkeys([*told, *standing]))[:IDS_MAX]

    def note_told(self, evidence_id: str, peer: str) -> None:
        """A peer has a piece. Ids that are not held here mean nothing."""
        with self._lock:
            held = any(piece.id == evidence_id for piece in self._pieces)
            if held and peer and evidence_id not in self._told_to(peer):
                self._store.evidence.save_told(evidence_id, peer)
                self._told[peer].add(evidence_id)

    def note_held(self, peer: str, ids: Collection[str]) -> None:
        """A peer says what it needs not be told, and that is the truth: what it had, a restored home may have lost.

        What it may be told and does not name, it is told again. A list that may be cut short says nothing of the rest.
        """
        for evidence_id in ids:
            self.note_told(evidence_id, peer)
        if len(ids) >= IDS_MAX:
            return
        named = frozenset(ids)
        with self._lock:
            told = self._told_to(peer)
            standing = (piece for piece in self._pieces if piece.stands and piece.id in told - named)
            lost = [piece.id for piece in standing if self._may_be_told(piece, peer)]
            if lost:
                self._store.evidence.forget_told(lost, peer)
                told.difference_update(lost)

    def _find_heard(self, evidence_id: str) -> PassedFile | None:
        """Why a file needs no hearing; None where it does."""
        with self._lock:
            if any(piece.id == evidence_id for piece in self._pieces):
                return PassedFile("", ("", ""), frozenset({evidence_id}))
            return self._passed_over.find(evidence_id)

    def _pass_over(self, evidence_id: str, passed: PassedFile, peer: str) -> None:
        """Do not hear this file again, unless rosters, cards or pieces have changed since it was judged."""
        with self._lock:
            if self._needless()(evidence_id, passed):
                self._passed_over.add(evidence_id, passed, peer=peer)

    def _needless(self) -> Callable[[str, PassedFile], bool]:
        """Which files need no second hearing, by the pieces of this moment: those are looked at once for many files.

        A member's ever new cards must not have told again what other pieces stand for: they are judged again instead.
        """
        held, standing = {piece.id for piece in self._pieces}, self._standing()
        basis = cache(lambda member: basis_of(self._require_alliance(), member))  # of a long roster it costs a hash

        def is_needless(evidence_id: str, passed: PassedFile) -> bool:
            if evidence_id in held:
                return True
            return passed.instead <= standing if passed.instead else passed.basis == basis(passed.member)

        return is_needless

    def _keep_found(self, build: Callable[[Alliance], Iterable[Evidence]]) -> None:
        """Build and keep what was found here. Where that fails an alarm says so, and nothing else is held up."""
        alliance = self._require_alliance()
        with self._noting_failure():
            for evidence in build(alliance):
                with self._noting_failure():
                    self._keep(alliance, evidence, judge_evidence(evidence, held=alliance), "")

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except (SignatureError, VerificationError) as error:
            # Under the newest card one of the two is no statement of the member any more: its key was revoked.
            logger.info("event=no_evidence error=%r", error.message)
        except (FormatError, UserError) as error:
            logger.error("event=evidence_not_kept error=%r", error.message)
            if len(self._failures) < FAILURES_MAX:
                self._failures.add(f"a contradiction between signed statements could not be kept: {error.message}")

    def _keep(self, alliance: Alliance, evidence: Evidence, judgement: Judgement, peer: str) -> frozenset[str]:
        """Keep what is new and stands.

        Returns:
            The pieces that make the file needless while they stand: the one kept, one that proves the same, or all those
            that leave no room; none where nobody needs it, as it is settled.
        """
        if not judgement.verified:
            failed = next(step for step in judgement.steps if not step.ok)
            raise VerificationError(failed.step, f"the evidence proves nothing: {failed.step}: {failed.detail}")
        if not self._may_read(judgement):
            raise VerificationError("conflict", f"the records in the evidence are not for {self._member}")
        with self._lock:
            if find_settlement(judgement, alliance):
                return frozenset()
            if (same := self._find_same(judgement)) is not None:
                self.note_told(same.id, peer)
                return frozenset({same.id})
            if not self._has_room(judgement.kind, judgement.member):
                return frozenset(self._standing_of(judgement.kind, judgement.member))
            # What was told beside the statements stays out: nobody vouches for it.
            raw = format_evidence(rebase_evidence(evidence, judgement.alliance or alliance))
            found_ms = milliseconds(self._clock())
            if len(raw) > EVIDENCE_SIZE_MAX:
                raise FormatError(
                    f"evidence against {judgement.member} has {len(raw)} bytes; at most {EVIDENCE_SIZE_MAX} fit"
                )
            piece = HeldEvidence(sha256(raw).hexdigest(), found_ms, evidence.kind, judgement.member, judgement)
            if not self._store.evidence.save(
                piece.id,
                kind=piece.kind,
                member=piece.member,
                found_ms=found_ms,
                file=raw,
                shows=self._positions(judgement),
                instead_of=(gone := self._choose_dropped(piece)),
            ):
                return frozenset()
            self._pieces = (*(held for held in self._pieces if held.id not in {piece.id, *gone}), piece)
            self._judged_under[piece.id] = basis_of(alliance, piece.member)
            self.note_told(piece.id, peer)
        logger.error("event=evidence id=%s kind=%s member=%s told_by=%s", piece.id, piece.kind, piece.member, peer or "-")
        self._notify()
        return frozenset({piece.id})

    def _find_same(self, judgement: Judgement) -> HeldEvidence | None:
        """The standing piece that proves the same."""
        wanted = (judgement.kind, judgement.member, judgement.subject)
        for piece in self._pieces:
            if piece.stands and (piece.kind, piece.member, piece.judgement.subject) == wanted:
                return piece
        return None

    def _has_room(self, kind: str, member: str) -> bool:
        return len(self._standing_of(kind, member)) < HELD_MAX

    def _standing_of(self, kind: str, member: str) -> list[str]:
        return [item.id for item in self._pieces if item.stands and (item.kind, item.member) == (kind, member)]

    def _choose_dropped(self, piece: HeldEvidence) -> list[str]:
        """What a new piece takes the place of: the oldest of its kind and member that stand no more."""
        beside = [
            held for held in self._pieces if (held.kind, held.member) == (piece.kind, piece.member) and held.id != piece.id
        ]
        over = max(0, len(beside) + 1 - HELD_MAX)
        return [held.id for held in beside if not held.stands][:over]

    def _may_be_told(self, piece: HeldEvidence, peer: str) -> bool:
        """Records go only to those who may read both, by their own audience or by a grant."""
        return piece.judgement.may_be_told(peer) or self._all_open_to(piece.judgement, peer)

    def _may_read(self, judgement: Judgement) -> bool:
        return judgement.may_be_told(self._member) or self._all_open_to(judgement, None)

    def _all_open_to(self, judgement: Judgement, reader: str | None) -> bool:
        """Whether both entries are opened here, and for `reader` too; None asks for this node."""
        log = self._store.logs.find_log(log_origin(self._require_alliance().name, judgement.member))
        if log is None:
            return False
        audiences = self._store.evidence.load_audiences(log.id, [item.number for item in judgement.statements])
        readable = [reader is None or item == "*" or f",{reader}," in item for item in audiences]
        return len(audiences) == len(judgement.statements) and all(readable)

    def _positions(self, judgement: Judgement) -> list[int]:
        """Where the records that a contradiction shows stand; empty for other kinds, and where the log is not held."""
        log = self._store.logs.find_log(log_origin(self._require_alliance().name, judgement.member))
        if judgement.kind != "contradiction" or log is None:
            return []
        return [position_of(log.id, item.number) for item in judgement.statements]

    def _told_to(self, peer: str) -> set[str]:
        if peer not in self._told:
            self._told[peer] = self._store.evidence.load_told(peer)
        return self._told[peer]

    def _standing(self) -> set[str]:
        return {piece.id for piece in self._pieces if piece.stands}

    def _require_alliance(self) -> Alliance:
        alliance = self._alliance()
        if alliance is None:
            raise GovernanceError("this node does not belong to an alliance yet")
        return alliance

    def _notify(self) -> None:
        for notify in self._subscribers:
            notify()
