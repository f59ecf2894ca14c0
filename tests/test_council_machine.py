"""A council of two to five homes that sign and withdraw in any order, and pass files around in any order.

They keep their word: who withdraws a roster has seen to it that no copy is left. Whatever else happens, of each version at
most one roster can be complete, though every signature of which there is a copy is put together; no evidence against anybody
can be made of them; and from every state in which all are willing there is a way on.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from node.core.alliance import Alliance, format_roster
from node.core.amendment import Amendment, Renew, SeatCouncil, SetThreshold
from node.core.card import CARD_TYPE
from node.core.conflict import find_roster_conflict
from node.core.dsse import Envelope, format_envelope
from node.core.evidence import build_conflicts
from node.core.proposal import Proposal, parse_proposal
from node.core.roster import Roster, parse_roster
from node.errors import GovernanceError
from node.membership import IdentityKey, Membership
from node.store import open_store
from tests.alliance import TurnedClock
from tests.builders import build_card, build_labs, build_roster_chain, sign_card
from tests.new_stores import new_store

LABS = build_labs(5)


class Council(RuleBasedStateMachine):
    """Real homes with real stores, and every file that any of them has written and nobody has deleted."""

    @initialize(seats=st.integers(2, 5), data=st.data())
    def found(self, seats: int, data: st.DataObject) -> None:
        """Version 2 seats them all, with any threshold that fits."""
        self.folder, self.clock = Path(mkdtemp(prefix="council")), TurnedClock()
        self.labs = LABS[:seats]
        threshold = data.draw(st.integers(seats // 2 + 1, seats))
        chain = build_roster_chain(self.labs, threshold=threshold)
        cards = [sign_card(build_card(lab), lab) for lab in self.labs]
        self.stores = []
        for lab, card in zip(self.labs, cards, strict=True):
            store = new_store(self.folder / lab.member)
            store.membership.save_identity(lab.member, lab.alliance, created_ms=0)
            store.membership.save_card(lab.member, 1, card, CARD_TYPE)
            self.stores.append(store)
        self.homes = [self.opened(i) for i in range(seats)]
        for home in self.homes:
            home.import_alliance(chain, cards, fingerprint=None)
        self.files: list[bytes] = []
        self.signed: dict[tuple[int, str], set[bytes]] = defaultdict(set)
        """Every signature that has left a home and was not deleted, by version and hash."""
        self.rosters: dict[tuple[int, str], tuple[Envelope, Roster]] = {}
        self.alliances: dict[int, Alliance] = {2: self.homes[0].joined}

    @rule(data=st.data())
    def propose(self, data: st.DataObject) -> None:
        """Any home, any change that also may concern the council."""
        self.clock.turn(1)
        home = data.draw(st.sampled_from(self.homes))
        seats = data.draw(st.lists(st.sampled_from(home.joined.active_members()), min_size=1, unique=True))
        threshold = data.draw(st.integers(len(seats) // 2 + 1, len(seats)))
        council = len(home.joined.roster.council)
        changes: list[Amendment] = [Renew(), SeatCouncil(tuple(seats), threshold), SetThreshold(council)]
        self.attempt(lambda: home.amend(data.draw(st.sampled_from(changes))).proposal)

    @rule(data=st.data())
    def sign(self, data: st.DataObject) -> None:
        """Any home, any file that is left."""
        if self.files:
            home, file = data.draw(st.sampled_from(self.homes)), data.draw(st.sampled_from(self.files))
            self.attempt(lambda: home.sign_proposal(file).proposal)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """Any change of which a home waits, unless it is in force somewhere."""
        if self.files:
            self.give_up(self.named(data.draw(st.sampled_from(self.files))))

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A home begins again from its disk."""
        i = data.draw(st.integers(0, len(self.homes) - 1))
        self.stores[i].close()
        self.stores[i] = open_store(self.folder / self.labs[i].member)
        self.homes[i] = self.opened(i)

    @rule(data=st.data())
    def meet(self, data: st.DataObject) -> None:
        """A home takes what another holds."""
        self.tell(data.draw(st.sampled_from(self.homes)), data.draw(st.sampled_from(self.homes)))

    @invariant()
    def one_roster_a_version(self) -> None:
        """All signatures together complete one roster of a version at most, and no two of them are evidence."""
        complete: dict[int, bytes] = {}
        everything = {name: self.with_all_signatures(name) for name in self.rosters}
        for (version, _), raw in everything.items():
            try:
                after = self.alliances[version - 1].accept_roster(raw)
            except GovernanceError:
                continue
            assert version not in complete
            complete[version] = raw
            self.alliances.setdefault(version, after)
        for (version, _), raw in everything.items():
            if version in complete and raw != complete[version]:
                assert find_roster_conflict(self.alliances[version], raw) is None
        for one, other in combinations(everything, 2):
            if one[0] == other[0]:
                pair = [everything[one], everything[other]]
                assert build_conflicts(self.alliances[max(self.alliances)], pair) == []

    def teardown(self) -> None:
        """All become willing."""
        if hasattr(self, "homes"):
            try:
                self.go_on()
            finally:
                for store in self.stores:
                    store.close()
                shutil.rmtree(self.folder)

    def go_on(self) -> None:
        """Everyone meets; what can be completed is; else every proposal is withdrawn, and a new one is signed by all."""
        for _ in range(2):
            for one in self.homes:
                for other in self.homes:
                    self.tell(one, other)
        version = self.homes[0].joined.roster.version
        assert {home.joined.roster.version for home in self.homes} == {version}
        latest = {name: file for file in self.files if (name := self.named(file))[0] == version + 1}
        for file in latest.values():
            file = self.passed_on(file)
            if any(home.joined.roster.version > version for home in self.homes):
                return  # all signatures were there, in different copies
            self.give_up(self.named(file))
        self.clock.turn(1)
        first = next(home for home in self.homes if home.member in home.joined.council_members())
        file = first.amend(Renew()).proposal
        for home in self.homes:
            file = self.signed_by(home, file)
        assert max(home.joined.roster.version for home in self.homes) == version + 1

    def with_all_signatures(self, name: tuple[int, str]) -> bytes:
        """The roster with every signature that has left a home."""
        return format_envelope(replace(self.rosters[name][0], signatures=tuple(sorted(self.signed[name]))))

    def passed_on(self, file: bytes) -> bytes:
        """The file after everyone who has signed it has signed this copy, too."""
        name = self.named(file)
        for i, home in enumerate(self.homes):
            held = self.stores[i].membership.load_signed(name[0])
            if held is not None and held.hash == name[1]:
                file = self.signed_by(home, file)
        return file

    def signed_by(self, home: Membership, file: bytes) -> bytes:
        """The file with the home's signature, or as it was."""
        return self.attempt(lambda: home.sign_proposal(file).proposal) or file

    def give_up(self, name: tuple[int, str]) -> None:
        """Every copy is deleted, and all who signed it withdraw it; not where it is in force already."""
        if any(name == (roster.version, envelope.hash) for home in self.homes for envelope, roster in home.joined.rosters):
            return
        self.files = [file for file in self.files if self.named(file) != name]
        del self.rosters[name], self.signed[name]
        for i, home in enumerate(self.homes):
            signed = self.stores[i].membership.load_signed(name[0])
            if signed is not None and signed.hash == name[1] and home.joined.roster.version < name[0]:
                assert home.withdraw_proposal(name[1]) == name[0]

    def attempt(self, act: Callable[[], bytes]) -> bytes | None:
        """Do it, unless it is refused in words; remember the file that comes of it."""
        try:
            raw = act()
        except GovernanceError as error:
            assert error.message
            return None
        self.remember(parse_proposal(raw))
        self.files.append(raw)
        return raw

    def remember(self, proposal: Proposal) -> None:
        """Collect every signature."""
        envelope, roster = parse_roster(proposal.roster)
        name = (roster.version, envelope.hash)
        self.rosters[name] = (envelope, roster)
        self.signed[name].update(envelope.signatures)

    def named(self, file: bytes) -> tuple[int, str]:
        """Version and hash."""
        envelope, roster = parse_roster(parse_proposal(file).roster)
        return roster.version, envelope.hash

    def tell(self, to: Membership, source: Membership) -> None:
        """What a contact brings; honest homes tell nothing that is refused."""
        update = to.accept_update([format_roster(signed) for signed in source.joined.rosters], [])
        assert (update.faults, update.conflicts) == ((), ())

    def opened(self, i: int) -> Membership:
        """The home as it is on the disk."""
        lab = self.labs[i]
        return Membership(self.stores[i].membership, identity=IdentityKey(lab.identity_key, lab.sign), clock=self.clock)


Council.TestCase.settings = settings(max_examples=12, stateful_step_count=20, deadline=None, database=None)
TestCouncil = Council.TestCase
