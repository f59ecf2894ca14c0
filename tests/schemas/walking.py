"""Every schema inside a schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def walk_schemas(schema: object) -> Iterator[dict[str, Any]]:
    """The schema itself, and all that its members and lists hold, at any depth."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from walk_schemas(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from walk_schemas(value)
