"""Tokens and clients' names: one form, and a refusal never repeats the secret."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.token import TOKEN_BYTES, TOKEN_PREFIX, format_token, hash_token, parse_client_name, parse_token
from node.errors import FormatError

GOOD = format_token(bytes(range(32)))


@given(st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES))
def test_what_is_formatted_is_parsed(secret: bytes) -> None:
    token = format_token(secret)
    assert parse_token(token) == token
    assert re.fullmatch(r"labmesh_[A-Za-z0-9_-]{43}", token)


@given(st.binary(max_size=64).filter(lambda secret: len(secret) != TOKEN_BYTES))
def test_other_sizes_are_no_secret(secret: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        format_token(secret)


def test_two_secrets_have_two_tokens_and_two_hashes() -> None:
    other = format_token(bytes(32))
    assert other != GOOD
    assert hash_token(other) != hash_token(GOOD)
    assert len(hash_token(GOOD)) == 32


def test_the_hash_is_that_of_the_whole_text() -> None:
    assert hash_token(GOOD) == hash_token(str(GOOD))
    assert hash_token(GOOD) != hash_token(GOOD.removeprefix(TOKEN_PREFIX))
    assert hash_token(GOOD) != hash_token(GOOD + " ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "labmesh_",
        GOOD[:-1],
        GOOD + "x",
        " " + GOOD,
        GOOD + "\n",
        GOOD.upper(),
        GOOD.replace("labmesh", "other"),
        "é" * 51,
    ],
)
def test_other_texts_are_no_token(text: str) -> None:
    with pytest.raises(FormatError, match="this is no token") as caught:
        parse_token(text)
    assert len(text) < 10 or text.strip() not in caught.value.message + caught.value.hint


@given(st.text(max_size=80))
def test_any_text_can_be_hashed(text: str) -> None:
    assert len(hash_token(text)) == 32


@pytest.mark.parametrize("name", ["a", "7", "lims", "lims-2", "a" * 31, "0-"])
def test_names(name: str) -> None:
    assert parse_client_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a_b", "a" * 32, "é", "a\n", "a,b", "ａ"])
def test_other_names(name: str) -> None:
    with pytest.raises(FormatError, match="is not a client's name"):
        parse_client_name(name)
