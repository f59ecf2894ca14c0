"""The doctor: every rule on its own, and the whole on real homes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli.doctor import CHECKS, Finding, examine
from cli.facts import ClientFacts, DaemonFacts, Facts, Fault, PeerFacts, RemoteFacts
from cli.key_facts import ANOTHER, RESTORE
from labmesh.v1 import node_pb2
from node.core.standing import Notice
from node.errors import HANGS
from node.home import Home
from node.lost_keys import describe_lost_role
from tests.cli.conftest import run
from tests.cli.fake_node import serve

NOW = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
GIB = 1024**3
LATER = NOW + timedelta(days=400)

REMOTE = RemoteFacts(7444, LATER, [ClientFacts("lims", NOW, NOW)])
DAEMON = DaemonFacts("ready", "0.1.0", [], [PeerFacts("qingdao", "connected", clock_offset_ms=100)], REMOTE)
HEALTHY = Facts(
    home="home",
    now=NOW,
    version="0.1.0",
    modes=[("keys", 0o700, 0o700), ("keys/log.pem", 0o600, 0o600)],
    database_faults=[],
    disk=(100 * GIB, 50 * GIB),
    certificates_end=[LATER],
    joined=True,
    roster_version=3,
    roster_expires=LATER,
    daemon=DAEMON,
    addresses=[("jinan.example:7443", "")],
    python="3.11.7",
    sqlite="3.40.1",
    fts5=True,
)


def _daemon(**changes):
    return {"daemon": replace(DAEMON, **changes)}


def _peer(**changes):
    return _daemon(peers=[replace(PeerFacts("qingdao", "connected", clock_offset_ms=100), **changes)])


def test_a_healthy_node_is_told_what_was_looked_at():
    report = examine(HEALTHY)
    assert report.ok and {finding.level for finding in report.findings} == {"ok"}
    assert len({finding.check for finding in report.findings}) == len(CHECKS)


@pytest.mark.parametrize(
    ("changes", "check", "level", "named"),
    [
        ({"home_fault": Fault("not a home", "type: labmesh init")}, "home", "error", "init"),
        ({"modes": [("keys/log.pem", 0o640, 0o600)]}, "keys", "error", "chmod 600 keys/log.pem"),
        ({"modes": [("keys", 0o755, 0o700)]}, "keys", "error", "chmod 700 keys"),
        ({"missing_keys": ["keys/log.pem"]}, "keys", "error", "backup"),
        ({"settings_fault": Fault("bogus is not a setting")}, "settings", "error", "labmesh.toml"),
        ({"database_faults": ["row 3 missing from index"]}, "database", "error", "row 3"),
        ({"disk": (100 * GIB, GIB - 1)}, "disk", "warning", "room"),
        ({"disk": (100 * GIB, 4 * GIB)}, "disk", "warning", "room"),
        ({"disk": (2 * GIB, GIB)}, "disk", "ok", "1.0 GiB"),
        ({"certificates_end": [NOW + timedelta(days=29)]}, "certificate", "warning", "29 days"),
        ({"certificates_end": [NOW + timedelta(days=30)]}, "certificate", "ok", ""),
        ({"certificates_end": [NOW]}, "certificate", "error", "expired"),
        ({"certificates_end": [NOW + timedelta(days=29)]}, "certificate", "warning", "labmesh keys rotate tls"),
        ({"certificates_end": [NOW, LATER]}, "certificate", "error", "labmesh keys rotate tls --without-peers"),
        ({"welcomes": [("qingdao", "refused"), ("yantai", "away")]}, "certificate", "error", "qingdao refused this home's"),
        ({"welcomes": [("qingdao", "refused")]}, "certificate", "error", "labmesh card -o CARD; at a peer: labmesh join"),
        (
            {"welcomes": [("qingdao", "other certificate")]},
            "certificate",
            "error",
            "roster export -o FILE; here: labmesh join",
        ),
        ({"missing_keys": ["keys/log.pem"]}, "keys", "error", "labmesh keys rotate log"),
        ({"missing_keys": ["keys/identity.pem"]}, "keys", "error", "labmesh roster rekey"),
        ({"certificates_end": [LATER, NOW]}, "certificate", "ok", "2027"),
        ({"modes": [("my home", 0o755, 0o710)]}, "keys", "error", "chmod 700 'my home'"),
        ({"key_faults": [Fault("log.pem is not the log key", "restore it")]}, "keys", "error", "not the log key"),
        ({"key_faults": []}, "keys", "ok", "those of this member's card"),
        ({"keys_protected": True}, "keys", "ok", "--passphrase-file"),
        ({"settings_differences": ["address is a:1, in the card b:1"]}, "settings", "warning", "address is a:1"),
        ({"listen_fault": Fault("cannot listen on 'nowhere'", "set listen")}, "settings", "error", "nowhere"),
        ({"joined": False, "roster_expires": None}, "roster", "warning", "labmesh join"),
        ({"roster_expires": NOW + timedelta(days=5)}, "roster", "warning", "5 days"),
        ({"roster_expires": NOW - timedelta(days=5)}, "roster", "error", "version 3"),
        (
            {"daemon": None, "daemon_fault": Fault("not running", "type: labmesh run"), "addresses": None},
            "daemon",
            "error",
            "labmesh run",
        ),
        (_daemon(version="0.0.9"), "daemon", "warning", "0.0.9"),
        (_daemon(state="unconfirmed"), "state", "warning", "labmesh confirm"),
        (_daemon(state="recovering"), "state", "warning", "recovering"),
        (_daemon(state="degraded"), "state", "error", "degraded"),
        (_daemon(alarms=["two histories"]), "alarm", "error", "two histories"),
        (_peer(state="retrying", error="no answer"), "peers", "warning", "no answer"),
        (_peer(state="offline"), "peers", "warning", "qingdao is offline"),
        (_peer(state="refused"), "peers", "error", "refused"),
        (_peer(state="refused", error="not in the roster"), "peers", "error", "labmesh card -o FILE"),
        (
            _daemon(alarms=["3 entries were published; type: labmesh list --lost"]),
            "alarm",
            "error",
            "type: labmesh list --lost",
        ),
        (_peer(state="quarantined"), "peers", "error", "quarantined"),
        (_peer(quarantined=4), "peers", "warning", "4 entries"),
        (_peer(clock_offset_ms=5000), "clock", "ok", "5.0 s behind"),
        (_peer(clock_offset_ms=5001), "clock", "warning", "NTP"),
        (_peer(clock_offset_ms=-60_001), "clock", "error", "ahead of"),
        ({"addresses": [("jinan.example:7443", "Connection refused")]}, "address", "warning", "NAT"),
        ({"addresses": []}, "address", "ok", "dials out"),
        ({"fts5": False}, "software", "error", "FTS5"),
    ],
)
def test_each_rule(changes, check, level, named):
    report = examine(replace(HEALTHY, **changes))
    found = [finding for finding in report.findings if finding.check == check and finding.level == level]
    assert any(named in finding.message or named in finding.hint for finding in found), report.findings
    assert report.ok is (level != "error")
    others = [finding for finding in report.findings if finding.check != check]
    assert all(finding.level == "ok" for finding in others)
    # An alarm says itself what to do, where there is something.
    assert all(finding.hint for finding in report.findings if finding.level != "ok" and finding.check != "alarm")


def test_the_clock_is_compared_with_the_median():
    peers = [PeerFacts(f"p{i}", "connected", clock_offset_ms=offset) for i, offset in enumerate([0, 100, 90_000])]
    report = examine(replace(HEALTHY, **_daemon(peers=[*peers, PeerFacts("silent", "connected")])))
    assert report.ok and [f.level for f in report.findings if f.check == "clock"] == ["ok"]


def test_what_could_not_be_looked_at_says_nothing():
    report = examine(Facts(home="home", now=NOW, version="0.1.0", home_fault=Fault("not a home", "init")))
    assert [finding.check for finding in report.findings] == ["software", "home"]


def test_the_document():
    content = examine(HEALTHY).document()
    assert set(content) == {"ok", "findings"}
    assert all(set(finding) == {"check", "level", "message", "hint"} for finding in content["findings"])


def _levels(content):
    levels: dict[str, set[str]] = {}
    for finding in content["findings"]:
        levels.setdefault(finding["check"], set()).add(finding["level"])
    return levels


def test_no_home(tmp_path):
    ended = run("doctor", "--json", home=tmp_path / "none")
    assert ended.exit_code == 1 and ended.document["ok"] is False
    assert _levels(ended.document)["home"] == {"error"}
    assert "init" in run("doctor", home=tmp_path / "none").out


def test_a_home_whose_node_is_down(founded):
    ended = run("doctor", "--json", home=founded)
    assert ended.exit_code == 1
    levels = _levels(ended.document)
    assert levels.pop("daemon") == {"error"}
    assert levels.pop("address") == {"warning"}
    assert set(map(frozenset, levels.values())) == {frozenset({"ok"})}
    assert {"home", "keys", "settings", "database", "disk", "certificate", "roster", "software"} <= set(levels)


def test_a_home_with_everything_wrong_is_still_examined(home):
    (home / "keys" / "log.pem").chmod(0o644)
    (home / "keys" / "tls.pem").unlink()
    (home / "labmesh.toml").write_text("bogus = 1\n")
    ended = run("doctor", "--json", home=home)
    levels = _levels(ended.document)
    assert ended.exit_code == 1
    assert levels["keys"] == {"error"} and levels["settings"] == {"error"} and levels["roster"] == {"warning"}


@pytest.mark.parametrize("damage", ["text", "middle", "empty"])
def test_a_damaged_database(founded, damage):
    path = founded / "labmesh.sqlite"
    raw = path.read_bytes()
    for leftover in founded.glob("labmesh.sqlite-*"):
        leftover.unlink()
    broken = {"text": b"no database" * 500, "middle": raw[:4096] + b"\x99" * (len(raw) - 4096), "empty": b""}
    path.write_bytes(broken[damage])
    ended = run("doctor", "--json", home=founded)
    levels = _levels(ended.document)
    assert ended.exit_code == 1 and "error" in levels.get("database", set()) | levels["home"]


def test_a_running_node_is_asked(founded, node_home):
    home = shutil.copytree(founded, node_home / "h")
    with serve(home / "labmesh.sock") as fake:
        peer = node_pb2.PeerStatus(member="qingdao", state="connected", clock_offset_ms=70_000)
        fake.answers["GetStatus"] = node_pb2.GetStatusResponse(state="ready", version="9.9", peers=[peer])
        ended = run("doctor", "--json", home=home)
    levels = _levels(ended.document)
    assert levels["daemon"] == {"ok", "warning"} and levels["state"] == {"ok"} and levels["clock"] == {"error"}


REMOVED = Notice("membership", "error", "qingdao was removed", "ask the council (jinan)")
EXPIRING = Notice("expiry", "warning", "the roster expires on 2026-12-01", "type: labmesh roster renew")


def test_what_the_alliance_says_of_the_member_is_told_once():
    """The daemon's alarm says the same; and a roster that expires soon is a warning, also when the daemon alarms."""
    alarms = [str(REMOVED), str(EXPIRING), "something else"]
    facts = replace(
        HEALTHY,
        notices=[REMOVED, EXPIRING],
        roster_expires=NOW + timedelta(days=11),
        **_daemon(state="ready", alarms=alarms),
    )
    found = [finding for finding in examine(facts).findings if finding.level != "ok"]
    assert [(finding.check, finding.level) for finding in found] == [
        ("roster", "warning"),
        ("membership", "error"),
        ("alarm", "error"),
    ]
    assert found[0].hint == "type: labmesh roster renew"
    assert (found[1].message, found[1].hint) == (REMOVED.sentence, REMOVED.hint)
    assert found[2].message == "something else"
    expiring = replace(facts, notices=[EXPIRING], **_daemon(alarms=[str(EXPIRING)]))
    assert examine(expiring).ok


def test_a_change_that_waits_is_a_warning_and_told_once():
    waiting = Notice("proposal", "warning", "a change still lacks signatures", "labmesh roster proposal")
    report = examine(replace(HEALTHY, notices=[waiting], **_daemon(alarms=[str(waiting)])))
    found = [finding for finding in report.findings if finding.level != "ok"]
    assert [(finding.check, finding.level, finding.message) for finding in found] == [
        ("roster", "warning", "a change still lacks signatures")
    ]
    assert report.ok


def test_without_a_node_a_removed_member_is_told_all_the_same():
    facts = replace(HEALTHY, notices=[REMOVED], daemon=None)
    assert [finding.check for finding in examine(facts).findings if finding.level == "error"] == ["membership"]


@pytest.mark.parametrize("welcomes", [[("a", "away")], [("a", "welcome"), ("b", "refused")], [("a", "welcome")]])
def test_one_peer_that_lets_this_node_in_is_enough(welcomes):
    """Then it tells the newest card; and who does not answer says nothing of certificates."""
    assert examine(replace(HEALTHY, welcomes=welcomes)).ok


def test_every_key_file_must_be_private(founded):
    remote = founded / "keys" / "remote.pem"
    remote.write_text("x")
    remote.chmod(0o644)
    ended = run("doctor", "--json", home=founded)
    assert f"type: chmod 600 {remote}" in [finding["hint"] for finding in ended.document["findings"]]


def test_keys_that_are_not_those_of_the_card(founded):
    """Each says how it can be replaced."""
    for name in ("log", "witness", "tls"):
        Home(founded).key_path(name).unlink()
    files = Home(founded).key_files()
    for name in ("log", "witness"):
        files.write(files.path(name), Ed25519PrivateKey.generate())
    files.write(files.path("tls"), ec.generate_private_key(ec.SECP256R1()))
    ended = run("doctor", "--json", home=founded)
    hints = [finding["hint"] for finding in ended.document["findings"] if finding["check"] == "keys"]
    assert [role for role in ("log", "witness", "tls") if any(f"keys rotate {role}" in hint for hint in hints)] == [
        "log", "witness", "tls",
    ]  # fmt: skip


def _remote(**changes):
    return _daemon(remote=replace(REMOTE, **changes))


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        (_remote(certificate_ends=NOW + timedelta(days=20)), "warning", "remote port 7444 expires on 2026-12-10"),
        (_remote(certificate_ends=NOW), "error", "remote port 7444 expired"),
        (_remote(clients=[ClientFacts("old", NOW, NOW - timedelta(days=91))]), "warning", "old was last used on 2026-08-21"),
        (_remote(clients=[ClientFacts("new", NOW - timedelta(days=91))]), "warning", "new was issued, but not used yet,"),
        (_remote(port=None, certificate_ends=None), "warning", "does not listen for other machines"),
    ],
)
def test_what_is_wrong_with_the_remote_port(changes, level, words):
    report = examine(replace(HEALTHY, **changes))
    (finding,) = [item for item in report.findings if item.check == "remote" and item.level != "ok"]
    assert finding.level == level and words in finding.message and finding.hint


def test_a_new_client_is_no_fault_and_without_a_port_nothing_is_said():
    fine = examine(replace(HEALTHY, **_remote(clients=[ClientFacts("new", NOW)])))
    assert fine.ok and "new was issued" in " ".join(finding.message for finding in fine.findings)
    silent = examine(replace(HEALTHY, **_remote(port=None, certificate_ends=None, clients=[])))
    assert "remote" not in {finding.check for finding in silent.findings}


def test_the_node_is_asked_for_its_clients(founded, node_home):
    home = shutil.copytree(founded, node_home / "h")
    created, used = "2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"
    clients = [
        node_pb2.Client(name="idle", role="push", created=created, last_used=used),
        node_pb2.Client(name="gone", role="push", created=created, revoked=used),
    ]
    remote = node_pb2.RemoteStatus(port=7444, names=["a"], certificate_expires="2036-01-01T00:00:00Z", clients=1)
    with serve(home / "labmesh.sock") as fake:
        fake.answers["GetStatus"] = node_pb2.GetStatusResponse(state="ready", remote=remote)
        fake.answers["ListClients"] = node_pb2.ListClientsResponse(clients=clients)
        ended = run("doctor", "--json", home=home)
    messages = [finding["message"] for finding in ended.document["findings"] if finding["check"] == "remote"]
    assert len(messages) == 2
    assert "valid until 2036-01-01" in messages[0] and "idle was last used on 2026-01-02" in messages[1]


def test_a_loose_key_is_told_once(home):
    key = home / "keys" / "log.pem"
    key.chmod(0o644)
    findings = run("doctor", "--json", home=home).document["findings"]
    told = [finding for finding in findings if str(key) in finding["message"] + finding["hint"]]
    assert [finding["hint"] for finding in told] == [f"type: chmod 600 {key}"]


def test_somebody_else_at_the_address_of_a_node_that_does_not_run():
    down = {"daemon": None, "daemon_fault": Fault("not running", "type: labmesh run")}
    found = _troubles(addresses=[("jinan.example:7443", "")], **down)
    assert [finding.check for finding in found] == ["daemon", "address"] and "another program" in found[1].message
    found = _troubles(addresses=[("jinan.example:7443", "Connection refused")], **down)
    assert [finding.check for finding in found] == ["daemon"]  # one fault: it does not run


def test_a_node_that_hangs_is_no_other_program_at_its_address():
    hanging = Fault(f"a process (pid 7) {HANGS}: no greeting", "end it (kill 7)")
    found = _troubles(daemon=None, daemon_fault=hanging, addresses=[("jinan.example:7443", "")])
    assert [(finding.check, finding.hint) for finding in found] == [("daemon", "end it (kill 7)")]


def _troubles(**changes):
    return [finding for finding in examine(replace(HEALTHY, **changes)).findings if finding.level != "ok"]


def test_an_alarm_is_parted_into_what_is_wrong_and_what_to_type():
    alarm = "3 entries were published; type: labmesh list --lost   and then: labmesh confirm --lost"
    (found,) = _troubles(**_daemon(alarms=[alarm]))
    assert found == Finding(
        "alarm", "error", "3 entries were published", "type: labmesh list --lost   and then: labmesh confirm --lost"
    )
    (found,) = _troubles(**_daemon(alarms=["two histories"]))
    assert (found.message, found.hint) == ("two histories", ""), "status says no more"


@pytest.mark.parametrize("role", ["log", "witness", "tls"])
def test_a_lost_key_is_one_line(role):
    """Not also as the node's state, and as its alarm."""
    daemon = _daemon(state="degraded", alarms=[describe_lost_role(role)])
    wrong = Fault(f"keys/{role}.pem is not the {role} key that the card names", RESTORE + ANOTHER[role])
    assert [finding.check for finding in _troubles(key_faults=[wrong], **daemon)] == ["keys"]
    assert [finding.check for finding in _troubles(missing_keys=[f"keys/{role}.pem"], **daemon)] == ["keys"]
    # Protected keys are not compared: then the node's own word stands.
    (found,) = _troubles(**daemon)
    assert found.check == "alarm" and "; type: " not in found.message


def test_a_fault_of_one_key_hides_no_alarm_about_another():
    daemon = _daemon(state="degraded", alarms=[describe_lost_role("tls"), "two histories"])
    wrong = Fault("keys/log.pem is not the log key that the card names", RESTORE + ANOTHER["log"])
    assert [finding.check for finding in _troubles(key_faults=[wrong], **daemon)] == ["keys", "alarm", "alarm"]


def test_a_recovery_is_one_line():
    alarm = "qingdao holds 9 entries of this member's log, this home 5 that were published: it takes back what is missing"
    (found,) = _troubles(**_daemon(state="recovering", alarms=[alarm]))
    assert (found.check, found.message, found.hint.endswith("labmesh peers")) == ("alarm", alarm, True)


def test_a_removed_member_reads_once_that_it_was_removed():
    """Not at each peer again, with a card that helps nobody."""
    notice = Notice("membership", "error", "jinan was removed", "ask the council (qingdao)")
    peers = [PeerFacts("qingdao", "refused", "not in the roster"), PeerFacts("yantai", "offline")]
    found = _troubles(notices=[notice], **_daemon(state="degraded", alarms=[str(notice)], peers=peers))
    assert [(finding.check, "card -o" in finding.hint) for finding in found] == [("membership", False), ("peers", False)]
    assert "yantai is offline" in found[1].message


def test_a_certificate_that_no_peer_knows_is_one_line():
    peers = [PeerFacts("qingdao", "refused", "x"), PeerFacts("yantai", "retrying", "no answer")]
    found = _troubles(welcomes=[("qingdao", "refused"), ("yantai", "away")], **_daemon(peers=peers))
    assert [finding.check for finding in found] == ["certificate", "peers"]
    assert "yantai" in found[1].message
    # Where somebody welcomes it, the certificate is not the reason.
    found = _troubles(welcomes=[("qingdao", "refused"), ("yantai", "welcome")], **_daemon(peers=peers))
    assert [finding.check for finding in found] == ["peers", "peers"]


def test_a_peer_with_two_histories_is_one_line():
    alarm = "qingdao signed two histories; for the council: labmesh evidence export ab -o FILE"
    peers = [PeerFacts("qingdao", "quarantined", "x"), PeerFacts("qing", "quarantined", "y")]
    found = _troubles(**_daemon(state="degraded", alarms=[alarm], peers=peers))
    assert [finding.check for finding in found] == ["alarm", "peers"]
    assert found[0].message == alarm and "evidence list" in found[0].hint and "qing is quarantined" in found[1].message


def test_a_missing_card_is_told_with_what_to_do():
    (found,) = _troubles(missing_cards=[Fault("no card of yantai counts here", "type: labmesh join FILE")])
    assert found == Finding("cards", "warning", "no card of yantai counts here", "type: labmesh join FILE")
