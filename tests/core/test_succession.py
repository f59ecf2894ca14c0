"""Cards that follow one another: nothing that was signed can be disowned, and a thief's checkpoints do not count."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.alliance import Alliance, format_card, format_roster, load_alliance
from node.core.card import Card, FormerLogKey, FormerWitnessKey, parse_card
from node.core.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint, verify_checkpoint
from node.core.keys import TYPE_LOG, TYPE_WITNESS, VerifierKey
from node.core.succession import LEAP_JITTER, LEAP_MIN, LEAP_S, is_forgotten, leap_seq, revoked_at, vouched_size
from node.errors import FormatError, GovernanceError, SignatureError
from tests.builders import (
    START,
    Lab,
    MemoryLog,
    build_alliance,
    build_card,
    build_labs,
    build_roster,
    public_key,
    sign_card,
    sign_roster,
)

LABS = build_labs(3)
JINAN, QINGDAO, YANTAI = LABS
MEMBERS = build_alliance(LABS)
ROOT = bytes(range(32))
SECOND, THIRD = replace(QINGDAO, generation=2), replace(QINGDAO, generation=3)


def follow(held: Alliance, **changes: Any) -> Alliance:
    """Accept qingdao's next card with these changes."""
    envelope, card = held.cards["qingdao"]
    changed = replace(card, **{"seq": card.seq + 1, "previous": envelope.hash, **changes})
    return held.accept_card(sign_card(changed, QINGDAO))


def rotated() -> Alliance:
    return follow(
        MEMBERS,
        log_key=SECOND.log.key,
        former_log_keys=(FormerLogKey(QINGDAO.log.key, 5, ROOT),),
        witness_key=SECOND.witness.key,
        former_witness_keys=(FormerWitnessKey(QINGDAO.witness.key, START),),
    )


REFUSED: dict[str, dict[str, Any]] = {
    "the dropped log key is not listed": {"log_key": THIRD.log.key},
    "another key is listed in its place": {
        "log_key": THIRD.log.key,
        "former_log_keys": (
            FormerLogKey(QINGDAO.log.key, 5, ROOT),
            FormerLogKey(VerifierKey(QINGDAO.origin, TYPE_LOG, public_key("any")), 9, ROOT),
        ),
    },
    "another key is put before it": {
        "log_key": THIRD.log.key,
        "former_log_keys": (
            FormerLogKey(QINGDAO.log.key, 5, ROOT),
            FormerLogKey(VerifierKey(QINGDAO.origin, TYPE_LOG, public_key("any")), 900, ROOT),
            FormerLogKey(SECOND.log.key, 901, ROOT),
        ),
    },
    "a former key is added while the log key stays": {
        "former_log_keys": (
            FormerLogKey(QINGDAO.log.key, 5, ROOT),
            FormerLogKey(VerifierKey(QINGDAO.origin, TYPE_LOG, public_key("any")), 900, ROOT),
        ),
    },
    "a former log key returns": {
        "log_key": QINGDAO.log.key,
        "former_log_keys": (FormerLogKey(QINGDAO.log.key, 5, ROOT), FormerLogKey(SECOND.log.key, 9, ROOT)),
    },
    "a former log key returns, and is forgotten": {
        "log_key": QINGDAO.log.key,
        "former_log_keys": (FormerLogKey(SECOND.log.key, 9, ROOT),),
    },
    "the dropped witness key is not listed": {"witness_key": THIRD.witness.key},
    "a former witness key returns": {
        "witness_key": QINGDAO.witness.key,
        "former_witness_keys": (FormerWitnessKey(SECOND.witness.key, START),),
    },
    "a former witness key lasts longer": {
        "former_witness_keys": (FormerWitnessKey(QINGDAO.witness.key, START + timedelta(days=1)),)
    },
    "sizes that shrink": {
        "log_key": THIRD.log.key,
        "former_log_keys": (FormerLogKey(QINGDAO.log.key, 5, ROOT), FormerLogKey(SECOND.log.key, 4, ROOT)),
    },
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_what_was_said_of_former_keys_stays(changes: dict[str, Any]) -> None:
    held = rotated()
    with pytest.raises(FormatError):
        follow(held, **changes)


@pytest.mark.parametrize("skipped", [False, True])
def test_a_card_may_follow_after_several_rotations(skipped: bool) -> None:
    """A peer that was away sees only the newest card."""
    formers = (FormerLogKey(QINGDAO.log.key, 5, ROOT), FormerLogKey(SECOND.log.key, 5, ROOT))
    witnesses = (FormerWitnessKey(QINGDAO.witness.key, START), FormerWitnessKey(SECOND.witness.key, START))
    held = MEMBERS if skipped else rotated()
    changes = {"former_log_keys": formers, "former_witness_keys": witnesses}
    newest = follow(held, seq=9, previous="00" * 32, log_key=THIRD.log.key, witness_key=THIRD.witness.key, **changes)
    assert newest.card("qingdao").log_key_at(6, ROOT) == THIRD.log.key


def borrowed(role: str, owner: str) -> dict[str, VerifierKey]:
    """A change of qingdao's card that names another's key."""
    raw = {
        "log key": YANTAI.log.key.public_key,
        "witness key": YANTAI.witness.key.public_key,
        "identity key": YANTAI.identity_key,
        "council key": JINAN.identity_key,
    }[owner]
    if role == "log":
        return {"log_key": VerifierKey(QINGDAO.origin, TYPE_LOG, raw)}
    return {"witness_key": VerifierKey(QINGDAO.witness.key.name, TYPE_WITNESS, raw)}


@pytest.mark.parametrize("owner", ["log key", "witness key", "identity key", "council key"])
@pytest.mark.parametrize("role", ["log", "witness"])
def test_a_key_of_another_member_is_refused(role: str, owner: str) -> None:
    formers: dict[str, dict[str, Any]] = {
        "log": {"former_log_keys": (FormerLogKey(QINGDAO.log.key, 5, ROOT),)},
        "witness": {"former_witness_keys": (FormerWitnessKey(QINGDAO.witness.key, START),)},
    }
    with pytest.raises(GovernanceError, match=f"the {role} key in the card of qingdao signs for|uses a key of the roster"):
        follow(MEMBERS, **borrowed(role, owner), **formers[role])


def test_whoever_copies_a_new_key_keeps_out_one_card_only() -> None:
    """Yantai copies qingdao's second key before this node has heard of it; qingdao's third key is its own again."""
    envelope, card = MEMBERS.cards["yantai"]
    copied = VerifierKey(YANTAI.origin, TYPE_LOG, SECOND.log.key.public_key)
    former = (FormerLogKey(YANTAI.log.key, 0, Checkpoint(YANTAI.origin, 0, ROOT).root),)
    stolen = replace(card, seq=2, previous=envelope.hash, log_key=copied, former_log_keys=former)
    held = MEMBERS.accept_card(sign_card(stolen, YANTAI))
    first = (FormerLogKey(QINGDAO.log.key, 5, ROOT),)
    with pytest.raises(GovernanceError, match="signs for yantai already"):
        follow(held, log_key=SECOND.log.key, former_log_keys=first)
    both = (*first, FormerLogKey(SECOND.log.key, 5, ROOT))
    assert follow(held, seq=3, log_key=THIRD.log.key, former_log_keys=both).card("qingdao").log_key == THIRD.log.key


def squatting(*keys: bytes) -> bytes:
    """A card of yantai with a new log key, which says that these keys were its own once."""
    envelope, card = MEMBERS.cards["yantai"]
    names = [card.log_key, *(VerifierKey(YANTAI.origin, TYPE_LOG, key) for key in keys)]
    former = tuple(FormerLogKey(name, 0, ROOT) for name in names)
    log_key = replace(YANTAI, generation=2).log.key
    return sign_card(replace(card, seq=2, previous=envelope.hash, log_key=log_key, former_log_keys=former), YANTAI)


@pytest.mark.parametrize("key", [QINGDAO.log.key, QINGDAO.witness.key])
def test_whoever_says_that_a_key_was_its_own_takes_it_from_nobody(key: VerifierKey) -> None:
    """A former key is not proved: the member whose key it is signs on with it, in this card and the next, in any order."""
    held = MEMBERS.accept_card(squatting(key.public_key))
    assert follow(held, name="Moved").card("qingdao").name == "Moved"
    raws = [format_card(held.cards[name]) for name in ("yantai", "qingdao", "jinan")]
    for order in (raws, raws[::-1]):
        assert sorted(load_alliance([format_roster(each) for each in held.rosters], order).cards) == sorted(held.cards)


def test_a_removed_member_has_no_rivals() -> None:
    """Its card is judged alike whether it comes before or after that of whoever has taken its key."""
    roster = build_roster(LABS)
    members = {**roster.members, "yantai": replace(roster.members["yantai"], status="removed", left=START)}
    removed = replace(roster, version=2, previous=MEMBERS.fingerprint, members=members)
    held = replace(MEMBERS.accept_roster(sign_roster(removed, JINAN)), cards={})
    key = VerifierKey(QINGDAO.origin, TYPE_LOG, YANTAI.log.key.public_key)
    cards = [sign_card(build_card(QINGDAO, log_key=key), QINGDAO), sign_card(build_card(YANTAI), YANTAI)]
    for first, second in (cards, cards[::-1]):
        assert sorted(held.accept_card(first).accept_card(second).cards) == ["qingdao", "yantai"]


def test_keys_of_a_removed_member_keep_nobody_out() -> None:
    roster = build_roster(LABS)
    members = {**roster.members, "yantai": replace(roster.members["yantai"], status="removed", left=START)}
    removed = replace(roster, version=2, previous=MEMBERS.fingerprint, members=members)
    held = MEMBERS.accept_roster(sign_roster(removed, JINAN))
    key = VerifierKey(QINGDAO.origin, TYPE_LOG, YANTAI.log.key.public_key)
    assert follow(held, log_key=key, former_log_keys=(FormerLogKey(QINGDAO.log.key, 5, ROOT),)).card("qingdao").seq == 2


# Random lives of a log


@dataclass
class Life:
    """A log whose keys change: every checkpoint that its owner ever signed, and what thieves signed."""

    log: MemoryLog = field(default_factory=lambda: MemoryLog(JINAN))
    alliance: Alliance = field(default_factory=lambda: build_alliance([JINAN]))
    signed: list[SignedCheckpoint] = field(default_factory=list)
    stolen: list[SignedCheckpoint] = field(default_factory=list)
    disowned: list[SignedCheckpoint] = field(default_factory=list)

    @property
    def card(self) -> Card:
        return self.alliance.card("jinan")

    def append(self, count: int) -> None:
        self.log.append_numbered(count)
        self.signed.append(self.log.checkpoint())

    def rotate(self, size: int) -> None:
        """Retire the key at `size`; what it signed beyond is signed again."""
        envelope, card = self.alliance.cards["jinan"]
        former = FormerLogKey(card.log_key, size, self.log.tree.root(size))
        self.log.lab = replace(self.log.lab, generation=self.log.lab.generation + 1)
        changed = replace(
            card,
            seq=card.seq + 1,
            previous=envelope.hash,
            log_key=self.log.lab.log.key,
            former_log_keys=(*card.former_log_keys, former),
        )
        self.alliance = self.alliance.accept_card(sign_card(changed, JINAN))
        beyond = [signed for signed in self.signed if signed.size > size]
        self.disowned += beyond
        self.signed = [signed for signed in self.signed if signed.size <= size]
        self.signed += [self.log.checkpoint(signed.size) for signed in beyond]

    def steal(self, beyond: int) -> None:
        """A thief signs a history of its own with the key of now, and is noticed before the quorum has seen it."""
        size = self.log.size
        thief = sign_checkpoint(Checkpoint(JINAN.origin, size + beyond, bytes(32)), self.log.lab.log)
        self.stolen.append(thief)
        self.rotate(size)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 5)),
        st.tuples(st.just("rotate"), st.just(0)),
        st.tuples(st.just("revoke"), st.integers(0, 9)),
        st.tuples(st.just("steal"), st.integers(1, 3)),
    ),
    max_size=25,
)


@given(steps)
def test_every_checkpoint_ever_signed_verifies_under_the_newest_card(life_steps: list[tuple[str, int]]) -> None:
    life = Life()
    for step, number in life_steps:
        if step == "append":
            life.append(number)
        elif step == "rotate":
            life.rotate(life.log.size)
        elif step == "revoke":
            least = max((former.size for former in life.card.former_log_keys), default=0)
            life.rotate(max(least, life.log.size - number))
        else:
            life.steal(number)
    for signed in life.signed:
        verify_checkpoint(signed, life.card.log_key_at(signed.size, signed.root))
        assert vouched_size(life.card, signed) is None
    for signed in (*life.stolen, *life.disowned):
        with pytest.raises(SignatureError):
            verify_checkpoint(signed, life.card.log_key_at(signed.size, signed.root))
        size = revoked_at(life.card, signed)
        assert size is not None and size == vouched_size(life.card, signed) and size < signed.size
        assert life.log.tree.root(size) == next(f.root for f in life.card.former_log_keys if f.size == size)


@given(st.integers(1, 2**31), st.integers(0, 2**34), st.integers(0, LEAP_JITTER - 1), st.integers(0, LEAP_JITTER - 1))
def test_a_leap_goes_beyond_every_seq_that_a_home_can_have_forgotten(seq: int, now: int, drawn: int, other: int) -> None:
    leapt = leap_seq(seq, now, drawn)
    assert leapt >= seq + LEAP_MIN and leapt >= now // LEAP_S + LEAP_MIN
    # The same backup restored again, whatever the clock says: another one.
    assert (leap_seq(seq, now, other) == leapt) == (drawn == other)
    assert leap_seq(leapt, now, other) > leapt


def test_leaps_leave_room_for_centuries() -> None:
    seq, now, year = 1, int(START.timestamp()), 365 * 86400
    for _ in range(400):
        now += year
        for _ in range(12):
            seq = leap_seq(seq, now, LEAP_JITTER - 1)
    assert seq < 2**31


def test_a_leap_is_taken_whatever_card_it_follows() -> None:
    """The cards between are forgotten; but what the held card says of former keys, it must say, too."""
    leapt = leap_seq(1, int(START.timestamp()), 0)
    held = follow(MEMBERS, seq=leapt, previous="0" * 64)
    assert held.card("qingdao").seq == leapt
    with pytest.raises(FormatError, match="former log keys"):
        follow(rotated(), seq=leapt, previous="0" * 64, former_log_keys=())


MOVED: dict[str, dict[str, Any]] = {
    "the same seq": {"seq": 2, "previous": "1" * 64},
    "another predecessor": {"seq": 3, "previous": "0" * 64},
    "a leap without the former keys": {"seq": 2000, "previous": "0" * 64, "former_log_keys": ()},
}


@pytest.mark.parametrize("name", MOVED)
def test_two_cards_of_which_one_is_forgotten_whichever_is_held(name: str) -> None:
    older, card = rotated().cards["qingdao"], build_card(SECOND, former_log_keys=rotated().card("qingdao").former_log_keys)
    changes = {"former_witness_keys": older[1].former_witness_keys, "name": "Moved", **MOVED[name]}
    newer = parse_card(sign_card(replace(card, **changes), QINGDAO))
    assert is_forgotten(older, newer) and is_forgotten(newer, older)
    assert not is_forgotten(older, older) and not is_forgotten(newer, newer)


@given(st.integers(1, 4), st.integers(1, 4))
def test_no_card_of_a_home_that_remembers_is_forgotten(first: int, steps: int) -> None:
    chain = [MEMBERS, rotated()]
    for number in range(first + steps):
        chain.append(follow(chain[-1], name=f"Name {number}", seq=chain[-1].card("qingdao").seq + 1))
    older, newer = chain[first].cards["qingdao"], chain[first + steps].cards["qingdao"]
    assert not is_forgotten(older, newer) and not is_forgotten(newer, older)


def test_a_stranger_s_signature_is_no_revoked_one() -> None:
    card = build_card(SECOND, former_log_keys=(FormerLogKey(QINGDAO.log.key, 5, ROOT),))
    stranger = sign_checkpoint(Checkpoint(QINGDAO.origin, 9, ROOT), Lab("qingdao", generation=7).log)
    assert revoked_at(card, stranger) is None
    assert vouched_size(card, stranger) == 0
    other_root = sign_checkpoint(Checkpoint(QINGDAO.origin, 5, bytes(32)), QINGDAO.log)
    assert revoked_at(card, other_root) == 5
    assert revoked_at(card, sign_checkpoint(Checkpoint(QINGDAO.origin, 5, ROOT), QINGDAO.log)) is None
