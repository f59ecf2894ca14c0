"""What a command prints. Documents for programs and sentences for people go to stdout, everything else to stderr.

Text from other members is never written to a terminal as it is: control characters and characters that turn the direction
of writing are shown as escapes. Colour is used on a terminal only; `rich` is imported only then.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from cli.outcome import UNREACHABLE, Failure

JsonDocument = Any
WIDE = "WF"
UNBROKEN_MAX = 30


def prepare_streams() -> None:
    """Write UTF-8 whatever the locale says, and show what cannot be encoded instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")


def print_document(content: JsonDocument) -> None:
    """One JSON document on stdout."""
    import orjson

    click.echo(orjson.dumps(content).decode())


def print_failure(failure: Failure, *, as_json: bool) -> None:
    """Say why the command failed."""
    if as_json and failure.exit_code != UNREACHABLE:
        error = {"reason": failure.reason, "message": failure.message, "hint": failure.hint}
        print_document({"error": {name: _encodable(text) for name, text in error.items()}})
        return
    _complain("error", failure.message, "red")
    if failure.hint:
        _complain("hint", failure.hint, "cyan")


def print_note(text: str) -> None:
    """A remark on stderr, which no program has to read."""
    click.echo(printable(text), err=True)


def print_lines(*lines: str) -> None:
    """Sentences for people on stdout."""
    for line in lines:
        click.echo(printable(line))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people: with lines and colour on a terminal, in plain columns elsewhere."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich_table(columns, cells)
        return
    widths = [max(map(display_width, column)) for column in zip(columns, *cells, strict=True)]
    for row in [[name.upper() for name in columns], *cells]:
        padded = (cell + " " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def printable(text: str) -> str:
    """`text` with every character escaped that could steer a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if unicodedata.category(character)[0] == "C" else character for character in text)


def display_width(text: str) -> int:
    """How many columns a terminal needs for `text`; Han characters take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in WIDE)
        for character in text
    )


def _complain(word: str, text: str, colour: str) -> None:
    click.echo(f"{click.style(word, fg=colour, bold=True)}: {printable(' '.join(text.splitlines()))}", err=True)


def _print_rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        # An id or a time that fits stays in one piece; the last column, free text, gives way.
        longest = max((display_width(row[number]) for row in cells), default=0)
        table.add_column(name, overflow="fold", no_wrap=longest <= UNBROKEN_MAX and number < len(columns) - 1)
    for row in cells:
        # As Text, so that square brackets in a record are not taken for markup.
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(table)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _encodable(text: str) -> str:
    """`text` without the half characters by which Python keeps undecodable bytes of file names."""
    return text.encode("utf-8", "backslashreplace").decode()
