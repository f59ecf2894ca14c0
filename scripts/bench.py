#!/usr/bin/env python3
"""Measure pushing, replicating, live latency, verifying and starting, with the floor of replication beside it.

The floor is what the same pages cost over the same gRPC into the same tables when nothing is checked: no hash, no schema,
no canonical form, no root. Both are measured in one run, one after the other, from the same serving node.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node.core.alliance import format_card
from node.core.card import parse_card
from node.core.entry import LogPage, split_commitments
from node.home import Home
from node.rpc.client import GrpcPeerClient
from node.store import open_store
from node.store.rows import OPENING_COLUMNS
from node.store.tables import EntryRow, OpeningRow, position_of, table_of

LABMESH = [sys.executable, "-m", "cli.main"]
ALLIANCE = "bench.labmesh.example"
MEMBERS = ("author", "reader", "floor")
DEADLINE_S = 600.0


def main() -> None:
    """Run every measurement and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="records of about 600 bytes to push and replicate")
    parser.add_argument("--live", type=int, default=300, help="single pushes whose way to a peer is timed")
    arguments = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="lmb-"))
    try:
        print(json.dumps(Bench(base).run(arguments.records, arguments.live), indent=2))
    finally:
        shutil.rmtree(base)


class Bench:
    """Three homes in one folder: an author, a reader, and a member whose node is the floor."""

    def __init__(self, base: Path) -> None:
        """Make the homes and the alliance."""
        self.base = base
        for member in MEMBERS:
            self.labmesh(member, "init", member, "--alliance", ALLIANCE, "--name", member, "--region", "bench",
                         "--address", f"127.0.0.1:{_free_port()}")  # fmt: skip
        self.labmesh("author", "roster", "create", "--title", "bench")
        cards = []
        for member in MEMBERS[1:]:
            cards.append(str(base / f"{member}.card"))
            self.labmesh(member, "card", "-o", cards[-1])
        self.labmesh("author", "roster", "add", *cards)
        self.labmesh("author", "roster", "export", "-o", str(base / "alliance.json"))
        self.fingerprint = self.labmesh("author", "roster", "show")["fingerprint"]
        for member in MEMBERS[1:]:
            self.labmesh(member, "join", str(base / "alliance.json"), "--fingerprint", self.fingerprint)

    def run(self, records: int, live: int) -> dict[str, Any]:
        """Every measurement, in the JSON of DESIGN section 9."""
        record_bytes = self._write_records(records)
        with self.daemon("author"):
            begin = time.monotonic()
            self.labmesh("author", "push", str(self.base / "records.jsonl"), "--kind", "result")
            push_rate = records / (time.monotonic() - begin)
            self.labmesh("author", "confirm")
            _log(f"pushed {records} records of {record_bytes} bytes: {push_rate:.0f}/s")
            floor_s = asyncio.run(self._measure_floor(records))
            _log(f"floor: {records / floor_s:.0f}/s")
            with self.daemon("reader"):
                verified_s = self._wait_verified(records)
                _log(f"replicated: {records / verified_s:.0f}/s")
                live_ms = self._measure_live(records, live)
                _log(f"live: {statistics.median(live_ms):.1f} ms")
            self.labmesh("author", "prove", "author/result/B-0000000", "-o", str(self.base / "one.labmesh"))
        start_s, rss_mb = self._measure_start()
        size = (self.base / "reader" / "labmesh.sqlite").stat().st_size
        verify = (*LABMESH, "verify", str(self.base / "one.labmesh"), "--fingerprint", self.fingerprint)
        return {
            "records": records,
            "replicate": {
                "records_per_s": round(records / verified_s),
                "floor_records_per_s": round(records / floor_s),
                "ratio": round(floor_s / verified_s, 3),
            },
            "push": {"records_per_s": round(push_rate)},
            "live_ms": {name: round(_quantile(live_ms, part), 2) for name, part in (("p50", 50), ("p95", 95), ("p99", 99))},
            "verify_s": round(_time_process(verify), 3),
            "help_s": round(_time_process((*LABMESH, "--help")), 3),
            "start_s": round(start_s, 3),
            "rss_mb": round(rss_mb),
            "bytes_per_record": round(size / (records + live)),
            "record_bytes": record_bytes,
        }

    def labmesh(self, member: str, *arguments: str) -> Any:
        """Run one command on a member's home; its JSON."""
        command = [*LABMESH, "--home", str(self.base / member), "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    @contextmanager
    def daemon(self, member: str) -> Iterator[subprocess.Popen[str]]:
        """A running daemon, its log beside the homes."""
        command = [*LABMESH, "--home", str(self.base / member), "run"]
        with self._log_path(member).open("a") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{member} did not start: {self._log_path(member).read_text()[-2000:]}")
            yield process
        finally:
            process.terminate()
            process.wait(60)

    def _log_path(self, member: str) -> Path:
        return self.base / f"{member}.log"

    def _write_records(self, count: int) -> int:
        sizes = 0
        with (self.base / "records.jsonl").open("w") as file:
            for i in range(count):
                line = json.dumps(_record(i), ensure_ascii=False, separators=(",", ":"))
                sizes += len(line.encode())
                file.write(line + "\n")
        return round(sizes / count)

    async def _measure_floor(self, records: int) -> float:
        """Store the same pages in a fresh home without checking anything; seconds from the first byte to the last commit."""
        home = Home(self.base / "floor")
        keys, store = home.load_keys("floor", ALLIANCE), open_store(home.path)
        own = parse_card(store.membership.load_own_card("floor") or b"")[1]
        alliance = store.membership.load_alliance()
        assert alliance is not None
        author = parse_card(format_card(alliance.cards["author"]))[1]
        client = GrpcPeerClient(author, author.endpoints[0], key_pem=keys.tls_key_pem, own_card=own, deadline_s=60)
        log = store.logs.open_log(author.origin, "author")
        begin, stored = time.monotonic(), 0
        async for message in client.read_log(author.origin, start=0, after=0, follow=False, entries_max=10**9):
            if isinstance(message, LogPage):
                await asyncio.to_thread(_store_unchecked, store, log.id, message)
                stored += len(message.commitments) // 32
        elapsed = time.monotonic() - begin
        await client.close()
        store.close()
        if stored != records:
            raise SystemExit(f"the floor stored {stored} of {records} records")
        return elapsed

    def _wait_verified(self, records: int) -> float:
        """Seconds from the opening of the stream to the commit of the head, by the reader's own log."""
        begin = self._wait_line("reader", r"event=pull_started origin=\S+/author staged=0 at=(\S+)")
        return self._wait_line("reader", rf"event=verified origin=\S+/author size={records} at=(\S+)") - begin

    def _measure_live(self, records: int, count: int) -> list[float]:
        """Milliseconds from the arrival of single pushes at the author's daemon to the commit at the reader."""
        for i in range(count):
            path = self.base / "live.json"
            path.write_text(json.dumps({"key": f"L-{i:06}", "body": _record(i)["body"]}, ensure_ascii=False))
            self.labmesh("author", "push", str(path), "--kind", "result")
        found = []
        for size in range(records + 1, records + count + 1):
            arrived = self._wait_line("author", rf"event=pushed accepted=1 .* size={size} arrived=(\S+)")
            found.append(
                1000 * (self._wait_line("reader", rf"event=verified origin=\S+/author size={size} at=(\S+)") - arrived)
            )
        return found

    def _measure_start(self) -> tuple[float, float]:
        """Seconds until `ready` with everything on disk, and resident megabytes when idle."""
        begin = time.monotonic()
        with self.daemon("reader") as process:
            elapsed = time.monotonic() - begin
            time.sleep(2)
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return elapsed, int(found[1]) / 1024 if found else 0.0

    def _wait_line(self, member: str, pattern: str) -> float:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if found := re.search(pattern, self._log_path(member).read_text()):
                return float(found[1])
            time.sleep(0.2)
        raise SystemExit(f"{member} never wrote {pattern}: {self._log_path(member).read_text()[-2000:]}")


def _store_unchecked(store: Any, log_id: int, page: LogPage) -> None:
    """The same tables, the same durability, nothing checked."""
    commitments = enumerate(split_commitments(page.commitments), position_of(log_id, page.start))
    rows = [
        (position_of(log_id, opening.index), log_id, opening.sequence, 0, "result", f"B-{opening.index:07}", 1, "*", "",
         opening.salt, opening.record)
        for opening in page.openings
    ]  # fmt: skip
    with store.database.write() as connection:
        store.database.insert_rows(connection, table_of(EntryRow), ("position", "commitment"), list(commitments))
        store.database.insert_rows(connection, table_of(OpeningRow), OPENING_COLUMNS, rows)


def _record(i: int) -> dict[str, Any]:
    uncertainty = {"U": "0.02", "k": "2"}
    quantity = {"form": "numeric", "value": f"0.{i % 9000 + 1000}", "unit": "mg/kg", "uncertainty": uncertainty}
    results = [{"parameter": name, "method": "GB 5009.12-2017", "quantity": quantity} for name in ("铅", "镉", "总砷")]
    sample = {"id": f"S-{i:07}", "matrix": "大米", "received": "2026-11-20"}
    return {"key": f"B-{i:07}", "body": {"report": f"WJ-2026-{i:07}", "sample": sample, "results": results}}


def _time_process(command: tuple[str, ...]) -> float:
    """Best of five: how long a process takes from start to end."""
    times = []
    for _ in range(5):
        begin = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        times.append(time.monotonic() - begin)
    return min(times)


def _quantile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
