"""Where a removal ends a member's log: what is verified here, but never short of the history that the council has named."""

from __future__ import annotations

from node.core.alliance import Alliance
from node.core.keys import format_base64
from node.core.names import log_origin
from node.core.roster import Head
from node.store import Store


def choose_end(store: Store, alliance: Alliance, member: str, size: int | None) -> Head:
    """The head that a removal of `member` gives its log: its first `size` entries, or all that are verified here.

    Where the roster names the surviving history of the log already, and this node does not hold it to the end, it is the
    head that the roster names: what is verified here is less of it, or the other history.

    Raises:
        NotFoundError: fewer than `size` entries are verified here.
    """
    line = alliance.roster.members.get(member)
    named = None if line is None else line.head
    if named is None:
        return store.logs.head_of(member, size)
    if size == named.size:
        return named
    if size is None and not _contains(store, alliance, member, store.logs.head_of(member), named):
        return named
    return store.logs.head_of(member, size)


def find_other_history(store: Store, alliance: Alliance, member: str, head: Head) -> str | None:
    """Why a log may not end at `head`, in words: as held here, that is not of the history that the roster names.

    Only a node that has verified the log up to `head` can tell, and, where it holds the other history, only of that; None
    otherwise.
    """
    line = alliance.roster.members[member]
    log = store.logs.find_log(log_origin(alliance.name, member))
    if line.head is None or log is None or not line.head.size <= head.size <= log.signed_size:
        return None
    tree = store.logs.tree(log.id)
    ours, survives = (tree.root(at.size) == at.root for at in (head, line.head))
    if ours == survives:
        return None
    return (
        f"the log of {member} would end at size {head.size} with another history than the one that the roster names up to "
        f"size {line.head.size}"
    )


def find_other_root(store: Store, alliance: Alliance, member: str, head: Head) -> str | None:
    """What this node has verified at `head`, in words, where that is another root.

    Only a node that has verified the log up to `head` can tell, unless it holds a history that the roster has given up; None
    otherwise.
    """
    named = alliance.roster.members[member].head
    log = store.logs.find_log(log_origin(alliance.name, member))
    if log is None or head.size > log.signed_size or (named and not _contains(store, alliance, member, head, named)):
        return None
    root = store.logs.tree(log.id).root(head.size)
    if root == head.root:
        return None
    return (
        f"the roster would name the root {format_base64(head.root)} at size {head.size} of the log of {member}, but this "
        f"node has verified {format_base64(root)} there"
    )


def _contains(store: Store, alliance: Alliance, member: str, verified: Head, named: Head) -> bool:
    log = store.logs.find_log(log_origin(alliance.name, member))
    return log is not None and verified.size >= named.size and store.logs.tree(log.id).root(named.size) == named.root
