"""What is forgotten for every member at once, whoever can be reached."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.errors import StoreError
from node.sync import revoked
from node.sync.revoked import forget_all_uncounted, forget_uncounted
from tests.alliance import list_all, visible
from tests.rotating import RotatingAlliance
from tests.sync.equivocation import show
from tests.sync.key_changes import card_of, push
from tests.sync.test_survivor import fork_of


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[RotatingAlliance]:
    made = RotatingAlliance(tmp_path, 4)
    push(made, 3, "COMMON")
    show(made.simulated, "yantai", fork_of(made.simulated, 4))
    yield made
    made.close()


def forget_all(alliance: RotatingAlliance) -> None:
    yantai = alliance["yantai"].member
    forget_all_uncounted(yantai.store, yantai.exchange, yantai.membership)


def test_nothing_is_forgotten_of_what_counts(alliance: RotatingAlliance) -> None:
    before = visible(alliance["yantai"].member.store)
    forget_all(alliance)
    assert visible(alliance["yantai"].member.store) == before


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_at_whatever_size_the_key_was_ended(alliance: RotatingAlliance, size: int) -> None:
    """Where no checkpoint of that very size is held, less stays, and the rest comes back."""
    alliance["jinan"].rotation.revoke_log(size)
    assert not alliance.tell_card("jinan", "yantai")
    forget_all(alliance)
    assert list_all(alliance["yantai"].member.store) == []
    alliance.simulated.catch_up("yantai", "jinan")
    assert len(list_all(alliance["yantai"].member.store)) == 3


def test_a_log_that_is_not_held(alliance: RotatingAlliance) -> None:
    weifang = alliance["weifang"].member
    assert not forget_uncounted(weifang.store, weifang.exchange, card_of(alliance, "weifang"))
    assert weifang.store.logs.load_logs() == [weifang.ledger.log]


def test_one_log_that_moves_meanwhile_keeps_no_other_waiting(
    alliance: RotatingAlliance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def refuse(_store: object, _exchange: object, card: object) -> bool:
        asked.append(card.member)  # type: ignore[attr-defined]
        raise StoreError("the log changed")

    monkeypatch.setattr(revoked, "forget_uncounted", refuse)
    with caplog.at_level(logging.WARNING):
        forget_all(alliance)
    assert asked == ["jinan", "qingdao", "weifang"]
    assert sum("event=not_forgotten_yet" in message for message in caplog.messages) == 3
