"""A change of the roster reaches the daemon as it is, and is told to a person in words that leave nothing out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.amendment import amendment_to_wire, describe_change
from node.core.amendment import Amendment, Renew, ReplaceIdentity, SeatCouncil, SetQuorum, SetThreshold
from node.core.roster import Head, Member
from node.rpc.calls.alliance import amendment_from_wire
from tests.builders import START, build_alliance, build_card, build_labs, public_key, sign_card


@pytest.mark.parametrize(
    "amendment",
    [
        SeatCouncil(("jinan", "qingdao"), 2),
        SeatCouncil(("jinan",), None),
        SetThreshold(3),
        SetQuorum(4),
        SetQuorum(None),
        ReplaceIdentity("yantai", b"card"),
        Renew(),
    ],
    ids=repr,
)
def test_a_change_reaches_the_daemon_as_it_is(amendment: Amendment):
    assert amendment_from_wire(amendment_to_wire(amendment)) == amendment


_HELD = build_alliance(build_labs(3)).roster
_LATE = START.replace(year=2031)
_NEW = public_key("new")


def _told(**changes):
    zibo = build_labs(5)[4]
    return describe_change(_HELD, replace(_HELD, version=2, **changes), [sign_card(build_card(zibo), zibo)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"title": "Another"}, "the title becomes 'Another'"),
        ({"council": (_HELD.members["qingdao"].identity_key, _NEW)}, "the council becomes qingdao, "),
        (
            {"council": (_NEW,), "members": {**_HELD.members, "jinan": replace(_HELD.members["jinan"], identity_key=_NEW)}},
            "the council stays jinan, with the new identity keys",
        ),
        ({"threshold": 2}, "needs 2 council signatures"),
        ({"quorum": 2}, "the quorum becomes 2"),
        ({"expires": _LATE}, "valid until 2031-01-01"),
        ({"members": {**_HELD.members, "weifang": Member(_NEW, "active", START)}}, "weifang joins, with the identity key"),
        ({"members": {**_HELD.members, "zibo": Member(_NEW, "active", START)}}, "zibo (Zibo Institute"),
    ],
)
def test_words_leave_no_field_of_the_roster_out(changes, words):
    assert len(_told()) == 1 and "valid until" in _told()[0]
    assert words in " ".join(_told(**changes)) and _told(**changes) != _told()


_SEATS = tuple(_HELD.members[name].identity_key for name in ("jinan", "qingdao", "yantai"))


@pytest.mark.parametrize(
    ("before", "after", "warned"),
    [
        ((_SEATS[:1], 1), (_SEATS[:2], 2), True),
        ((_SEATS, 2), (_SEATS, 3), True),
        ((_SEATS, 3), (_SEATS, 3), False),  # told when it was decided
        ((_SEATS, 3), (_SEATS, 2), False),
        ((_SEATS[:1], 1), (_SEATS, 2), False),
        ((_SEATS, 2), (_SEATS[:1], 1), False),
    ],
)
def test_a_council_that_one_lost_key_would_lock_is_warned_of(before, after, warned):
    held, roster = (replace(_HELD, council=council, threshold=threshold) for council, threshold in (before, after))
    told = " ".join(describe_change(held, replace(roster, version=2), []))
    assert (f"WARNING: all {len(after[0])} seats must then sign: once one of their keys is lost" in told) is warned


def test_words_for_seats_in_another_order():
    held = replace(_HELD, council=(_HELD.council[0], _HELD.members["qingdao"].identity_key))
    told = describe_change(held, replace(held, version=2, council=held.council[::-1]), [])
    assert told[0] == "the council's seats stand in another order"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"identity_key": _NEW}, "gets the identity key"),
        ({"status": "removed", "left": _LATE}, "is removed, for good; no end"),
        ({"status": "removed", "left": _LATE, "head": Head(7, bytes(32))}, "counts up to size 7"),
        ({"head": Head(7, bytes(32))}, "at size 7 survives"),
        ({"joined": _LATE}, "joined at 2031"),
        ({"left": _LATE}, "left changes"),
    ],
)
def test_words_leave_no_field_of_a_member_out(changes, words):
    yantai = replace(_HELD.members["yantai"], **changes)
    assert words in " ".join(_told(members={**_HELD.members, "yantai": yantai}))
