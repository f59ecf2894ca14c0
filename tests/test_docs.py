"""What the documents say exists: commands, options, scripts, settings, kinds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import labmesh
from node.config import format_settings
from node.schemas import load_schemas

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "node" / "DESIGN.md").read_text(encoding="utf-8")

USED = sorted(
    set(re.findall(r"labmesh ([a-z]+(?: (?:create|add|remove|show|export|list|revoke|verify))?)\b", README)) - {"and"}
)


def test_the_readme_uses_commands() -> None:
    assert {"init", "run", "push", "search", "prove", "verify", "join", "roster create"} <= set(USED)


@pytest.mark.parametrize("command", USED)
def test_each_command_in_the_readme_exists(command: str) -> None:
    done = CliRunner().invoke(labmesh, [*command.split(), "--help"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("command", "options"), re.findall(r"labmesh ([a-z]+(?: [a-z]+)?)[^\n`]*?((?: --[a-z-]+[^\n`]*)+)`", README)
)
def test_each_option_in_the_readme_exists(command: str, options: str) -> None:
    words = command.split()
    words = words if words[0] in ("roster", "client", "evidence", "keys") else words[:1]
    shown = CliRunner().invoke(labmesh, [*words, "--help"]).output
    for option in re.findall(r"--[a-z-]+", options):
        assert option in shown, f"labmesh {command} has no {option}"


def test_each_command_is_in_the_readme() -> None:
    commands = CliRunner().invoke(labmesh, ["--help"]).output.partition("Commands:")[2]
    for command in re.findall(r"^  ([a-z]+) ", commands, re.MULTILINE):
        assert f"labmesh {command}" in README, f"the README says nothing of labmesh {command}"


@pytest.mark.parametrize("script", sorted(set(re.findall(r"scripts/([a-z]+)\b", README + CONTRIBUTING))))
def test_each_script_exists(script: str) -> None:
    assert (ROOT / "scripts" / script).is_file()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"\bnode/[a-z/_]+(?:\.py|/)", CONTRIBUTING + DESIGN))))
def test_each_named_module_exists(module: str) -> None:
    assert (ROOT / module).exists()


def test_the_example_settings_are_those_of_a_new_home() -> None:
    written = format_settings(
        name="Jinan Quality Institute", region="Shandong", address="lab.jinan.example:7443", listen="0.0.0.0:7443"
    )
    assert (ROOT / "config" / "labmesh.toml").read_text(encoding="utf-8") == written


def test_each_kind_is_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for schema in load_schemas():
        assert f"`{schema}`" in changelog


def test_modules_stay_readable() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for folder in ("node", "cli")
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert long == {}


def test_the_house_names_every_module_and_package() -> None:
    """Whoever looks for a thing begins there."""
    house = DESIGN.partition("\n## The house\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"^    (node/[\w.]+(?:\.py|/))", house, re.MULTILINE))
    modules = {f"node/{path.name}" for path in (ROOT / "node").glob("*.py") if path.name != "__init__.py"}
    packages = {f"node/{path.parent.name}/" for path in (ROOT / "node").glob("*/__init__.py")}
    assert named == modules | packages
