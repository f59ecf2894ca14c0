"""What lasting trust needs: erasures, evidence, clients, who pushed what, which rosters were signed, when checkpoints came.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROWID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the new tables; a checkpoint of an older home has no time."""
    op.add_column("checkpoint", sa.Column("made_ms", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    op.create_table(
        "signed_roster",
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("hash", sa.String(), primary_key=True),
        sa.Column("proposal", sa.LargeBinary(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
    )
    op.add_column("log", sa.Column("cut_size", sa.BigInteger(), nullable=True))
    _create_erasures()
    _create_evidence()
    _create_clients()


def _create_erasures() -> None:
    op.create_table(
        "erasure",
        sa.Column("position", _ROWID, primary_key=True),
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("erased_ms", sa.BigInteger(), nullable=False),
        sa.Column("statement_index", sa.BigInteger(), nullable=False),
        sa.Column("swept", sa.Boolean(), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
    )
    op.create_index("erasure_key", "erasure", ["log_id", "kind", "key", "revision"])
    op.create_table(
        "acknowledgement",
        sa.Column("position", sa.BigInteger(), primary_key=True),
        sa.Column("member", sa.String(), primary_key=True),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
    )


def _create_evidence() -> None:
    op.create_table(
        "evidence",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("member", sa.String(), nullable=False),
        sa.Column("found_ms", sa.BigInteger(), nullable=False),
        sa.Column("file", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "evidence_told",
        sa.Column("evidence_id", sa.String(), primary_key=True),
        sa.Column("member", sa.String(), primary_key=True),
    )


def _create_clients() -> None:
    op.create_table(
        "client",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("kinds", sa.String(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_used_ms", sa.BigInteger(), nullable=True),
    )
    op.create_table(
        "push",
        sa.Column("position", _ROWID, primary_key=True),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("pushed_ms", sa.BigInteger(), nullable=False),
    )
