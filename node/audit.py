"""Collect a bundle: everything an auditor needs for one record, from what this node holds."""

from __future__ import annotations

from node.core.alliance import Alliance, SignedRoster
from node.core.bundle import Bundle
from node.core.checkpoint import SignedCheckpoint
from node.core.dsse import format_envelope
from node.core.names import RecordId
from node.core.proof import TlogProof, format_tlog_proof
from node.core.succession import SignedCard, vouched_size
from node.core.witness import accept_cosignatures, each_key_once, retirements
from node.errors import NotFoundError, UnconfirmedError
from node.store import Store
from node.store.logs import LogState
from node.store.records import StoredRecord
from node.store.tables import STATUS_QUARANTINED

WAIT_FOR_PEERS = "wait until enough peers are connected (labmesh status), or take the risk: labmesh confirm"


def build_bundle(
    store: Store, alliance: Alliance, record_id: RecordId, *, member: str, ceiling: int, remedy: str = WAIT_FOR_PEERS
) -> Bundle:
    """Collect the bundle of one record, the own or a peer's.

    Args:
        store: what this node holds.
        alliance: the current alliance.
        record_id: the record; without a revision the newest.
        member: the member whose node this is.
        ceiling: the largest size of the own log that may be published.
        remedy: what to type so that more of it may be (`Confirmation.remedy`).

    Raises:
        NotFoundError: no such record is readable here.
        UnconfirmedError: the record lies beyond what may be published.
    """
    stored = _find_provable(store, record_id)
    log = store.logs.load_log(stored.log_id)
    size = min(log.head_size, ceiling) if stored.author == member else log.head_size
    newest = _find_covering(store, alliance, log, stored.index, size)
    if newest is None:
        raise UnconfirmedError(
            f"too few peers have said what they hold of this log, so entry {stored.index} cannot be published yet",
            hint=remedy,
        )
    first = _find_first_seen(store, alliance, stored, newest)
    kept = [_counting_only(alliance, stored.author, signed) for signed in (newest, first) if signed is not None]
    names = {stored.author}.union(*(_cosigners(alliance, stored.author, signed) for signed in kept))
    proofs = [_build_proof(store, stored, signed) for signed in kept]
    return Bundle(
        record=stored.record,
        proof=proofs[0],
        rosters=tuple(_pack_roster(alliance, signed) for signed in alliance.rosters),
        cards={name: _pack_card(alliance.cards[name]) for name in sorted(names)},
        first_proof=proofs[1] if len(proofs) > 1 else None,
    )


def _find_provable(store: Store, record_id: RecordId) -> StoredRecord:
    """The record: refuses where it is not readable here."""
    stored = store.records.find(record_id)
    if stored is None and (erased := store.erasures.find(record_id)) is not None:
        raise NotFoundError(f"{erased.sentence()}; what is erased cannot be proved", hint=f"type: labmesh show {record_id}")
    if stored is None or stored.status == STATUS_QUARANTINED:
        raise NotFoundError(f"there is no record {record_id} that this node can prove", hint="type: labmesh list")
    return stored


def _find_covering(store: Store, alliance: Alliance, log: LogState, index: int, size: int) -> SignedCheckpoint | None:
    """The newest checkpoint up to `size` that counts and covers an entry; None where none may be published."""
    newest = _choose_newest(store, alliance, log, min(size, _require_counted(store, alliance, log, index)))
    if newest is None or newest.size <= index:
        # No checkpoint held here ends between the entry and the cut: a later one proves the entry as well.
        newest = _choose_newest(store, alliance, log, size)
    return None if newest is None or newest.size <= index else newest


def _find_first_seen(
    store: Store, alliance: Alliance, stored: StoredRecord, newest: SignedCheckpoint
) -> SignedCheckpoint | None:
    """The smallest checkpoint, up to the newest, that covers the record, that a quorum has cosigned, and that counts."""
    size = store.checkpoints.find_quorum_size(
        stored.log_id,
        index=stored.index,
        quorum=alliance.roster.quorum,
        witnesses=alliance.other_members(stored.author),
        retired=retirements(alliance),
    )
    first = store.checkpoints.find(stored.log_id, size) if size and size <= newest.size else None
    return None if first is None or vouched_size(alliance.card(stored.author), first) is not None else first


def _require_counted(store: Store, alliance: Alliance, log: LogState, index: int) -> int:
    """How many entries of a log count: refuses where that is not the history held here, or the entry lies beyond."""
    line, counted = alliance.roster.members[log.member], alliance.counted_size(log.member, log.head_size)
    hint = "type: labmesh roster show"
    tree, head = store.logs.tree(log.id), line.head
    if head is not None and head.size <= log.signed_size and tree.root(head.size) != head.root:
        raise NotFoundError(f"the roster names another history of the log of {log.member} than is held here", hint=hint)
    if index >= counted:
        problem = f"the roster ends the log of {log.member} at size {counted}; nobody accepts a proof of entry {index}"
        raise NotFoundError(problem, hint=hint)
    return counted


def _choose_newest(store: Store, alliance: Alliance, log: LogState, size: int) -> SignedCheckpoint | None:
    """The newest checkpoint up to `size` that a key of the author vouches for today."""
    newest = store.checkpoints.choose(log.id, start=0, entries_max=size, ceiling=size)
    vouched = None if newest is None else vouched_size(alliance.card(log.member), newest)
    if vouched is None:
        return newest
    return store.checkpoints.choose(log.id, start=0, entries_max=vouched, ceiling=vouched)


def _pack_roster(alliance: Alliance, signed: SignedRoster) -> bytes:
    """The roster's envelope without signatures that nobody could check: others may have added any."""
    return format_envelope(signed[0].with_only(alliance.signers_of(signed[1])))


def _pack_card(signed: SignedCard) -> bytes:
    return format_envelope(signed[0].with_only([signed[1].identity_key]))


def _counting_only(alliance: Alliance, author: str, signed: SignedCheckpoint) -> SignedCheckpoint:
    """The checkpoint with the author's signature and only those cosignatures that count today."""
    key = alliance.card(author).log_key_at(signed.size, signed.root)
    cosignatures = each_key_once(alliance, accept_cosignatures(alliance, author, signed))
    return signed.signed_by(key).with_lines(tuple(item.line for item in cosignatures.values()))


def _cosigners(alliance: Alliance, author: str, signed: SignedCheckpoint) -> set[str]:
    return set(accept_cosignatures(alliance, author, signed))


def _build_proof(store: Store, stored: StoredRecord, signed: SignedCheckpoint) -> bytes:
    path = store.logs.tree(stored.log_id).inclusion(stored.index, signed.size)
    proof = TlogProof(stored.index, tuple(path), bytes(signed).decode(), extra=stored.salt)
    return format_tlog_proof(proof).encode()
