"""Hypothesis strategies for what the formats carry."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from node.core.canonical import INTEGER_MAX
from node.core.checkpoint import SIZE_MAX, Checkpoint
from node.core.keys import LOW_ORDER_ENCODINGS, TYPE_LOG, TYPE_WITNESS, VerifierKey, is_key_name
from node.core.merkle import EMPTY_ROOT
from node.core.names import RecordId, key_fault
from node.core.note import SignatureLine

hashes = st.binary(min_size=32, max_size=32)
names = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=8)
texts = st.text(max_size=12)
integers = st.integers(-INTEGER_MAX, INTEGER_MAX)
scalars = st.none() | st.booleans() | integers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5), max_leaves=25
)
members = st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True)
kind_names = st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True)
record_keys = st.text(min_size=1, max_size=200).filter(lambda key: key_fault(key) is None)
record_ids = st.builds(RecordId, members, kind_names, record_keys, st.none() | st.integers(1, 10**16 - 1))
moments = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
key_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(is_key_name)
public_keys = hashes.filter(lambda raw: raw not in LOW_ORDER_ENCODINGS)
verifier_keys = st.builds(VerifierKey, key_names, st.sampled_from([TYPE_LOG, TYPE_WITNESS]), public_keys)
signature_lines = st.builds(SignatureLine, key_names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80))
origins = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
checkpoints = st.builds(Checkpoint, origins, st.integers(1, SIZE_MAX), hashes) | st.builds(
    Checkpoint, origins, st.just(0), st.just(EMPTY_ROOT)
)
