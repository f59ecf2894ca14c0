"""Where the roster ends or settles a member's log: whether this node holds that very history."""

from __future__ import annotations

from collections.abc import Iterator

from node.core.alliance import Alliance
from node.core.names import log_origin
from node.store import Store


def find_other_histories(store: Store, alliance: Alliance, *, own: str = "") -> Iterator[str]:
    """One sentence for each log of which this node has verified another history than the roster's `head` names.

    That of an active member other than the own is forgotten instead, and fetched again (`node.sync.exchange`).
    """
    for member, entry in sorted(alliance.roster.members.items()):
        if entry.status == "active" and member != own:
            continue
        log = None if entry.head is None else store.logs.find_log(log_origin(alliance.name, member))
        if entry.head is None or log is None or log.signed_size < entry.head.size:
            continue
        if store.logs.tree(log.id).root(entry.head.size) != entry.head.root:
            yield (
                f"the roster says that the log of {member} has another root at size {entry.head.size} than the log verified "
                f"here: {member} showed two histories, and what is held here may not count; ask the council"
            )
