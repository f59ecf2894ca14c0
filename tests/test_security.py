"""SECURITY.md promises nothing that no test holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tests.attacks.test_table  # noqa: F401 -- fills the table
from tests.attacks.table import ATTACKS

ROOT = Path(__file__).parent.parent
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
WORDS = " ".join(SECURITY.split())

TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", SECURITY)))
NAMED = sorted(
    {name for part in re.findall(r'attacks? ("[^"]+"(?:, "[^"]+")*)', WORDS) for name in re.findall(r'"([^"]+)"', part)}
)


def promises() -> list[str]:
    """Each promise with what stands behind it: the paragraphs and items between the two headings."""
    section = SECURITY.partition("## What is promised\n")[2].partition("## What is not promised\n")[0]
    return [" ".join(item.split()) for item in re.findall(r"^\* .*?(?=\n\* |\n\n)", section, re.DOTALL | re.MULTILINE)]


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_each_test_named_exists(file: str, name: str) -> None:
    assert re.search(rf"^\s*(?:async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", NAMED)
def test_each_attack_named_is_in_the_table(name: str) -> None:
    assert name in {attack.name for attack in ATTACKS}


def test_there_are_many() -> None:
    assert len(TESTS) >= 10 and len(NAMED) >= 30
    assert len(promises()) >= 12


@pytest.mark.parametrize("promise", promises(), ids=lambda text: text[2:50])
def test_each_promise_points_to_what_holds_it(promise: str) -> None:
    assert re.search(r"`tests/[\w/]+\.py::\w+`", promise) or re.search(r'attacks? "', promise)


@pytest.mark.parametrize(
    "limit", ["true", "withhold", "colluding", "administrator", "rolled back", "erased", "Backups", "entries", "timing"]
)
def test_what_is_not_promised_is_said(limit: str) -> None:
    section = SECURITY.partition("## What is not promised\n")[2].partition("\n## ")[0]
    assert limit in section


def test_it_says_how_to_report_and_names_no_host() -> None:
    section = SECURITY.partition("## Reporting a vulnerability\n")[2]
    assert "private" in section and "public issue" in section
    assert not re.search(r"https?://|@|\.com|\.org", section)


def test_each_path_exists() -> None:
    for path in re.findall(r"`((?:tests|scripts|node)/[\w/]+(?:\.py)?/?)`", SECURITY):
        assert (ROOT / path).exists(), path
