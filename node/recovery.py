"""What becomes of records that were acknowledged but not published, once the rest of the log has come back.

A home that was rolled back went on taking pushes without knowing what it had published before. Each of those records is
still said exactly once in the end: as it is where its revision is the next one, as the next revision where the log says
something else of its key, and not again where the log says the same already. A next revision that names no readers of its
own keeps those of the revision before it, as every push does.

Published entries that nobody can open any more may have said anything of any key, and somebody may still read them. So the
next revision of a key lies beyond every number that one of them can have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import orjson

from node.core.canonical import Json
from node.core.entry import SALT_SIZE, Opening
from node.core.kinds import Kinds
from node.core.mirror import AcceptedOpening
from node.core.record import EVERYONE, RECORD_SIZE_MAX, Record, parse_record, seal_record, statement_of
from node.errors import InvalidRecordError, ProofError
from node.store.following import Key, Said, Unpublished
from node.store.logs import NewEntry

Commit = Callable[[bytes, bytes], bytes]


def settle(
    unpublished: Sequence[Unpublished],
    said: Mapping[Key, Sequence[Said]],
    floor: int = 0,
    *,
    commit: Commit,
    draw_salt: Callable[[], bytes],
) -> list[NewEntry | None]:
    """Make the entries by which unpublished records follow what the log says now.

    Args:
        unpublished: in the order in which they were pushed.
        said: what the log says of their keys, the oldest revision first.
        floor: the largest revision that published entries may have which nobody can open here.
        commit: the log's commitment function.
        draw_salt: 32 fresh random bytes.

    Returns:
        One entry for each, None where it is said already.
    """
    known = {key: list(versions) for key, versions in said.items()}
    entries: list[NewEntry | None] = []
    for item in unpublished:
        versions = known.setdefault(item.key, [])
        content = _with_readers(orjson.loads(item.raw), versions)
        if _is_said(content, versions):
            entries.append(None)
            continue
        newest = versions[-1].revision if versions else 0
        entry = _follow(item, content, next_revision(newest, floor), commit, draw_salt)
        versions.append(Said(entry.record.revision, entry.record.raw, published=False))
        entries.append(entry)
    return entries


def next_revision(newest: int, floor: int) -> int:
    """The number of the next revision of a key.

    Args:
        newest: its newest known one; 0 when there is none.
        floor: the largest revision that published entries may have which nobody can open here.
    """
    return max(newest, floor) + 1


def accept_own_opening(opening: Opening, commitment: bytes, *, author: str, commit: Commit, kinds: Kinds) -> AcceptedOpening:
    """Judge an opening of an own entry that a peer gives back, against the commitment held here.

    Raises:
        ProofError: it does not fit.
    """
    fits = len(opening.salt) == SALT_SIZE and len(opening.record) <= RECORD_SIZE_MAX
    if not fits or commit(opening.salt, opening.record) != commitment:
        raise ProofError(f"the opening of entry {opening.index} does not fit its commitment")
    try:
        return AcceptedOpening(opening, parse_record(opening.record, author=author, kinds=kinds))
    except InvalidRecordError as error:
        return AcceptedOpening(opening, None, error.message)


def _is_said(content: Json, versions: Sequence[Said]) -> bool:
    """Whether the newest revision says the same, or a published one is this very push under another number."""
    statement = statement_of(content)
    if versions and not versions[-1].erased and statement_of(orjson.loads(versions[-1].raw)) == statement:
        return True
    published = (orjson.loads(said.raw) for said in versions if said.published and not said.erased)
    return any(other["published"] == content["published"] and statement_of(other) == statement for other in published)


def _with_readers(content: dict[str, Json], versions: Sequence[Said]) -> dict[str, Json]:
    """The content for no more readers than the revision had that it was pushed without knowledge of.

    A push without an audience means everyone only where there is no older revision; what was sent cannot be taken back.
    """
    newest = versions[-1] if versions else None
    if newest is not None and content["revision"] <= newest.revision and content["audience"] == list(EVERYONE):
        content["audience"] = orjson.loads(newest.raw)["audience"]
    return content


def _follow(
    item: Unpublished, content: dict[str, Json], revision: int, commit: Commit, draw_salt: Callable[[], bytes]
) -> NewEntry:
    if content["revision"] == revision and item.commitment is not None:
        return NewEntry(item.commitment, item.salt, Record(item.raw, content, item.understood))
    record = seal_record(content, revision=revision)._replace(understood=item.understood)
    salt = draw_salt()
    return NewEntry(commit(salt, record.raw), salt, record)
