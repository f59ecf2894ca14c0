"""Held checkpoints and the cosignatures on them: form, root, and who signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node.core.card import Card
from node.core.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint, verify_cosignature
from node.core.keys import VerifierKey
from node.core.names import witness_name
from node.core.note import SignatureLine, parse_note
from node.core.succession import revoked_at
from node.errors import LabmeshError, SignatureError
from node.inspection.alliance import KnownKeys
from node.inspection.report import Check
from node.store.inspection import AnyRow, RawLog


class CheckpointInspection:
    """Judges checkpoint rows once the roots at their sizes have been recomputed."""

    def __init__(self, log: RawLog, known: KnownKeys, *, own: bool) -> None:
        """Begin with nothing looked at."""
        self._log, self._known, self._own = log, known, own
        self.unvouched: int | None = None
        self._card = known.cards[log.member][-1] if log.member in known.cards else None
        self.checkpoints, self.signatures, self.cosignatures = (
            Check("checkpoints"),
            Check("signatures"),
            Check("cosignatures"),
        )

    @property
    def checks(self) -> list[Check]:
        """The three checks."""
        return [self.checkpoints, self.signatures, self.cosignatures]

    def inspect(self, rows: Sequence[AnyRow], cosigned: Sequence[AnyRow], roots: Mapping[int, bytes]) -> None:
        """Checkpoint rows with their cosignature rows; `roots` are those that the entries give."""
        held: dict[int, Checkpoint] = {}
        for row in rows:
            if (checkpoint := self.inspect_note(row.note, row.size, roots.get(row.size, b""))) is not None:
                held[row.size] = checkpoint
        present = {row.size for row in rows}
        for row in cosigned:
            self.cosignatures.count += 1
            if row.size not in present:
                self.cosignatures.fault(f"{row.witness} cosigned size {row.size}, but that checkpoint is missing")
            elif row.size in held:
                self._inspect_cosignature(row, held[row.size])

    def inspect_note(self, note: bytes, size: int, root: bytes) -> Checkpoint | None:
        """One note that must be the author's checkpoint of this size and root; None when it cannot be read.

        Where its key was revoked before it, `unvouched` is the size of the revocation; else None.
        """
        self.checkpoints.count += 1
        self.unvouched = None
        try:
            signed = parse_checkpoint(note)
        except LabmeshError as error:
            self.checkpoints.fault(f"the checkpoint of size {size}: {error.message}")
            return None
        if (signed.origin, signed.size) != (self._log.origin, size):
            self.checkpoints.fault(f"the row of size {size} holds a checkpoint of {signed.origin}, size {signed.size}")
        elif signed.root != root:
            self.checkpoints.fault(f"the entries do not give the root that was signed for size {size}")
        self.signatures.count += 1
        if self._card is None:
            self.signatures.fault(f"size {size}: there is no valid card of {self._log.member} to check it by")
            return signed.checkpoint
        try:
            verify_checkpoint(signed, self._card.log_key_at(signed.size, signed.root))
        except LabmeshError as error:
            # A mirror keeps what it had verified until the new key has signed it, and proves nothing with it.
            self.unvouched = None if self._own or signed.root != root else revoked_at(self._card, signed)
            if self.unvouched is None:
                self.signatures.fault(f"size {size}: {error.message}")
            else:
                self.signatures.remark = f"size {size}: the log key was revoked at size {self.unvouched}"
        return signed.checkpoint

    def _inspect_cosignature(self, row: AnyRow, checkpoint: Checkpoint) -> None:
        where = f"of {row.witness} on size {row.size}"
        try:
            (line,) = parse_note(f"x\n\n{row.line}\n".encode()).signatures
            cosignature = verify_cosignature(checkpoint, line, self._witness_key(row.witness, line))
        except LabmeshError as error:
            self.cosignatures.fault(f"the cosignature {where}: {error.message}")
            return
        if cosignature.time != row.time:
            self.cosignatures.fault(f"the cosignature {where} says another time than its row")

    def _witness_key(self, member: str, line: SignatureLine) -> VerifierKey:
        cards: list[Card] = self._known.cards.get(member, [])
        for card in cards:
            for key in card.witness_keys():
                if key.key_id == line.key_id and line.name == witness_name(card.alliance, member):
                    return key
        raise SignatureError(f"no card of {member} that is held here names this witness key")
