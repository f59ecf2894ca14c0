"""The tables. One `position` orders every entry a node holds: the log's number in the upper bits, the index below.

What lies at or beyond a log's `head_size` is staged: it was received, but no signed checkpoint covers it yet, and no query
shows it. So making a page visible is one update of one row.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, text
from sqlmodel import Field, SQLModel

INDEX_BITS = 40
INDEX_MASK = (1 << INDEX_BITS) - 1

STATUS_VISIBLE = 0
STATUS_NOT_UNDERSTOOD = 1
STATUS_QUARANTINED = 2


def position_of(log_id: int, index: int) -> int:
    """The position of one entry (or, for the table `tile`, of one tile)."""
    return log_id << INDEX_BITS | index


def index_of(position: int) -> int:
    """The entry's index in its log."""
    return position & INDEX_MASK


class NodeRow(SQLModel, table=True):
    """Whose home this is: exactly one row."""

    __tablename__: ClassVar[Any] = "node"
    id: int = Field(default=1, primary_key=True)
    member: str
    alliance: str
    fingerprint: str | None = None
    created_ms: int = Field(sa_type=BigInteger)


class RosterRow(SQLModel, table=True):
    """Every roster version, as signed."""

    __tablename__: ClassVar[Any] = "roster"
    version: int = Field(primary_key=True)
    hash: str
    envelope: bytes


class CardRow(SQLModel, table=True):
    """Every card this node has accepted, as signed; the newest of a member counts."""

    __tablename__: ClassVar[Any] = "card"
    hash: str = Field(primary_key=True)
    member: str
    seq: int
    envelope: bytes


class LogRow(SQLModel, table=True):
    """One log, the own or a mirrored one: the verified head, and the tree over what is staged beyond it.

    `cut_size` is where the roster ends the log of a removed member: entries from there on do not count, verified or not.
    `seen_size` is what a quorum had cosigned when a roster was replaced, whoever counts today (`store.seen`).
    """

    __tablename__: ClassVar[Any] = "log"
    id: int | None = Field(default=None, primary_key=True)
    origin: str = Field(unique=True)
    member: str
    head_size: int = Field(default=0, sa_type=BigInteger)
    head_note: bytes = b""
    head_frontier: bytes = b""
    head_ms: int = Field(default=0, sa_type=BigInteger)
    staged_size: int = Field(default=0, sa_type=BigInteger)
    staged_frontier: bytes = b""
    staged_bytes: int = Field(default=0, sa_type=BigInteger)
    last_sequence: int = Field(default=0, sa_type=BigInteger)
    cut_size: int | None = Field(default=None, sa_type=BigInteger)
    seen_size: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))


class EntryRow(SQLModel, table=True):
    """One commitment."""

    __tablename__: ClassVar[Any] = "entry"
    position: int = Field(sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    commitment: bytes


class TileRow(SQLModel, table=True):
    """Root of a full run of 256 leaves; its `position` counts tiles."""

    __tablename__: ClassVar[Any] = "tile"
    position: int = Field(sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    root: bytes


class OpeningRow(SQLModel, table=True):
    """Salt and bytes of one entry, with what queries look at.

    `audience` is who may read: `*`, or the record's own audience (`,a,b,` or empty) and behind it those to whom a grant has
    opened it later (`+c+d+`). Quarantined bytes have no kind and key.
    """

    __tablename__: ClassVar[Any] = "opening"
    position: int = Field(sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    log_id: int
    sequence: int = Field(sa_type=BigInteger)
    status: int
    kind: str | None = None
    key: str | None = Field(default=None, sa_column=Column("key", String))
    revision: int | None = Field(default=None, sa_type=BigInteger)
    audience: str
    fault: str = ""
    salt: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    record: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    __table_args__: ClassVar[Any] = (
        Index("opening_sequence", "log_id", "sequence"),
        Index(
            "opening_key",
            "log_id",
            "kind",
            "key",
            "revision",
            unique=True,
            sqlite_where=text("status < 2"),
            postgresql_where=text("status < 2"),
        ),
        Index("opening_exception", "status", "log_id", sqlite_where=text("status > 0"), postgresql_where=text("status > 0")),
    )


class CursorRow(SQLModel, table=True):
    """The last sequence number received for a log from one serving peer."""

    __tablename__: ClassVar[Any] = "cursor"
    log_id: int = Field(primary_key=True)
    server: str = Field(primary_key=True)
    sequence: int = Field(sa_type=BigInteger)


class CheckpointRow(SQLModel, table=True):
    """A verified checkpoint, with the author's signature alone. `made_ms` is when it was written here; 0 for unknown."""

    __tablename__: ClassVar[Any] = "checkpoint"
    log_id: int = Field(primary_key=True)
    size: int = Field(sa_column=Column(BigInteger, primary_key=True))
    note: bytes
    made_ms: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))


class CosignatureRow(SQLModel, table=True):
    """One verified cosignature line on a held checkpoint."""

    __tablename__: ClassVar[Any] = "cosignature"
    log_id: int = Field(primary_key=True)
    size: int = Field(sa_column=Column(BigInteger, primary_key=True))
    witness: str = Field(primary_key=True)
    time: int = Field(sa_type=BigInteger)
    line: str


class SignedRosterRow(SQLModel, table=True):
    """Which rosters this home's identity key has signed: of each version one, and another one only after a withdrawal.

    `proposal` is what was signed, with the signatures and cards known here, so that a lost file can be written again. A
    row is `released` once a person has withdrawn it. `turn` counts those of one version, from 0, as they were signed.
    """

    __tablename__: ClassVar[Any] = "signed_roster"
    version: int = Field(primary_key=True)
    hash: str = Field(primary_key=True)
    proposal: bytes
    turn: int
    released: bool


class ErasureRow(SQLModel, table=True):
    """An entry whose opening was deleted for good because its author says so in the entry `statement_index` of the log.

    `swept` is false until the search index and the write-ahead log hold nothing of it either; `told` is true once the author
    knows that it is gone here, which it may forget.
    """

    __tablename__: ClassVar[Any] = "erasure"
    position: int = Field(sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    log_id: int
    kind: str
    key: str
    revision: int = Field(sa_type=BigInteger)
    reason: str
    erased_ms: int = Field(sa_type=BigInteger)
    statement_index: int = Field(sa_type=BigInteger)
    swept: bool
    told: bool
    __table_args__: ClassVar[Any] = (Index("erasure_key", "log_id", "kind", "key", "revision"),)


class AcknowledgementRow(SQLModel, table=True):
    """A member has told that it has deleted the opening of an entry of the own log.

    Under the own member: its people have seen that nobody can open the entry any more (`store.losses`).
    """

    __tablename__: ClassVar[Any] = "acknowledgement"
    position: int = Field(sa_column=Column(BigInteger, primary_key=True))
    member: str = Field(primary_key=True)
    time_ms: int = Field(sa_type=BigInteger)


class EvidenceRow(SQLModel, table=True):
    """A verified `.labevidence` file, by its SHA-256; `member` is who is proved to have lied."""

    __tablename__: ClassVar[Any] = "evidence"
    id: str = Field(primary_key=True)
    kind: str
    member: str
    found_ms: int = Field(sa_type=BigInteger)
    file: bytes


class EvidenceToldRow(SQLModel, table=True):
    """A member to whom a piece of evidence was sent, and who took it."""

    __tablename__: ClassVar[Any] = "evidence_told"
    evidence_id: str = Field(primary_key=True)
    member: str = Field(primary_key=True)


class ClientRow(SQLModel, table=True):
    """A lab system on another machine. Only the hash of its token is kept. `kinds` is empty, or names between commas."""

    __tablename__: ClassVar[Any] = "client"
    name: str = Field(primary_key=True)
    role: str
    kinds: str
    token_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    created_ms: int = Field(sa_type=BigInteger)
    revoked_ms: int | None = Field(default=None, sa_type=BigInteger)
    last_used_ms: int | None = Field(default=None, sa_type=BigInteger)


class PushRow(SQLModel, table=True):
    """One push into the own log: its first position, how many entries, and which client made it (empty: the socket)."""

    __tablename__: ClassVar[Any] = "push"
    position: int = Field(sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    entries: int = Field(sa_type=BigInteger)
    client: str
    pushed_ms: int = Field(sa_type=BigInteger)


def table_of(model: type[SQLModel]) -> Table:
    """The Core table behind a model, for statements in batches."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table
