"""What a person is told after a change of the roster: it is in force, or its file has to travel on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli.alliance_file import AllianceFile
from cli.app import App
from cli.files import display_name, require_place, write_output
from cli.governance import RosterState, open_governance, open_membership, read_held_alliance
from cli.outcome import UsageFault
from cli.output import print_document, print_lines
from cli.texts import format_fingerprint
from node.errors import GovernanceError

if TYPE_CHECKING:
    from node.core.alliance import Alliance
    from node.core.proposal import Review


def require_alliance(app: App) -> Alliance:
    """The alliance that the home holds, or the node on another machine.

    Raises:
        GovernanceError: it holds none yet.
    """
    if app.is_remote:
        return _ask_for_alliance(app)
    held = read_held_alliance(app.home)
    if held.alliance is None:
        raise GovernanceError(
            "this node does not belong to an alliance yet",
            hint="type: labmesh roster create --title …   or, with the file of the founder: labmesh join FILE",
        )
    return held.alliance


def _ask_for_alliance(app: App) -> Alliance:
    from node.core.alliance import load_alliance

    with app.node as node:
        rosters, cards = node.export_alliance()
    return load_alliance(rosters, cards)


def choose_file(app: App, output: str | None) -> str:
    """Where a proposal will be written, should one be needed; refused when something is there already."""
    held = read_held_alliance(app.home).alliance
    name = output or f"roster-{held.roster.version + 1 if held else 1}.proposal.json"
    if output is not None or (held is not None and held.roster.threshold > 1):
        require_place(name, replace=app.force)
    return name


def report_change(app: App, state: RosterState, file: str, *sentences: str) -> None:
    """Say what became of a change; `sentences` when it is in force, else a proposal is written to `file`."""
    if state.in_force:
        changes = [] if app.json else _describe_version(require_alliance(app), state.version)
        report_in_force(app, state, *sentences, changes=changes)
        return
    try:
        write_output(file, state.proposal, replace=app.force)
    except UsageFault as error:
        # It is signed and remembered; only its file is missing.
        raise UsageFault(error.message, hint="the proposal is kept; type: labmesh roster proposal -o FILE") from error
    if not app.json:
        print_review(review_file(require_alliance(app), state.proposal))
    report_proposed(app, state, file)


def report_in_force(
    app: App, state: RosterState, *sentences: str, file: str | None = None, changes: Sequence[str] = ()
) -> None:
    """Say that the newest roster is in force; `file` is the proposal's that it came from, `changes` what it changed."""
    if app.json:
        print_document(_document(app, state) | ({} if file is None else _proposal_document(state, file)))
        return
    first, *rest = sentences
    print_lines(f"{first} The roster's version is {state.version}.")
    print_lines(*(f"  {change}" for change in changes), f"fingerprint {format_fingerprint(state.fingerprint)}", *rest)


def report_proposed(app: App, state: RosterState, file: str | None) -> None:
    """Say that more signatures are needed, and whose; `file` is where the proposal was written. And what was withdrawn."""
    withdrawn = list_withdrawn(app, state.version + 1)
    if app.json:
        print_document(_document(app, state) | _proposal_document(state, file) | {"withdrawn": withdrawn})
        return
    review = review_file(require_alliance(app), state.proposal)
    print_lines(
        f"Roster version {review.roster.version} has {review.format_count()}: it is not in force yet.",
        app.complete("Write its file again: labmesh roster proposal -o FILE")
        if file is None
        else f"Send {display_name(file)} to {format_awaited(review)}, who types: labmesh roster sign FILE",
        f"Before it is complete, no home that signed it signs another change of version {review.roster.version}.",
    )
    if withdrawn:
        print_lines(
            f"Before it this home has withdrawn what was made at {' and '.join(withdrawn)}: whoever kept a copy of that can "
            "prove that it signed two."
        )


def print_review(review: Review) -> None:
    """Print what a proposal would change."""
    from cli.amendment import describe_change
    from node.core.times import format_seconds

    changes = describe_change(review.alliance.roster, review.roster, review.cards)
    print_lines(
        f"Version {review.roster.version} of the roster of {review.roster.alliance}, made at "
        f"{format_seconds(review.roster.issued)}, instead of version {review.alliance.roster.version}:",
        *(f"  {change}" for change in changes),
        f"It has {review.format_count()}.",
    )


def _describe_version(alliance: Alliance, version: int) -> list[str]:
    """What a roster in force has changed, with everything that follows from the change, such as the default quorum."""
    from cli.amendment import describe_change
    from node.core.alliance import format_card

    (_, before), (_, roster) = alliance.rosters[version - 2 : version]
    return describe_change(before, roster, map(format_card, alliance.cards.values()))


def require_signable(app: App, proposal: bytes) -> Review:
    """Judge a proposal as the home's own membership will, so that a person is asked only about what can be signed.

    Raises:
        FormatError: not a proposal.
        GovernanceError: it may not follow what is held, or is not for this home to sign.
    """
    from node.core.card import parse_card
    from node.core.proposal import require_free, require_may_sign

    alliance = require_alliance(app)
    review = review_file(alliance, proposal)
    version, roster_hash = review.roster.version, review.envelope.hash
    held = read_held_alliance(app.home)
    key = parse_card(held.own_card)[1].identity_key
    with open_membership(app.home) as store:
        require_may_sign(review, held.identity.member, key, withdrawn=store.is_withdrawn(version, roster_hash))
        signed = store.load_signed(version)
        require_free(review_file(alliance, signed.proposal) if signed else None, review)
        store.require_unsigned(version, roster_hash)
    return review


def accuse_signers(app: App, proposal: bytes) -> None:
    """Let the node keep the proof where a council member signed this roster and another one of its version that is in force.

    Raises:
        UserError: there is proof; what it proves.
    """
    from node.core.conflict import find_roster_conflict
    from node.core.proposal import parse_proposal

    roster = parse_proposal(proposal).roster
    if find_roster_conflict(require_alliance(app), roster) is not None:
        with open_governance(app) as governance:
            governance.import_alliance(AllianceFile([roster], [], is_proposal=True), None)


def report_withdrawn(app: App, review: Review) -> None:
    """Say that a proposal is given up."""
    version, held = review.roster.version, review.alliance
    if app.json:
        in_force = {"alliance": held.name, "version": held.roster.version, "fingerprint": held.fingerprint}
        print_document({**in_force, "withdrawn": {"version": version, "hash": review.envelope.hash}})
        return
    print_lines(f"Withdrawn. This home may sign another roster of version {version}.")


def list_withdrawn(app: App, version: int) -> list[str]:
    """When the rosters of one version were made that this home has signed and withdrawn, and not signed again."""
    from node.core.proposal import parse_proposal
    from node.core.roster import parse_roster
    from node.core.times import format_seconds

    with open_membership(app.home) as store:
        withdrawn = store.load_withdrawn(version)
    return [format_seconds(parse_roster(parse_proposal(signed.proposal).roster)[1].issued) for signed in withdrawn]


def load_open_proposal(app: App) -> RosterState:
    """The proposal of the next version that this home has signed.

    Raises:
        GovernanceError: there is none.
    """
    alliance = require_alliance(app)
    with open_membership(app.home) as store:
        signed = store.load_signed(alliance.roster.version + 1)
    if signed is None:
        withdrawn = " and ".join(list_withdrawn(app, alliance.roster.version + 1))
        raise GovernanceError(
            f"this home has signed no proposal of roster version {alliance.roster.version + 1}"
            + (f"; it has withdrawn what was made at {withdrawn}" if withdrawn else ""),
            hint="type: labmesh roster show",
        )
    review = review_file(alliance, signed.proposal)
    version, fingerprint = alliance.roster.version, alliance.fingerprint
    return RosterState(version, fingerprint, signed.proposal, len(review.signers), review.needed)


def review_file(alliance: Alliance, proposal: bytes) -> Review:
    """A proposal's file, judged against the alliance held.

    Raises:
        FormatError: not a proposal.
        GovernanceError: it may not follow what is held; the hint says what to do.
    """
    from node.core.proposal import parse_proposal, review_proposal

    return review_proposal(alliance, parse_proposal(proposal))


def format_awaited(review: Review) -> str:
    """Who may sign next, for a sentence; those alone whose signature is the last one needed, where there are any."""
    *others, last = review.next_signers() or ["a council member"]
    return f"{', '.join(others)} or {last}" if others else last


def _document(app: App, state: RosterState) -> dict[str, Any]:
    alliance = read_held_alliance(app.home).identity.alliance
    return {"alliance": alliance, "version": state.version, "fingerprint": state.fingerprint}


def _proposal_document(state: RosterState, file: str | None) -> dict[str, Any]:
    return {
        "proposal": None if file is None else display_name(file),
        "signatures": {"have": state.have, "needed": state.needed},
    }
