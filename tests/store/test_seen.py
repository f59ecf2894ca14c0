"""What a quorum has seen stays seen: the quorum may grow, and a witness may leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.amendment import AddMembers, NameSurvivor, RemoveMember, SeatCouncil, SetQuorum
from node.core.card import FormerLogKey, FormerWitnessKey
from node.core.merkle import EMPTY_ROOT
from node.core.quorums import Quorum
from node.core.roster import Head
from node.daemon.thinning import Thinning
from node.disowning import find_unnamed, seen_size
from node.errors import GovernanceError, StoreError
from node.store.checkpoints import ThinningRule
from node.store.forgetting import cut_mirror, forget_mirror
from node.store.seen import SIGNATURE_CHARACTERS, load_mark, lower_mark, seen_sizes
from node.store.tables import CosignatureRow, table_of
from node.sync.revoked import forget_uncounted
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts, examples
from tests.builders import Lab, build_card, cosign, sign_card
from tests.rotating import RotatingAlliance
from tests.sync.equivocation import contact

COUNCIL, FIRST, SECOND, AUTHOR = "jinan", "qingdao", "yantai", "weifang"
SIZE = 5


def add_two(council: SimulatedMember) -> None:
    labs = [Lab(name, council.lab.alliance) for name in ("dezhou", "heze")]
    council.membership.amend(AddMembers(tuple(sign_card(build_card(lab), lab) for lab in labs)))


def ask_more(council: SimulatedMember) -> None:
    council.membership.amend(SetQuorum(3))


def remove_witness(council: SimulatedMember) -> None:
    council.membership.amend(RemoveMember(SECOND, Head(0, EMPTY_ROOT)))


CHANGES: list[Callable[[SimulatedMember], None]] = [add_two, ask_more, remove_witness]


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[RotatingAlliance]:
    """Five members, of whom two, the quorum, have cosigned the author's five entries."""
    made = RotatingAlliance(tmp_path, 5)
    simulated = made.simulated
    simulated[AUTHOR].push(*drafts(SIZE))
    for witness in (FIRST, SECOND):
        simulated.catch_up(witness, AUTHOR)
        assert simulated[witness].exchange.cosign_head(simulated[AUTHOR].ledger.origin)
    for one, other in ((AUTHOR, FIRST), (AUTHOR, SECOND), (FIRST, SECOND)):
        contact(simulated, one, other)
    assert simulated[FIRST].membership.joined.roster.quorum == 2
    yield made
    made.close()


def change(alliance: RotatingAlliance, make: Callable[[SimulatedMember], None]) -> None:
    make(alliance[COUNCIL].member)
    for name in (FIRST, AUTHOR):
        update = alliance[name].member.membership.accept_update(*alliance.simulated.exported(COUNCIL))
        assert update.changed and not update.faults


def seen(member: SimulatedMember) -> int:
    return seen_size(member.store, member.membership.joined, AUTHOR, member.mirror_of(AUTHOR))


def mark_of(member: SimulatedMember) -> int:
    with member.store.database.read() as connection:
        return load_mark(connection, member.mirror_of(AUTHOR).id)


@pytest.mark.parametrize("make", CHANGES)
def test_a_history_that_a_quorum_has_seen_is_not_rewritten(
    alliance: RotatingAlliance, make: Callable[[SimulatedMember], None]
) -> None:
    author, witness = alliance[AUTHOR].member, alliance[FIRST].member
    assert seen(witness) == SIZE and mark_of(witness) == 0
    change(alliance, make)
    assert seen(witness) == seen(author) == mark_of(witness) == SIZE
    envelope, card = author.membership.own_card
    former = (FormerLogKey(card.log_key, 0, EMPTY_ROOT),)
    log_key = replace(author.lab, generation=2).log.key
    raw = sign_card(
        replace(card, seq=card.seq + 1, previous=envelope.hash, log_key=log_key, former_log_keys=former), author.lab
    )
    (fault,) = witness.membership.accept_update([], [raw]).faults
    assert f"a quorum has cosigned what that key signed up to size {SIZE} ({FIRST}, {SECOND}), and no later card" in fault
    assert f"ask {AUTHOR} whether it has typed labmesh keys revoke log" in fault
    assert f"labmesh roster remove {AUTHOR}" in fault and f"labmesh roster rekey {AUTHOR} CARD" in fault
    forget_uncounted(witness.store, witness.exchange, witness.membership.joined.card(AUTHOR))
    assert witness.mirror_of(AUTHOR).head_size == SIZE


@pytest.mark.parametrize("make", CHANGES)
def test_the_author_itself_refuses_to_end_its_key_below(
    alliance: RotatingAlliance, make: Callable[[SimulatedMember], None]
) -> None:
    change(alliance, make)
    alliance[AUTHOR].member.confirmation.override()
    with pytest.raises(GovernanceError, match=f"cosigned the log up to size {SIZE}"):
        alliance[AUTHOR].rotation.revoke_log(SIZE - 1)


def away(folder: Path, *, days: float = 0) -> RotatingAlliance:
    """The same, but the author has heard of nothing since it pushed: the two witnesses have told each other.

    They cosign `days` after the council has asked for a larger quorum, of which they have not heard, if that is not 0.
    """
    made = RotatingAlliance(folder, 5)
    simulated = made.simulated
    simulated[AUTHOR].push(*drafts(SIZE)[:2])
    simulated[AUTHOR].push(*drafts(SIZE)[2:])
    if days:
        ask_more(simulated[COUNCIL])
        simulated.clock.turn(days * 86400)
    for witness in (FIRST, SECOND):
        simulated.catch_up(witness, AUTHOR)
        assert simulated[witness].exchange.cosign_head(simulated[AUTHOR].ledger.origin)
    contact(simulated, FIRST, SECOND)
    contact(simulated, SECOND, FIRST)
    return made


@pytest.mark.parametrize("make", [add_two, ask_more])
def test_an_author_that_hears_of_the_roster_first_knows_what_was_seen(
    tmp_path: Path, make: Callable[[SimulatedMember], None]
) -> None:
    """Else it ends its key at a size where the witnesses refuse the card for ever."""
    alliance = away(tmp_path)
    author, witness = alliance[AUTHOR].member, alliance[FIRST].member
    change(alliance, make)
    assert mark_of(author) == 0 and seen(witness) == mark_of(witness) == SIZE
    for name in (COUNCIL, FIRST, SECOND):
        contact(alliance.simulated, AUTHOR, name)
    assert mark_of(author) == 0 and seen(author) == SIZE
    author.confirmation.override()
    with pytest.raises(GovernanceError, match=f"a quorum of the other members has cosigned the log up to size {SIZE}"):
        alliance[AUTHOR].rotation.revoke_log(SIZE - 1)
    alliance.close()


@pytest.mark.parametrize("days", [30.9, 31.1])
def test_a_witness_that_has_not_heard_of_the_roster_counts_by_the_one_before_for_31_days(
    tmp_path: Path, days: float
) -> None:
    """And for all nodes alike, in whichever order the roster and the cosignatures come."""
    alliance = away(tmp_path, days=days)
    author, witness = alliance[AUTHOR].member, alliance[FIRST].member
    assert seen(witness) == SIZE, "by the only roster that it knows"
    for name in (FIRST, AUTHOR):
        alliance[name].member.membership.accept_update(*alliance.simulated.exported(COUNCIL))
    for name in (COUNCIL, FIRST, SECOND):
        contact(alliance.simulated, AUTHOR, name)
    expected = SIZE if days < 31 else 0
    assert seen(witness) == mark_of(witness) == seen(author) == expected
    alliance.close()


def propose_more(folder: Path, *, waits: float) -> tuple[RotatingAlliance, bytes]:
    """A larger quorum that a council of two has proposed, and cosignatures `waits` days later; then a day goes by."""
    made = RotatingAlliance(folder, 5)
    simulated, first = made.simulated, made[FIRST].member
    seated = simulated[COUNCIL].membership.amend(SeatCouncil((COUNCIL, FIRST), 2))
    assert first.membership.sign_proposal(seated.proposal).complete
    for name in (COUNCIL, SECOND, AUTHOR):
        assert made[name].member.membership.accept_update(*simulated.exported(FIRST)).changed
    waiting = simulated[COUNCIL].membership.amend(SetQuorum(3)).proposal
    simulated.clock.turn(waits * 86400)
    simulated[AUTHOR].push(*drafts(SIZE))
    for witness in (FIRST, SECOND):
        simulated.catch_up(witness, AUTHOR)
        assert simulated[witness].exchange.cosign_head(simulated[AUTHOR].ledger.origin)
    contact(simulated, SECOND, FIRST)
    assert seen(first) == SIZE
    simulated.clock.turn(86400)
    return made, waiting


def test_a_proposal_that_waits_for_a_signature_makes_nothing_unseen(tmp_path: Path) -> None:
    alliance, waiting = propose_more(tmp_path, waits=28.5)
    first = alliance[FIRST].member
    assert first.membership.sign_proposal(waiting).complete
    assert first.membership.joined.roster.quorum == 3
    assert seen(first) == mark_of(first) == SIZE
    alliance.close()


def test_one_that_has_waited_for_too_long_is_signed_by_nobody(tmp_path: Path) -> None:
    alliance, waiting = propose_more(tmp_path, waits=29.5)
    first = alliance[FIRST].member
    with pytest.raises(GovernanceError, match="more than 30 days old"):
        first.membership.sign_proposal(waiting)
    assert first.membership.open_proposal() is None and seen(first) == SIZE
    alliance.close()


def test_the_card_of_a_new_identity_key_must_vouch_for_it(alliance: RotatingAlliance) -> None:
    change(alliance, ask_more)
    author, witness = alliance[AUTHOR].member, alliance[FIRST].member
    card = author.membership.own_card[1]
    ended = (FormerLogKey(card.log_key, 0, EMPTY_ROOT),)
    other = replace(card, seq=2, previous="0" * 64, log_key=replace(author.lab, generation=2).log.key, former_log_keys=ended)
    fault = find_unnamed(witness.store, witness.membership.joined, other)
    assert fault is not None and f"what a quorum has cosigned at size {SIZE}" in fault


def test_thinning_keeps_what_was_seen(alliance: RotatingAlliance) -> None:
    """By the new quorum nothing was seen, so the checkpoint would go: its cosigners have cosigned more since."""
    change(alliance, ask_more)
    author, witness = alliance[AUTHOR].member, alliance[FIRST].member
    author.confirmation.override()
    for count in (1, 2):
        author.push(draft(f"ZB-{count}"))
        alliance.simulated.catch_up(FIRST, AUTHOR)
        assert witness.exchange.cosign_head(author.ledger.origin)
    log = witness.mirror_of(AUTHOR)
    with witness.store.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM cosignature WHERE witness = ?", (SECOND,))
    witness.store.checkpoints.thin(log.id, ThinningRule(2**60, quorum=3, witnesses=[FIRST, COUNCIL]))
    assert witness.store.checkpoints.find(log.id, SIZE) is not None
    assert witness.store.checkpoints.find(log.id, SIZE + 1) is None


def test_thinning_keeps_what_only_the_cosignatures_say(tmp_path: Path) -> None:
    """The author has noted no mark, and by today's quorum nothing was seen; each cosigner has cosigned more since."""
    alliance = away(tmp_path)
    author, simulated = alliance[AUTHOR].member, alliance.simulated
    change(alliance, ask_more)
    for name in (COUNCIL, FIRST, SECOND):
        contact(simulated, AUTHOR, name)
    author.confirmation.override()
    for count, witness in enumerate((FIRST, SECOND, FIRST)):
        author.push(draft(f"ZB-{count}"))
        simulated.catch_up(witness, AUTHOR)
        assert simulated[witness].exchange.cosign_head(author.ledger.origin)
        contact(simulated, AUTHOR, witness)
    simulated.clock.turn(2 * 86400)
    log = author.mirror_of(AUTHOR)
    Thinning(author.store, author.membership, simulated.clock).thin(log.id, AUTHOR)
    assert author.store.checkpoints.find(log.id, SIZE + 1) is None, "others of that hour go"
    assert seen(author) == SIZE and mark_of(author) == 0
    alliance.close()


def test_the_mark_falls_with_the_history_alone(alliance: RotatingAlliance) -> None:
    change(alliance, ask_more)
    change_again = NameSurvivor(AUTHOR, Head(SIZE, alliance[AUTHOR].member.ledger.log.head_frontier.root()))
    alliance[COUNCIL].member.membership.amend(change_again)
    witness = alliance[FIRST].member
    witness.membership.accept_update(*alliance.simulated.exported(COUNCIL))
    assert mark_of(witness) == SIZE
    with witness.store.database.write() as connection:
        lower_mark(connection, witness.mirror_of(AUTHOR).id, SIZE + 1)
    assert mark_of(witness) == SIZE
    cut_mirror(witness.store, witness.mirror_of(AUTHOR), SIZE - 1)
    assert witness.mirror_of(AUTHOR).head_size == mark_of(witness) == 0
    author = alliance[AUTHOR].member
    forget_mirror(author.store, author.mirror_of(AUTHOR).id)
    assert mark_of(author) == 0


def end_witness_key(member: SimulatedMember, until: datetime) -> bytes:
    """A card of a member by which its witness key ended then."""
    envelope, card = member.membership.own_card
    former = (*card.former_witness_keys, FormerWitnessKey(card.witness_key, until))
    newer = replace(member.lab, generation=card.seq + 1).witness.key
    changed = replace(card, seq=card.seq + 1, previous=envelope.hash, witness_key=newer, former_witness_keys=former)
    return sign_card(changed, member.lab)


def test_a_witness_that_ends_its_key_before_it_used_it_helps_no_author(tmp_path: Path) -> None:
    """Its next cosignature comes too late for the roster before, and takes the place of the one that was in time."""
    alliance = away(tmp_path)
    simulated, council, liar = alliance.simulated, alliance[COUNCIL].member, alliance[FIRST].member
    change(alliance, ask_more)
    simulated.catch_up(COUNCIL, AUTHOR)
    for name in (FIRST, SECOND):
        contact(simulated, COUNCIL, name)
    assert seen(council) == SIZE and mark_of(council) == 0
    raw = end_witness_key(liar, simulated.clock() - timedelta(days=1))
    assert council.membership.accept_update([], [raw], teller=FIRST).faults == ()
    simulated.clock.turn(100 * 86400)
    log = council.mirror_of(AUTHOR)
    assert log.head is not None
    again = cosign(log.head, {replace(liar.lab, generation=2): int(simulated.clock().timestamp())})
    assert council.exchange.accept_notes([bytes(again)], peer=FIRST) == (1, [])
    assert seen(council) == mark_of(council) == SIZE
    alliance.close()


def test_nor_does_one_that_forgets_what_its_own_ended_key_signed(tmp_path: Path) -> None:
    alliance = away(tmp_path)
    change(alliance, ask_more)
    witness = alliance[FIRST].member
    witness.membership.subscribe(witness.exchange.forget_void_cosignatures)
    contact(alliance.simulated, FIRST, SECOND)
    with witness.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE log SET seen_size = 0")
    assert seen(witness) == SIZE and mark_of(witness) == 0
    raw = end_witness_key(witness, alliance.simulated.clock() - timedelta(days=1))
    witness.membership.import_alliance([], [raw], fingerprint=None)
    log = witness.mirror_of(AUTHOR)
    assert witness.store.checkpoints.largest_cosigned(log.id, [FIRST]) == {}
    assert seen(witness) == mark_of(witness) == SIZE
    alliance.close()


def test_a_change_that_ends_no_own_witness_key_has_no_cosignatures_looked_through(
    alliance: RotatingAlliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = alliance[FIRST].member
    looks, find = list[int](), witness.store.checkpoints.find_outlived

    def note(name: str, retired: Mapping[str, int]) -> list[tuple[int, int]]:
        looks.append(len(retired))
        return find(name, retired)

    monkeypatch.setattr(witness.store.checkpoints, "find_outlived", note)
    witness.membership.subscribe(witness.exchange.forget_void_cosignatures)
    for ended in (1, 2):
        until = alliance.simulated.clock() - timedelta(days=1)
        witness.membership.import_alliance([], [end_witness_key(witness, until)], fingerprint=None)
        assert looks == list(range(1, ended + 1))
        assert witness.store.checkpoints.largest_cosigned(witness.mirror_of(AUTHOR).id, [FIRST]) == {}
        alliance[COUNCIL].member.membership.amend(SetQuorum(2 + ended))
        assert witness.membership.accept_update(*alliance.simulated.exported(COUNCIL)).changed
        witness.exchange.forget_void_cosignatures()
        assert looks == list(range(1, ended + 1))


def test_a_look_that_failed_is_repeated(alliance: RotatingAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = alliance[FIRST].member
    raw = end_witness_key(witness, alliance.simulated.clock() - timedelta(days=1))
    witness.membership.import_alliance([], [raw], fingerprint=None)

    def refuse(*_: object, **__: object) -> int:
        raise StoreError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(witness.store.checkpoints, "forget_outlived", refuse)
        with pytest.raises(StoreError):
            witness.exchange.forget_void_cosignatures()
    log = witness.mirror_of(AUTHOR)
    assert witness.store.checkpoints.largest_cosigned(log.id, [FIRST]) == {FIRST: SIZE}
    witness.exchange.forget_void_cosignatures()
    assert witness.store.checkpoints.largest_cosigned(log.id, [FIRST]) == {}


@pytest.mark.parametrize("told", [False, True])
def test_a_card_that_comes_before_the_cosignature_is_written_has_it_forgotten(
    alliance: RotatingAlliance, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Made here, or told by a peer; no later look would find it."""
    simulated, author, witness = alliance.simulated, alliance[AUTHOR].member, alliance[FIRST].member
    witness.membership.subscribe(witness.exchange.forget_void_cosignatures)
    author.push(draft("ZB-1"))
    simulated.catch_up(FIRST, AUTHOR)
    raw = end_witness_key(witness, simulated.clock() - timedelta(days=1))
    checkpoints, name = witness.store.checkpoints, "save_cosignatures" if told else "save_own_cosignature"
    save, log = getattr(checkpoints, name), witness.mirror_of(AUTHOR)
    assert log.head is not None
    note = bytes(cosign(log.head, {witness.lab: int(simulated.clock().timestamp())}))

    def save_after_the_card(*args: Any, **named: Any) -> Any:
        witness.membership.import_alliance([], [raw], fingerprint=None)
        assert checkpoints.largest_cosigned(log.id, [FIRST]) == {}
        return save(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, name, save_after_the_card)
        if told:
            assert witness.exchange.accept_notes([note], peer=AUTHOR) == (1, [])
        else:
            assert witness.exchange.cosign_head(author.ledger.origin)
    assert checkpoints.largest_cosigned(log.id, [FIRST]) == {}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many cosignatures there were on each checkpoint that was read to be judged."""
    found: list[int] = []
    is_met = Quorum.is_met

    def note(quorum: Quorum, times: Mapping[str, int]) -> bool:
        found.append(len(times))
        return is_met(quorum, times)

    monkeypatch.setattr(Quorum, "is_met", note)
    return found


def save_lines(member: SimulatedMember, rows: Iterable[tuple[int, str, int, str]]) -> None:
    """Write cosignatures on the author's log: size, witness, time, and what tells its signature from others."""
    log_id = member.mirror_of(AUTHOR).id
    lines = [(log_id, size, witness, time, tail.rjust(SIGNATURE_CHARACTERS, "-")) for size, witness, time, tail in rows]
    with member.store.database.write() as connection:
        columns = ("log_id", "size", "witness", "time", "line")
        member.store.database.insert_rows(connection, table_of(CosignatureRow), columns, lines)


def test_of_a_busy_log_only_what_enough_have_cosigned_is_read(alliance: RotatingAlliance, judged: list[int]) -> None:
    """Each witness has cosigned other heads, all but the quorum of today the same, or too late for the one before."""
    change(alliance, ask_more)
    member, late = alliance[FIRST].member, int(alliance.simulated.clock().timestamp()) + 100 * 86400
    busy = [(10 + turn, (FIRST, SECOND, COUNCIL)[turn % 3], late, f"{turn}") for turn in range(600)]
    pairs = [(1000 + turn, witness, late, f"{witness}{turn}") for turn in range(300) for witness in (FIRST, SECOND)]
    save_lines(member, [*busy, *pairs])
    with member.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE log SET seen_size = 0")
    judged.clear()
    assert seen(member) == SIZE
    assert judged == [2, 2], "one checkpoint, by two rules"
    judged.clear()
    alliance[COUNCIL].member.membership.amend(SetQuorum(4))
    assert member.membership.accept_update(*alliance.simulated.exported(COUNCIL)).changed
    assert mark_of(member) == SIZE and judged == [2, 2, 2]


def test_a_card_that_ends_a_key_where_it_stands_has_nothing_read(alliance: RotatingAlliance, judged: list[int]) -> None:
    author, witness = alliance[AUTHOR], alliance[FIRST]
    author.member.confirmation.override()
    author.rotation.rotate("log")
    judged.clear()
    assert alliance.tell_card(AUTHOR, FIRST) == [] and judged == []
    assert witness.member.membership.joined.card(AUTHOR) == author.member.membership.own_card[1]


WITNESSES = "abcd"
rules = st.builds(Quorum, st.integers(1, 3), st.frozensets(st.sampled_from(WITNESSES)), st.none() | st.integers(0, 6))
cosignatures = st.dictionaries(st.tuples(st.integers(1, 4), st.sampled_from(WITNESSES)), st.integers(0, 6))


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedMember]:
    made = SimulatedAlliance(tmp_path_factory.mktemp("rules"), 4)
    yield made[FIRST]
    made.close()


@examples(60)
@given(st.lists(rules, max_size=4), cosignatures, st.integers(0, 4))
def test_what_the_database_counts_is_what_the_rules_say(
    member: SimulatedMember, quorums: list[Quorum], given_at: dict[tuple[int, str], int], above: int
) -> None:
    """One signature under two names counts once; a signature says its time."""
    with member.store.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM cosignature")
    save_lines(member, [(size, witness, time, f"{time}") for (size, witness), time in given_at.items()])

    def is_seen(size: int, rule: Quorum) -> bool:
        times = {time for (at, name), time in given_at.items() if at == size and name in rule.witnesses}
        return len([time for time in times if rule.until_s is None or time < rule.until_s]) >= rule.count

    expected = [size for size in (4, 3, 2, 1) if size > above and any(is_seen(size, rule) for rule in quorums)]
    with member.store.database.read() as connection:
        assert list(seen_sizes(connection, member.mirror_of(AUTHOR).id, quorums, above=above)) == expected
