"""`labmesh audit`: everything that this home holds of one log, recomputed."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING, Any

import click

from cli.app import App, node_command, pass_app
from cli.outcome import REFUSED
from cli.output import print_document, print_lines, print_note, print_table
from cli.texts import MEMBER
from node.errors import PeerUnreachableError

if TYPE_CHECKING:
    from labmesh.v1 import node_pb2


@node_command()
@click.argument("member", metavar="MEMBER", type=MEMBER)
@pass_app
def command(app: App, member: str) -> None:
    """Recompute everything that is held here of a member's log.

    MEMBER is this member or a peer. Every entry, tile, opening, checkpoint, cosignature, roster and card is checked, and
    every fault is reported. Changes nothing. Works while the node runs, and when it is down.
    """
    content = _audit(app, member)
    if app.json:
        print_document(content)
    else:
        _print_report(app, content)
    if not content["verified"]:
        raise click.exceptions.Exit(REFUSED)


def _audit(app: App, member: str) -> dict[str, Any]:
    if not app.is_remote:
        app.home.require()
    try:
        with app.node as node:
            return _content_of(node.audit_log(member, _show_progress))
    except PeerUnreachableError as error:
        if app.is_remote:
            raise
        if not app.json:
            print_note(f"{error.message}; the audit reads the database itself")
    return _audit_offline(app, member)


def _audit_offline(app: App, member: str) -> dict[str, Any]:
    """Without the node. Reading needs no lock: the database shows one moment to each reader."""
    from node.core.kinds import Kinds
    from node.inspection import Inspector, Report, report_content
    from node.schemas import load_schemas
    from node.store.database import Database, require_revision
    from node.store.inspection import InspectionStore

    require_revision(app.home.database_path)
    database = Database(app.home.database_path)
    try:
        for step in Inspector(InspectionStore(database), Kinds(load_schemas()), member).run():
            if isinstance(step, Report):
                return report_content(step)
            _show_progress(step.done, step.total)
    finally:
        database.close()
    raise AssertionError("an audit ends with its report")


def _content_of(report: node_pb2.AuditReport) -> dict[str, Any]:
    checks = [{"check": check.name, "ok": check.ok, "count": check.count, "detail": check.detail} for check in report.checks]
    root = base64.b64encode(report.root).decode()
    return {
        "member": report.member,
        "origin": report.origin,
        "size": report.size,
        "root": root,
        "verified": report.verified,
        "checks": checks,
    }


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} entries", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _print_report(app: App, content: dict[str, Any]) -> None:
    rows = [
        (check["check"], "ok" if check["ok"] else "FAILED", check["count"], check["detail"]) for check in content["checks"]
    ]
    print_table(("check", "result", "count", "detail"), rows)
    summary = f"{content['origin']} of size {content['size']}, root {content['root']}"
    if content["verified"]:
        print_lines("", f"verified: {summary}")
        return
    print_lines(
        "",
        f"NOT VERIFIED: {summary}",
        "What is stored here was damaged or changed behind the node's back; other members hold the true log.",
        app.complete("Type: labmesh doctor; then restore the newest backup that audits clean (labmesh restore FILE)."),
    )
