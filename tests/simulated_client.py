"""What a member of a simulated alliance says to another, and what an attacker makes of it.

It goes through the real `LogStream` and the wire's messages, and on its way through `Tampering`: replace one function there
and the peer is an attacker. So an attack is one line, and everything else stays honest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labmesh.v1 import peer_pb2
from node.clock import milliseconds
from node.core.entry import LogPage
from node.errors import LabmeshError, PeerFaultError, PeerUnreachableError
from node.rpc.convert import message_from_wire
from node.rpc.log_stream import LogStream
from node.sync.peer import Exchange

if TYPE_CHECKING:
    from tests.alliance import SimulatedAlliance

Message = bytes | LogPage


def _same(value: Any) -> Any:
    return value


@dataclass(slots=True)
class Tampering:
    """What is done to every answer of a peer before the follower sees it; nothing, unless a test replaces one."""

    announcement: Callable[[bytes], bytes] = _same
    page: Callable[[LogPage], LogPage] = _same
    stream: Callable[[Sequence[Message]], Iterable[Message]] = _same
    reader: Callable[[str], str] = _same
    exchange: Callable[[Exchange], Exchange] = _same
    rosters: Callable[[list[bytes]], list[bytes]] = _same
    cards: Callable[[list[bytes]], list[bytes]] = _same


@dataclass(frozen=True, slots=True)
class ReadCall:
    """One call of ReadLog."""

    reader: str
    author: str
    start: int
    after: int
    entries_max: int


class SimulatedPeerClient:
    """A connection from one member to another, in the same process; implements `node.sync.peer.PeerClient`."""

    def __init__(self, alliance: SimulatedAlliance, caller: str, server: str) -> None:
        """Connect `caller` to `server`."""
        self._alliance, self._caller, self._server = alliance, caller, alliance[server]

    async def get_roster(self, version: int, held_cards: Mapping[str, int]) -> tuple[list[bytes], list[bytes]]:
        """As PeerService.GetRoster."""
        self._reach()
        rosters, cards = self._server.membership.newer_than(version, held_cards)
        return self._tampering.rosters(rosters), self._tampering.cards(cards)

    async def exchange_checkpoints(
        self,
        *,
        digest: bytes,
        notes: Sequence[bytes],
        roster_version: int,
        cards_digest: bytes,
        rosters: Sequence[bytes] = (),
        card: bytes = b"",
        evidence_ids: Sequence[str] = (),
    ) -> Exchange:
        """As PeerService.ExchangeCheckpoints."""
        self._reach()
        server = self._server
        update = server.membership.accept_update(rosters, [card] if card else [], teller=self._caller)
        server.evidence.accept_conflicts(update.conflicts)
        held = server.exchange.held_notes()
        own = server.exchange.digest(held)
        if notes:
            server.splits += server.exchange.accept_notes(notes, peer=self._caller, version=roster_version)[1]
        server.evidence.note_held(self._caller, evidence_ids)
        answer = Exchange(
            digest=own,
            notes=held if own != digest and not notes else [],
            roster_version=server.membership.joined.roster.version,
            cards_digest=server.membership.cards_digest(),
            caller_note=server.exchange.note_for(self._caller),
            time_ms=milliseconds(server.clock()),
            roster_hash=bytes.fromhex(server.membership.joined.fingerprint),
            evidence=[raw for _, raw in server.evidence.untold(self._caller)],
            evidence_ids=server.evidence.known_ids(self._caller),
        )
        return self._tampering.exchange(answer)

    async def report_evidence(self, evidence: bytes) -> bool:
        """As PeerService.ReportEvidence."""
        self._reach()
        self._alliance.reported.append((self._caller, self._server.name))
        try:
            return self._server.evidence.accept(evidence, peer=self._caller)
        except LabmeshError as error:
            raise _fault(error) from error

    async def read_log(
        self, origin: str, *, start: int, after: int, follow: bool, entries_max: int
    ) -> AsyncIterator[Message]:
        """As PeerService.ReadLog."""
        self._reach()
        server, tampering = self._server, self._tampering
        self._alliance.reads.append(ReadCall(self._caller, server.name, start, after, entries_max))
        request = peer_pb2.ReadLogRequest(origin=origin, start=start, after=after, follow=follow, entries_max=entries_max)
        stream = LogStream(server.store, request, reader=tampering.reader(self._caller), ceiling=server.ceiling)
        while True:
            assert server.heads is not None, "use SimulatedAlliance.run"
            generation = server.heads.generation
            messages = [message_from_wire(message) for message in _as_answered(stream.advance)]
            for message in tampering.stream(messages):
                self._reach()
                yield tampering.page(message) if isinstance(message, LogPage) else tampering.announcement(message)
            if not messages:
                if not follow:
                    return
                await server.heads.wait_beyond(generation)

    async def acknowledge_erasures(self, origin: str, indexes: Sequence[int]) -> list[int]:
        """As PeerService.AcknowledgeErasure."""
        self._reach()
        server = self._server
        return server.disclosure.accept_acknowledgement(
            origin, indexes, member=self._caller, now_ms=milliseconds(server.clock())
        )

    async def close(self) -> None:
        """Count the connections that were given up."""
        self._alliance.closed += 1

    @property
    def _tampering(self) -> Tampering:
        return self._alliance.tampering

    def _reach(self) -> None:
        if self._server.name in self._alliance.unreachable:
            raise PeerUnreachableError(f"{self._server.name} cannot be reached: it is switched off")


def _as_answered(call: Callable[[], list[peer_pb2.ReadLogResponse]]) -> list[peer_pb2.ReadLogResponse]:
    """A refusal of the served node, as the caller of a real one gets it."""
    try:
        return call()
    except LabmeshError as error:
        raise _fault(error) from error


def _fault(error: LabmeshError) -> PeerFaultError:
    fault = PeerFaultError(error.message)
    fault.reason = error.reason  # as `node.rpc.faults.error_of_peer` takes it from the answer
    return fault
