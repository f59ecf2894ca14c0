"""`labmesh push`: append records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from cli.app import App, node_command, pass_app
from cli.files import INPUT_FILE, display_name, read_input, require_one_stdin
from cli.outcome import REFUSED, UsageFault
from cli.output import print_document, print_lines, print_note, print_table
from cli.texts import KIND, TEXT, count_entries
from node.errors import LimitError

if TYPE_CHECKING:
    from cli.push_input import PushInput
    from labmesh.v1.node_pb2 import PushOptions, PushResponse

ERRORS_SHOWN = 20
ERRORS_MAX = 1000
CONTENTS_MAX = 1024 * 1024 * 1024
LARGE = 4 * 1024 * 1024
NOBODY = "none"


@node_command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=INPUT_FILE)
@click.option("--kind", metavar="K", required=True, type=KIND, help="The kind of the records, such as capability.")
@click.option(
    "--audience",
    metavar="M,...",
    type=TEXT,
    help="Who may read: member ids, * for the alliance, none for this member alone (for a member with that id: none,none). "
    "Records may say it themselves.",
)
@click.option("--revise", is_flag=True, help="Make the next revision where a key exists with other content.")
@click.option("--keep-going", is_flag=True, help="Append the good records although others are refused.")
@pass_app
def command(app: App, files: tuple[str, ...], kind: str, audience: str | None, revise: bool, keep_going: bool) -> None:
    """Append records to this member's log.

    FILE is JSON (one record, or a list of them) or JSON Lines; - is stdin. A record is {"key": "…", "body": {…}}. All files
    are one call: without --keep-going one bad record refuses it whole. Repeating a push does no harm, and an empty file is
    no fault.
    """
    from cli.push_input import PushInput

    require_one_stdin(files)
    members = None if audience is None else parse_audience(audience)
    source = PushInput([(display_name(name), read_input(name, size_max=CONTENTS_MAX)) for name in files])
    if source.size_bytes > CONTENTS_MAX:
        raise LimitError(
            f"the files have {source.size_bytes} bytes; one push takes at most {CONTENTS_MAX}; nothing was appended",
            hint="split the files and push the parts one after the other",
        )
    with app.node as node, _progress(source.size_bytes) as advance:
        answer = node.push(_build_options(kind, members, revise, keep_going), source.batches(advance))
    for name in source.empty_names():
        print_note(f"{name} holds no record, so nothing of it was pushed.")
    content = push_document(answer, source)
    if app.json:
        print_document(content)
    else:
        _print_outcome(content, keep_going)
    for warning in answer.warnings:
        print_note(f"Stored here, but not taken by the alliance: {warning}.")
    if answer.unsigned and not answer.warnings:
        why = answer.waits_for or "see labmesh status"  # a node before this field says no more
        print_note(app.complete(f"The records are stored, and not published yet: {why}"))
    if content["rejected"]:
        raise click.exceptions.Exit(REFUSED)


def parse_audience(text: str) -> list[str]:
    """The members named on the command line, sorted; `none` or nothing means the author alone.

    In a list `none` is the member of that name: so `none,none` means that member and nobody else.

    Raises:
        UsageFault: a name between commas is missing.
    """
    if text.strip() in ("", NOBODY):
        return []
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageFault(f"--audience {text!r} lacks a name", hint="write member ids with commas: --audience jinan,qingdao")
    return sorted(set(names))


def push_document(answer: PushResponse, source: PushInput) -> dict[str, Any]:
    """The outcome as the JSON of DESIGN section 9."""
    from base64 import b64encode

    errors: list[dict[str, Any]] = []
    faulty: set[int] = set()
    for error in answer.errors:
        place = source.locate(error.record)
        if place.fault and error.record in faulty:
            continue
        if place.fault:
            faulty.add(error.record)
        path, message = ("", place.fault) if place.fault else (error.path, error.message)
        errors.append({"file": place.file, "line": place.line, "path": path, "message": message})
    return {
        "accepted": answer.accepted,
        "unchanged": answer.unchanged,
        "rejected": answer.rejected,
        "checkpoint": {
            "origin": answer.checkpoint.origin,
            "size": answer.checkpoint.size,
            "root": b64encode(answer.checkpoint.root).decode(),
        },
        "errors": errors[:ERRORS_MAX],
    }


def _build_options(kind: str, members: list[str] | None, revise: bool, keep_going: bool) -> PushOptions:
    from labmesh.v1.node_pb2 import Audience, PushOptions

    audience = None if members is None else Audience(members=members)
    return PushOptions(kind=kind, audience=audience, revise=revise, keep_going=keep_going)


def _print_outcome(content: dict[str, Any], keep_going: bool) -> None:
    accepted, unchanged, rejected = content["accepted"], content["unchanged"], content["rejected"]
    print_lines(
        f"{accepted:,} appended, {unchanged:,} unchanged, {rejected:,} refused; "
        f"the log has {count_entries(content['checkpoint']['size'])}."
    )
    if not rejected:
        return
    if not keep_going:
        print_note("Nothing was appended, because a record was refused. --keep-going appends the others.")
    errors = content["errors"]
    print_table(
        ["file", "line", "path", "message"],
        ((error["file"], error["line"], error["path"], error["message"]) for error in errors[:ERRORS_SHOWN]),
    )
    if len(errors) > ERRORS_SHOWN:
        print_note(f"{len(errors) - ERRORS_SHOWN} more; --json lists up to {ERRORS_MAX:,}.")


@contextmanager
def _progress(size_bytes: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, when a person watches and it takes a while."""
    import sys

    if size_bytes < LARGE or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    bar = Progress("sending", BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    with bar:
        task = bar.add_task("", total=size_bytes)
        yield lambda size: bar.advance(task, size)
