"""`labmesh keys`: what it shows, what it asks the node for, and passphrases from init to the first signature."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from labmesh.v1 import node_pb2
from node.core.card import Card, parse_card
from node.core.times import format_seconds, parse_seconds
from node.errors import GovernanceError
from node.home import Home
from node.keyfiles import KEY_NAMES, is_protected
from node.rotation import ROLES
from tests.cli.conftest import ALLIANCE, init, run
from tests.cli.fake_node import FakeNode, serve
from tests.rotating import RotatingAlliance

SECRET, OTHER = "correct horse 口令", "battery staple"
ENV = {"LABMESH_PASSPHRASE": SECRET}


def card_of(home: Path) -> Card:
    return parse_card(run("card", home=home).out.strip().encode())[1]


def protected_files(home: Path) -> list[bool]:
    return [is_protected(Home(home).key_path(name).read_bytes()) for name in KEY_NAMES]


def secret_file(tmp_path: Path, text: str = SECRET, mode: int = 0o600) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(text + "\n", encoding="utf-8")
    path.chmod(mode)
    return path


# Show


def test_show_needs_neither_node_nor_passphrase(home, tmp_path):
    card = card_of(home)
    shown = run("keys", "show", "--json", home=home).document
    assert shown["member"] == "jinan" and shown["card"]["seq"] == 1 and shown["protected"] is False
    assert shown["log"] == {"key": str(card.log_key), "since_size": 0}
    assert shown["witness"] == {"key": str(card.witness_key), "since": None}
    assert len(shown["tls"]) == 1 and shown["former_log_keys"] == shown["former_witness_keys"] == []
    plain = run("keys", "show", home=home)
    assert str(card.log_key) in plain.out and "not protected" in plain.out
    run("keys", "protect", "--passphrase-file", secret_file(tmp_path), home=home)
    assert run("keys", "show", "--json", home=home).document["protected"] is True
    Home(home).key_path("log").chmod(0o644)
    assert run("keys", "show", "--json", home=home).document["protected"] is None


def test_show_names_former_keys(tmp_path):
    """The document of a card that has been through every change."""
    from cli.keys_view import build_keys_document, keys_table

    alliance = RotatingAlliance(tmp_path, 2)
    jinan = alliance["jinan"]
    for role in ROLES:
        jinan.rotation.rotate(role)
    home = init(tmp_path / "home")
    store = Home(home).open_store()
    raw = jinan.member.card
    store.membership.save_card("jinan", 9, raw, "application/vnd.labmesh.card.v1+json")
    store.close()
    document = build_keys_document(Home(home))
    assert document["former_log_keys"][0]["size"] == 0 and len(document["former_witness_keys"]) == 1
    assert document["witness"]["since"] == document["former_witness_keys"][0]["until"]
    names = [line[0] for line in keys_table(document)]
    assert names == ["identity", "log", "log, former", "witness", "witness, former", "tls", "tls, coming"]
    alliance.close()


# Rotate and revoke


def test_rotation_needs_a_running_node(home):
    for arguments in (("rotate", "log"), ("rotate", "tls"), ("revoke", "log", "--size", "0")):
        ended = run("keys", *arguments, home=home)
        assert ended.exit_code == 3 and "not running" in ended.err and "run" in ended.err
        assert run("keys", *arguments, "--json", home=home).out == ""
    assert card_of(home).seq == 1


@pytest.mark.parametrize(
    "arguments",
    [("rotate",), ("rotate", "identity"), ("rotate", "log", "tls"), ("revoke", "log"), ("revoke", "witness", "--size", "1"),
     ("revoke", "log", "--size", "-1"), ("revoke", "log", "--size", "many"), ("show", "log"), ("protect", "secret")],
)  # fmt: skip
def test_wrong_command_lines(home, arguments):
    assert run("keys", *arguments, home=home).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        (("rotate", "identity"), "labmesh keys identity -o FILE"),
        (("revoke", "identity", "--size", "4"), "labmesh keys identity -o FILE"),
        (("revoke", "witness", "--size", "4"), "labmesh keys rotate witness"),
        (("revoke", "tls", "--size", "4"), "labmesh keys rotate tls"),
    ],
)
def test_another_key_comes_with_what_to_type(home, arguments, typed):
    ended = run("keys", *arguments, "--json", home=home)
    assert ended.exit_code == 2 and ended.error["hint"] == f"type: {typed}"
    assert ended.error["message"] == f"the {arguments[1]} key is not for `{arguments[0]}`"


def test_what_rotate_says(node: FakeNode, node_home, tmp_path):
    alliance = RotatingAlliance(tmp_path, 3)
    jinan = alliance["jinan"]
    said = ""
    for role in ROLES:
        card = jinan.rotation.rotate(role)
        waiting = jinan.rotation.tls_waits_for() if role == "tls" else []
        node.answers["RotateKey"] = node_pb2.RotateKeyResponse(card=jinan.member.card, waiting_for=waiting)
        plain, document = run("keys", "rotate", role, home=node_home), run("keys", "rotate", role, "--json", home=node_home)
        assert plain.exit_code == 0 and f"seq {card.seq}" in plain.out
        assert document.document["seq"] == card.seq and document.document["waiting_for"] == waiting
        assert (document.document["former"] is None) == (role != "log")
        said = plain.out
    assert "until qingdao, yantai have the new card" in said
    assert [call.role for call in node.calls] == [role for role in ROLES for _ in range(2)]
    alliance.close()


def test_what_revoke_says(node: FakeNode, node_home, tmp_path):
    alliance = RotatingAlliance(tmp_path, 1)
    alliance["jinan"].rotation.rotate("log")
    node.answers["RevokeLogKey"] = node_pb2.RevokeLogKeyResponse(card=alliance["jinan"].member.card)
    ended = run("keys", "revoke", "log", "--size", "0", home=node_home)
    assert ended.exit_code == 0 and "up to size 0" in ended.out and node.calls[0].size == 0
    alliance.close()


def test_rotating_without_peers_says_which_file_to_carry(node: FakeNode, node_home, tmp_path):
    alliance = RotatingAlliance(tmp_path, 2)
    alliance["jinan"].lose("tls")
    card = alliance["jinan"].rotation.rotate("tls", without_peers=True)
    node.answers["RotateKey"] = node_pb2.RotateKeyResponse(card=alliance["jinan"].member.card)
    ended = run("keys", "rotate", "tls", "--without-peers", home=node_home)
    assert node.calls[0].without_peers and f"seq {card.seq}" in ended.out
    assert "labmesh card -o CARD" in ended.out and "labmesh join CARD" in ended.out
    alliance.close()


@pytest.mark.parametrize(("typed", "options", "told"), [("n\n", [], 0), ("", [], 0), ("y\n", [], 1), ("", ["--yes"], 1)])
def test_without_peers_asks_whether_an_export_was_taken(
    node: FakeNode, node_home, tmp_path, monkeypatch, typed, options, told
):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    alliance = RotatingAlliance(tmp_path, 1)
    node.answers["RotateKey"] = node_pb2.RotateKeyResponse(card=alliance["jinan"].member.card)
    ended = run("keys", "rotate", "tls", "--without-peers", *options, home=node_home, stdin=typed)
    assert ended.exit_code == (0 if told else 1) and len(node.calls) == told
    assert ("roster export -o FILE" in ended.err and "join FILE" in ended.err) == (not options)
    alliance.close()


def test_without_the_peers_that_hold_more_it_is_asked_what_may_be_lost(node: FakeNode, node_home, tmp_path, monkeypatch):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    alliance = RotatingAlliance(tmp_path, 1)
    alliance["jinan"].rotation.rotate("log")
    node.answers["RotateKey"] = node_pb2.RotateKeyResponse(card=alliance["jinan"].member.card)
    declined = run("keys", "rotate", "log", "--without-peers", home=node_home, stdin="n\n")
    assert declined.exit_code == 1 and not node.calls and "lost for good" in declined.err
    ended = run("keys", "rotate", "log", "--without-peers", home=node_home, stdin="y\n")
    assert ended.exit_code == 0 and node.calls[0].without_peers and "up to size 0" in ended.out
    assert "CARD" not in ended.out, "its peers can connect"
    alliance.close()


def test_a_new_identity_key_is_given_up(home, tmp_path):
    file = tmp_path / "new.card"
    for wrong in ((), ("-o", file, "--abandon")):
        ended = run("keys", "identity", *wrong, home=home)
        assert ended.exit_code == 2 and "keys identity -o FILE" in ended.err and not file.exists()
    refused = run("keys", "identity", "--abandon", "--json", home=home)
    assert refused.exit_code == 1 and refused.error["message"] == "no new identity key waits"
    assert run("keys", "identity", "-o", file, home=home).exit_code == 0
    assert Home(home).key_files().next_path("identity").exists()
    ended = run("keys", "identity", "--abandon", home=home)
    assert ended.exit_code == 0 and "the old one stays" in ended.out
    assert not Home(home).key_files().next_path("identity").exists()


def test_the_card_of_a_new_identity_key_says_why_it_is_dated_so(home, tmp_path):
    before = parse_seconds(run("keys", "show", "--json", home=home).document["card"]["issued"])
    ended = run("keys", "identity", "-o", tmp_path / "one.card", home=home)
    dated = before + timedelta(seconds=1)
    assert f"is dated {format_seconds(dated)}, a second after the one before" in ended.out
    assert run("keys", "identity", "-o", tmp_path / "two.card", home=home).exit_code == 0
    raw = (tmp_path / "one.card").read_bytes()
    assert raw == (tmp_path / "two.card").read_bytes() and parse_card(raw)[1].issued == dated


def test_a_running_node_gives_the_new_identity_key_up_itself(node_home):
    """It takes rosters, so only there can none come in between; the file is the node's to delete."""
    home = Home(init(node_home / "home"))
    assert run("keys", "identity", "-o", node_home / "new.card", home=home.path).exit_code == 0
    with serve(home.path / "labmesh.sock") as node, home.lock():
        node.answers["AbandonIdentity"] = GovernanceError("the roster names the new identity key already", hint="restart")
        refused = run("keys", "identity", "--abandon", "--json", home=home.path)
        assert refused.exit_code == 1 and "names the new identity key already" in refused.error["message"]
        node.answers["AbandonIdentity"] = node_pb2.AbandonIdentityResponse()
        ended = run("keys", "identity", "--abandon", "--json", home=home.path)
    assert ended.document == {"abandoned": True} and len(node.calls) == 2
    assert home.key_files().next_path("identity").exists()


# Passphrases


def test_the_help_of_protect_names_both_variables():
    """Which of them counts depends on whether the keys have a passphrase already."""
    said = " ".join(run("keys", "protect", "--help").out.split())
    assert "LABMESH_PASSPHRASE (keys without one)" in said and "LABMESH_NEW_PASSPHRASE (keys that have one)" in said


def test_init_with_protected_keys(tmp_path):
    arguments = ("init", "jinan", "--alliance", ALLIANCE, "--name", "N", "--region", "R", "--address", "a.example:1")
    home = tmp_path / "home"
    refused = run(*arguments, "--protect-keys", home=home)
    assert refused.exit_code == 1 and "--passphrase-file" in refused.err and not home.exists()
    short = run(*arguments, "--protect-keys", home=home, env={"LABMESH_PASSPHRASE": "short"})
    assert short.exit_code == 1 and "fewer than 8" in short.err and not home.exists()
    assert run(*arguments, "--protect-keys", home=home, env=ENV).exit_code == 0
    assert protected_files(home) == [True] * 4
    assert not [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_protect_change_and_unprotect(home, tmp_path):
    ended = run("keys", "protect", "--json", home=home, env=ENV)
    assert ended.document == {"protected": True, "changed": 4} and protected_files(home) == [True] * 4
    again = run("keys", "protect", home=home, env={**ENV, "LABMESH_NEW_PASSPHRASE": SECRET})
    assert again.exit_code == 0 and "already; nothing was changed" in again.out
    changed = run("keys", "protect", home=home, env={**ENV, "LABMESH_NEW_PASSPHRASE": OTHER})
    assert changed.exit_code == 0
    wrong = run("keys", "unprotect", "--json", home=home, env=ENV)
    assert wrong.exit_code == 1 and "does not open" in wrong.error["message"]
    open_file = secret_file(tmp_path, OTHER, 0o644)
    refused = run("keys", "unprotect", "--json", "--passphrase-file", open_file, home=home)
    assert "chmod 600" in refused.error["hint"]
    assert refused.exit_code == 1 and protected_files(home) == [True] * 4
    assert run("keys", "unprotect", home=home, env={"LABMESH_PASSPHRASE": OTHER}).exit_code == 0
    assert protected_files(home) == [False] * 4
    assert "nothing was changed" in run("keys", "unprotect", home=home).out


def test_protecting_waits_for_no_running_node(home):
    with Home(home).lock():
        ended = run("keys", "protect", home=home, env=ENV)
    assert ended.exit_code == 1 and "another process is using" in ended.err and protected_files(home) == [False] * 4


def test_commands_that_sign_without_a_node_need_it(home, tmp_path):
    assert run("keys", "protect", home=home, env=ENV).exit_code == 0
    refused = run("roster", "create", "--title", "T", "--json", home=home)
    assert refused.exit_code == 1 and "LABMESH_PASSPHRASE" in refused.error["hint"]
    wrong = run("roster", "create", "--title", "T", "--json", home=home, env={"LABMESH_PASSPHRASE": OTHER})
    assert wrong.exit_code == 1 and "does not open" in wrong.error["message"]
    assert run("--passphrase-file", secret_file(tmp_path), "roster", "create", "--title", "T", home=home).exit_code == 0
    other = init(tmp_path / "other", "qingdao")
    run("card", "-o", tmp_path / "qingdao.card", home=other)
    assert run("roster", "add", tmp_path / "qingdao.card", home=home, env=ENV).exit_code == 0
    # What only reads asks for nothing.
    for arguments in (("card",), ("roster", "show"), ("roster", "export"), ("keys", "show")):
        assert run(*arguments, home=home).exit_code == 0


def test_the_setting_names_a_file(home, tmp_path):
    assert run("keys", "protect", home=home, env=ENV).exit_code == 0
    config = home / "labmesh.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('passphrase_file = ""', f'passphrase_file = "{secret_file(tmp_path)}"'), encoding="utf-8")
    assert run("roster", "create", "--title", "T", home=home).exit_code == 0
    assert "those of this member's card" in run("doctor", home=home).out


def test_run_without_a_terminal_says_what_to_do(home):
    assert run("keys", "protect", home=home, env=ENV).exit_code == 0
    ended = run("run", "--json", home=home)
    assert ended.exit_code == 1 and "passphrase is needed" in ended.error["message"]
    assert "--passphrase-file" in ended.error["hint"]


@pytest.mark.parametrize("name", ["keys", "labmesh.sqlite", ".", "keys/witness.pem"])
def test_run_refuses_a_home_that_others_can_look_into(home, name):
    (home / name).chmod(0o755)
    ended = run("run", "--json", home=home)
    assert ended.exit_code == 1 and ended.error["hint"].startswith("type: chmod")
    report = run("doctor", "--json", home=home).document
    assert [item["hint"] for item in report["findings"] if item["check"] == "keys" and item["level"] == "error"]


# Doctor


def test_doctor_compares_keys_with_the_card(home, tmp_path):
    assert "those of this member's card" in run("doctor", home=home).out
    other = init(tmp_path / "other", "jinan")
    for name in ("log", "tls"):
        shutil.copy(Home(other).key_path(name), Home(home).key_path(name))
    findings = run("doctor", "--json", home=home).document["findings"]
    wrong = [item["message"] for item in findings if item["check"] == "keys" and item["level"] == "error"]
    assert len(wrong) == 2 and "log key" in wrong[0] and "certificate" in wrong[1]


def test_doctor_asks_nobody_for_a_passphrase(home):
    assert run("keys", "protect", home=home, env=ENV).exit_code == 0
    assert "were not compared" in run("doctor", home=home).out
    assert "those of this member's card" in run("doctor", home=home, env=ENV).out
    assert "does not open" in run("doctor", home=home, env={"LABMESH_PASSPHRASE": OTHER}).out


def test_doctor_names_a_change_that_was_cut_off(home):
    files = Home(home).key_files()
    files.path("log").rename(files.next_path("log"))
    shutil.copy(files.path("witness"), files.path("log"))
    files.path("log").chmod(0o600)
    assert "a change of the log key was cut off" in run("doctor", home=home).out


def test_doctor_compares_settings_with_the_card_and_the_machine(home):
    config = home / "labmesh.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("jinan.example:7443", "moved.example:7443"), encoding="utf-8")
    assert "address is moved.example:7443, in the card jinan.example:7443" in run("doctor", home=home).out
    config.write_text(text.replace("0.0.0.0:7443", "203.0.113.7:7443"), encoding="utf-8")
    report = run("doctor", home=home)
    assert report.exit_code == 1 and "cannot listen on '203.0.113.7'" in report.out


def test_a_lost_key_is_ended_without_peers_after_two_questions(node: FakeNode, node_home, tmp_path, monkeypatch):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    alliance = RotatingAlliance(tmp_path, 1)
    alliance["jinan"].rotation.rotate("log")
    node.answers["RevokeLogKey"] = node_pb2.RevokeLogKeyResponse(card=alliance["jinan"].member.card)
    revoke = ("keys", "revoke", "log", "--size", "0")
    declined = run(*revoke, "--without-peers", home=node_home, stdin="y\nn\n")
    assert declined.exit_code == 1 and not node.calls and "lost for good" in declined.err
    for options, typed in ((("--without-peers",), "y\ny\n"), ((), "y\n")):
        assert run(*revoke, *options, home=node_home, stdin=typed).exit_code == 0
    assert [(call.size, call.without_peers) for call in node.calls] == [(0, True), (0, False)]
    alliance.close()
