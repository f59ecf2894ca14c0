"""Records: one immutable statement each, in canonical bytes (DESIGN section 4).

A `Record` exists only if it is valid: its bytes are canonical, its members have the right form, it names the expected
author, and its body obeys its schema. Where the schema is not known here, the record is kept but not `understood`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from node.core.canonical import Json, dumps_canonical, escape_pointer, parse_canonical
from node.core.kinds import Kinds
from node.core.names import RecordId, key_fault, parse_member, parse_record_id
from node.core.times import format_milliseconds, parse_milliseconds
from node.errors import FormatError, InvalidRecordError, Violation

RECORD_SIZE_MAX = 1024 * 1024
EVERYONE = ("*",)


class Record(NamedTuple):
    """A valid record: its canonical bytes and the parsed content. Treat the content as read-only."""

    raw: bytes
    content: dict[str, Json]
    understood: bool = True

    @property
    def id(self) -> RecordId:
        """Author, kind and key, without the revision."""
        return RecordId(self.content["author"], self.content["kind"], self.content["key"])

    @property
    def kind(self) -> str:
        """The record's kind."""
        kind: str = self.content["kind"]
        return kind

    @property
    def key(self) -> str:
        """The lab's own identifier."""
        key: str = self.content["key"]
        return key

    @property
    def revision(self) -> int:
        """1, 2, 3, …"""
        revision: int = self.content["revision"]
        return revision

    @property
    def audience(self) -> tuple[str, ...]:
        """`("*",)`, sorted member ids, or `()` for the author alone."""
        return tuple(self.content["audience"])

    def statement(self) -> dict[str, Json]:
        """What the record says, without what the daemon set: two records with equal statements are the same push."""
        return statement_of(self.content)


def statement_of(content: dict[str, Json]) -> dict[str, Json]:
    """The members of a record's content that its author's lab system chose."""
    names = ("body", "audience", "thread", "replaces", "blobs")
    return {name: content[name] for name in names if name in content}


@dataclass(frozen=True, slots=True)
class Draft:
    """A record as a lab system pushes it. `audience` None means: the default, or as in the newest revision."""

    key: str
    body: Json
    audience: tuple[str, ...] | None = None
    thread: str | None = None
    replaces: str | None = None
    revision: int | None = None


def parse_record(raw: bytes, *, author: str, kinds: Kinds) -> Record:
    """Parse a record's bytes.

    Raises:
        InvalidRecordError: not canonical, too large, another author, or a rule of the format or schema is broken.
    """
    if len(raw) > RECORD_SIZE_MAX:
        raise InvalidRecordError([_too_large(len(raw))])
    content = parse_canonical(raw)
    if violations := validate_record(content, author=author, kinds=kinds):
        raise InvalidRecordError(violations)
    return Record(raw, content, kinds.knows(content["schema"]))


def prepare_content(draft: Draft, *, author: str, kind: str, published: datetime, kinds: Kinds) -> dict[str, Json]:
    """Check a draft against everything but the log: the content of the record it would be as revision 1.

    Raises:
        InvalidRecordError: the draft breaks the format or its schema.
        NotFoundError: the kind is not known.
    """
    content: dict[str, Json] = {
        "audience": list(EVERYONE if draft.audience is None else draft.audience),
        "author": author,
        "body": draft.body,
        "key": draft.key,
        "kind": kind,
        "published": format_milliseconds(published),
        "revision": 1,
        "schema": kinds.newest_schema(kind),
    }
    if draft.thread is not None:
        content["thread"] = draft.thread
    if draft.replaces is not None:
        content["replaces"] = draft.replaces
    if violations := validate_record(content, author=author, kinds=kinds):
        raise InvalidRecordError(violations)
    return content


def seal_record(content: dict[str, Json], *, revision: int) -> Record:
    """Encode prepared content as the record of this revision.

    Raises:
        InvalidRecordError: larger than 1 MiB.
    """
    content["revision"] = revision
    raw = dumps_canonical(content)
    if len(raw) > RECORD_SIZE_MAX:
        raise InvalidRecordError([_too_large(len(raw))])
    return Record(raw, content)


def build_record(draft: Draft, *, author: str, kind: str, revision: int, published: datetime, kinds: Kinds) -> Record:
    """Make the record that enters the author's log; the draft's audience defaults to everyone.

    Raises:
        InvalidRecordError: the draft breaks the format or its schema.
        NotFoundError: the kind is not known.
    """
    content = prepare_content(draft, author=author, kind=kind, published=published, kinds=kinds)
    return seal_record(content, revision=revision)


def parse_draft(content: Json) -> Draft:
    """Read a record as pushed: `key`, `body`, and optionally `audience`, `thread`, `replaces`, `revision`.

    Only the members' types are looked at here; what they say is judged when the record is built.

    Raises:
        InvalidRecordError: a member is missing, unknown, or of the wrong type.
    """
    if not isinstance(content, dict):
        raise InvalidRecordError([Violation("", 'not an object like {"key": "…", "body": {…}}')])
    found = [
        Violation("", f"{name!r} is missing; a record has at least a key and a body")
        for name in ("key", "body")
        if name not in content
    ]
    for name, value in content.items():
        if name not in _DRAFT_TYPES:
            found.append(
                Violation(f"/{escape_pointer(name)}", f"unknown member; a record may have {', '.join(_DRAFT_TYPES)}")
            )
        elif type(value) is not _DRAFT_TYPES[name]:
            found.append(Violation(f"/{name}", f"must be {_TYPE_NAMES[_DRAFT_TYPES[name]]}"))
    audience = content.get("audience")
    if isinstance(audience, list) and not all(isinstance(member, str) for member in audience):
        found.append(Violation("/audience", "must be a list of member ids"))
    if found:
        raise InvalidRecordError(found)
    return Draft(
        key=content["key"],
        body=content["body"],
        audience=None if audience is None else tuple(sorted(audience)),
        thread=content.get("thread"),
        replaces=content.get("replaces"),
        revision=content.get("revision"),
    )


_DRAFT_TYPES: dict[str, type] = {
    "key": str,
    "body": dict,
    "audience": list,
    "thread": str,
    "replaces": str,
    "revision": int,
}
_TYPE_NAMES = {str: "text", dict: "an object", list: "a list of member ids", int: "an integer"}


def validate_record(content: Json, *, author: str, kinds: Kinds) -> list[Violation]:
    """Every rule that a record's parsed content breaks.

    The content must come from `parse_canonical` or `parse_strict`, which rule out what JSON itself may not hold.
    """
    found = kinds.validate_content(content)
    return found or _broken_rules(content, author)


def may_read(audience: Sequence[str], *, author: str, reader: str) -> bool:
    """Whether `reader` may read a record of `author` with this audience."""
    return reader == author or "*" in audience or reader in audience


def _broken_rules(content: dict[str, Json], author: str) -> list[Violation]:
    """The rules that JSON Schema cannot say."""
    found: list[Violation] = []
    if content["author"] != author:
        found.append(Violation("/author", f"names {content['author']}, but the log is by {author}"))
    if fault := key_fault(content["key"]):
        found.append(Violation("/key", fault))
    if not content["schema"].startswith(content["kind"] + "/"):
        found.append(Violation("/schema", f"{content['schema']} is not a schema of the kind {content['kind']}"))
    audience = content["audience"]
    if audience != ["*"] and (fault := _audience_fault(audience, author)):
        found.append(Violation("/audience", fault))
    for name in ("thread", "replaces"):
        if name in content and (fault := _reference_fault(content[name])):
            found.append(Violation(f"/{name}", fault))
    try:
        parse_milliseconds(content["published"])
    except FormatError as error:
        found.append(Violation("/published", error.message))
    return found


def _audience_fault(audience: list[str], author: str) -> str | None:
    if "*" in audience:
        return "'*' stands alone: it already means every member"
    if author in audience:
        return f"{author} is the author, who always may read"
    if audience != sorted(set(audience)):
        return "must be sorted, each member once"
    try:
        for member in audience:
            parse_member(member)
    except FormatError as error:
        return error.message
    return None


def _reference_fault(text: str) -> str | None:
    try:
        parse_record_id(text)
    except FormatError as error:
        return error.message
    return None


def _too_large(size: int) -> Violation:
    return Violation(
        "", f"the record has {size} bytes; at most {RECORD_SIZE_MAX} are possible, larger content belongs into a blob"
    )
