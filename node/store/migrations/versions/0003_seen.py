"""How much of each log a quorum has seen, by the rosters that were in force until now.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What an older home has not noted is noted when its roster changes the next time."""
    op.add_column("log", sa.Column("seen_size", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
