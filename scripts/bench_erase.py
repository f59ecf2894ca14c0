#!/usr/bin/env python3
"""Measure for how long an erasure keeps pushes and readers waiting, while what it left behind is swept from the files.

Single pushes and reads go on without a pause, each on its own channel, before the erasure and until it is swept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from bench import Bench, _log, _quantile, _record

from labmesh.v1 import node_pb2, node_pb2_grpc

QUIET_S = 5.0
CALL_S = 120.0


def main() -> None:
    """Fill a node, erase, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="records of about 600 bytes that the node holds")
    parser.add_argument("--erasures", type=int, default=3, help="records to erase, one after the other")
    arguments = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="lmb-"))
    try:
        print(json.dumps(measure(Bench(base), arguments.records, arguments.erasures), indent=2))
    finally:
        shutil.rmtree(base)


def measure(bench: Bench, records: int, erasures: int) -> dict[str, Any]:
    """Milliseconds that calls took, and seconds until a record was swept."""
    bench._write_records(records)
    with bench.daemon("author"):
        bench.labmesh("author", "confirm")
        bench.labmesh("author", "push", str(bench.base / "records.jsonl"), "--kind", "result")
        while bench.labmesh("author", "status")["index_backlog"]:
            time.sleep(1)
        _log(f"holds {records} records")
        calls = {"push": _pushing(bench), "read": _reading(bench)}
        quiet = {name: Repeated(call) for name, call in calls.items()}
        time.sleep(QUIET_S)
        before = {name: repeated.stop() for name, repeated in quiet.items()}
        busy = {name: Repeated(call) for name, call in calls.items()}
        swept = [_erase(bench, i) for i in range(erasures)]
        after = {name: repeated.stop() for name, repeated in busy.items()}
    size = (bench.base / "author" / "labmesh.sqlite").stat().st_size
    return {
        "records": records,
        "database_mb": round(size / 1e6),
        "swept_s": [round(seconds, 2) for seconds in swept],
        "quiet": {name: _summary(times) for name, times in before.items()},
        "while_erasing": {name: _summary(times) for name, times in after.items()},
    }


class Repeated:
    """A call that is made again and again in a thread of its own."""

    def __init__(self, call: Callable[[], object]) -> None:
        """Begin."""
        self._call, self._end, self._times = call, threading.Event(), list[float]()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> list[float]:
        """End; how many milliseconds each call took."""
        self._end.set()
        self._thread.join()
        return self._times

    def _run(self) -> None:
        while not self._end.is_set():
            begin = time.monotonic()
            self._call()
            self._times.append(1000 * (time.monotonic() - begin))


def _stub(bench: Bench) -> node_pb2_grpc.NodeServiceStub:
    options = [("grpc.use_local_subchannel_pool", 1)]
    return node_pb2_grpc.NodeServiceStub(grpc.insecure_channel(f"unix:{bench.base}/author/labmesh.sock", options=options))


def _pushing(bench: Bench) -> Callable[[], object]:
    stub, count = _stub(bench), iter(range(10**9))

    def push() -> object:
        record = json.dumps({"key": f"P-{next(count):07}", "body": _record(1)["body"]}, ensure_ascii=False).encode()
        options = node_pb2.PushRequest(options=node_pb2.PushOptions(kind="result"))
        batch = node_pb2.PushRequest(batch=node_pb2.PushBatch(records=[record]))
        return stub.Push(iter([options, batch]), timeout=CALL_S)

    return push


def _reading(bench: Bench) -> Callable[[], object]:
    stub, request = _stub(bench), node_pb2.GetRecordRequest(id="author/result/B-0000100")
    return lambda: stub.GetRecord(request, timeout=CALL_S)


def _erase(bench: Bench, i: int) -> float:
    """Erase one record; seconds until its bytes had gone from the files."""
    count = bench._log_path("author").read_text().count("event=swept")
    begin = time.monotonic()
    bench.labmesh("author", "erase", f"author/result/B-{i:07}", "--reason", "bench", "--yes")
    while bench._log_path("author").read_text().count("event=swept") == count:
        time.sleep(0.05)
    return time.monotonic() - begin


def _summary(times: list[float]) -> dict[str, float]:
    return {"calls": len(times), "p50_ms": round(_quantile(times, 50), 1), "max_ms": round(max(times), 1)}


if __name__ == "__main__":
    main()
