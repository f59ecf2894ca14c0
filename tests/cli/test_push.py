"""`push`: what is sent, and how the node's verdict is told."""

from __future__ import annotations

import pytest

from cli.commands.push import parse_audience
from cli.outcome import UsageFault
from labmesh.v1 import node_pb2
from node.errors import LimitError, NotFoundError
from tests.cli.conftest import run

ROOT = bytes(range(32))
ROOT_BASE64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def _answer(accepted=0, unchanged=0, rejected=0, errors=()):
    checkpoint = node_pb2.PushedCheckpoint(origin="a.example/log/jinan", size=7, root=ROOT)
    found = [node_pb2.PushError(record=number, path=path, message=message) for number, path, message in errors]
    return node_pb2.PushResponse(
        accepted=accepted, unchanged=unchanged, rejected=rejected, checkpoint=checkpoint, errors=found
    )


def _sent(node):
    first, *rest = node.calls[-1]
    return first.options, [list(message.batch.records) for message in rest]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"key": "a", "body": {}}\n\n{"key":"b","body":{}}\n')
    return path


def test_the_json_of_a_push(node, node_home, file):
    node.answers["Push"] = _answer(accepted=1, unchanged=1)
    ended = run("push", file, "--kind", "result", "--json", home=node_home)
    assert ended.exit_code == 0
    assert ended.document == {
        "accepted": 1,
        "unchanged": 1,
        "rejected": 0,
        "checkpoint": {"origin": "a.example/log/jinan", "size": 7, "root": ROOT_BASE64},
        "errors": [],
    }
    options, batches = _sent(node)
    assert (options.kind, options.revise, options.keep_going) == ("result", False, False)
    assert not options.HasField("audience")
    assert batches == [[b'{"key":"a","body":{}}', b'{"key":"b","body":{}}']]


def test_one_entry_is_one(node, node_home, file):
    answer = _answer(accepted=1)
    answer.checkpoint.size = 1
    node.answers["Push"] = answer
    assert "the log has 1 entry." in run("push", file, "--kind", "result", home=node_home).out


def test_a_person_at_the_terminal_is_told_that_it_is_read(node, node_home, monkeypatch):
    node.answers["Push"] = _answer(accepted=1)
    told = "Reading from the terminal; end with Ctrl-D."
    assert told not in run("push", "-", "--kind", "result", home=node_home, stdin='{"key":"e"}').err
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    ended = run("push", "-", "--kind", "result", home=node_home, stdin='{"key":"e"}')
    assert ended.exit_code == 0 and told in ended.err and told not in ended.out


def test_a_rejection_names_file_and_line_and_is_1(node, node_home, file, tmp_path):
    array = tmp_path / "more.json"
    array.write_text('[{"key":"c","body":{}},\n {"key":"d"}]')
    node.answers["Push"] = _answer(rejected=2, errors=[(2, "/body", "wrong"), (4, "", "'body' is missing")])
    ended = run("push", file, array, "-", "--kind", "result", "--json", home=node_home, stdin='{"key":"e"}')
    assert ended.exit_code == 1
    assert ended.document["errors"] == [
        {"file": str(file), "line": 3, "path": "/body", "message": "wrong"},
        {"file": str(array), "line": 2, "path": "", "message": "'body' is missing"},
    ]
    assert [len(batch) for batch in _sent(node)[1]] == [5]


def test_bad_lines_are_sent_as_they_are(node, node_home):
    node.answers["Push"] = _answer(rejected=1, errors=[(1, "", "not JSON")])
    lines = b'{"key": 1.50}\n{"a": 1, "a": 2}\nnonsense\n\xff\n'
    run("push", "-", "--kind", "result", home=node_home, stdin=lines)
    assert _sent(node)[1] == [[b'{"key": 1.50}', b'{"a": 1, "a": 2}', b"nonsense", b"\xff"]]


def test_a_file_that_is_no_json_tells_where(node, node_home):
    node.answers["Push"] = _answer(rejected=1, errors=[(1, "", "something"), (1, "/x", "something else")])
    ended = run("push", "-", "--kind", "result", "--json", home=node_home, stdin='[{"key":"a"},\n{"key" "b"}]')
    assert ended.exit_code == 1
    (error,) = ended.document["errors"]
    assert (error["file"], error["line"], error["path"]) == ("-", 1, "")
    assert "line 2 column 8" in error["message"]


def test_people_get_a_sentence_and_a_table(node, node_home, file):
    errors = [(1, "/body", f"wrong {number} \x1b[31m") for number in range(30)]
    node.answers["Push"] = _answer(rejected=1, errors=errors)
    ended = run("push", file, "--kind", "result", home=node_home)
    assert ended.exit_code == 1
    assert "0 appended, 0 unchanged, 1 refused" in ended.out
    assert ended.out.count("wrong") == 20 and "10 more" in ended.err
    assert "\x1b" not in ended.out and "\\x1b[31m" in ended.out
    assert "--keep-going" in ended.err


def test_the_options_travel(node, node_home, file):
    node.answers["Push"] = _answer()
    run("push", file, "--kind", "result", "--audience", "zibo, jinan", "--revise", "--keep-going", home=node_home)
    options, _ = _sent(node)
    assert list(options.audience.members) == ["jinan", "zibo"]
    assert (options.revise, options.keep_going) == (True, True)


@pytest.mark.parametrize(
    ("written", "members"),
    [
        ("", []),
        ("none", []),
        (" ", []),
        ("*", ["*"]),
        ("jinan", ["jinan"]),
        ("b,a,b", ["a", "b"]),
        ("*,a", ["*", "a"]),
        ("none,none", ["none"]),
    ],
)
def test_audiences(node, node_home, file, written, members):
    assert parse_audience(written) == members
    node.answers["Push"] = _answer()
    assert run("push", file, "--kind", "result", "--audience", written, home=node_home).exit_code == 0
    options, _ = _sent(node)
    assert options.HasField("audience") and list(options.audience.members) == members


@pytest.mark.parametrize("written", [",", "a,", ",a", "a,,b"])
def test_an_audience_with_a_hole_is_usage(written):
    with pytest.raises(UsageFault):
        parse_audience(written)


@pytest.mark.parametrize(
    "error", [NotFoundError("there is no kind 'nokind'", hint="the kinds are result"), LimitError("too many", hint="split")]
)
def test_a_refusal_of_the_whole_call(node, node_home, file, error):
    node.answers["Push"] = error
    ended = run("push", file, "--kind", "nokind", "--json", home=node_home)
    assert ended.exit_code == 1
    assert ended.error == {"reason": error.reason, "message": error.message, "hint": error.hint}


def test_nothing_to_push_is_no_failure(node, node_home):
    node.answers["Push"] = _answer()
    assert run("push", "-", "--kind", "result", "--json", home=node_home, stdin="").document["accepted"] == 0
    assert _sent(node)[1] == []


@pytest.mark.parametrize("content", ["", "\n \n", "[]", "\ufeff"])
def test_a_file_without_a_record_is_named(node, node_home, tmp_path, file, content):
    empty = tmp_path / "empty.jsonl"
    empty.write_text(content, encoding="utf-8")
    node.answers["Push"] = _answer(accepted=1)
    ended = run("push", empty, file, "--kind", "result", "--json", home=node_home)
    assert ended.exit_code == 0 and ended.document["accepted"] == 1
    assert ended.err == f"{empty} holds no record, so nothing of it was pushed.\n"


def test_a_table_is_named_in_words(node, node_home, tmp_path):
    table = tmp_path / "results.csv"
    table.write_text("key,value\nA,1\n")
    node.answers["Push"] = _answer(rejected=1, errors=[(1, "", "not JSON")])
    ended = run("push", table, "--kind", "result", home=node_home)
    assert ended.exit_code == 1 and "looks like CSV" in ended.out and "one JSON object a line" in ended.out


def test_a_line_that_is_no_object_is_named_with_the_form_of_a_record(node, node_home, tmp_path):
    lines = tmp_path / "results.txt"
    lines.write_text('{"key":"A","body":{}}\nWJ-1;0.10\n')
    node.answers["Push"] = _answer(rejected=1, errors=[(2, "", "not JSON")])
    (error,) = run("push", lines, "--kind", "result", "--json", home=node_home).document["errors"]
    assert error["line"] == 2 and "no JSON object" in error["message"] and "labmesh push --help" in error["message"]
    assert _sent(node)[1] == [[b'{"key":"A","body":{}}', b"WJ-1;0.10"]], "the node judges, and refuses"


def test_stdin_can_be_read_once(node_home):
    assert run("push", "-", "-", "--kind", "result", home=node_home).exit_code == 2


def test_more_than_a_push_can_hold_is_refused_here(monkeypatch, node_home, file):
    monkeypatch.setattr("cli.commands.push.CONTENTS_MAX", 10)
    ended = run("push", file, "--kind", "result", "--json", home=node_home)
    assert ended.exit_code == 1 and ended.error["reason"] == "LIMIT"


def test_a_file_name_that_is_not_utf8(node, node_home, tmp_path):
    import os

    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xb1\xa8\xb8\xe6.jsonl")
    with open(name, "w") as file:  # noqa: PTH123 -- the name is the point
        file.write('{"key":"a"}\n')
    node.answers["Push"] = _answer(rejected=1, errors=[(1, "", "wrong")])
    ended = run("push", name, "--kind", "result", "--json", home=node_home)
    assert ended.exit_code == 1 and "\ufffd" in ended.document["errors"][0]["file"]


def test_an_endless_input_is_given_up(monkeypatch, tmp_path):
    from cli.files import read_input
    from node.errors import LimitError

    path = tmp_path / "large.jsonl"
    path.write_bytes(b"x" * 101)
    assert len(read_input(str(path), size_max=101)) == 101
    with pytest.raises(LimitError, match="more than 100 bytes"):
        read_input(str(path), size_max=100)
    with pytest.raises(LimitError):
        read_input("/dev/zero", size_max=100)
