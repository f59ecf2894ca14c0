"""`labmesh restore`: a home from a backup."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.app import App, node_command, pass_app
from cli.files import HomeInput
from cli.output import print_document, print_lines, print_note

if TYPE_CHECKING:
    from node.backup import Manifest
    from node.store.snapshot import RevokedClient


@node_command()
@click.argument("file", type=HomeInput(exists=True, dir_okay=False))
@click.option(
    "--keys", metavar="DIR", type=HomeInput(exists=True, file_okay=False), help="The folder with the private keys."
)
@click.option(
    "--passphrase-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="A file whose first line is the passphrase; else LABMESH_BACKUP_PASSPHRASE, else a prompt.",
)
@pass_app
def command(app: App, file: str, keys: str | None, passphrase_file: str | None) -> None:
    """Make a home from a backup.

    The home must not exist, or be empty: move a damaged one away first, and never let both run. After the start the node
    asks its peers what it had published since the backup, and takes that back before it publishes anything.

    Lab systems on other machines need new tokens: the backup does not know which of the old ones were revoked since, so all
    of them are.
    """
    from cli.commands.backup import PASSPHRASE_VARIABLE
    from cli.passphrase import read_passphrase
    from node.backup import restore_backup
    from node.store.database import SCHEMA_REVISION

    def ask_passphrase() -> bytes:
        return read_passphrase(
            variable=PASSPHRASE_VARIABLE, file=passphrase_file, confirm=False, noun="Passphrase of the keys"
        )

    home = app.home_path
    lost: list[str] = []
    revoked: list[RevokedClient] = []
    manifest = restore_backup(
        Path(file),
        home,
        keys_from=Path(keys) if keys else None,
        ask_passphrase=ask_passphrase,
        on_lost=lost.append,
        on_revoked=revoked.append,
    )
    older = manifest.schema != SCHEMA_REVISION
    if app.json:
        content = {name: getattr(manifest, name) for name in ("member", "alliance", "schema", "size", "root", "made")}
        clients = [{"name": item.name, "role": item.role, "kinds": list(item.kinds) or None} for item in revoked]
        outcome = {"upgrade_needed": older, "lost_keys": lost, "revoked_clients": clients}
        print_document({"home": str(home), **content, **outcome})
        return
    _print_restored(home, manifest, lost=lost, revoked=revoked, older=older)


def _print_restored(home: Path, manifest: Manifest, *, lost: list[str], revoked: list[RevokedClient], older: bool) -> None:
    """What the home is now, and what is to be typed before and after its start."""
    print_lines(f"{home} is {manifest.member} as of {manifest.made}, with {manifest.size:,} entries of its log.")
    print_note("Do not start the home that the backup was made of any more: two homes of one member would write two logs.")
    for role in lost:
        print_note(
            f"The {role} key is not the one in the card of the backup; if the peers have no newer card that names it, "
            "labmesh status says what to type."
        )
    typed = f"labmesh --home {shlex.quote(str(home))}"
    if revoked:
        _print_revoked(typed, revoked)
    if older:
        print_note(f"The backup was made by an older version: type {typed} upgrade")
    print_note(f"Start it with {typed} run; what was published since then comes back from the peers.")


def _print_revoked(typed: str, revoked: list[RevokedClient]) -> None:
    print_note(
        "Every client in the backup is revoked, because one of them may have been revoked since. Once the node runs, give "
        "each a new token, under a new name:"
    )
    for client in revoked:
        kinds = f" --kinds {','.join(client.kinds)}" if client.kinds else ""
        print_note(f"  instead of {client.name}: {typed} client add NAME --role {client.role}{kinds}")
