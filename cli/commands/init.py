"""`labmesh init`: make a home."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from click import argument, option

from cli.app import App, node_command, pass_app
from cli.outcome import UsageFault
from cli.output import print_document, print_lines
from cli.texts import MEMBER, TEXT
from node.errors import ConfigError, FormatError, HomeError

if TYPE_CHECKING:
    from pathlib import Path

    from node.core.card import Card


@node_command()
@argument("member", type=MEMBER)
@option("--alliance", metavar="A", required=True, type=TEXT, help="The alliance's name, such as quality.jinan.example.")
@option("--name", metavar="N", required=True, type=TEXT, help="The member's name, for people.")
@option("--region", metavar="R", required=True, type=TEXT, help="Where the member is, such as CN-37 or 山东济南.")
@option("--address", metavar="HOST:PORT", required=True, type=TEXT, help="Where other members reach this node.")
@option("--listen", metavar="HOST:PORT", type=TEXT, help="Where this node listens; all interfaces unless given.")
@option("--protect-keys", is_flag=True, help="Put the private keys under a passphrase, which is asked for.")
@pass_app
def command(
    app: App,
    member: str,
    alliance: str,
    name: str,
    region: str,
    address: str,
    listen: str | None,
    protect_keys: bool,
) -> None:
    """Make this node's home: keys, certificate, database, settings.

    MEMBER is this member's id in the alliance: 1 to 31 of a-z, 0-9 and '-'. Nothing that exists is overwritten.
    """
    from node.home import create_home

    try:
        passphrase = _new_passphrase(app) if protect_keys else None
        with _hinting(app.home_path):
            card = create_home(
                app.home_path,
                member=member,
                alliance=alliance,
                name=name,
                region=region,
                address=address,
                listen=listen,
                passphrase=passphrase,
            )
    except (FormatError, ConfigError) as error:
        raise UsageFault(error.message, hint=error.hint or "type: labmesh init --help") from error
    if app.json:
        print_document(_document(app, card))
    else:
        _print_next_steps(app, card)


@contextmanager
def _hinting(path: Path) -> Iterator[None]:
    """What the system refuses gets a next step: a place that this account may write to."""
    try:
        yield
    except OSError as error:
        raise HomeError(
            f"{path} cannot be made: {error.strerror or error}",
            hint=f"choose another --home, or let root make the folder: install -d -m 0700 -o USER {shlex.quote(str(path))}",
        ) from error


def _document(app: App, card: Card) -> dict[str, str]:
    from hashlib import sha256

    from node.core.canonical import format_canonical
    from node.core.card import card_content

    return {
        "home": str(app.home_path),
        "member": card.member,
        "alliance": card.alliance,
        "origin": card.origin,
        "card": sha256(format_canonical(card_content(card))).hexdigest(),
    }


def _print_next_steps(app: App, card: Card) -> None:
    labmesh = app.complete("labmesh init").removesuffix(" init")
    print_lines(
        f"The home of {card.member} in {card.alliance} is {app.home_path}.",
        "keys/ holds the member's private keys: back the folder up, and show them to nobody.",
        "",
        "To found the alliance, type:",
        f"  {labmesh} roster create --title '…'",
        "To join one, write the card to a file, send it to a member of the council, and join with the file that comes back:",
        f"  {labmesh} card -o {card.member}.card",
        f"  {labmesh} join FILE",
    )


def _new_passphrase(app: App) -> bytes:
    from cli.passphrase import HOME_VARIABLE, read_passphrase

    return read_passphrase(
        variable=HOME_VARIABLE, file=app.passphrase_file, confirm=True, noun="New passphrase of the private keys"
    )
