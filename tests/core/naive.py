"""A second implementation, from the definitions alone and with no care for speed.

Merkle: RFC 9162 sections 2.1.1 (MTH), 2.1.3.1 (PATH) and 2.1.4.1 (PROOF and SUBPROOF), and verifiers that rebuild the
root by the same recursion. JSON: RFC 8785 for values without floating-point numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any


def mth(entries: Sequence[bytes]) -> bytes:
    """Merkle Tree Hash of a list of entries."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = split(len(entries))
    return node(mth(entries[:k]), mth(entries[k:]))


def node(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


class NaiveTree:
    """The same definitions over one list, remembering the hash of each range it has seen."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self._entries = entries
        self._seen: dict[tuple[int, int], bytes] = {}

    def root(self, low: int, high: int) -> bytes:
        """MTH(D[low:high])."""
        if high - low < 2:
            return mth(self._entries[low:high])
        if (low, high) not in self._seen:
            k = split(high - low)
            self._seen[low, high] = node(self.root(low, low + k), self.root(low + k, high))
        return self._seen[low, high]

    def path(self, m: int, low: int, high: int) -> list[bytes]:
        """PATH(m, D[low:high])."""
        n = high - low
        if n == 1:
            return []
        k = split(n)
        if m < k:
            return [*self.path(m, low, low + k), self.root(low + k, high)]
        return [*self.path(m - k, low + k, high), self.root(low, low + k)]

    def proof(self, m: int, n: int) -> list[bytes]:
        """PROOF(m, D_n) for 0 < m < n."""
        return self._subproof(m, 0, n, True)

    def _subproof(self, m: int, low: int, high: int, whole: bool) -> list[bytes]:
        n = high - low
        if m == n:
            return [] if whole else [self.root(low, high)]
        k = split(n)
        if m <= k:
            return [*self._subproof(m, low, low + k, whole), self.root(low + k, high)]
        return [*self._subproof(m - k, low + k, high, False), self.root(low, low + k)]


def holds_inclusion(leaf: bytes, m: int, n: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether PATH(m, D_n) = path is possible for a tree with this root and leaf hash."""
    if not 0 <= m < n:
        return False
    try:
        return _climb(leaf, m, n, list(path)) == root
    except IndexError:
        return False


def _climb(leaf: bytes, m: int, n: int, path: list[bytes]) -> bytes:
    if n == 1:
        if path:
            raise IndexError("too long")
        return leaf
    k = split(n)
    if m < k:
        return node(_climb(leaf, m, k, path[:-1]), path[-1])
    return node(path[-1], _climb(leaf, m - k, n - k, path[:-1]))


def holds_consistency(m: int, n: int, proof: Sequence[bytes], old: bytes, new: bytes) -> bool:
    """Whether PROOF(m, D_n) = proof is possible for trees with these roots."""
    if not 0 <= m <= n:
        return False
    empty = sha256(b"").digest()
    if m in (0, n):
        return not proof and (old == empty if m == 0 else old == new) and (n > 0 or new == empty)
    try:
        return _rebuild(m, n, True, list(proof), old) == (old, new)
    except IndexError:
        return False


def _rebuild(m: int, n: int, whole: bool, proof: list[bytes], old: bytes) -> tuple[bytes, bytes]:
    if m == n:
        if len(proof) != (0 if whole else 1):
            raise IndexError("wrong length")
        return (old, old) if whole else (proof[0], proof[0])
    k = split(n)
    if m <= k:
        left, right = _rebuild(m, k, whole, proof[:-1], old)
        return left, node(right, proof[-1])
    left, right = _rebuild(m - k, n - k, False, proof[:-1], old)
    return node(proof[-1], left), node(proof[-1], right)


_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def encode(value: Any) -> bytes:
    """RFC 8785 of a value made of None, bool, int, str, list and dict."""
    return _encode(value).encode("utf-8")


def _encode(value: Any) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(_character(c) for c in value) + '"'
    if isinstance(value, list):
        return "[" + ",".join(_encode(item) for item in value) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(f"{_encode(name)}:{_encode(value[name])}" for name in names) + "}"


def _character(c: str) -> str:
    if c in _SHORT:
        return _SHORT[c]
    return f"\\u{ord(c):04x}" if c < " " else c
