"""Alembic's entry point: runs the migrations on the connection that `upgrade.py` hands over."""

from alembic import context
from sqlmodel import SQLModel

from node.store import tables  # noqa: F401 -- fills the metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
