"""A council of three at its terminals: proposals, signatures, and every wrong thing that a person types."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest

from labmesh.v1 import node_pb2
from node.clock import utc_now
from node.core.proposal import parse_proposal
from node.core.roster import parse_roster
from node.home import Home
from node.store import open_store
from tests.cli.conftest import ALLIANCE, propose, version_of
from tests.cli.conftest import run_offline as run
from tests.cli.fake_node import serve


def test_a_change_that_needs_more_signatures_writes_a_file(council):
    before = run("roster", "show", "--json", home=council / "jinan").document
    ended = run("roster", "add", "zibo.card", "--json", home=council / "jinan")
    assert (ended.exit_code, ended.document) == (
        0,
        {
            "alliance": ALLIANCE,
            "version": 3,
            "fingerprint": before["fingerprint"],
            "proposal": "roster-4.proposal.json",
            "signatures": {"have": 1, "needed": 2},
            "withdrawn": [],
        },
    )
    content = json.loads((council / "roster-4.proposal.json").read_bytes())
    assert set(content) == {"roster", "cards"} and len(content["cards"]) == 1
    assert run("roster", "show", "--json", home=council / "jinan").document == before


def test_the_second_signature_publishes(council):
    propose(council, "add", "zibo.card")
    ended = run("roster", "sign", "p.json", home=council / "yantai")
    assert ended.exit_code == 0, ended
    assert "zibo (Zibo 检验院, CN-37) joins" in ended.out
    assert "Signed, and in force. The roster's version is 4." in ended.out
    assert version_of(council / "yantai") == 4
    shown = run("roster", "show", "--json", home=council / "yantai").document
    assert [member["member"] for member in shown["members"]] == ["jinan", "qingdao", "yantai", "zibo"]
    for name in ("jinan", "qingdao"):
        assert run("join", "p.json", home=council / name).exit_code == 0
        assert version_of(council / name) == 4


def test_sign_answers_as_json(council):
    propose(council, "threshold", "3")
    once = run("roster", "sign", "p.json", "--json", home=council / "qingdao").document
    assert (once["version"], once["proposal"], once["signatures"]) == (3, "p.json", {"have": 2, "needed": 3})
    done = run("roster", "sign", "p.json", "--json", home=council / "yantai").document
    assert (done["version"], done["signatures"]) == (4, {"have": 3, "needed": 3})
    assert done["fingerprint"] == run("roster", "show", "--json", home=council / "yantai").document["fingerprint"]


def test_a_person_is_asked_before_the_signature(council, monkeypatch):
    propose(council)
    raw = (council / "p.json").read_bytes()
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    ended = run("roster", "sign", "p.json", home=council / "qingdao", stdin="n\n")
    assert ended.exit_code == 1 and "cannot be taken back" in ended.err
    assert (council / "p.json").read_bytes() == raw and version_of(council / "qingdao") == 3
    assert run("roster", "proposal", home=council / "qingdao").exit_code == 1
    assert run("roster", "sign", "p.json", home=council / "qingdao", stdin="y\n").exit_code == 0
    assert version_of(council / "qingdao") == 4


def test_nothing_is_overwritten(council):
    for name in ("p.json", "roster-4.proposal.json"):
        (council / name).write_text("mine")
    for args in (["-o", "p.json"], []):
        ended = run("roster", "renew", *args, "--json", home=council / "jinan")
        assert ended.exit_code == 2 and "exists already" in ended.error["message"]
    assert run("roster", "proposal", home=council / "jinan").exit_code == 1, "nothing was signed"
    for bad in (council / "jinan" / "p.json", council / "nowhere" / "p.json"):
        assert run("roster", "renew", "-o", bad, home=council / "jinan").exit_code == 2
    assert (council / "p.json").read_text() == (council / "roster-4.proposal.json").read_text() == "mine"


def test_a_lost_file_is_written_again(council):
    assert run("roster", "proposal", "--json", home=council / "jinan").error["reason"] == "GOVERNANCE"
    document = propose(council, "quorum", "2")
    raw = (council / "p.json").read_bytes()
    (council / "p.json").unlink()
    shown = run("roster", "proposal", home=council / "jinan")
    assert shown.exit_code == 0 and "the quorum becomes 2; it was 1" in shown.out
    again = run("roster", "proposal", "-o", "again.json", "--json", home=council / "jinan").document
    assert again == {**document, "proposal": "again.json"}
    assert (council / "again.json").read_bytes() == raw
    assert run("roster", "proposal", "-o", "again.json", home=council / "jinan").exit_code == 2
    assert run("roster", "proposal", "--json", home=council / "jinan").document["proposal"] is None


def test_the_home_signs_no_other_roster_of_that_version(council):
    propose(council)
    ended = run("roster", "quorum", "2", "-o", "q.json", "--json", home=council / "jinan")
    assert ended.exit_code == 1 and "nobody signs two of one version" in ended.error["message"]
    assert "labmesh roster proposal" in ended.error["hint"] and not (council / "q.json").exists()
    assert run("roster", "quorum", "2", "-o", "q.json", home=council / "qingdao").exit_code == 0
    ended = run("roster", "sign", "q.json", home=council / "jinan")
    assert ended.exit_code == 1 and ended.out == "" and "1 of qingdao, yantai can put the first in force" in ended.err


def test_a_change_of_the_council_says_what_each_council_lacks(council):
    """The council in force is all three; the new one has zibo in yantai's place."""
    propose(council, "add", "zibo.card")
    assert run("roster", "sign", "p.json", home=council / "qingdao").exit_code == 0
    for name in ("jinan", "yantai"):
        assert run("join", "p.json", home=council / name).exit_code == 0
    ended = run("roster", "council", "jinan", "qingdao", "zibo", "--threshold", "2", "-o", "c.json", home=council / "jinan")
    assert "1 of 2 signatures of the council in force and 1 of 2 of the new one: it is not in force yet" in ended.out
    assert "Send c.json to qingdao, who types" in ended.out
    ended = run("roster", "sign", "c.json", home=council / "yantai")
    assert "2 of 2 signatures of the council in force and 1 of 2 of the new one" in ended.out
    assert "Send c.json to qingdao or zibo, who types" in ended.out
    ended = run("roster", "renew", "-o", "r.json", home=council / "jinan")
    assert ended.exit_code == 1 and "hint: qingdao can put the first in force" in ended.err
    assert run("roster", "sign", "c.json", home=council / "qingdao").exit_code == 0
    assert version_of(council / "qingdao") == 5


def _seat_two(council):
    """Jinan and qingdao alone, who must both sign."""
    propose(council, "council", "jinan", "qingdao", "--threshold", "2", output="two.json")
    assert run("roster", "sign", "two.json", home=council / "qingdao").exit_code == 0
    assert run("join", "two.json", home=council / "jinan").exit_code == 0


def test_the_way_out_when_each_has_signed_another_change(council):
    _seat_two(council)
    ended = run("roster", "renew", "-o", "p.json", home=council / "jinan")
    assert "no home that signed it signs another change of version 5" in ended.out
    assert run("roster", "quorum", "2", "-o", "q.json", home=council / "qingdao").exit_code == 0
    stuck = run("roster", "sign", "q.json", "--json", home=council / "jinan")
    assert stuck.exit_code == 1 and stuck.error["message"].count("made at 20") == 2
    assert "once everybody has deleted that file, give it up: labmesh roster withdraw" in stuck.error["hint"]

    ended = run("roster", "withdraw", home=council / "jinan")
    assert ended.exit_code == 0, ended
    assert "the roster is valid until" in ended.out and "prove with it that this member signed two rosters" in ended.out
    assert "This home may sign another roster of version 5." in ended.out
    again = run("roster", "withdraw", "--json", home=council / "jinan")
    assert again.exit_code == 1 and "has signed no proposal of roster version 5; it has withdrawn" in again.error["message"]
    assert "it has withdrawn what was made at 20" in run("roster", "proposal", home=council / "jinan").err
    ended = run("roster", "sign", "q.json", home=council / "jinan")
    assert ended.exit_code == 0 and "Signed, and in force" in ended.out
    assert run("join", "q.json", home=council / "qingdao").exit_code == 0
    assert version_of(council / "jinan") == version_of(council / "qingdao") == 5


def test_a_withdrawal_as_json(council):
    held = version_of(council / "jinan")
    document = propose(council)
    ended = run("roster", "withdraw", "--json", home=council / "jinan")
    hash_ = parse_roster(parse_proposal((council / "p.json").read_bytes()).roster)[0].hash
    assert ended.document == {
        "alliance": ALLIANCE,
        "version": held,
        "fingerprint": document["fingerprint"],
        "withdrawn": {"version": held + 1, "hash": hash_},
    }


def test_a_withdrawn_change_is_signed_again(council):
    """From any copy, also one that carries this home's signature; but not after another one."""
    propose(council)
    assert run("roster", "withdraw", home=council / "jinan").exit_code == 0
    ended = run("roster", "sign", "p.json", home=council / "jinan")
    assert ended.exit_code == 0 and "has 1 of 2 signatures" in ended.out
    assert run("roster", "withdraw", home=council / "jinan").exit_code == 0
    propose(council, "quorum", "2", output="q.json")
    assert run("roster", "withdraw", home=council / "jinan").exit_code == 0
    ended = run("roster", "sign", "p.json", "--json", home=council / "jinan")
    assert ended.exit_code == 1 and "has withdrawn this roster of version 4, and signed another" in ended.error["message"]


def test_what_was_withdrawn_is_shown_beside_what_is_signed_now(council):
    first = propose(council)
    assert first["withdrawn"] == []
    made = parse_roster(parse_proposal((council / "p.json").read_bytes()).roster)[1].issued
    assert run("roster", "withdraw", home=council / "jinan").exit_code == 0
    ended = run("roster", "quorum", "2", "-o", "q.json", home=council / "jinan")
    assert ended.exit_code == 0 and f"has withdrawn what was made at {made:%Y-%m-%dT%H:%M:%SZ}" in ended.out
    shown = run("roster", "proposal", home=council / "jinan")
    assert f"has withdrawn what was made at {made:%Y-%m-%dT%H:%M:%SZ}" in shown.out and "copy" in shown.out
    document = run("roster", "proposal", "--json", home=council / "jinan").document
    assert document["withdrawn"] == [f"{made:%Y-%m-%dT%H:%M:%SZ}"]


def test_a_person_is_asked_before_the_withdrawal(council, monkeypatch):
    propose(council)
    monkeypatch.setattr("cli.consent.can_ask", lambda app: not app.json)
    ended = run("roster", "withdraw", home=council / "jinan", stdin="n\n")
    assert ended.exit_code == 1 and "Has everybody deleted it, and is it given up?" in ended.err
    assert run("roster", "proposal", home=council / "jinan").exit_code == 0, "it is bound still"
    assert run("roster", "withdraw", "--yes", home=council / "jinan").exit_code == 0
    assert run("roster", "proposal", home=council / "jinan").exit_code == 1


def test_the_doctor_names_a_change_that_waits_for_a_week(council, monkeypatch):
    propose(council)

    def warned(days):
        monkeypatch.setattr("cli.examination.utc_now", lambda: utc_now() + timedelta(days=days))
        findings = run("doctor", "--json", home=council / "jinan").document["findings"]
        return [finding for finding in findings if "still lacks signatures" in finding["message"]]

    assert warned(6.9) == []
    (finding,) = warned(7.1)
    assert (finding["check"], finding["level"]) == ("roster", "warning") and "labmesh roster proposal" in finding["hint"]
    assert run("roster", "sign", "p.json", home=council / "qingdao").exit_code == 0
    assert run("join", "p.json", home=council / "jinan").exit_code == 0
    assert warned(7.1) == []


@pytest.mark.parametrize(
    "change", [("quorum", "default"), ("threshold", "2"), ("council", "yantai", "qingdao", "jinan")], ids=" ".join
)
def test_a_change_that_changes_nothing(council, change):
    ended = run("roster", *change, "--json", home=council / "jinan")
    assert ended.exit_code == 1 and "would change nothing but its date" in ended.error["message"]
    assert ended.error["hint"] == "for that, type: labmesh roster renew"


def test_stdin_and_another_output(council):
    propose(council)
    raw = (council / "p.json").read_bytes()
    ended = run("roster", "sign", "-", "-o", "signed.json", "--json", home=council / "qingdao", stdin=raw)
    assert (ended.exit_code, ended.document["proposal"]) == (0, "signed.json")
    assert (council / "p.json").read_bytes() == raw != (council / "signed.json").read_bytes()


def test_show_names_the_end_of_a_removed_log(council):
    propose(council, "council", "jinan", "qingdao")
    assert run("roster", "sign", "p.json", home=council / "qingdao").exit_code == 0
    assert run("join", "p.json", home=council / "jinan").exit_code == 0
    assert run("roster", "remove", "yantai", "-o", "q.json", home=council / "jinan").exit_code == 0
    ended = run("roster", "sign", "q.json", home=council / "qingdao")
    assert "yantai is removed, for good; nothing of its log counts" in ended.out, "nothing of it was verified here"
    member = run("roster", "show", "--json", home=council / "qingdao").document["members"][2]
    assert (member["status"], member["head"]["size"]) == ("removed", 0) and member["left"] is not None
    ended = run("join", "q.json", "--json", home=council / "yantai")
    assert ended.exit_code == 1 and "roster export" in ended.error["hint"], "version 4 is missing in between"
    assert run("join", "p.json", home=council / "yantai").exit_code == 0
    assert run("join", "q.json", home=council / "yantai").exit_code == 0
    findings = run("doctor", "--json", home=council / "yantai").document["findings"]
    told = [finding for finding in findings if finding["check"] == "membership"]
    assert told[0]["level"] == "error" and "yantai was removed from" in told[0]["message"]
    assert "ask the council (jinan, qingdao)" in told[0]["hint"]


def test_the_signed_roster_is_in_the_database_before_the_file_is_there(council, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cli.proposal.write_output", full_disk)
    assert run("roster", "renew", "-o", "p.json", home=council / "jinan").exit_code == 1
    monkeypatch.undo()
    monkeypatch.chdir(council)
    store = open_store(council / "jinan")
    assert store.membership.load_signed(4) is not None
    store.close()
    assert run("roster", "proposal", "-o", "p.json", home=council / "jinan").exit_code == 0
    assert run("roster", "sign", "p.json", home=council / "qingdao").exit_code == 0


def test_a_new_identity_key_with_the_councils_help(council):
    made = run("keys", "identity", "-o", "yantai.new", "--json", home=council / "yantai").document
    assert (made["file"], made["seq"]) == ("yantai.new", 2)
    assert run("keys", "identity", "-o", "yantai.new", home=council / "yantai").exit_code == 2, "nothing is overwritten"
    propose(council, "rekey", "yantai", "yantai.new")
    ended = run("roster", "sign", "p.json", home=council / "qingdao")
    assert ended.exit_code == 0 and f"yantai gets the identity key {made['identity_key']}; it had " in ended.out
    assert "the council stays jinan, qingdao, yantai, with the new identity keys" in ended.out
    assert run("join", "p.json", home=council / "yantai").exit_code == 0
    assert run("join", "p.json", home=council / "jinan").exit_code == 0
    propose(council, "renew", output="q.json")
    ended = run("roster", "sign", "q.json", home=council / "yantai")
    assert ended.exit_code == 0 and "in force" in ended.out, "the home signs with the new key"
    assert run("doctor", "--json", home=council / "yantai").document["findings"] != []
    assert not (council / "yantai" / "keys" / "identity.next.pem").exists()


def test_a_council_whose_every_seat_must_sign_is_told_so_before_it_is_too_late(council):
    ended = run("roster", "threshold", "3", "-o", "p.json", home=council / "jinan")
    assert "WARNING: all 3 seats must then sign" in ended.out
    for name in ("qingdao", "yantai"):
        assert "WARNING: all 3 seats must then sign" in run("roster", "sign", "p.json", home=council / name).out
    assert run("join", "p.json", home=council / "jinan").exit_code == 0
    (council / "yantai" / "keys" / "identity.pem").unlink()
    assert "where its threshold is met without that key, types" in run("doctor", home=council / "yantai").out
    ended = run("keys", "identity", "-o", "yantai.new", home=council / "yantai")
    assert ended.exit_code == 0 and "The council cannot do that without the old key's signature: while" in ended.out
    refused = run("roster", "rekey", "yantai", "yantai.new", "--json", home=council / "jinan").error
    assert "too few council members are left" in refused["message"] and "if that key is lost" in refused["hint"]


def test_with_a_daemon_the_daemon_is_asked(council_homes, node_home):
    shutil.copytree(council_homes / "jinan", node_home, dirs_exist_ok=True)
    _propose_offline = run("roster", "renew", "-o", node_home.parent / f"{node_home.name}.json", "--json", home=node_home)
    file = node_home.parent / f"{node_home.name}.json"
    raw = file.read_bytes()
    assert _propose_offline.document["signatures"] == {"have": 1, "needed": 2}
    pending = node_pb2.RosterProposal(file=raw, have=1, needed=2)
    with Home(node_home).lock(), serve(node_home / "labmesh.sock") as fake:
        fake.answers["AmendRoster"] = node_pb2.AmendRosterResponse(version=3, fingerprint="0" * 64, proposal=pending)
        fake.answers["RemoveMember"] = node_pb2.RemoveMemberResponse(version=4, fingerprint="1" * 64)
        out = file.with_suffix(".again")
        answer = run("roster", "quorum", "default", "-o", out, "--json", home=node_home).document
        assert answer["signatures"] == {"have": 1, "needed": 2} and out.read_bytes() == raw
        assert (fake.calls[0].WhichOneof("change"), fake.calls[0].quorum) == ("quorum", 0)
        removed = run("roster", "remove", "qingdao", "--head-size", "7", "--json", home=node_home)
        assert removed.document == {"alliance": ALLIANCE, "version": 4, "fingerprint": "1" * 64}
        assert fake.calls[1].head_size == 7 and fake.calls[1].HasField("head_size")
        assert run("roster", "remove", "qingdao", "--json", home=node_home).exit_code == 0
        assert not fake.calls[2].HasField("head_size")
    out.unlink()
    file.unlink()
