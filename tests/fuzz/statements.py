"""Grants and erasures as a peer sends them: what they say, and what a mirror makes of a page that truly commits to one."""

from __future__ import annotations

from node.core.canonical import Json, dumps_canonical, parse_strict
from node.core.disclosure import STATEMENT_KINDS, Erasure, Grant, erasure_body, grant_body, parse_statement
from node.core.entry import SALT_SIZE, LogPage, Opening, committer
from node.core.mirror import Mirror
from node.core.names import RecordId
from node.core.record import parse_record
from node.errors import InvalidRecordError, PeerFaultError
from tests.attacks.scene import HELD, JINAN
from tests.builders import record_bytes
from tests.fuzz.target import Finding, target
from tests.fuzz.world import scene, shipped_kinds

TARGET = RecordId("jinan", "result", "HELD-0", 1)
MEMBERS = ("qingdao", "yantai")


def bodies() -> list[dict[str, Json]]:
    """A grant and an erasure with an effect, and some without: of itself, of what comes, of another statement."""
    another = RecordId("jinan", "grant", "0", 1)
    return [
        grant_body(0, TARGET, MEMBERS),
        erasure_body(1, RecordId("jinan", "result", "HELD-1", 2), "wrong sample: 样品"),
        grant_body(HELD, TARGET, MEMBERS),
        grant_body(2**40 - 1, TARGET, MEMBERS),
        erasure_body(0, another, "R"),
        {**grant_body(0, TARGET, MEMBERS), "to": ["yantai", "qingdao"]},
    ]


def statement_record(body: Json) -> bytes:
    """The record with this body: a grant where it names members, and an erasure otherwise."""
    fields = body if isinstance(body, dict) else {}
    kind = "grant" if "to" in fields else "erasure"
    return record_bytes(key=str(fields.get("index"))[:200], kind=kind, schema=f"{kind}/1", body=body)


def body_seeds() -> list[bytes]:
    return [dumps_canonical(body) for body in bodies()]


@target("statement", InvalidRecordError, seeds=body_seeds)
def statement(raw: bytes) -> None:
    record = parse_record(statement_record(parse_strict(raw)), author="jinan", kinds=shipped_kinds())
    said, body = parse_statement(record.content, index=HELD), record.content["body"]
    if said is None:
        return
    again = _body_of(said)
    if again != body or said.index >= HELD or said.id.kind in STATEMENT_KINDS:
        raise Finding(f"a statement is taken for another one: {again}")


def _body_of(said: Grant | Erasure) -> dict[str, Json]:
    if isinstance(said, Grant):
        return grant_body(said.index, said.id, said.members)
    return erasure_body(said.index, said.id, said.reason)


def statement_seeds() -> list[bytes]:
    return [statement_record(body) for body in bodies()]


def statement_page(*records: bytes) -> LogPage:
    """The next page of jinan's log, which commits to these records."""
    commit, salt = committer(JINAN.origin), bytes(range(SALT_SIZE))
    openings = [Opening(HELD + i, salt, raw, sequence=i + 1) for i, raw in enumerate(records)]
    return LogPage(HELD, b"".join(commit(salt, raw) for raw in records), openings)


@target("statement in a page", PeerFaultError, seeds=statement_seeds)
def statement_in_a_page(raw: bytes) -> None:
    log = scene().reader.mirror_of("jinan")
    mirror = Mirror(scene().joined.card("jinan"), reader="qingdao", kinds=shipped_kinds(), head=log.head, staged=log.staged)
    mirror.accept_announcement(bytes(scene().checkpoint()))
    first, *_ = statement_seeds()
    page = statement_page(first, raw, raw)
    accepted = mirror.accept_page(page, lambda index: scene().reader.store.logs.commitment_at(log.id, index))
    if accepted.commitments != [page.commitments[at : at + 32] for at in (0, 32, 64)]:
        raise Finding("a page with other commitments than it was sent with")
    if any(item.record is None and not item.fault for item in accepted.openings):
        raise Finding("an entry that is quarantined for no reason")
