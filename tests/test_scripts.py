"""The task runner works as shipped, and the repository names no machine it was made on."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"] if path.is_file())
LOCKS = ["requirements.txt", "requirements-dev.txt"]

# Put together from pieces, so that this file does not contain what it looks for.
REGISTRY_HOSTS = [
    ".".join(labels)
    for labels in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("npmmirror", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("golang", "org"),
    ]
]
# A folder at the top of a disk: not one inside a longer path or an address.
PRIVATE_FOLDER = r"(?<![\w.~}-])/(?:home|root|Users|work)/[\w.]"
MACHINE = re.compile("|".join([*map(re.escape, REGISTRY_HOSTS), PRIVATE_FOLDER]))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable(script: Path) -> None:
    assert os.access(script, os.X_OK), f"chmod +x {script.relative_to(ROOT)}"
    assert script.read_bytes().startswith(b"#!/usr/bin/env "), "an interpreter by its name, wherever it lies"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    if "python" in text.partition("\n")[0]:
        compile(text, script.name, "exec")
        return
    assert "\nset -euo pipefail\n" in text
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", LOCKS)
def test_lock_holds_only_versions_and_hashes(name: str) -> None:
    lines = [line.strip().removesuffix("\\").strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    stated = [line for line in lines if line and not line.startswith("#")]
    requirement = re.compile(r"[a-z0-9-]+==[\w.]+( ; .+)?|--hash=sha256:[0-9a-f]{64}")
    assert [line for line in stated if not requirement.fullmatch(line)] == []
    assert sum(line.startswith("--hash=") for line in stated) > sum("==" in line for line in stated) / 2


def test_runtime_lock_is_part_of_the_development_lock() -> None:
    runtime, development = (
        set(re.findall(r"^([a-z0-9-]+==[^\s;]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)) for name in LOCKS
    )
    assert runtime
    assert runtime <= development


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("see https://" + REGISTRY_HOSTS[0] + "/simple", True),
        ("cd /" + "home/ann/labmesh", True),
        ('"/' + "work/main", True),
        ("https://example.org/" + "home/page", False),
        ("~/.labmesh", False),
        ("/var/lib/labmesh", False),
    ],
)
def test_the_search_finds_what_it_is_for(line: str, named: bool) -> None:
    assert bool(MACHINE.search(line)) is named


def test_no_file_names_a_registry_or_a_private_folder() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed, so the files of the repository cannot be listed")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():  # deleted, not yet committed
            continue
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
            found += [f"{name}:{number}: {match[0]}" for match in MACHINE.finditer(line)]
    assert found == []
