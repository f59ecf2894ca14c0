"""The first schema.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROWID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    _create_membership()
    _create_logs()
    _create_openings()


def _create_membership() -> None:
    op.create_table(
        "node",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("member", sa.String(), nullable=False),
        sa.Column("alliance", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "roster",
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "card",
        sa.Column("hash", sa.String(), primary_key=True),
        sa.Column("member", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
    )


def _create_logs() -> None:
    op.create_table(
        "log",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("origin", sa.String(), nullable=False, unique=True),
        sa.Column("member", sa.String(), nullable=False),
        sa.Column("head_size", sa.BigInteger(), nullable=False),
        sa.Column("head_note", sa.LargeBinary(), nullable=False),
        sa.Column("head_frontier", sa.LargeBinary(), nullable=False),
        sa.Column("head_ms", sa.BigInteger(), nullable=False),
        sa.Column("staged_size", sa.BigInteger(), nullable=False),
        sa.Column("staged_frontier", sa.LargeBinary(), nullable=False),
        sa.Column("staged_bytes", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "entry",
        sa.Column("position", _ROWID, primary_key=True),
        sa.Column("commitment", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "tile",
        sa.Column("position", _ROWID, primary_key=True),
        sa.Column("root", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "cursor",
        sa.Column("log_id", sa.Integer(), primary_key=True),
        sa.Column("server", sa.String(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "checkpoint",
        sa.Column("log_id", sa.Integer(), primary_key=True),
        sa.Column("size", sa.BigInteger(), primary_key=True),
        sa.Column("note", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "cosignature",
        sa.Column("log_id", sa.Integer(), primary_key=True),
        sa.Column("size", sa.BigInteger(), primary_key=True),
        sa.Column("witness", sa.String(), primary_key=True),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.String(), nullable=False),
    )


def _create_openings() -> None:
    op.create_table(
        "opening",
        sa.Column("position", _ROWID, primary_key=True),
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=True),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("fault", sa.String(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
    )
    op.create_index("opening_sequence", "opening", ["log_id", "sequence"])
    accepted, exception = sa.text("status < 2"), sa.text("status > 0")
    op.create_index(
        "opening_key",
        "opening",
        ["log_id", "kind", "key", "revision"],
        unique=True,
        sqlite_where=accepted,
        postgresql_where=accepted,
    )
    op.create_index("opening_exception", "opening", ["status", "log_id"], sqlite_where=exception, postgresql_where=exception)
