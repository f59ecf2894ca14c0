"""`labmesh keys`: show, rotate, revoke and protect this member's keys."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from cli.app import App, NodeGroup, pass_app
from cli.consent import require_consent
from cli.files import FORCE_OPTION, OUTPUT_FILE, display_name, require_place, write_output
from cli.outcome import UsageFault
from cli.output import print_document, print_lines, print_table
from cli.passphrase import HOME_VARIABLE

if TYPE_CHECKING:
    from node.core.card import Card


class RoleChoice(click.Choice[str]):
    """Some of the keys; what is done otherwise with the others is said as what to type."""

    def __init__(self, *roles: str, **others: str) -> None:
        """Take the keys, and a command for each other one that may be meant."""
        super().__init__(roles)
        self._others = others

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The key's name.

        Raises:
            UsageFault: another key, of which there is something else to type.
            click.BadParameter: no key.
        """
        if value in self._others:
            verb = "" if ctx is None else f" for `{ctx.info_name}`"
            raise UsageFault(f"the {value} key is not{verb}", hint=f"type: {self._others[value]}")
        return super().convert(value, param, ctx)


NEW_IDENTITY = "labmesh keys identity -o FILE"
ROTATED = RoleChoice("log", "witness", "tls", identity=NEW_IDENTITY)
REVOKED = RoleChoice("log", witness="labmesh keys rotate witness", tls="labmesh keys rotate tls", identity=NEW_IDENTITY)
JOINED = (
    "Peers refuse a certificate whose card lacks what they know of this member's keys. Has this home taken the newest file "
    "that a peer exports (there: labmesh roster export -o FILE; here: labmesh join FILE)?"
)
LOSING = (
    "A peer that was away may hold records of this node that no one else has, and will forget them: they are lost for good. "
    "Go on without those peers?"
)
NEW_VARIABLE = "LABMESH_NEW_PASSPHRASE"


@click.group(cls=NodeGroup)
def command() -> None:
    """Show, rotate, revoke and protect this member's keys.

    The identity key, which signs cards and rosters, is replaced with the council's help: labmesh keys identity.
    """


@command.command()
@pass_app
def show(app: App) -> None:
    """Show the public keys, since when they are used, and the former ones. Needs no node and no passphrase."""
    from cli.keys_view import build_keys_document, keys_table

    document = build_keys_document(app.home)
    if app.json:
        print_document(document)
        return
    held = {True: "protected by a passphrase", False: "not protected by a passphrase", None: "cannot be read"}
    print_lines(
        f"The keys of {document['member']}, as its card with seq {document['card']['seq']} of "
        f"{document['card']['issued']} says. The private keys are {held[document['protected']]}.",
        "",
    )
    print_table(["key", "since", "until", "public key"], keys_table(document))


@command.command()
@click.argument("role", type=ROTATED, metavar="log|witness|tls")
@click.option("--without-peers", is_flag=True, help="Do not ask peers first: TLS, or a lost log key.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_app
def rotate(app: App, role: str, without_peers: bool, yes: bool) -> None:
    """Put a new key in the place of the current one, and tell it to the peers in a new card.

    A log key that was lost is replaced once every peer has told what it holds of the log; --without-peers goes on without
    those that never will, and what only they hold is lost.

    What the old key signed stays valid. Its private half is deleted as soon as it is not used any more: at once for log
    and witness, for tls when every active peer has taken the new card, or after 30 days.

    A home that was restored from before a change of its TLS key meets nobody, and nobody can tell it what it has
    forgotten. Then take what a peer holds first: `labmesh roster export -o FILE` there, `labmesh join FILE` here. After
    `labmesh keys rotate tls --without-peers` bring it this member's new card: `labmesh card -o CARD`, there `labmesh join
    CARD`. From there the others hear of it. Where the export was forgotten, take it afterwards, and bring the card again.
    """
    if without_peers:
        require_consent(app, LOSING if role == "log" else JOINED, yes=yes)
    with app.node as node:
        raw, waiting = node.rotate_key(role, without_peers=without_peers)
    _report(app, raw, role, waiting, told_by_hand=without_peers and role == "tls")


@command.command()
@click.argument("role", type=REVOKED, metavar="log")
@click.option("--size", metavar="N", required=True, type=click.IntRange(min=0), help="Size of the last good checkpoint.")
@click.option("--without-peers", is_flag=True, help="Do not wait for every peer, where the key is lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_app
def revoke(app: App, role: str, size: int, without_peers: bool, yes: bool) -> None:
    """End the log key at the last good checkpoint, because somebody else may hold it.

    Checkpoints beyond size N that were signed with it count no more, whoever signed them; this node signs its own anew
    with a new key. N cannot be smaller than what a quorum of the other members has cosigned: nobody can disown what others
    have seen. It cannot be taken back.

    A log key that was lost is ended once every peer has told what it holds of the log; --without-peers goes on without
    those that never will, and what only they hold is lost.
    """
    require_consent(app, f"End the {role} key at size {size}? It cannot be taken back.", yes=yes)
    if without_peers:
        require_consent(app, LOSING, yes=yes)
    with app.node as node:
        raw = node.revoke_log_key(size, without_peers=without_peers)
    _report(app, raw, role, [])


@command.command()
@click.option("-o", "--output", metavar="FILE", type=OUTPUT_FILE, help="Where the card is written.")
@FORCE_OPTION
@click.option("--abandon", is_flag=True, help="Give up a new key that waits for the council, and keep the old one.")
@pass_app
def identity(app: App, output: str | None, abandon: bool) -> None:
    """Make a new identity key, because the old one was lost or stolen, and write the card that names it.

    Send the card to a member of the council, who types `labmesh roster rekey`. The home changes to the new key at the first
    start after the council's roster has arrived; until then change no other key. Typed again it writes the same card: so it
    is dated a second after the card before, not by the clock, and `labmesh keys show` tells that time.
    Where the council does not sign after all, --abandon gives it up; tell the council first, for a roster that names a key
    which nobody has any more needs another `labmesh roster rekey`.
    """
    from cli.governance import read_held_alliance
    from cli.passphrase import home_passphrase
    from node.core.card import parse_card
    from node.core.keys import format_base64
    from node.core.times import format_seconds
    from node.identity import propose_identity

    if abandon == (output is not None):
        raise UsageFault("either -o FILE for the card, or --abandon", hint="type: labmesh keys identity -o FILE")
    if output is None:
        _abandon_identity(app)
        return
    home = app.home
    require_place(output, replace=app.force)
    held = read_held_alliance(home)
    own = parse_card(held.own_card)
    files = home.key_files(home_passphrase(home, app.passphrase_file))
    raw = propose_identity(files, own)
    write_output(output, raw, replace=app.force)
    card = parse_card(raw)[1]
    key = format_base64(card.identity_key)
    if app.json:
        print_document({"file": display_name(output), "seq": card.seq, "identity_key": key})
        return
    print_lines(
        f"The new identity key is {key}.",
        f"Send {display_name(output)} to a council member, who types: labmesh roster rekey {card.member} FILE",
        f"The card is dated {format_seconds(card.issued)}, a second after the one before: typed again, it is the same.",
        "Tell them the key by telephone. When the roster is in force and has arrived here, restart the node.",
    )
    if held.alliance is not None and held.alliance.needs_seat(card.member):
        from node.core.amendment import WHILE_THE_OLD_KEY_SIGNS

        print_lines(
            app.complete(f"The council cannot do that without the old key's signature: {WHILE_THE_OLD_KEY_SIGNS}"),
            "If it is lost, restore keys/identity.pem from a backup: without it nobody can change the roster ever again.",
        )


def _abandon_identity(app: App) -> None:
    from cli.governance import claim_home, read_held_alliance
    from cli.passphrase import home_passphrase
    from node.identity import abandon_identity, require_identity_pending

    app.home.require()
    require_identity_pending(app.home.key_files())
    require_consent(app, "Give the new identity key up? A card that names it is of no use then.")
    with ExitStack() as stack:  # whoever takes rosters gives the key up, so that none can come in between
        node = claim_home(app, stack)
        if node is not None:
            node.abandon_identity()
        else:
            files, held = app.home.key_files(home_passphrase(app.home, app.passphrase_file)), read_held_alliance(app.home)
            abandon_identity(files, held.identity.member, held.alliance)
    if app.json:
        print_document({"abandoned": True})
        return
    print_lines("The new identity key is gone; the old one stays. Tell the council not to sign the card that names it.")


@command.command()
@click.option(
    "--new-passphrase-file",
    metavar="FILE",
    help=f"The new passphrase; else {HOME_VARIABLE} (keys without one) or {NEW_VARIABLE} (keys that have one), or a prompt.",
)
@pass_app
def protect(app: App, new_passphrase_file: str | None) -> None:
    """Put the private keys under a passphrase, or under another one. The node must be stopped.

    From then on `labmesh run` needs it, and every command that signs without a running node. What lay on the disk before
    may still be found there: a key that may have been copied should be rotated.
    """
    from cli.passphrase import home_passphrase, read_passphrase

    app.home.require()
    with app.home.lock():
        held = home_passphrase(app.home, app.passphrase_file)
        variable = HOME_VARIABLE if held is None else NEW_VARIABLE
        file = new_passphrase_file or (app.passphrase_file if held is None else None)
        new = read_passphrase(variable=variable, file=file, confirm=True, noun="New passphrase of the private keys")
        changed = app.home.key_files(held).protect(new)
    _report_protection(app, True, changed)


@command.command()
@pass_app
def unprotect(app: App) -> None:
    """Take the passphrase off the private keys. The node must be stopped."""
    from cli.passphrase import home_passphrase

    app.home.require()
    with app.home.lock():
        changed = app.home.key_files(home_passphrase(app.home, app.passphrase_file)).protect(None)
    _report_protection(app, False, changed)


def _report(app: App, raw: bytes, role: str, waiting: list[str], *, told_by_hand: bool = False) -> None:
    from node.core.card import parse_card

    envelope, card = parse_card(raw)
    if app.json:
        from node.core.keys import format_base64

        former: dict[str, Any] | None = None
        if role == "log":
            last = card.former_log_keys[-1]
            former = {"key": str(last.key), "size": last.size, "root": format_base64(last.root)}
        document = {"role": role, "seq": card.seq, "card": envelope.hash, "former": former, "waiting_for": waiting}
        print_document(document)
        return
    if told_by_hand:
        print_lines(
            f"The card with seq {card.seq} names the new certificate, and no peer can hear of it from this node.",
            "Write it: labmesh card -o CARD   and bring it to a peer, who types: labmesh join CARD",
            "From there the others hear of it.",
        )
    else:
        print_lines(*_sentences(card, role, waiting))
    print_lines("Back up keys/ anew: a backup with former keys cannot speak for this member any more.")


def _sentences(card: Card, role: str, waiting: list[str]) -> list[str]:
    told = f"The card with seq {card.seq} says so; peers hear of it from one another."
    if role == "log":
        size = card.former_log_keys[-1].size
        return [f"The former log key holds up to size {size}; what comes after is signed with the new one.", told]
    if role == "witness":
        return [f"The former witness key holds until {card.former_witness_keys[-1].until:%Y-%m-%d %H:%M:%S} UTC.", told]
    if not waiting:
        return ["Peers now see the new certificate.", told]
    names, have = ", ".join(waiting), "has" if len(waiting) == 1 else "have"
    return [
        f"The old certificate is presented until {names} {have} the new card, or for 30 days.",
        "Then the node changes to the new one by itself.",
        told,
    ]


def _report_protection(app: App, protected: bool, changed: int) -> None:
    if app.json:
        print_document({"protected": protected, "changed": changed})
        return
    state = "protected by the passphrase" if protected else "not protected by a passphrase"
    print_lines(
        f"The private keys are {state}." if changed else f"The private keys are {state} already; nothing was changed."
    )
    if protected:
        print_lines("Keep it apart from the home: nobody can restore it. For a service see config/labmesh.service.")
