"""`labmesh list`: the newest revisions."""

from __future__ import annotations

from cli.app import App, node_command, pass_app
from cli.paging import Page, page_options, print_page


@node_command()
@page_options
@pass_app
def command(app: App, page: Page) -> None:
    """List the newest revisions of records."""
    from cli.views import page_document

    with app.node as node:
        answer = node.list_records(kind=page.kind, author=page.author, page_size=page.limit, page_token=page.after)
    print_page(app, page_document(answer.records, answer.next_page_token))
