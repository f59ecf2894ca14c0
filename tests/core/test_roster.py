"""Rosters: form, and the chain of versions with both councils' thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.dsse import Envelope, build_envelope, format_envelope
from node.core.keys import LOW_ORDER_ENCODINGS, format_base64
from node.core.roster import (
    ROSTER_TYPE,
    Head,
    Member,
    Roster,
    parse_roster,
    quorum_default,
    roster_content,
    verify_chain,
    verify_first,
    verify_next,
)
from node.errors import FormatError, GovernanceError
from tests.builders import (
    START,
    Lab,
    build_labs,
    build_members,
    build_roster,
    public_key,
    sign_content,
    sign_roster,
)
from tests.core import strategies

LABS = build_labs(5)
FIRST = build_roster(LABS[:3], council=LABS[:3])
LATER = START + timedelta(days=1)


def signed(roster: Roster, *labs: Lab) -> tuple[Envelope, Roster]:
    return parse_roster(sign_roster(roster, *labs))


HELD = signed(FIRST, *LABS[:2])


def follow(held: tuple[Envelope, Roster] = HELD, **changes: Any) -> Roster:
    return replace(held[1], **{"version": held[1].version + 1, "previous": held[0].hash, **changes})


def parse_content(roster: Roster = FIRST, **changes: Any) -> Roster:
    return parse_roster(sign_content({**roster_content(roster), **changes}, ROSTER_TYPE, LABS[0].sign))[1]


def member_content(**changes: Any) -> dict[str, Any]:
    content = {**roster_content(FIRST)["members"]["jinan"], **changes}
    return {**roster_content(FIRST)["members"], "jinan": content}


@given(
    st.dictionaries(
        strategies.members,
        st.tuples(strategies.public_keys, strategies.moments, st.none() | strategies.moments, st.none() | strategies.hashes),
        min_size=1,
        max_size=6,
    ).filter(lambda members: len({one[0] for one in members.values()}) == len(members)),
    st.lists(strategies.public_keys, min_size=1, max_size=7, unique=True),
    st.integers(1, 2**31),
    st.integers(1, 1000),
    st.data(),
)
def test_round_trip(members: dict[str, Any], council: list[bytes], version: int, quorum: int, data: st.DataObject) -> None:
    roster = replace(
        FIRST,
        version=version,
        previous=None if version == 1 else "cd" * 32,
        council=tuple(council),
        threshold=data.draw(st.integers(len(council) // 2 + 1, len(council))),
        quorum=quorum,
        members={
            name: Member(
                key,
                "active" if left is None else "removed",
                joined.replace(microsecond=0),
                None if left is None else left.replace(microsecond=0),
                None if root is None else Head(len(name), root),
            )
            for name, (key, joined, left, root) in members.items()
        },
    )
    raw = sign_roster(roster, LABS[0])
    envelope, parsed = parse_roster(raw)
    assert parsed == roster
    assert format_envelope(envelope) == raw
    assert sign_roster(parsed, LABS[0]) == raw


def test_active_members() -> None:
    members = {**build_members(LABS[:3]), "dezhou": Member(public_key("d"), "removed", START, LATER)}
    assert replace(FIRST, members=members).active_members() == ["jinan", "qingdao", "yantai"]


@pytest.mark.parametrize(
    ("active", "quorum"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3), (8, 4), (10, 5), (11, 5), (80, 5)]
)
def test_quorum_default(active: int, quorum: int) -> None:
    assert quorum_default(active) == quorum


KEYS = [format_base64(lab.identity_key) for lab in LABS]

BROKEN: dict[str, dict[str, Any]] = {
    "alliance in capitals": {"alliance": "Quality.example"},
    "empty title": {"title": ""},
    "version 0": {"version": 0},
    "version true": {"version": True},
    "version as text": {"version": "1"},
    "version beyond 2^31": {"version": 2**31 + 1, "previous": "00" * 32},
    "version 1 with a predecessor": {"previous": "00" * 32},
    "version 2 without one": {"version": 2},
    "previous in capitals": {"version": 2, "previous": "AB" * 32},
    "expires before issued": {"expires": "2025-12-31T23:59:59Z"},
    "expires when issued": {"expires": "2026-01-01T00:00:00Z"},
    "issued with milliseconds": {"issued": "2026-01-01T00:00:00.000Z"},
    "no council": {"council": []},
    "council member twice": {"council": [KEYS[0], KEYS[0], KEYS[1]]},
    "council of 101": {"council": [format_base64(public_key(str(i))) for i in range(101)], "threshold": 51},
    "council key short": {"council": [format_base64(bytes(31))], "threshold": 1},
    "council key in another spelling": {"council": [KEYS[0].rstrip("=")], "threshold": 1},
    "council as text": {"council": KEYS[0], "threshold": 1},
    "threshold 0": {"threshold": 0},
    "threshold 1 of 3": {"threshold": 1},
    "threshold 4 of 3": {"threshold": 4},
    "threshold 1 of 2": {"council": KEYS[:2], "threshold": 1},
    "threshold 2 of 4": {"council": KEYS[:4], "threshold": 2},
    "threshold true": {"council": KEYS[:1], "threshold": True},
    "quorum 0": {"quorum": 0},
    "quorum 1001": {"quorum": 1001},
    "no members": {"members": {}},
    "members as list": {"members": []},
    "1001 members": {
        "members": {
            f"m{i}": {**roster_content(FIRST)["members"]["jinan"], "identity_key": format_base64(public_key(str(i)))}
            for i in range(1001)
        }
    },
    "member in capitals": {"members": {"Jinan": roster_content(FIRST)["members"]["jinan"]}},
    "member as text": {"members": {"jinan": KEYS[0]}},
    "one identity key for two": {"members": member_content(identity_key=KEYS[1])},
    "identity key short": {"members": member_content(identity_key=format_base64(bytes(31)))},
    "unknown status": {"members": member_content(status="suspended")},
    "status as number": {"members": member_content(status=1)},
    "active with a time of leaving": {"members": member_content(left="2026-02-01T00:00:00Z")},
    "removed without one": {"members": member_content(status="removed")},
    "joined null": {"members": member_content(joined=None)},
    "head without root": {"members": member_content(head={"size": 1})},
    "head with a short root": {"members": member_content(head={"size": 1, "root": format_base64(bytes(31))})},
    "head of negative size": {"members": member_content(head={"size": -1, "root": format_base64(bytes(32))})},
    "head null": {"members": member_content(head=None)},
    "head with more": {"members": member_content(head={"size": 1, "root": format_base64(bytes(32)), "x": 1})},
    "member with more": {"members": member_content(note="x")},
    "unknown member": {"comment": "x"},
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN)
def test_other_rosters_are_refused(changes: dict[str, Any]) -> None:
    assert parse_content() == FIRST
    with pytest.raises(FormatError):
        parse_content(**changes)


@pytest.mark.parametrize("name", sorted(roster_content(FIRST)))
def test_every_member_is_needed(name: str) -> None:
    content = roster_content(FIRST)
    del content[name]
    with pytest.raises(FormatError, match=name):
        parse_roster(sign_content(content, ROSTER_TYPE, LABS[0].sign))


@pytest.mark.parametrize("raw", sorted(LOW_ORDER_ENCODINGS), ids=bytes.hex)
def test_keys_of_low_order_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError, match="low order"):
        parse_content(council=[format_base64(raw)], threshold=1)
    with pytest.raises(FormatError, match="low order"):
        parse_content(members=member_content(identity_key=format_base64(raw)))


@pytest.mark.parametrize("size", range(1, 12))
def test_the_threshold_is_more_than_half(size: int) -> None:
    council = [format_base64(public_key(str(i))) for i in range(size)]
    for threshold in range(1, size + 3):
        if size < 2 * threshold <= 2 * size:
            assert parse_content(council=council, threshold=threshold).threshold == threshold
        else:
            with pytest.raises(FormatError, match="threshold"):
                parse_content(council=council, threshold=threshold)


# The chain


def test_the_first_version_needs_its_own_council() -> None:
    verify_first(*HELD)
    verify_first(*signed(FIRST, *LABS[:3]))
    for signers in (LABS[:1], LABS[3:5], [LABS[0], LABS[3], LABS[4]]):
        with pytest.raises(GovernanceError, match="signatures"):
            verify_first(*signed(FIRST, *signers))


def test_a_chain_begins_with_version_1() -> None:
    with pytest.raises(GovernanceError, match="begins with version 2"):
        verify_first(*signed(follow(), *LABS[:3]))
    with pytest.raises(GovernanceError, match="empty"):
        verify_chain([])


def test_signatures_are_counted_over_distinct_keys() -> None:
    envelope = build_envelope(roster_content(FIRST), ROSTER_TYPE, *[LABS[0].sign] * 5)
    with pytest.raises(GovernanceError, match="carries 1 of the 2"):
        verify_first(envelope, FIRST)
    with pytest.raises(GovernanceError, match="carries 1 of the 2"):
        verify_next(
            HELD[0].hash, FIRST, build_envelope(roster_content(follow()), ROSTER_TYPE, *[LABS[1].sign] * 3), follow()
        )


def test_a_council_seat_cannot_be_listed_twice_to_count_twice() -> None:
    with pytest.raises(FormatError):
        parse_content(council=[KEYS[0], KEYS[0]], threshold=2)


def test_the_next_version() -> None:
    envelope, roster = signed(follow(title="New title"), *LABS[:2])
    verify_next(HELD[0].hash, FIRST, envelope, roster)
    verify_chain([HELD, (envelope, roster)])


WRONG_SUCCESSORS: dict[str, Callable[[], Roster]] = {
    "a skipped version": lambda: follow(version=3),
    "a huge version": lambda: follow(version=2**31),
    "the same version": lambda: follow(version=1, previous=None),
    "another predecessor": lambda: follow(previous="00" * 32),
    "the predecessor's envelope instead of its payload": lambda: follow(previous=sha_of_envelope()),
    "another alliance": lambda: follow(alliance="other.example"),
    "a dropped member": lambda: follow(members=build_members(LABS[:2])),
    "a renamed member": lambda: follow(
        members={"jinan-2" if name == "jinan" else name: member for name, member in FIRST.members.items()}
    ),
}


def sha_of_envelope() -> str:
    return build_envelope(roster_content(FIRST), ROSTER_TYPE).with_signature(LABS[0].sign).hash[::-1]


@pytest.mark.parametrize("make", WRONG_SUCCESSORS.values(), ids=WRONG_SUCCESSORS)
def test_other_successors_are_refused(make: Callable[[], Roster]) -> None:
    envelope, roster = signed(make(), *LABS[:3])
    with pytest.raises(GovernanceError):
        verify_next(HELD[0].hash, FIRST, envelope, roster)
    with pytest.raises(GovernanceError):
        verify_chain([HELD, (envelope, roster)])


@pytest.mark.parametrize(
    ("signers", "holds"),
    [
        ([0, 1, 3], True),  # two of the old three, and three of the new council 1, 3, 4 + 0
        ([0, 1, 3, 4], True),
        ([0, 1], False),  # only the old council's threshold
        ([1, 3, 4], False),  # only the new council's threshold
        ([0, 3, 4], False),
        ([3, 4], False),
        ([], False),
    ],
)
def test_both_councils_must_sign(signers: list[int], holds: bool) -> None:
    council = tuple(LABS[i].identity_key for i in (0, 1, 3, 4))
    roster = follow(council=council, threshold=3, members=build_members(LABS))
    envelope = build_envelope(roster_content(roster), ROSTER_TYPE, *(LABS[i].sign for i in signers))
    if holds:
        verify_next(HELD[0].hash, FIRST, envelope, roster)
    else:
        with pytest.raises(GovernanceError, match="signatures"):
            verify_next(HELD[0].hash, FIRST, envelope, roster)


def test_a_council_cannot_be_taken_over_by_its_successor_alone() -> None:
    stranger = build_labs(5)[4]
    roster = follow(council=(stranger.identity_key,), threshold=1)
    with pytest.raises(GovernanceError, match="council of version 1"):
        verify_next(HELD[0].hash, FIRST, *signed(roster, stranger))


def test_removal_keeps_the_member_with_its_head() -> None:
    removed = replace(FIRST.members["yantai"], status="removed", left=LATER, head=Head(7, bytes(32)))
    envelope, roster = signed(follow(members={**FIRST.members, "yantai": removed}), *LABS[:2])
    verify_next(HELD[0].hash, FIRST, envelope, roster)
    assert roster.members["yantai"].head == Head(7, bytes(32))


def test_a_long_chain_and_a_gap_in_it() -> None:
    chain = [HELD]
    for i in range(6):
        chain.append(signed(follow(chain[-1], title=f"Title {i}"), LABS[i % 3], LABS[(i + 1) % 3]))
    verify_chain(chain)
    for gap in range(len(chain) - 1):
        with pytest.raises(GovernanceError):
            verify_chain(chain[:gap] + chain[gap + 1 :])
    with pytest.raises(GovernanceError):
        verify_chain([*chain[:3], chain[4], chain[3], *chain[5:]])
    with pytest.raises(GovernanceError):
        verify_chain([*chain[:3], *chain[2:]])
