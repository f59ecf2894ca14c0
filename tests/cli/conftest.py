"""Run the command line in this process, on homes in a temporary folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import labmesh
from tests.cli.fake_node import FakeNode, serve

ALLIANCE = "quality.jinan.example"
SIGNING = ("add", "remove", "council", "threshold", "quorum", "rekey", "renew", "settle", "sign", "withdraw")
MEMBERS = ("jinan", "qingdao", "yantai")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    exit_code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        assert self.out.endswith("\n") and self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error in that document."""
        content = self.document
        assert set(content) == {"error"} and set(content["error"]) == {"reason", "message", "hint"}
        return content["error"]


def run(*args: object, home: Path | None = None, stdin: str | bytes = "", env: dict[str, str] | None = None) -> Ended:
    """Run `labmesh` with these arguments; nothing may end in a traceback."""
    arguments = [] if home is None else ["--home", str(home)]
    result = CliRunner().invoke(labmesh, [*arguments, *map(str, args)], input=stdin, env=env)
    assert "Traceback" not in result.output, result.output
    return Ended(result.exit_code, result.stdout, result.stderr)


def run_offline(*args: object, **options: Any) -> Ended:
    """As `run`, on a home that was never restored: a change of the roster is signed although its node does not run."""
    signs = args[0] == "roster" and args[1] in SIGNING
    return run(*args, *(["--offline"] if signs else []), **options)


def init(home: Path, member: str = "jinan", alliance: str = ALLIANCE) -> Path:
    """Make a home."""
    name, region, address = f"{member.title()} 检验院", "CN-37", f"{member}.example:7443"
    ended = run(
        *("init", member, "--alliance", alliance, "--name", name, "--region", region, "--address", address, "--json"),
        home=home,
    )
    assert ended.exit_code == 0, ended
    return home


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home made once, to be copied."""
    return init(tmp_path_factory.mktemp("made") / "home")


@pytest.fixture
def home(made_home: Path, tmp_path: Path) -> Path:
    """A fresh home of jinan, not yet in an alliance."""
    return Path(shutil.copytree(made_home, tmp_path / "home"))


@pytest.fixture
def founded(home: Path) -> Path:
    """A home of jinan, which founded the alliance."""
    assert run("roster", "create", "--title", "Jinan 联盟", home=home).exit_code == 0
    return home


@pytest.fixture
def node_home() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="lm "))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def node(node_home: Path) -> Iterator[FakeNode]:
    """A node that answers what the test tells it, on the socket in `node_home`."""
    with serve(node_home / "labmesh.sock") as fake:
        yield fake


@pytest.fixture(scope="module")
def council_homes(tmp_path_factory):
    """Three homes whose council are all three, of whom two sign; made once, to be copied."""
    folder = tmp_path_factory.mktemp("council")
    homes = {name: init(folder / name, name) for name in MEMBERS}
    for name in (*MEMBERS, "zibo"):
        home = homes.get(name) or init(folder / "zibo", "zibo")
        assert run_offline("card", "-o", folder / f"{name}.card", home=home).exit_code == 0
    jinan = homes["jinan"]
    assert run_offline("roster", "create", "--title", "Jinan 联盟", home=jinan).exit_code == 0
    assert run_offline("roster", "add", folder / "qingdao.card", folder / "yantai.card", home=jinan).exit_code == 0
    proposal, alliance = folder / "three.json", folder / "alliance.json"
    assert run_offline("roster", "export", "-o", alliance, home=jinan).exit_code == 0
    fingerprint = run_offline("roster", "show", "--json", home=jinan).document["fingerprint"]
    for name in MEMBERS[1:]:
        assert run_offline("join", alliance, "--fingerprint", fingerprint, home=homes[name]).exit_code == 0
    assert run_offline("roster", "council", *MEMBERS, "--threshold", 2, "-o", proposal, home=jinan).exit_code == 0
    assert run_offline("roster", "sign", proposal, "--yes", home=homes["qingdao"]).exit_code == 0
    for name in ("jinan", "yantai"):
        assert run_offline("join", proposal, home=homes[name]).exit_code == 0
    proposal.unlink()
    alliance.unlink()
    return folder


@pytest.fixture
def council(council_homes, tmp_path, monkeypatch):
    """A copy of the homes and cards, in the current folder."""
    shutil.copytree(council_homes, tmp_path / "c")
    monkeypatch.chdir(tmp_path / "c")
    return tmp_path / "c"


def propose(council, *args, output="p.json"):
    ended = run_offline("roster", *(args or ("renew",)), "-o", output, "--json", home=council / "jinan")
    assert ended.exit_code == 0, ended
    return ended.document


def version_of(home):
    return run_offline("roster", "show", "--json", home=home).document["version"]
