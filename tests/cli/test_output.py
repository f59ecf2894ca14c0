"""Printing, files and small texts."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.alliance_file import AllianceFile, format_alliance_file, parse_alliance_file
from cli.files import display_name, write_output
from cli.outcome import Failure, UsageFault, build_failure
from cli.output import display_width, print_failure, print_table, printable
from cli.texts import format_age, format_fingerprint, format_size, parse_fingerprint
from node.core.canonical import dumps_canonical
from node.errors import HomeError, PeerUnreachableError
from tests.cli.conftest import run


@given(st.text(max_size=50))
def test_nothing_that_is_printed_can_steer_a_terminal(text):
    shown = printable(text)
    assert shown.isprintable() or all(character.isspace() for character in shown if not character.isprintable())
    assert not {"\x1b", "\x9b", "\r", "\n", "\u202e", "\u2066"} & set(shown)


@given(st.text(alphabet="abc 水分 é½", max_size=20))
def test_harmless_text_stays(text):
    assert printable(text) == text


def test_han_characters_take_two_columns(capsys):
    assert display_width("水分") == 4 and display_width("ab") == 2
    print_table(["a", "b"], [["水分", 1], ["x", None]])
    assert capsys.readouterr().out == "A     B\n水分  1\nx\n"


def test_a_table_without_rows(capsys):
    print_table(["a", "b"], [])
    assert capsys.readouterr().out == "A  B\n"


def test_a_terminal_gets_a_table_without_markup(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(["id", "text"], [["[bold]x[/bold]", "y"]])
    assert "[bold]x[/bold]" in capsys.readouterr().out


def test_errors_for_people_have_no_colour_in_a_file(home):
    ended = run("roster", "show", home=home)
    assert ended.err.startswith("error: ") and "\x1b" not in ended.err


@pytest.mark.parametrize(
    ("error", "exit_code", "reason"),
    [
        (HomeError("x", hint="y"), 1, "HOME"),
        (PeerUnreachableError("x"), 3, "PEER_UNREACHABLE"),
        (UsageFault("x", hint="y"), 2, "USAGE"),
        (click.UsageError("x"), 2, "USAGE"),
        (click.FileError("f", "x"), 2, "USAGE"),
        (FileNotFoundError(2, "No such file or directory", "thing"), 1, "SYSTEM"),
        (OSError(28, "No space left on device"), 1, "SYSTEM"),
        (ZeroDivisionError("x"), 1, "INTERNAL"),
        (OSError("odd"), 1, "INTERNAL"),
    ],
)
def test_how_failures_end(error, exit_code, reason):
    failure = build_failure(error)
    assert (failure.exit_code, failure.reason) == (exit_code, reason)


def test_a_message_with_half_characters_is_still_json(capsys):
    print_failure(Failure(1, "SYSTEM", "file \udcff"), as_json=True)
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "file \\udcff"


def test_a_message_is_one_line(capsys):
    print_failure(Failure(1, "X", "one\ntwo \x1b[2J", "hint\nhint"), as_json=False)
    assert capsys.readouterr().err == "error: one two \\x1b[2J\nhint: hint hint\n"


def test_a_file_is_replaced_whole_with_its_mode(tmp_path):
    file = tmp_path / "out"
    file.write_text("old")
    file.chmod(0o600)
    write_output(str(file), b"new", replace=True)
    assert file.read_bytes() == b"new" and stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_output(str(link), b"new", replace=True)
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        write_output(str(pipe), b"through", replace=False)
        assert reader.communicate(timeout=30)[0] == b"through"
    assert pipe.is_fifo()


def test_a_failed_write_leaves_nothing(monkeypatch, tmp_path):
    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_output(str(tmp_path / "out"), b"new", replace=False)
    assert list(tmp_path.iterdir()) == []


def test_no_folder(tmp_path):
    with pytest.raises(UsageFault, match="no folder"):
        write_output(str(tmp_path / "none" / "out"), b"", replace=False)


def test_names_that_are_not_utf8_can_be_told():
    assert display_name(os.fsdecode(b"\xb1\xa8.json")) == "\ufffd\ufffd.json"
    assert display_name("报告.json") == "报告.json"


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.sampled_from([str, str.upper, format_fingerprint]))
def test_fingerprints_come_back(fingerprint, written):
    assert parse_fingerprint(written(fingerprint)) == fingerprint


ENVELOPES = st.builds(
    lambda payload: dumps_canonical({"payload": payload, "payloadType": "t", "signatures": [{"sig": "s"}]}),
    st.text(max_size=9),
)


@given(st.lists(ENVELOPES, min_size=1, max_size=4), st.lists(ENVELOPES, max_size=4))
def test_alliance_files_come_back(rosters, cards):
    content = AllianceFile(rosters, cards)
    raw = format_alliance_file(content)
    assert (
        parse_alliance_file(raw, "f") == parse_alliance_file(json.dumps(json.loads(raw), indent=2).encode(), "f") == content
    )


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")])
def test_ages(seconds, text):
    assert format_age(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(1023, "1023 bytes"), (1536, "1.5 KiB"), (5 * 1024**2, "5.0 MiB"), (5 * 1024**4, "5120.0 GiB")]
)
def test_sizes(size, text):
    assert format_size(size) == text
