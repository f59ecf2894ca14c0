"""`labmesh verify`: bundles, offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.app import App, node_command, pass_app
from cli.files import INPUT_FILE, display_name, read_input, require_one_stdin
from cli.outcome import REFUSED, UsageFault
from cli.output import print_document, print_lines, print_note
from cli.texts import TEXT, parse_fingerprint
from node.errors import FormatError, LabmeshError, LimitError

if TYPE_CHECKING:
    from node.core.alliance import Alliance
    from node.core.bundle import Bundle
    from node.core.verdict import Verdict

Pin = Callable[["Bundle"], str]
"""The fingerprint to hold against a bundle."""

_MARKS = {True: "ok", False: "FAILED", None: "-"}
_ORIGIN = (
    "a bundle is the file that its sender made with: labmesh prove ID -o FILE (evidence is checked with: labmesh evidence "
    "verify FILE)"
)


@node_command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option("--fingerprint", metavar="HEX", type=TEXT, help="The alliance's fingerprint, from another source than FILE.")
@click.option("--require-quorum", is_flag=True, help="Fail also when too few other members have cosigned.")
@pass_app
def command(app: App, files: tuple[str, ...], fingerprint: str | None, require_quorum: bool) -> None:
    """Verify bundles offline; needs no node.

    Says who signed the record, that nothing was altered or removed since, and who else saw it by when. Without
    --fingerprint the alliance that this home has joined is taken. What the home has learned since a bundle was made
    counts: removals, replaced and revoked keys.
    """
    require_one_stdin(files)
    if len(files) == 1:
        INPUT_FILE.convert(files[0], None, click.get_current_context())
    known: Alliance | None
    if fingerprint is None:
        known = held = _require_alliance(app)
        pin = _pin_of_alliance(held)
    else:
        pin, known = _pin_of_option(parse_fingerprint(fingerprint)), _find_alliance(app)
    verdicts = [(display_name(name), _verify(name, pin, known)) for name in files]
    contents = [(name, _content(verdict)) for name, verdict in verdicts]
    verified = all(content["verified"] for _, content in contents)
    if not app.json:
        for name, content in contents:
            _print_verdict(name, content, require_quorum)
    elif len(contents) == 1:
        print_document(contents[0][1])
    else:
        print_document({"verified": verified, "bundles": [{"file": name, **content} for name, content in contents]})
    if not verified or (require_quorum and not all(content["quorum"]["met"] for _, content in contents)):
        raise click.exceptions.Exit(REFUSED)


def _pin_of_option(fingerprint: str) -> Pin:
    return lambda bundle: fingerprint


def _pin_of_alliance(alliance: Alliance) -> Pin:
    """A bundle must share the alliance's chain, as far as both reach."""
    # A bundle made earlier ends with an earlier roster, one made later begins with all that we hold.
    return lambda bundle: alliance.rosters[min(len(bundle.rosters), len(alliance.rosters)) - 1][0].hash


def _require_alliance(app: App) -> Alliance:
    """The alliance of the home."""
    fault = UsageFault(
        "no fingerprint was given, and there is no home that has joined an alliance",
        hint="give it: labmesh verify FILE --fingerprint HEX, as you have it from another source than the file",
    )
    if app.is_remote or not app.home_path.is_dir():
        raise fault
    try:
        alliance = _read_alliance(app)
    except LabmeshError as error:
        raise UsageFault(f"no fingerprint was given, and {error.message}", hint=fault.hint) from error
    if alliance is None:
        raise fault
    return alliance


def _find_alliance(app: App) -> Alliance | None:
    """The alliance of the home, if there is a home: with a fingerprint none is needed, and a broken one hinders nobody."""
    if app.is_remote or not app.home_path.is_dir():
        return None
    try:
        return _read_alliance(app)
    except LabmeshError as error:
        print_note(f"this home's newer rosters and cards are not considered: {error.message}")
        return None


def _read_alliance(app: App) -> Alliance | None:
    """Without the database library: a bundle is verified sooner than that is loaded."""
    from node.store import DATABASE_NAME
    from node.store.glance import read_alliance

    return read_alliance(app.home_path / DATABASE_NAME)


def _verify(name: str, pin: Pin, known: Alliance | None) -> Verdict:
    from node.core.bundle import parse_bundle
    from node.core.kinds import Kinds
    from node.core.verdict import STEPS, Step, Verdict, verify_bundle
    from node.schemas import load_schemas

    def unreadable(reason: str) -> Verdict:
        first = Step(STEPS[0], False, f"the file is not a readable bundle: {reason}")
        return Verdict((first, *(Step(step, None, "not reached") for step in STEPS[1:])))

    try:
        raw = _read_bundle(name)
    except FormatError as error:
        return unreadable(error.message)
    try:
        bundle = parse_bundle(raw)
    except FormatError as error:
        return unreadable(f"{error.message}; {_ORIGIN}")
    return verify_bundle(bundle, fingerprint=pin(bundle), kinds=Kinds(load_schemas()), known=known)


def _read_bundle(name: str) -> bytes:
    """The file's bytes. One of several that cannot be read must not keep the others from being verified."""
    from node.core.bundle import BUNDLE_SIZE_MAX

    try:
        if name != "-" and Path(name).stat().st_size > BUNDLE_SIZE_MAX:
            raise FormatError("it is too large to be one")
        return read_input(name)
    except OSError as error:
        raise FormatError(error.strerror or str(error)) from error
    except LimitError as error:
        raise FormatError(error.message) from error


def _content(verdict: Verdict) -> dict[str, Any]:
    from node.core.verdict import verdict_content

    return verdict_content(verdict)


def _print_verdict(name: str, content: dict[str, Any], require_quorum: bool) -> None:
    print_lines(f"{name}: {'verified' if content['verified'] else 'NOT VERIFIED'}")
    for step in content["steps"]:
        print_lines(f"  {_MARKS[step['ok']]:6} {step['step']:13} {step['detail']}")
    if not content["verified"]:
        print_lines("")
        return
    record, quorum = content["record"], content["quorum"]
    print_lines(
        f"  record     {record['author']}/{record['kind']}/{record['key']}@{record['revision']}, "
        f"published {record['published']}",
        f"  signed by  {content['signer']}, as one of {content['signed_size']} entries",
        f"  seen by    {_seen_by(content)}",
        f"  quorum     {quorum['needed']} other member{'' if quorum['needed'] == 1 else 's'} needed: "
        + ("met" if quorum["met"] else "NOT MET" + (", so it fails" if require_quorum else "")),
        f"  roster     version {content['roster']['version']}, {_expiry(content['roster']['expires'])}",
        "  it says:",
    )
    print_lines(*(f"    {line}" for line in json.dumps(record["body"], ensure_ascii=False, indent=2).splitlines()), "")


def _seen_by(content: dict[str, Any]) -> str:
    names = ", ".join(f"{cosigner['member']} ({cosigner['time']})" for cosigner in content["cosigners"])
    if not names:
        return "no other member yet"
    return names + (f"; by enough of them at {content['seen_by']}" if content["seen_by"] else "")


def _expiry(expires: str) -> str:
    from node.clock import utc_now
    from node.core.times import format_seconds

    # Both are UTC in one form, so their text sorts as the times do.
    return f"EXPIRED on {expires}" if expires <= format_seconds(utc_now()) else f"expires on {expires}"
