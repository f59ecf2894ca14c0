"""How often a member's cards are taken: never more than the bound, and the newest always in the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.card import Card, FormerLogKey
from node.core.merkle import EMPTY_ROOT
from node.disowning import Objector
from node.pace import CARDS_AT_ONCE, INTERVAL, CardPace
from tests.alliance import NOON, list_all
from tests.builders import sign_card
from tests.rotating import RotatingAlliance
from tests.sync.equivocation import contact
from tests.sync.key_changes import card_of, push, require_followed

MINUTE_S = INTERVAL.total_seconds()


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[RotatingAlliance]:
    made = RotatingAlliance(tmp_path, 4)
    yield made
    made.close()


def admit(pace: CardPace, member: str, *, by_itself: bool, gives_up_entries: bool, now: datetime) -> bool:
    """Take a card if there is anything left for it."""
    allowance = pace.allowance_of(member, by_itself=by_itself, gives_up_entries=gives_up_entries, now=now)
    if allowance.is_left:
        allowance.spend()
        return True
    return False


def rename(alliance: RotatingAlliance, name: str) -> None:
    alliance["jinan"].member.membership.issue_card(lambda card: replace(card, name=name))


def revoke(alliance: RotatingAlliance, size: int) -> int:
    """Revoke jinan's log key there, and sign again what lies beyond; returns the card's `seq`."""
    return alliance["jinan"].rotation.revoke_log(size).seq


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 200)), max_size=80))
def test_no_more_than_the_bound_in_any_time(steps: list[tuple[bool, bool, int]]) -> None:
    pace, now = CardPace(), NOON
    taken: dict[tuple[bool, bool], list[float]] = defaultdict(list)
    for by_itself, gives_up, pause_s in steps:
        now += timedelta(seconds=pause_s)
        if admit(pace, "jinan", by_itself=by_itself, gives_up_entries=gives_up, now=now):
            taken[by_itself, gives_up].append((now - NOON).total_seconds())
    for (_, gives_up), times in taken.items():
        most = 1 if gives_up else CARDS_AT_ONCE
        for first, begin in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= most + (times[last] - begin) / MINUTE_S + 1e-6


def test_whoever_waits_a_minute_is_taken() -> None:
    pace, now = CardPace(), NOON
    for gives_up in (True, False):
        for _ in range(CARDS_AT_ONCE + 5):
            admit(pace, "jinan", by_itself=True, gives_up_entries=gives_up, now=now)
        assert not admit(pace, "jinan", by_itself=True, gives_up_entries=gives_up, now=now + INTERVAL / 2)
        assert admit(pace, "jinan", by_itself=True, gives_up_entries=gives_up, now=now + INTERVAL)
        now += INTERVAL


def test_members_and_kinds_do_not_keep_one_another_waiting() -> None:
    pace = CardPace()
    while admit(pace, "jinan", by_itself=True, gives_up_entries=False, now=NOON):
        pass
    assert admit(pace, "jinan", by_itself=True, gives_up_entries=True, now=NOON)
    assert admit(pace, "qingdao", by_itself=True, gives_up_entries=False, now=NOON)
    assert admit(pace, "qingdao", by_itself=True, gives_up_entries=True, now=NOON)


def test_others_do_not_keep_waiting_what_a_member_tells_itself() -> None:
    pace = CardPace()
    for gives_up in (True, False):
        while admit(pace, "jinan", by_itself=False, gives_up_entries=gives_up, now=NOON):
            pass
        assert admit(pace, "jinan", by_itself=True, gives_up_entries=gives_up, now=NOON)
        assert not admit(pace, "jinan", by_itself=False, gives_up_entries=gives_up, now=NOON)


def test_a_clock_that_is_set_back_keeps_nobody_waiting_for_longer() -> None:
    pace = CardPace()
    assert admit(pace, "jinan", by_itself=True, gives_up_entries=True, now=NOON)
    earlier = NOON - timedelta(days=400)
    assert not admit(pace, "jinan", by_itself=True, gives_up_entries=True, now=earlier)
    assert admit(pace, "jinan", by_itself=True, gives_up_entries=True, now=earlier + INTERVAL)


def test_a_flood_of_cards_is_taken_as_few_and_the_newest_in_the_end(alliance: RotatingAlliance) -> None:
    qingdao, taken = alliance["qingdao"].member, 0
    for turn in range(3 * CARDS_AT_ONCE):
        rename(alliance, f"Jinan {turn}")
        before = card_of(alliance, "qingdao").seq
        assert alliance.tell_card("jinan", "qingdao") == []
        taken += card_of(alliance, "qingdao").seq != before
    assert taken == CARDS_AT_ONCE
    assert card_of(alliance, "qingdao").name != alliance["jinan"].member.membership.own_card[1].name
    assert qingdao.membership.cards_digest() != alliance["jinan"].member.membership.cards_digest()
    qingdao.clock.turn(MINUTE_S)
    assert alliance.tell_card("jinan", "qingdao") == []
    assert card_of(alliance, "qingdao") == alliance["jinan"].member.membership.own_card[1]


def test_who_passes_on_older_cards_does_not_keep_the_newest_waiting(alliance: RotatingAlliance) -> None:
    jinan, qingdao = alliance["jinan"].member, alliance["qingdao"].member.membership
    hoarded = []
    for turn in range(3 * CARDS_AT_ONCE):
        rename(alliance, f"Jinan {turn}")
        hoarded.append(jinan.card)
    taken = sum(qingdao.accept_update([], [raw], teller="yantai").changed for raw in hoarded[:-1])
    assert taken == CARDS_AT_ONCE
    assert not qingdao.accept_update([], [hoarded[-1]], teller="weifang").changed
    assert alliance.tell_card("jinan", "qingdao") == []
    assert card_of(alliance, "qingdao") == jinan.membership.own_card[1]


def test_nor_a_revocation(alliance: RotatingAlliance) -> None:
    push(alliance, 4, "A")
    alliance.simulated.catch_up("qingdao", "jinan")
    qingdao, hoarded = alliance["qingdao"].member.membership, []
    for size in (0, 1, 2):
        revoke(alliance, size)
        hoarded.append(alliance["jinan"].member.card)
    assert qingdao.accept_update([], hoarded[:1], teller="yantai").changed
    alliance.simulated.catch_up("qingdao", "jinan")
    assert not qingdao.accept_update([], hoarded[1:2], teller="yantai").changed
    newest = revoke(alliance, 3)
    assert alliance.tell_card("jinan", "qingdao") == []
    assert card_of(alliance, "qingdao").seq == newest
    alliance.simulated.catch_up("qingdao", "jinan")
    require_followed(alliance, "qingdao")


@pytest.mark.parametrize("teller", ["jinan", "yantai"])
def test_a_card_that_is_not_newer_spends_nothing(alliance: RotatingAlliance, teller: str) -> None:
    qingdao, old = alliance["qingdao"].member.membership, alliance["jinan"].member.card
    rename(alliance, "Jinan")
    held = alliance["jinan"].member.card
    assert qingdao.accept_update([], [held], teller=teller).changed
    for _ in range(3 * CARDS_AT_ONCE):
        assert not qingdao.accept_update([], [old, held], teller=teller).changed
    for turn in range(CARDS_AT_ONCE - 1):
        rename(alliance, f"Jinan {turn}")
        assert qingdao.accept_update([], [alliance["jinan"].member.card], teller=teller).changed
    rename(alliance, "One too many")
    assert not qingdao.accept_update([], [alliance["jinan"].member.card], teller=teller).changed


def test_what_people_bring_by_hand_is_taken_at_once(alliance: RotatingAlliance) -> None:
    membership = alliance["qingdao"].member.membership
    for turn in range(2 * CARDS_AT_ONCE):
        rename(alliance, f"Jinan {turn}")
        membership.import_alliance([], [alliance["jinan"].member.card], fingerprint=None)
        assert card_of(alliance, "qingdao").name == f"Jinan {turn}"


def test_a_revocation_is_taken_at_once_and_the_next_one_after_a_minute(alliance: RotatingAlliance) -> None:
    """Also when a flood of other cards came before. What must wait is not lost, and nothing of the log is, either."""
    qingdao = alliance["qingdao"].member
    push(alliance, 4, "A")
    alliance.simulated.catch_up("qingdao", "jinan")
    for turn in range(CARDS_AT_ONCE + 1):
        rename(alliance, f"Jinan {turn}")
        alliance.tell_card("jinan", "qingdao")
    owed = qingdao.store.erasures.owed().total
    first = revoke(alliance, 0)
    alliance.tell_card("jinan", "qingdao")
    assert card_of(alliance, "qingdao").seq == first
    alliance.simulated.catch_up("qingdao", "jinan")
    assert len(list_all(qingdao.store)) == 4 and qingdao.store.erasures.owed().total == owed + 1
    for size in (1, 2, 3):
        revoke(alliance, size)
        assert alliance.tell_card("jinan", "qingdao") == []
        assert card_of(alliance, "qingdao").seq == first
    qingdao.clock.turn(MINUTE_S)
    alliance.tell_card("jinan", "qingdao")
    alliance.simulated.catch_up("qingdao", "jinan")
    assert card_of(alliance, "qingdao").former_log_keys[-1].size == 3
    assert len(list_all(qingdao.store)) == 4 and qingdao.store.erasures.owed().total == owed + 2
    require_followed(alliance, "qingdao")


def test_what_waits_is_taken_after_a_restart(alliance: RotatingAlliance) -> None:
    push(alliance, 3, "A")
    alliance.simulated.catch_up("qingdao", "jinan")
    for size in (0, 1):
        revoke(alliance, size)
        alliance.tell_card("jinan", "qingdao")
        alliance.simulated.catch_up("qingdao", "jinan") if size == 0 else None
    assert card_of(alliance, "qingdao").former_log_keys[-1].size == 0
    alliance["qingdao"].restart()
    alliance.tell_card("jinan", "qingdao")
    alliance.simulated.catch_up("qingdao", "jinan")
    require_followed(alliance, "qingdao")
    assert card_of(alliance, "qingdao").former_log_keys[-1].size == 1


def test_what_must_wait_is_not_held_against_the_store(alliance: RotatingAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
    """That reads much of it where the log is a busy one."""
    judged: list[int] = []
    judge = Objector.judge_successor

    def note(objector: Objector, held: Card, card: Card) -> str | None:
        judged.append(card.seq)
        return judge(objector, held, card)

    monkeypatch.setattr(Objector, "judge_successor", note)
    push(alliance, 3, "A")
    alliance.simulated.catch_up("qingdao", "jinan")
    for size in (0, 1, 2):
        revoke(alliance, size)
        assert alliance.tell_card("jinan", "qingdao") == []
        alliance.simulated.catch_up("qingdao", "jinan")
    assert len(judged) == 1
    alliance["qingdao"].member.clock.turn(MINUTE_S)
    assert alliance.tell_card("jinan", "qingdao") == [] and len(judged) == 2


def test_a_card_that_is_refused_keeps_none_waiting(alliance: RotatingAlliance) -> None:
    push(alliance, 3, "A")
    simulated = alliance.simulated
    for witness in ("qingdao", "yantai"):
        simulated.catch_up(witness, "jinan")
        assert simulated[witness].exchange.cosign_head(simulated["jinan"].ledger.origin)
    for caller, server in (("yantai", "qingdao"), ("qingdao", "yantai")):
        contact(simulated, caller, server)
    envelope, held = alliance["jinan"].member.membership.own_card
    for turn in range(CARDS_AT_ONCE):
        former = (FormerLogKey(held.log_key, 0, EMPTY_ROOT),)
        lab = replace(alliance["jinan"].member.lab, generation=2 + turn)
        disowning = replace(held, seq=held.seq + 1, previous=envelope.hash, log_key=lab.log.key, former_log_keys=former)
        update = alliance["qingdao"].member.membership.accept_update([], [sign_card(disowning, lab)], teller="jinan")
        assert "a quorum has cosigned what that key signed up to size 3" in update.faults[0]
    alliance["jinan"].rotation.rotate("log")
    push(alliance, 2, "B")
    revoked = revoke(alliance, 4)
    assert alliance.tell_card("jinan", "qingdao") == [] and card_of(alliance, "qingdao").seq == revoked
