"""`labmesh upgrade`: migrate a home made by an older version."""

from __future__ import annotations

from cli.app import App, node_command, pass_app
from cli.output import print_document, print_lines
from node.errors import HomeError


@node_command()
@pass_app
def command(app: App) -> None:
    """Back up and migrate a home made by an older version.

    The node must be stopped. The database as it was stays in backups/ inside the home; it keeps what is erased later.
    """
    from contextlib import ExitStack

    from node.store.upgrade import upgrade

    home = app.home
    home.require()
    with ExitStack() as stack:
        try:
            stack.enter_context(home.lock())
        except HomeError as error:
            raise HomeError(error.message, hint="stop the node first, then type: labmesh upgrade") from error
        backup = upgrade(home.database_path, home.backups_path)
    if app.json:
        print_document({"upgraded": backup is not None, "backup": None if backup is None else str(backup)})
    elif backup is None:
        print_lines("The home is of this version already; nothing was changed.")
    else:
        print_lines(
            "The home is migrated.",
            f"The database as it was is {backup}; delete it before long: it keeps what is erased later.",
            app.complete("Start the node: labmesh run"),
        )
