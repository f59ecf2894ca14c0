"""`labmesh confirm`: a person's word, that the log may be published, or that what is lost is seen."""

from __future__ import annotations

import click

from cli.app import App, node_command, pass_app
from cli.consent import require_consent
from cli.output import print_document, print_lines, print_note
from cli.texts import count_entries


@node_command()
@click.option("--lost", is_flag=True, help="Say that you have seen what list --lost shows: it needs no alarm any more.")
@pass_app
def command(app: App, lost: bool) -> None:
    """Publish although too few peers have answered; with --lost, end the alarm of lost entries.

    After each start a node waits until some peers have told what they hold of its log. Do this only when you know that
    the home was not restored from a backup: if it was, other members may hold entries that this node has lost, and it
    would then sign a second history. That is provable misconduct, and cannot be taken back. It also cosigns the logs of
    others again, of which it may have cosigned more than it knows.

    With --lost nothing is published. The entries stay in list --lost and are counted by status, a peer may still give them
    back, and further ones raise the alarm again.
    """
    if lost:
        _confirm_lost(app)
        return
    with app.node as node:
        if not node.get_status().confirmed:
            print_note(
                "If this home is older than what was published before, its log will have two histories, and any member "
                "can prove it."
            )
            require_consent(app, "Publish all the same?")
        answer = node.confirm_log()
    if app.json:
        print_document({"size": answer.size, "waiting": answer.waiting})
    else:
        print_lines(f"Published up to entry {answer.size}.")
    if answer.waiting:
        print_note(app.complete(f"{answer.waiting} more are stored and not published: {answer.waits_for}"))


def _confirm_lost(app: App) -> None:
    with app.node as node:
        status = node.get_status()
        if status.lost > status.lost_seen:
            away = [peer.member for peer in status.peers if peer.state != "connected"]
            if away:
                print_note(f"{', '.join(away)} may still give entries back, but {_are(away)} not connected now.")
            noun = count_entries(status.lost)
            question = f"{'Is' if status.lost == 1 else 'Are'} the {noun} of labmesh list --lost pushed again, or given up?"
            require_consent(app, app.complete(question))
        total = node.confirm_lost(status.lost)
    if app.json:
        print_document({"lost": total})
    elif total:
        noun = f"{count_entries(total, 'lost')} {'is' if total == 1 else 'are'} seen"
        seen = f"{noun}: no alarm tells of that any more. What is lost stays in: labmesh list --lost"
        print_lines(app.complete(seen))
    else:
        print_lines("No entry of the own log is lost.")


def _are(members: list[str]) -> str:
    return "is" if len(members) == 1 else "are"
