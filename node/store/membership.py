"""What is remembered of the alliance: whose home this is, rosters, and cards."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from node.core.alliance import Alliance, format_card, format_roster
from node.core.dsse import parse_envelope
from node.errors import GovernanceError, HomeError, StoreError
from node.store.database import Database
from node.store.glance import assemble_alliance
from node.store.tables import CardRow, LogRow, NodeRow, RosterRow, SignedRosterRow, table_of

logger = logging.getLogger(__name__)

_NODE, _ROSTER, _CARD = table_of(NodeRow), table_of(RosterRow), table_of(CardRow)
_SIGNED, _LOG = table_of(SignedRosterRow), table_of(LogRow)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Whose home this is; `fingerprint` is the pinned one, None before the alliance is joined."""

    member: str
    alliance: str
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class SignedVersion:
    """A roster version that this home's identity key has signed; `proposal` is the file that carries the signature."""

    version: int
    hash: str
    proposal: bytes


class MembershipStore:
    """Rosters, cards and the node's identity. Only verified values come in."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def save_identity(self, member: str, alliance: str, *, created_ms: int) -> None:
        """Write the one node row of a new home."""
        with self._database.write() as connection:
            connection.execute(insert(_NODE), {"id": 1, "member": member, "alliance": alliance, "created_ms": created_ms})

    def load_identity(self) -> NodeIdentity:
        """The node row.

        Raises:
            HomeError: the database has none.
        """
        with self._database.read() as connection:
            row = connection.execute(select(_NODE)).one_or_none()
        if row is None:
            raise HomeError("the database does not say whose home this is", hint="remove the home and init again")
        return NodeIdentity(row.member, row.alliance, row.fingerprint)

    def load_alliance(self) -> Alliance | None:
        """The alliance, verified again from version 1; None before it is joined."""
        with self._database.read() as connection:
            rosters = connection.execute(select(_ROSTER.c.envelope).order_by(_ROSTER.c.version)).scalars().all()
            cards = connection.execute(select(_CARD.c.envelope).order_by(_CARD.c.member, _CARD.c.seq)).scalars().all()
        return assemble_alliance(rosters, cards, self.load_identity().fingerprint) if rosters else None

    def load_own_card(self, member: str) -> bytes | None:
        """The newest card of this home's member, which exists before any alliance is joined."""
        with self._database.read() as connection:
            statement = select(_CARD.c.envelope).where(_CARD.c.member == member).order_by(_CARD.c.seq.desc()).limit(1)
            envelope: bytes | None = connection.execute(statement).scalar()
        return envelope

    def save_alliance(self, alliance: Alliance, *, pin: str | None = None, signed: SignedVersion | None = None) -> None:
        """Write rosters and cards that are not there yet, in one transaction.

        Args:
            alliance: the verified alliance.
            pin: the fingerprint that a person compared.
            signed: what this home signed of it.

        Raises:
            GovernanceError: this home has signed another roster of that version.
            StoreError: another roster of a version is stored, or the database refused.
        """
        with self._database.write() as connection:
            if signed is not None:
                _claim(connection, signed)
            if pin is not None:
                connection.execute(update(_NODE).values(fingerprint=pin))
            held = {row.version: row.hash for row in connection.execute(select(_ROSTER.c.version, _ROSTER.c.hash))}
            for envelope, roster in alliance.rosters:
                if held.get(roster.version, envelope.hash) != envelope.hash:
                    raise StoreError(f"another roster of version {roster.version} is stored already")
            rows = [
                {"version": roster.version, "hash": envelope.hash, "envelope": format_roster((envelope, roster))}
                for envelope, roster in alliance.rosters
                if roster.version not in held
            ]
            if rows:
                connection.execute(insert(_ROSTER), rows)
            _save_cuts(connection, alliance)
            have = set(connection.execute(select(_CARD.c.hash)).scalars())
            self._insert_cards(
                connection,
                (
                    (envelope.hash, card.member, card.seq, format_card((envelope, card)))
                    for envelope, card in alliance.cards.values()
                    if envelope.hash not in have
                ),
            )

    def save_cuts(self, alliance: Alliance) -> None:
        """Write where the roster ends the logs of removed members; a home made by an older version does not know it."""
        with self._database.write() as connection:
            _save_cuts(connection, alliance)

    def save_signed(self, signed: SignedVersion) -> None:
        """Write what this home signs, before the signature leaves the process; the same again brings newer signatures.

        Raises:
            GovernanceError: this home has signed another roster of that version.
        """
        with self._database.write() as connection:
            _claim(connection, signed)

    def require_unsigned(self, version: int, roster_hash: str) -> None:
        """Refuse a roster of a version of which this home has signed another one.

        Raises:
            GovernanceError: it has.
        """
        with self._database.read() as connection:
            _require_unsigned(connection, version, roster_hash)

    def load_signed(self, version: int) -> SignedVersion | None:
        """What this home has signed of one roster version."""
        with self._database.read() as connection:
            row = connection.execute(select(_SIGNED).where(_SIGNED.c.version == version)).one_or_none()
        return None if row is None else SignedVersion(row.version, row.hash, row.proposal)

    def save_card(self, member: str, seq: int, raw: bytes, payload_type: str) -> None:
        """Write one card, the own one, before or after the alliance is joined."""
        envelope, _ = parse_envelope(raw, payload_type)
        with self._database.write() as connection:
            self._insert_cards(connection, [(envelope.hash, member, seq, raw)])

    def _insert_cards(self, connection: Connection, cards: Iterable[tuple[str, str, int, bytes]]) -> None:
        """Write cards, each in the place of the member's others: only one counts.

        It need not have the largest `seq`: a card by a new identity key may follow one that its home had forgotten.
        """
        rows = list(cards)
        for _, member, _, _ in rows:
            connection.execute(delete(_CARD).where(_CARD.c.member == member))
        self._database.insert_rows(connection, _CARD, ("hash", "member", "seq", "envelope"), rows)


def _claim(connection: Connection, signed: SignedVersion) -> None:
    if _require_unsigned(connection, signed.version, signed.hash):
        connection.execute(update(_SIGNED).where(_SIGNED.c.version == signed.version).values(proposal=signed.proposal))
    else:
        row = {"version": signed.version, "hash": signed.hash, "proposal": signed.proposal}
        connection.execute(insert(_SIGNED), row)


def _require_unsigned(connection: Connection, version: int, roster_hash: str) -> bool:
    """Whether this very roster was signed here already; refuses where another of its version was."""
    held = connection.execute(select(_SIGNED.c.hash).where(_SIGNED.c.version == version)).scalar()
    if held is not None and held != roster_hash:
        raise GovernanceError(
            f"this home has signed another roster of version {version} already, and nobody signs two of one version",
            hint="see it: labmesh roster proposal; what you want instead, another council member can still propose",
        )
    return held is not None


def _save_cuts(connection: Connection, alliance: Alliance) -> None:
    """End the logs of removed members, but for this home's own: to its people their records stay what they were."""
    own = connection.execute(select(_NODE.c.member)).scalar()
    for member, entry in alliance.roster.members.items():
        if entry.cut is not None and member != own:
            connection.execute(update(_LOG).where(_LOG.c.member == member).values(cut_size=entry.cut.size))
