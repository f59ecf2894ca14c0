"""Evidence at a contact: take what a peer can prove, tell what it lacks, and begin again with a history that survives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from node.core.card import Card
from node.errors import FormatError, PeerFaultError, SignatureError, VerificationError
from node.evidence import IDS_MAX, TOLD_AT_ONCE_MAX, EvidenceKeeper
from node.store import Store
from node.store.logs import LogState
from node.sync.exchange import CheckpointExchange
from node.sync.peer import Exchange, PeerClient
from node.sync.revoked import find_unvouched, forget_uncounted

logger = logging.getLogger(__name__)

JUDGED = frozenset({FormatError.reason, VerificationError.reason})


class EvidenceTalk:
    """What goes to and fro with one peer."""

    def __init__(self, keeper: EvidenceKeeper, member: str, on_alarm: Callable[[str, str, str], None]) -> None:
        """Talk with `member`; what it tells in vain raises an alarm."""
        self._keeper, self._member, self._on_alarm = keeper, member, on_alarm
        self._refused: set[str] = set()

    async def hear(self, answer: Exchange) -> None:
        """Note what the peer has, and what it has no more."""
        if answer.evidence_ids is not None:
            await asyncio.to_thread(self._keeper.note_held, self._member, answer.evidence_ids[:IDS_MAX])

    async def take(self, told: Sequence[bytes]) -> None:
        """Take what the peer can prove. What proves nothing is the peer's fault, and no reason to end the contact."""
        for raw in told[:TOLD_AT_ONCE_MAX]:
            try:
                await asyncio.to_thread(self._keeper.accept, raw, peer=self._member)
            except (FormatError, VerificationError) as error:
                explains = self._keeper.explains_refusal
                if isinstance(error, VerificationError) and await asyncio.to_thread(explains, raw, error):
                    logger.info("event=evidence_of_other_chain member=%s error=%r", self._member, error.message)
                    continue
                sentence = f"{self._member} told evidence that cannot be taken: {error.message}"
                self._on_alarm(self._member, f"EVIDENCE_{error.reason}", sentence)

    async def tell(self, client: PeerClient) -> None:
        """Tell what the peer lacks; what it has judged and refused is not told again before the next start."""
        for evidence_id, raw in await asyncio.to_thread(self._keeper.untold, self._member):
            if evidence_id in self._refused:
                continue
            try:
                if await client.report_evidence(raw):
                    await asyncio.to_thread(self._keeper.note_told, evidence_id, self._member)
            except PeerFaultError as error:  # a peer that is busy, say, has judged nothing
                if error.reason in JUDGED:
                    self._refused.add(evidence_id)
                logger.warning("event=evidence_refused member=%s id=%s error=%r", self._member, evidence_id, error.message)


def open_surviving(store: Store, exchange: CheckpointExchange, card: Card) -> LogState:
    """What is held of a member's log and counts: of the history that survives, under keys that its card vouches for.

    Raises:
        SignatureError: its card knows nothing of the key that signed what is held.
    """
    forget_uncounted(store, exchange, card)
    log = store.logs.open_log(card.origin, card.member)
    if sentence := find_unvouched(log, card):
        raise SignatureError(sentence)
    exchange.evidence.search_contradictions(log)
    return log
