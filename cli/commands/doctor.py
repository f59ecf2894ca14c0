"""`labmesh doctor`: what is wrong, and what to type."""

from __future__ import annotations

import click

from cli.app import App, node_command, pass_app
from cli.outcome import REFUSED
from cli.output import print_document, print_lines
from cli.texts import count


@node_command()
@pass_app
def command(app: App) -> None:
    """Say what is wrong with this node, and what to type.

    Looks at the home, and asks its node and, through it, the peers. Changes nothing. Works when the node is down, too.
    """
    from cli.doctor import examine
    from cli.examination import collect_facts

    report = examine(collect_facts(app))
    if app.json:
        print_document(report.document())
    else:
        for finding in report.findings:
            print_lines(f"{finding.level:8} {finding.check:12} {app.complete(finding.message)}")
            if finding.hint and finding.level != "ok":
                print_lines(f"{'':21} {app.complete(finding.hint)}")
        errors = sum(finding.level == "error" for finding in report.findings)
        warnings = sum(finding.level == "warning" for finding in report.findings)
        print_lines("", f"{count(errors, 'error')}, {count(warnings, 'warning')}")
    if not report.ok:
        raise click.exceptions.Exit(REFUSED)
