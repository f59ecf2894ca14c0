"""What a council can change, what follows from it, and what no honest council member signs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from node.core.alliance import Alliance, load_alliance
from node.core.amendment import (
    ROSTER_LIFETIME,
    AddMembers,
    Amendment,
    NameSurvivor,
    RemoveMember,
    Renew,
    ReplaceIdentity,
    SeatCouncil,
    SetQuorum,
    SetThreshold,
    build_successor,
    require_sound,
)
from node.core.card import CARD_TYPE, card_content
from node.core.keys import TYPE_LOG, VerifierKey
from node.core.merkle import EMPTY_ROOT
from node.core.roster import Head, Member, Roster, require_follows
from node.errors import FormatError, GovernanceError, LabmeshError, SignatureError
from tests.builders import (
    START,
    Lab,
    build_alliance,
    build_card,
    build_labs,
    public_key,
    sign_card,
    sign_content,
    sign_roster,
    sign_with,
)

LABS = build_labs(5)
JINAN, QINGDAO, YANTAI, WEIFANG, ZIBO = LABS
NOW = START + timedelta(days=100)


def build(count: int = 4, seats: int = 1, **changes: Any) -> Alliance:
    """An alliance whose first `seats` members are its council."""
    return build_alliance(LABS[:count], council=LABS[:seats], **changes) if seats == 1 else _seated(count, seats, **changes)


def _seated(count: int, seats: int, **changes: Any) -> Alliance:
    founded = build_alliance(LABS[:count])
    second = replace(
        founded.roster,
        version=2,
        previous=founded.fingerprint,
        council=tuple(lab.identity_key for lab in LABS[:seats]),
        threshold=seats // 2 + 1,
        **changes,
    )
    return founded.accept_roster(sign_roster(second, *LABS[:seats]))


def successor(amendment: Amendment, alliance: Alliance | None = None) -> Roster:
    """The next roster; it always follows, and is always of a form that can be read back."""
    held = alliance or build()
    roster, cards = build_successor(held, amendment, now=NOW)
    require_follows(held.fingerprint, held.roster, roster)
    everyone = [lab for lab in LABS if lab.identity_key in {*held.roster.council, *roster.council}]
    accepted = held.accept_roster(sign_roster(roster, *everyone))
    for raw in cards:
        accepted = accepted.accept_card(raw)
    assert accepted.roster == roster
    return roster


def refusal(
    amendment: Amendment, alliance: Alliance | None = None, error: type[LabmeshError] = GovernanceError
) -> LabmeshError:
    with pytest.raises(error) as caught:
        build_successor(alliance or build(), amendment, now=NOW)
    return caught.value


def new_identity(lab: Lab, label: str = "new identity", **changes: Any) -> bytes:
    """A laboratory's next card, which names another identity key and is signed by it."""
    card = build_card(lab, identity_key=public_key(label), **changes)
    return sign_content(card_content(card), CARD_TYPE, sign_with(label))


def test_every_change_renews_the_roster_for_two_years() -> None:
    for amendment in (Renew(), SetQuorum(3), RemoveMember("yantai")):
        roster = successor(amendment)
        assert (roster.version, roster.issued, roster.expires) == (2, NOW, NOW + ROSTER_LIFETIME)
    held = build().roster
    assert successor(Renew()) == replace(
        held, version=2, previous=build().fingerprint, issued=NOW, expires=NOW + ROSTER_LIFETIME
    )


@pytest.mark.parametrize(
    "amendment",
    [
        SeatCouncil(("jinan", "qingdao", "yantai")),
        SeatCouncil(("yantai", "jinan", "qingdao"), 2),
        SetThreshold(2),
        SetQuorum(2),
        SetQuorum(None),
        AddMembers(()),
    ],
    ids=repr,
)
def test_what_would_change_nothing_is_refused(amendment: Amendment) -> None:
    """But renewing, whose name says so, and the same seats with another threshold."""
    error = refusal(amendment, build(4, 3))
    assert "would change nothing but its date" in error.message
    assert "labmesh roster renew" in error.hint
    assert successor(SeatCouncil(("yantai", "jinan", "qingdao"), 3), build(4, 3)).threshold == 3
    assert successor(Renew(), build(4, 3)).council == build(4, 3).roster.council


class TestMembers:
    def test_adding_and_removing_move_the_default_quorum(self) -> None:
        added = successor(AddMembers((sign_card(build_card(ZIBO), ZIBO),)))
        assert added.members["zibo"] == Member(ZIBO.identity_key, "active", NOW)
        assert (build().roster.quorum, added.quorum) == (2, 2)
        assert successor(RemoveMember("weifang")).quorum == 1

    def test_a_removal_keeps_the_line_and_names_the_end(self) -> None:
        head = Head(812, bytes(range(32)))
        held = build().roster.members["weifang"]
        roster = successor(RemoveMember("weifang", head))
        assert roster.members["weifang"] == replace(held, status="removed", left=NOW, head=head)
        assert roster.members["weifang"].cut == head
        assert successor(RemoveMember("weifang")).members["weifang"].cut is None

    def test_a_council_member_is_unseated_first(self) -> None:
        error = refusal(RemoveMember("qingdao"), build(4, 3))
        assert "qingdao sits on the council" in error.message
        assert error.hint == "first seat others: labmesh roster council jinan yantai"

    def test_strangers_and_removed_members_cannot_be_removed(self) -> None:
        assert "active members are" in refusal(RemoveMember("zibo")).hint
        gone = build()
        gone = gone.accept_roster(sign_roster(build_successor(gone, RemoveMember("yantai"), now=NOW)[0], JINAN))
        assert "'yantai' is not an active member" in refusal(RemoveMember("yantai"), gone).message
        assert "cannot be used again" in refusal(AddMembers((sign_card(build_card(YANTAI), YANTAI),)), gone).message

    @pytest.mark.parametrize(
        ("raw", "error", "message"),
        [
            (b"no card", FormatError, "not a signed envelope"),
            (sign_card(build_card(ZIBO), JINAN), SignatureError, "the card of zibo is not signed by the identity key"),
            (sign_card(build_card(QINGDAO), QINGDAO), GovernanceError, "qingdao is in the roster already"),
            (
                sign_card(build_card(Lab("zibo", "other.example")), Lab("zibo", "other.example")),
                GovernanceError,
                "is for other.example, not for quality.jinan.example",
            ),
        ],
        ids=["no card", "forged", "present", "other alliance"],
    )
    def test_bad_newcomers(self, raw: bytes, error: type[LabmeshError], message: str) -> None:
        assert message in refusal(AddMembers((raw,)), error=error).message


class TestCouncil:
    def test_council_and_threshold_in_one_step(self) -> None:
        roster = successor(SeatCouncil(("yantai", "jinan", "qingdao"), 2))
        assert roster.council == (YANTAI.identity_key, JINAN.identity_key, QINGDAO.identity_key)
        assert roster.threshold == 2

    def test_the_threshold_stays_where_it_fits(self) -> None:
        assert successor(SeatCouncil(("qingdao",))).threshold == 1
        assert successor(SeatCouncil(("qingdao", "yantai")), build(4, 3)).threshold == 2

    @pytest.mark.parametrize(
        ("members", "threshold", "message"),
        [
            (("jinan", "qingdao"), None, "a threshold of 1 does not fit a council of 2"),
            (("jinan", "qingdao"), 3, "a threshold of 3 does not fit a council of 2"),
            (("jinan", "qingdao", "yantai", "weifang"), 2, "a threshold of 2 does not fit a council of 4"),
            (("jinan", "jinan"), 2, "named twice"),
            (("jinan", "zibo"), 2, "'zibo' is not an active member"),
            ((), None, "a threshold of 1 does not fit a council of 0"),
        ],
    )
    def test_impossible_councils(self, members: tuple[str, ...], threshold: int | None, message: str) -> None:
        assert message in refusal(SeatCouncil(members, threshold)).message

    @pytest.mark.parametrize(("seats", "fitting"), [(1, {1}), (2, {2}), (3, {2, 3}), (4, {3, 4})])
    def test_a_threshold_is_more_than_half_and_at_most_all(self, seats: int, fitting: set[int]) -> None:
        alliance = build(4, seats)
        for threshold in range(1, 7):
            if threshold == alliance.roster.threshold:
                assert "so already" in refusal(SetThreshold(threshold), alliance).message
            elif threshold in fitting:
                assert successor(SetThreshold(threshold), alliance).threshold == threshold
            else:
                assert "more than half" in refusal(SetThreshold(threshold), alliance).message


class TestQuorum:
    def test_a_chosen_one_stays_and_the_default_comes_back(self) -> None:
        chosen = build(4, 1, quorum=3)
        assert successor(RemoveMember("weifang"), chosen).quorum == 3
        assert successor(SetQuorum(None), chosen).quorum == 2
        assert successor(SetQuorum(1)).quorum == 1

    @pytest.mark.parametrize("quorum", [0, -1, 4, 1000])
    def test_no_more_than_can_cosign(self, quorum: int) -> None:
        assert "from 1 to 3" in refusal(SetQuorum(quorum)).hint

    def test_alone(self) -> None:
        alone = load_alliance([sign_roster(build(1).roster, JINAN)])
        assert "so already" in refusal(SetQuorum(1), alone).message
        assert "from 1 to 1" in refusal(SetQuorum(2), alone).hint


class TestIdentity:
    def test_a_new_key_takes_the_place_of_the_old_one(self) -> None:
        raw = new_identity(YANTAI)
        held = build()
        roster, cards = build_successor(held, ReplaceIdentity("yantai", raw), now=NOW)
        assert cards == (raw,)
        assert roster.members["yantai"] == replace(held.roster.members["yantai"], identity_key=public_key("new identity"))
        assert roster.council == held.roster.council

    def test_the_seat_on_the_council_too(self) -> None:
        held = build(4, 3)
        roster = successor(ReplaceIdentity("yantai", new_identity(YANTAI)), held)
        assert roster.council == (JINAN.identity_key, QINGDAO.identity_key, public_key("new identity"))

    @pytest.mark.parametrize("seats", [1, 2])
    def test_where_the_new_key_would_have_to_sign_at_once(self, seats: int) -> None:
        error = refusal(ReplaceIdentity("jinan", new_identity(JINAN)), build(4, seats))
        assert "too few council members are left" in error.message
        assert error.hint.startswith(
            "while the old key still signs, first seat others or lower the threshold: labmesh roster"
        )
        assert "if that key is lost there is no way: jinan restores keys/identity.pem from a backup" in error.hint

    def test_whose_signature_the_council_cannot_do_without(self) -> None:
        held = build(4, 3)
        assert not held.needs_seat("jinan") and not held.roster.needs_every_seat
        held = held.accept_roster(sign_roster(successor(SetThreshold(3), held), JINAN, QINGDAO, YANTAI))
        assert held.needs_seat("jinan") and held.roster.needs_every_seat
        assert not held.needs_seat("weifang"), "it has no seat"
        assert "too few council members are left" in refusal(ReplaceIdentity("jinan", new_identity(JINAN)), held).message

    @pytest.mark.parametrize(
        ("member", "raw", "error", "message"),
        [
            ("yantai", sign_card(build_card(YANTAI), YANTAI), GovernanceError, "has already"),
            ("yantai", new_identity(QINGDAO), GovernanceError, "is of qingdao"),
            ("zibo", new_identity(ZIBO), GovernanceError, "not an active member"),
            ("yantai", sign_card(build_card(YANTAI, identity_key=public_key("x")), YANTAI), SignatureError, "not signed"),
            (
                "yantai",
                sign_content(card_content(build_card(YANTAI, identity_key=QINGDAO.identity_key)), CARD_TYPE, QINGDAO.sign),
                GovernanceError,
                "belongs to another member",
            ),
            ("yantai", b"no card", FormatError, ""),
        ],
        ids=["same key", "another member's card", "a stranger", "forged", "another's key", "no card"],
    )
    def test_cards_that_do_not_serve(self, member: str, raw: bytes, error: type[LabmeshError], message: str) -> None:
        assert message in refusal(ReplaceIdentity(member, raw), error=error).message


class TestSoundness:
    """What thresholds could carry, but nobody honest signs."""

    def test_a_seat_for_somebody_else(self) -> None:
        held = build()
        roster = replace(held.roster, version=2, council=(public_key("a stranger"),))
        with pytest.raises(GovernanceError, match="belong to no active member"):
            require_sound(held, roster, (), now=NOW)

    def test_a_key_in_two_roles(self) -> None:
        held = build()
        for name in ("log_key", "witness_key"):
            stolen = getattr(held.card("qingdao"), name).public_key
            members = {**held.roster.members, "zibo": Member(stolen, "active", NOW)}
            with pytest.raises(GovernanceError, match="one key has one role"):
                require_sound(held, replace(held.roster, members=members), (), now=NOW)

    def test_a_newcomer_whose_log_key_is_an_identity_key(self) -> None:
        log_key = VerifierKey(ZIBO.origin, TYPE_LOG, QINGDAO.identity_key)
        raw = sign_card(build_card(ZIBO, log_key=log_key), ZIBO)
        assert "one key has one role" in refusal(AddMembers((raw,))).message

    def test_a_replaced_key_does_not_return(self) -> None:
        held = build(4, 3)
        rekeyed = build_successor(held, ReplaceIdentity("weifang", new_identity(WEIFANG)), now=NOW)[0]
        held = held.accept_roster(sign_roster(rekeyed, JINAN, QINGDAO))
        old = sign_card(build_card(WEIFANG), WEIFANG)
        assert "would return" in refusal(ReplaceIdentity("weifang", old), held).message
        thief = replace(build_card(ZIBO), identity_key=WEIFANG.identity_key)
        assert "would return" in refusal(AddMembers((sign_card(thief, WEIFANG),)), held).message


class TestExpired:
    """An expired roster keeps the known members, and admits nobody new before it was renewed."""

    NEWCOMER = sign_card(build_card(ZIBO), ZIBO)

    def test_nobody_new_is_taken_in(self) -> None:
        held = build()
        on_time, late = held.roster.expires - timedelta(seconds=1), held.roster.expires
        assert "zibo" in build_successor(held, AddMembers((self.NEWCOMER,)), now=on_time)[0].members
        with pytest.raises(GovernanceError, match=r"expired on .*, and admits nobody new: not zibo") as caught:
            build_successor(held, AddMembers((self.NEWCOMER,)), now=late)
        assert "labmesh roster renew" in caught.value.hint
        renewed = held.accept_roster(sign_roster(build_successor(held, Renew(), now=late)[0], JINAN))
        assert "zibo" in build_successor(renewed, AddMembers((self.NEWCOMER,)), now=late)[0].members

    def test_nor_signed_for(self) -> None:
        """Neither by the time that stands in the roster, which is its maker's word, nor by the signer's."""
        held = build()
        late = held.roster.expires
        before = late - timedelta(seconds=1)
        roster, cards = build_successor(held, AddMembers((self.NEWCOMER,)), now=before)
        require_sound(held, roster, cards, now=before)
        for issued, now in ((late, before), (before, late), (late, late)):
            with pytest.raises(GovernanceError, match="admits nobody new"):
                require_sound(held, replace(roster, issued=issued), cards, now=now)
        renewal, _ = build_successor(held, Renew(), now=before)
        require_sound(held, renewal, (), now=late)


class TestTheTimeInIt:
    """A roster ends the time of the one before: its `issued` is the time at which it is signed, or nearly."""

    @pytest.mark.parametrize("days", [-30, 0, 1])
    def test_a_proposal_may_wait_for_a_month_and_clocks_differ(self, days: int) -> None:
        roster, cards = build_successor(build(), SetQuorum(3), now=NOW + timedelta(days=days))
        require_sound(build(), roster, cards, now=NOW)
        assert build().accept_roster(sign_roster(roster, JINAN)).roster.quorum == 3

    @pytest.mark.parametrize("wait", [timedelta(days=30, seconds=1), timedelta(days=-1, seconds=-1)], ids=repr)
    def test_but_not_for_longer(self, wait: timedelta) -> None:
        roster, cards = build_successor(build(), SetQuorum(3), now=NOW - wait)
        with pytest.raises(GovernanceError, match=r"made at 2026-.*Z, and here it is 2026-.*Z: nobody signs one") as caught:
            require_sound(build(), roster, cards, now=NOW)
        assert "propose the change again" in caught.value.hint and "labmesh roster withdraw" in caught.value.hint
        assert build().accept_roster(sign_roster(roster, JINAN)).roster == roster, "it binds who signs, not what counts"

    def test_an_alliance_founded_with_a_clock_that_was_ahead_goes_on(self) -> None:
        held = build(issued=NOW + timedelta(days=400), expires=NOW + timedelta(days=1130))
        assert build_successor(held, Renew(), now=NOW)[0].issued == NOW

    @pytest.mark.parametrize(
        "amendment",
        [
            Renew(),
            ReplaceIdentity("weifang", new_identity(WEIFANG)),
            RemoveMember("weifang"),
            SeatCouncil(("jinan", "qingdao"), 2),
        ],
        ids=lambda amendment: type(amendment).__name__,
    )
    def test_all_else_goes_on(self, amendment: Amendment) -> None:
        late = build().roster.expires + timedelta(days=400)
        assert build_successor(build(), amendment, now=late)[0].issued == late


class TestEnds:
    """Where the log of a removed member ends stays as the council that removed it has said."""

    def removed(self, head: Head | None) -> Alliance:
        roster, _ = build_successor(build(), RemoveMember("weifang", head), now=NOW)
        return build().accept_roster(sign_roster(roster, JINAN))

    @pytest.mark.parametrize("head", [None, Head(4, bytes(32)), Head(6, bytes(32)), Head(5, bytes(31) + b"1")], ids=repr)
    def test_it_is_neither_dropped_nor_moved(self, head: Head | None) -> None:
        held = self.removed(Head(5, bytes(32)))
        roster, _ = build_successor(held, Renew(), now=NOW)
        require_sound(held, roster, (), now=NOW)
        members = {**roster.members, "weifang": replace(roster.members["weifang"], head=head)}
        moved = replace(roster, members=members)
        with pytest.raises(GovernanceError, match=r"would move the end of the log of weifang, .*: it is size 5") as caught:
            require_sound(held, moved, (), now=NOW)
        assert "do not sign it" in caught.value.hint
        taken = held.accept_roster(sign_roster(moved, JINAN))
        assert taken.roster.members["weifang"].head == head, "it binds who signs, not what counts"

    def test_an_end_may_be_named_later(self) -> None:
        held = self.removed(None)
        roster, _ = build_successor(held, Renew(), now=NOW)
        members = {**roster.members, "weifang": replace(roster.members["weifang"], head=Head(5, bytes(32)))}
        named = replace(roster, members=members)
        require_sound(held, named, (), now=NOW)
        assert held.accept_roster(sign_roster(named, JINAN)).roster.members["weifang"].cut == Head(5, bytes(32))

    def test_a_survivor_of_an_active_member_is_no_end(self) -> None:
        settled, _ = build_successor(build(), NameSurvivor("yantai", Head(7, bytes(32))), now=NOW)
        held = build().accept_roster(sign_roster(settled, JINAN))
        assert build_successor(held, RemoveMember("yantai", Head(9, bytes(32))), now=NOW)[0].members["yantai"].head == Head(
            9, bytes(32)
        )

    @pytest.mark.parametrize("head", [Head(6, bytes(32)), Head(7, bytes(31) + b"1"), Head(0, EMPTY_ROOT)], ids=repr)
    def test_a_removal_does_not_take_the_survivor_back(self, head: Head) -> None:
        named = Head(7, bytes(32))
        settled, _ = build_successor(build(), NameSurvivor("yantai", named), now=NOW)
        held = build().accept_roster(sign_roster(settled, JINAN))
        with pytest.raises(GovernanceError, match="surviving history of yantai up to size 7") as caught:
            build_successor(held, RemoveMember("yantai", head), now=NOW)
        assert "labmesh roster remove yantai --head-size 7" in caught.value.hint
        roster, _ = build_successor(held, RemoveMember("yantai"), now=NOW)
        assert roster.members["yantai"].cut == named, "without a head of its own it ends there"
        for other in (head, None):
            members = {**roster.members, "yantai": replace(roster.members["yantai"], head=other)}
            with pytest.raises(GovernanceError, match="surviving history of yantai"):
                require_sound(held, replace(roster, members=members), (), now=NOW)

    def test_nor_does_any_other_change(self) -> None:
        settled, _ = build_successor(build(), NameSurvivor("yantai", Head(7, bytes(32))), now=NOW)
        held = build().accept_roster(sign_roster(settled, JINAN))
        roster, _ = build_successor(held, Renew(), now=NOW)
        members = {**roster.members, "yantai": replace(roster.members["yantai"], head=None)}
        with pytest.raises(GovernanceError, match="would now name none"):
            require_sound(held, replace(roster, members=members), (), now=NOW)


class TestNamingTheSurvivor:
    """After a fork the council says which history goes on; a later word must reach further."""

    def test_the_line_names_the_head_and_stays_active(self) -> None:
        head = Head(7, bytes(32))
        roster, cards = build_successor(build(), NameSurvivor("yantai", head), now=NOW)
        assert (roster.members["yantai"].head, roster.members["yantai"].status, cards) == (head, "active", ())
        assert {name: line for name, line in roster.members.items() if name != "yantai"} == {
            name: line for name, line in build().roster.members.items() if name != "yantai"
        }

    def test_only_a_longer_history_can_follow(self) -> None:
        held, _ = build_successor(build(), NameSurvivor("yantai", Head(7, bytes(32))), now=NOW)
        alliance = build().accept_roster(sign_roster(held, JINAN))
        for size in (6, 7):
            with pytest.raises(GovernanceError, match="up to size 7 already"):
                build_successor(alliance, NameSurvivor("yantai", Head(size, bytes(32))), now=NOW)
        roster, _ = build_successor(alliance, NameSurvivor("yantai", Head(8, bytes(32))), now=NOW)
        assert roster.members["yantai"].head == Head(8, bytes(32))

    def test_only_an_active_member(self) -> None:
        with pytest.raises(GovernanceError, match="not an active member"):
            build_successor(build(), NameSurvivor("heze", Head(7, bytes(32))), now=NOW)
