"""`labmesh show`: one record."""

from __future__ import annotations

from typing import Any

import click

from cli.app import App, node_command, pass_app
from cli.outcome import REFUSED
from cli.output import print_document, print_lines
from cli.texts import TEXT, format_age
from node.errors import NotFoundError


@node_command()
@click.argument("id", metavar="ID", type=TEXT)
@pass_app
def command(app: App, id: str) -> None:
    """Show one record.

    ID looks like jinan/result/WJ-2024-000123; with @2 at its end it means revision 2, else the newest. Of an erased record
    it says when and why, and on its author's node which members have deleted it.
    """
    from cli.views import erased_document, pusher_document, record_document, record_status

    with app.node as node:
        view = node.get_record(id)
    status = record_status(view)
    if status == "restricted":
        raise NotFoundError(f"{view.id} is for other members; this node holds only its commitment")
    content = record_document(view) | {"status": status}
    if view.reason:
        content["reason"] = view.reason
    if view.HasField("erased"):
        content["erased"] = erased_document(view)
    elif view.granted:
        content["granted"] = list(view.granted)
    if view.HasField("pushed_by"):
        content |= pusher_document(view)
    if app.json:
        print_document(content)
    else:
        _print_record(content)
    if status == "unknown":
        raise click.exceptions.Exit(REFUSED)


def _print_record(content: dict[str, object]) -> None:
    import orjson

    print_lines(f"{content['id']}  ({content['status']})")
    if "reason" in content:
        print_lines(f"reason     {content['reason']}")
    for name in ("revision", "published", "schema", "audience", "granted", "thread", "replaces", "blobs"):
        if name in content:
            value = content[name]
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            print_lines(f"{name:10} {text}")
    if isinstance(erased := content.get("erased"), dict):
        _print_erasure(erased)
    age = content["checkpoint_age_s"]
    print_lines(f"entry      {content['index']} of {content['origin']}")
    if isinstance(age, int | float):
        print_lines(f"verified   {format_age(age)} ago")
    if "pushed_at" in content:
        print_lines(f"pushed     {content['pushed_at']} by {content['pushed_by'] or 'this machine (socket)'}")
    if "body" in content:
        print_lines("", *orjson.dumps(content["body"], option=orjson.OPT_INDENT_2).decode().splitlines())


def _print_erasure(erased: dict[str, Any]) -> None:
    print_lines(f"erased     {erased['at']} by entry {erased['index']}: {erased['reason']}")
    for name, title in (("acknowledged", "deleted at"), ("missing", "not yet at")):
        if erased[name]:
            print_lines(f"{title:10} {', '.join(erased[name])}")
