"""Kinds of records: one JSON Schema (2020-12) per kind and version, compiled once.

A schema describes the record's body. It is compiled into the schema of the whole record, so that one pass of the
validator sees everything a schema can say.
"""

from __future__ import annotations

from collections.abc import Mapping

import jsonschema_rs

from node.core.canonical import Json, escape_pointer
from node.core.names import KIND_PATTERN, MEMBER_PATTERN
from node.errors import NotFoundError, Violation

_ID = rf"^{MEMBER_PATTERN}/{KIND_PATTERN}/[^@]{{1,200}}"
_REVISION = {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}
_BLOB = {
    "type": "object",
    "required": ["name", "sha256", "size", "type"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 255},
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "size": {"type": "integer", "minimum": 0, "maximum": 2**31},
        "type": {"type": "string", "minLength": 1, "maxLength": 127},
    },
}

ENVELOPE: Json = {
    "type": "object",
    "required": ["audience", "author", "body", "key", "kind", "published", "revision", "schema"],
    "additionalProperties": False,
    "properties": {
        "audience": {"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 31}},
        "author": {"type": "string", "pattern": f"^{MEMBER_PATTERN}$"},
        "body": {"type": "object"},
        "key": {"type": "string", "minLength": 1, "maxLength": 200},
        "kind": {"type": "string", "pattern": f"^{KIND_PATTERN}$"},
        "published": {"type": "string", "minLength": 24, "maxLength": 24},
        "revision": _REVISION,
        "schema": {"type": "string", "pattern": f"^{KIND_PATTERN}/[1-9][0-9]{{0,5}}$"},
        "thread": {"type": "string", "pattern": _ID + "$"},
        "replaces": {"type": "string", "pattern": _ID + "@[1-9][0-9]{0,15}$"},
        "blobs": {"type": "array", "minItems": 1, "maxItems": 100, "items": _BLOB},
        "schemas": {
            "type": "array",
            "maxItems": 20,
            "uniqueItems": True,
            "items": {"type": "string", "maxLength": 100},
        },
    },
}

MESSAGE_LENGTH_MAX = 300


class Kinds:
    """The schemas that this version of the software knows."""

    def __init__(self, schemas: Mapping[str, Json]) -> None:
        """Compile schemas named `kind/version`."""
        self._validators = {name: _compile(schema) for name, schema in schemas.items()}
        self._envelope = jsonschema_rs.Draft202012Validator(ENVELOPE)
        self._newest: dict[str, int] = {}
        for name in schemas:
            kind, _, version = name.partition("/")
            self._newest[kind] = max(int(version), self._newest.get(kind, 0))

    def names(self) -> list[str]:
        """The known kinds, sorted."""
        return sorted(self._newest)

    def newest_schema(self, kind: str) -> str:
        """The schema that new records of a kind are written under.

        Raises:
            NotFoundError: the kind is not known here.
        """
        if kind not in self._newest:
            raise NotFoundError(f"there is no kind {kind[:40]!r}", hint=f"the kinds are {', '.join(self.names())}")
        return f"{kind}/{self._newest[kind]}"

    def knows(self, schema: object) -> bool:
        """Whether the schema `kind/version` is known here."""
        return schema in self._validators

    def validate_content(self, content: Json) -> list[Violation]:
        """Every violation of the record's form and, when its schema is known, of that schema."""
        schema = content.get("schema") if isinstance(content, dict) else None
        validator = self._validators.get(schema, self._envelope) if isinstance(schema, str) else self._envelope
        if validator.is_valid(content):
            return []
        return [Violation(_pointer(error.instance_path), _message(error)) for error in validator.iter_errors(content)]


def _compile(schema: Json) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**ENVELOPE, "properties": {**ENVELOPE["properties"], "body": schema}})


def _pointer(path: list[str | int]) -> str:
    return "".join(f"/{escape_pointer(str(part))}" for part in path)


def _message(error: jsonschema_rs.ValidationError) -> str:
    return error.message if len(error.message) <= MESSAGE_LENGTH_MAX else error.message[:MESSAGE_LENGTH_MAX] + "…"
