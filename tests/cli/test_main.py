"""The command as a whole: what it knows, how fast it starts, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from cli.app import SOCKET_NAME, software_version
from cli.main import COMMANDS, labmesh
from node.home import Home
from tests.cli.conftest import run

HEAVY = {"grpc", "sqlmodel", "sqlalchemy", "cryptography", "jsonschema_rs", "rich", "google.protobuf", "asyncio"}
CONTRACT = [
    "init",
    "card",
    "roster",
    "join",
    "keys",
    "run",
    "confirm",
    "upgrade",
    "backup",
    "restore",
    "push",
    "client",
    "list",
    "show",
    "search",
    "grant",
    "erase",
    "status",
    "peers",
    "doctor",
    "audit",
    "prove",
    "verify",
    "evidence",
]
ROSTER_CONTRACT = (
    "create",
    "add",
    "remove",
    "council",
    "threshold",
    "quorum",
    "rekey",
    "renew",
    "settle",
    "sign",
    "withdraw",
    "proposal",
    "show",
    "export",
)


def _process(*args: str, **options) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cli.main", *args]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **options.pop("env", {})}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def _roster() -> click.Group:
    command = labmesh.get_command(click.Context(labmesh), "roster")
    assert isinstance(command, click.Group)
    return command


def test_every_command_of_the_contract_exists():
    assert set(COMMANDS) == set(CONTRACT)
    assert set(_roster().commands) == set(ROSTER_CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_the_short_help_is_that_of_the_command(name):
    command = labmesh.get_command(click.Context(labmesh), name)
    assert command is not None
    assert command.get_short_help_str(limit=200) == COMMANDS[name]


@pytest.mark.parametrize("args", [["--help"], *([name, "--help"] for name in CONTRACT), ["roster", "add", "--help"]])
def test_help_imports_nothing_heavy(args):
    code = (
        "import sys\n"
        "from cli.main import main\n"
        f"sys.argv = ['labmesh', *{args!r}]\n"
        "try:\n    main()\nexcept SystemExit as error:\n    assert not error.code, error.code\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: labmesh")
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", CONTRACT)
def test_every_command_takes_the_global_options(name):
    ended = run(name, "--help")
    assert ended.exit_code == 0
    assert "--home" in ended.out and "--json" in ended.out


@pytest.mark.parametrize("args", [["--json", "roster", "show"], ["roster", "--json", "show"], ["roster", "show", "--json"]])
def test_the_global_options_may_stand_anywhere(founded, args):
    assert run(*args, home=founded).document["version"] == 1
    assert run(*args, "--home", founded).document["version"] == 1


def test_the_option_counts_more_than_the_environment(founded, tmp_path):
    assert run("roster", "show", "--json", env={"LABMESH_HOME": str(founded)}).document["version"] == 1
    other = str(tmp_path / "other")
    assert run("roster", "show", "--json", "--home", founded, env={"LABMESH_HOME": other}).document["version"] == 1
    assert run("roster", "show", env={"LABMESH_HOME": other}).exit_code == 1


def test_the_socket_is_the_one_of_the_home(tmp_path):
    assert Home(tmp_path).socket_path == tmp_path / SOCKET_NAME


def test_version():
    assert run("--version").out == f"labmesh {software_version()}\n"
    assert run("--json", "--version").document == {"version": software_version()}


def test_no_arguments_show_the_help():
    ended = run()
    assert (ended.exit_code, ended.out) == (2, "")
    assert "Commands:" in ended.err


@pytest.mark.parametrize(
    "args",
    [
        ["pussh"],
        ["status", "--bogus"],
        ["push"],
        ["push", "missing-file", "--kind", "result"],
        ["push", "."],
        ["list", "--limit", "0"],
        ["list", "--limit", "1001"],
        ["list", "--limit", "many"],
        ["list", "--kind", "No Kind"],
        ["search"],
        ["show"],
        ["prove", "jinan/result/1"],
        ["init", "Bad Name", "--alliance", "a.example", "--name", "n", "--region", "r", "--address", "h:1"],
        ["join"],
        ["join", "missing-file"],
        ["roster", "bogus"],
        ["roster", "create"],
        ["roster", "create", "--title", "t", "--threshold", "0"],
        ["roster", "add"],
        ["roster", "remove", "Bad Name"],
        ["verify", "missing-file", "--fingerprint", "0" * 64],
        ["status", "--home", ""],
    ],
)
def test_a_wrong_command_line_is_2(args, tmp_path):
    plain = run(*args, home=tmp_path / "none")
    assert (plain.exit_code, plain.out) == (2, "")
    assert plain.err.startswith("error: ") and "\nhint: " in plain.err
    as_json = run(*args, "--json", home=tmp_path / "none")
    assert (as_json.exit_code, as_json.err) == (2, "")
    assert as_json.error["reason"] == "USAGE" and as_json.error["hint"]


def test_a_mistyped_command_is_guessed():
    assert "'push'" in run("pussh").err


ON_A_NODE = [
    ["status"],
    ["peers"],
    ["list"],
    ["search", "水分"],
    ["show", "jinan/result/1"],
    ["prove", "jinan/result/1", "-o", "never-written"],
    ["confirm"],
    ["push", "-", "--kind", "result"],
]


@pytest.mark.parametrize("args", ON_A_NODE)
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_without_a_node_it_is_3_and_silent_on_stdout(args, option, home):
    ended = run(*args, *option, home=home, stdin='{"key":"a","body":{}}')
    assert (ended.exit_code, ended.out) == (3, "")
    socket_path = home / SOCKET_NAME
    assert (
        ended.err == f"error: the node is not running (no answer on {socket_path})\nhint: type: labmesh --home {home} run\n"
    )


@pytest.mark.parametrize(
    "args",
    [["card"], ["roster", "show"], ["roster", "export"], ["roster", "create", "--title", "t"], ["upgrade"], ["run"]],
)
def test_without_a_home_it_says_what_to_type(args, tmp_path):
    ended = run(*args, "--json", home=tmp_path / "none")
    assert ended.exit_code == 1
    assert ended.error["reason"] == "HOME" and "init" in ended.error["hint"]


def test_an_unexpected_exception_is_one_line(monkeypatch, home):
    def fail(*_args, **_kwargs):
        raise KeyError("secret")

    monkeypatch.setattr("cli.commands.card.read_held_alliance", fail)
    plain = run("card", home=home)
    assert plain.exit_code == 1 and "secret" not in plain.err
    assert plain.err.splitlines()[0] == "error: KeyError: a fault of this software, not of what you typed"
    assert run("card", "--json", home=home).error["reason"] == "INTERNAL"


def test_the_debug_variable_shows_the_traceback(tmp_path):
    done = _process("--home", str(tmp_path), "card", env={"LABMESH_DEBUG": "1"})
    _, err = done.communicate(timeout=60)
    assert done.returncode == 1 and b"Traceback" in err and b"\nerror: " in err


def _wait_until_idle(process: subprocess.Popen[bytes]) -> None:
    """Until it has used no processor time for a second: it has started, and waits for its input."""
    used, since, deadline = -1.0, time.monotonic(), time.monotonic() + 60
    while time.monotonic() < min(since + 1.0, deadline):
        time.sleep(0.05)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        now = float(fields[11]) + float(fields[12])
        if now != used or fields[0] == "R":
            used, since = now, time.monotonic()


def test_an_interruption_is_130():
    done = _process("push", "-", "--kind", "result", stdin=subprocess.PIPE)
    _wait_until_idle(done)
    done.send_signal(signal.SIGINT)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out) == (130, b"") and b"Traceback" not in err


def test_a_reader_that_has_gone_is_no_fault():
    done = _process("--help", stdin=subprocess.DEVNULL)
    assert done.stdout is not None and done.stderr is not None
    done.stdout.close()
    err = done.stderr.read()
    done.stderr.close()
    assert done.wait(timeout=60) == 141 and err == b""


def test_a_locale_without_han_characters_is_no_fault(founded: Path):
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = _process("--home", str(founded), "roster", "show", env=locale)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, b"")
    assert "Jinan 联盟" in out.decode()
