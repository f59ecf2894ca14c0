"""A roster signed while the node does not run: nobody was asked whether this home is older than what it has signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.governance import OFFLINE_RISK
from tests.cli.conftest import init, run

CHANGES = (("renew",), ("council", "qingdao"), ("remove", "qingdao"))


@pytest.fixture
def two(founded: Path, tmp_path: Path) -> Path:
    """A founder that is no longer alone, and the first addition needs no option."""
    assert run("card", "-o", tmp_path / "q.card", home=init(tmp_path / "qingdao", "qingdao")).exit_code == 0
    assert run("roster", "add", tmp_path / "q.card", home=founded).exit_code == 0
    return founded


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused_with_the_risk_and_the_way_on(two: Path, change: tuple[str, ...]) -> None:
    ended = run("roster", *change, "--json", home=two)
    assert (ended.exit_code, ended.error["reason"], ended.error["message"]) == (1, "UNCONFIRMED", OFFLINE_RISK)
    assert "labmesh" in ended.error["hint"] and "--offline" in ended.error["hint"]
    assert run("roster", "show", "--json", home=two).document["version"] == 2


def test_the_option_takes_the_risk(two: Path, tmp_path: Path) -> None:
    assert run("card", "-o", tmp_path / "y.card", home=init(tmp_path / "yantai", "yantai")).exit_code == 0
    refused = run("roster", "add", tmp_path / "y.card", home=two)
    assert refused.exit_code == 1 and "older than what it has signed" in refused.err
    assert run("roster", "add", tmp_path / "y.card", "--offline", "--json", home=two).document["version"] == 3


@pytest.mark.parametrize(("answer", "version"), [("n", 2), ("", 2), ("y", 3)])
def test_a_person_is_asked(two: Path, monkeypatch: pytest.MonkeyPatch, answer: str, version: int) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    ended = run("roster", "renew", home=two, stdin=f"{answer}\n")
    assert ended.exit_code == (0 if version == 3 else 1)
    assert "second roster of one version" in ended.err
    assert run("roster", "show", "--json", home=two).document["version"] == version


def test_a_founder_alone_is_not_asked(founded: Path) -> None:
    assert run("roster", "renew", "--json", home=founded).document["version"] == 2
