"""What is wrong with a node, and what to type: pure rules from facts to findings.

`cli.examination` collects the facts. Every check gives at least one finding, also when all is well, so that a person sees
what was looked at; a check whose facts could not be had gives none, because another finding says why. One fault is one
finding: what the node says of itself is left out where a check names the cause and what to type.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import PurePath
from statistics import median
from typing import Any, Literal

from cli.facts import Facts, PeerFacts
from cli.key_facts import ANOTHER, CARD_BY_HAND
from cli.texts import format_size
from node.errors import HANGS, OTHER_CERTIFICATE

Level = Literal["ok", "warning", "error"]

FREE_BYTES_MIN = 1024**3
FREE_SHARE_MIN = 0.05
NOTICE = timedelta(days=30)
UNUSED = timedelta(days=90)
TAKE_NEWER = "at one of them: labmesh roster export -o FILE; here: labmesh join FILE"
CLOCK_WARNING_S = 5
REFUSES = os.strerror(errno.ECONNREFUSED)
EVIDENCE = "labmesh evidence export"
TAKES_BACK = "it takes back what is missing"
CLOCK_ERROR_S = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    level: Level
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is an error."""
        return all(finding.level != "error" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        names = ("check", "level", "message", "hint")
        return {
            "ok": self.ok,
            "findings": [{name: getattr(finding, name) for name in names} for finding in self.findings],
        }


def examine(facts: Facts) -> Report:
    """Run every check."""
    return Report([finding for check in CHECKS for finding in check(facts)])


def _check_software(facts: Facts) -> Iterator[Finding]:
    message = f"Labmesh {facts.version}, Python {facts.python}" + (f", SQLite {facts.sqlite}" if facts.sqlite else "")
    yield Finding("software", "ok", message)
    if facts.fts5 is False:
        hint = "install a Python whose sqlite3 has FTS5; nothing can be searched without it"
        yield Finding("software", "error", f"SQLite {facts.sqlite} was built without FTS5", hint)


def _check_home(facts: Facts) -> Iterator[Finding]:
    if facts.home_fault is not None:
        yield Finding("home", "error", facts.home_fault.message, facts.home_fault.hint)
    else:
        yield Finding("home", "ok", f"{facts.home} is a home of this version")


def _check_keys(facts: Facts) -> Iterator[Finding]:
    for path in facts.missing_keys:
        name = PurePath(path).stem if path.endswith(".pem") else ""
        yield Finding(
            "keys", "error", f"{path} is missing or cannot be read", "restore it from a backup" + ANOTHER.get(name, "")
        )
    open_to_others = [(path, mode, wanted) for path, mode, wanted in facts.modes if mode & ~wanted]
    mended = {path: f"type: chmod {wanted & 0o700:o} {shlex.quote(path)}" for path, _, wanted in open_to_others}
    for path, mode, _ in open_to_others:
        yield Finding("keys", "error", f"{path} has mode {mode:04o}, so others may read it", mended[path])
    for fault in facts.key_faults or ():
        if fault.hint not in mended.values():  # told already
            yield Finding("keys", "error", fault.message, fault.hint)
    if facts.keys_protected and facts.key_faults is None:
        hint = "to compare them: labmesh doctor --passphrase-file FILE, or set LABMESH_PASSPHRASE"
        yield Finding(
            "keys", "ok", "the private keys are protected by a passphrase, and were not compared with the card", hint
        )
    if facts.modes and not facts.missing_keys and not open_to_others and not facts.key_faults:
        yield Finding("keys", "ok", "the private keys are there, and only this account can read them")
    if facts.key_faults is not None and not facts.key_faults:
        yield Finding("keys", "ok", "the private keys are those of this member's card")


def _check_settings(facts: Facts) -> Iterator[Finding]:
    if facts.settings_fault is not None:
        hint = facts.settings_fault.hint or f"correct {facts.home}/labmesh.toml"
        yield Finding("settings", "error", facts.settings_fault.message, hint)
    elif facts.listen_fault is not None:
        yield Finding("settings", "error", facts.listen_fault.message, facts.listen_fault.hint)
    elif facts.settings_differences:
        for difference in facts.settings_differences:
            hint = "restart the node: what is new in labmesh.toml is published in a card at its start"
            yield Finding("settings", "warning", f"labmesh.toml: {difference}", hint)
    elif facts.home_fault is None:
        yield Finding("settings", "ok", "labmesh.toml is in order")


def _check_database(facts: Facts) -> Iterator[Finding]:
    if facts.database_faults is None:
        return
    for fault in facts.database_faults:
        hint = "stop the node, keep a copy of the home, and restore it from a backup; peers give back what is missing"
        yield Finding("database", "error", f"the database is damaged: {fault}", hint)
    if not facts.database_faults:
        yield Finding("database", "ok", "the database is sound")


def _check_disk(facts: Facts) -> Iterator[Finding]:
    if facts.disk is None:
        return
    total, free = facts.disk
    text = f"{format_size(free)} of {format_size(total)} are free on the disk of the home"
    if free < FREE_BYTES_MIN or free < FREE_SHARE_MIN * total:
        yield Finding("disk", "warning", text, "make room: a node that cannot write takes no records")
    else:
        yield Finding("disk", "ok", text)


def _check_certificate(facts: Facts) -> Iterator[Finding]:
    if not facts.certificates_end:
        return
    end = facts.certificates_end[0]  # the one that is presented; while it is rotated, another follows it
    hint = "in good time, with the node running, type: labmesh keys rotate tls"
    if end <= facts.now:
        hint = f"nobody can connect; with the node running, type: labmesh keys rotate tls --without-peers; {CARD_BY_HAND}"
    yield _expiry("certificate", "this node's TLS certificate", end, facts.now, hint=hint)
    met = {welcome: [peer for peer, found in facts.welcomes if found == welcome] for _, welcome in facts.welcomes}
    if met.get("refused") and "welcome" not in met:
        message = (
            f"{', '.join(met['refused'])} refused this home's TLS certificate: the newest card that is held there names "
            "another, so this home is older than its card (a restored backup, a snapshot)"
        )
        yield Finding(
            "certificate", "error", message, f"{TAKE_NEWER}; labmesh keys rotate tls --without-peers; {CARD_BY_HAND}"
        )
    elif met.get("other certificate") and "welcome" not in met:
        message = f"{', '.join(met['other certificate'])} showed a TLS certificate that is not in the card held here"
        yield Finding("certificate", "error", message, f"{TAKE_NEWER}; labmesh doctor")


def _check_roster(facts: Facts) -> Iterator[Finding]:
    if facts.joined is None:
        return
    if not facts.joined or facts.roster_expires is None:
        hint = "type: labmesh roster create --title …   or, with the file of the founder: labmesh join FILE"
        yield Finding("roster", "warning", "this node does not belong to an alliance yet", hint)
        return
    expiry = [notice for notice in facts.notices if notice.subject == "expiry"]
    hint = expiry[0].hint if expiry else "a council member types: labmesh roster renew"
    for notice in (notice for notice in facts.notices if notice.subject == "proposal"):
        yield Finding("roster", notice.level, notice.sentence, notice.hint)
    yield _expiry("roster", f"roster version {facts.roster_version}", facts.roster_expires, facts.now, hint=hint)


def _check_membership(facts: Facts) -> Iterator[Finding]:
    found = [notice for notice in facts.notices if notice.subject == "membership"]
    for notice in found:
        yield Finding("membership", notice.level, notice.sentence, notice.hint)
    if facts.joined and not found:
        yield Finding("membership", "ok", "this member is active, with the identity key of this home")
    for missing in facts.missing_cards:
        yield Finding("cards", "warning", missing.message, missing.hint)


def _check_daemon(facts: Facts) -> Iterator[Finding]:
    if facts.daemon_fault is not None:
        yield Finding("daemon", "error", facts.daemon_fault.message, facts.daemon_fault.hint)
    if facts.daemon is None:
        return
    yield Finding("daemon", "ok", "the node answers")
    if facts.daemon.version != facts.version:
        message = f"the running node is Labmesh {facts.daemon.version}, this command is {facts.version}"
        yield Finding("daemon", "warning", message, "restart the node: systemctl restart labmesh, or labmesh run again")


def _check_state(facts: Facts) -> Iterator[Finding]:
    if facts.daemon is None:
        return
    state = facts.daemon.state
    if state == "ready":
        yield Finding("state", "ok", "the node is ready")
    elif state == "unconfirmed":
        hint = "wait for a peer (labmesh peers); only if no peer will come and this home is no backup: labmesh confirm"
        yield Finding("state", "warning", "too few peers have said what they hold of this node's log", hint)
    elif state == "recovering" and not any(TAKES_BACK in alarm for alarm in facts.daemon.alarms):
        message = "the node is recovering: peers hold entries of its log that this home lacks, and it takes them back"
        yield Finding("state", "warning", message, "let it run with its peers connected: labmesh peers")
    elif state != "recovering" and not (state == "degraded" and facts.daemon.alarms):
        level: Level = "error" if state == "degraded" else "warning"
        yield Finding("state", level, f"the node is {state}", "see the alarms: labmesh status")
    told = set(_told_elsewhere(facts))
    yield from (_alarm(alarm) for alarm in facts.daemon.alarms if alarm not in told)


def _told_elsewhere(facts: Facts) -> Iterator[str]:
    """Alarms whose fault has a finding by a check of its own, which also works without a running node."""
    from node.lost_keys import describe_lost_role

    yield from map(str, facts.notices)
    hints = [finding.hint for finding in _check_keys(facts) if finding.level == "error"]
    for role in ("log", "witness", "tls"):
        if any(ANOTHER[role] in hint for hint in hints):
            yield describe_lost_role(role)


def _alarm(alarm: str) -> Finding:
    """An alarm, parted into what is wrong and what to type."""
    if TAKES_BACK in alarm:
        return Finding("alarm", "error", alarm, "let it run with its peers connected: labmesh peers")
    if EVIDENCE in alarm:
        return Finding(
            "alarm", "error", alarm, "write that file, and give it to the council; all pieces: labmesh evidence list"
        )
    message, parting, command = alarm.partition("; type: ")
    return Finding("alarm", "error", message, f"type: {command}" if parting else "")


def _check_peers(facts: Facts) -> Iterator[Finding]:
    if facts.daemon is None or not facts.daemon.peers:
        return
    away = [peer for peer in facts.daemon.peers if peer.state != "connected"]
    for peer in (peer for peer in away if not _is_explained(facts, peer)):
        level: Level = "error" if peer.state in ("refused", "quarantined") else "warning"
        reason = f": {peer.error}" if peer.error else ""
        hint = f"see labmesh peers; is the node of {peer.member} running, and may this machine reach its address?"
        if OTHER_CERTIFICATE in peer.error:
            hint = f"somebody else answers at the address of {peer.member}, or its home is older than its card: ask there"
        if peer.state == "refused":
            hint = (
                f"{peer.member} is reached, but one of the two does not let the other in: see labmesh peers and "
                f"labmesh roster show; if it does not know this node's card, give it the file: labmesh card -o FILE"
            )
        if peer.state == "quarantined":
            hint = "type: labmesh evidence list   and give the file to the council: labmesh evidence export ID -o FILE"
        yield Finding("peers", level, f"{peer.member} is {peer.state}{reason}", hint)
    for peer in facts.daemon.peers:
        if peer.quarantined:
            message = f"{peer.quarantined} entries of {peer.member} are no valid records and are not shown"
            yield Finding("peers", "warning", message, f"tell {peer.member}; the rest of its log is not affected")
    if not away:
        yield Finding("peers", "ok", f"connected to {len(facts.daemon.peers)} of {len(facts.daemon.peers)} peers")


def _is_explained(facts: Facts, peer: PeerFacts) -> bool:
    """Whether another finding says why a peer is not connected: an alarm, a removal, a certificate unknown there."""
    if peer.state == "refused" and any(notice.subject == "membership" for notice in facts.notices):
        return True
    if peer.state == "quarantined" and facts.daemon is not None:
        named = re.compile(rf"(?<![\w-]){re.escape(peer.member)}(?![\w-])")
        return any(EVIDENCE in alarm and named.search(alarm) for alarm in facts.daemon.alarms)
    met = dict(facts.welcomes)
    return "welcome" not in met.values() and met.get(peer.member) in ("refused", "other certificate")


def _check_clock(facts: Facts) -> Iterator[Finding]:
    peers = facts.daemon.peers if facts.daemon else ()
    offsets = [peer.clock_offset_ms for peer in peers if peer.clock_offset_ms is not None]
    if not offsets:
        return
    seconds = median(offsets) / 1000
    direction = "behind" if seconds > 0 else "ahead of"
    text = f"this machine's clock is {abs(seconds):.1f} s {direction} the median of {len(offsets)} peers"
    if abs(seconds) > CLOCK_WARNING_S:
        level: Level = "error" if abs(seconds) > CLOCK_ERROR_S else "warning"
        yield Finding("clock", level, text, "set the clock by NTP: timedatectl set-ntp true")
    else:
        yield Finding("clock", "ok", text)


def _check_address(facts: Facts) -> Iterator[Finding]:
    if facts.addresses is None:
        return
    if not facts.addresses:
        yield Finding("address", "ok", "the card names no address: this node only dials out")
    for address, reason in facts.addresses:
        if reason == REFUSES and facts.daemon_fault is not None:
            continue  # nobody listens because the node does not run, which is told
        if reason:
            hint = (
                "check `address` and `listen` in labmesh.toml, the port forwarding and the firewall; from inside a NAT "
                "this test may fail although others reach the node, so let another member try"
            )
            yield Finding("address", "warning", f"{address} cannot be reached from here: {reason}", hint)
        elif facts.daemon_fault is not None and HANGS in facts.daemon_fault.message:
            continue  # the system takes connections for a process that hangs, which is told
        elif facts.daemon_fault is not None:
            message = f"{address} takes connections, although this node does not run: another program is there"
            yield Finding("address", "warning", message, "stop it, or set another port in `listen` in labmesh.toml")
        else:
            yield Finding("address", "ok", f"{address} takes connections from here")


def _check_remote(facts: Facts) -> Iterator[Finding]:
    remote = facts.daemon.remote if facts.daemon else None
    if remote is None or (remote.port is None and not remote.clients):
        return
    if remote.port is None or remote.certificate_ends is None:
        hint = "set remote.listen in labmesh.toml and restart the node, or revoke them: labmesh client revoke NAME"
        yield Finding("remote", "warning", "there are clients, but this node does not listen for other machines", hint)
        return
    hint = "replace the files of remote.certificate; or remove remote.crt, restart the node, and pass the new remote.crt on"
    noun = f"the certificate of the remote port {remote.port}"
    yield _expiry("remote", noun, remote.certificate_ends, facts.now, hint=hint)
    for client in remote.clients:
        since = client.last_used or client.created
        verb = "last used" if client.last_used else "issued, but not used yet,"
        level: Level = "warning" if facts.now - since > UNUSED else "ok"
        hint = f"if nobody needs it any more, type: labmesh client revoke {client.name}"
        yield Finding("remote", level, f"the token of {client.name} was {verb} on {since:%Y-%m-%d}", hint)


def _expiry(check: str, noun: str, end: datetime, now: datetime, *, hint: str) -> Finding:
    if end <= now:
        return Finding(check, "error", f"{noun} expired on {end:%Y-%m-%d}", hint)
    left = end - now
    if left < NOTICE:
        return Finding(check, "warning", f"{noun} expires on {end:%Y-%m-%d}, in {left.days} days", hint)
    return Finding(check, "ok", f"{noun} is valid until {end:%Y-%m-%d}")


CHECKS: tuple[Callable[[Facts], Iterable[Finding]], ...] = (
    _check_software,
    _check_home,
    _check_keys,
    _check_settings,
    _check_database,
    _check_disk,
    _check_certificate,
    _check_roster,
    _check_membership,
    _check_daemon,
    _check_state,
    _check_peers,
    _check_clock,
    _check_address,
    _check_remote,
)
