"""`labmesh roster`: found the alliance, add and remove members, show and export what is held."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cli.alliance_file import AllianceFile, format_alliance_file, parse_card_file
from cli.app import App, NodeGroup, pass_app
from cli.files import INPUT_FILE, OUTPUT_FILE, STDIN, display_name, read_input, require_one_stdin, write_output
from cli.governance import RosterState, open_governance, read_held_alliance
from cli.output import print_document, print_lines, print_table
from cli.texts import MEMBER, TEXT, format_fingerprint
from node.errors import GovernanceError

if TYPE_CHECKING:
    from node.core.alliance import Alliance


@click.group(cls=NodeGroup)
def command() -> None:
    """Found the alliance, and say who belongs to it.

    Works with the node running or not.
    """


@command.command()
@click.option("--title", metavar="T", required=True, type=TEXT, help="The alliance's title, for people.")
@click.option("--threshold", metavar="N", type=click.IntRange(min=1), default=1, help="Signatures that a change needs.")
@pass_app
def create(app: App, title: str, threshold: int) -> None:
    """Found the alliance: version 1, with this member as council."""
    with open_governance(app) as governance:
        state = governance.found(title, threshold)
    _report(
        app,
        state,
        "The alliance is founded.",
        "Add members with their cards: labmesh roster add CARD…",
        "Start the node: labmesh run",
    )


@command.command()
@click.argument("cards", metavar="CARD...", nargs=-1, required=True, type=INPUT_FILE)
@pass_app
def add(app: App, cards: tuple[str, ...]) -> None:
    """Add members by their cards (files, or - for stdin), in one new version.

    Whoever adds a card vouches that it came from that member: compare its hash by telephone if it came by mail.
    """
    require_one_stdin(cards)
    envelopes = [parse_card_file(read_input(name), display_name(name)) for name in cards]
    with open_governance(app) as governance:
        state = governance.add_members(envelopes)
    _report(
        app,
        state,
        f"{len(envelopes)} member{'' if len(envelopes) == 1 else 's'} added.",
        "Send the newcomers the file that this writes: labmesh roster export -o FILE",
        "Tell them the fingerprint by another way than the file.",
    )


@command.command()
@click.argument("member", type=MEMBER)
@pass_app
def remove(app: App, member: str) -> None:
    """Remove a member for good; its records up to now stay provable. Its id cannot be used again."""
    if not app.json and sys.stdin.isatty():
        click.confirm(f"Remove {member} from the alliance? It cannot be taken back.", abort=True, err=True)
    with open_governance(app) as governance:
        state = governance.remove_member(member)
    _report(app, state, f"{member} is removed.", "Running nodes hear of it from one another.")


@command.command()
@pass_app
def show(app: App) -> None:
    """Show the newest roster."""
    alliance = _require_alliance(app)
    content = _roster_document(alliance)
    if app.json:
        print_document(content)
        return
    print_lines(
        f"{content['title']} ({content['alliance']}), version {content['version']}",
        f"fingerprint {format_fingerprint(content['fingerprint'])}",
        f"issued {content['issued']}, expires {content['expires']}",
        f"council {', '.join(content['council'])}; a change needs {content['threshold']}",
        f"quorum {content['quorum']}: so many other members must have cosigned",
        "",
    )
    print_table(
        ["member", "name", "region", "status", "joined", "left", "endpoints"],
        (
            (
                member["member"],
                member.get("name"),
                member.get("region"),
                member["status"],
                member["joined"][:10],
                (member["left"] or "")[:10],
                " ".join(member.get("endpoints", [])),
            )
            for member in content["members"]
        ),
    )


@command.command()
@click.option("-o", "--output", metavar="FILE", type=OUTPUT_FILE, help="Write it to a file instead of printing it.")
@pass_app
def export(app: App, output: str | None) -> None:
    """Write the file that a newcomer joins with: the rosters and the known cards."""
    from node.core.alliance import format_card, format_roster

    alliance = _require_alliance(app)
    raw = format_alliance_file(
        AllianceFile(
            [format_roster(signed) for signed in alliance.rosters],
            [format_card(alliance.cards[member]) for member in sorted(alliance.cards)],
        )
    )
    if output is None or output == STDIN:
        click.echo(raw.decode())
        return
    write_output(output, raw)
    version, fingerprint = alliance.roster.version, alliance.fingerprint
    if app.json:
        print_document({"file": display_name(output), "version": version, "fingerprint": fingerprint})
        return
    print_lines(
        f"{alliance.name}, version {version}, is in {display_name(output)}.",
        f"fingerprint {format_fingerprint(fingerprint)}",
        "Who gets the file types: labmesh join FILE",
        "and compares the fingerprint with what you tell them by another way.",
    )


def _require_alliance(app: App) -> Alliance:
    held = read_held_alliance(app.home)
    if held.alliance is None:
        raise GovernanceError(
            "this node does not belong to an alliance yet",
            hint="type: labmesh roster create --title …   or, with the file of the founder: labmesh join FILE",
        )
    return held.alliance


def _report(app: App, state: RosterState, *sentences: str) -> None:
    if app.json:
        alliance = read_held_alliance(app.home).identity.alliance
        print_document({"alliance": alliance, "version": state.version, "fingerprint": state.fingerprint})
        return
    first, *rest = sentences
    print_lines(f"{first} The roster's version is {state.version}.")
    print_lines(f"fingerprint {format_fingerprint(state.fingerprint)}", *rest)


def _roster_document(alliance: Alliance) -> dict[str, Any]:
    from node.core.keys import format_base64
    from node.core.times import format_seconds

    roster = alliance.roster
    holders = {member.identity_key: name for name, member in roster.members.items()}
    members = []
    for name, member in sorted(roster.members.items()):
        line: dict[str, Any] = {"member": name}
        if name in alliance.cards:
            card = alliance.card(name)
            line |= {"name": card.name, "region": card.region, "endpoints": list(card.endpoints)}
        line["status"] = member.status
        line["joined"] = format_seconds(member.joined)
        line["left"] = None if member.left is None else format_seconds(member.left)
        members.append(line)
    return {
        "alliance": alliance.name,
        "title": roster.title,
        "version": roster.version,
        "fingerprint": alliance.fingerprint,
        "issued": format_seconds(roster.issued),
        "expires": format_seconds(roster.expires),
        "threshold": roster.threshold,
        "quorum": roster.quorum,
        "council": [holders.get(key) or format_base64(key) for key in roster.council],
        "members": members,
    }
