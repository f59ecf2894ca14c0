"""Collect the facts that `cli.doctor` judges. Whatever is broken, the examination goes on with the next thing."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from cli.app import App, software_version
from cli.facts import ClientFacts, DaemonFacts, Facts, Fault, PeerFacts, RemoteFacts
from node.clock import utc_now
from node.errors import LabmeshError, PeerUnreachableError

if TYPE_CHECKING:
    from cli.governance import HeldAlliance
    from labmesh.v1.node_pb2 import Client, GetStatusResponse
    from node.core.card import Card
    from node.core.roster import Roster
    from node.core.standing import Notice
    from node.home import Home
    from node.rpc.node_client import NodeClient

CONNECT_DEADLINE_S = 3.0
DATABASE_FAULTS_MAX = 5


def collect_facts(app: App) -> Facts:
    """Look at the home, and ask its node."""
    from cli.key_facts import try_peers

    facts = Facts(home=str(app.home_path), now=utc_now(), version=software_version(), python=platform.python_version())
    try:
        home = app.home
        home.require()
    except LabmeshError as error:
        return replace(facts, home_fault=_fault(error))
    facts = _examine_files(facts, home)
    facts = _examine_database(facts, home, app)
    return try_peers(_ask_daemon(facts, app), home, app.passphrase_file)


def _examine_files(facts: Facts, home: Home) -> Facts:
    from cli.key_facts import private_paths

    modes, missing = [], []
    for path, wanted in private_paths(home):
        try:
            modes.append((str(path), stat.S_IMODE(path.stat().st_mode), wanted))
            if not os.access(path, os.R_OK):
                missing.append(str(path))
        except OSError:
            missing.append(str(path))
    usage = shutil.disk_usage(home.path)
    return replace(
        facts, modes=modes, missing_keys=missing, settings_fault=_settings_fault(home), disk=(usage.total, usage.free)
    )


def _settings_fault(home: Home) -> Fault | None:
    try:
        home.load_settings()
    except LabmeshError as error:
        return _fault(error)
    except OSError as error:
        return Fault(f"{home.config_path} cannot be read: {error.strerror}")
    return None


def _examine_database(facts: Facts, home: Home, app: App) -> Facts:
    from cli.governance import open_membership, read_held_alliance
    from cli.key_facts import compare_keys, compare_settings
    from node.core.card import parse_card
    from node.store.database import Database, require_revision
    from node.store.search import sqlite_has_fts5

    try:
        require_revision(home.database_path)
    except LabmeshError as error:
        return replace(facts, home_fault=_fault(error))
    database = Database(home.database_path)
    try:
        with database.read() as connection:
            sqlite = str(connection.exec_driver_sql("SELECT sqlite_version()").scalar())
            found = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA quick_check({DATABASE_FAULTS_MAX})")]
        facts = replace(
            facts,
            sqlite=sqlite,
            fts5=sqlite_has_fts5(database),
            database_faults=[line for line in found if line != "ok"],
        )
    except LabmeshError as error:
        return replace(facts, database_faults=[error.message])
    finally:
        database.close()
    try:
        held = read_held_alliance(home)
        card = parse_card(held.own_card)[1]
    except LabmeshError as error:
        return replace(facts, database_faults=[error.message])
    roster = held.alliance.roster if held.alliance else None
    with open_membership(home) as store:
        proposed = store.load_open_roster(roster.version + 1) if roster else None
    facts = compare_settings(compare_keys(facts, home, card, app.passphrase_file), home, card)
    return replace(
        facts,
        joined=roster is not None,
        roster_version=roster.version if roster else 0,
        roster_expires=roster.expires if roster else None,
        notices=_notices(held, card, facts.now, proposed),
        missing_cards=_missing_cards(app, held),
        certificates_end=_certificates_end(card),
        addresses=list(_try_addresses(card.endpoints)),
    )


def _notices(held: HeldAlliance, card: Card, now: datetime, proposed: Roster | None) -> list[Notice]:
    from node.core.standing import build_notices

    if held.alliance is None:
        return []
    return build_notices(held.alliance, held.identity.member, card.identity_key, now=now, proposed=proposed)


def _missing_cards(app: App, held: HeldAlliance) -> list[Fault]:
    from cli.seat import find_missing_cards

    if held.alliance is None:
        return []
    return [Fault(missing.sentence, missing.hint) for missing in find_missing_cards(app, held.alliance)]


def _certificates_end(card: Card) -> list[datetime]:
    from cryptography import x509

    return [x509.load_der_x509_certificate(der).not_valid_after_utc for der in card.tls_certificates]


def _try_addresses(endpoints: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_DEADLINE_S):
                yield endpoint, ""
        except (OSError, UnicodeError) as error:
            yield endpoint, getattr(error, "strerror", None) or str(error) or type(error).__name__


def _ask_daemon(facts: Facts, app: App) -> Facts:
    try:
        with app.node as node:
            status, clients = node.get_status(), _ask_for_clients(node)
    except LabmeshError as error:
        return replace(facts, daemon_fault=_fault(error))
    peers = [
        PeerFacts(
            member=peer.member,
            state=peer.state,
            error=peer.error,
            quarantined=peer.quarantined,
            clock_offset_ms=peer.clock_offset_ms if peer.HasField("clock_offset_ms") else None,
        )
        for peer in status.peers
    ]
    remote = _remote_facts(status, clients)
    return replace(facts, daemon=DaemonFacts(status.state, status.version, list(status.alarms), peers, remote))


def _ask_for_clients(node: NodeClient) -> list[Client]:
    try:
        return node.list_clients()
    except PeerUnreachableError:
        raise
    except LabmeshError:
        return []  # a node of an older version; what it says of itself is worth more than this


def _remote_facts(status: GetStatusResponse, clients: list[Client]) -> RemoteFacts:
    from node.core.times import parse_milliseconds, parse_seconds

    active = [
        ClientFacts(
            client.name,
            parse_milliseconds(client.created),
            parse_milliseconds(client.last_used) if client.last_used else None,
        )
        for client in clients
        if not client.revoked
    ]
    if not status.HasField("remote"):
        return RemoteFacts(None, None, active)
    return RemoteFacts(status.remote.port, parse_seconds(status.remote.certificate_expires), active)


def _fault(error: LabmeshError) -> Fault:
    return Fault(error.message, error.hint)
