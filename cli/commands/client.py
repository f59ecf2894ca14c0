"""`labmesh client`: tokens for lab systems on other machines."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from cli.app import App, NodeGroup, pass_app
from cli.files import FORCE_OPTION, OUTPUT_FILE, STDIN, display_name, new_secret_file
from cli.outcome import UsageFault
from cli.output import print_document, print_lines, print_note, print_table
from cli.texts import KIND, TEXT

if TYPE_CHECKING:
    from labmesh.v1.node_pb2 import Client

ROLES = ("push", "read", "admin")


@click.group(cls=NodeGroup)
def command() -> None:
    """Let lab systems on other machines use this node.

    Each gets a token of its own, for one of the roles of `labmesh client add`. The node must run, with remote.listen in its
    labmesh.toml.
    """


@command.command()
@click.argument("name", type=TEXT)
@click.option("--role", required=True, type=click.Choice(ROLES), help="What it may do.")
@click.option("--kinds", metavar="K,...", type=TEXT, help="Only records of these kinds; of every kind unless given.")
@click.option(
    "-o", "--output", metavar="FILE", type=OUTPUT_FILE, help="Write the token to a new file that only you can read."
)
@FORCE_OPTION
@pass_app
def add(app: App, name: str, role: str, kinds: str | None, output: str | None) -> None:
    """Issue a token. It is shown this once.

    NAME has 1 to 31 of a-z, 0-9 and '-', and is never used again, not even after it was revoked: old pushes name it.

    push: append records, and nothing else. read: list, search, show and prove records; see status, peers and roster. admin:
    all that, grant, erase, audit, confirm, evidence list and export, list --lost, client list and revoke, and, by gRPC, take
    and sign rosters. No client makes clients or changes keys: that is typed at the node.
    """
    wanted = _parse_kinds(kinds)
    to_file = output is not None and output != STDIN
    with app.node as node, new_secret_file(str(output), replace=app.force) if to_file else nullcontext(None) as write:
        answer = node.add_client(name, role, wanted)
        if write is not None:
            write(answer.token.encode() + b"\n")
    if app.json:
        secret = {"file": display_name(str(output))} if to_file else {"token": answer.token}
        print_document({"name": name, "role": role, "kinds": wanted or None, **secret})
    elif to_file:
        print_lines(f"The token of {name} is in {display_name(str(output))}. It is kept nowhere else.")
    else:
        print_lines(answer.token)
        print_note(f"This is the token of {name}. It is kept nowhere else: put it into a file with mode 0600.")
    if not app.json:
        _explain_use(app, answer.remote_port)


@command.command("list")
@pass_app
def list_(app: App) -> None:
    """List every client, revoked ones too."""
    with app.node as node:
        clients = [_client_document(client) for client in node.list_clients()]
    if app.json:
        print_document({"clients": clients})
    elif not clients:
        print_lines("No client.", app.complete("Make one: labmesh client add NAME --role push"))
    else:
        print_table(["name", "role", "kinds", "created", "last used", "revoked"], map(_cells, clients))


@command.command()
@click.argument("name", type=TEXT)
@pass_app
def revoke(app: App, name: str) -> None:
    """Take a client's token back, at once and for good; what it sends just now is not appended."""
    with app.node as node:
        client = _client_document(node.revoke_client(name))
    if app.json:
        print_document(client)
    else:
        print_lines(f"{client['name']} is revoked. What it pushed stays. Its name cannot be used again.")


def _parse_kinds(text: str | None) -> list[str]:
    if text is None:
        return []
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageFault(f"--kinds {text!r} lacks a name", hint="write kinds with commas: --kinds result,capability")
    return sorted({KIND.convert(name, None, click.get_current_context()) for name in names})


def _explain_use(app: App, port: int) -> None:
    if port:
        print_note(
            f"Give it to that machine together with remote.crt from this home. There: labmesh --remote HOST:{port} "
            "--token-file FILE --ca remote.crt push …"
        )
    else:
        print_note("This node does not listen for other machines yet: set remote.listen in labmesh.toml, and restart it.")


def _client_document(client: Client) -> dict[str, Any]:
    return {
        "name": client.name,
        "role": client.role,
        "kinds": list(client.kinds) or None,
        "created": client.created,
        "last_used": client.last_used or None,
        "revoked": client.revoked or None,
    }


def _cells(client: dict[str, Any]) -> list[object]:
    times = [(client[name] or "")[:19].replace("T", " ") for name in ("created", "last_used", "revoked")]
    return [
        client["name"],
        client["role"],
        ", ".join(client["kinds"] or ["every kind"]),
        times[0],
        times[1] or "never",
        times[2],
    ]
