"""`labmesh backup`: one file that holds a node."""

from __future__ import annotations

from pathlib import Path

import click

from cli.app import App, node_command, pass_app
from cli.files import FORCE_OPTION, OUTPUT_FILE, require_place
from cli.output import print_document, print_lines, print_note

PASSPHRASE_VARIABLE = "LABMESH_BACKUP_PASSPHRASE"


@node_command()
@click.argument("file", type=OUTPUT_FILE)
@click.option("--keys", is_flag=True, help="Put the private keys into it, too, under a passphrase.")
@click.option(
    "--passphrase-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help=f"A file whose first line is the passphrase; else {PASSPHRASE_VARIABLE}, else a prompt.",
)
@FORCE_OPTION
@pass_app
def command(app: App, file: str, keys: bool, passphrase_file: str | None) -> None:
    """Write database and settings into one file.

    The node may run meanwhile. `labmesh restore` makes a home of the file; the node then takes back from its peers what was
    published since. Whoever has the file can read this member's records: keep it as closely as the home. It keeps what is
    erased after it was made, so delete it when a newer one is there.
    """
    from cli.passphrase import read_passphrase
    from cli.texts import count_entries, format_size
    from node.backup import create_backup, has_protected_keys
    from node.clock import utc_now

    home, target = app.home, Path(file).absolute()
    home.require()
    require_place(file, replace=app.force)
    passphrase = None
    if keys and not has_protected_keys(home):
        passphrase = read_passphrase(
            variable=PASSPHRASE_VARIABLE, file=passphrase_file, confirm=True, noun="Passphrase for the keys in the backup"
        )
    manifest = create_backup(home, target, keys=keys, passphrase=passphrase, made=utc_now(), replace=app.force)
    size_bytes = target.stat().st_size
    if app.json:
        content = {name: getattr(manifest, name) for name in ("member", "alliance", "schema", "size", "root", "made")}
        print_document({"file": str(target), "bytes": size_bytes, **content, "keys": keys})
        return
    print_lines(
        f"{target} holds {manifest.member} with {count_entries(manifest.size)} of its log ({format_size(size_bytes)})."
    )
    print_note(
        "It holds this member's records, and keeps what is erased from now on: store it as closely as the home, and "
        "delete it when a newer one is there."
    )
    if not keys:
        print_note(
            f"The private keys are not in it: keep a copy of {home.path / 'keys'} in another place, or use --keys. Without "
            "them this member cannot sign any more."
        )
    elif passphrase is None:
        print_note("The private keys in it are under the passphrase that they have in the home.")
