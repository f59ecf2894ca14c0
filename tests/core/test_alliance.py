"""The alliance: an immutable value that only moves by verified bytes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from node.core.alliance import Alliance, format_card, format_roster, found_alliance, load_alliance
from node.core.card import CARD_TYPE, FormerLogKey, FormerWitnessKey, card_content
from node.core.dsse import build_envelope
from node.core.keys import TYPE_LOG, TYPE_WITNESS, VerifierKey
from node.core.roster import Member
from node.errors import FormatError, GovernanceError, NotFoundError, SignatureError
from tests.builders import (
    ALLIANCE,
    START,
    Lab,
    build_alliance,
    build_card,
    build_labs,
    build_members,
    build_roster,
    build_roster_chain,
    public_key,
    sign_card,
    sign_roster,
)

LABS = build_labs(3)
JINAN, QINGDAO, YANTAI = LABS
ROOT = bytes(range(32))
MEMBERS = build_alliance(LABS)


def next_roster(held: Alliance = MEMBERS, **changes: Any) -> bytes:
    defaults = {"version": held.roster.version + 1, "previous": held.fingerprint}
    return sign_roster(replace(held.roster, **{**defaults, **changes}), JINAN)


def next_card(held: Alliance = MEMBERS, lab: Lab = QINGDAO, **changes: Any) -> bytes:
    envelope, card = held.cards[lab.member]
    return sign_card(replace(card, **{"seq": card.seq + 1, "previous": envelope.hash, **changes}), lab)


def test_founding() -> None:
    raw = sign_roster(build_roster(LABS), JINAN)
    alliance = found_alliance(raw)
    assert alliance.name == ALLIANCE
    assert dict(alliance.cards) == {}
    assert alliance.knows_fingerprint(alliance.fingerprint)
    assert format_roster(alliance.rosters[0]) == raw
    with pytest.raises(GovernanceError):
        found_alliance(sign_roster(build_roster(LABS), QINGDAO))


def test_members_and_origins() -> None:
    assert MEMBERS.active_members() == ["jinan", "qingdao", "yantai"]
    assert MEMBERS.other_members("jinan") == ["qingdao", "yantai"]
    assert MEMBERS.author_of(QINGDAO.origin) == "qingdao"
    assert MEMBERS.card("yantai") == build_card(YANTAI)
    for origin in ("", "quality.jinan.example/log/dezhou", "other.example/log/jinan", QINGDAO.witness.key.name):
        with pytest.raises(NotFoundError):
            MEMBERS.author_of(origin)


def test_a_card_that_is_not_known_yet() -> None:
    with pytest.raises(NotFoundError):
        found_alliance(sign_roster(build_roster(LABS), JINAN)).card("jinan")


# Rosters


def test_a_newer_roster() -> None:
    newer = MEMBERS.accept_roster(next_roster(title="Second"))
    assert newer.roster.version == 2
    assert newer.cards == MEMBERS.cards
    assert newer.fingerprint != MEMBERS.fingerprint
    assert newer.knows_fingerprint(MEMBERS.fingerprint)
    assert newer.knows_fingerprint(newer.fingerprint)
    assert not MEMBERS.knows_fingerprint(newer.fingerprint)
    assert MEMBERS.roster.version == 1


def test_a_held_roster_changes_nothing() -> None:
    newer = MEMBERS.accept_roster(next_roster())
    for raw in (format_roster(newer.rosters[0]), format_roster(newer.rosters[1])):
        assert newer.accept_roster(raw) is newer


def test_two_rosters_of_one_version() -> None:
    newer = MEMBERS.accept_roster(next_roster())
    for raw in (next_roster(title="Another"), sign_roster(build_roster(LABS, title="Another first"), JINAN)):
        with pytest.raises(GovernanceError, match="already held"):
            newer.accept_roster(raw)
    assert newer.roster.title == MEMBERS.roster.title


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 3},
        {"previous": "00" * 32},
        {"alliance": "other.example"},
        {"members": build_members(LABS[:2])},
        {"council": (QINGDAO.identity_key,)},
    ],
    ids=str,
)
def test_rosters_that_do_not_follow(changes: dict[str, Any]) -> None:
    with pytest.raises(GovernanceError):
        MEMBERS.accept_roster(next_roster(**changes))
    assert MEMBERS.roster.version == 1


def test_an_older_roster_of_another_alliance() -> None:
    other = build_alliance(build_labs(3, "other.example"))
    with pytest.raises(GovernanceError, match=r"for other\.example"):
        MEMBERS.accept_roster(format_roster(other.rosters[0]))


def test_not_a_roster() -> None:
    with pytest.raises(FormatError):
        MEMBERS.accept_roster(sign_card(build_card(JINAN), JINAN))


def test_a_new_identity_key_ends_the_cards_of_the_old_one() -> None:
    member = Member(public_key("new identity"), "active", START)
    newer = MEMBERS.accept_roster(next_roster(members={**MEMBERS.roster.members, "qingdao": member}))
    assert sorted(newer.cards) == ["jinan", "yantai"]
    with pytest.raises(SignatureError):
        newer.accept_card(sign_card(build_card(QINGDAO), QINGDAO))
    reloaded = load_alliance(map(format_roster, newer.rosters), map(format_card, newer.cards.values()))
    assert reloaded == newer


def test_a_removed_member_keeps_its_card() -> None:
    gone = replace(MEMBERS.roster.members["yantai"], status="removed", left=START + timedelta(days=9))
    newer = MEMBERS.accept_roster(next_roster(members={**MEMBERS.roster.members, "yantai": gone}))
    assert newer.active_members() == ["jinan", "qingdao"]
    assert newer.card("yantai") == build_card(YANTAI)
    assert newer.author_of(YANTAI.origin) == "yantai"


# Cards


def test_a_newer_card() -> None:
    newer = MEMBERS.accept_card(next_card(endpoints=("new.example:1",)))
    assert newer.card("qingdao").endpoints == ("new.example:1",)
    assert MEMBERS.card("qingdao").endpoints == ("qingdao.example:7443",)
    assert newer.card("jinan") == MEMBERS.card("jinan")


def test_the_held_card_and_an_older_one_change_nothing() -> None:
    newer = MEMBERS.accept_card(next_card())
    assert newer.accept_card(format_card(newer.cards["qingdao"])) is newer
    assert newer.accept_card(format_card(MEMBERS.cards["qingdao"])) is newer
    assert newer.accept_card(sign_card(build_card(QINGDAO, name="Another first card"), QINGDAO)) is newer


def test_two_cards_with_one_seq() -> None:
    with pytest.raises(GovernanceError, match="two different cards with seq 1"):
        MEMBERS.accept_card(sign_card(build_card(QINGDAO, name="Another"), QINGDAO))


def test_the_next_card_names_its_predecessor() -> None:
    with pytest.raises(GovernanceError, match="does not follow"):
        MEMBERS.accept_card(next_card(previous="00" * 32))


def test_a_card_may_skip_versions() -> None:
    assert MEMBERS.accept_card(next_card(seq=5, previous="00" * 32)).card("qingdao").seq == 5


def test_cards_of_strangers_and_other_alliances() -> None:
    stranger = Lab("dezhou")
    with pytest.raises(GovernanceError, match="not in the roster"):
        MEMBERS.accept_card(sign_card(build_card(stranger), stranger))
    other = Lab("jinan", "other.example")
    with pytest.raises(GovernanceError, match=r"other\.example"):
        MEMBERS.accept_card(sign_card(build_card(other), other))


def test_a_card_signed_by_another_member() -> None:
    with pytest.raises(SignatureError):
        MEMBERS.accept_card(sign_card(build_card(QINGDAO, seq=2, previous="00" * 32), JINAN))
    with pytest.raises(FormatError):
        MEMBERS.accept_card(sign_roster(build_roster(LABS), JINAN))


def key(signature_type: int, label: str) -> VerifierKey:
    name = QINGDAO.origin if signature_type == TYPE_LOG else QINGDAO.witness.key.name
    return VerifierKey(name, signature_type, public_key(label))


FORMER_LOG = FormerLogKey(QINGDAO.log.key, 5, ROOT)
FORMER_WITNESS = FormerWitnessKey(QINGDAO.witness.key, START)


def rotated() -> Alliance:
    return MEMBERS.accept_card(
        next_card(
            log_key=key(TYPE_LOG, "second"),
            former_log_keys=(FORMER_LOG,),
            witness_key=key(TYPE_WITNESS, "second witness"),
            former_witness_keys=(FORMER_WITNESS,),
        )
    )


def test_keys_rotate_and_rotate_again() -> None:
    once = rotated()
    twice = once.accept_card(
        next_card(
            once,
            log_key=key(TYPE_LOG, "third"),
            former_log_keys=(FORMER_LOG, FormerLogKey(key(TYPE_LOG, "second"), 5, ROOT)),
        )
    )
    assert [former.size for former in twice.card("qingdao").former_log_keys] == [5, 5]
    assert twice.card("qingdao").log_key_at(6, ROOT) == key(TYPE_LOG, "third")


@pytest.mark.parametrize(
    "changes",
    [
        {"former_log_keys": ()},
        {"former_log_keys": (replace(FORMER_LOG, size=6),)},
        {"former_log_keys": (replace(FORMER_LOG, root=bytes(32)),)},
        {"former_log_keys": (FormerLogKey(key(TYPE_LOG, "x"), 4, ROOT), FORMER_LOG)},
        {"former_witness_keys": ()},
        {"former_witness_keys": (replace(FORMER_WITNESS, until=START + timedelta(days=1)),)},
        {"log_key": key(TYPE_LOG, "third")},
        {"seq": 9, "former_log_keys": ()},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_former_keys_only_grow(changes: dict[str, Any]) -> None:
    held = rotated()
    with pytest.raises(FormatError):
        held.accept_card(next_card(held, **changes))
    assert held.card("qingdao").seq == 2


def test_a_log_key_is_not_dropped_in_silence() -> None:
    with pytest.raises(FormatError, match="drops a log key"):
        MEMBERS.accept_card(next_card(log_key=key(TYPE_LOG, "second")))


# Loading


def test_load_is_the_same_as_accepting_one_by_one() -> None:
    chain = build_roster_chain(LABS)
    cards = [sign_card(build_card(lab), lab) for lab in LABS]
    step_by_step = found_alliance(chain[0]).accept_roster(chain[1])
    for raw in cards:
        step_by_step = step_by_step.accept_card(raw)
    assert load_alliance(chain, cards) == step_by_step == load_alliance(chain, reversed(cards))
    assert [format_roster(one) for one in step_by_step.rosters] == chain
    assert [format_card(one) for one in step_by_step.cards.values()] == cards


def test_any_version_serves_as_fingerprint() -> None:
    chain = build_roster_chain(LABS)
    alliance = load_alliance(chain)
    for envelope, _ in alliance.rosters:
        assert load_alliance(chain, fingerprint=envelope.hash) == alliance
    for wrong in ("00" * 32, alliance.fingerprint.upper(), alliance.fingerprint[:-1], ""):
        with pytest.raises(GovernanceError, match="fingerprint"):
            load_alliance(chain, fingerprint=wrong)


def test_a_fingerprint_beyond_the_chain() -> None:
    chain = build_roster_chain(LABS)
    newest = load_alliance(chain).fingerprint
    with pytest.raises(GovernanceError, match="fingerprint"):
        load_alliance(chain[:1], fingerprint=newest)


@pytest.mark.parametrize("broken", ["empty", "without the first", "reversed", "doubled"])
def test_broken_chains(broken: str) -> None:
    chain = build_roster_chain(LABS)
    chains = {"empty": [], "without the first": chain[1:], "reversed": chain[::-1], "doubled": [chain[0], *chain]}
    with pytest.raises(GovernanceError):
        load_alliance(chains[broken])


def test_cards_are_read_only() -> None:
    with pytest.raises(TypeError):
        MEMBERS.cards["jinan"] = MEMBERS.cards["qingdao"]  # type: ignore[index]


def test_an_envelope_with_a_second_signature_is_the_same_card() -> None:
    envelope = build_envelope(card_content(build_card(QINGDAO)), CARD_TYPE, QINGDAO.sign, JINAN.sign)
    assert MEMBERS.accept_card(format_card((envelope, build_card(QINGDAO)))) is MEMBERS
