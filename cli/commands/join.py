"""`labmesh join`: pin an alliance on a new node, or take what is newer on a joined one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cli.alliance_file import DAMAGED_HINT, EXPORT_HINT, AllianceFile, parse_alliance_file
from cli.app import App, node_command, pass_app
from cli.consent import can_ask, require_consent
from cli.files import HOME_INPUT_FILE, STDIN, display_name, read_input
from cli.governance import open_governance, read_held_alliance
from cli.outcome import UsageFault
from cli.output import print_document, print_lines
from cli.seat import note_missing_cards
from cli.texts import TEXT, format_fingerprint, parse_fingerprint
from node.errors import FormatError, GovernanceError, LabmeshError

if TYPE_CHECKING:
    from cli.governance import HeldAlliance
    from node.core.alliance import Alliance


HEARD = "Running nodes hear of it from one another."


@node_command()
@click.argument("file", metavar="FILE", type=HOME_INPUT_FILE)
@click.option("--fingerprint", metavar="HEX", type=TEXT, help="The alliance's fingerprint, from another source than FILE.")
@pass_app
def command(app: App, file: str, fingerprint: str | None) -> None:
    """Join an alliance, or take newer rosters and cards.

    FILE is what `labmesh roster export` wrote, a proposal with every signature that it needs, or a member's newer card
    (labmesh card). On a new node the alliance's fingerprint must be compared: it is shown and asked for, unless
    --fingerprint gives it. On a joined node nothing is asked: what its council or the member did not sign is refused.
    """
    pinned = None if fingerprint is None else parse_fingerprint(fingerprint)
    content = parse_alliance_file(read_input(file), display_name(file))
    held = read_held_alliance(app.home)
    _require_same_alliance(held.identity.alliance, content, display_name(file))
    if held.alliance is None and (content.is_proposal or content.is_card):
        noun = "a proposal" if content.is_proposal else "a member's card"
        raise GovernanceError(f"{display_name(file)} is {noun}, of use only to a node that has joined", hint=EXPORT_HINT)
    if held.alliance is None and pinned is None:
        pinned = _ask(app, content, file)
    with open_governance(app) as governance, _hinting(held.identity.alliance):
        state = governance.import_alliance(content, pinned)
    after = read_held_alliance(app.home)
    if after.alliance is not None:
        note_missing_cards(app, after.alliance)
    members = after.alliance.active_members() if after.alliance else []
    if app.json:
        print_document(
            {
                "alliance": held.identity.alliance,
                "version": state.version,
                "fingerprint": state.fingerprint,
                "members": members,
            }
        )
        return
    print_lines(*_report(app, content, held, after))
    print_lines(f"fingerprint {format_fingerprint(state.fingerprint)}", f"active members: {', '.join(members)}")


def _report(app: App, content: AllianceFile, held: HeldAlliance, after: HeldAlliance) -> list[str]:
    """What the file has changed, by what was held before and after it."""
    if held.alliance is None or after.alliance is None:
        return [
            f"{held.identity.member} has joined {held.identity.alliance}.",
            app.complete("Start the node: labmesh run"),
        ]
    renewed = _renewed_seq(held.own_card, after.own_card, content.cards)
    if renewed is not None:
        from cli.key_facts import CARD_BY_HAND

        return [
            f"This home had forgotten a card of its own; its keys are taken up, and a card with seq {renewed} stands on it.",
            app.complete(f"If no peer lets this node in, bring that card to one: {CARD_BY_HAND}"),
        ]
    if content.is_card:
        return [_report_card(content.cards[0], held.alliance, after.alliance)]
    before, now = held.alliance.roster.version, after.alliance.roster.version
    if now > before:
        return [f"The roster is now version {now}; it was {before}."]
    return [f"The roster is version {now}, as before; {_describe_newer(held.alliance, after.alliance)}."]


def _require_same_alliance(alliance: str, content: AllianceFile, name: str) -> None:
    """Refuse a file of another alliance before anybody is asked to compare its fingerprint."""
    from node.core.card import parse_card
    from node.core.roster import parse_roster

    try:
        named = [parse_roster(raw)[1].alliance for raw in content.rosters]
        named += [parse_card(raw)[1].alliance for raw in content.cards]
    except FormatError as error:
        raise FormatError(f"{name}: {error.message}", hint=error.hint or DAMAGED_HINT) from error
    if other := next((one for one in named if one != alliance), None):
        raise GovernanceError(
            f"{name} is for the alliance {other}, this home was made for {alliance}",
            hint=f"ask a member of {alliance} for its file; to belong to {other}, too, make another home: labmesh --home "
            f"DIR init MEMBER --alliance {other} …",
        )


@contextmanager
def _hinting(alliance: str) -> Iterator[None]:
    """A refusal that names no next step gets one: a newer file, from somebody else."""
    try:
        yield
    except LabmeshError as error:
        if error.hint or error.reason != GovernanceError.reason:
            raise
        hint = f"ask another member of {alliance} for a new file (labmesh roster export -o FILE), and for its fingerprint"
        raise GovernanceError(error.message, hint=hint) from error


def _describe_newer(before: Alliance, after: Alliance) -> str:
    """Whose cards a file brought that were not held here."""
    held = {signed[0].hash for signed in before.cards.values()}
    newer = [name for name, signed in after.cards.items() if signed[0].hash not in held]
    return f"newer cards were taken of {', '.join(sorted(newer))}" if newer else "the file holds nothing that is newer"


def _renewed_seq(before: bytes, after: bytes, told: list[bytes]) -> int | None:
    """The `seq` of the own card where this home signed it to stand on one in the file that it had forgotten; else None."""
    from node.core.card import parse_card
    from node.core.succession import is_forgotten

    held, renewed = parse_card(before), parse_card(after)[1]
    own = [signed for signed in map(parse_card, told) if signed[1].member == renewed.member]
    return renewed.seq if after != before and any(is_forgotten(held, signed) for signed in own) else None


def _report_card(raw: bytes, before: Alliance, after: Alliance) -> str:
    """What became of a single card."""
    from node.core.card import parse_card

    envelope, card = parse_card(raw)
    held = after.cards[card.member]
    if held[0].hash != envelope.hash:
        return (
            f"A newer card of {card.member} is held here (seq {held[1].seq}, this one has {card.seq}); nothing was changed."
        )
    if card.member in before.cards and before.cards[card.member][0].hash == envelope.hash:
        return f"This card of {card.member} (seq {card.seq}) is held here already."
    return f"The card of {card.member} with seq {card.seq} is taken. {HEARD}"


def _ask(app: App, content: AllianceFile, file: str) -> str:
    """Show whom the file would make this node believe, and ask; returns the fingerprint that was compared."""
    if file == STDIN or not can_ask(app):
        raise UsageFault(
            "nobody can be asked here whether the fingerprint is right",
            hint="give it: labmesh join FILE --fingerprint HEX, as a member tells it by another way than the file",
        )
    alliance = _load(content, file)
    roster = alliance.roster
    print_lines(
        f"{roster.title} ({alliance.name}), version {roster.version}, with {len(alliance.active_members())} active members:",
        f"  {', '.join(alliance.active_members())}",
        "Its fingerprint is",
        f"  {format_fingerprint(alliance.fingerprint)}",
        "Compare it with what a member you know tells you, by telephone or in person. Who can change the file can also",
        "change a fingerprint that comes with it.",
    )
    newest = "ask a member you know for the file that `labmesh roster export -o FILE` writes, and for its fingerprint"
    require_consent(app, "Is it the same?", hint=newest)
    return alliance.fingerprint


def _load(content: AllianceFile, file: str) -> Alliance:
    from node.core.alliance import load_alliance

    try:
        return load_alliance(content.rosters, content.cards)
    except FormatError as error:
        raise FormatError(f"{display_name(file)}: {error.message}", hint=error.hint) from error
