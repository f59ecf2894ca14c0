"""The alliance that attacks are made on: real core, real stores, no network.

jinan writes the log, qingdao is the victim, yantai watches and cosigns, weifang was a member once. The council is the first
three, two of whom must sign. qingdao has verified three entries of eleven; one of these is for yantai alone, one for nobody.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import orjson

from node.audit import build_bundle
from node.core.alliance import Alliance, format_roster
from node.core.bundle import Bundle, format_bundle
from node.core.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from node.core.kinds import Kinds
from node.core.names import parse_record_id
from node.core.roster import Member, Roster
from node.push import PushOptions
from node.schemas import load_schemas
from node.store import DATABASE_NAME, Store
from tests.alliance import NOON, SimulatedAlliance, SimulatedMember
from tests.builders import Lab, build_labs, sign_roster
from tests.simulated_client import Tampering

JINAN, QINGDAO, YANTAI, WEIFANG, STRANGER, OUTSIDER = build_labs(6)
COUNCIL = (JINAN, QINGDAO, YANTAI)
HELD, SEEN, SIZE = 3, 8, 11
PROVED = "jinan/result/NEW-2"
BODY = {
    "report": "R-1",
    "sample": {"id": "S-1", "matrix": "地下水"},
    "results": [{"parameter": "铅", "quantity": {"form": "numeric", "value": "0.10", "unit": "mg/L"}}],
}
VICTIMS = ("qingdao", "jinan")
CONTACT_TIMES = {("client", "last_used_ms")}

Dump = Mapping[str, list[tuple[Any, ...]]]


def draft(key: str, **members: Any) -> bytes:
    """A record of the kind `result` as a lab system pushes it."""
    return orjson.dumps({"key": key, "body": BODY, **members})


def dump_tables(store: Store) -> Dump:
    """Every row of every table but the times of contacts: equal before and after means that nothing was saved."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with closing(sqlite3.connect(store.database.path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        for (table,) in tables:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(f'"{name}"' for name in names if (table, name) not in CONTACT_TIMES)
            found[table] = sorted(connection.execute(f"SELECT {columns} FROM {table}"), key=repr)
    return found


EVIDENCE_TABLES = ("evidence", "evidence_told")
"""What an attack may leave behind: proof of itself."""


class Scene:
    """The prepared alliance. `reset` puts the victim back to where it was before the last attack."""

    def __init__(self, folder: Path) -> None:
        """Found, exchange, cosign, remove weifang, seat the council, and let new entries wait for qingdao."""
        self.folder = folder
        self.alliance = SimulatedAlliance(folder, 4, schemas=Kinds(load_schemas()))
        self._exchange_entries()
        self._seat_council()
        self.case = self._prove()
        self._databases = {name: self._copy(name) for name in VICTIMS}
        self._kept = {name: self.kept_by(name) for name in VICTIMS}

    @property
    def jinan(self) -> SimulatedMember:
        """The author."""
        return self.alliance["jinan"]

    @property
    def reader(self) -> SimulatedMember:
        """The victim, qingdao."""
        return self.alliance["qingdao"]

    @property
    def yantai(self) -> SimulatedMember:
        """Another honest member."""
        return self.alliance["yantai"]

    @property
    def peer(self) -> Tampering:
        """What is done to everything that the victim is told."""
        return self.alliance.tampering

    @property
    def joined(self) -> Alliance:
        """The alliance as the victim knows it."""
        return self.reader.membership.joined

    def reset(self) -> None:
        """Undo everything that an attack did to jinan, qingdao and the peers' answers."""
        for name, raw in self._databases.items():
            member = self.alliance[name]
            member.splits.clear()
            member.alarms.clear()
            member.exchange.unreached.clear()
            if self.kept_by(name) != self._kept[name]:
                self._restore(member, raw)
        if self.yantai.evidence.pieces():
            self._forget_evidence(self.yantai)
        self.alliance.tampering = Tampering()
        self.alliance.clock.now = NOON
        self.alliance.reads.clear()
        self.alliance.closed = 0

    def saved(self) -> Dump:
        """Everything that the victim and the author keep, by member and table."""
        return {f"{name}: {table}": rows for name in VICTIMS for table, rows in self.kept_by(name).items()}

    def kept_by(self, name: str) -> Dump:
        """A member's tables, and what it believes in memory."""
        member = self.alliance[name]
        confirmation = member.confirmation
        believed = (member.membership.joined, confirmation.ceiling, confirmation.longer, confirmation.conflict)
        return {**dump_tables(member.store), "believed": [believed]}

    def checkpoint(self, size: int = SIZE) -> SignedCheckpoint:
        """jinan's own checkpoint of some size."""
        found = self.jinan.store.checkpoints.find(self.jinan.ledger.log.id, size)
        assert found is not None
        return found

    def next_roster(self, **changes: Any) -> Roster:
        """A roster that could follow the one held, with `changes`."""
        envelope, roster = self.joined.rosters[-1]
        follows = {"version": roster.version + 1, "previous": envelope.hash, "issued": roster.issued + timedelta(days=1)}
        return replace(roster, **{**follows, **changes})

    def verify(self, raw: bytes) -> tuple[int, str]:
        """The exit code and the text of `labmesh verify` on a file; the second verifier accepts nothing that it refuses."""
        from tests.cli.conftest import run
        from tests.verifiers import second_verdict_on

        file = self.folder / "attack.labmesh"
        file.write_bytes(raw)
        ended = run("verify", file, "--fingerprint", self.joined.fingerprint, home=self.folder / "nowhere")
        failed_at_schema = re.search(r"^  FAILED +schema", ended.out, re.MULTILINE) is not None
        accepted = second_verdict_on(raw, self.joined.fingerprint).result is not None
        assert accepted == (ended.exit_code == 0) or failed_at_schema, "the second verifier says something else"
        return ended.exit_code, ended.out

    def draft(self, key: str) -> bytes:
        """A record that jinan's lab could push."""
        return draft(key)

    def push_options(self) -> PushOptions:
        """How `draft` is pushed."""
        return PushOptions("result")

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo afterwards what the block does to jinan or qingdao."""
        try:
            yield
        finally:
            self.reset()

    @contextmanager
    def other(self) -> Iterator[SimulatedAlliance]:
        """A fresh alliance of three with empty logs, for attacks that write."""
        with TemporaryDirectory(dir=self.folder) as folder:
            made = SimulatedAlliance(Path(folder))
            try:
                yield made
            finally:
                made.close()

    def close(self) -> None:
        """Close every store."""
        self.alliance.close()

    def _copy(self, name: str) -> bytes:
        copy = self.folder / f"{name}.copy"
        self.alliance[name].store.database.backup(copy)
        return copy.read_bytes()

    def _restore(self, member: SimulatedMember, raw: bytes) -> None:
        member.store.close()
        for path in member.path.iterdir():
            path.unlink()
        (member.path / DATABASE_NAME).write_bytes(raw)
        member.reopen()
        member.confirmation.override()

    def _forget_evidence(self, member: SimulatedMember) -> None:
        with member.store.database.write() as connection:
            for table in EVIDENCE_TABLES:
                connection.exec_driver_sql(f"DELETE FROM {table}")
        member.reopen()
        member.confirmation.override()

    def _exchange_entries(self) -> None:
        alliance, others = self.alliance, ("qingdao", "yantai", "weifang")
        self.jinan.push(*(draft(f"HELD-{i}") for i in range(HELD)))
        for name in others:
            alliance.catch_up(name, "jinan")
            alliance[name].exchange.cosign_head(JINAN.origin)
            self.jinan.exchange.accept_notes(alliance[name].exchange.held_notes(), peer=name)
        self.reader.mirror_of("yantai")
        self.jinan.push(*(draft(f"NEW-{i}") for i in range(SEEN - HELD)))
        self._watch()
        self.jinan.push(draft("FOR-YANTAI", audience=["yantai"]), draft("PRIVATE", audience=[]), draft("LAST"))
        self._watch()

    def _watch(self) -> None:
        """yantai reads and cosigns, and its cosignatures reach the author."""
        self.alliance.catch_up("yantai", "jinan")
        self.yantai.exchange.cosign_head(JINAN.origin)
        self.jinan.exchange.accept_notes(self.yantai.exchange.held_notes(), peer="yantai")

    def _seat_council(self) -> None:
        self.jinan.membership.remove_member("weifang", self.jinan.store.logs.head_of("weifang"))
        envelope, roster = self.jinan.membership.joined.rosters[-1]
        council = tuple(lab.identity_key for lab in COUNCIL)
        follows = replace(roster, version=roster.version + 1, previous=envelope.hash, council=council, threshold=2)
        rosters = [*map(format_roster, self.jinan.membership.joined.rosters[1:]), sign_roster(follows, *COUNCIL[:2])]
        for member in self.alliance.members.values():
            assert not member.membership.accept_update(rosters, []).faults

    def _prove(self) -> Bundle:
        record, joined = parse_record_id(PROVED), self.jinan.membership.joined
        return build_bundle(self.jinan.store, joined, record, member="jinan", ceiling=SIZE)


def signed_by_jinan(size: int, root: bytes, *, origin: str = JINAN.origin) -> bytes:
    """A checkpoint by jinan's own key."""
    signer = replace(JINAN.log, key=replace(JINAN.log.key, name=origin))
    return bytes(sign_checkpoint(Checkpoint(origin, size, root), signer))


def with_members(roster: Roster, change: Callable[[dict[str, Member]], Any]) -> Roster:
    """The roster with its members changed in place."""
    members = dict(roster.members)
    change(members)
    return replace(roster, members=MappingProxyType(members))


def identity_of(lab: Lab) -> tuple[bytes, ...]:
    """The council of one laboratory."""
    return (lab.identity_key,)


def bundle_file(bundle: Bundle) -> bytes:
    """A bundle as a file."""
    return format_bundle(bundle)
