"""Statements that one store of a test process compiled serve all its others.

SQLAlchemy keeps compiled statements with the engine. A node opens its store once, but tests open thousands: compiling the
same statements again for each was a third of what they cost. What is run and how it is made durable stays the same.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy import Engine

from node.store import database


def share_compiled_statements() -> None:
    """Give every engine that is made from now on in this process one dialect and one cache of compiled statements."""
    first = sqlalchemy.create_engine("sqlite://")
    with first.connect():
        pass  # a dialect learns what its driver can do at the first connection
    compiled: dict[Any, Any] = {}

    def create_engine(url: sqlalchemy.URL, **options: Any) -> Engine:
        engine = sqlalchemy.create_engine(url, execution_options={"compiled_cache": compiled}, **options)
        # Statements are kept by dialect, and compare as the same only under the same one.
        engine.dialect = first.dialect
        return engine

    first.dispose()
    database.create_engine = create_engine  # type: ignore[assignment, attr-defined]
