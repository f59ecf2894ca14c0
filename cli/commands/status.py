"""`labmesh status`: the state of this node."""

from __future__ import annotations

from typing import Any

from cli.app import App, node_command, pass_app
from cli.output import print_document, print_lines, print_table
from cli.status import status_document
from cli.texts import count_entries, format_fingerprint

_STATES = {
    "unconfirmed": "waits for peers to tell what they hold of its log; takes pushes; signs, cosigns, publishes nothing new",
    "recovering": "peers hold more of its log than this home: takes that back first; takes pushes, publishes nothing new",
    "ready": "serves",
    "degraded": "needs a person, see the alarms",
}
_ALONE = "serves, but is not in an alliance yet: it takes records, and exchanges none"


@node_command()
@pass_app
def command(app: App) -> None:
    """Show the state of this node."""
    with app.node as node:
        content = status_document(node.get_status())
    if app.json:
        print_document(content)
        return
    alone = content["state"] == "ready" and not content["fingerprint"]
    state = _ALONE if alone else _STATES.get(content["state"], "unknown to this version")
    print_lines(
        f"{content['member']} in {content['alliance']}, Labmesh {content['version']}",
        f"state        {content['state']}: {state}",
    )
    if content["fingerprint"]:
        print_lines(
            f"roster       version {content['roster_version']}, fingerprint {format_fingerprint(content['fingerprint'])}"
        )
    else:
        print_lines(app.complete("roster       none yet; type: labmesh roster create --title …   or: labmesh join FILE"))
    print_lines(
        f"own log      {count_entries(content['size'])}, root {content['root']}", f"records      {_records(content)}"
    )
    if remote := content["remote"]:
        print_lines(
            f"remote       port {remote['port']} for {remote['clients']} clients, as {', '.join(remote['names'])}; "
            f"certificate until {remote['certificate_expires'][:10]}"
        )
    if content["lost_seen"]:
        print_lines(
            app.complete(
                f"lost         {count_entries(content['lost_seen'])} of the own log that nobody can open; a person has "
                "seen that: labmesh list --lost"
            )
        )
    for alarm in content["alarms"]:
        print_lines(f"alarm        {app.complete(alarm)}")
    if content["peers"]:
        print_lines("")
        print_table(
            ["peer", "state", "verified", "behind", "last contact", "error"],
            (
                [peer["member"], peer["state"], peer["verified"], peer["behind"], peer["last_contact"], peer["error"]]
                for peer in content["peers"]
            ),
        )


def _records(content: dict[str, Any]) -> str:
    if content["kinds"]:
        return f"not told to a client for {', '.join(content['kinds'])}; nor are alarms, and counts of peers"
    backlog = f"; {content['index_backlog']:,} entries wait for the search index" if content["index_backlog"] else ""
    return f"{content['records']:,} readable here{backlog}"
