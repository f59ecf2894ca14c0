"""The options that `list` and `search` share, and how a page of records is printed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from cli.app import App
from cli.output import print_document, print_lines, print_note
from cli.texts import KIND, MEMBER, TEXT

LIMIT_DEFAULT = 50
LIMIT_MAX = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Which records, and how many. Empty text means all, or the first page."""

    kind: str
    author: str
    limit: int
    after: str


def page_options(function: Callable[..., None]) -> Callable[..., None]:
    """Decorator: adds `--kind --author --limit --after`, and passes them as `page`."""

    @click.option("--kind", metavar="K", type=KIND, help="Only this kind.")
    @click.option("--author", metavar="MEMBER", type=MEMBER, help="Only this member's records.")
    @click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(1, LIMIT_MAX),
        default=LIMIT_DEFAULT,
        show_default=True,
        help=f"At most so many, up to {LIMIT_MAX}.",
    )
    @click.option("--after", metavar="CURSOR", type=TEXT, help="Where the page before ended: its `next`.")
    @functools.wraps(function)
    def with_page(*args: Any, kind: str | None, author: str | None, limit: int, after: str | None, **kwargs: Any) -> None:
        function(*args, page=Page(kind or "", author or "", limit, after or ""), **kwargs)

    return with_page


def print_page(app: App, content: dict[str, Any]) -> None:
    """Print what `page_document` made."""
    if app.json:
        print_document(content)
        return
    if not content["records"]:
        print_lines("No record.")
        return
    from cli.views import print_records

    print_records(content["records"])
    if content["next"]:
        print_note(f"There are more: repeat the command with --after {content['next']}")
