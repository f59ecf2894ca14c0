"""`labmesh peers`: the state of each peer."""

from __future__ import annotations

from cli.app import App, node_command, pass_app
from cli.output import print_document, print_lines, print_table
from cli.status import peers_document

_COLUMNS = ["peer", "state", "size", "verified", "behind", "quarantined", "clock", "last contact", "error"]


@node_command()
@pass_app
def command(app: App) -> None:
    """Show the state of each peer."""
    with app.node as node:
        content = peers_document(node.get_status())
    if app.json:
        print_document(content)
        return
    if not content["peers"]:
        print_lines("No other member yet.")
        return
    print_table(_COLUMNS, (_cells(peer) for peer in content["peers"]))


def _cells(peer: dict[str, object]) -> list[object]:
    offset = peer["clock_offset_ms"]
    clock = f"{offset / 1000:+.1f} s" if isinstance(offset, int) else ""
    names = ("member", "state", "size", "verified", "behind", "quarantined")
    return [*(peer[name] for name in names), clock, peer["last_contact"], peer["error"]]
