"""`labmesh client`: a token is shown once, and never lost or left open to others."""

from __future__ import annotations

import os
import stat

import pytest

from labmesh.v1 import node_pb2
from node.core.token import format_token
from node.errors import ConflictError
from tests.cli.conftest import run

TOKEN = format_token(bytes(range(32)))
CREATED, USED = "2026-11-20T08:30:00.123Z", "2026-11-21T09:00:00.000Z"
LIMS = node_pb2.Client(name="lims", role="push", kinds=["result"], created=CREATED, last_used=USED)
OLD = node_pb2.Client(name="old", role="read", created=CREATED, revoked=USED)


@pytest.fixture
def issuing(node):
    node.answers["AddClient"] = node_pb2.AddClientResponse(token=TOKEN, remote_port=7444)
    return node


def test_the_token_is_all_that_stands_on_stdout(issuing, node_home):
    ended = run("client", "add", "lims", "--role", "push", home=node_home)
    assert ended.exit_code == 0
    assert ended.out == TOKEN + "\n"
    assert "kept nowhere else" in ended.err and "HOST:7444" in ended.err and "remote.crt" in ended.err
    assert TOKEN not in ended.err


def test_what_was_asked_travels(issuing, node_home):
    ended = run("client", "add", "lims", "--role", "read", "--kinds", "result, capability,result", "--json", home=node_home)
    assert ended.document == {"name": "lims", "role": "read", "kinds": ["capability", "result"], "token": TOKEN}
    (request,) = issuing.calls
    assert (request.name, request.role, list(request.kinds)) == ("lims", "read", ["capability", "result"])


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_is_for_the_owner_alone_whatever_the_mask(issuing, node_home, tmp_path, as_json):
    file = tmp_path / "lims.token"
    before = os.umask(0)
    try:
        ended = run("client", "add", "lims", "--role", "push", "-o", file, *(["--json"] if as_json else []), home=node_home)
    finally:
        os.umask(before)
    assert ended.exit_code == 0, ended
    assert file.read_text() == TOKEN + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert TOKEN not in ended.out + ended.err
    if as_json:
        assert ended.document == {"name": "lims", "role": "push", "kinds": None, "file": str(file)}


@pytest.mark.parametrize("there", ["file", "folder", "link", "nowhere"])
def test_without_a_place_for_it_no_token_is_issued(issuing, node_home, tmp_path, there):
    file = tmp_path / "lims.token"
    if there == "file":
        file.write_text("kept")
    elif there == "folder":
        file.mkdir()
    elif there == "link":
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file = tmp_path / "no" / "lims.token"
    ended = run("client", "add", "lims", "--role", "push", "-o", file, "--json", home=node_home)
    assert ended.exit_code == 2 and ended.error["hint"]
    assert issuing.calls == []
    assert there != "file" or file.read_text() == "kept"
    assert not (tmp_path / "elsewhere").exists()


def test_a_refusal_leaves_no_file(node, node_home, tmp_path):
    node.answers["AddClient"] = ConflictError("there is a client lims already, or there was one", hint="choose another")
    ended = run("client", "add", "lims", "--role", "push", "-o", tmp_path / "t", "--json", home=node_home)
    assert ended.exit_code == 1
    assert ended.error == {
        "reason": "CONFLICT",
        "message": "there is a client lims already, or there was one",
        "hint": "choose another",
    }
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_is_not_there_leaves_no_file(node_home, tmp_path):
    ended = run("client", "add", "lims", "--role", "push", "-o", tmp_path / "t", home=node_home)
    assert (ended.exit_code, list(tmp_path.iterdir())) == (3, [])


def test_a_node_that_does_not_listen_says_so(node, node_home):
    node.answers["AddClient"] = node_pb2.AddClientResponse(token=TOKEN)
    ended = run("client", "add", "lims", "--role", "push", home=node_home)
    assert ended.exit_code == 0 and "remote.listen" in ended.err


@pytest.mark.parametrize(
    "args",
    [
        ["lims"],
        ["lims", "--role", "root"],
        ["lims", "--role", "push", "--kinds", "a,,b"],
        ["lims", "--role", "push", "--kinds", "Bad Kind"],
        ["lims", "--role", "push", "--kinds", ""],
        ["--role", "push"],
        ["lims", "--role", "push", "--token", "x"],
    ],
)
def test_a_wrong_command_line_is_usage(node, node_home, args):
    assert run("client", "add", *args, home=node_home).exit_code == 2
    assert node.calls == []


def test_the_list(node, node_home):
    node.answers["ListClients"] = node_pb2.ListClientsResponse(clients=[LIMS, OLD])
    assert run("client", "list", "--json", home=node_home).document == {
        "clients": [
            {"name": "lims", "role": "push", "kinds": ["result"], "created": CREATED, "last_used": USED, "revoked": None},
            {"name": "old", "role": "read", "kinds": None, "created": CREATED, "last_used": None, "revoked": USED},
        ]
    }
    header, first, second = run("client", "list", home=node_home).out.splitlines()
    assert header.split() == ["NAME", "ROLE", "KINDS", "CREATED", "LAST", "USED", "REVOKED"]
    assert first.split() == ["lims", "push", "result", "2026-11-20", "08:30:00", "2026-11-21", "09:00:00"]
    assert "every kind" in second and "never" in second


def test_an_empty_list_says_what_to_type(node, node_home):
    node.answers["ListClients"] = node_pb2.ListClientsResponse()
    assert run("client", "list", "--json", home=node_home).document == {"clients": []}
    shown = run("client", "list", home=node_home).out
    assert f"labmesh --home '{node_home}' client add NAME" in shown


def test_revoking(node, node_home):
    node.answers["RevokeClient"] = node_pb2.RevokeClientResponse(client=OLD)
    assert run("client", "revoke", "old", "--json", home=node_home).document["revoked"] == USED
    assert "old is revoked" in run("client", "revoke", "old", home=node_home).out
    assert [call.name for call in node.calls] == ["old", "old"]


@pytest.mark.parametrize(
    ("by", "expected"),
    [("lims", {"pushed_by": "lims"}), ("", {"pushed_by": None}), (None, {})],
    ids=["client", "socket", "peer"],
)
def test_show_says_who_pushed(node, node_home, by, expected):
    view = node_pb2.RecordView(record=b'{"body":{}}', id="jinan/result/1", origin="o", status=node_pb2.RECORD_STATUS_VISIBLE)
    if by is not None:
        view.pushed_by, view.pushed_ms = by, 1_795_000_000_123
        expected = {**expected, "pushed_at": "2026-11-18T11:06:40.123Z"}
    node.answers["GetRecord"] = node_pb2.GetRecordResponse(record=view)
    content = run("show", "jinan/result/1", "--json", home=node_home).document
    assert {name: content[name] for name in content if name.startswith("pushed")} == expected
    shown = run("show", "jinan/result/1", home=node_home).out
    assert ("pushed " in shown) == (by is not None)
    assert by is None or f"by {by or 'this machine (socket)'}" in shown
