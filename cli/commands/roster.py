"""`labmesh roster`: found the alliance, change it with the council's signatures, show and export what is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from cli.alliance_file import AllianceFile, format_alliance_file, parse_card_file, parse_proposal_file
from cli.app import App, NodeGroup, pass_app
from cli.consent import require_consent
from cli.files import (
    FORCE_OPTION,
    HOME_INPUT_FILE,
    OUTPUT_FILE,
    STDIN,
    display_name,
    read_input,
    require_one_stdin,
    require_place,
    write_output,
)
from cli.governance import open_governance
from cli.output import print_document, print_lines
from cli.proposal import (
    accuse_signers,
    choose_file,
    load_open_proposal,
    print_review,
    report_change,
    report_in_force,
    report_proposed,
    report_withdrawn,
    require_alliance,
    require_signable,
    review_file,
)
from cli.roster_view import print_roster, roster_document
from cli.seat import note_missing_cards, require_seat
from cli.texts import MEMBER, QUORUM, TEXT, format_fingerprint
from node.errors import GovernanceError

if TYPE_CHECKING:
    from node.core.amendment import Amendment

PROPOSAL_FILE_SIZE_MAX = 16 * 1024 * 1024
HEARD = "Running nodes hear of it from one another."
WITHDRAWAL_RISK = (
    "Whoever keeps a copy of its file can complete it, or prove with it that this member signed two rosters of one version. "
    "So first let everybody who has the file delete it; the other homes that signed it must withdraw it, too."
)

_PROPOSAL_OPTION = click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=OUTPUT_FILE,
    help="Where a proposal is written when one signature is not enough; roster-VERSION.proposal.json unless given.",
)


def proposal_options(function: Callable[..., None]) -> Callable[..., None]:
    """Decorator: `-o FILE` and `--force`."""
    return _PROPOSAL_OPTION(FORCE_OPTION(function))


def _set_offline(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.ensure_object(App).offline = value


OFFLINE_OPTION = click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=_set_offline,
    help="Do not ask when the node does not run: this home was never restored or rolled back.",
)


@click.group(cls=NodeGroup)
def command() -> None:
    """Found the alliance, and say who belongs to it.

    Works with the node running or not. Without it nobody is asked whether this home is older than what it has signed, so a
    change is signed only where you say so (--offline), or where the alliance has no other member.
    """


@command.command()
@click.option("--title", metavar="T", required=True, type=TEXT, help="The alliance's title, for people.")
@click.option("--threshold", metavar="N", type=click.IntRange(min=1), default=1, help="Signatures that a change needs.")
@pass_app
def create(app: App, title: str, threshold: int) -> None:
    """Found the alliance: version 1, with this member as council."""
    with open_governance(app) as governance:
        state = governance.found(title, threshold)
    report_in_force(
        app,
        state,
        "The alliance is founded.",
        app.complete("Add members with their cards: labmesh roster add CARD…"),
        app.complete("Start the node: labmesh run"),
    )


@command.command()
@click.argument("cards", metavar="CARD...", nargs=-1, required=True, type=HOME_INPUT_FILE)
@proposal_options
@OFFLINE_OPTION
@pass_app
def add(app: App, cards: tuple[str, ...], output: str | None) -> None:
    """Add members by their cards (files, or - for stdin), in one new version.

    Whoever adds a card vouches that it came from that member: compare its hash by telephone if it came by mail.
    """
    require_seat(app)
    require_one_stdin(cards)
    envelopes = [parse_card_file(read_input(name), display_name(name)) for name in cards]
    file = choose_file(app, output)
    with open_governance(app) as governance:
        state = governance.add_members(envelopes)
    report_change(
        app,
        state,
        file,
        f"{len(envelopes)} member{'' if len(envelopes) == 1 else 's'} added.",
        app.complete("Send the newcomers the file that this writes: labmesh roster export -o FILE"),
        "Tell them the fingerprint by another way than the file.",
    )


@command.command()
@click.argument("member", type=MEMBER)
@click.option(
    "--head-size", metavar="N", type=click.IntRange(0, 2**40), help="How many entries of its log count; all verified here."
)
@proposal_options
@OFFLINE_OPTION
@pass_app
def remove(app: App, member: str, head_size: int | None, output: str | None) -> None:
    """Remove a member for good. Its id cannot be used again.

    Its records up to what this node has verified (or the first N) stay provable; later ones count nowhere.
    """
    require_seat(app)
    require_consent(app, f"Remove {member} from the alliance? It cannot be taken back.")
    file = choose_file(app, output)
    with open_governance(app) as governance:
        state = governance.remove_member(member, head_size)
    report_change(app, state, file, f"{member} is removed.", HEARD)


@command.command()
@click.argument("members", metavar="MEMBER...", nargs=-1, required=True, type=MEMBER)
@click.option("--threshold", "number", metavar="N", type=click.IntRange(1, 100), help="Signatures that a change then needs.")
@proposal_options
@OFFLINE_OPTION
@pass_app
def council(app: App, members: tuple[str, ...], number: int | None, output: str | None) -> None:
    """Seat exactly these members on the council, by their ids.

    The threshold must be more than half of the seats: give it here where the old one does not fit. Both councils must sign.
    """
    from node.core.amendment import SeatCouncil

    _amend(app, SeatCouncil(members, number), output, f"The council is {', '.join(members)}.")


@command.command()
@click.argument("number", metavar="N", type=click.IntRange(1, 100))
@proposal_options
@OFFLINE_OPTION
@pass_app
def threshold(app: App, number: int, output: str | None) -> None:
    """Set how many council members must sign a change: more than half of them."""
    from node.core.amendment import SetThreshold

    _amend(app, SetThreshold(number), output, f"A change now needs {number} of the council's signatures.")


@command.command()
@click.argument("number", metavar="N|default", type=QUORUM)
@proposal_options
@OFFLINE_OPTION
@pass_app
def quorum(app: App, number: int, output: str | None) -> None:
    """Set how many other members must have cosigned before a record counts as seen.

    The default is half of the other members, rounded up, at most 5. A quorum that equals the default follows the number of
    members, also when you chose it: the roster holds one number, and not why. Set it again after members came or went.
    """
    from node.core.amendment import SetQuorum

    _amend(app, SetQuorum(number or None), output, "The quorum is set.")


@command.command()
@click.argument("member", type=MEMBER)
@click.argument("card", metavar="CARD", type=HOME_INPUT_FILE)
@proposal_options
@OFFLINE_OPTION
@pass_app
def rekey(app: App, member: str, card: str, output: str | None) -> None:
    """Give a member the identity key that its new card names: the old one was lost or stolen.

    Compare the key with the member by telephone: who has stolen the old one can also write letters. If the member sits on
    the council, its seat gets the new key too.
    """
    from node.core.amendment import ReplaceIdentity

    require_seat(app)
    envelope = parse_card_file(read_input(card), display_name(card))
    _amend(app, ReplaceIdentity(member, envelope), output, f"{member} has a new identity key; the old one counts no longer.")


@command.command()
@proposal_options
@OFFLINE_OPTION
@pass_app
def renew(app: App, output: str | None) -> None:
    """Extend the roster by two years from now. Every other change does so, too."""
    from node.core.amendment import Renew

    _amend(app, Renew(), output, "The roster is renewed.")


@command.command()
@click.argument("file", metavar="FILE", type=HOME_INPUT_FILE)
@click.option(
    "--keep",
    type=click.Choice(["first", "second"]),
    required=True,
    help="Which note's history survives; evidence verify shows both.",
)
@proposal_options
@OFFLINE_OPTION
@pass_app
def settle(app: App, file: str, keep: str, output: str | None) -> None:
    """Say which of two histories of a member's log survives.

    FILE is evidence of the kind split-view (labmesh evidence export). Every node then follows that log again; one that
    holds the other history forgets it, and fetches the surviving one. Let the member rotate its log key afterwards, so that
    nothing that it signed in the other history counts any more.
    """
    from cli.settlement import read_survivor

    require_seat(app)
    survivor = read_survivor(app, file, keep)
    require_consent(app, f"Does the history of {survivor.member} with {survivor.head.size} entries survive, and no other?")
    _amend(app, survivor, output, f"The history of {survivor.member} is settled.")


@command.command()
@click.argument("file", metavar="FILE", type=HOME_INPUT_FILE)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "-o", "--output", metavar="OUT", type=OUTPUT_FILE, help="Write the signed proposal here; into FILE unless given."
)
@FORCE_OPTION
@click.option(
    "--head-size",
    metavar="N",
    type=click.IntRange(0, 2**40),
    help="The log ends, or survives, there as proposed, though a quorum has cosigned more or another root is verified here.",
)
@OFFLINE_OPTION
@pass_app
def sign(app: App, file: str, yes: bool, output: str | None, head_size: int | None) -> None:
    """Sign a change that another council member has proposed.

    Shows what would change, and at a terminal asks; elsewhere it signs as typed. The signature that completes the proposal
    puts it in force.
    """
    proposal = parse_proposal_file(read_input(file, size_max=PROPOSAL_FILE_SIZE_MAX), display_name(file))
    target = choose_file(app, output) if output is not None or file == STDIN else file
    require_place(target, replace=app.force or target == file)
    try:
        review = require_signable(app, proposal)
    except GovernanceError:
        accuse_signers(app, proposal)
        raise
    if not app.json:
        print_review(review)
        require_consent(app, "Sign it? A signature cannot be taken back.", yes=yes)
    with open_governance(app) as governance:
        state = governance.sign(proposal, head_size)
    write_output(target, state.proposal, replace=app.force or target == file)
    if state.in_force:
        report_in_force(app, state, "Signed, and in force.", HEARD, file=target)
    else:
        report_proposed(app, state, target)


@command.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@OFFLINE_OPTION
@pass_app
def withdraw(app: App, yes: bool) -> None:
    """Give up the change that this home has signed and that lacks signatures still.

    This home may then sign another change of that version. Whoever keeps a copy of the file can prove with it that this
    member signed two: first let everybody who has the file delete it; all homes that signed it withdraw it. At a terminal it
    asks; elsewhere it withdraws as typed.
    """
    state = load_open_proposal(app)
    review = review_file(require_alliance(app), state.proposal)
    if not app.json:
        print_review(review)
        print_lines(WITHDRAWAL_RISK)
        require_consent(app, "Has everybody deleted it, and is it given up?", yes=yes)
    with open_governance(app) as governance:
        governance.withdraw(review.envelope.hash)
    report_withdrawn(app, review)


@command.command()
@click.option("-o", "--output", metavar="FILE", type=OUTPUT_FILE, help="Write its file again.")
@FORCE_OPTION
@pass_app
def proposal(app: App, output: str | None) -> None:
    """Show the change that this home has signed and that lacks signatures still."""
    state = load_open_proposal(app)
    if output is not None:
        write_output(output, state.proposal, replace=app.force)
    if not app.json:
        print_review(review_file(require_alliance(app), state.proposal))
    report_proposed(app, state, output)


@command.command()
@pass_app
def show(app: App) -> None:
    """Show the newest roster."""
    alliance = require_alliance(app)
    if app.json:
        print_document(roster_document(alliance))
    else:
        print_roster(alliance)
    note_missing_cards(app, alliance)


@command.command()
@click.option("-o", "--output", metavar="FILE", type=OUTPUT_FILE, help="Write it to a file instead of printing it.")
@FORCE_OPTION
@pass_app
def export(app: App, output: str | None) -> None:
    """Write the file that a newcomer joins with: the rosters and the known cards."""
    from node.core.alliance import format_card, format_roster

    alliance = require_alliance(app)
    raw = format_alliance_file(
        AllianceFile(
            [format_roster(signed) for signed in alliance.rosters],
            [format_card(alliance.cards[member]) for member in sorted(alliance.cards)],
        )
    )
    note_missing_cards(app, alliance)
    if output is None or output == STDIN:
        click.echo(raw.decode())
        return
    write_output(output, raw, replace=app.force)
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


def _amend(app: App, amendment: Amendment, output: str | None, sentence: str) -> None:
    require_seat(app)
    file = choose_file(app, output)
    with open_governance(app) as governance:
        state = governance.amend(amendment)
    report_change(app, state, file, sentence, HEARD)
