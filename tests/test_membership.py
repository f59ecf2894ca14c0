"""The alliance as a node lives it: found, join, add, remove, take what others bring, and remember all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.core.alliance import Alliance, format_card, format_roster
from node.core.card import parse_card
from node.core.roster import Roster
from node.core.told import Refusal
from node.errors import ConfigError, FormatError, GovernanceError, HomeError, LabmeshError, SignatureError
from node.membership import ROSTER_LIFETIME, IdentityKey, Membership, Update
from tests.alliance import NOON, SimulatedMember
from tests.builders import (
    Lab,
    build_card,
    build_labs,
    build_roster,
    sign_card,
    sign_roster,
)
from tests.new_stores import new_store

JINAN, QINGDAO, YANTAI, WEIFANG = build_labs(4)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[Lab], SimulatedMember]]:
    """Makes homes, and closes them."""
    made: list[SimulatedMember] = []

    def make_one(lab: Lab) -> SimulatedMember:
        made.append(SimulatedMember(lab, tmp_path / f"{lab.alliance}-{lab.member}-{len(made)}"))
        return made[-1]

    yield make_one
    for member in made:
        member.store.close()


@pytest.fixture
def jinan(make: Callable[[Lab], SimulatedMember]) -> SimulatedMember:
    """The founder of an alliance of one."""
    member = make(JINAN)
    member.membership.found("Jinan Quality Alliance")
    return member


@pytest.fixture
def qingdao(make: Callable[[Lab], SimulatedMember], jinan: SimulatedMember) -> SimulatedMember:
    """A second member, which has joined."""
    member = make(QINGDAO)
    jinan.membership.add_members([member.card])
    member.membership.import_alliance(*exported(jinan), fingerprint=jinan.membership.joined.fingerprint)
    return member


def exported(member: SimulatedMember) -> tuple[list[bytes], list[bytes]]:
    alliance = member.membership.joined
    return [format_roster(item) for item in alliance.rosters], [format_card(item) for item in alliance.cards.values()]


def card_of(lab: Lab, **changes: object) -> bytes:
    return sign_card(build_card(lab, **changes), lab)


def held(member: SimulatedMember) -> tuple[Alliance | None, Alliance | None]:
    """What the process believes and what the store remembers: always the same."""
    return member.membership.alliance, member.store.membership.load_alliance()


def assert_import_refused(
    member: SimulatedMember, files: tuple[list[bytes], list[bytes]], message: str, *, fingerprint: str | None = None
) -> LabmeshError:
    """A file that is not taken."""
    return assert_refused(
        member, lambda: member.membership.import_alliance(*files, fingerprint=fingerprint), GovernanceError, message
    )


def assert_refused(
    member: SimulatedMember, change: Callable[[], object], error: type[LabmeshError], message: str | None = None
) -> LabmeshError:
    """A refused change changes nothing, tells nobody, and says why."""
    before, told = held(member), []
    member.membership.subscribe(lambda: told.append(1))
    with pytest.raises(error, match=message) as caught:
        change()
    assert held(member) == before
    assert told == []
    return caught.value


class TestFounding:
    def test_the_first_roster(self, make: Callable[[Lab], SimulatedMember]) -> None:
        member = make(JINAN)
        told: list[int] = []
        member.membership.subscribe(lambda: told.append(1))
        assert member.membership.alliance is None
        alliance = member.membership.found("Jinan Quality Alliance")
        roster = alliance.roster
        assert (roster.version, roster.title, roster.council) == (1, "Jinan Quality Alliance", (JINAN.identity_key,))
        assert (roster.threshold, roster.quorum, alliance.active_members()) == (1, 1, ["jinan"])
        assert (roster.issued, roster.expires) == (NOON, NOON + ROSTER_LIFETIME)
        assert alliance.card("jinan") == build_card(JINAN)
        assert told == [1]
        assert held(member) == (alliance, alliance)
        assert member.store.membership.load_identity().fingerprint == alliance.fingerprint

    def test_it_is_remembered(self, jinan: SimulatedMember) -> None:
        alliance = jinan.membership.joined
        jinan.reopen()
        assert jinan.membership.joined == alliance

    def test_only_once(self, jinan: SimulatedMember) -> None:
        assert_refused(jinan, lambda: jinan.membership.found("Again"), GovernanceError, "belongs to quality.jinan.example")

    @pytest.mark.parametrize("threshold", [0, 2, -1])
    def test_a_council_of_one_has_a_threshold_of_one(self, make: Callable[[Lab], SimulatedMember], threshold: int) -> None:
        member = make(JINAN)
        assert_refused(member, lambda: member.membership.found("A", threshold), GovernanceError, "is impossible")

    @pytest.mark.parametrize("title", ["", " ", "a\nb", "x" * 201, "\ud800"])
    def test_an_impossible_title(self, make: Callable[[Lab], SimulatedMember], title: str) -> None:
        member = make(JINAN)
        assert_refused(member, lambda: member.membership.found(title), LabmeshError)

    def test_before_there_is_an_alliance(self, make: Callable[[Lab], SimulatedMember]) -> None:
        member = make(QINGDAO)
        with pytest.raises(GovernanceError, match="does not belong to an alliance yet") as caught:
            _ = member.membership.joined
        assert "labmesh join" in caught.value.hint
        assert (member.membership.held_cards(), member.membership.own_card[1]) == ({}, build_card(QINGDAO))

    def test_a_home_without_a_card(self, tmp_path: Path) -> None:
        store = new_store(tmp_path / "home")
        store.membership.save_identity("jinan", JINAN.alliance, created_ms=1)
        with pytest.raises(HomeError, match="no card of its own"):
            Membership(store.membership, identity=IdentityKey(JINAN.identity_key, JINAN.sign), clock=lambda: NOON)
        store.close()


class TestAdding:
    def test_two_cards_at_once(self, jinan: SimulatedMember) -> None:
        jinan.clock.turn(86400.7)
        alliance = jinan.membership.add_members([card_of(QINGDAO), card_of(YANTAI)])
        assert (alliance.roster.version, alliance.active_members()) == (2, ["jinan", "qingdao", "yantai"])
        assert alliance.roster.members["yantai"].joined == jinan.clock().replace(microsecond=0)
        assert alliance.card("yantai") == build_card(YANTAI)
        assert alliance.knows_fingerprint(alliance.rosters[0][0].hash)
        assert held(jinan) == (alliance, alliance)

    def test_the_quorum_follows_its_default(self, jinan: SimulatedMember) -> None:
        quorums = [jinan.membership.add_members([card_of(lab)]).roster.quorum for lab in build_labs(12)[1:]]
        assert quorums == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5]

    def test_a_chosen_quorum_stays(self, make: Callable[[Lab], SimulatedMember]) -> None:
        member = make(JINAN)
        member.membership.import_alliance(
            [sign_roster(build_roster([JINAN, QINGDAO, YANTAI], quorum=3), JINAN)], [], fingerprint=None
        )
        assert member.membership.add_members([card_of(WEIFANG)]).roster.quorum == 3
        assert member.membership.remove_member("yantai").roster.quorum == 3

    @pytest.mark.parametrize(
        ("card", "error", "message"),
        [
            (lambda: card_of(Lab("yantai", "other.example")), GovernanceError, "is for other.example, not for"),
            (lambda: card_of(JINAN), GovernanceError, "jinan is in the roster already"),
            (lambda: sign_card(build_card(YANTAI), QINGDAO), SignatureError, "not signed by the identity key"),
            (lambda: sign_card(build_card(YANTAI, identity_key=QINGDAO.identity_key), YANTAI), SignatureError, "not signed"),
            (lambda: card_of(YANTAI).replace(b"payload", b"paylaod", 1), FormatError, None),
            (lambda: b"no card", FormatError, None),
        ],
        ids=["other alliance", "present member", "forged", "signed by another key", "broken", "no card"],
    )
    def test_one_bad_card_adds_nobody(
        self, jinan: SimulatedMember, card: Callable[[], bytes], error: type[LabmeshError], message: str | None
    ) -> None:
        assert_refused(jinan, lambda: jinan.membership.add_members([card_of(QINGDAO), card()]), error, message)

    def test_one_member_twice(self, jinan: SimulatedMember) -> None:
        cards = [card_of(QINGDAO), card_of(QINGDAO)]
        assert_refused(jinan, lambda: jinan.membership.add_members(cards), GovernanceError, "is in the roster already")

    def test_one_key_for_two_members(self, jinan: SimulatedMember) -> None:
        other = replace(build_card(YANTAI), identity_key=QINGDAO.identity_key)
        cards = [card_of(QINGDAO), sign_card(other, QINGDAO)]
        assert_refused(jinan, lambda: jinan.membership.add_members(cards), LabmeshError, "belongs to two members")

    def test_a_member_outside_the_council_cannot(self, qingdao: SimulatedMember) -> None:
        for change in (
            lambda: qingdao.membership.add_members([card_of(YANTAI)]),
            lambda: qingdao.membership.remove_member("qingdao"),
        ):
            error = assert_refused(qingdao, change, GovernanceError, "does not sit on the council")
            assert "send the card" in error.hint


class TestRemoving:
    def test_a_removed_member_stays_in_the_roster(self, jinan: SimulatedMember, qingdao: SimulatedMember) -> None:
        jinan.clock.turn(60)
        alliance = jinan.membership.remove_member("qingdao")
        assert (alliance.roster.version, alliance.active_members()) == (3, ["jinan"])
        entry = alliance.roster.members["qingdao"]
        assert (entry.status, entry.left) == ("removed", jinan.clock())
        assert alliance.card("qingdao") == build_card(QINGDAO)
        jinan.reopen()
        assert jinan.membership.joined == alliance

    @pytest.mark.parametrize(("member", "message"), [("weifang", "not an active member"), ("jinan", "sits on the council")])
    def test_who_cannot_be_removed(self, jinan: SimulatedMember, member: str, message: str) -> None:
        assert_refused(jinan, lambda: jinan.membership.remove_member(member), GovernanceError, message)

    def test_nobody_is_removed_twice(self, jinan: SimulatedMember, qingdao: SimulatedMember) -> None:
        jinan.membership.remove_member("qingdao")
        error = assert_refused(
            jinan, lambda: jinan.membership.remove_member("qingdao"), GovernanceError, "'qingdao' is not an active member"
        )
        assert error.hint == "the active members are jinan"


class TestJoining:
    def test_the_pinned_fingerprint_is_remembered(self, jinan: SimulatedMember, qingdao: SimulatedMember) -> None:
        alliance = jinan.membership.joined
        assert qingdao.membership.joined == alliance
        assert qingdao.store.membership.load_identity().fingerprint == alliance.fingerprint
        qingdao.reopen()
        assert qingdao.membership.joined == alliance

    def test_the_fingerprint_of_any_version_serves(
        self, make: Callable[[Lab], SimulatedMember], jinan: SimulatedMember
    ) -> None:
        member, first = make(QINGDAO), jinan.membership.joined.fingerprint
        jinan.membership.add_members([member.card])
        member.membership.import_alliance(*exported(jinan), fingerprint=first)
        member.reopen()
        assert member.membership.joined.roster.version == 2

    def test_a_wrong_fingerprint(self, make: Callable[[Lab], SimulatedMember], jinan: SimulatedMember) -> None:
        member = make(QINGDAO)
        jinan.membership.add_members([member.card])
        assert_import_refused(member, exported(jinan), "no roster in the file has the fingerprint", fingerprint="0" * 64)

    def test_another_alliance(self, make: Callable[[Lab], SimulatedMember], jinan: SimulatedMember) -> None:
        member = make(Lab("qingdao", "other.example"))
        error = assert_import_refused(
            member, exported(jinan), "is for quality.jinan.example, this home was made for other.example"
        )
        assert "init another home" in error.hint

    def test_who_is_not_in_the_roster(self, make: Callable[[Lab], SimulatedMember], jinan: SimulatedMember) -> None:
        member = make(QINGDAO)
        assert_import_refused(member, exported(jinan), "is not an active member in roster version 1")

    def test_who_is_there_with_another_key(self, make: Callable[[Lab], SimulatedMember], jinan: SimulatedMember) -> None:
        impostor = replace(build_card(QINGDAO), identity_key=WEIFANG.identity_key)
        jinan.membership.add_members([sign_card(impostor, WEIFANG)])
        member = make(QINGDAO)
        assert_import_refused(member, exported(jinan), "with this home's identity key")

    def test_a_chain_with_a_gap(self, make: Callable[[Lab], SimulatedMember], jinan: SimulatedMember) -> None:
        jinan.membership.add_members([card_of(QINGDAO)])
        jinan.membership.add_members([card_of(YANTAI)])
        rosters, cards = exported(jinan)
        member = make(QINGDAO)
        for chain in ([], rosters[1:], [rosters[0], rosters[2]], rosters[::-1]):
            assert_refused(
                member,
                lambda chain=chain: member.membership.import_alliance(chain, cards, fingerprint=None),  # type: ignore[misc]
                GovernanceError,
            )

    def test_a_joined_home_takes_newer_rosters(self, jinan: SimulatedMember, qingdao: SimulatedMember) -> None:
        jinan.membership.add_members([card_of(YANTAI)])
        alliance = qingdao.membership.import_alliance(*exported(jinan), fingerprint=None)
        assert alliance == jinan.membership.joined
        assert qingdao.membership.import_alliance(*exported(jinan), fingerprint=alliance.fingerprint) == alliance
        qingdao.reopen()
        assert qingdao.membership.joined == alliance

    def test_a_joined_home_refuses_another_history(self, qingdao: SimulatedMember, jinan: SimulatedMember) -> None:
        fork = sign_roster(build_roster([JINAN], title="Another"), JINAN)
        assert_import_refused(qingdao, ([fork], []), "another roster of version 1 is already held")
        jinan.membership.add_members([card_of(YANTAI)])
        assert_import_refused(qingdao, exported(jinan), "has the fingerprint", fingerprint="0" * 64)


class TestUpdates:
    def test_what_a_peer_tells(self, jinan: SimulatedMember, qingdao: SimulatedMember) -> None:
        jinan.membership.add_members([card_of(YANTAI)])
        told: list[int] = []
        qingdao.membership.subscribe(lambda: told.append(1))
        rosters, cards = jinan.membership.newer_than(2, qingdao.membership.held_cards())
        assert (len(rosters), len(cards)) == (1, 1)
        assert qingdao.membership.accept_update(rosters, cards) == Update(True, ())
        assert qingdao.membership.accept_update(rosters, cards) == Update(False, ())
        assert told == [1]
        assert qingdao.membership.cards_digest() == jinan.membership.cards_digest()
        assert jinan.membership.newer_than(3, qingdao.membership.held_cards()) == ([], [])
        alliance = qingdao.membership.joined
        assert alliance == jinan.membership.joined
        qingdao.reopen()
        assert qingdao.membership.joined == alliance

    def test_what_is_valid_is_kept_whatever_comes_with_it(self, jinan: SimulatedMember, qingdao: SimulatedMember) -> None:
        jinan.membership.add_members([card_of(YANTAI)])
        rosters, cards = jinan.membership.newer_than(2, qingdao.membership.held_cards())
        forged = sign_card(build_card(YANTAI, seq=2, previous="0" * 64), WEIFANG)
        update = qingdao.membership.accept_update([b"no roster", *rosters], [forged, *cards, b"no card"])
        assert update.changed
        assert len(update.faults) == 3
        assert held(qingdao) == (jinan.membership.joined, jinan.membership.joined)

    def test_two_cards_of_one_seq_keep_nobody_else_out(self, jinan: SimulatedMember, qingdao: SimulatedMember) -> None:
        jinan.membership.add_members([card_of(YANTAI), card_of(WEIFANG)])
        qingdao.membership.accept_update(*jinan.membership.newer_than(2, {}))
        held_by_qingdao = card_of(YANTAI, seq=2, previous=parse_card(card_of(YANTAI))[0].hash, name="One")
        assert qingdao.membership.accept_update([], [held_by_qingdao]).changed
        other = card_of(YANTAI, seq=2, previous=parse_card(card_of(YANTAI))[0].hash, name="Another")
        fresh = card_of(WEIFANG, seq=2, previous=parse_card(card_of(WEIFANG))[0].hash, name="Weifang, moved")
        update = qingdao.membership.accept_update([], [other, fresh])
        assert update == Update(True, (), ((held_by_qingdao, other),))
        assert qingdao.membership.joined.card("yantai").name == "One"
        assert qingdao.membership.joined.card("weifang").name == "Weifang, moved"

    @pytest.mark.parametrize(
        "rosters",
        [
            [b"no roster"],
            [sign_roster(build_roster([JINAN], title="Another"), JINAN)],
            [sign_roster(build_roster([JINAN], version=9, previous="0" * 64), JINAN)],
            [sign_roster(build_roster([JINAN], alliance="other.example"), JINAN)],
        ],
        ids=["no roster", "another version 1", "a gap", "another alliance"],
    )
    def test_a_bad_roster_is_not_taken(self, qingdao: SimulatedMember, rosters: list[bytes]) -> None:
        before = held(qingdao)
        update = qingdao.membership.accept_update(rosters, [])
        assert (update.changed, len(update.faults) + len(update.conflicts)) == (False, 1)
        assert held(qingdao) == before

    def test_two_rosters_of_one_version_are_told_as_a_pair(self, qingdao: SimulatedMember) -> None:
        held_envelope = format_roster(qingdao.membership.joined.rosters[1])
        first = qingdao.membership.joined.rosters[0]
        other = sign_roster(build_roster([JINAN], version=2, previous=first[0].hash, title="Another"), JINAN)
        assert qingdao.membership.accept_update([other], []) == Update(False, (), ((held_envelope, other),))

    def test_another_roster_that_its_council_did_not_sign_is_a_fault(self, qingdao: SimulatedMember) -> None:
        first = qingdao.membership.joined.rosters[0]
        other = sign_roster(build_roster([JINAN], version=2, previous=first[0].hash, title="Another"), WEIFANG)
        update = qingdao.membership.accept_update([other], [])
        assert update == Update(False, (Refusal("", "GOVERNANCE", "another roster of version 2 is already held"),), ())

    def test_a_roster_that_too_few_signed(self, qingdao: SimulatedMember) -> None:
        before = held(qingdao)
        update = qingdao.membership.accept_update([next_roster(qingdao, signer=WEIFANG)], [])
        assert not update.changed
        assert "signatures" in update.faults[0]
        assert held(qingdao) == before

    def test_a_member_that_begins_again_with_a_new_identity_key(
        self, qingdao: SimulatedMember, jinan: SimulatedMember
    ) -> None:
        jinan.membership.add_members([card_of(YANTAI)])
        qingdao.membership.accept_update(*jinan.membership.newer_than(2, {}))
        roster = qingdao.membership.joined.roster
        entry = replace(roster.members["yantai"], identity_key=WEIFANG.identity_key)
        raw = next_roster(qingdao, members={**roster.members, "yantai": entry})
        assert qingdao.membership.accept_update([raw], []).changed
        assert "yantai" not in qingdao.membership.joined.cards
        qingdao.reopen()
        assert qingdao.membership.joined.roster.version == 4
        assert "yantai" not in qingdao.membership.joined.cards
        fresh = sign_card(build_card(YANTAI, identity_key=WEIFANG.identity_key, name="Yantai, begun again"), WEIFANG)
        assert qingdao.membership.accept_update([], [fresh]).changed
        qingdao.reopen()
        assert qingdao.membership.joined.card("yantai").name == "Yantai, begun again"


class TestOwnCard:
    def test_changed_settings_are_signed_into_the_next_card(self, qingdao: SimulatedMember, jinan: SimulatedMember) -> None:
        first_envelope, first = qingdao.membership.own_card
        assert not qingdao.membership.reissue_card(name=first.name, region=first.region, endpoints=first.endpoints)
        qingdao.clock.turn(60.5)
        assert qingdao.membership.reissue_card(name="青岛", region="CN-37", endpoints=("a.example:1", "b.example:2"))
        second = qingdao.membership.own_card[1]
        assert second == replace(
            first,
            name="青岛",
            endpoints=("a.example:1", "b.example:2"),
            seq=2,
            previous=first_envelope.hash,
            issued=qingdao.clock().replace(microsecond=0),
        )
        assert qingdao.membership.joined.card("qingdao") == second
        assert jinan.membership.accept_update([], [qingdao.card]).changed
        assert jinan.membership.joined.card("qingdao") == second
        qingdao.reopen()
        assert qingdao.membership.own_card[1] == second == qingdao.membership.joined.card("qingdao")

    def test_it_works_before_joining(self, make: Callable[[Lab], SimulatedMember]) -> None:
        member = make(QINGDAO)
        assert member.membership.reissue_card(name="青岛", region="CN-37", endpoints=())
        member.reopen()
        assert (member.membership.own_card[1].name, member.membership.own_card[1].seq) == ("青岛", 2)

    @pytest.mark.parametrize(
        ("name", "endpoints"),
        [("", ()), ("a\tb", ()), ("x" * 201, ()), ("A", ("a:1",) * 2), ("A", tuple(f"a:{i}" for i in range(1, 10)))],
    )
    def test_settings_that_cannot_stand_in_a_card(
        self, qingdao: SimulatedMember, name: str, endpoints: tuple[str, ...]
    ) -> None:
        before = qingdao.membership.own_card
        assert_refused(
            qingdao,
            lambda: qingdao.membership.reissue_card(name=name, region="CN-37", endpoints=endpoints),
            ConfigError,
            "cannot stand in a card",
        )
        assert qingdao.membership.own_card == before
        assert qingdao.store.membership.load_own_card("qingdao") == format_card(before)

    def test_a_newer_own_card_from_a_peer_is_taken(self, qingdao: SimulatedMember) -> None:
        envelope, card = qingdao.membership.own_card
        newer = sign_card(replace(card, seq=2, previous=envelope.hash, name="Signed elsewhere"), QINGDAO)
        assert qingdao.membership.accept_update([], [newer]).changed
        assert qingdao.membership.own_card == parse_card(newer)


def test_what_others_do_not_have_yet(jinan: SimulatedMember, qingdao: SimulatedMember) -> None:
    qingdao.membership.reissue_card(name="青岛", region="CN-37", endpoints=())
    jinan.membership.accept_update([], [qingdao.card])
    rosters, cards = exported(jinan)
    newer = jinan.membership.newer_than
    assert newer(0, {}) == (rosters, cards)
    assert newer(1, {"jinan": 1, "qingdao": 1}) == (rosters[1:], [qingdao.card])
    assert newer(2, {"jinan": 1, "qingdao": 2, "unknown": 7}) == ([], [])
    assert newer(99, jinan.membership.held_cards()) == ([], [])


def next_roster(member: SimulatedMember, *, signer: Lab = JINAN, **changes: object) -> bytes:
    """The roster that follows the one a member holds."""
    envelope, roster = member.membership.joined.rosters[-1]
    following: Roster = replace(roster, version=roster.version + 1, previous=envelope.hash, **changes)  # type: ignore[arg-type]
    return sign_roster(following, signer)
