"""Proof surgery: a bundle's inclusion proof, its index, its size, its hashes. Some are done by the author itself."""

from __future__ import annotations

from dataclasses import replace

from node.core.checkpoint import parse_checkpoint
from node.core.entry import committer
from node.core.merkle import leaf_hash, node_hash
from node.core.proof import TlogProof
from tests.attacks.scene import JINAN, SIZE, Scene, signed_by_jinan
from tests.attacks.surfaces import BUNDLE, FILE, PROOF
from tests.attacks.table import attack

FAMILY = "proof surgery"


def index(proof: TlogProof, changed: int) -> TlogProof:
    return replace(proof, index=changed)


def size(proof: TlogProof, changed: int) -> TlogProof:
    """The author signs its root for another size."""
    return replace(proof, checkpoint=signed_by_jinan(changed, parse_checkpoint(proof.checkpoint.encode()).root).decode())


@attack(FAMILY, PROOF, "inclusion", "too few hashes")
def a_dropped_hash(proof):
    return replace(proof, path=proof.path[:-1])


@attack(FAMILY, PROOF, "inclusion", "does not reach the root|too few hashes")
def the_first_hash_dropped(proof):
    return replace(proof, path=proof.path[1:])


@attack(FAMILY, PROOF, "inclusion", "too few hashes")
def no_hash_at_all(proof):
    return replace(proof, path=())


@attack(FAMILY, PROOF, "inclusion", "too many hashes")
def an_inserted_hash(proof):
    return replace(proof, path=(*proof.path, bytes(32)))


@attack(FAMILY, PROOF, "inclusion", "does not reach the root|too many hashes")
def a_hash_inserted_first(proof):
    return replace(proof, path=(bytes(32), *proof.path))


@attack(FAMILY, PROOF, "inclusion", "does not reach the root")
def reordered_hashes(proof):
    return replace(proof, path=(proof.path[1], proof.path[0], *proof.path[2:]))


@attack(FAMILY, PROOF, "inclusion", "too many hashes|does not reach the root")
def a_duplicated_hash(proof):
    return replace(proof, path=(proof.path[0], *proof.path))


@attack(FAMILY, PROOF, "inclusion", "does not reach the root")
def a_hash_put_in_anothers_place(proof):
    return replace(proof, path=(proof.path[1], *proof.path[1:]))


@attack(FAMILY, PROOF, "cards", "at most 63")
def a_hundred_hashes(proof):
    return replace(proof, path=(bytes(32),) * 100)


@attack(FAMILY, PROOF, "cards", "32 bytes")
def a_hash_of_thirty_one_bytes(proof):
    return replace(proof, path=(proof.path[0][:-1], *proof.path[1:]))


@attack(FAMILY, PROOF, "commitment", "different entries")
def an_index_one_too_large(proof):
    return index(proof, proof.index + 1)


@attack(FAMILY, PROOF, "commitment", "different entries")
def an_index_one_too_small(proof):
    return index(proof, proof.index - 1)


@attack(FAMILY, BUNDLE, "inclusion", "does not reach the root")
def an_index_moved_in_every_proof(bundle, scene):
    return replace(bundle, first_proof=None, proof=bundle.proof.replace(b"index 5", b"index 4"))


@attack(FAMILY, BUNDLE, "inclusion", r"entry 10 of jinan")
def a_doubled_index(bundle, scene):
    return replace(bundle, first_proof=None, proof=bundle.proof.replace(b"index 5", b"index 10"))


@attack(FAMILY, BUNDLE, "inclusion", "is not in a log of size 11")
def a_huge_index(bundle, scene):
    return replace(bundle, first_proof=None, proof=bundle.proof.replace(b"index 5", b"index 9223372036854775807"))


@attack(FAMILY, PROOF, "cards", "is not an index")
def an_index_beyond_any_integer(proof):
    return index(proof, 10**40)


@attack(FAMILY, PROOF, "cards", "'-5' is not an index")
def a_negative_index(proof):
    return index(proof, -proof.index)


@attack(FAMILY, PROOF, "inclusion", "too (few|many) hashes|does not reach")
def a_size_one_too_large_signed_by_its_author(proof):
    return size(replace(proof, path=proof.path[:-2]), SIZE + 1)


@attack(FAMILY, PROOF, "checkpoint", "not an earlier checkpoint")
def a_size_below_the_first_proof_signed_by_its_author(proof):
    return size(proof, 6)


@attack(FAMILY, PROOF, "inclusion", "too few hashes")
def a_doubled_size_signed_by_its_author(proof):
    return size(proof, 2 * SIZE)


@attack(FAMILY, PROOF, "inclusion", "too few hashes")
def the_largest_size_signed_by_its_author(proof):
    return size(proof, 2**40 - 1)


@attack(FAMILY, PROOF, "cards", "is not a log size")
def a_huge_size_signed_by_its_author(proof):
    return size(proof, 2**64)


@attack(FAMILY, PROOF, "cards", "is not a log size")
def a_negative_size_signed_by_its_author(proof):
    return size(proof, -SIZE)


@attack(FAMILY, PROOF, "checkpoint", "does not verify")
def a_size_that_nobody_signed(proof):
    return replace(proof, checkpoint=proof.checkpoint.replace("\n11\n", "\n12\n", 1))


@attack(FAMILY, BUNDLE, "inclusion", "does not reach the root")
def an_inner_node_passed_off_as_a_leaf(bundle, scene):
    """The author halves its tree: the parents of the leaves stand where leaves should, under the root it has signed."""
    halved = signed_by_jinan((SIZE + 1) // 2, scene.checkpoint().root).decode()
    head, _, _ = bundle.proof.decode().partition("\n\n")
    lines = [line if not line.startswith("index ") else "index 2" for line in head.split("\n")]
    del lines[3]
    return replace(bundle, first_proof=None, proof=("\n".join(lines) + "\n\n" + halved).encode())


@attack(FAMILY, BUNDLE, "schema", "not canonical JSON")
def a_leaf_that_is_two_leaves(bundle, scene):
    """The record's bytes are two node hashes; its leaf is not the node over them, and no record is like that."""
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    commitment = committer(JINAN.origin)(bytes(32), left + right)
    assert leaf_hash(left + right) != node_hash(left, right)
    lines = ["c2sp.org/tlog-proof@v1", "extra " + "A" * 43 + "=", "index 0"]
    proof = "\n".join(lines) + "\n\n" + signed_by_jinan(1, leaf_hash(commitment)).decode()
    return replace(bundle, first_proof=None, record=left + right, proof=proof.encode())


@attack(FAMILY, BUNDLE, "inclusion", "changed after it was made")
def another_record_under_the_same_proof(bundle, scene):
    return replace(bundle, record=bundle.record.replace(b'"0.10"', b'"0.01"'))


@attack(FAMILY, BUNDLE, "commitment", "different entries")
def the_earliest_proof_of_another_entry(bundle, scene):
    return replace(bundle, first_proof=bundle.first_proof.replace(b"index 5", b"index 4"))


@attack(FAMILY, FILE, "roster", "belong to no member")
def bytes_before_the_bundle(raw, scene):
    return b"#!/bin/sh\n" + raw


@attack(FAMILY, FILE, "roster", "belong to no member")
def bytes_behind_the_bundle(raw, scene):
    return raw + b"\x00"


@attack(FAMILY, FILE, "roster", "no bundle, or damaged|different things|belong to no member")
def half_a_bundle(raw, scene: Scene):
    return raw[: len(raw) // 2]
