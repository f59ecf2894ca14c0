"""The JSON Schemas of the kinds, one file a kind and version; each describes the body of a record."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson


def load_schemas() -> dict[str, Any]:
    """Every schema in this package, by `kind/version`."""
    found: dict[str, Any] = {}
    for item in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
        if item.name.endswith(".json"):
            kind, _, version = item.name.removesuffix(".json").rpartition("-")
            found[f"{kind}/{version}"] = orjson.loads(item.read_bytes())
    return found
