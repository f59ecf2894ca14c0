"""The Merkle tree of RFC 9162 section 2.1: leaf hashes, roots, inclusion and consistency proofs.

A log keeps three things: its commitments, the roots of every full run of 256 leaves (*tiles*), and a *frontier*, the
roots of the full subtrees that make up its current size, from the largest to the smallest. Appending needs only the
frontier; a proof needs the tiles and at most one tile's worth of leaves on each side of the path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from node.errors import FormatError, ProofError

HASH_SIZE = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = sha256(b"").digest()

_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one leaf."""
    return sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two children."""
    return sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The full subtrees of a tree of `size` leaves, largest first: one hash for each 1 bit of `size`."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a frontier whose hashes do not fit its size."""
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise FormatError(f"a frontier of size {self.size} has {len(self.hashes)} hashes")

    def root(self) -> bytes:
        """Root hash of the whole tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def extend(self, entries: Sequence[bytes]) -> tuple[Frontier, list[bytes]]:
        """Append entries; returns the new frontier and the roots of the tiles that became full, in order."""
        pending = self._by_level()
        hash_ = sha256
        nodes = [hash_(_LEAF + entry).digest() for entry in entries]
        index, level, tiles = self.size, 0, []
        while nodes:
            if level == TILE_HEIGHT:
                tiles = list(nodes)
            if index & 1:
                nodes.insert(0, pending.pop(level))
                index -= 1
            if len(nodes) & 1:
                pending[level] = nodes[-1]
            nodes = [hash_(_NODE + nodes[i] + nodes[i + 1]).digest() for i in range(0, len(nodes) - 1, 2)]
            index >>= 1
            level += 1
        hashes = tuple(pending[level] for level in sorted(pending, reverse=True))
        return Frontier(self.size + len(entries), hashes), tiles

    def _by_level(self) -> dict[int, bytes]:
        levels = [level for level in range(self.size.bit_length() - 1, -1, -1) if self.size >> level & 1]
        return dict(zip(levels, self.hashes, strict=True))


def format_frontier(frontier: Frontier) -> bytes:
    """The hashes, joined; the size is kept beside them."""
    return b"".join(frontier.hashes)


def parse_frontier(size: int, raw: bytes) -> Frontier:
    """Parse what `format_frontier` wrote.

    Raises:
        FormatError: the hashes do not fit the size.
    """
    if len(raw) % HASH_SIZE:
        raise FormatError(f"a frontier of {len(raw)} bytes")
    return Frontier(size, tuple(raw[i : i + HASH_SIZE] for i in range(0, len(raw), HASH_SIZE)))


RangeReader = Callable[[int, int], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Tree:
    """Proofs over a stored log.

    `entries(lo, hi)` returns the entries (commitments) lo…hi-1; `tiles(lo, hi)` the roots of the full tiles lo…hi-1.
    """

    entries: RangeReader
    tiles: RangeReader

    def root(self, size: int) -> bytes:
        """Root of the first `size` leaves."""
        return self._range_root(0, size) if size else EMPTY_ROOT

    def frontier(self, size: int) -> Frontier:
        """The full subtrees of the first `size` leaves, from which the log goes on."""
        hashes, low = [], 0
        for level in range(size.bit_length() - 1, -1, -1):
            if size >> level & 1:
                hashes.append(self._range_root(low, low + (1 << level)))
                low += 1 << level
        return Frontier(size, tuple(hashes))

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Inclusion path of leaf `index` in the tree of `size` leaves (RFC 9162 section 2.1.3)."""
        if not 0 <= index < size:
            raise ProofError(f"entry {index} is not in a log of size {size}")
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._range_root(middle, high))
                high = middle
            else:
                path.append(self._range_root(low, middle))
                low = middle
        path.reverse()
        return path

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Consistency proof between two sizes (RFC 9162 section 2.1.4); empty for `old` 0 or equal sizes."""
        if not 0 <= old <= new:
            raise ProofError(f"no consistency proof from size {old} to size {new}")
        if old in (0, new):
            return []
        proof: list[bytes] = []
        low, high, whole = 0, new, True
        while high != old:
            middle = low + _split(high - low)
            if old <= middle:
                proof.append(self._range_root(middle, high))
                high = middle
            else:
                proof.append(self._range_root(low, middle))
                low, whole = middle, False
        if not whole:
            proof.append(self._range_root(low, high))
        proof.reverse()
        return proof

    def _range_root(self, low: int, high: int) -> bytes:
        """Root of the leaves low…high-1, where `low` is aligned to the enclosing power of two."""
        if low % TILE_WIDTH or high - low < TILE_WIDTH:
            return Frontier().extend(self.entries(low, high))[0].root()
        full = high // TILE_WIDTH
        levels = _reduce(list(self.tiles(low // TILE_WIDTH, full)))
        rest = self.entries(full * TILE_WIDTH, high) if high % TILE_WIDTH else []
        if rest:
            levels.append(Frontier().extend(rest)[0].root())
        root = levels[-1]
        for left in reversed(levels[:-1]):
            root = node_hash(left, root)
        return root


def verify_inclusion(entry: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Verify that `entry` is leaf `index` of the tree of `size` leaves with `root` (RFC 9162 section 2.1.3.2).

    Raises:
        ProofError: it is not, or the proof is malformed.
    """
    verify_leaf_inclusion(leaf_hash(entry), index, size, path, root)


def verify_leaf_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """As `verify_inclusion`, from the leaf hash.

    Raises:
        ProofError: the proof does not hold.
    """
    _require_hashes([leaf, root, *path])
    if not 0 <= index < size:
        raise ProofError(f"entry {index} is not in a log of size {size}")
    fn, sn, current = index, size - 1, leaf
    for step in path:
        if sn == 0:
            raise ProofError(f"the inclusion proof of entry {index} in size {size} has too many hashes")
        if fn & 1 or fn == sn:
            current = node_hash(step, current)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            current = node_hash(current, step)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise ProofError(f"the inclusion proof of entry {index} in size {size} has too few hashes")
    if current != root:
        raise ProofError(f"entry {index} is not in the log of size {size}: the proof does not reach the root")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Verify that the tree of `old` leaves is a prefix of the tree of `new` (RFC 9162 section 2.1.4.2).

    Raises:
        ProofError: it is not, or the proof is malformed.
    """
    _require_hashes([old_root, new_root, *proof])
    if not 0 <= old <= new:
        raise ProofError(f"size {new} cannot extend size {old}")
    if old in (0, new):
        same = old_root == (EMPTY_ROOT if old == 0 else new_root) and (new > 0 or new_root == EMPTY_ROOT)
        if proof or not same:
            raise ProofError(f"sizes {old} and {new} with these roots are not one history")
        return
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise ProofError(f"the consistency proof from {old} to {new} is empty")
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old_current = new_current = path[0]
    for step in path[1:]:
        if sn == 0:
            raise ProofError(f"the consistency proof from {old} to {new} has too many hashes")
        if fn & 1 or fn == sn:
            old_current, new_current = node_hash(step, old_current), node_hash(step, new_current)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            new_current = node_hash(new_current, step)
        fn, sn = fn >> 1, sn >> 1
    if sn or old_current != old_root or new_current != new_root:
        raise ProofError(f"the log of size {new} does not extend the log of size {old}")


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _reduce(tiles: list[bytes]) -> list[bytes]:
    """Roots of the full subtrees over aligned tile roots, largest first."""
    result: list[bytes] = []
    while tiles:
        width = 1 << len(tiles).bit_length() - 1
        nodes = tiles[:width]
        while len(nodes) > 1:
            nodes = [node_hash(nodes[i], nodes[i + 1]) for i in range(0, len(nodes), 2)]
        result.append(nodes[0])
        tiles = tiles[width:]
    return result


def _require_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(item) != HASH_SIZE for item in hashes):
        raise ProofError("a hash in the proof does not have 32 bytes")
