"""`labmesh grant`: open one record to further members."""

from __future__ import annotations

import click

from cli.app import App, node_command, pass_app
from cli.outcome import UsageFault
from cli.output import print_document, print_lines
from cli.texts import TEXT


@node_command()
@click.argument("id", metavar="ID", type=TEXT)
@click.option("--to", metavar="M,...", required=True, type=TEXT, help="Ids of the members who may read it from now on.")
@pass_app
def command(app: App, id: str, to: str) -> None:
    """Open one record of this member to further members.

    ID is a record's id; with @2 at its end it means revision 2, else the newest. Exactly that revision is opened: a later
    push --revise keeps the record's own audience, and has to be granted again. A grant cannot be taken back; it is a record
    of its own, which its readers and those of the record can see.
    """
    members = _parse_members(to)
    with app.node as node:
        answer = node.grant_record(id, members)
    readers = list(answer.readers)
    if app.json:
        print_document({"id": answer.id, "index": answer.index, "granted": list(answer.granted), "readers": readers})
    elif readers == ["*"]:
        print_lines(f"Nothing to do: {answer.id} is for the whole alliance, so every member may read it already.")
    elif not answer.granted:
        names = " and ".join(["its author, this member,", *([", ".join(readers)] if readers else [])])
        print_lines(f"Nothing to do: {answer.id} may be read by {names} already.")
    else:
        print_lines(
            f"{answer.id} may now be read by {', '.join(answer.granted)}, too; its readers now: {', '.join(readers)}."
        )


def _parse_members(text: str) -> list[str]:
    """Raises UsageFault when a name between commas is missing."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageFault(f"--to {text!r} has an empty name", hint="name member ids: --to qingdao,yantai")
    return sorted(set(names))
