"""Commitments."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from node.core.entry import committer, split_commitments
from tests.core import strategies


def commitment(origin: str, salt: bytes, record: bytes) -> bytes:
    """DESIGN section 4, written out."""
    name = origin.encode()
    message = b"labmesh/commitment/v1" + b"\x00" + len(name).to_bytes(2, "big") + name
    return sha256(message + salt + len(record).to_bytes(8, "big") + record).digest()


@given(strategies.origins, strategies.hashes, st.binary(max_size=100))
def test_the_formula(origin: str, salt: bytes, record: bytes) -> None:
    assert committer(origin)(salt, record) == commitment(origin, salt, record)


def test_a_known_value() -> None:
    by_hand = (
        bytes.fromhex("6c61626d6573682f636f6d6d69746d656e742f763100" + "0005" + "612e622f63")
        + bytes(32)
        + bytes.fromhex("0000000000000002" + "7b7d")
    )
    assert committer("a.b/c")(bytes(32), b"{}") == sha256(by_hand).digest()


@given(strategies.origins, strategies.hashes, st.binary(min_size=1, max_size=50))
def test_origin_salt_and_record_are_bound(origin: str, salt: bytes, record: bytes) -> None:
    honest = committer(origin)(salt, record)
    others = [
        committer(origin + "x")(salt, record),
        committer(origin)(salt[::-1] if salt != salt[::-1] else bytes(31) + b"\x01", record),
        committer(origin)(salt, record + b"\x00"),
        committer(origin)(salt, record[:-1]),
    ]
    assert honest not in others
    assert len(honest) == 32


def test_a_byte_cannot_move_from_one_part_to_the_next() -> None:
    salt = bytes(range(32))
    assert committer("ab")(salt, b"x") != committer("a")(b"b" + salt[:31], salt[31:] + b"x")


@given(st.lists(strategies.hashes, max_size=5))
def test_split_commitments(commitments: list[bytes]) -> None:
    assert split_commitments(b"".join(commitments)) == commitments
