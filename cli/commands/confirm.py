"""`labmesh confirm`: publish without waiting for peers."""

from __future__ import annotations

from cli.app import App, node_command, pass_app
from cli.consent import require_consent
from cli.output import print_document, print_lines, print_note


@node_command()
@pass_app
def command(app: App) -> None:
    """Publish although too few peers have answered since the start.

    After each start a node waits until some peers have told what they hold of its log. Do this only when you know that
    the home was not restored from a backup: if it was, other members may hold entries that this node has lost, and it
    would then sign a second history. That is provable misconduct, and cannot be taken back.
    """
    with app.node as node:
        state = node.get_status().state
        if state == "unconfirmed":
            print_note(
                "If this home is older than what was published before, its log will have two histories, and any member "
                "can prove it."
            )
            require_consent(app, "Publish all the same?")
        size = node.confirm_log()
    if app.json:
        print_document({"size": size})
    else:
        print_lines(f"Published up to entry {size}.")
