"""What a node remembers, and the only package that knows the database.

`Store` and how to open one are reached from here, and loaded when first asked for: the database library takes a second to
load, and offline commands that only glance at a home (`node.store.glance`) do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from node.store.opening import Store, create_store, open_store

__all__ = ("DATABASE_NAME", "SEARCH_NAME", "Store", "create_store", "open_store")

DATABASE_NAME = "labmesh.sqlite"
SEARCH_NAME = "search.sqlite"


def __getattr__(name: str) -> Any:
    """Load the store when it is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from node.store import opening

    return getattr(opening, name)
