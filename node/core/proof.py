"""C2SP tlog-proof v1: one text that carries an entry's index, its inclusion path and a signed checkpoint.

Labmesh puts the entry's salt into the `extra` line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from node.core.keys import format_base64, parse_base64
from node.core.merkle import HASH_SIZE
from node.errors import FormatError

HEADER = "c2sp.org/tlog-proof@v1"
PATH_MAX = 63

_INDEX = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A parsed tlog-proof; `checkpoint` is the note's text, not yet parsed or verified."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None


def format_tlog_proof(proof: TlogProof) -> str:
    """The text of a proof."""
    lines = [HEADER]
    if proof.extra is not None:
        lines.append(f"extra {format_base64(proof.extra)}")
    lines.append(f"index {proof.index}")
    lines.extend(format_base64(step) for step in proof.path)
    return "\n".join(lines) + "\n\n" + proof.checkpoint


def parse_tlog_proof(text: str) -> TlogProof:
    """Parse a proof in its one canonical form.

    Raises:
        FormatError: anything else.
    """
    head, separator, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or not checkpoint or lines.pop(0) != HEADER:
        raise FormatError("not a tlog-proof: header, index line, hashes, empty line and checkpoint are needed")
    extra: bytes | None = None
    if lines and lines[0].startswith("extra "):
        extra = parse_base64(lines.pop(0).removeprefix("extra "))
    if not lines or not lines[0].startswith("index "):
        raise FormatError("a tlog-proof without an index line")
    index_text = lines.pop(0).removeprefix("index ")
    if not _INDEX.fullmatch(index_text):
        raise FormatError(f"{index_text[:40]!r} is not an index")
    if len(lines) > PATH_MAX:
        raise FormatError(f"a tlog-proof with {len(lines)} hashes; at most {PATH_MAX} can be needed")
    path = tuple(parse_base64(line) for line in lines)
    if any(len(step) != HASH_SIZE for step in path):
        raise FormatError("a hash in the tlog-proof does not have 32 bytes")
    proof = TlogProof(int(index_text), path, checkpoint, extra)
    if format_tlog_proof(proof) != text:
        raise FormatError("a tlog-proof that is not in canonical form")
    return proof
