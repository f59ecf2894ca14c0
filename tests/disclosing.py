"""An author that grants and erases, and readers of its log: real stores, streams and mirrors, no network and no loop."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson

from labmesh.v1 import peer_pb2
from node.core.entry import LogPage
from node.core.kinds import Kinds
from node.core.mirror import StagingLimits
from node.core.names import RecordId, parse_record_id
from node.disclosure import Disclosure
from node.evidence import EvidenceKeeper
from node.ledger import Ledger
from node.push import PushOptions, PushOutcome
from node.rpc.convert import message_from_wire
from node.rpc.log_stream import LogStream
from node.schemas import load_schemas
from node.store import Store, open_store
from node.store.logs import LogState
from node.sync.exchange import CheckpointExchange
from node.sync.peer import PeerState
from node.sync.pull import PullSession
from tests.alliance import TurnedClock, draft
from tests.builders import SCHEMAS, Lab, build_alliance, build_card, build_labs
from tests.new_stores import new_store

KINDS = Kinds({**SCHEMAS, **{name: load_schemas()[name] for name in ("grant/1", "erasure/1")}})
JINAN, QINGDAO, YANTAI = build_labs(3)
MEMBERS = ("jinan", "qingdao", "weifang", "yantai")


def result_id(key: str, revision: int | None = None) -> RecordId:
    """A record of jinan."""
    return RecordId("jinan", "result", key, revision)


class Author:
    """A member whose log others read."""

    def __init__(self, path: Path, lab: Lab = JINAN) -> None:
        """Begin with an empty log in a new folder."""
        self.path, self.lab, self.clock = path, lab, TurnedClock()
        self.store = new_store(path)
        self._build()

    def _build(self) -> None:
        self.ledger = Ledger(
            self.store,
            author=self.lab.member,
            signer=self.lab.log,
            kinds=KINDS,
            clock=self.clock,
            members=lambda: MEMBERS,
        )
        self.disclosure = Disclosure(
            self.store,
            self.ledger,
            author=self.lab.member,
            kinds=KINDS,
            clock=self.clock,
            members=lambda: MEMBERS,
        )

    @property
    def log(self) -> LogState:
        """The own log."""
        return self.ledger.log

    def reopen(self) -> None:
        """Stop, and start again on the same files."""
        self.store.close()
        self.store = open_store(self.path)
        self._build()

    def push(self, key: str, value: str = "0.10", *, revise: bool = False, **members: Any) -> PushOutcome:
        """Push one record."""
        return self.ledger.push_records(PushOptions("result", revise=revise), [draft(key, value, **members)])

    def grant(self, text: str, *members: str) -> None:
        """Open a record."""
        self.disclosure.grant(parse_record_id(f"{self.lab.member}/{text}"), members)

    def erase(self, text: str, reason: str = "wrong customer") -> None:
        """Erase a record."""
        self.disclosure.erase(parse_record_id(f"{self.lab.member}/{text}"), reason)


class Reader:
    """A member that reads the author's log, from the author or from whoever mirrors it."""

    def __init__(self, path: Path, member: str, lab: Lab = JINAN) -> None:
        """Begin with an empty mirror in a new folder."""
        self.path, self.member, self.lab = path, member, lab
        self.store = new_store(path)
        self.messages: list[bytes | LogPage] = []

    @property
    def log(self) -> LogState:
        """The mirror."""
        return self.store.logs.open_log(self.lab.origin, self.lab.member)

    def read(self, server: Store, *, name: str = "jinan", messages: int = 10_000, entries_max: int = 1_000_000) -> int:
        """One connection that breaks off after some messages; returns how many pages came."""
        log = self.log
        alliance, clock = build_alliance([self.lab, Lab("zibo")]), TurnedClock()
        membership = SimpleNamespace(member=self.member, alliance=alliance, joined=alliance)
        evidence = EvidenceKeeper(self.store, member=self.member, alliance=lambda: alliance, clock=clock)
        confirmation = SimpleNamespace(ceiling=0)
        exchange = CheckpointExchange(
            self.store,
            membership=cast(Any, membership),
            confirmation=cast(Any, confirmation),
            evidence=evidence,
            witness=Lab(self.member).witness,
            clock=clock,
        )
        parts = SimpleNamespace(
            store=self.store,
            membership=membership,
            exchange=exchange,
            kinds=KINDS,
            limits=StagingLimits(),
            clock=clock,
        )
        session = PullSession(cast(Any, parts), log, build_card(self.lab), PeerState(name))
        request = peer_pb2.ReadLogRequest(
            origin=self.lab.origin,
            start=log.staged.size,
            after=self.store.logs.last_sequence_from(log.id, name),
            entries_max=entries_max,
        )
        stream = LogStream(server, request, reader=self.member, ceiling=lambda held: held.head_size)
        pages = 0
        while messages > 0 and (sent := stream.advance()):
            for message in map(message_from_wire, sent[:messages]):
                session.apply(message)
                self.messages.append(message)
                pages += isinstance(message, LogPage)
            messages -= len(sent)
        return pages

    def reopen(self) -> None:
        """Stop, and start again on the same files."""
        self.store.close()
        self.store = open_store(self.path)


def held_openings(store: Store, lab: Lab = JINAN) -> dict[int, bytes]:
    """The records that a store holds of a log, by index."""
    log = store.logs.open_log(lab.origin, lab.member)
    found: dict[int, bytes] = {}
    start = 0
    while start < log.head_size:
        page = store.logs.read_page(log, start=start, stop=log.head_size, reader=lab.member)
        found |= {item.index: item.record for item in page.openings}
        start += len(page.commitments) // 32
    return found


def erased_indexes(store: Store, lab: Lab = JINAN) -> set[int]:
    """Entries of a log that a store knows to be erased."""
    with store.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT position FROM erasure WHERE log_id=(SELECT id FROM log WHERE origin=?)", (lab.origin,)
        )
        return {row[0] & ((1 << 40) - 1) for row in rows}


def content_of(raw: bytes) -> dict[str, Any]:
    """The parsed record."""
    content: dict[str, Any] = orjson.loads(raw)
    return content
