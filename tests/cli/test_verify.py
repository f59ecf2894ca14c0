"""`verify`, on bundles that the builders make: no node, and mostly no home."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.core.alliance import load_alliance
from node.core.bundle import Bundle, format_bundle
from node.core.verdict import STEPS
from node.errors import HomeError
from tests.builders import BundleCase, build_bundle_case, kinds, record_bytes
from tests.cli.conftest import Ended
from tests.cli.conftest import run as run_labmesh
from tests.verifiers import second_verdict_on


@pytest.fixture(autouse=True)
def small_kinds(monkeypatch):
    """The builders' records have small schemas of their own."""
    monkeypatch.setattr("node.core.kinds.Kinds", lambda _schemas: kinds())


def run(*args: object, **options: Any) -> Ended:
    """Run the command; where one file is verified by its fingerprint alone, the second verifier must say the same."""
    ended = run_labmesh(*args, **options)
    files = [argument for argument in args if isinstance(argument, Path)]
    if len(files) == 1 and "--fingerprint" in args and "--require-quorum" not in args and ended.exit_code in (0, 1):
        fingerprint = str(args[args.index("--fingerprint") + 1])
        assert (ended.exit_code == 0) == (second_verdict_on(files[0].read_bytes(), fingerprint).result is not None)
    return ended


@pytest.fixture(scope="module")
def case() -> BundleCase:
    return build_bundle_case()


def _write(folder: Path, bundle: Bundle, name: str = "one.labmesh") -> Path:
    file = folder / name
    file.write_bytes(format_bundle(bundle))
    return file


@pytest.fixture
def file(case, tmp_path):
    return _write(tmp_path, case.bundle())


@pytest.fixture
def nowhere(tmp_path):
    return tmp_path / "no-home"


def test_the_json_of_a_good_bundle(case, file, nowhere):
    ended = run("verify", file, "--fingerprint", case.fingerprint, "--json", home=nowhere)
    assert ended.exit_code == 0, ended
    content = ended.document
    assert list(content) == [
        "verified",
        "record",
        "signer",
        "signed_size",
        "roster",
        "quorum",
        "cosigners",
        "seen_by",
        "steps",
    ]
    assert (content["verified"], content["signer"], content["signed_size"]) == (True, "jinan", 5)
    assert content["record"]["key"] == "WJ-BLOB"
    assert content["roster"]["version"] == 2 and content["quorum"] == {"needed": 2, "met": True}
    assert [step["step"] for step in content["steps"]] == list(STEPS)
    assert all(step["ok"] is True for step in content["steps"])
    assert content["seen_by"] is not None and len(content["cosigners"]) == 2
    assert not nowhere.exists()


def test_people_see_every_step_and_who_saw_it(case, file, nowhere):
    shown = run("verify", file, "--fingerprint", case.fingerprint, home=nowhere).out
    assert all(f"ok     {step}" in shown for step in STEPS)
    assert "jinan/result/WJ-BLOB@1" in shown and "qingdao" in shown and "yantai" in shown


def test_an_expired_roster_is_reported_and_fails_nothing(file, case, nowhere, monkeypatch):
    from datetime import UTC, datetime

    monkeypatch.setattr("node.clock.utc_now", lambda: datetime(2099, 1, 1, tzinfo=UTC))
    ended = run("verify", file, "--fingerprint", case.fingerprint, home=nowhere)
    assert ended.exit_code == 0 and "EXPIRED" in ended.out


def test_another_fingerprint_does_not_verify(file, nowhere):
    ended = run("verify", file, "--fingerprint", "0" * 64, "--json", home=nowhere)
    assert ended.exit_code == 1
    assert [step["ok"] for step in ended.document["steps"]] == [False] + [None] * 7
    assert "FAILED roster" in run("verify", file, "--fingerprint", "0" * 64, home=nowhere).out


def test_a_changed_record_does_not_verify(case, tmp_path, nowhere):
    changed = _write(tmp_path, replace(case.bundle(), record=record_bytes("jinan", "WJ-OTHER")))
    ended = run("verify", changed, "--fingerprint", case.fingerprint, "--json", home=nowhere)
    assert ended.exit_code == 1 and ended.document["verified"] is False
    assert [step["step"] for step in ended.document["steps"] if step["ok"] is False] == ["inclusion"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}", b"not a bundle" * 100])
def test_a_file_that_is_no_bundle_fails_at_the_first_step(tmp_path, content, nowhere):
    file = tmp_path / "thing"
    file.write_bytes(content)
    ended = run("verify", file, "--fingerprint", "0" * 64, "--json", home=nowhere)
    assert ended.exit_code == 1
    steps = ended.document["steps"]
    assert [step["step"] for step in steps] == list(STEPS)
    assert [step["ok"] for step in steps] == [False] + [None] * 7
    assert "not a readable bundle" in steps[0]["detail"] and "labmesh prove ID -o FILE" in steps[0]["detail"]
    assert run("verify", file, "--fingerprint", "0" * 64, home=nowhere).exit_code == 1


def test_every_cut_of_a_bundle_is_refused_without_a_traceback(case, tmp_path, nowhere):
    raw = format_bundle(case.bundle())
    file = tmp_path / "cut"
    for end in range(0, len(raw), len(raw) // 25):
        file.write_bytes(raw[:end])
        assert run("verify", file, "--fingerprint", case.fingerprint, "--json", home=nowhere).exit_code == 1


def test_several_files(case, file, tmp_path, nowhere):
    bad = tmp_path / "bad"
    bad.write_bytes(b"")
    good = run("verify", file, file, "--fingerprint", case.fingerprint, "--json", home=nowhere)
    assert good.exit_code == 0
    assert [bundle["file"] for bundle in good.document["bundles"]] == [str(file)] * 2
    mixed = run("verify", file, bad, "--fingerprint", case.fingerprint, "--json", home=nowhere)
    assert mixed.exit_code == 1 and mixed.document["verified"] is False
    assert [bundle["verified"] for bundle in mixed.document["bundles"]] == [True, False]


def test_stdin(case, nowhere):
    raw = format_bundle(case.bundle())
    assert run("verify", "-", "--fingerprint", case.fingerprint, home=nowhere, stdin=raw).exit_code == 0


def _without_cosigners(case: BundleCase) -> Bundle:
    bare = case.log.checkpoint()
    only = {"jinan": case.cards["jinan"]}
    return replace(case.bundle(), proof=case.proof(bare), first_proof=None, cards=only)


def test_an_unmet_quorum_fails_only_when_it_is_required(case, tmp_path, nowhere):
    file = _write(tmp_path, _without_cosigners(case))
    ended = run("verify", file, "--fingerprint", case.fingerprint, "--json", home=nowhere)
    assert ended.exit_code == 0
    assert ended.document["quorum"] == {"needed": 2, "met": False} and ended.document["seen_by"] is None
    strict = run("verify", file, "--fingerprint", case.fingerprint, "--require-quorum", "--json", home=nowhere)
    assert strict.exit_code == 1 and strict.document["verified"] is True
    assert "NOT MET" in run("verify", file, "--fingerprint", case.fingerprint, home=nowhere).out


@pytest.mark.parametrize("fingerprint", ["", "zz", "0" * 63])
def test_what_is_no_fingerprint_is_usage(file, nowhere, fingerprint):
    assert run("verify", file, "--fingerprint", fingerprint, home=nowhere).exit_code == 2


def test_without_a_fingerprint_and_a_home_it_is_usage(file, nowhere):
    ended = run("verify", file, "--json", home=nowhere)
    assert ended.exit_code == 2 and "--fingerprint" in ended.error["hint"]


def test_a_home_that_has_not_joined_pins_nothing(file, home):
    assert run("verify", file, home=home).exit_code == 2


def test_a_folder_that_is_no_home_pins_nothing(file, tmp_path):
    ended = run("verify", file, "--json", home=tmp_path)
    assert ended.exit_code == 2 and "not the home" in ended.error["message"]


def _hold(monkeypatch, alliance):
    monkeypatch.setattr("node.store.glance.read_alliance", lambda _path: alliance)


@pytest.mark.parametrize("versions", [1, 2])
def test_a_home_pins_its_chain_however_far_it_reaches(monkeypatch, case, file, tmp_path, versions):
    _hold(monkeypatch, load_alliance(case.rosters[:versions]))
    assert run("verify", file, home=tmp_path).exit_code == 0


def test_a_home_that_knows_more_takes_an_earlier_bundle(monkeypatch, case, tmp_path):
    _hold(monkeypatch, case.alliance)
    earlier = replace(_without_cosigners(case), rosters=tuple(case.rosters[:1]))
    assert run("verify", _write(tmp_path, earlier), home=tmp_path).exit_code == 0


def test_the_home_of_another_alliance_refuses(monkeypatch, file, tmp_path):
    other = build_bundle_case(title="Another").alliance
    _hold(monkeypatch, other)
    ended = run("verify", file, "--json", home=tmp_path)
    assert ended.exit_code == 1 and ended.document["steps"][0]["ok"] is False


def test_a_broken_home_does_not_hinder_with_a_fingerprint(monkeypatch, case, file, home):
    def fail(_home):
        raise HomeError("broken")

    monkeypatch.setattr("node.store.glance.read_alliance", fail)
    assert run("verify", file, "--fingerprint", case.fingerprint, home=home).exit_code == 0
    assert run("verify", file, home=home).exit_code == 2


def test_one_file_that_is_not_there_is_usage(case, tmp_path, nowhere):
    assert run_labmesh("verify", tmp_path / "none", "--fingerprint", case.fingerprint, home=nowhere).exit_code == 2


def test_each_of_several_files_is_reported_whatever_the_others_are(case, file, tmp_path, nowhere):
    empty, folder, missing = tmp_path / "empty", tmp_path / "folder", tmp_path / "missing"
    empty.write_bytes(b"")
    folder.mkdir()
    changed = _write(tmp_path, replace(case.bundle(), record=record_bytes("jinan", "WJ-OTHER")), "changed.labmesh")
    files = [missing, empty, folder, changed, file]
    ended = run("verify", *files, "--fingerprint", case.fingerprint, "--json", home=nowhere)
    assert ended.exit_code == 1 and ended.document["verified"] is False
    bundles = ended.document["bundles"]
    assert [bundle["file"] for bundle in bundles] == [str(name) for name in files]
    assert [bundle["verified"] for bundle in bundles] == [False, False, False, False, True]
    assert "No such file" in bundles[0]["steps"][0]["detail"] and "directory" in bundles[2]["steps"][0]["detail"]
    people = run("verify", *files, "--fingerprint", case.fingerprint, home=nowhere)
    assert people.exit_code == 1
    assert people.out.count("NOT VERIFIED") == 4 and people.out.count(": verified") == 1


def test_what_a_home_has_learned_since_counts_also_with_a_fingerprint(monkeypatch, case, file, home):
    from datetime import timedelta

    from node.core.roster import Head
    from tests.builders import START, build_labs, sign_roster

    envelope, held = case.alliance.rosters[-1]
    line = replace(held.members["jinan"], status="removed", left=START + timedelta(days=9), head=Head(1, bytes(32)))
    newer = replace(held, version=3, previous=envelope.hash, members={**held.members, "jinan": line})
    signed = sign_roster(newer, *build_labs(3)[: held.threshold])
    _hold(monkeypatch, load_alliance([*case.rosters, signed]))
    ended = run_labmesh("verify", file, "--fingerprint", case.fingerprint, "--json", home=home)
    assert ended.exit_code == 1
    steps = {step["step"]: step for step in ended.document["steps"]}
    assert "judged by version 3" in steps["roster"]["detail"] and steps["checkpoint"]["ok"] is False


def test_people_read_who_cosigned_by_when_and_whether_it_is_enough(case, file, nowhere):
    shown = run("verify", file, "--fingerprint", case.fingerprint, home=nowhere).out
    assert "qingdao (2026-11-20T08:30:07Z), yantai (2026-11-20T08:30:03Z)" in shown
    assert "by enough of them at 2026-11-20T08:30:07Z" in shown and "2 other members needed: met" in shown
