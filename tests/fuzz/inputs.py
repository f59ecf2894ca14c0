"""What is thrown at a parser: random bytes, random text, and valid examples with something done to them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import strategies as st

SIZE_MAX = 64 * 1024

EDGE_NUMBERS = (
    b"0", b"-0", b"-1", b"1", b"007", b"+7", b"7_3", "７".encode(), b"1.0", b"1e400", b"NaN", b"127", b"128", b"255", b"256",
    b"999", b"1000", b"1001", b"65535", b"65536", b"2147483647", b"2147483648", b"9007199254740991", b"9007199254740992",
    b"1099511627775", b"1099511627776", b"9223372036854775807", b"9223372036854775808", b"18446744073709551615",
    b"18446744073709551616", b"9" * 5000,
)  # fmt: skip
TOKENS = (
    b"", b"\x00", b"\n", b"\r\n", b"\n\n", b" ", b"\t", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"/", b"@", b"+",
    b"=", b"*", b"\xff", b"\x80", b"\xef\xbb\xbf", b"\xed\xa0\x80", "\u2028".encode(), "\u00e9".encode(), "e\u0301".encode(),
    "\U0001f600".encode(), "\u200b".encode(), "\u3000".encode(), b"null", b"true", b"\\ud800", b"\\u0000", b"[" * 200,
    b"[" * 5000, b'{"a":' * 70, b"(" * 200, b"PK\x03\x04", b"PK\x05\x06", b"\xff" * 8, b"\x80" * 10, b"\x7f" * 8, b"AND",
    b"GB/T 5009.12-2003", b"NEAR(", b"--", b"../", b"%00",
)  # fmt: skip
_NUMBER = re.compile(rb"-?[0-9]+")


def inputs(pool: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Any bytes, any text, and mutations of the examples in the pool, which is most of it."""
    noise = st.binary(max_size=300) | st.text(max_size=200).map(str.encode)
    return st.integers(0, 9).flatmap(lambda kind: noise if kind == 0 else mutations(pool))


@st.composite
def mutations(draw: st.DrawFn, pool: Sequence[bytes]) -> bytes:
    """One example with up to six changes; none of them leaves it valid, which a round trip must survive too."""
    raw = draw(st.sampled_from(pool))
    for _ in range(draw(st.integers(0, 6))):
        raw = draw(st.sampled_from(CHANGES))(draw, raw, pool)[:SIZE_MAX]
    return raw


def _place(draw: st.DrawFn, raw: bytes) -> int:
    return draw(st.integers(0, len(raw)))


def _stretch(draw: st.DrawFn, raw: bytes) -> tuple[int, int]:
    low = _place(draw, raw)
    return low, min(len(raw), low + draw(st.sampled_from((1, 1, 2, 4, 8, 32, 100, 1000))))


def flip_bit(draw: st.DrawFn, raw: bytes, pool: Sequence[bytes]) -> bytes:
    """One bit of one byte."""
    if not raw:
        return raw
    at, bit = draw(st.integers(0, len(raw) - 1)), draw(st.integers(0, 7))
    return raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]


def truncate(draw: st.DrawFn, raw: bytes, pool: Sequence[bytes]) -> bytes:
    """The end is missing."""
    return raw[: _place(draw, raw)]


def remove(draw: st.DrawFn, raw: bytes, pool: Sequence[bytes]) -> bytes:
    """A stretch is missing."""
    low, high = _stretch(draw, raw)
    return raw[:low] + raw[high:]


def duplicate(draw: st.DrawFn, raw: bytes, pool: Sequence[bytes]) -> bytes:
    """A stretch stands there again, up to a thousand times."""
    low, high = _stretch(draw, raw)
    times = draw(st.sampled_from((1, 1, 1, 2, 10, 1000)))
    return raw[:high] + (raw[low:high] * times)[:SIZE_MAX] + raw[high:]


def splice(draw: st.DrawFn, raw: bytes, pool: Sequence[bytes]) -> bytes:
    """It goes on as another example does."""
    other = draw(st.sampled_from(pool))
    return raw[: _place(draw, raw)] + other[_place(draw, other) :]


def insert(draw: st.DrawFn, raw: bytes, pool: Sequence[bytes]) -> bytes:
    """Something that means much somewhere."""
    at = _place(draw, raw)
    return raw[:at] + draw(st.sampled_from(TOKENS)) + raw[at:]


def overwrite(draw: st.DrawFn, raw: bytes, pool: Sequence[bytes]) -> bytes:
    """A stretch holds other bytes."""
    low, high = _stretch(draw, raw)
    return raw[:low] + draw(st.binary(max_size=16)) + raw[high:]


def edge_number(draw: st.DrawFn, raw: bytes, pool: Sequence[bytes]) -> bytes:
    """One of its numbers is another, or spelled in another way."""
    found = list(_NUMBER.finditer(raw[:SIZE_MAX]))
    if not found:
        return insert(draw, raw, pool)
    match = draw(st.sampled_from(found))
    return raw[: match.start()] + draw(st.sampled_from(EDGE_NUMBERS)) + raw[match.end() :]


CHANGES = (flip_bit, truncate, remove, duplicate, splice, insert, overwrite, edge_number)
