#!/usr/bin/env python3
"""Three laboratories found an alliance on loopback, exchange real records, and an auditor proves one offline.

Every step is a `labmesh` command, printed before it runs. Ends with 0 when every expectation held; leaves no process and
no file behind. `--keep` keeps the folder, so that you can look around.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

LABMESH = Path(sys.executable).with_name("labmesh")
EXAMPLES = Path(__file__).resolve().parent.parent / "config" / "examples"
ALLIANCE = "demo.labmesh.example"
MEMBERS = {"jinan": "济南市产品质量检验院", "qingdao": "青岛市食品检验中心", "weifang": "潍坊市检验检测中心"}
DEADLINE_S = 60.0


def main() -> None:
    """Run the demo in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the folder with the three homes")
    keep = parser.parse_args().keep
    base = Path(tempfile.mkdtemp(prefix="labmesh-demo-"))
    demo = Demo(base)
    try:
        demo.run()
    finally:
        demo.stop()
        if keep:
            print(f"kept: {base}")
        else:
            shutil.rmtree(base)


class Demo:
    """The three homes, their daemons, and what is expected of them."""

    def __init__(self, base: Path) -> None:
        """Use an empty folder."""
        self.base = base
        self.daemons: list[subprocess.Popen[str]] = []

    def run(self) -> None:
        """Every step, in order."""
        self.found_alliance()
        self.start_daemons()
        self.push_records()
        self.wait_for_sync()
        self.search()
        self.show_audience()
        self.prove_and_verify()
        print("\nDone: every step did what it should.")

    def found_alliance(self) -> None:
        """Three homes; the first member founds, the others send their cards and join."""
        _title("Three members, each with a home of its own")
        for member, name in MEMBERS.items():
            address = f"127.0.0.1:{_free_port()}"
            self.labmesh(
                member, "init", member, "--alliance", ALLIANCE, "--name", name, "--region", "山东", "--address", address
            )
        _title("jinan founds the alliance; the others hand in their cards")
        self.labmesh("jinan", "roster", "create", "--title", "山东检验检测联盟")
        cards = [self.base / f"{member}.card" for member in list(MEMBERS)[1:]]
        for member, card in zip(list(MEMBERS)[1:], cards, strict=True):
            self.labmesh(member, "card", "-o", str(card))
        self.labmesh("jinan", "roster", "add", *map(str, cards))
        self.labmesh("jinan", "roster", "export", "-o", str(self.base / "alliance.json"))
        self.fingerprint = self.json("jinan", "roster", "show")["fingerprint"]
        print(f"The fingerprint that people compare over the telephone: {self.fingerprint}")
        for member in list(MEMBERS)[1:]:
            self.labmesh(member, "join", str(self.base / "alliance.json"), "--fingerprint", self.fingerprint)

    def start_daemons(self) -> None:
        """One daemon a member."""
        _title("Each member runs its node")
        for member in MEMBERS:
            log = (self.base / f"{member}.log").open("w")
            command = [str(LABMESH), "--home", str(self.base / member), "run"]
            print(f"$ labmesh --home {member} run")
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            self.daemons.append(process)
            assert process.stdout is not None
            _expect(process.stdout.readline().strip() == "ready", f"{member} serves")

    def push_records(self) -> None:
        """178 wine analyses split by producer, 11 rows of an accreditation scope, and some results for one partner."""
        _title("Real records: 178 wine analyses by producer, 11 accreditation rows")
        pushed = 0
        for i, member in enumerate(MEMBERS):
            pushed += self.json(member, "push", str(EXAMPLES / f"wine-producer-{i}.jsonl"), "--kind", "result")["accepted"]
        _expect(pushed == 178, f"{pushed} analyses are signed and durable")
        scope = self.json("jinan", "push", str(EXAMPLES / "cnas-l0867.jsonl"), "--kind", "capability")
        _expect(scope["accepted"] == 11, "11 capabilities are signed and durable")
        again = self.json("jinan", "push", str(EXAMPLES / "cnas-l0867.jsonl"), "--kind", "capability")
        _expect(again["unchanged"] == 11 and again["accepted"] == 0, "pushing the same file again changes nothing")
        restricted = self.base / "restricted.jsonl"
        lines = (EXAMPLES / "wine-producer-0.jsonl").read_text(encoding="utf-8").splitlines()[:5]
        records = [json.loads(line) for line in lines]
        for record in records:
            record["key"] = "CONFIDENTIAL-" + record["key"]
        restricted.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        outcome = self.json("jinan", "push", str(restricted), "--kind", "result", "--audience", "qingdao")
        _expect(outcome["accepted"] == 5, "5 further results are for qingdao only")

    def wait_for_sync(self) -> None:
        """Until every member has verified everything the others published."""
        _title("The logs spread by themselves")
        sizes = {member: self.json(member, "status", quiet=True)["size"] for member in MEMBERS}

        def everyone_has_everything() -> bool:
            states = [self.json(member, "status", quiet=True) for member in MEMBERS]
            return all(peer["verified"] == sizes[peer["member"]] for state in states for peer in state["peers"])

        _wait_until(everyone_has_everything, "every log is verified at every member")
        self.labmesh("weifang", "status")

    def search(self) -> None:
        """In Chinese and English, at a member that published none of it."""
        _title("weifang looks for a laboratory")
        for text in ("水分", "ＧＢ／Ｔ 5009.12", "alcohol"):
            _wait_until(lambda text=text: self.hits(text) > 0, f"{text} is found")  # type: ignore[misc]
        self.labmesh("weifang", "search", "水分")
        self.labmesh("weifang", "search", "alcohol", "--author", "qingdao", "--limit", "3")

    def hits(self, text: str) -> int:
        """How many records weifang finds."""
        return len(self.json("weifang", "search", text, quiet=True)["records"])

    def show_audience(self) -> None:
        """A restricted record is there for its audience and nobody else, and the log verifies at both."""
        _title("A record for one partner reaches only that partner")
        key = json.loads((self.base / "restricted.jsonl").read_text(encoding="utf-8").splitlines()[0])["key"]
        shown = self.json("qingdao", "show", f"jinan/result/{key}")
        _expect(shown["audience"] == ["qingdao"], "qingdao reads it")
        self.labmesh("weifang", "show", f"jinan/result/{key}", expect=1)

    def prove_and_verify(self) -> None:
        """A bundle from a peer, verified in an empty home, refused after one flipped byte."""
        _title("An auditor with one file and one fingerprint, and no node")
        record = self.json("weifang", "list", "--kind", "capability", "--author", "jinan", "--limit", "1")["records"][0]
        bundle, early = self.base / "evidence.labmesh", self.base / "early.labmesh"

        def quorum_is_met() -> bool:
            self.json("weifang", "prove", record["id"], "-o", str(early), "--force", quiet=True)
            return bool(
                self.json("auditor", "verify", str(early), "--fingerprint", self.fingerprint, quiet=True)["quorum"]["met"]
            )

        _wait_until(quorum_is_met, "enough members have cosigned")
        self.labmesh("weifang", "prove", record["id"], "-o", str(bundle))
        self.labmesh("auditor", "verify", str(bundle), "--fingerprint", self.fingerprint, "--require-quorum")
        forged = self.base / "forged.labmesh"
        _flip_one_bit_of_the_record(bundle, forged)
        print("\nOne bit of the record is flipped (and the ZIP mended, so that only the signature can tell):")
        self.labmesh("auditor", "verify", str(forged), "--fingerprint", self.fingerprint, expect=1)

    def labmesh(self, member: str, *arguments: str, expect: int = 0) -> None:
        """Run one command for people to see."""
        print(f"\n$ labmesh --home {member} {' '.join(arguments)}", flush=True)
        done = self._run(member, arguments)
        print((done.stdout + done.stderr).rstrip())
        _expect(done.returncode == expect, f"exit {done.returncode}", quiet=done.returncode == 0)

    def json(self, member: str, *arguments: str, quiet: bool = False) -> Any:
        """Run one command and return its JSON."""
        if not quiet:
            print(f"\n$ labmesh --home {member} --json {' '.join(arguments)}", flush=True)
        done = self._run(member, ("--json", *arguments))
        if done.returncode not in (0, 1) or not done.stdout:
            raise SystemExit(f"ended with {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def stop(self) -> None:
        """End the daemons."""
        for process in self.daemons:
            process.terminate()
        for process in self.daemons:
            process.wait(30)

    def _run(self, member: str, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        command = [str(LABMESH), "--home", str(self.base / member), *arguments]
        environment = {**os.environ, "COLUMNS": "110", "PYTHONUTF8": "1"}
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=DEADLINE_S, env=environment)


def _flip_one_bit_of_the_record(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = bytearray(old.read(entry))
            if entry.filename == "record.json":
                content[len(content) // 2] ^= 1
            new.writestr(entry, bytes(content))


def _title(text: str) -> None:
    print(f"\n== {text} ==", flush=True)


def _expect(held: bool, what: str, *, quiet: bool = False) -> None:
    if not held:
        raise SystemExit(f"\nFAILED: {what}")
    if not quiet:
        print(f"   ok: {what}", flush=True)


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"\nFAILED: not within {DEADLINE_S:.0f} s: {what}")
        time.sleep(0.2)
    print(f"   ok: {what}", flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
