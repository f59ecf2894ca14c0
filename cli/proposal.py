"""What a person is told after a change of the roster: it is in force, or its file has to travel on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.app import App
from cli.files import display_name, require_place, write_output
from cli.governance import Refused, RosterState, open_membership, read_held_alliance
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
        report_in_force(app, state, *sentences)
        return
    try:
        write_output(file, state.proposal, replace=app.force)
    except UsageFault as error:
        # It is signed and remembered; only its file is missing.
        raise UsageFault(error.message, hint="the proposal is kept; type: labmesh roster proposal -o FILE") from error
    report_proposed(app, state, file)


def report_in_force(app: App, state: RosterState, *sentences: str, file: str | None = None) -> None:
    """Say that the newest roster is in force; `file` is the proposal's that it came from."""
    if app.json:
        print_document(_document(app, state) | ({} if file is None else _proposal_document(state, file)))
        return
    first, *rest = sentences
    print_lines(f"{first} The roster's version is {state.version}.")
    print_lines(f"fingerprint {format_fingerprint(state.fingerprint)}", *rest)


def report_proposed(app: App, state: RosterState, file: str | None) -> None:
    """Say that more signatures are needed, and whose; `file` is where the proposal was written."""
    if app.json:
        print_document(_document(app, state) | _proposal_document(state, file))
        return
    from node.core.proposal import so_many_of

    review = review_file(require_alliance(app), state.proposal)
    enders = so_many_of(review.refusals_missing, review.refusing())
    print_lines(
        f"Roster version {review.roster.version} has {state.have} of {state.needed} signatures: it is not in force yet.",
        app.complete("Write its file again: labmesh roster proposal -o FILE")
        if file is None
        else f"Send {display_name(file)} to {format_awaited(review)}, who type: labmesh roster sign FILE",
        f"Before it is complete, or refused by {enders}, no home that signed it signs another change of version "
        f"{review.roster.version}.",
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
        f"It has {len(review.signers)} of {review.needed} signatures.",
        *([f"Refused by {', '.join(review.named(review.refusers))}."] if review.refusers else []),
    )


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
    held = read_held_alliance(app.home)
    require_may_sign(review, held.identity.member, parse_card(held.own_card)[1].identity_key)
    with open_membership(app.home) as store:
        signed = store.load_signed(review.roster.version)
        require_free(review_file(alliance, signed.proposal) if signed else None, review)
        store.require_unsigned(review.roster.version, review.envelope.hash)
    return review


def require_refusable(app: App, proposal: bytes) -> tuple[Review, bool]:
    """Judge a proposal as the home's own membership will; also whether the home has signed it, and would be free of it.

    Raises:
        FormatError: not a proposal.
        GovernanceError: it may not follow what is held, or is not for this home to refuse, or not yet.
    """
    from node.core.card import parse_card
    from node.core.proposal import require_dead, require_may_refuse

    review = review_file(require_alliance(app), proposal)
    held = read_held_alliance(app.home)
    member, key = held.identity.member, parse_card(held.own_card)[1].identity_key
    require_may_refuse(review, member, key)
    with open_membership(app.home) as store:
        signed = key in review.signers or store.has_signed(review.roster.version, review.envelope.hash)
    if signed:
        require_dead(review, member)
    return review, signed


def report_refused(app: App, refused: Refused, file: str) -> None:
    """Say what became of a refusal, which was written to `file`."""
    if app.json:
        document = {"proposal": display_name(file), "missing": refused.missing, "released": refused.released}
        print_document({"alliance": read_held_alliance(app.home).identity.alliance, **document})
        return
    review = review_file(require_alliance(app), refused.proposal)
    version, name = review.roster.version, display_name(file)
    if refused.released:
        print_lines(f"This roster can never be in force, and this home is free to sign another one of version {version}.")
    elif review.dead:
        signers = ", ".join(review.signing())
        print_lines(
            "Refused. So many have refused this roster now that it can never be in force.",
            f"Send {name} to those who signed it ({signers}): they are free after typing: labmesh roster refuse FILE",
        )
    else:
        more = f"{refused.missing} more must refuse it" if refused.missing > 1 else "One more must refuse it"
        print_lines(
            f"Refused. {more} before it can never be in force, and those who signed it may sign another one.",
            f"Send {name} to {join_names(review.refusing())}, who type: labmesh roster refuse FILE",
        )


def load_open_proposal(app: App) -> RosterState:
    """The proposal of the next version that this home has signed.

    Raises:
        GovernanceError: there is none.
    """
    alliance = require_alliance(app)
    with open_membership(app.home) as store:
        signed = store.load_signed(alliance.roster.version + 1)
    if signed is None:
        raise GovernanceError(
            f"this home has signed no proposal of roster version {alliance.roster.version + 1}",
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
    """Who may sign next, for a sentence."""
    return join_names(review.awaited())


def join_names(names: list[str]) -> str:
    """Members of whom one is enough, for a sentence."""
    *others, last = names or ["a council member"]
    return f"{', '.join(others)} or {last}" if others else last


def _document(app: App, state: RosterState) -> dict[str, Any]:
    alliance = read_held_alliance(app.home).identity.alliance
    return {"alliance": alliance, "version": state.version, "fingerprint": state.fingerprint}


def _proposal_document(state: RosterState, file: str | None) -> dict[str, Any]:
    return {
        "proposal": None if file is None else display_name(file),
        "signatures": {"have": state.have, "needed": state.needed},
    }
