"""`labmesh evidence`: what this node can prove against members; and check such a file, offline."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.app import App, NodeGroup, pass_app
from cli.files import (
    FORCE_OPTION,
    INPUT_FILE,
    OUTPUT_FILE,
    STDIN,
    display_name,
    read_input,
    require_place,
    write_output,
)
from cli.outcome import REFUSED, UsageFault
from cli.output import print_document, print_lines, print_table
from cli.texts import TEXT, format_size, parse_fingerprint
from node.errors import FormatError, HomeError

if TYPE_CHECKING:
    from node.core.alliance import Alliance
    from node.core.misconduct import Judgement

_MARKS = {True: "ok", False: "FAILED", None: "-"}
_ID_SHOWN = 16


@click.group(cls=NodeGroup)
def command() -> None:
    """Show, export and check proof that a member signed two things that cannot both be honest.

    Nodes find such proof by themselves, and tell it to every member who may see it.
    """


@command.command("list")
@pass_app
def list_evidence(app: App) -> None:
    """List what this node can prove."""
    with app.node as node:
        found = node.list_evidence()
    pieces: list[dict[str, Any]] = [
        {
            "id": piece.id,
            "kind": piece.kind,
            "member": piece.member,
            "found": piece.found,
            "summary": piece.summary,
            "settled": piece.settled or None,
        }
        for piece in found
    ]
    if app.json:
        print_document({"evidence": pieces})
        return
    if not pieces:
        print_lines("No evidence: no member is known to have signed two things that contradict each other.")
        return
    print_table(
        ["id", "kind", "member", "found", "what it proves", "settled"],
        (
            [piece["id"][:_ID_SHOWN], *(piece[name] for name in ("kind", "member", "found", "summary", "settled"))]
            for piece in pieces
        ),
    )
    print_lines(*map(app.complete, _next_steps({piece["kind"] for piece in pieces if piece["settled"] is None})))


def _next_steps(open_kinds: set[str]) -> list[str]:
    """What to do about the cases that nobody has settled, by their kinds."""
    if not open_kinds:
        return []
    lines = ["", "Give it to the council: labmesh evidence export ID -o FILE"]
    if "split-view" in open_kinds:
        lines.append(
            "To let one of two histories survive (split-view), a council member types: labmesh roster settle FILE --keep "
            "first|second"
        )
    return [*lines, "To remove a member that cannot stay, a council member types: labmesh roster remove MEMBER"]


@command.command()
@click.argument("id", metavar="ID", type=TEXT)
@click.option("-o", "--output", metavar="FILE", required=True, type=OUTPUT_FILE, help="The file to write.")
@FORCE_OPTION
@pass_app
def export(app: App, id: str, output: str) -> None:
    """Write one piece of evidence as a file that anyone can check.

    ID is from `labmesh evidence list`; its first 8 characters are enough. Evidence of the kind contradiction holds the two
    records: give it only to who may read both.
    """
    if output == STDIN:
        raise UsageFault("evidence is a ZIP file and is not printed", hint="name a file: -o FILE.labevidence")
    require_place(output, replace=app.force)
    with app.node as node:
        raw = node.export_evidence(id.lower())
    write_output(output, raw, replace=app.force)
    if app.json:
        print_document({"id": id, "file": display_name(output), "size": len(raw)})
        return
    print_lines(
        f"{display_name(output)} is written; it has {format_size(len(raw))}.",
        f"Who gets it types, on any machine: labmesh evidence verify {shlex.quote(display_name(output))} --fingerprint HEX",
        "with the alliance's fingerprint from another source than this file (labmesh roster show prints it).",
    )


@command.command()
@click.argument("file", type=INPUT_FILE)
@click.option("--fingerprint", metavar="HEX", type=TEXT, help="The alliance's fingerprint, from another source than FILE.")
@pass_app
def verify(app: App, file: str, fingerprint: str | None) -> None:
    """Check a piece of evidence offline; needs no node.

    Ends with 0 when it proves misconduct, with 1 when it does not. In a home that has joined the alliance, its newest
    rosters and cards count too, and --fingerprint may be left out.
    """
    wanted = None if fingerprint is None else parse_fingerprint(fingerprint)
    judgement = _judge(file, wanted, _held_alliance(app, required=wanted is None))
    content = _content(judgement)
    if app.json:
        print_document(content)
    else:
        _print_judgement(display_name(file), content)
        print_lines(*_settlement(judgement))
    if not judgement.verified:
        raise click.exceptions.Exit(REFUSED)


def _held_alliance(app: App, *, required: bool) -> Alliance | None:
    """The alliance of the home; None where there is none and none is needed."""
    fault = UsageFault(
        "no fingerprint was given, and there is no home that has joined an alliance",
        hint="give it: labmesh evidence verify FILE --fingerprint HEX, as you have it from another source than the file",
    )
    alliance = None
    if not app.is_remote and app.home_path.is_dir():
        from cli.governance import read_held_alliance

        try:
            alliance = read_held_alliance(app.home).alliance
        except HomeError as error:
            fault = UsageFault(f"no fingerprint was given, and {error.message}", hint=fault.hint)
    if alliance is None and required:
        raise fault
    return alliance


def _judge(name: str, fingerprint: str | None, held: Alliance | None) -> Judgement:
    from node.core.evidence import EVIDENCE_SIZE_MAX, parse_evidence
    from node.core.misconduct import STEPS, Judgement, judge_evidence
    from node.core.verdict import Step

    try:
        if name != STDIN and Path(name).stat().st_size > EVIDENCE_SIZE_MAX:
            raise FormatError("it is too large to be one")
        evidence = parse_evidence(read_input(name))
    except FormatError as error:
        detail = f"the file is not readable evidence: {error.message} (a bundle is checked with: labmesh verify FILE)"
        first = Step(STEPS[0], False, detail)
        return Judgement((first, *(Step(step, None, "not reached") for step in STEPS[1:])), "")
    if held is None:
        return judge_evidence(evidence, fingerprint=fingerprint)
    if fingerprint is None:
        # Evidence made earlier ends with an earlier roster, one made later begins with all that we hold.
        fingerprint = held.rosters[min(len(evidence.rosters), len(held.rosters)) - 1][0].hash
    # First the file alone, as anybody else sees it; then, where this home knows the alliance, under its newer cards.
    alone = judge_evidence(evidence, fingerprint=fingerprint)
    if not alone.verified or not held.knows_fingerprint(fingerprint):
        return alone
    return judge_evidence(evidence, fingerprint=fingerprint, held=held)


def _settlement(judgement: Judgement) -> list[str]:
    """What the council has decided of it, by the newest roster known here: of the home, or else of the file."""
    from node.core.misconduct import find_settlement

    if not judgement.verified or judgement.alliance is None:
        return []
    settled = find_settlement(judgement, judgement.alliance)
    return [f"  It is settled by roster version {judgement.alliance.roster.version}: {settled}."] if settled else []


def _content(judgement: Judgement) -> dict[str, Any]:
    from node.core.misconduct import judgement_content

    content = judgement_content(judgement)
    return {**content, "kind": content["kind"] or None}


def _print_judgement(name: str, content: dict[str, Any]) -> None:
    proved = "proves misconduct" if content["verified"] else "PROVES NOTHING"
    print_lines(f"{name}: {proved}")
    for step in content["steps"]:
        print_lines(f"  {_MARKS[step['ok']]:6} {step['step']:9} {step['detail']}")
    if content["verified"]:
        print_lines(f"  {content['summary']}")
