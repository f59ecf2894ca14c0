"""A whole log of transparency-dev/tessera (Apache-2.0): checkpoints, tiles and entry bundles in C2SP tlog-tiles format."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from node.core.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from node.core.keys import TYPE_LOG, VerifierKey, parse_verifier_key
from node.core.merkle import Frontier, Tree, leaf_hash, verify_consistency, verify_inclusion
from node.errors import ProofError, SignatureError

SIZES = range(16)


@pytest.fixture(scope="module")
def folder(vectors: Path) -> Path:
    return vectors / "tessera-testlog"


@pytest.fixture(scope="module")
def key(folder: Path) -> VerifierKey:
    return parse_verifier_key((folder / "VKEY.txt").read_text().strip(), signature_type=TYPE_LOG)


@pytest.fixture(scope="module")
def checkpoints(folder: Path, key: VerifierKey) -> list[Checkpoint]:
    return [verify_checkpoint(parse_checkpoint((folder / f"checkpoint.{n}").read_bytes()), key) for n in SIZES]


@pytest.fixture(scope="module")
def entries(folder: Path) -> list[bytes]:
    return split_entry_bundle((folder / "tile/entries/000.p/15").read_bytes())


def split_entry_bundle(raw: bytes) -> list[bytes]:
    """C2SP tlog-tiles: each entry behind its length in 16 bits, big-endian."""
    entries = []
    while raw:
        size = int.from_bytes(raw[:2], "big")
        assert len(raw) >= 2 + size
        entries.append(raw[2 : 2 + size])
        raw = raw[2 + size :]
    return entries


def tree_of(entries: list[bytes]) -> Tree:
    return Tree(lambda lo, hi: entries[lo:hi], lambda lo, hi: [])


def test_every_checkpoint_is_signed_and_says_its_size(checkpoints: list[Checkpoint], key: VerifierKey) -> None:
    assert [checkpoint.size for checkpoint in checkpoints] == list(SIZES)
    assert {checkpoint.origin for checkpoint in checkpoints} == {key.name} == {"example.com/log/testdata"}


def test_the_newest_checkpoint(folder: Path, checkpoints: list[Checkpoint]) -> None:
    assert parse_checkpoint((folder / "checkpoint").read_bytes()).checkpoint in checkpoints


def test_checkpoints_come_back_as_the_same_bytes(folder: Path) -> None:
    for n in SIZES:
        raw = (folder / f"checkpoint.{n}").read_bytes()
        assert bytes(parse_checkpoint(raw)) == raw


def test_no_checkpoint_verifies_with_another_size(folder: Path, key: VerifierKey) -> None:
    for n in SIZES[1:]:
        raw = (folder / f"checkpoint.{n}").read_bytes()
        with pytest.raises(SignatureError):
            verify_checkpoint(parse_checkpoint(raw.replace(f"\n{n}\n".encode(), f"\n{n + 1}\n".encode(), 1)), key)


def test_every_root_from_the_entries(entries: list[bytes], checkpoints: list[Checkpoint]) -> None:
    frontier = Frontier()
    for n in SIZES:
        assert frontier.root() == checkpoints[n].root == tree_of(entries).root(n)
        frontier, _ = frontier.extend(entries[n : n + 1])


def test_every_partial_bundle_and_tile(folder: Path, entries: list[bytes]) -> None:
    for n in SIZES[1:]:
        assert split_entry_bundle((folder / f"tile/entries/000.p/{n}").read_bytes()) == entries[:n]
        assert (folder / f"tile/0/000.p/{n}").read_bytes() == b"".join(map(leaf_hash, entries[:n]))


def test_consistency_between_all_pairs(entries: list[bytes], checkpoints: list[Checkpoint]) -> None:
    tree = tree_of(entries)
    for old, new in combinations_with_replacement(checkpoints, 2):
        proof = tree.consistency(old.size, new.size)
        verify_consistency(old.size, new.size, proof, old.root, new.root)
        if 0 < old.size < new.size:
            with pytest.raises(ProofError):
                verify_consistency(old.size, new.size, proof, new.root, old.root)


def test_inclusion_of_every_entry_in_every_checkpoint(entries: list[bytes], checkpoints: list[Checkpoint]) -> None:
    tree = tree_of(entries)
    for checkpoint in checkpoints:
        for index in range(checkpoint.size):
            path = tree.inclusion(index, checkpoint.size)
            verify_inclusion(entries[index], index, checkpoint.size, path, checkpoint.root)
            with pytest.raises(ProofError):
                verify_inclusion(entries[index] + b"!", index, checkpoint.size, path, checkpoint.root)
