"""A proposal that was changed, comes too late, or is none: what is said at the terminal."""

from __future__ import annotations

import base64
import json

import pytest

from tests.cli.conftest import propose, version_of
from tests.cli.conftest import run_offline as run


def _mutated(council, change):
    content = json.loads((council / "p.json").read_bytes())
    change(content)
    (council / "p.json").write_text(json.dumps(content, indent=2))


def _change_payload(content):
    payload = base64.b64decode(content["roster"]["payload"]).replace(b'"threshold":2', b'"threshold":3')
    content["roster"]["payload"] = base64.b64encode(payload).decode()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_change_payload, "changed after it was signed"),
        (
            lambda content: content["roster"]["signatures"].append({"sig": base64.b64encode(bytes(64)).decode()}),
            "changed after",
        ),
        (lambda content: content["cards"].clear(), "other cards"),
        (lambda content: content["cards"].append(content["cards"][0]), "other cards"),
        (lambda content: content["roster"].update(payloadType="text/plain"), "text/plain"),
    ],
    ids=["payload", "signature", "no card", "card twice", "type"],
)
def test_a_file_that_was_changed(council, change, named):
    propose(council, "add", "zibo.card")
    _mutated(council, change)
    ended = run("roster", "sign", "p.json", "--json", home=council / "qingdao")
    assert ended.exit_code == 1 and named in ended.error["message"], ended
    assert version_of(council / "qingdao") == 3
    assert run("roster", "proposal", home=council / "qingdao").exit_code == 1


@pytest.mark.parametrize(
    "spoil", [lambda content: content["roster"], lambda content: content["cards"][0]], ids=["roster", "card"]
)
def test_a_damaged_file_is_named_with_what_to_do(council, spoil):
    propose(council, "add", "zibo.card")
    _mutated(council, lambda content: spoil(content).update(signatures=[{"sog": "AAAA"}]))
    for command in (("roster", "sign"), ("join",)):
        told = run(*command, "p.json", "--json", home=council / "qingdao").error
        assert told["message"] == "p.json: a signature in the envelope has other members than sig"
        assert told["hint"] == "the file was changed or damaged on its way: ask whoever sent it for it again"


def test_a_file_that_somebody_reformatted_is_read_all_the_same(council):
    propose(council)
    _mutated(council, lambda content: None)
    signed = run("roster", "sign", "p.json", home=council / "qingdao")
    assert signed.exit_code == 0 and "made at 20" in signed.out, "also the time that the roster names is shown"


@pytest.mark.parametrize(
    ("home", "named"),
    [
        ("jinan", "jinan has signed this proposal already; 1 more must sign it"),
        ("zibo", "does not belong to an alliance yet"),
    ],
)
def test_who_cannot_sign(council, home, named):
    propose(council)
    ended = run("roster", "sign", "p.json", "--json", home=council / home)
    assert ended.exit_code == 1 and named in ended.error["message"] and ended.error["hint"]


def test_a_member_without_a_seat(council):
    propose(council, "add", "zibo.card")
    assert run("roster", "sign", "p.json", home=council / "qingdao").exit_code == 0
    assert run("roster", "export", "-o", "new.json", home=council / "qingdao").exit_code == 0
    fingerprint = run("roster", "show", "--json", home=council / "qingdao").document["fingerprint"]
    assert run("join", "new.json", "--fingerprint", fingerprint, home=council / "zibo").exit_code == 0
    assert run("roster", "renew", "-o", "q.json", home=council / "qingdao").exit_code == 0
    ended = run("roster", "sign", "q.json", "--json", home=council / "zibo")
    assert ended.exit_code == 1 and "sits neither on the council" in ended.error["message"]
    assert "jinan" in ended.error["hint"]
    ended = run("roster", "renew", "--json", home=council / "zibo")
    assert ended.exit_code == 1 and "jinan, qingdao, yantai" in ended.error["hint"]
    ended = run("join", "q.json", "--json", home=council / "zibo")
    assert ended.exit_code == 1 and "1 of the 2 signatures" in ended.error["message"]


def test_a_stale_one_and_one_that_is_in_force(council):
    propose(council)
    assert run("roster", "quorum", "2", "-o", "q.json", home=council / "qingdao").exit_code == 0
    assert run("roster", "sign", "p.json", home=council / "yantai").exit_code == 0
    for file, named in (("q.json", "stale: another roster of version 4"), ("p.json", "version 4 is in force already")):
        ended = run("roster", "sign", file, "--json", home=council / "yantai")
        assert ended.exit_code == 1 and named in ended.error["message"] and ended.error["hint"]


def test_a_newcomer_cannot_join_with_a_proposal(council):
    propose(council, "add", "zibo.card")
    ended = run("join", "p.json", "--fingerprint", "0" * 64, "--json", home=council / "zibo")
    assert ended.exit_code == 1 and "is a proposal" in ended.error["message"] and "roster export" in ended.error["hint"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"roster":{},"cards":[]}', b'{"rosters":[],"cards":[]}'])
def test_other_files_by_name(council, content):
    (council / "thing").write_bytes(content)
    ended = run("roster", "sign", "thing", "--json", home=council / "jinan")
    assert (ended.exit_code, ended.error["reason"]) == (1, "FORMAT") and "thing" in ended.error["message"]
    ended = run("roster", "sign", "zibo.card", "--json", home=council / "jinan")
    assert "is a member's card" in ended.error["message"]
    propose(council)
    ended = run("roster", "add", "p.json", "--json", home=council / "jinan")
    assert ended.exit_code == 1 and "is a proposal, not a card" in ended.error["message"]


@pytest.mark.parametrize(
    ("args", "exit_code", "named"),
    [
        (["council", "jinan", "--threshold", "0"], 2, "--threshold"),
        (["council"], 2, "MEMBER"),
        (["council", "JINAN"], 2, "JINAN"),
        (["council", "jinan", "qingdao", "yantai", "--threshold", "1"], 1, "more than half"),
        (["council", "jinan", "zibo"], 1, "'zibo' is not an active member"),
        (["threshold", "1"], 1, "more than half"),
        (["threshold", "x"], 2, "x"),
        (["quorum", "0"], 2, "default"),
        (["quorum", "３"], 2, "default"),
        (["quorum", "3"], 1, "2 other members can cosign"),
        (["remove", "yantai"], 1, "sits on the council"),
        (["remove", "zibo"], 1, "not an active member"),
        (["rekey", "yantai", "yantai.card"], 1, "has already"),
        (["rekey", "yantai", "zibo.card"], 1, "is of zibo"),
        (["rekey", "yantai", "missing"], 2, "missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_things(council, args, exit_code, named):
    ended = run("roster", *args, "--json", home=council / "jinan")
    assert ended.exit_code == exit_code and named in ended.error["message"] and ended.error["hint"], ended
    assert run("roster", "proposal", home=council / "jinan").exit_code == 1, "nothing was signed"
    assert not list(council.glob("*.proposal.json"))
