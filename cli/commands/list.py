"""`labmesh list`: the newest revisions, or what this node has lost."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.app import App, node_command, pass_app
from cli.outcome import UsageFault
from cli.output import print_document, print_lines, print_note, print_table
from cli.paging import Page, page_options, print_page
from cli.texts import count_entries

if TYPE_CHECKING:
    from labmesh.v1.node_pb2 import ListLostResponse


@node_command()
@page_options
@click.option("--lost", is_flag=True, help="Entries of the own log that nobody can open again after a restore.")
@pass_app
def command(app: App, page: Page, lost: bool) -> None:
    """List the newest revisions of records."""
    if lost:
        _list_lost(app, page)
        return
    from cli.views import page_document

    with app.node as node:
        answer = node.list_records(kind=page.kind, author=page.author, page_size=page.limit, page_token=page.after)
    print_page(app, page_document(answer.records, answer.next_page_token))


def lost_document(answer: ListLostResponse) -> dict[str, Any]:
    """The answer of `labmesh list --lost`.

    `checkpoint` is the size of the smallest checkpoint that covers the entry; `seen` says whether a person
    has said so (`confirm --lost`).
    """
    return {
        "lost": [
            {
                "index": entry.index,
                "commitment": b64encode(entry.commitment).decode(),
                "checkpoint": entry.checkpoint_size,
                "seen": entry.seen,
            }
            for entry in answer.entries
        ],
        "total": answer.total,
        "next": answer.next_page_token or None,
    }


def _list_lost(app: App, page: Page) -> None:
    if page.kind or page.author:
        raise UsageFault(
            "--lost goes with neither --kind nor --author: nobody knows what a lost entry says",
            hint="type: labmesh list --lost",
        )
    with app.node as node:
        content = lost_document(node.list_lost(page_size=page.limit, page_token=page.after))
    if app.json:
        print_document(content)
        return
    if not content["lost"]:
        print_lines("No entry of the own log is lost.")
        return
    columns = ("index", "commitment", "checkpoint")
    print_table((*columns, "seen"), (_lost_row(entry, columns) for entry in content["lost"]))
    print_note(
        f"{count_entries(content['total'])} {'was' if content['total'] == 1 else 'were'} published before this home was "
        "restored, and no peer reached so far has given back what is said there. Push it again from the lab's own system; "
        "the commitments stay in the log."
    )
    print_note(
        "One of them may have been the erasure of a record that nobody else could read: it can be read here again. "
        + app.complete("Erase it again: labmesh erase ID --reason R")
    )
    if not all(entry["seen"] for entry in content["lost"]):
        print_note(app.complete("Then no alarm is needed any more: labmesh confirm --lost"))
    if content["next"]:
        print_note(f"There are more: repeat the command with --after {content['next']}")


def _lost_row(entry: dict[str, Any], columns: Sequence[str]) -> list[Any]:
    return [*(entry[name] for name in columns), "yes" if entry["seen"] else "no"]
