"""Tests of node.core.quorums."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from node.core.alliance import Alliance
from node.core.amendment import AddMembers, Amendment, RemoveMember, SetQuorum, build_successor, require_sound
from node.core.merkle import EMPTY_ROOT
from node.core.quorums import CLOCKS, COUNTING_S, SIGNING, Quorum, quorums_over
from node.core.roster import Head
from node.errors import GovernanceError
from tests.builders import START, build_alliance, build_card, build_labs, sign_card, sign_roster

LABS = build_labs(5)
AUTHOR, NAMES = LABS[3].member, frozenset(lab.member for lab in LABS)
CHANGED = START + timedelta(days=100)


def amended(alliance: Alliance, amendment: Amendment, days: int = 0) -> Alliance:
    roster, cards = build_successor(alliance, amendment, now=CHANGED + timedelta(days=days))
    grown = alliance.accept_roster(sign_roster(roster, LABS[0]))
    for raw in cards:
        grown = grown.accept_card(raw)
    return grown


def seconds(days: float) -> int:
    return int((CHANGED + timedelta(days=days)).timestamp())


def test_the_newest_roster_counts_whatever_the_time() -> None:
    alliance = build_alliance(LABS)
    (rule,) = quorums_over(alliance, AUTHOR)
    assert rule == Quorum(alliance.roster.quorum, NAMES - {AUTHOR}, None)
    assert rule.is_met({"qingdao": 0, "yantai": 2**40})
    assert not rule.is_met({"qingdao": 0, AUTHOR: 0, "heze": 0}), "neither the author nor a stranger counts"


def test_an_earlier_roster_counts_while_the_next_may_have_been_signed_and_a_day_longer() -> None:
    newest, before = quorums_over(amended(build_alliance(LABS), SetQuorum(3)), AUTHOR)
    assert (newest.count, newest.until_s) == (3, None)
    assert (before.count, before.until_s) == (2, seconds(31))
    last = seconds(31) - 1
    assert before.is_met({"qingdao": last, "yantai": last})
    assert not before.is_met({"qingdao": last, "yantai": last + 1}), "a witness of today counts by the newest roster alone"


def test_a_removed_witness_counts_by_the_rosters_that_had_it() -> None:
    alliance = amended(build_alliance(LABS), RemoveMember("yantai", Head(0, EMPTY_ROOT)))
    newest, before = quorums_over(alliance, AUTHOR)
    assert "yantai" not in newest.witnesses and "yantai" in before.witnesses


def test_rosters_that_say_the_same_are_one_and_the_last_of_them_bounds_it() -> None:
    alliance = build_alliance(LABS)
    for days, quorum in enumerate((3, 2, 3)):
        alliance = amended(alliance, SetQuorum(quorum), days)
    assert [(rule.count, rule.until_s) for rule in quorums_over(alliance, AUTHOR)] == [(3, None), (2, seconds(2 + 31))]


def test_an_earlier_time_in_a_later_roster_shortens_nothing() -> None:
    """A council's clock may go back; whatever was seen in an earlier roster's time stays seen."""
    alliance = build_alliance(LABS)
    for days, quorum in ((9, 3), (9, 2), (0, 4)):
        alliance = amended(alliance, SetQuorum(quorum), days)
    assert {rule.count: rule.until_s for rule in quorums_over(alliance, AUTHOR)} == {
        4: None,
        2: seconds(9 + 31),
        3: seconds(9 + 31),
    }


def test_a_roster_may_be_issued_on_the_last_day_of_all() -> None:
    held = build_alliance(LABS)
    roster, _ = build_successor(held, SetQuorum(3), now=CHANGED)
    end = datetime(9999, 12, 31, 23, 59, 58, tzinfo=UTC)
    alliance = held.accept_roster(sign_roster(replace(roster, issued=end, expires=end + timedelta(seconds=1)), LABS[0]))
    assert [rule.until_s for rule in quorums_over(alliance, AUTHOR)] == [None, int(end.timestamp()) + COUNTING_S]


@given(
    st.timedeltas(timedelta(days=-99), timedelta(days=9)),
    st.timedeltas(timedelta(days=-99), CLOCKS - timedelta(seconds=2)),
)
def test_no_roster_that_is_signed_unsees_what_was_seen_until_then(issued: timedelta, cosigned: timedelta) -> None:
    """Whatever `issued` its maker writes into it, and whichever time up to now (or by a clock ahead) the witnesses have."""
    held = build_alliance(LABS)
    roster, cards = build_successor(held, SetQuorum(3), now=CHANGED)
    roster = replace(roster, issued=(CHANGED + issued).replace(microsecond=0))
    try:
        require_sound(held, roster, cards, now=CHANGED)
    except GovernanceError as error:
        assert "nobody signs one that is more than 30 days old" in error.message
        assert not -SIGNING < issued <= CLOCKS
        return
    times = dict.fromkeys(("qingdao", "yantai"), int((CHANGED + cosigned).timestamp()))
    assert any(rule.is_met(times) for rule in quorums_over(held.accept_roster(sign_roster(roster, LABS[0])), AUTHOR))


def test_a_roster_without_the_author_saw_nothing_of_its_log() -> None:
    founded = build_alliance(LABS[:4])
    zibo = LABS[4]
    alliance = amended(founded, AddMembers((sign_card(build_card(zibo), zibo),)))
    assert len(quorums_over(alliance, zibo.member)) == 1 and len(quorums_over(alliance, AUTHOR)) == 2


@given(
    st.dictionaries(st.sampled_from(sorted(NAMES)), st.integers(0, 100)),
    st.integers(1, 4),
    st.none() | st.integers(0, 100),
    st.sets(st.sampled_from(sorted(NAMES))),
)
def test_more_cosignatures_never_unmake_a_quorum(
    times: dict[str, int], count: int, until_s: int | None, witnesses: set[str]
) -> None:
    rule = Quorum(count, frozenset(witnesses), until_s)
    for gone in times:
        fewer = {name: time_s for name, time_s in times.items() if name != gone}
        assert rule.is_met(times) or not rule.is_met(fewer)
    assert replace(rule, until_s=None).is_met(times) or not rule.is_met(times)
