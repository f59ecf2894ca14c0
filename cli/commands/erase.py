"""`labmesh erase`: delete one record for good."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from cli.app import App, node_command, pass_app
from cli.consent import can_ask, require_consent
from cli.outcome import UsageFault
from cli.output import print_document, print_lines, print_note
from cli.texts import TEXT

if TYPE_CHECKING:
    from labmesh.v1.node_pb2 import EraseRecordResponse
    from node.rpc.node_client import NodeClient

SHOWN_MAX = 10


@node_command()
@click.argument("id", metavar="ID", type=TEXT)
@click.option("--reason", metavar="R", required=True, type=TEXT, help="Why; all who could read the record read this.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_app
def command(app: App, id: str, reason: str, yes: bool) -> None:
    """Delete one record of this member for good, here and at every peer that holds it.

    ID is a record's id; with @2 at its end it means revision 2, else every revision. The content is deleted, from search
    and from the files, too; the log stays provable. Id, reason and time stay readable for those who could read the record.
    Peers delete theirs as soon as they hear of it; labmesh show ID says who has done so. Backups made before keep it.
    """
    if not reason.strip():
        raise UsageFault("the reason is empty", hint='say why: --reason "sent to the wrong customer"')
    with app.node as node:
        if not yes and can_ask(app):
            _ask(app, node, id, reason)
        answer = node.erase_record(id, reason.strip())
    if app.json:
        content = {"erased": list(answer.erased), "already": list(answer.already), "readers": list(answer.readers)}
        print_document(content)
    else:
        _print_outcome(app, id, answer)


def _ask(app: App, node: NodeClient, id: str, reason: str) -> None:
    found = node.erase_record(id, reason.strip(), preview=True)
    if not found.erased:
        return
    print_note(f"To be erased here{_where(found)}: {_names(found.erased)}.")
    require_consent(app, "Erase it for good?")


def _print_outcome(app: App, id: str, answer: EraseRecordResponse) -> None:
    if not answer.erased:
        if answer.readers:
            print_lines(f"Erased here before; {', '.join(answer.readers)}, who did not hear of it, will delete it, too.")
        else:
            print_lines(f"Nothing to do: {_names(answer.already)} was erased before.")
        return
    print_lines(f"Erased here: {_names(answer.erased)}.")
    if answer.readers:
        shown = app.complete(f"labmesh show {shlex.quote(id)}")
        print_lines(f"{', '.join(answer.readers)} will delete it, too; who has done so says: {shown}")
    if answer.readers:
        print_lines("Backups made before still hold it.")
    else:
        print_lines("Backups made before still hold it; nobody else knows, so a node restored from one must erase it again.")


def _where(answer: EraseRecordResponse) -> str:
    return f" and at {', '.join(answer.readers)}" if answer.readers else ""


def _names(ids: Iterable[str]) -> str:
    names = list(ids)
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return ", ".join(names[:SHOWN_MAX]) + more
