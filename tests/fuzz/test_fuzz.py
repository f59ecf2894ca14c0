"""The short version of `scripts/fuzz` that runs with every test, and tests that it finds what is there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.fuzz.calls
import tests.fuzz.formats  # noqa: F401 -- both fill the table
from labmesh.v1 import node_pb2, peer_pb2
from node.errors import FormatError, LabmeshError
from tests.fuzz.calls import SKIPPED
from tests.fuzz.driver import Fuzzing
from tests.fuzz.inputs import CHANGES, SIZE_MAX, inputs
from tests.fuzz.target import SECONDS_MAX, TARGETS, Counts, Finding, Target, judge
from tests.fuzz.world import scene

ROOT = Path(__file__).parents[2]
EXAMPLES = 25


def broken(parse, *, write=None) -> Fuzzing:
    """Fuzz a parser that is wrong."""
    fuzzing = Fuzzing([Target("broken", parse, (FormatError,), lambda: [b"index 5", b"index 17"], write)], 1, 500)
    fuzzing.run(0)
    return fuzzing


@pytest.mark.parametrize("item", TARGETS, ids=lambda item: item.name)
def test_nothing_but_named_refusals(item: Target) -> None:
    fuzzing = Fuzzing([item], seed=0, examples=EXAMPLES, prepare=scene().reset)
    fuzzing.run(0)
    assert fuzzing.found == []
    assert fuzzing.counts[item.name].inputs >= EXAMPLES


@pytest.mark.parametrize("item", TARGETS, ids=lambda item: item.name)
def test_the_examples_reach_the_parser(item: Target) -> None:
    """Each target begins with examples that it takes, or that its own check refuses for one of the named reasons."""
    counts = Counts()
    for raw in item.seeds():
        judge(item, raw, counts)
    assert counts.inputs >= 1


def test_every_parser_has_an_example_that_it_accepts() -> None:
    silent = []
    for item in TARGETS:
        scene().reset()
        counts = Counts()
        if not any(judge(item, raw, counts) for raw in item.seeds()):
            silent.append(item.name)
    # These end in a refusal whatever is sent: a proof of another entry, cosignatures by several keys, an alliance that
    # stands already, a council that must sign together, a member that is one already, what is not there (no proposal
    # either), half a backup.
    allowed = {
        "inclusion",
        "cosignature",
        "call FoundAlliance",
        "call AddMembers",
        "call RemoveMember",
        "call WithdrawRoster",
        "call ConfirmLog",
        "call RevokeClient",
        "call AcknowledgeErasure",
        "call ExportEvidence",
        "backup",
    }
    assert {name.removesuffix(", by fields") for name in silent} <= allowed


def test_every_call_is_fuzzed() -> None:
    methods = {
        method.name
        for service in (*peer_pb2.DESCRIPTOR.services_by_name.values(), *node_pb2.DESCRIPTOR.services_by_name.values())
        for method in service.methods
    }
    fuzzed = {item.name.removeprefix("call ") for item in TARGETS if item.name.startswith("call ")}
    assert methods - SKIPPED == {name for name in fuzzed if "," not in name}


def test_names_are_different() -> None:
    assert len({item.name for item in TARGETS}) == len(TARGETS) >= 50


class TestInputs:
    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def test_every_change_keeps_to_the_size(self, data: st.DataObject) -> None:
        raw = data.draw(inputs([b"a 1 b 22", b"x" * SIZE_MAX]))
        assert len(raw) <= SIZE_MAX

    @pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
    def test_every_change_changes_something_and_survives_nothing(self, change) -> None:
        seen: set[bytes] = set()

        @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(st.data())
        def draw(data: st.DataObject) -> None:
            seen.add(change(data.draw, b"size 42 of 43", [b"another 5"]))
            change(data.draw, b"", [b""])

        draw()
        assert len(seen) > 3


class TestFinding:
    def test_another_exception(self) -> None:
        def parse(raw: bytes) -> int:
            return int(raw.partition(b"index ")[2] or b"0")

        (found,) = broken(parse).found
        assert found.target == "broken" and found.problem.startswith("ValueError")
        with pytest.raises(ValueError):
            parse(found.raw)

    def test_a_second_spelling(self) -> None:
        def parse(raw: bytes) -> int:
            try:
                return int(raw.removeprefix(b"index "))
            except ValueError as error:
                raise FormatError("not an index") from error

        (found,) = broken(parse, write=lambda value: b"index %d" % value).found
        assert "formats back to" in found.problem

    def test_a_refusal_without_words(self) -> None:
        def parse(raw: bytes) -> None:
            raise FormatError("")

        assert "without words" in broken(parse).found[0].problem

    def test_a_parser_that_is_slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.fuzz.target.SECONDS_MAX", SECONDS_MAX / 100)
        numbers = random.Random(1)

        def parse(raw: bytes) -> None:
            for _ in range(200_000):
                numbers.random()

        with pytest.raises(Finding, match="7 bytes took"):
            judge(Target("slow", parse, (), list), b"index 5", Counts())

    def test_an_internal_fault_behind_a_refusal(self) -> None:
        def parse(raw: bytes) -> None:
            raise LabmeshError("a fault of this software")

        with pytest.raises(Finding, match="INTERNAL"):
            judge(Target("internal", parse, (LabmeshError,), list), b"", Counts())

    def test_an_honest_parser_has_none(self) -> None:
        def parse(raw: bytes) -> bytes:
            if len(raw) > 100:
                raise FormatError("too long")
            return raw

        fuzzing = broken(parse, write=bytes)
        counts = fuzzing.counts["broken"]
        assert fuzzing.found == [] and counts.accepted + counts.refused == counts.inputs >= 500
        assert counts.accepted and counts.refused and counts.corpus


class TestCommand:
    def run(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.fuzz", "--minutes", "0", "--save", str(folder), *arguments]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}"}
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120, check=False)

    def test_it_prints_counts_as_json_and_one_seed_makes_the_same_inputs(self, tmp_path: Path) -> None:
        chosen = ("--target", "member id", "--target", "base64", "--examples", "60")
        reports, thrown = [], []
        for seed in ("7", "7", "8"):
            done = self.run(*chosen, "--seed", seed, folder=tmp_path)
            assert done.returncode == 0, done.stderr
            reports.append(json.loads(done.stdout))
            thrown.append(reports[-1]["digest"])
        assert (reports[0]["seed"], reports[0]["rounds"], reports[0]["findings"]) == (7, 1, [])
        assert set(reports[0]["targets"]) == {"member id", "base64"} and reports[0]["inputs"] >= 120
        assert thrown[0] == thrown[1] != thrown[2]
        assert list(tmp_path.iterdir()) == []

    def test_it_knows_its_targets(self, tmp_path: Path) -> None:
        done = self.run("--target", "no such thing", folder=tmp_path)
        assert done.returncode == 2 and "tlog-proof" in done.stderr
