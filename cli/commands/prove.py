"""`labmesh prove`: a bundle."""

from __future__ import annotations

import shlex

import click

from cli.app import App, node_command, pass_app
from cli.files import FORCE_OPTION, OUTPUT_FILE, STDIN, display_name, require_place, write_output
from cli.outcome import UsageFault
from cli.output import print_document, print_lines
from cli.texts import TEXT, format_size


@node_command()
@click.argument("id", metavar="ID", type=TEXT)
@click.option("-o", "--output", metavar="FILE", required=True, type=OUTPUT_FILE, help="The file to write.")
@FORCE_OPTION
@pass_app
def command(app: App, id: str, output: str) -> None:
    """Write the bundle that proves one record offline.

    ID is a record's id, this member's or a peer's. The file holds the record itself: give it only to who may read it.
    """
    if output == STDIN:
        raise UsageFault("a bundle is a ZIP file and is not printed", hint="name a file: -o FILE.labmesh")
    require_place(output, replace=app.force)
    with app.node as node:
        raw = node.export_bundle(id)
    write_output(output, raw, replace=app.force)
    if app.json:
        print_document({"id": id, "file": display_name(output), "size": len(raw)})
        return
    name = shlex.quote(display_name(output))
    print_lines(
        f"{display_name(output)} proves {id}; it has {format_size(len(raw))}.",
        f"Who gets it types, on any machine: labmesh verify {name} --fingerprint HEX",
        "with the alliance's fingerprint from another source than this file (labmesh roster show prints it).",
    )
