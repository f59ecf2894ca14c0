"""What this node may sign and publish of its own log after a start (DESIGN section 7.3).

A home may have been rolled back: restored from a backup, or returned to a snapshot of its virtual machine. Then sizes that
were published before would be signed again with other contents. So after every start the node is *unconfirmed*: it takes
pushes, but signs nothing, and publishes nothing beyond what some peer is known to hold, until enough peers have told which
checkpoint of its log they hold. A peer that holds more than this node does proves the rollback; `sync.recovery` then takes
it back, and confirmation goes on.

A snapshot of a running machine holds this process, too, which then believes that it is confirmed. What gives it away is the
clock: on resuming, the time of day is set, while the clock that counts from the start goes on from where it stood.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from node.clock import Clock
from node.core.alliance import Alliance
from node.core.card import Card
from node.core.checkpoint import SignedCheckpoint, parse_checkpoint, verify_checkpoint
from node.core.roster import Head
from node.core.succession import revoked_at
from node.errors import FormatError, MalformedError
from node.shown_cards import ShownCard
from node.store import Store
from node.store.logs import LogState

logger = logging.getLogger(__name__)

CLOCK_JUMP_S = 30.0


class ClockWatch:
    """Notices that the time of day moved against the clock that counts from the machine's start."""

    def __init__(self, clock: Clock, counting: Callable[[], float] = monotonic) -> None:
        """Begin with the difference of the two as it is."""
        self._clock, self._counting = clock, counting
        self._difference_s = self._measure()

    def has_jumped(self) -> bool:
        """Whether the clocks moved apart by more than half a minute since this was last true, or since the start."""
        difference_s = self._measure()
        if abs(difference_s - self._difference_s) <= CLOCK_JUMP_S:
            return False
        self._difference_s = difference_s
        return True

    def _measure(self) -> float:
        return self._clock().timestamp() - self._counting()


class Confirmation:
    """How much of the own log may be signed and published, and why. Any thread may ask."""

    def __init__(
        self,
        store: Store,
        *,
        member: str,
        log: Callable[[], LogState],
        alliance: Callable[[], Alliance | None],
        unheld_cards: Callable[[], Sequence[ShownCard]],
        watch: ClockWatch | None = None,
        on_doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin unconfirmed; an alliance of one has nobody to ask.

        Args:
            store: an open store.
            member: the member whose log this is.
            log: the own log as last written.
            alliance: the alliance; None before one is joined.
            unheld_cards: cards of the member that others have shown and its home has forgotten (`Membership.unheld_cards`).
            watch: notices that this machine was frozen; without one, nothing does.
            on_doubt: called when a confirmed node becomes unconfirmed again; peers should be asked at once.
        """
        self._store, self._member, self._log, self._alliance = store, member, log, alliance
        self._unheld_cards, self._watch, self._on_doubt = unheld_cards, watch, on_doubt
        self._lock = threading.RLock()
        self._told: dict[str, int] = {}
        self._ahead: dict[str, SignedCheckpoint] = {}
        self._overridden = self._kept = self._doubted = False
        self._awaited: set[str] = set()
        self._known_size = 0
        self._contradicting: dict[str, SignedCheckpoint] = {}

    @property
    def needed(self) -> int:
        """How many peers must have told: the roster's quorum, or all the others where they are fewer."""
        alliance = self._alliance()
        if alliance is None:
            return 0
        return min(alliance.roster.quorum, len(alliance.other_members(self._member)))

    @property
    def confirmed(self) -> bool:
        """Whether everything may be signed and published."""
        with self._lock:
            self._notice_jump()
            self._forget_former_peers()
            return not self._is_known_behind and (self._overridden or self._kept or self._enough_told)

    @property
    def conflict(self) -> str | None:
        """That two histories of the own log are signed, in words; None where nobody has shown another one."""
        with self._lock:
            self._forget_former_peers()
            self._forget_decided()
            told = (
                f"{peer} holds a checkpoint of size {signed.size} of our log that our log does not contain"
                for peer, signed in self._contradicting.items()
            )
            return next(told, None)

    @property
    def forgotten_card(self) -> str | None:
        """That somebody has shown a card which this home has signed, forgotten and not taken, in words; None for nobody."""
        shown, log = self._find_shown(), self._log()
        return shown[0].describe(shown[1], self._store.logs.tree(log.id), log.signed_size) if shown else None

    @property
    def outdated(self) -> str | None:
        """That cards prove this home older than what its member has signed, in words; None where they do not.

        No risk that a person may take: the next signature would be a second one for a published size, or by a key that
        nobody takes it from.
        """
        if (said := self.forgotten_card) is not None:
            return said
        alliance, signed_size = self._alliance(), self._log().signed_size
        former = (
            () if alliance is None or self._member not in alliance.cards else alliance.card(self._member).former_log_keys
        )
        if not former or former[-1].size <= signed_size:
            return None
        return (
            f"this member's card ends a log key at size {former[-1].size}, and only {signed_size} entries are signed here: "
            "this home is older than what it published"
        )

    @property
    def remedy(self) -> str:
        """What to do, and to type, so that this home becomes confirmed."""
        if (shown := self._find_shown()) is not None:
            return shown[0].remedy(shown[1])
        if self.outdated is not None:
            return "let the peers connect that hold the others (labmesh peers), or restore a newer backup"
        if self.longer is not None or self.conflict is not None:
            return "type: labmesh status"
        return "wait until enough peers are connected (labmesh status), or take the risk: labmesh confirm"

    @property
    def may_revoke(self) -> bool:
        """Whether the log key may be ended at an earlier size: when confirmed, and while a peer shows another history, too.

        Then the key may be stolen, and ending it is the remedy. But this must not be the home that was rolled back: either
        this process was confirmed before, or enough peers hold nothing but our own history. A longer history is in the way
        only of a process that was not confirmed: whatever the key has signed beyond its end, ending it ends.
        """
        with self._lock:
            if self.confirmed:
                return True
            if self.outdated is not None:  # another card would part from the forgotten one
                return False
            if self._kept:
                return bool(self._contradicting or self._ahead)
            trusted = len(self._told.keys() - self._contradicting) >= self.needed
            return bool(self._contradicting) and not self._ahead and trusted

    @property
    def standing_size(self) -> int:
        """How much of what is signed here gives way to no other history, however long.

        All of it in a process that its peers have confirmed: nobody else signs this log then, but a thief. After a start,
        what some peer was heard to hold.
        """
        with self._lock:
            return self._log().signed_size if self._kept else self._known_size

    @property
    def presumed(self) -> bool:
        """Whether a person's word stands for the peers that have not told: this home may have forgotten its newest card."""
        with self._lock:
            return self._overridden and not self._enough_told

    @property
    def longer(self) -> tuple[str, int] | None:
        """The peer that holds most of what this home lacks, and the size it told; None when no peer does."""
        with self._lock:
            self._forget_former_peers()
            told = [(signed.size, peer) for peer, signed in self._ahead.items()]
        return max(told)[::-1] if told else None

    @property
    def ceiling(self) -> int:
        """The largest size that may be published now; up to a head that the roster names, everybody agrees."""
        if self.confirmed:
            return self._log().signed_size
        head = self._surviving_head()
        return max(self._known_size, head.size if head is not None else 0)

    def override(self) -> int:
        """Publish without waiting for peers, because a person takes the risk; returns the size that may be published.

        A longer or another log at a peer is no longer a matter of risk: it stays in force. So does a card that proves this
        home older (`outdated`). The word that is given then does not stand for later either.
        """
        with self._lock:
            self._forget_former_peers()
            self._overridden = self._overridden or not self._is_known_behind
        return self.ceiling

    def keep(self) -> None:
        """Stay confirmed although the roster grows: this process was confirmed, and it is the one that adds members.

        A roster learned from outside does not count: a home that was rolled back to when it was alone learns it that way.
        Nor does a person's word where too few peers have told. And a process that had to ask its peers again is kept by
        their word alone.
        """
        with self._lock:
            self._kept = self._kept or not (self.presumed or self._doubted)

    def doubt(self, teller: str) -> None:
        """Ask all peers again: a card of this member that its home had forgotten is about to take the place of the held one.

        So the home is older than it knew. Who told before may have missed that card as well, a person's word was given
        without it, and the keys that it names may have signed what waits here. `teller`, who has shown it, must tell, too,
        once; nobody where a person brought it.
        """
        with self._lock:
            logger.warning("event=own_card_replaced member=%s teller=%s", self._member, teller)
            if teller:
                self._awaited.add(teller)
            self._ask_again()

    def note_contradiction(self, peer: str) -> None:
        """The longer log that a peer told of was read, and leaves out what stands here: two histories are signed."""
        with self._lock:
            if (signed := self._ahead.pop(peer, None)) is not None:
                self._contradicting[peer] = signed
                logger.warning("event=own_log_contradicted member=%s size=%d", peer, signed.size)

    def accept_told(self, peer: str, note: bytes) -> bool:
        """Take what a peer holds of our log: a checkpoint, or nothing. Returns whether anything changed.

        A peer that holds more than this home, or other entries where nothing was signed here, does not count until
        that has been taken back.

        Raises:
            MalformedError: the note is not a checkpoint of our log.
            SignatureError: our log key did not sign it.
        """
        signed = self.parse_told(peer, note)
        with self._lock:
            before = (self.confirmed, self.ceiling)
            if not self.holds_more(peer, signed) and peer not in self._contradicting:
                self._told[peer] = signed.size if signed else 0
                self._awaited.discard(peer)
                self._known_size = max(self._known_size, self._told[peer])
            # A person's word makes nothing certain: it counts for this process as long as it stands, and for no more.
            self._kept = self._kept or (self.needed > 0 and self._enough_told and self.confirmed)
            return before != (self.confirmed, self.ceiling)

    def told_sizes(self) -> dict[str, int]:
        """How much of our log each peer has said that it holds, as of the newest contact."""
        with self._lock:
            self._forget_former_peers()
            return dict(self._told)

    def peers_heard(self) -> set[str]:
        """The peers that have told, and from which nothing is still to be taken back: they hold our history, or another."""
        with self._lock:
            self._forget_former_peers()
            return (self._told.keys() | self._contradicting.keys()) - self._ahead.keys()

    def holds_more(self, peer: str, signed: SignedCheckpoint | None) -> bool:
        """Judge a told checkpoint: whether it leads beyond, or away from, what is signed here."""
        log = self._store.logs.load_log(self._log().id)
        with self._lock:
            self._ahead.pop(peer, None)
            if signed is None or signed.size == 0:
                return False
            if signed.size <= log.head_size and self._root_at(log, signed.size) == signed.root:
                self._contradicting.pop(peer, None)
                return False
            if signed.size > log.signed_size and peer not in self._contradicting:
                self._ahead[peer] = signed
                return True
            self._contradicting[peer] = signed
            return False

    def reconsider(self) -> None:
        """Look again at who holds more or something else: this home has taken something back, or ended a stolen key."""
        alliance = self._alliance()
        with self._lock:
            if alliance is not None:
                card = alliance.card(self._member)
                for told in (self._contradicting, self._ahead):
                    for peer in [peer for peer, signed in told.items() if revoked_at(card, signed) is not None]:
                        del told[peer]
            for peer, signed in list(self._ahead.items()):
                self.holds_more(peer, signed)

    def parse_told(self, peer: str, note: bytes) -> SignedCheckpoint | None:
        """The checkpoint that a peer told us of our log, with our own signature alone; None where it holds nothing of ours.

        Raises:
            MalformedError: the note is not a checkpoint of our log.
            SignatureError: our log key did not sign it.
        """
        if not note:
            return None
        alliance = self._alliance()
        if alliance is None:
            raise MalformedError("no alliance was joined yet")
        try:
            signed = parse_checkpoint(note)
        except FormatError as error:
            raise MalformedError(f"{peer} told a checkpoint of our log that is none: {error.message}") from error
        card = alliance.card(self._member)
        if revoked_at(card, signed) is not None or self._lost_to_head(signed):
            # Its key was revoked before, or another history survives: what it was made of says nothing about this home.
            log = self._log()
            is_ours = signed.size <= log.signed_size and self._root_at(log, signed.size) == signed.root
            return signed if is_ours else None
        key = card.log_key_at(signed.size, signed.root)
        verify_checkpoint(signed, key)
        return signed.signed_by(key)

    def _find_shown(self) -> tuple[ShownCard, Card] | None:
        """A card that somebody has shown and that is not taken, and the one that is held; None for none."""
        alliance = self._alliance()
        if alliance is None or self._member not in alliance.cards:
            return None
        others = alliance.other_members(self._member)
        shown = next((item for item in self._unheld_cards() if not item.teller or item.teller in others), None)
        return None if shown is None else (shown, alliance.card(self._member))

    @property
    def _is_known_behind(self) -> bool:
        """Whether peers or cards prove that more, or something else, is signed than what stands here."""
        return bool(self._ahead) or self.conflict is not None or self.outdated is not None

    @property
    def _enough_told(self) -> bool:
        return len(self._told) >= self.needed and self._awaited <= self._told.keys()

    def _forget_former_peers(self) -> None:
        """What a peer told counts while it is a member: one that was removed can be asked for nothing any more."""
        alliance = self._alliance()
        if alliance is None:
            return
        others = alliance.other_members(self._member)
        told: tuple[dict[str, Any], ...] = (self._told, self._ahead, self._contradicting)
        self._awaited.intersection_update(others)
        for peer in set[str]().union(*told).difference(others):
            for said in told:
                said.pop(peer, None)

    def _forget_decided(self) -> None:
        """Contradictions that the roster has decided for the history held here are no more."""
        for peer in [peer for peer, signed in self._contradicting.items() if self._lost_to_head(signed)]:
            del self._contradicting[peer]

    def _lost_to_head(self, signed: SignedCheckpoint) -> bool:
        """Whether a checkpoint is of a history that the roster gave up, in favour of the one that is signed here."""
        head = self._surviving_head()
        if head is None or signed.size > head.size:  # one beyond may lie behind the named head
            return False
        return self._root_at(self._log(), signed.size) != signed.root

    def _surviving_head(self) -> Head | None:
        """The head that the roster names for the own log, where it is signed here."""
        alliance, log = self._alliance(), self._log()
        line = None if alliance is None else alliance.roster.members.get(self._member)
        head = None if line is None else line.head
        if head is None or head.size > log.signed_size or self._root_at(log, head.size) != head.root:
            return None
        return head

    def _notice_jump(self) -> None:
        if self._watch is None or not self._watch.has_jumped() or self.needed == 0:
            return
        logger.warning("event=clock_jumped member=%s", self._member)
        self._known_size = 0
        # What was signed since this machine was frozen may have to give way after all.
        signed_size = self._log().signed_size
        self._contradicting = {peer: told for peer, told in self._contradicting.items() if told.size <= signed_size}
        self._ask_again()

    def _ask_again(self) -> None:
        self._told.clear()
        self._overridden = self._kept = False
        self._doubted = True
        self._on_doubt()

    def _root_at(self, log: LogState, size: int) -> bytes:
        held = self._store.checkpoints.find(log.id, size)
        return held.root if held is not None else self._store.logs.tree(log.id).root(size)
