"""How records that were acknowledged but not published follow a log that came back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.entry import SALT_SIZE, Opening, committer
from node.core.record import statement_of
from node.errors import ProofError
from node.recovery import accept_own_opening, settle
from node.store.following import Said, Unpublished
from node.store.logs import NewEntry
from tests.builders import build_labs, kinds, record_bytes

ORIGIN = build_labs(1)[0].origin
COMMIT = committer(ORIGIN)
KEY = ("result", "K")


def raw(value: str, revision: int, *, key: str = "K", published: str = "12:00:00", **changes: Any) -> bytes:
    """A record of jinan."""
    moment = f"2026-11-20T{published}.000Z"
    return record_bytes("jinan", key, body={"value": value}, revision=revision, published=moment, **changes)


def unpublished(record: bytes, index: int = 7) -> Unpublished:
    """The entry of such a record that was not published."""
    content = orjson.loads(record)
    salt = bytes([index]) * SALT_SIZE
    return Unpublished(index, COMMIT(salt, record), (content["kind"], content["key"]), salt, record, understood=True)


def run(items: Sequence[Unpublished], said: Sequence[Said] = (), floor: int = 0) -> list[NewEntry | None]:
    """Settle records of one key."""
    salts = iter(range(100, 200))
    return settle(items, {KEY: said}, floor, commit=COMMIT, draw_salt=lambda: bytes([next(salts)]) * SALT_SIZE)


def content_of(entry: NewEntry | None) -> dict[str, Any]:
    """The record in an entry, whose commitment is the right one."""
    assert entry is not None
    assert COMMIT(entry.salt, entry.record.raw) == entry.commitment
    content: dict[str, Any] = orjson.loads(entry.record.raw)
    assert content == entry.record.content
    return content


class TestSettle:
    def test_where_the_revision_is_free_the_entry_stays_as_it_is(self) -> None:
        item = unpublished(raw("1", 1))
        [entry] = run([item])
        assert entry is not None
        assert (entry.commitment, entry.salt, entry.record.raw) == (item.commitment, item.salt, item.raw)

    def test_other_content_becomes_the_next_revision_under_a_new_salt(self) -> None:
        item = unpublished(raw("1", 1, published="13:00:00"))
        [entry] = run([item], [Said(1, raw("2", 1), True), Said(2, raw("3", 2), True)])
        content = content_of(entry)
        assert (content["revision"], content["body"]["value"]) == (3, "1")
        assert content["published"] == "2026-11-20T13:00:00.000Z"
        assert entry is not None and entry.salt != item.salt

    def test_the_newest_revision_says_the_same(self) -> None:
        assert run([unpublished(raw("1", 1, published="13:00:00"))], [Said(1, raw("1", 1), True)]) == [None]

    def test_an_older_revision_says_the_same_of_another_push(self) -> None:
        said = [Said(1, raw("1", 1), True), Said(2, raw("2", 2), True)]
        [entry] = run([unpublished(raw("1", 1, published="13:00:00"))], said)
        assert content_of(entry)["revision"] == 3

    def test_an_older_revision_is_this_very_push(self) -> None:
        said = [Said(1, raw("0", 1), True), Said(2, raw("1", 2, published="13:00:00"), True), Said(3, raw("2", 3), True)]
        assert run([unpublished(raw("1", 1, published="13:00:00"))], said) == [None]

    def test_revisions_that_were_pushed_meanwhile_stay_in_order(self) -> None:
        items = [unpublished(raw("1", 1), 7), unpublished(raw("2", 2), 8), unpublished(raw("1", 3), 9)]
        entries = run(items, [Said(1, raw("0", 1), True)])
        found = [(content["revision"], content["body"]["value"]) for content in map(content_of, entries)]
        assert found == [(2, "1"), (3, "2"), (4, "1")]

    def test_what_was_erased_counts_as_a_revision_and_is_no_reason_to_be_silent(self) -> None:
        said = [Said(1, raw("1", 1), True), Said(2, raw("erased", 1, published="14:00:00"), True, erased=True)]
        [entry] = run([unpublished(raw("1", 1, published="13:00:00"))], said)
        assert content_of(entry)["revision"] == 3

    def test_a_lost_entry_may_have_any_revision_up_to_the_floor(self) -> None:
        items = [unpublished(raw("1", 1), 7), unpublished(raw("2", 2), 8)]
        assert [content_of(entry)["revision"] for entry in run(items, floor=5)] == [6, 7]
        entries = run(items, [Said(1, raw("0", 1), True), Said(9, raw("3", 9), True)], floor=5)
        assert [content_of(entry)["revision"] for entry in entries] == [10, 11]

    def test_what_has_come_back_leaves_no_gap_behind(self) -> None:
        item = unpublished(raw("1", 6))
        [entry] = run([item], [Said(1, raw("0", 1), True)])
        assert content_of(entry)["revision"] == 2
        assert entry is not None and entry.salt != item.salt

    def test_a_record_that_must_change_gets_a_new_commitment(self) -> None:
        item = unpublished(raw("1", 1))
        [entry] = run([Unpublished(7, None, KEY, item.salt, item.raw, understood=True)])
        assert content_of(entry)["revision"] == 1
        assert entry is not None and entry.salt != item.salt

    @pytest.mark.parametrize(
        ("before", "pushed", "after"),
        [
            (["qingdao"], ["*"], ["qingdao"]),
            ([], ["*"], []),
            (["*"], ["*"], ["*"]),
            (["*"], ["qingdao"], ["qingdao"]),
            (["qingdao"], ["yantai"], ["yantai"]),
        ],
    )
    def test_a_next_revision_is_for_no_more_readers_than_anybody_named(
        self, before: list[str], pushed: list[str], after: list[str]
    ) -> None:
        items = [unpublished(raw("1", 1, audience=pushed), 7), unpublished(raw("2", 2, audience=pushed), 8)]
        entries = run(items, [Said(1, raw("0", 1, audience=before), True)])
        assert [content_of(entry)["audience"] for entry in entries] == [after, after]

    @given(
        st.lists(st.sampled_from("123"), max_size=6),
        st.lists(st.sampled_from("123"), max_size=6),
        st.integers(0, 6),
    )
    def test_revisions_count_up_and_nothing_is_said_twice(self, ours: list[str], theirs: list[str], shared: int) -> None:
        """Both histories begin with the same published revisions; then each went its own way."""
        values = ["0", *theirs]
        # A log never says the same twice in a row.
        values = [value for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
        base = values[: 1 + shared]
        said = [Said(i + 1, raw(value, i + 1, published=f"12:00:{i:02d}"), True) for i, value in enumerate(values)]
        pushed: list[str] = []
        for value in ours:
            if value != [*base, *pushed][-1]:
                pushed.append(value)
        items = [
            unpublished(raw(value, len(base) + 1 + i, published=f"13:00:{i:02d}"), 7 + i) for i, value in enumerate(pushed)
        ]
        entries = run(items, said)
        contents = [content_of(entry) for entry in entries if entry is not None]
        assert [content["revision"] for content in contents] == [len(said) + 1 + i for i in range(len(contents))]
        told = [statement_of(orjson.loads(item.raw)) for item in said] + [statement_of(content) for content in contents]
        assert all(first != second for first, second in pairwise(told))
        if pushed:
            assert told[-1]["body"] == {"value": pushed[-1]}
        # Once more: everything is there already.
        again = [Said(*item[:2], published=True) for item in said]
        again += [Said(content["revision"], orjson.dumps(content), True) for content in contents]
        assert all(entry is None for entry in run([i for i, e in zip(items, entries, strict=True) if e], again))


class TestAcceptOwnOpening:
    def test_one_that_fits(self) -> None:
        item = unpublished(raw("1", 1))
        assert item.commitment is not None
        opening = Opening(7, item.salt, item.raw, 3)
        accepted = accept_own_opening(opening, item.commitment, author="jinan", commit=COMMIT, kinds=kinds())
        assert accepted.record is not None and accepted.record.raw == item.raw

    @pytest.mark.parametrize(
        ("salt", "record"), [(bytes(32), raw("1", 1)), (b"\x07" * 31, raw("1", 1)), (b"\x07" * 32, raw("2", 1))]
    )
    def test_one_that_does_not(self, salt: bytes, record: bytes) -> None:
        item = unpublished(raw("1", 1))
        assert item.commitment is not None
        with pytest.raises(ProofError, match="entry 7 does not fit"):
            accept_own_opening(Opening(7, salt, record), item.commitment, author="jinan", commit=COMMIT, kinds=kinds())

    def test_bytes_that_are_no_record_are_kept_as_such(self) -> None:
        salt = b"\x07" * 32
        accepted = accept_own_opening(
            Opening(7, salt, b"{}"), COMMIT(salt, b"{}"), author="jinan", commit=COMMIT, kinds=kinds()
        )
        assert accepted.record is None and accepted.fault
