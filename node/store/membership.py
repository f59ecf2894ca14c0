"""What is remembered of the alliance: whose home this is, rosters, and cards."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Select, Table, delete, insert, select, update

from node.core.alliance import Alliance, format_card, format_roster
from node.core.dsse import parse_envelope
from node.core.proposal import parse_proposal
from node.core.roster import Roster, parse_roster
from node.errors import GovernanceError, HomeError, StoreError
from node.store.database import Database
from node.store.glance import assemble_alliance
from node.store.tables import CardRow, LogRow, NodeRow, RefusedRosterRow, RosterRow, SignedRosterRow, table_of

logger = logging.getLogger(__name__)

_NODE, _ROSTER, _CARD = table_of(NodeRow), table_of(RosterRow), table_of(CardRow)
_SIGNED, _REFUSED, _LOG = table_of(SignedRosterRow), table_of(RefusedRosterRow), table_of(LogRow)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Whose home this is; `fingerprint` is the pinned one, None before the alliance is joined."""

    member: str
    alliance: str
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class SignedVersion:
    """A roster that this home's identity key has signed or refused; `proposal` is the file that carries the signature."""

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

    def save_refused(self, refused: SignedVersion) -> None:
        """Write what this home refuses, before the refusal leaves the process; the same again brings a newer file.

        Raises:
            GovernanceError: this home has signed it.
        """
        with self._database.write() as connection:
            if connection.execute(_matching(_SIGNED, refused)).first() is not None:
                raise GovernanceError(
                    f"this home has signed this roster of version {refused.version}, so it cannot say that it never will",
                    hint="type: labmesh roster proposal",
                )
            _replace(connection, _REFUSED, refused)

    def save_released(self, released: SignedVersion) -> None:
        """Write that what this home signed can never come into force, so that it may sign another one of that version."""
        with self._database.write() as connection:
            _replace(connection, _SIGNED, released, released=True)

    def has_signed(self, version: int, roster_hash: str) -> bool:
        """Whether this home has signed this roster, also one that can never come into force."""
        with self._database.read() as connection:
            return connection.execute(_matching(_SIGNED, SignedVersion(version, roster_hash, b""))).first() is not None

    def require_unsigned(self, version: int, roster_hash: str) -> None:
        """Refuse a roster that this home may not sign, as `save_signed` does.

        Raises:
            GovernanceError: it has refused it, or signed another one of its version.
        """
        with self._database.read() as connection:
            _require_free(connection, version, roster_hash)

    def load_signed(self, version: int) -> SignedVersion | None:
        """What this home has signed of one roster version, and what may still come into force or is."""
        with self._database.read() as connection:
            row = connection.execute(
                select(_SIGNED).where(_SIGNED.c.version == version, _SIGNED.c.released.is_(False))
            ).one_or_none()
        return None if row is None else SignedVersion(row.version, row.hash, row.proposal)

    def load_open_roster(self, version: int) -> Roster | None:
        """The roster in `load_signed`."""
        signed = self.load_signed(version)
        return None if signed is None else parse_roster(parse_proposal(signed.proposal).roster)[1]

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
    _require_free(connection, signed.version, signed.hash)
    _replace(connection, _SIGNED, signed, released=False)


def _require_free(connection: Connection, version: int, roster_hash: str) -> None:
    wanted = SignedVersion(version, roster_hash, b"")
    if connection.execute(_matching(_REFUSED, wanted)).first() is not None:
        raise GovernanceError(
            f"this home has refused this roster of version {version}, and never signs it",
            hint="propose the change again: labmesh roster --help",
        )
    for held in connection.execute(select(_SIGNED.c.hash, _SIGNED.c.released).where(_SIGNED.c.version == version)):
        if held.released and held.hash == roster_hash:
            raise GovernanceError(
                f"so many have refused this roster of version {version} that it can never be in force",
                hint="propose the change again: labmesh roster --help",
            )
        if not held.released and held.hash != roster_hash:
            raise GovernanceError(
                f"this home has signed another roster of version {version} already ({held.hash[:12]}…), and does not sign "
                f"this one ({roster_hash[:12]}…) while that one can come into force",
                hint="see it: labmesh roster proposal; those who have not signed it can end it: labmesh roster refuse FILE",
            )


def _replace(connection: Connection, table: Table, statement: SignedVersion, **more: bool) -> None:
    connection.execute(delete(table).where(table.c.version == statement.version, table.c.hash == statement.hash))
    row = {"version": statement.version, "hash": statement.hash, "proposal": statement.proposal, **more}
    connection.execute(insert(table), row)


def _matching(table: Table, statement: SignedVersion) -> Select[tuple[str]]:
    return select(table.c.hash).where(table.c.version == statement.version, table.c.hash == statement.hash)


def _save_cuts(connection: Connection, alliance: Alliance) -> None:
    """End the logs of removed members, but for this home's own: to its people their records stay what they were."""
    own = connection.execute(select(_NODE.c.member)).scalar()
    for member, entry in alliance.roster.members.items():
        if entry.cut is not None and member != own:
            connection.execute(update(_LOG).where(_LOG.c.member == member).values(cut_size=entry.cut.size))
