"""A proposal on its way through the council: what is counted, and everything that is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.alliance import Alliance, format_roster, load_alliance
from node.core.amendment import AddMembers, Amendment, Renew, SeatCouncil, build_successor
from node.core.dsse import format_envelope
from node.core.proposal import (
    PROPOSAL_SIZE_MAX,
    Proposal,
    Review,
    format_proposal,
    parse_proposal,
    require_free,
    require_may_sign,
    review_proposal,
)
from node.core.roster import parse_roster
from node.errors import FormatError, GovernanceError
from tests.builders import (
    START,
    Lab,
    build_card,
    build_labs,
    build_members,
    build_roster,
    build_roster_chain,
    sign_card,
    sign_roster,
)

LABS = build_labs(6)
JINAN, QINGDAO, YANTAI, WEIFANG, ZIBO, LINYI = LABS
NOW = START + timedelta(days=9)
HELD: Alliance = load_alliance(build_roster_chain(LABS[:3], members=build_members(LABS[:5])))
"""Version 2: a council of jinan, qingdao and yantai, of whom two sign; weifang and zibo are members."""
NEWCOMER = sign_card(build_card(LINYI), LINYI)


def propose(
    *signers: Lab, change: Amendment | None = None, cards: tuple[bytes, ...] | None = None, **changes: Any
) -> Proposal:
    """A proposal that takes in linyi unless told otherwise, with `changes` to its roster."""
    roster, wanted = build_successor(HELD, change or AddMembers((NEWCOMER,)), now=NOW)
    return Proposal(sign_roster(replace(roster, **changes), *signers), wanted if cards is None else cards)


def refused(proposal: Proposal, held: Alliance = HELD) -> GovernanceError:
    with pytest.raises(GovernanceError) as caught:
        review_proposal(held, proposal)
    assert caught.value.hint
    return caught.value


class TestForm:
    def test_it_is_read_back(self) -> None:
        for proposal in (propose(JINAN), propose(JINAN, QINGDAO, change=Renew())):
            raw = format_proposal(proposal)
            assert parse_proposal(raw) == proposal
            assert format_proposal(parse_proposal(raw)) == raw

    @given(st.binary(max_size=60), st.integers(min_value=0), st.integers(0, 255))
    def test_no_changed_byte_is_read_as_something_else(self, junk: bytes, place: int, byte: int) -> None:
        """Whatever a mutation makes: it is refused, or read back as exactly these bytes."""
        raw = format_proposal(propose(JINAN))
        mutated = bytearray(raw)
        mutated[place % len(raw)] = byte
        for bad in (bytes(mutated), junk, raw + junk, raw[: place % len(raw)]):
            try:
                found = parse_proposal(bad)
            except FormatError:
                continue
            assert format_proposal(found) == bad

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"[]",
            b"{}",
            b'{"cards":[],"roster":[]}',
            b'{"cards":{},"roster":{}}',
            b'{"cards":[1],"roster":{}}',
            b'{"cards":[],"more":1,"roster":{}}',
            b'{"cards":[],"refusals":[],"roster":{}}',
            b'{"roster":{},"cards":[]}',
            b'{"cards":[' + b",".join([b"{}"] * 1001) + b'],"roster":{}}',
            b" " * (PROPOSAL_SIZE_MAX + 1),
        ],
        ids=["empty", "list", "no members", "roster", "cards", "card", "more", "refusals", "order", "1001 cards", "9 MiB"],
    )
    def test_other_files(self, raw: bytes) -> None:
        with pytest.raises(FormatError):
            parse_proposal(raw)


class TestCounting:
    def test_the_next_signature_completes_it(self) -> None:
        review = review_proposal(HELD, propose(JINAN))
        assert (len(review.signers), review.missing, review.needed, review.awaited()) == (1, 1, 2, ["qingdao", "yantai"])
        signed = propose(JINAN).with_signature(QINGDAO.sign)
        complete = review_proposal(HELD, signed)
        assert (complete.missing, complete.needed, complete.awaited()) == (0, 2, [])
        assert "linyi" in HELD.accept_roster(signed.roster).active_members()

    @pytest.mark.parametrize(
        ("council", "threshold"),
        [
            (("jinan", "qingdao", "yantai"), 3),
            (("jinan", "qingdao"), 2),
            (("weifang", "zibo"), 2),
            (("yantai", "weifang", "zibo"), 2),
            (("jinan", "qingdao", "yantai", "weifang", "zibo"), 3),
            (("zibo",), 1),
        ],
    )
    def test_missing_is_exactly_what_is_missing(self, council: tuple[str, ...], threshold: int) -> None:
        """Against brute force: no smaller set of further signatures makes the roster acceptable; one of that size does."""
        change = SeatCouncil(council, threshold)
        for count in range(1, 4):
            for signers in combinations(LABS[:3], count):
                proposal = propose(*signers, change=change)
                review = review_proposal(HELD, proposal)
                rest = [lab for lab in LABS[:5] if lab not in signers]
                needed = next(
                    more
                    for more in range(len(rest) + 1)
                    if any(acceptable(change, *signers, *extra) for extra in combinations(rest, more))
                )
                assert review.missing == needed
                if needed:
                    assert set(review.awaited()) <= {lab.member for lab in rest}
                    assert any(lab.member in review.awaited() for lab in rest)


def acceptable(change: Amendment, *signers: Lab) -> bool:
    try:
        HELD.accept_roster(propose(*signers, change=change).roster)
    except GovernanceError:
        return False
    return True


class TestRefusals:
    def test_another_alliance(self) -> None:
        assert "is for other.example" in refused(propose(JINAN, alliance="other.example")).message

    def test_stale(self) -> None:
        held = HELD.accept_roster(propose(JINAN, QINGDAO, change=Renew()).roster)
        error = refused(propose(JINAN), held)
        assert "stale: another roster of version 3" in error.message

    def test_in_force_already(self) -> None:
        complete = propose(JINAN, QINGDAO)
        assert "in force already" in refused(complete, HELD.accept_roster(complete.roster)).message
        assert "version 1" not in refused(complete, HELD.accept_roster(complete.roster)).message

    def test_too_new(self) -> None:
        error = refused(propose(JINAN, version=4))
        assert "version 4, but this node holds version 2" in error.message

    def test_another_predecessor(self) -> None:
        assert "follows another version 2" in refused(propose(JINAN, previous="0" * 64)).message

    @pytest.mark.parametrize("members", [LABS[:4], LABS[1:5]], ids=["zibo", "jinan"])
    def test_a_dropped_member(self, members: list[Lab]) -> None:
        with pytest.raises(GovernanceError, match="drops"):
            review_proposal(HELD, propose(JINAN, change=Renew(), members=build_members(members)))

    def test_a_signature_by_nobody_on_either_council(self) -> None:
        for proposal in (
            propose(WEIFANG),
            propose(JINAN, WEIFANG),
            propose(JINAN, JINAN),
            propose(JINAN).with_signature(lambda _: bytes(64)),
        ):
            assert "changed after it was signed" in refused(proposal).message

    def test_changed_after_it_was_signed(self) -> None:
        envelope, roster = parse_roster(propose(JINAN).roster)
        other, _ = parse_roster(sign_roster(replace(roster, quorum=1), JINAN))
        forged = format_envelope(replace(other, signatures=envelope.signatures))
        assert "changed after it was signed" in refused(Proposal(forged, (NEWCOMER,))).message

    @pytest.mark.parametrize(
        "cards",
        [
            (),
            (NEWCOMER, NEWCOMER),
            (NEWCOMER, sign_card(build_card(WEIFANG), WEIFANG)),
            (sign_card(build_card(ZIBO), ZIBO),),
            (sign_card(build_card(LINYI), ZIBO),),
            (sign_card(build_card(LINYI, identity_key=ZIBO.identity_key), ZIBO),),
        ],
        ids=["none", "twice", "one more", "another's", "forged", "another key"],
    )
    def test_other_cards_than_the_newcomers(self, cards: tuple[bytes, ...]) -> None:
        assert "card" in refused(propose(JINAN, cards=cards)).message

    def test_no_roster_at_all(self) -> None:
        with pytest.raises(FormatError):
            review_proposal(HELD, Proposal(NEWCOMER))
        with pytest.raises(GovernanceError):
            review_proposal(HELD, Proposal(format_roster(HELD.rosters[0])))


class TestWhoIsNext:
    """The council in force is jinan, qingdao and yantai; the new one jinan, qingdao and weifang. Two of each must sign."""

    def review(self, *signers: Lab) -> Review:
        return review_proposal(HELD, propose(*signers, change=SeatCouncil(("jinan", "qingdao", "weifang"), 2)))

    def test_whose_one_signature_is_enough_for_both_councils(self) -> None:
        review = self.review(JINAN)
        assert (review.missing, review.needed) == (1, 2)
        assert review.awaited() == ["qingdao", "weifang", "yantai"] and review.next_signers() == ["qingdao"]
        assert review.format_count() == "1 of 2 signatures of the council in force and 1 of 2 of the new one"
        assert review.format_lack() == "qingdao"

    def test_after_one_who_counts_for_the_council_in_force_alone(self) -> None:
        review = self.review(JINAN, YANTAI)
        assert (review.missing, review.needed) == (1, 3)
        assert review.next_signers() == ["qingdao", "weifang"] and review.format_lack() == "1 of qingdao, weifang"
        assert review.format_count() == "2 of 2 signatures of the council in force and 1 of 2 of the new one"

    def test_where_no_one_signature_is_enough(self) -> None:
        review = self.review(YANTAI)
        assert review.missing == 2 and review.next_signers() == review.awaited()
        assert (
            review.format_lack()
            == "1 of jinan, qingdao (the council in force) with 2 of jinan, qingdao, weifang (the new one)"
        )

    def test_hints_name_those_alone(self) -> None:
        review = self.review(JINAN)
        with pytest.raises(GovernanceError) as caught:
            require_may_sign(review, "jinan", JINAN.identity_key)
        assert caught.value.hint == "send the file to qingdao, who types: labmesh roster sign FILE"
        with pytest.raises(GovernanceError) as caught:
            require_free(review, review_proposal(HELD, propose(JINAN)))
        assert caught.value.hint.startswith("qingdao can put the first in force")

    @given(
        st.sets(st.sampled_from(LABS[:4]), min_size=1),
        st.sets(st.sampled_from(["jinan", "yantai", "weifang", "zibo"]), min_size=1),
    )
    def test_any_councils(self, signers: set[Lab], council: set[str]) -> None:
        """Each who is named completes it with one signature, and nobody else does."""
        roster, _ = build_successor(HELD, SeatCouncil(tuple(sorted(council)), len(council) // 2 + 1), now=NOW)
        seats = {*HELD.roster.council, *roster.council}
        counting = [lab for lab in signers if lab.identity_key in seats]
        if not counting or set(council) == {"jinan"}:
            return
        review = review_proposal(HELD, Proposal(sign_roster(roster, *counting)))
        if review.missing != 1:
            return
        completing = [
            lab.member
            for lab in LABS
            if lab.identity_key in seats - review.signers
            and not review_proposal(HELD, Proposal(sign_roster(roster, *counting, lab))).missing
        ]
        assert review.next_signers() == sorted(completing) != []


class TestWhoMaySign:
    def test_a_seat_on_either_council(self) -> None:
        review = review_proposal(HELD, propose(JINAN, change=SeatCouncil(("jinan", "weifang", "qingdao"), 2)))
        for lab in (QINGDAO, YANTAI, WEIFANG):
            require_may_sign(review, lab.member, lab.identity_key)
        with pytest.raises(GovernanceError, match="jinan has signed this proposal already; 1 more"):
            require_may_sign(review, "jinan", JINAN.identity_key)
        with pytest.raises(GovernanceError, match="zibo sits neither on the council of version 2 nor") as caught:
            require_may_sign(review, "zibo", ZIBO.identity_key)
        assert "labmesh roster sign FILE" in caught.value.hint

    def test_a_seat_whose_key_the_home_has_not(self) -> None:
        """Its own key was lost: it sits there all the same, and is not told to send the file to itself."""
        with pytest.raises(GovernanceError, match="qingdao sits on the council with another identity key") as caught:
            require_may_sign(review_proposal(HELD, propose(JINAN)), "qingdao", WEIFANG.identity_key)
        assert "restore keys/identity.pem" in caught.value.hint
        assert caught.value.hint.endswith("send the file to yantai, who types: labmesh roster sign FILE")
        alone = review_proposal(HELD, propose(JINAN, change=SeatCouncil(("jinan", "weifang"), 2)))
        with pytest.raises(GovernanceError, match="with another identity key") as caught:
            require_may_sign(alone, "weifang", ZIBO.identity_key)
        assert "send the file to qingdao or yantai, who types" in caught.value.hint

    def test_nothing_is_left_to_sign(self) -> None:
        with pytest.raises(GovernanceError, match="every signature") as caught:
            require_may_sign(review_proposal(HELD, propose(JINAN, YANTAI)), "qingdao", QINGDAO.identity_key)
        assert "labmesh join" in caught.value.hint

    def test_what_was_withdrawn_may_be_signed_again(self) -> None:
        review = review_proposal(HELD, propose(JINAN))
        require_may_sign(review, "jinan", JINAN.identity_key, withdrawn=True)
        with pytest.raises(GovernanceError, match="sits neither on"):
            require_may_sign(review, "zibo", ZIBO.identity_key, withdrawn=True)
        with pytest.raises(GovernanceError, match="every signature"):
            complete = review_proposal(HELD, propose(JINAN, YANTAI))
            require_may_sign(complete, "jinan", JINAN.identity_key, withdrawn=True)

    def test_another_one_of_that_version(self) -> None:
        mine, other = (
            review_proposal(HELD, propose(JINAN, change=change)) for change in (Renew(), SeatCouncil(("jinan",), 1))
        )
        require_free(None, other)
        require_free(mine, mine)
        with pytest.raises(GovernanceError, match="has signed another roster of version 3 already, made at 2026-") as caught:
            require_free(mine, other)
        assert caught.value.message.count("made at 2026-") == 2
        assert "1 of qingdao, yantai can put the first in force" in caught.value.hint
        assert caught.value.hint.endswith("labmesh roster withdraw")


def test_a_removed_member_is_never_taken_back() -> None:
    roster = build_roster(LABS[:3])
    gone = replace(roster.members["yantai"], status="removed", left=NOW)
    first = replace(roster, members={**roster.members, "yantai": gone})
    held = load_alliance([sign_roster(first, JINAN)])
    back = replace(first, version=2, previous=held.fingerprint, members=roster.members)
    with pytest.raises(GovernanceError, match="takes back yantai"):
        held.accept_roster(sign_roster(back, JINAN))
