"""What is remembered of the alliance: whose home this is, rosters, and cards."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from node.core.alliance import Alliance, format_card, format_roster
from node.core.dsse import parse_envelope
from node.core.proposal import parse_proposal
from node.core.roster import Roster, parse_roster
from node.errors import GovernanceError, HomeError, StoreError
from node.store.database import Database
from node.store.glance import assemble_alliance
from node.store.seen import raise_marks
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
    """A roster that this home's identity key has signed; `proposal` is the file that carries the signature."""

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

    def load_cards(self, member: str) -> list[bytes]:
        """Every stored card of a member, also those that count no longer, the oldest first."""
        with self._database.read() as connection:
            statement = select(_CARD.c.envelope).where(_CARD.c.member == member).order_by(_CARD.c.seq)
            return list(connection.execute(statement).scalars())

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
                if held:  # what was seen by the rosters until now stays seen
                    raise_marks(connection, alliance)
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

        Of one version there is one roster, and another one only after `save_withdrawn`.

        Raises:
            GovernanceError: this home has signed another roster of that version.
        """
        with self._database.write() as connection:
            _claim(connection, signed)

    def save_withdrawn(self, signed: SignedVersion) -> None:
        """Write that this home has given up what it signed; the row stays."""
        with self._database.write() as connection:
            statement = update(_SIGNED).where(_SIGNED.c.version == signed.version, _SIGNED.c.hash == signed.hash)
            connection.execute(statement.values(released=True))

    def require_unsigned(self, version: int, roster_hash: str) -> None:
        """Refuse a roster that this home may not sign, as `save_signed` does.

        Raises:
            GovernanceError: it has signed another one of that version, and not withdrawn it; or withdrawn this one, and
                signed another one since.
        """
        with self._database.read() as connection:
            _require_unsigned(connection, version, roster_hash)

    def load_signed(self, version: int) -> SignedVersion | None:
        """What this home has signed of one roster version, and has not withdrawn."""
        signed = self._load_signed(version, released=False)
        return signed[0] if signed else None

    def load_withdrawn(self, version: int) -> list[SignedVersion]:
        """What this home has signed of one roster version and then withdrawn, in that order."""
        return self._load_signed(version, released=True)

    def is_withdrawn(self, version: int, roster_hash: str) -> bool:
        """Whether this home has withdrawn this roster, and not signed it again."""
        return any(signed.hash == roster_hash for signed in self.load_withdrawn(version))

    def _load_signed(self, version: int, *, released: bool) -> list[SignedVersion]:
        wanted = select(_SIGNED).where(_SIGNED.c.version == version, _SIGNED.c.released.is_(released))
        with self._database.read() as connection:
            rows = connection.execute(wanted.order_by(_SIGNED.c.turn)).all()
        return [SignedVersion(row.version, row.hash, row.proposal) for row in rows]

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
    held = _require_unsigned(connection, signed.version, signed.hash)
    if signed.hash in held:
        statement = update(_SIGNED).where(_SIGNED.c.version == signed.version, _SIGNED.c.hash == signed.hash)
        connection.execute(statement.values(proposal=signed.proposal, released=False))
    else:
        row = {"version": signed.version, "hash": signed.hash, "proposal": signed.proposal}
        connection.execute(insert(_SIGNED), {**row, "turn": len(held), "released": False})


def _require_unsigned(connection: Connection, version: int, roster_hash: str) -> list[str]:
    """The rosters of that version that were signed here, in this order; refuses where this one may not be signed."""
    rows = connection.execute(select(_SIGNED).where(_SIGNED.c.version == version).order_by(_SIGNED.c.turn)).all()
    for row in rows:
        if not row.released and row.hash != roster_hash:
            raise GovernanceError(
                f"this home has signed another roster of version {version} already ({row.hash[:12]}…), so it does not sign "
                f"this one ({roster_hash[:12]}…): nobody signs two of one version",
                hint="see it: labmesh roster proposal; once everybody has deleted its file: labmesh roster withdraw",
            )
    hashes = [row.hash for row in rows]
    if roster_hash in hashes[:-1]:
        raise GovernanceError(
            f"this home has withdrawn this roster of version {version}, and signed another one since",
            hint="propose the change again: labmesh roster --help",
        )
    return hashes


def _save_cuts(connection: Connection, alliance: Alliance) -> None:
    """End the logs of removed members, and of no others, but for this home's own: to its people they stay what they were."""
    own = connection.execute(select(_NODE.c.member)).scalar()
    for member, entry in alliance.roster.members.items():
        if member != own:
            size = None if entry.cut is None else entry.cut.size
            other = (_LOG.c.member == member) & _LOG.c.cut_size.is_distinct_from(size)
            connection.execute(update(_LOG).where(other).values(cut_size=size))
