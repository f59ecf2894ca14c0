"""What a command says to type works when it is pasted."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.app import App
from cli.pasting import complete_commands
from cli.remote import RemoteOptions
from node.core.standing import build_notices
from tests.builders import START, build_alliance, build_labs, public_key
from tests.cli.conftest import init, run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type: labmesh list", "type: labmesh --home '/a b' list"),
        ("labmesh init … or labmesh join FILE", "labmesh --home '/a b' init … or labmesh --home '/a b' join FILE"),
        ("with the founder's file: labmesh join FILE", "with the founder's file: labmesh --home '/a b' join FILE"),
        ("let it run: labmesh peers", "let it run: labmesh --home '/a b' peers"),
        (
            "type: labmesh keys rotate tls, then labmesh card, and let each member take it: labmesh join FILE",
            "type: labmesh --home '/a b' keys rotate tls, then labmesh --home '/a b' card, "
            "and let each member take it: labmesh join FILE",
        ),
        (
            "type at a peer: labmesh roster export -o FILE; and here: labmesh join FILE",
            "type at a peer: labmesh roster export -o FILE; and here: labmesh --home '/a b' join FILE",
        ),
        ("ask the council. Then type: labmesh status", "ask the council. Then type: labmesh --home '/a b' status"),
    ],
)
def test_the_home_stands_in_every_command(text: str, expected: str) -> None:
    assert App(chosen_home="/a b", home_typed=True).complete(text) == expected
    assert App(chosen_home="/a b").complete(text) == App().complete(text) == text


def test_a_member_whose_key_the_roster_does_not_name_types_the_first_half_alone() -> None:
    held = build_alliance(build_labs(2))
    (notice,) = build_notices(held, "qingdao", public_key("another"), now=START)
    told = App(chosen_home="/q", home_typed=True).complete(str(notice))
    assert "If neither: labmesh --home /q keys identity -o CARD; " in told
    assert told.endswith("and types: labmesh roster rekey qingdao CARD")


@pytest.mark.parametrize(
    "text",
    [
        "type: labmesh push --help",
        "type: labmesh roster add --help",
        "labmesh verify FILE",
        "labmesh evidence verify FILE",
        "labmesh --home /x run",
        "labmesh.toml",
        "Labmesh is a node",
        "ask a member you know for it: labmesh roster show prints it",
        "let the council type: labmesh roster rekey MEMBER CARD",
        "a council member types: labmesh roster renew",
        "at one of them: labmesh roster export -o FILE",
        "restore it; if it is lost, the council types: labmesh roster rekey MEMBER FILE",
        "Send p.json to qingdao, who types: labmesh roster sign FILE",
        "",
    ],
)
def test_what_others_type_is_left_alone(text: str) -> None:
    assert App(chosen_home="/a b", home_typed=True).complete(text) == text


def test_a_far_node_stands_in_what_can_be_typed_from_afar() -> None:
    far = RemoteOptions("lab:7444", "my token", "ca.crt", {"remote", "token_file"})
    assert App(far=far).complete("type: labmesh list --lost") == (
        "type: labmesh --remote lab:7444 --token-file 'my token' list --lost"
    )
    typed = "labmesh --remote lab:7444 --token-file 'my token'"
    assert App(far=far).complete("type: labmesh client list") == f"type: {typed} client list"
    assert App(far=far).complete("all pieces: labmesh evidence list.") == f"all pieces: {typed} evidence list."
    for text in ("type: labmesh run", "type: labmesh client add NAME", "labmesh roster", "labmesh client"):
        assert App(far=far).complete(text) == text
    assert App(far=RemoteOptions("lab:7444", "t", "c")).complete("type: labmesh list") == "type: labmesh list"


def test_nothing_typed_nothing_added() -> None:
    assert complete_commands("type: labmesh list", "", remote=False) == "type: labmesh list"


def test_the_hint_of_a_failure_can_be_pasted(founded: Path) -> None:
    ended = run("roster", "proposal", home=founded)
    assert ended.exit_code == 1 and ended.err.endswith(f"hint: type: labmesh --home {founded} roster show\n")
    assert run("roster", "proposal", "--json", home=founded).error["hint"] == "type: labmesh roster show", "for programs"


def test_the_hints_of_the_doctor_can_be_pasted(home: Path) -> None:
    lines = [line for line in run("doctor", home=home).out.splitlines() if line.startswith(" " * 20) and "labmesh " in line]
    assert f"{'':22}type: labmesh --home {home} run" in lines
    assert all(f"labmesh --home {home} " in line for line in lines)


def test_the_sentences_of_a_founder_can_be_pasted(tmp_path: Path) -> None:
    home = init(tmp_path / "a home")
    out = run("roster", "create", "--title", "T", home=home).out
    assert f"labmesh --home '{home}' roster add CARD…" in out and f"labmesh --home '{home}' run" in out
