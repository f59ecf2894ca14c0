"""Ask a person before something that cannot be taken back.

On a terminal the person is asked, and `n` or Ctrl-D ends the command with exit code 1. Without one (a script, cron, --json)
nobody can answer: there, typing the command is the consent.
"""

from __future__ import annotations

import sys

import click

from cli.app import App
from cli.outcome import DECLINED_HINT, Declined


def can_ask(app: App) -> bool:
    """Whether somebody sits at a terminal and reads what is printed."""
    return not app.json and sys.stdin.isatty()


def require_consent(app: App, question: str, *, yes: bool = False, hint: str = DECLINED_HINT) -> None:
    """Ask `question` where somebody can answer; `yes` says that the answer was typed with the command.

    `hint` says what to do after a no.

    Raises:
        Declined: the answer is no, or none (Ctrl-D).
    """
    if yes or not can_ask(app):
        return
    if not _is_answered_yes(question):
        raise Declined(hint)


def _is_answered_yes(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort as abort:
        # Click ends both ways alike; Ctrl-C goes on to end the command as it does everywhere.
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise
        click.echo(err=True)
        return False
