"""Rotate and revoke this member's keys: another key, a card that says so, and nothing signed by both at once."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.core.card import Card, FormerLogKey, FormerWitnessKey
from node.core.keys import Signer
from node.core.quorums import CLOCKS, quorums_over
from node.disowning import seen_size
from node.errors import GovernanceError, UserError
from node.identity import abandon_identity
from node.key_change import RotationParts, name_signer
from node.lost_keys import require_all_told, require_peers_optional
from node.store.logs import LogState
from node.tls_rotation import TLS_PATIENCE, TlsRotation

logger = logging.getLogger(__name__)

__all__ = ("ROLES", "TLS_PATIENCE", "KeyRotation", "RotationParts")

ROLES = ("log", "witness", "tls")

# By how much the end of a witness key can lie ahead of the clock, which may have been put back since the key signed.
WITNESS_AHEAD = timedelta(days=1)


class KeyRotation(TlsRotation):
    """Changes the keys of a running node. Any thread may call; one change at a time."""

    def rotate(self, role: str, *, without_peers: bool = False) -> Card:
        """Put a new key in the place of the current one; returns the card that says so.

        Args:
            role: `log`, `witness` or `tls`.
            without_peers: for `tls`, do not ask peers first whether this home is older than its newest card, because none
                can connect with the present key. Its card leaps, so that no `seq` is used twice. For a lost log key, do
                not wait for every peer to tell what it holds of the log.

        Raises:
            UserError: no such role.
            UnconfirmedError: this home may be older than what was published.
            GovernanceError: a rotation of the TLS key is under way, an identity key waits for the council, or the card has
                no room.
            HomeError: the keys on disk and the card do not fit together.
        """
        with self._lock:
            self._require_settled_identity()
            lost = self._find_lost()
            if without_peers:
                require_peers_optional(role, lost, retry=f"labmesh keys rotate {role}")
            if role == "log":
                return self._replace_log_key(None, wait="log" in lost and not without_peers)
            if role == "witness":
                return self._replace_witness_key()
            if role == "tls":
                return self._rotate_tls(without_peers)
        raise UserError(f"there is no {role!r} key that can be rotated", hint=f"the roles are {', '.join(ROLES)}")

    def revoke_log(self, size: int, *, without_peers: bool = False) -> Card:
        """Retire the log key at an earlier size, beyond which it counts no more; returns the card that says so.

        What it signed beyond is signed again by the new key, with the same sizes and roots.

        With `without_peers`, where the key is lost, not every peer is waited for to tell what it holds of the log.

        Raises:
            GovernanceError: others have, or may have, seen more, another size is due, or an identity key waits.
            UnconfirmedError: this home may be older than what was published, or than what a peer holds.
            UserError: `without_peers`, and the key is not lost.
        """
        with self._lock:
            self._require_settled_identity()
            lost = self._find_lost()
            if without_peers:
                require_peers_optional("log", lost, retry=f"labmesh keys revoke log --size {size}")
            return self._replace_log_key(size, wait="log" in lost and not without_peers)

    def abandon_identity(self) -> None:
        """Give up the new identity key that waits for the council. No roster that names it can come in between.

        Raises:
            GovernanceError: none waits, the roster names it already, or there is no other.
            HomeError: the waiting key cannot be opened.
        """
        membership, files = self._parts.membership, self._parts.files
        with self._lock:
            membership.while_unchanged(lambda alliance: abandon_identity(files, membership.member, alliance))
        logger.warning("event=identity_key_abandoned")

    def lost_roles(self) -> list[str]:
        """The roles whose key in the own card this home does not hold."""
        if not self._find_lost():
            return []
        with self._lock:  # a change under way saves the card before this process signs with the key that it names
            return self._find_lost()

    def renew_checkpoints(self) -> bool:
        """Sign again what a revoked key had signed, if a crash came in between; returns whether there was anything."""
        card, head = self._parts.membership.own_card[1], self._parts.ledger.log.head
        if head is None or not card.former_log_keys:
            return False
        above = card.former_log_keys[-1].size
        if head.size <= above or head.note.signatures_of(card.log_key) or self._parts.ledger.log_key != card.log_key:
            return False
        self._parts.ledger.renew_checkpoints(above)
        return True

    def _replace_log_key(self, size: int | None, *, wait: bool) -> Card:
        """Rotate the key, or end it at a size; a lost one with `wait` once every peer has told what it holds."""
        if size is None or not self._parts.confirmation.may_revoke:
            self._require_confirmed()
        if wait:
            require_all_told(self._parts.membership, self._parts.confirmation, size)
        key, cards = Ed25519PrivateKey.generate(), list[Card]()
        signer = name_signer(key, self._parts.membership.own_card[1].log_key)
        self._prepare("log", key)

        def retire(log: LogState) -> tuple[Signer, int]:
            former = self._former_log_key(log, size)
            cards.append(
                self._issue("log", lambda card: replace(
                    card, log_key=signer.key, former_log_keys=(*card.former_log_keys, former)
                ))
            )  # fmt: skip
            return signer, former.size

        try:
            self._parts.ledger.change_key(retire)
        except BaseException:
            self._settle()
            raise
        self._parts.confirmation.reconsider()  # a thief's history is in nobody's way any more
        self._parts.ledger.sign_head()
        self._parts.exchange.forget_note(signer.key.name)
        former = cards[0].former_log_keys[-1]
        logger.warning("event=log_key_changed seq=%d retired_at=%d", cards[0].seq, former.size)
        return cards[0]

    def _former_log_key(self, log: LogState, size: int | None) -> FormerLogKey:
        card, store = self._parts.membership.own_card[1], self._parts.store
        # What is not signed yet, if anything, is signed with the new key.
        at = log.signed_size if size is None else size
        if size is None and card.former_log_keys and at < card.former_log_keys[-1].size:
            raise GovernanceError(
                f"the card ends a former log key at size {card.former_log_keys[-1].size}, and this home holds only {at} "
                "signed entries: the log cannot go on without the others",
                hint="let the peers connect that hold them (labmesh peers), or restore a newer backup",
            )
        self._require_good(card, log, at)
        return FormerLogKey(card.log_key, at, store.logs.tree(log.id).root(at))

    def _require_good(self, card: Card, log: LogState, size: int) -> None:
        """Refuse to end the key where others would refuse the card."""
        alliance = self._parts.membership.alliance
        seen = seen_size(self._parts.store, alliance, card.member, log)
        since = card.former_log_keys[-1].size if card.former_log_keys else 0
        if size > log.signed_size:
            raise GovernanceError(
                f"the log is signed up to size {log.signed_size}, so no key can be retired at size {size}",
                hint=f"at most: labmesh keys revoke log --size {log.signed_size}; if nobody else may hold the key: "
                "labmesh keys rotate log",
            )
        if size < seen:
            raise GovernanceError(
                f"a quorum of the other members has cosigned the log up to size {seen}: what they have seen stays signed",
                hint=f"name that size or a larger one: labmesh keys revoke log --size {seen}",
            )
        if size < (held := self._held_size(log, size)):
            raise GovernanceError(
                f"the other members hold the log up to size {held} and may have cosigned it, which has not reached this "
                "node yet: they could refuse the card",
                hint=f"the smallest size that can be named: labmesh keys revoke log --size {max(held, since)}",
            )
        if size < since:
            raise GovernanceError(
                f"the current log key has been in use since size {since} only",
                hint=f"name that size or a larger one: labmesh keys revoke log --size {since}",
            )

    def _held_size(self, log: LogState, size: int) -> int:
        """The largest size that a quorum of the others may have cosigned, as far as they said what they hold.

        By the newest roster, or by an earlier one whose quorum still counted when the log first grew beyond `size`.
        """
        membership, checkpoints = self._parts.membership, self._parts.store.checkpoints
        if membership.alliance is None:
            return 0
        others = membership.alliance.other_members(membership.member)
        told, cosigned = self._parts.confirmation.told_sizes(), checkpoints.largest_cosigned(log.id, others)
        since_s = checkpoints.first_made_ms(log.id, beyond=size) // 1000 - int(CLOCKS.total_seconds())
        held = 0
        for rule in quorums_over(membership.alliance, membership.member):
            sizes = [max(told.get(peer, 0), cosigned.get(peer, 0)) for peer in others if peer in rule.witnesses]
            if 0 < rule.count <= len(sizes) and (rule.until_s is None or since_s < rule.until_s):
                held = max(held, sorted(sizes, reverse=True)[rule.count - 1])
        return min(held, log.signed_size)

    def _replace_witness_key(self) -> Card:
        self._require_confirmed()
        key, cards = Ed25519PrivateKey.generate(), list[Card]()
        signer = name_signer(key, self._parts.membership.own_card[1].witness_key)
        self._prepare("witness", key)

        def retire() -> Signer:
            until = self._end_of_witness(self._parts.membership.own_card[1])

            def change(card: Card) -> Card:
                former = (*card.former_witness_keys, FormerWitnessKey(card.witness_key, until))
                return replace(card, witness_key=signer.key, former_witness_keys=former)

            cards.append(self._issue("witness", change))
            return signer

        self._parts.exchange.change_witness(retire)
        logger.warning("event=witness_key_changed seq=%d", cards[0].seq)
        return cards[0]

    def _end_of_witness(self, card: Card) -> datetime:
        """The second up to which the witness key counts: now, or where the clock was ahead, the last one that it signed.

        Otherwise the rotation would take back what this node has cosigned meanwhile. But a former key's end is never taken
        back: one far ahead would leave a stolen key good until then. So what it signed for later than a day from now is
        disowned, and forgotten with the change of the card.
        """
        now = self._parts.clock().replace(microsecond=0)
        newest_time, limit_s = self._parts.store.checkpoints.newest_cosigned_time, int((now + WITNESS_AHEAD).timestamp())
        signed_s = newest_time(card.member, card.witness_key, until_s=limit_s)
        if (latest_s := newest_time(card.member, card.witness_key)) > limit_s:
            logger.warning("event=cosignatures_disowned latest=%s", datetime.fromtimestamp(latest_s, UTC).isoformat())
        return max(now, datetime.fromtimestamp(signed_s, UTC))
