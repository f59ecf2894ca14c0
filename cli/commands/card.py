"""`labmesh card`: the member's signed card."""

from __future__ import annotations

import click

from cli.app import App, node_command, pass_app
from cli.files import FORCE_OPTION, OUTPUT_FILE, STDIN, display_name, write_output
from cli.governance import read_held_alliance
from cli.output import print_document, print_lines
from cli.seat import describe_card_use


@node_command()
@click.option("-o", "--output", metavar="FILE", type=OUTPUT_FILE, help="Write it to a file instead of printing it.")
@FORCE_OPTION
@pass_app
def command(app: App, output: str | None) -> None:
    """Print this member's signed card.

    A newcomer sends it to a member of the council, who adds it with `labmesh roster add`. It holds no secret.
    """
    held = read_held_alliance(app.home)
    if output is None or output == STDIN:
        click.echo(held.own_card.decode())
        return
    write_output(output, held.own_card + b"\n", replace=app.force)
    if app.json:
        from node.core.card import parse_card

        envelope, _ = parse_card(held.own_card)
        print_document({"file": display_name(output), "member": held.identity.member, "card": envelope.hash})
        return
    print_lines(
        f"The card of {held.identity.member} is in {display_name(output)}.",
        describe_card_use(held),
    )
