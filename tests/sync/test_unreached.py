"""What is remembered of checkpoints that were signed and not reached, and who can drive it out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.core.checkpoint import SignedCheckpoint
from node.core.roster import Head
from node.sync.unreached import UNREACHED_MAX, Unreached
from tests.builders import MemoryLog, build_labs, build_log
from tests.evidence_cases import build_fork

JINAN, QINGDAO, _ = build_labs(3)
TRUE, FORK = build_fork(JINAN, 3, 30, 30)
SURVIVING = Head(5, TRUE.tree.root(5))


def remember(
    unreached: Unreached, size: int, teller: str = "", *, log: MemoryLog = TRUE, surviving: Head | None = None
) -> SignedCheckpoint | None:
    return unreached.remember(log.checkpoint(size), teller=teller, surviving=surviving)


def sizes(unreached: Unreached, beyond: int = 0, surviving: Head | None = None) -> set[int]:
    return {signed.size for signed in unreached.list_beyond(JINAN.origin, beyond, surviving=surviving)}


def test_a_few_of_each_teller_and_the_oldest_goes_first() -> None:
    unreached = Unreached()
    for size in range(1, UNREACHED_MAX + 3):
        assert remember(unreached, size, "qingdao") is None
    assert sizes(unreached) == set(range(3, UNREACHED_MAX + 3))
    remember(unreached, 3, "qingdao")  # told again, it is the newest
    remember(unreached, 29, "qingdao")
    assert sizes(unreached) == {3, *range(5, UNREACHED_MAX + 3), 29}


def test_nobody_drives_out_what_another_has_told() -> None:
    """The author announces one after the other, and a friend of it tells as many; the honest peer's word stays."""
    unreached = Unreached()
    remember(unreached, 7, "qingdao")
    for size in range(8, 30):
        remember(unreached, size, log=FORK)
        remember(unreached, size, "yantai", log=FORK)
    assert 7 in sizes(unreached) and unreached.count(JINAN.origin) == 1 + 2 * UNREACHED_MAX
    assert [signed.root for signed in unreached.list_reached(JINAN.origin, 7, surviving=None)] == [TRUE.tree.root(7)]


def test_another_root_of_one_size_is_returned_and_not_remembered() -> None:
    unreached = Unreached()
    assert remember(unreached, 7, "qingdao") is None
    assert remember(unreached, 7, log=FORK) == TRUE.checkpoint(7)
    assert remember(unreached, 7, "yantai", log=FORK) == TRUE.checkpoint(7)
    assert unreached.count(JINAN.origin) == 1


def test_what_is_reached_is_given_until_it_is_judged_the_smallest_first() -> None:
    unreached = Unreached()
    for size, teller in ((9, ""), (4, "qingdao"), (4, "yantai"), (6, ""), (12, "qingdao")):
        remember(unreached, size, teller)
    assert [signed.size for signed in unreached.list_reached(JINAN.origin, 9, surviving=None)] == [4, 6, 9]
    for judged in unreached.list_reached(JINAN.origin, 9, surviving=None):
        unreached.forget_judged(judged)
    assert unreached.list_reached(JINAN.origin, 9, surviving=None) == [] and sizes(unreached) == {12}
    unreached.forget_judged(FORK.checkpoint(12))
    assert sizes(unreached, 12) == set() and sizes(unreached, 11) == {12}


def test_what_is_beyond_can_be_asked_of_some_tellers_alone() -> None:
    unreached = Unreached()
    for size, teller in ((4, ""), (6, "jinan"), (6, "qingdao"), (9, "")):
        remember(unreached, size, teller)
    beyond = unreached.list_beyond(JINAN.origin, 3, surviving=None, without=("", "jinan"))
    assert [signed.size for signed in beyond] == [6]


def test_logs_are_apart() -> None:
    unreached = Unreached()
    remember(unreached, 4)
    unreached.remember(build_log(QINGDAO, 5).checkpoint(), teller="", surviving=None)
    assert sizes(unreached) == {4} and unreached.count(QINGDAO.origin) == 1 and unreached.count("nobody") == 0
    unreached.clear()
    assert unreached.count(JINAN.origin) == unreached.count(QINGDAO.origin) == 0


def test_a_decision_of_the_council_makes_all_of_it_forgotten() -> None:
    unreached = Unreached()
    remember(unreached, 7)
    assert sizes(unreached, surviving=SURVIVING) == set()
    assert remember(unreached, 7, log=FORK, surviving=SURVIVING) is None
    assert sizes(unreached, surviving=SURVIVING) == {7}


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["", "qingdao", "yantai"])), max_size=60))
def test_it_is_what_each_has_told_last(told: list[tuple[int, str]]) -> None:
    unreached = Unreached()
    for size, teller in told:
        remember(unreached, size, teller)
    expected: set[int] = set()
    for name in {teller for _, teller in told}:
        newest_first = dict.fromkeys(size for size, teller in reversed(told) if teller == name)
        expected.update(list(newest_first)[:UNREACHED_MAX])
    assert sizes(unreached) == expected
