"""A member that signs two histories, and what the others hold of it: stores filled through the real `PullSession`."""

from __future__ import annotations

from collections.abc import Sequence

from node.core.checkpoint import SignedCheckpoint
from node.core.entry import LogPage
from node.sync.peer import PeerState
from node.sync.pull import PullSession
from tests.alliance import SimulatedAlliance
from tests.builders import MemoryLog


def show(alliance: SimulatedAlliance, reader: str, log: MemoryLog, size: int | None = None) -> None:
    """Let a member verify a log in memory, up to a size, as a follower does."""
    signed = log.checkpoint(size)
    session = open_session(alliance, reader, log.lab.member)
    held = session.log.staged.size
    session.apply(bytes(signed))
    for page in _pages(log, held, signed.size):
        session.apply(page)


def announce(alliance: SimulatedAlliance, reader: str, author: str, signed: SignedCheckpoint) -> None:
    """Announce a checkpoint on a connection that then breaks."""
    open_session(alliance, reader, author).apply(bytes(signed))


def open_session(alliance: SimulatedAlliance, reader: str, author: str) -> PullSession:
    """A connection of its own."""
    card = alliance[reader].membership.joined.card(author)
    log = alliance[reader].store.logs.open_log(card.origin, author)
    return PullSession(alliance.parts(reader), log, card, PeerState(author))


def contact(alliance: SimulatedAlliance, caller: str, server: str) -> None:
    """One contact, from its beginning to its end."""
    from node.sync.follower import Follower

    async def work() -> None:
        follower = Follower(alliance.parts(caller), server, PeerState(server))
        client = alliance.client(caller, server)
        await follower._contact(client)

    alliance.run(work)


def holders(alliance: SimulatedAlliance, accused: str) -> list[str]:
    """The members that hold standing proof that somebody signed two histories."""
    return [name for name, member in alliance.members.items() if member.evidence.split_view_of(accused)]


def _pages(log: MemoryLog, start: int, stop: int) -> Sequence[LogPage]:
    return [log.page(low, min(stop, low + 1000)) for low in range(start, stop, 1000)]
