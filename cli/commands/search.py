"""`labmesh search`: records by their words."""

from __future__ import annotations

import click

from cli.app import App, node_command, pass_app
from cli.paging import Page, page_options, print_page
from cli.texts import TEXT


@node_command()
@click.argument("text", type=TEXT)
@page_options
@pass_app
def command(app: App, text: str, page: Page) -> None:
    """Find records by words, standard numbers or Chinese text.

    Every word of TEXT must be found. Hits come best first.
    """
    from cli.views import page_document

    with app.node as node:
        answer = node.search_records(text, kind=page.kind, author=page.author, page_size=page.limit, page_token=page.after)
    print_page(app, page_document(answer.records, answer.next_page_token))
