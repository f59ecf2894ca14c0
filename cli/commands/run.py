"""`labmesh run`: the daemon, in the foreground."""

from __future__ import annotations

from cli.app import App, node_command, pass_app


@node_command()
@pass_app
def command(app: App) -> None:
    """Run the node in the foreground.

    Protected private keys (labmesh keys protect) need their passphrase: --passphrase-file, LABMESH_PASSPHRASE, the setting
    passphrase_file, or, on a terminal, a prompt.

    Prints `ready` when it serves; its log goes to stderr. SIGTERM and Ctrl-C let running calls end, then stop it.
    """
    app.home.require()  # before the rest is imported: a wrong home is the usual mistake
    from cli.passphrase import home_passphrase

    passphrase = home_passphrase(app.home, app.passphrase_file)
    from node.daemon import run

    run(app.home_path, passphrase)
