"""A refusal's bytes: one form, one signature, one roster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.canonical import Json
from node.core.card import CARD_TYPE
from node.core.dsse import build_envelope, format_envelope, parse_envelope
from node.core.refusal import REFUSAL_TYPE, Refusal, parse_refusal, refusal_of, sign_refusal, verify_refusals
from node.core.roster import ROSTER_TYPE, parse_roster
from node.errors import FormatError, GovernanceError
from tests.builders import build_labs, build_roster, sign_roster

LABS = build_labs(3)
JINAN, QINGDAO, YANTAI = LABS
KEYS = [lab.identity_key for lab in LABS]
REFUSAL = Refusal("quality.jinan.example", 7, "ab" * 32)
RAW = sign_refusal(REFUSAL, JINAN.sign)

refusals = st.builds(
    Refusal,
    st.sampled_from(["b.example", "quality.jinan.example"]),
    st.integers(1, 2**31),
    st.text("0123456789abcdef", min_size=64, max_size=64),
)


@given(refusals)
def test_it_is_read_back(refusal: Refusal) -> None:
    raw = sign_refusal(refusal, QINGDAO.sign)
    envelope, parsed = parse_refusal(raw)
    assert (parsed, format_envelope(envelope)) == (refusal, raw)
    assert verify_refusals([raw], refusal, KEYS) == {QINGDAO.identity_key}


@given(st.integers(min_value=0), st.integers(0, 255))
def test_one_changed_byte_refuses_nothing(place: int, byte: int) -> None:
    mutated = bytearray(RAW)
    mutated[place % len(RAW)] = byte
    if bytes(mutated) == RAW:
        return
    with pytest.raises((FormatError, GovernanceError)):
        verify_refusals([bytes(mutated)], REFUSAL, KEYS)


def test_it_names_the_roster() -> None:
    envelope, roster = parse_roster(sign_roster(build_roster(LABS), JINAN))
    assert refusal_of(envelope, roster) == Refusal(roster.alliance, 1, envelope.hash)
    content = parse_envelope(RAW, REFUSAL_TYPE)[1]
    assert content == {"alliance": "quality.jinan.example", "roster": "ab" * 32, "version": 7}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"alliance": "a.example", "version": 1},
        {"alliance": "a.example", "roster": None, "version": 1},
        {"alliance": "a.example", "roster": "AB" * 32, "version": 1},
        {"alliance": "a.example", "roster": "ab" * 32, "version": 0},
        {"alliance": "a.example", "roster": "ab" * 32, "version": "1"},
        {"alliance": "A.example", "roster": "ab" * 32, "version": 1},
        {"alliance": "a.example", "roster": "ab" * 32, "version": 1, "member": "jinan"},
        [],
    ],
    ids=["nothing", "no roster", "null", "capitals", "version 0", "text", "alliance", "more", "list"],
)
def test_other_contents(content: Json) -> None:
    with pytest.raises(FormatError):
        parse_refusal(format_envelope(build_envelope(content, REFUSAL_TYPE, JINAN.sign)))


def test_two_signatures_or_another_type() -> None:
    content = parse_envelope(RAW, REFUSAL_TYPE)[1]
    with pytest.raises(FormatError, match="2 signatures"):
        parse_refusal(format_envelope(build_envelope(content, REFUSAL_TYPE, JINAN.sign, QINGDAO.sign)))
    for payload_type in (ROSTER_TYPE, CARD_TYPE):
        with pytest.raises(FormatError, match="type"):
            parse_refusal(format_envelope(build_envelope(content, payload_type, JINAN.sign)))


def test_whose_count() -> None:
    both = [RAW, sign_refusal(REFUSAL, YANTAI.sign)]
    assert verify_refusals(both, REFUSAL, KEYS) == {JINAN.identity_key, YANTAI.identity_key}
    assert verify_refusals([], REFUSAL, KEYS) == frozenset()
    for bad, wanted, keys in (
        ([RAW, RAW], REFUSAL, KEYS),
        ([RAW], REFUSAL, KEYS[1:]),
        ([RAW], Refusal(REFUSAL.alliance, 8, REFUSAL.roster), KEYS),
        ([RAW], Refusal(REFUSAL.alliance, 7, "cd" * 32), KEYS),
        ([RAW], Refusal("other.example", 7, REFUSAL.roster), KEYS),
    ):
        with pytest.raises(GovernanceError, match="refusal of another roster"):
            verify_refusals(bad, wanted, keys)
