"""Founding, adding, showing, exporting and joining, without a daemon; and with one that holds the lock."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cli import governance
from labmesh.v1 import node_pb2
from node.clock import utc_now
from node.core.alliance import format_card, load_alliance
from node.core.card import CARD_TYPE, Card, FormerWitnessKey, parse_card
from node.core.dsse import build_envelope, format_envelope, parse_envelope
from node.core.keys import Sign
from node.errors import GovernanceError
from node.home import Home
from node.membership import Membership
from tests.builders import Lab
from tests.cli.conftest import ALLIANCE, init
from tests.cli.conftest import run_offline as run
from tests.cli.fake_node import serve

WRONG = "0" * 64


@pytest.fixture
def qingdao(tmp_path):
    return init(tmp_path / "qingdao", "qingdao")


def _card(home, tmp_path):
    file = tmp_path / f"{home.name}.card"
    assert run("card", "-o", file, "--force", home=home).exit_code == 0
    return file


@pytest.fixture
def exported(founded, qingdao, tmp_path):
    """The file that qingdao joins with."""
    assert run("roster", "add", _card(qingdao, tmp_path), home=founded).exit_code == 0
    file = tmp_path / "alliance.json"
    assert run("roster", "export", "-o", file, home=founded).exit_code == 0
    return file


def _fingerprint(home):
    return run("roster", "show", "--json", home=home).document["fingerprint"]


def test_create_founds_version_1(home):
    content = run("roster", "create", "--title", "Jinan 联盟", "--json", home=home).document
    assert content == {"alliance": ALLIANCE, "version": 1, "fingerprint": _fingerprint(home)}


@pytest.mark.parametrize("threshold", [2, 3])
def test_an_impossible_threshold_is_refused(home, threshold):
    ended = run("roster", "create", "--title", "t", "--threshold", threshold, "--json", home=home)
    assert ended.exit_code == 1 and ended.error["reason"] == "GOVERNANCE"


def test_a_second_alliance_is_refused(founded):
    ended = run("roster", "create", "--title", "t", "--json", home=founded)
    assert ended.exit_code == 1 and "already" in ended.error["message"]


def test_show_has_everything(founded, exported):
    content = run("roster", "show", "--json", home=founded).document
    assert list(content) == (
        [
            "alliance",
            "title",
            "version",
            "fingerprint",
            "issued",
            "expires",
            "threshold",
            "quorum",
            "council",
            "members",
        ]
    )
    assert (content["version"], content["threshold"], content["quorum"]) == (2, 1, 1)
    assert content["council"] == ["jinan"]
    assert [member["member"] for member in content["members"]] == ["jinan", "qingdao"]
    newcomer = content["members"][1]
    assert newcomer["name"] == "Qingdao 检验院" and newcomer["endpoints"] == ["qingdao.example:7443"]
    assert (newcomer["status"], newcomer["left"]) == ("active", None)
    shown = run("roster", "show", home=founded).out
    assert "Jinan 联盟" in shown and "qingdao.example:7443" in shown and "\x1b" not in shown


def test_show_before_an_alliance(home):
    ended = run("roster", "show", "--json", home=home)
    assert ended.exit_code == 1 and "roster create" in ended.error["hint"] and "join" in ended.error["hint"]


def test_the_exported_file_holds_a_chain_that_verifies(founded, exported):
    content = json.loads(exported.read_bytes())
    assert set(content) == {"rosters", "cards"}
    envelopes = [
        [json.dumps(one, sort_keys=True, separators=(",", ":")).encode() for one in content[name]] for name in content
    ]
    cards, rosters = envelopes
    alliance = load_alliance(rosters, cards, fingerprint=_fingerprint(founded))
    assert set(alliance.cards) == {"jinan", "qingdao"}
    assert run("roster", "export", home=founded).out.strip().encode() == exported.read_bytes()


def test_add_takes_stdin_and_refuses_it_twice(founded, qingdao):
    card = run("card", home=qingdao).out
    assert run("roster", "add", "-", "-", home=founded, stdin=card).exit_code == 2
    assert run("roster", "add", "-", "--json", home=founded, stdin=card).document["version"] == 2


def test_add_refuses_a_member_who_is_there(founded, exported, qingdao, tmp_path):
    ended = run("roster", "add", _card(qingdao, tmp_path), "--json", home=founded)
    assert ended.exit_code == 1 and "in the roster already" in ended.error["message"]


def test_add_refuses_a_card_of_another_alliance(founded, tmp_path):
    stranger = init(tmp_path / "stranger", "zibo", alliance="other.example")
    ended = run("roster", "add", _card(stranger, tmp_path), "--json", home=founded)
    assert ended.exit_code == 1 and "other.example" in ended.error["message"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b"{", b"PK\x03\x04", b'{"rosters":[],"cards":[]}'])
def test_add_refuses_other_files_by_name(founded, tmp_path, content):
    file = tmp_path / "thing"
    file.write_bytes(content)
    ended = run("roster", "add", file, "--json", home=founded)
    assert ended.exit_code == 1 and ended.error["reason"] == "FORMAT"
    assert str(file) in ended.error["message"] and "labmesh card" in ended.error["hint"]


def test_add_names_the_card_that_was_changed(founded, qingdao, tmp_path):
    file = _card(qingdao, tmp_path)
    envelope = json.loads(file.read_bytes())
    envelope["payload"] = "e30="
    file.write_text(json.dumps(envelope))
    ended = run("roster", "add", file, "--json", home=founded)
    assert ended.exit_code == 1 and str(file) in ended.error["message"]


def test_remove(founded, exported):
    assert run("roster", "remove", "qingdao", "--json", home=founded).document["version"] == 3
    members = run("roster", "show", "--json", home=founded).document["members"]
    assert members[1]["status"] == "removed" and members[1]["left"] is not None
    ended = run("roster", "remove", "qingdao", "--json", home=founded)
    assert ended.exit_code == 1 and ended.error["reason"] == "GOVERNANCE"


def _groups(fingerprint):
    return " ".join(fingerprint[i : i + 4] for i in range(0, 64, 4))


def _colons(fingerprint):
    return ":".join(fingerprint[i : i + 2] for i in range(0, 64, 2))


@pytest.mark.parametrize("written", [str, str.upper, _groups, _colons])
def test_join_takes_a_fingerprint_as_people_write_it(founded, exported, qingdao, written):
    fingerprint = _fingerprint(founded)
    ended = run("join", exported, "--fingerprint", written(fingerprint), "--json", home=qingdao)
    assert ended.document == {
        "alliance": ALLIANCE,
        "version": 2,
        "fingerprint": fingerprint,
        "members": ["jinan", "qingdao"],
    }
    assert _fingerprint(qingdao) == fingerprint


def test_join_takes_the_fingerprint_of_an_earlier_version(founded, exported, qingdao):
    first = json.loads(exported.read_bytes())
    earlier = {"rosters": first["rosters"][:1], "cards": []}
    raw = json.dumps(earlier["rosters"][0], sort_keys=True, separators=(",", ":")).encode()
    fingerprint = load_alliance([raw]).fingerprint
    assert run("join", exported, "--fingerprint", fingerprint, home=qingdao).exit_code == 0


@pytest.mark.parametrize("fingerprint", ["", "abc", "g" * 64, "0" * 63, "0" * 65])
def test_join_refuses_what_is_no_fingerprint(exported, qingdao, fingerprint):
    ended = run("join", exported, "--fingerprint", fingerprint, "--json", home=qingdao)
    assert ended.exit_code == 2 and "64" in ended.error["message"]


def test_join_refuses_the_wrong_fingerprint_and_stays_outside(exported, qingdao):
    ended = run("join", exported, "--fingerprint", WRONG, "--json", home=qingdao)
    assert ended.exit_code == 1 and WRONG in ended.error["message"]
    assert run("roster", "show", home=qingdao).exit_code == 1


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_join_without_a_fingerprint_and_without_a_person_is_usage(exported, qingdao, args):
    ended = run("join", exported, *args, home=qingdao)
    assert ended.exit_code == 2
    assert "--fingerprint" in (ended.error["hint"] if args else ended.err)


@pytest.mark.parametrize(("typed", "exit_code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_join_shows_the_fingerprint_and_asks(monkeypatch, founded, exported, qingdao, typed, exit_code):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    ended = run("join", exported, home=qingdao, stdin=typed)
    assert ended.exit_code == exit_code, ended
    assert _groups(_fingerprint(founded)) in ended.out and "Jinan 联盟" in ended.out
    assert run("roster", "show", home=qingdao).exit_code == (0 if exit_code == 0 else 1)
    assert ended.err.count("ask a member") == exit_code, "once, where the answer is no"


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b'{"rosters":[],"cards":[]}', b'{"rosters":[{}],"cards":[]}', b'{"rosters":3,"cards":[]}'],
)
def test_join_refuses_other_files_by_name(qingdao, tmp_path, content):
    file = tmp_path / "thing"
    file.write_bytes(content)
    ended = run("join", file, "--fingerprint", WRONG, "--json", home=qingdao)
    assert ended.exit_code == 1 and ended.error["reason"] == "FORMAT"
    assert str(file) in ended.error["message"] and "roster export" in ended.error["hint"]


def test_join_says_that_a_card_is_a_card(home, qingdao, tmp_path):
    ended = run("join", _card(home, tmp_path), "--fingerprint", WRONG, "--json", home=qingdao)
    assert ended.exit_code == 1 and "card" in ended.error["message"]


def test_join_refuses_another_alliance(founded, exported, tmp_path):
    stranger = init(tmp_path / "stranger", "qingdao", alliance="other.example")
    ended = run("join", exported, "--fingerprint", _fingerprint(founded), "--json", home=stranger)
    assert ended.exit_code == 1 and ALLIANCE in ended.error["message"] and "other.example" in ended.error["message"]


def test_join_refuses_who_was_not_added(founded, exported, tmp_path):
    outsider = init(tmp_path / "outsider", "zibo")
    ended = run("join", exported, "--fingerprint", _fingerprint(founded), "--json", home=outsider)
    assert ended.exit_code == 1 and "labmesh card" in ended.error["hint"]


def test_a_joined_home_takes_newer_rosters_without_a_question(founded, exported, qingdao, tmp_path):
    assert run("join", exported, "--fingerprint", _fingerprint(founded), home=qingdao).exit_code == 0
    again = run("join", exported, "--json", home=qingdao)
    assert again.document["version"] == 2
    zibo = init(tmp_path / "zibo", "zibo")
    assert run("roster", "add", _card(zibo, tmp_path), home=founded).exit_code == 0
    assert run("roster", "export", "-o", exported, "--force", home=founded).exit_code == 0
    newer = run("join", exported, home=qingdao)
    assert newer.exit_code == 0 and "now version 3" in newer.out
    assert run("roster", "show", "--json", home=qingdao).document["version"] == 3


@pytest.fixture
def short_home(founded):
    """A founded home whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="lm "))
    shutil.copytree(founded, folder / "h")
    yield folder / "h"
    shutil.rmtree(folder)


def test_with_a_daemon_the_daemon_is_asked(short_home, qingdao):
    with Home(short_home).lock(), serve(short_home / "labmesh.sock") as fake:
        fake.answers["AddMembers"] = node_pb2.AddMembersResponse(version=7, fingerprint=WRONG)
        fake.answers["RemoveMember"] = node_pb2.RemoveMemberResponse(version=8, fingerprint=WRONG)
        fake.answers["FoundAlliance"] = GovernanceError("founded already", hint="type: labmesh roster show")
        fake.answers["ImportAlliance"] = node_pb2.ImportAllianceResponse(version=9, fingerprint=WRONG)
        card = run("card", home=qingdao).out
        added = run("roster", "add", "-", "--json", home=short_home, stdin=card)
        assert added.document["version"] == 7
        assert list(fake.calls[0].cards) == [card.strip().encode()]
        assert run("roster", "remove", "qingdao", "--json", home=short_home).document["version"] == 8
        founded = run("roster", "create", "--title", "t", "--json", home=short_home)
        assert founded.exit_code == 1
        assert founded.error == {"reason": "GOVERNANCE", "message": "founded already", "hint": "type: labmesh roster show"}
        exported = run("roster", "export", home=short_home).out
        joined = run("join", "-", "--json", home=short_home, stdin=exported)
        assert joined.document["version"] == 9
        assert len(fake.calls[-1].rosters) == 1 and fake.calls[-1].fingerprint == ""
        fake.answers["ImportAlliance"] = GovernanceError("another roster of version 1 is already held")
        refused = run("join", "-", "--json", home=short_home, stdin=exported)
        assert refused.error["reason"] == "GOVERNANCE" and "ask another member" in refused.error["hint"]


def test_a_single_card_of_a_member(founded, exported, qingdao, tmp_path):
    """Whoever cannot connect sends its newer card by another way; a member's signature is all that it needs."""
    fingerprint = _fingerprint(founded)
    card = _card(qingdao, tmp_path)
    early = run("join", card, "--json", home=qingdao)
    assert early.exit_code == 1 and "only to a node that has joined" in early.error["message"]
    assert run("join", exported, "--fingerprint", fingerprint, home=qingdao).exit_code == 0
    assert "held here already" in run("join", card, home=founded).out
    newer = tmp_path / "newer.card"
    newer.write_bytes(_reissue(qingdao, "Another name"))
    taken = run("join", newer, home=founded)
    assert taken.exit_code == 0 and "card of qingdao with seq 2 is taken" in taken.out
    assert "A newer card of qingdao is held" in run("join", card, home=founded).out
    assert run("join", newer, "--json", home=founded).document["fingerprint"] == fingerprint
    # By the council's own key, in the name of another member: refused, and nothing is taken.
    forged = tmp_path / "forged.card"
    envelope = build_envelope(parse_envelope(newer.read_bytes(), CARD_TYPE)[1], CARD_TYPE, _sign_by(founded))
    forged.write_bytes(format_envelope(envelope))
    refused = run("join", forged, "--json", home=founded)
    assert refused.exit_code == 1 and "not signed by the identity key" in refused.error["message"]
    stranger = run("join", _card(init(tmp_path / "yantai", "yantai"), tmp_path), "--json", home=founded)
    assert stranger.exit_code == 1 and "not in the roster" in stranger.error["message"]


def _sign_by(path: Path) -> Sign:
    return Home(path).load_keys("jinan", ALLIANCE).identity.sign


def test_join_says_which_card_stands_on_a_forgotten_one(founded, exported, qingdao, tmp_path):
    assert run("join", exported, "--fingerprint", _fingerprint(founded), home=qingdao).exit_code == 0
    shutil.copytree(qingdao, tmp_path / "before")
    witness = Lab("qingdao").witness.key

    def rotated(card):
        return replace(
            card, witness_key=witness, former_witness_keys=(FormerWitnessKey(card.witness_key, card.issued),)
        )  # fmt: skip

    file = tmp_path / "forgotten.card"
    file.write_bytes(_reissue(qingdao, "of the first life", rotated))
    leapt = parse_card(_reissue(tmp_path / "before", "of the second", leap=True))[1]
    ended = run("join", file, home=tmp_path / "before")
    assert ended.exit_code == 0 and "had forgotten a card" in ended.out and " card -o CARD" in ended.out
    card = parse_card(run("card", home=tmp_path / "before").out.strip().encode())[1]
    assert card.seq > leapt.seq and f"seq {card.seq}" in ended.out and card.witness_key == witness
    assert card.name == "of the second"
    assert "nothing was changed" in run("join", file, home=tmp_path / "before").out


def _reissue(path: Path, name: str, change: Callable[[Card], Card] = lambda card: card, *, leap: bool = False) -> bytes:
    home = Home(path)
    store = home.open_store()
    try:
        membership = Membership(store.membership, identity=home.load_keys("qingdao", ALLIANCE).identity, clock=utc_now)
        membership.issue_card(lambda card: replace(change(card), name=name), leap=leap)
        return format_card(membership.own_card)
    finally:
        store.close()


def test_a_lock_without_a_daemon_is_3(monkeypatch, short_home):
    monkeypatch.setattr(governance, "LOCK_WAIT_S", 0.3)
    with Home(short_home).lock():
        ended = run("roster", "remove", "qingdao", "--json", home=short_home)
    assert (ended.exit_code, ended.out) == (3, "")
    assert "another process is using" in ended.err


def test_reading_needs_no_lock(short_home):
    with Home(short_home).lock():
        assert run("roster", "show", home=short_home).exit_code == 0
        assert run("roster", "export", home=short_home).exit_code == 0
        assert run("card", home=short_home).exit_code == 0


@pytest.fixture
def forked(founded, exported, qingdao, tmp_path):
    """Two files of jinan's home and of a copy of it, each with a roster version 3 of its own; qingdao holds the first."""
    assert run("join", exported, "--fingerprint", _fingerprint(founded), home=qingdao).exit_code == 0
    shutil.copytree(founded, tmp_path / "copy")
    files = {}
    for home, change in ((founded, ("renew",)), (tmp_path / "copy", ("remove", "qingdao"))):
        assert run("roster", *change, home=home).exit_code == 0
        files[home] = tmp_path / f"{home.name}.json"
        assert run("roster", "export", "-o", files[home], home=home).exit_code == 0
    assert run("join", files[founded], home=qingdao).exit_code == 0
    return files[tmp_path / "copy"]


def _evidence(path):
    store = Home(path).open_store()
    try:
        return [(piece.kind, piece.member, piece.id) for piece in store.evidence.load()]
    finally:
        store.close()


def test_join_keeps_what_another_roster_of_a_held_version_proves(forked, qingdao):
    ended = run("join", forked, "--json", home=qingdao)
    assert ended.exit_code == 1 and ended.error["reason"] == "GOVERNANCE"
    ((kind, member, evidence_id),) = _evidence(qingdao)
    assert (kind, member) == ("roster", "jinan")
    assert "jinan signed two rosters of version 3" in ended.error["message"]
    assert f"evidence export {evidence_id} -o FILE" in ended.error["hint"]
    shown = run("join", forked, home=qingdao).err
    assert f"labmesh --home {qingdao} evidence export {evidence_id}" in shown and len(_evidence(qingdao)) == 1


def test_sign_keeps_what_a_stale_proposal_proves(forked, qingdao, tmp_path):
    stale = tmp_path / "stale.proposal.json"
    stale.write_text(json.dumps({"cards": [], "roster": json.loads(forked.read_bytes())["rosters"][-1]}))
    ended = run("roster", "sign", stale, "--yes", "--json", home=qingdao)
    assert ended.exit_code == 1 and "jinan signed two rosters of version 3" in ended.error["message"], ended
    assert [piece[:2] for piece in _evidence(qingdao)] == [("roster", "jinan")]


def test_join_keeps_what_a_second_card_of_one_seq_proves(founded, exported, qingdao, tmp_path):
    shutil.copytree(qingdao, tmp_path / "copy")
    one, other = tmp_path / "one.card", tmp_path / "other.card"
    one.write_bytes(_reissue(qingdao, "One name"))
    other.write_bytes(_reissue(tmp_path / "copy", "Another name"))
    assert run("join", one, home=founded).exit_code == 0
    ended = run("join", other, home=founded)
    assert ended.exit_code == 1 and "qingdao signed two cards with seq 2" in ended.err
    assert f"labmesh --home {founded} evidence export" in ended.err
    assert [piece[:2] for piece in _evidence(founded)] == [("card", "qingdao")]


def test_join_refuses_a_fingerprint_that_is_not_in_the_chain_and_says_what_to_do(founded, exported):
    ended = run("join", exported, "--fingerprint", WRONG, "--json", home=founded)
    assert ended.exit_code == 1 and WRONG in ended.error["message"]
    assert "roster show" in ended.error["hint"]
