"""The tree against a second implementation made of RFC 9162's recursive definitions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.merkle import (
    EMPTY_ROOT,
    TILE_WIDTH,
    Frontier,
    Tree,
    format_frontier,
    leaf_hash,
    node_hash,
    parse_frontier,
    verify_consistency,
    verify_inclusion,
    verify_leaf_inclusion,
)
from node.errors import FormatError, ProofError
from tests.core import strategies
from tests.core.naive import NaiveTree, holds_consistency, holds_inclusion, mth

SIZE_MAX = 2**16 + 300
ENTRIES = [sha256(i.to_bytes(4, "big")).digest() for i in range(SIZE_MAX)]
NAIVE = NaiveTree(ENTRIES)
ALL_PAIRS_MAX = 64
TILE_SIZES = [255, 256, 257, 511, 512, 513, 768, 1023, 1024, 1025, 65280, 65535, 65536, 65537]


def stored_tree(size: int) -> Tree:
    """Proofs over what a store holds after `size` entries came in one batch."""
    tiles = Frontier().extend(ENTRIES[:size])[1]
    return Tree(lambda lo, hi: ENTRIES[lo:hi], lambda lo, hi: tiles[lo:hi])


TREE = stored_tree(SIZE_MAX)


def extend_in_batches(cuts: Sequence[int], size: int) -> tuple[Frontier, list[bytes]]:
    frontier, tiles = Frontier(), []
    for low, high in zip([0, *cuts], [*cuts, size], strict=True):
        frontier, more = frontier.extend(ENTRIES[low:high])
        tiles += more
    return frontier, tiles


def flip(raw: bytes, bit: int) -> bytes:
    at = bit // 8 % len(raw)
    return raw[:at] + bytes([raw[at] ^ 1 << bit % 8]) + raw[at + 1 :]


def mutated_proofs(proof: Sequence[bytes], bit: int) -> Iterator[list[bytes]]:
    """Every way to drop, double, swap or flip one hash, or to add one."""
    yield [*proof, EMPTY_ROOT]
    yield [EMPTY_ROOT, *proof]
    for i, step in enumerate(proof):
        head, tail = list(proof[:i]), list(proof[i + 1 :])
        yield head + tail
        yield [*head, step, step, *tail]
        yield [*head, flip(step, bit), *tail]
        yield [*head, step[:31], *tail]
        if tail and tail[0] != step:
            yield [*head, tail[0], step, *tail[1:]]


def other_numbers(number: int) -> set[int]:
    """The number off by one, doubled, halved, negated and zeroed."""
    return {number - 1, number + 1, 2 * number, number // 2, 0, -number} - {number}


def accepts_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    try:
        verify_leaf_inclusion(leaf, index, size, path, root)
    except ProofError:
        return False
    return True


def accepts_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    try:
        verify_consistency(old, new, proof, old_root, new_root)
    except ProofError:
        return False
    return True


def assert_inclusion(index: int, size: int, *, bit: int = 0) -> None:
    """The proof is the naive one, is taken, and none of its mutations is."""
    path, root, leaf = TREE.inclusion(index, size), NAIVE.root(0, size), leaf_hash(ENTRIES[index])
    assert path == NAIVE.path(index, 0, size)
    verify_inclusion(ENTRIES[index], index, size, path, root)
    verify_leaf_inclusion(leaf, index, size, path, root)
    for mutated in mutated_proofs(path, bit):
        assert not accepts_inclusion(leaf, index, size, mutated, root)
    assert not accepts_inclusion(flip(leaf, bit), index, size, path, root)
    assert not accepts_inclusion(leaf, index, size, path, flip(root, bit))
    assert not accepts_inclusion(ENTRIES[index], index, size, path, root)
    if size > 1:
        assert not accepts_inclusion(root, index, size, path, leaf)
    for other in other_numbers(index):
        assert not accepts_inclusion(leaf, other, size, path, root)
    for other in other_numbers(size):
        # The size is bound by the signed checkpoint. By hashing alone it is bound only where the path's shape changes.
        assert accepts_inclusion(leaf, index, other, path, root) == holds_inclusion(leaf, index, other, path, root)


def assert_consistency(old: int, new: int, *, bit: int = 0) -> None:
    """The proof is the naive one, is taken, and none of its mutations is."""
    proof, old_root, new_root = TREE.consistency(old, new), NAIVE.root(0, old), NAIVE.root(0, new)
    assert proof == ([] if old in (0, new) else NAIVE.proof(old, new))
    verify_consistency(old, new, proof, old_root, new_root)
    for mutated in mutated_proofs(proof, bit):
        assert not accepts_consistency(old, new, mutated, old_root, new_root)
    assert not accepts_consistency(old, new, proof, flip(old_root, bit), new_root)
    if old:
        assert not accepts_consistency(old, new, proof, old_root, flip(new_root, bit))
    if 0 < old < new:
        assert not accepts_consistency(old, new, proof, new_root, old_root)
        assert not accepts_consistency(new, old, proof, new_root, old_root)
    for other in other_numbers(old):
        expected = holds_consistency(other, new, proof, old_root, new_root)
        assert accepts_consistency(other, new, proof, old_root, new_root) == expected
    for other in other_numbers(new):
        expected = holds_consistency(old, other, proof, old_root, new_root)
        assert accepts_consistency(old, other, proof, old_root, new_root) == expected


def test_the_naive_tree_is_its_definition() -> None:
    assert all(NAIVE.root(0, size) == mth(ENTRIES[:size]) for size in range(70))


def test_known_hashes() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert node_hash(leaf_hash(b""), leaf_hash(b"\x00")).hex() == (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    )


def test_every_size_to_300_in_random_batches() -> None:
    rng = random.Random(1)
    for size in range(301):
        cuts = sorted(rng.randint(0, size) for _ in range(rng.randint(0, 6)))
        frontier, tiles = extend_in_batches(cuts, size)
        assert frontier.size == size
        assert frontier.root() == NAIVE.root(0, size) == TREE.root(size)
        assert tiles == [NAIVE.root(lo, lo + TILE_WIDTH) for lo in range(0, size - TILE_WIDTH + 1, TILE_WIDTH)]


def test_one_at_a_time() -> None:
    frontier, tiles = Frontier(), []
    for size in range(1, 801):
        frontier, more = frontier.extend([ENTRIES[size - 1]])
        tiles += more
        assert frontier.root() == NAIVE.root(0, size)
        assert len(tiles) == size // TILE_WIDTH


def test_a_frontier_holds_the_full_subtrees_from_the_largest() -> None:
    frontier, _ = Frontier().extend(ENTRIES[:300])
    assert frontier.hashes == (
        NAIVE.root(0, 256),
        NAIVE.root(256, 288),
        NAIVE.root(288, 296),
        NAIVE.root(296, 300),
    )


@settings(max_examples=60)
@given(st.integers(0, 3000), st.lists(st.integers(0, 3000), max_size=8))
def test_batches_do_not_matter(size: int, cuts: list[int]) -> None:
    frontier, tiles = extend_in_batches(sorted(cut for cut in cuts if cut <= size), size)
    assert (frontier, tiles) == Frontier().extend(ENTRIES[:size])
    assert frontier.root() == NAIVE.root(0, size)


@pytest.mark.parametrize("size", [*TILE_SIZES, SIZE_MAX])
def test_sizes_around_tiles(size: int) -> None:
    rng = random.Random(size)
    cuts = sorted(rng.randint(0, size) for _ in range(5))
    frontier, tiles = extend_in_batches(cuts, size)
    assert frontier.root() == NAIVE.root(0, size) == TREE.root(size)
    assert tiles == [NAIVE.root(lo, lo + TILE_WIDTH) for lo in range(0, size - TILE_WIDTH + 1, TILE_WIDTH)]


@pytest.mark.parametrize("size", range(1, ALL_PAIRS_MAX + 1))
def test_every_inclusion_to_size_64(size: int) -> None:
    for index in range(size):
        assert_inclusion(index, size, bit=(index * 37 + size) % 256)


@pytest.mark.parametrize("new", range(ALL_PAIRS_MAX + 1))
def test_every_consistency_to_size_64(new: int) -> None:
    for old in range(new + 1):
        assert_consistency(old, new, bit=(old * 41 + new) % 256)


@settings(max_examples=150)
@given(st.data())
def test_inclusion_to_size_300(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300))
    assert_inclusion(data.draw(st.integers(0, size - 1)), size, bit=data.draw(st.integers(0, 255)))


@settings(max_examples=150)
@given(st.data())
def test_consistency_to_size_300(data: st.DataObject) -> None:
    new = data.draw(st.integers(0, 300))
    assert_consistency(data.draw(st.integers(0, new)), new, bit=data.draw(st.integers(0, 255)))


@pytest.mark.parametrize("size", TILE_SIZES)
def test_proofs_around_tiles(size: int) -> None:
    rng = random.Random(size)
    edges = {0, 1, 255, 256, 257, 511, 512, 513, 65535, 65536, size - 1, size // 2, rng.randrange(size)}
    for place in sorted(edge for edge in edges if edge < size):
        assert_inclusion(place, size, bit=place % 256)
        assert_consistency(place, size, bit=place % 256)


def test_a_proof_reads_whole_tiles_and_one_tile_of_entries_on_each_side() -> None:
    read: list[tuple[int, int]] = []

    def entries(low: int, high: int) -> Sequence[bytes]:
        read.append((low, high))
        return ENTRIES[low:high]

    tree = Tree(entries, TREE.tiles)
    tree.inclusion(40_000, 65_537)
    tree.consistency(40_000, 65_537)
    tree.root(65_537)
    assert read
    assert all(high - low <= TILE_WIDTH for low, high in read)
    assert sum(high - low for low, high in read) <= 6 * TILE_WIDTH


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 5), (5, 5), (6, 5), (0, -1)])
def test_no_proof_for_an_entry_outside_the_log(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        TREE.inclusion(index, size)
    with pytest.raises(ProofError):
        verify_inclusion(ENTRIES[0], index, size, [], leaf_hash(ENTRIES[0]))


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 1), (1, 0), (-2, -1)])
def test_no_proof_between_sizes_that_do_not_grow(old: int, new: int) -> None:
    with pytest.raises(ProofError):
        TREE.consistency(old, new)
    with pytest.raises(ProofError):
        verify_consistency(old, new, [], EMPTY_ROOT, EMPTY_ROOT)


def test_the_empty_log_has_one_root() -> None:
    assert Frontier().root() == TREE.root(0) == EMPTY_ROOT
    verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    other = NAIVE.root(0, 1)
    for old, new, old_root, new_root in [(0, 0, other, other), (0, 0, EMPTY_ROOT, other), (0, 1, other, other)]:
        with pytest.raises(ProofError):
            verify_consistency(old, new, [], old_root, new_root)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_hashes_of_another_size_are_refused(size: int) -> None:
    leaf, other = leaf_hash(ENTRIES[0]), leaf_hash(ENTRIES[1])
    root = node_hash(leaf, other)
    wrong = bytes(size)
    for arguments in [(wrong, [other], root), (leaf, [wrong], root), (leaf, [other], wrong)]:
        with pytest.raises(ProofError, match="32 bytes"):
            verify_leaf_inclusion(arguments[0], 0, 2, arguments[1], arguments[2])
    with pytest.raises(ProofError, match="32 bytes"):
        verify_consistency(1, 1, [], wrong, wrong)


@settings(max_examples=50)
@given(st.integers(0, 2000))
def test_frontier_round_trip(size: int) -> None:
    frontier, _ = Frontier().extend(ENTRIES[:size])
    raw = format_frontier(frontier)
    assert parse_frontier(size, raw) == frontier
    assert format_frontier(parse_frontier(size, raw)) == raw


@given(st.integers(0, 2**40), st.lists(strategies.hashes, max_size=5))
def test_a_frontier_has_one_hash_for_each_bit(size: int, hashes: list[bytes]) -> None:
    raw = b"".join(hashes)
    if len(hashes) == size.bit_count():
        assert format_frontier(parse_frontier(size, raw)) == raw
    else:
        with pytest.raises(FormatError):
            parse_frontier(size, raw)


@pytest.mark.parametrize(
    ("size", "raw"), [(1, bytes(31)), (1, bytes(33)), (1, b""), (0, bytes(32)), (-1, bytes(32)), (3, bytes(32))]
)
def test_other_frontiers_are_refused(size: int, raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_frontier(size, raw)


def test_a_restored_frontier_goes_on() -> None:
    frontier, _ = Frontier().extend(ENTRIES[:250])
    restored = parse_frontier(250, format_frontier(frontier))
    extended, tiles = restored.extend(ENTRIES[250:600])
    assert extended.root() == NAIVE.root(0, 600)
    assert tiles == [NAIVE.root(0, 256), NAIVE.root(256, 512)]


@pytest.mark.parametrize("size", [0, 1, 2, 3, *TILE_SIZES])
def test_the_frontier_of_any_size_from_what_is_stored(size: int) -> None:
    assert TREE.frontier(size) == Frontier().extend(ENTRIES[:size])[0]


@given(st.integers(0, SIZE_MAX), st.integers(0, 300))
def test_a_stored_log_goes_on_from_any_size(size: int, more: int) -> None:
    high = min(SIZE_MAX, size + more)
    assert TREE.frontier(size).extend(ENTRIES[size:high])[0] == TREE.frontier(high)
