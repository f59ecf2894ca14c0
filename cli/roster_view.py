"""The newest roster, as JSON and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.output import print_lines, print_table
from cli.texts import format_fingerprint

if TYPE_CHECKING:
    from node.core.alliance import Alliance
    from node.core.roster import Head


def print_roster(alliance: Alliance) -> None:
    """Print the roster for a person."""
    content = roster_document(alliance)
    print_lines(
        f"{content['title']} ({content['alliance']}), version {content['version']}",
        f"fingerprint {format_fingerprint(content['fingerprint'])}",
        f"issued {content['issued']}, expires {content['expires']}",
        f"council {', '.join(content['council'])}; a change needs {content['threshold']} of {len(content['council'])}",
        f"quorum {content['quorum']}: so many other members must have cosigned",
        "",
    )
    print_table(
        ["member", "name", "region", "status", "joined", "left", "log ends at", "endpoints"],
        (
            (
                member["member"],
                member.get("name"),
                member.get("region"),
                member["status"],
                member["joined"][:10],
                (member["left"] or "")[:10],
                "" if member["head"] is None else member["head"]["size"],
                " ".join(member.get("endpoints", [])),
            )
            for member in content["members"]
        ),
    )


def roster_document(alliance: Alliance) -> dict[str, Any]:
    """The roster as `labmesh roster show --json` prints it."""
    from node.core.keys import format_base64
    from node.core.times import format_seconds

    roster = alliance.roster
    holders = {member.identity_key: name for name, member in roster.members.items()}
    members = []
    for name, member in sorted(roster.members.items()):
        line: dict[str, Any] = {"member": name}
        if name in alliance.cards:
            card = alliance.card(name)
            line |= {"name": card.name, "region": card.region, "endpoints": list(card.endpoints)}
        line["status"] = member.status
        line["joined"] = format_seconds(member.joined)
        line["left"] = None if member.left is None else format_seconds(member.left)
        line["head"] = _head_document(member.head)
        members.append(line)
    return {
        "alliance": alliance.name,
        "title": roster.title,
        "version": roster.version,
        "fingerprint": alliance.fingerprint,
        "issued": format_seconds(roster.issued),
        "expires": format_seconds(roster.expires),
        "threshold": roster.threshold,
        "quorum": roster.quorum,
        "council": [holders.get(key) or format_base64(key) for key in roster.council],
        "members": members,
    }


def _head_document(head: Head | None) -> dict[str, Any] | None:
    from node.core.keys import format_base64

    return None if head is None else {"size": head.size, "root": format_base64(head.root)}
