"""An honest history never makes evidence, whatever the network does: nobody is ever accused in any of these runs."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from labmesh.v1 import peer_pb2
from node.core.alliance import format_card
from node.core.card import FormerLogKey
from node.core.checkpoint import Checkpoint, parse_checkpoint
from node.core.keys import Signer
from node.errors import PeerFaultError
from node.rpc.convert import message_from_wire
from node.rpc.log_stream import LogStream
from node.sync.peer import PeerState
from node.sync.pull import PullSession
from tests.alliance import SimulatedAlliance, drafts, examples
from tests.builders import Lab, sign_card

MEMBERS = ("jinan", "qingdao", "yantai")
members = st.sampled_from(MEMBERS)


@dataclass(frozen=True, slots=True)
class RotatedLab(Lab):
    """A laboratory with another log key."""

    signer: Signer = field(kw_only=True)

    @property
    def log(self) -> Signer:
        """Signer of checkpoints."""
        return self.signer


class HonestHistories(RuleBasedStateMachine):
    """Appends, broken connections, restarts, key rotations, notes that come late, twice and in another order."""

    notes: Bundle[list[bytes]] = Bundle("notes")

    @initialize()
    def found(self) -> None:
        """Three members."""
        self.folder = Path(tempfile.mkdtemp(prefix="c-honest-"))
        self.alliance = SimulatedAlliance(self.folder)
        self.pushed, self.rotations = 0, 0

    def teardown(self) -> None:
        """In the end everybody reaches everybody's newest checkpoint, so the runs did mean something."""
        if not hasattr(self, "alliance"):
            return
        try:
            for _ in range(2):
                for caller in MEMBERS:
                    for server in MEMBERS:
                        if caller != server:
                            self._tell_cards(server, caller)
                            self._pull(caller, server, 10**6)
                            self._exchange(caller, server)
            for author in MEMBERS:
                size = self._own(author).size
                held = [self.alliance[name].store.logs.find_log(self._own(author).origin) for name in MEMBERS]
                assert [log.signed_size if log else 0 for log in held] == [size] * len(MEMBERS)
            self.nobody_is_accused()
        finally:
            self.alliance.close()
            shutil.rmtree(self.folder)

    @rule(author=members, count=st.integers(1, 40))
    def push(self, author: str, count: int) -> None:
        """Append, and sign."""
        self.pushed += 1
        self.alliance[author].push(*drafts(count, f"P{self.pushed}"))

    @rule(reader=members, author=members, messages=st.integers(1, 4))
    def pull(self, reader: str, author: str, messages: int) -> None:
        """Read until the line breaks."""
        if reader != author:
            self._pull(reader, author, messages)

    @rule(caller=members, server=members)
    def exchange(self, caller: str, server: str) -> None:
        """Tell each other what is held."""
        if caller != server:
            self._exchange(caller, server)

    @rule(target=notes, teller=members)
    def send(self, teller: str) -> list[bytes]:
        """Tell something that is long under way."""
        return self.alliance[teller].exchange.held_notes()

    @rule(told=notes, hearer=members)
    def arrive(self, told: list[bytes], hearer: str) -> None:
        """It arrives, at anybody, as often as it likes."""
        self._hear(hearer, told)

    @rule(told=consumes(notes))
    def lose(self, told: list[bytes]) -> None:
        """It never arrives."""

    @rule(name=members)
    def restart(self, name: str) -> None:
        """Begin again from what is on disk."""
        self.alliance[name].reopen()
        self.alliance[name].confirm()

    @rule(name=members)
    def rotate(self, name: str) -> None:
        """Another log key from the next entry on."""
        member, own = self.alliance[name], self._own(name)
        envelope, card = member.membership.own_card
        self.rotations += 1
        former = FormerLogKey(card.log_key, own.size, own.root)
        signer = Lab(name, generation=self.rotations + 1).log
        successor = replace(
            card,
            log_key=signer.key,
            former_log_keys=(*card.former_log_keys, former),
            seq=card.seq + 1,
            previous=envelope.hash,
        )
        update = member.membership.accept_update([], [sign_card(successor, member.lab)])
        assert update.changed, update.faults
        member.lab = RotatedLab(name, signer=signer)
        self.restart(name)

    @rule(teller=members, hearer=members)
    def tell_cards(self, teller: str, hearer: str) -> None:
        """Cards spread when they spread."""
        self._tell_cards(teller, hearer)

    @invariant()
    def nobody_is_accused(self) -> None:
        """The point."""
        for member in self.alliance.members.values():
            assert member.evidence.pieces() == ()
            assert member.splits == []
            assert member.evidence.alarms() == []

    def _own(self, name: str) -> Checkpoint:
        return self.alliance[name].ledger.checkpoint

    def _exchange(self, caller: str, server: str) -> None:
        first, second = self.alliance[caller], self.alliance[server]
        told = first.exchange.held_notes(), second.exchange.held_notes()
        self._hear(caller, told[1])
        self._hear(server, told[0])

    def _hear(self, hearer: str, told: list[bytes]) -> None:
        _, splits = self.alliance[hearer].exchange.accept_notes(told, peer="jinan")
        assert splits == [], [parse_checkpoint(note).checkpoint for note in told]

    def _tell_cards(self, teller: str, hearer: str) -> None:
        cards = [format_card(signed) for signed in self.alliance[teller].membership.joined.cards.values()]
        update = self.alliance[hearer].membership.accept_update([], cards)
        assert update.conflicts == ()

    def _pull(self, reader: str, author: str, messages: int) -> None:
        server, client = self.alliance[author], self.alliance[reader]
        card = client.membership.joined.card(author)
        log = client.store.logs.open_log(card.origin, author)
        session = PullSession(self.alliance.parts(reader), log, card, PeerState(author))
        request = peer_pb2.ReadLogRequest(origin=card.origin, start=log.staged.size, follow=False, entries_max=10**6)
        stream = LogStream(server.store, request, reader=reader, ceiling=server.ceiling)
        with suppress(PeerFaultError):  # a key that this reader has not heard of yet: no more than that
            while messages > 0 and (answers := stream.advance()):
                for answer in answers[:messages]:
                    session.apply(message_from_wire(answer))
                messages -= len(answers)


TestHonestHistories = HonestHistories.TestCase
TestHonestHistories.settings = examples(12)
