"""What grants and erasures say, and which of them say nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.disclosure import (
    ERASURE,
    GRANT,
    STATEMENT_KINDS,
    Erasure,
    Grant,
    erasure_body,
    grant_body,
    parse_statement,
    relocate_statement,
)
from node.core.names import RecordId
from node.core.record import parse_record
from tests.builders import record_bytes
from tests.disclosing import KINDS

TARGET = RecordId("jinan", "result", "WJ-2024-000123", 2)


def content(kind: str, body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    key = changes.pop("key", str(body["index"]))
    raw = record_bytes("jinan", key, kind=kind, schema=f"{kind}/1", body=body, **changes)
    return parse_record(raw, author="jinan", kinds=KINDS).content


def grant(**changes: Any) -> dict[str, Any]:
    return content(GRANT, {**grant_body(5, TARGET, ["yantai", "qingdao", "yantai"]), **changes})


def erasure(**changes: Any) -> dict[str, Any]:
    return content(ERASURE, {**erasure_body(5, TARGET, "客户要求"), **changes})


def test_what_is_written_is_read_back() -> None:
    assert parse_statement(grant(), index=6) == Grant(5, TARGET, ("qingdao", "yantai"))
    assert parse_statement(erasure(), index=6) == Erasure(5, TARGET, "客户要求")
    assert STATEMENT_KINDS == ("grant", "erasure")


@given(st.integers(0, 2**40 - 2), st.integers(1, 2**53 - 1), st.sets(st.sampled_from(["a", "b-2", "zibo"]), min_size=1))
def test_any_statement_is_read_back(index: int, revision: int, members: set[str]) -> None:
    target = RecordId("jinan", "result", "检/1", revision)
    if revision < 10**16:
        said = parse_statement(content(GRANT, grant_body(index, target, list(members))), index=index + 1)
        assert said == Grant(index, target, tuple(sorted(members)))


@pytest.mark.parametrize("make", [grant, erasure])
@pytest.mark.parametrize(
    "changes",
    [
        {"id": "qingdao/result/WJ-2024-000123@2"},
        {"id": "jinan/grant/3@1"},
        {"id": "jinan/erasure/3@1"},
        {"id": "jinan/result/ two@1"},
    ],
    ids=["another author", "of a grant", "of an erasure", "no id"],
)
def test_one_that_names_what_it_may_not_has_no_effect(make: Any, changes: dict[str, Any]) -> None:
    assert parse_statement(make(**changes), index=6) is None


@pytest.mark.parametrize("make", [grant, erasure])
def test_one_about_itself_or_later_entries_has_no_effect(make: Any) -> None:
    assert parse_statement(make(), index=5) is None
    assert parse_statement(make(), index=4) is None


def test_one_under_another_key_has_no_effect() -> None:
    assert parse_statement(content(GRANT, grant_body(5, TARGET, ["qingdao"]), key="6"), index=7) is None
    assert parse_statement(content(GRANT, grant_body(5, TARGET, ["qingdao"]), key="05"), index=7) is None


def test_members_in_disorder_have_no_effect() -> None:
    assert parse_statement(grant(to=["yantai", "qingdao"]), index=6) is None


class TestRelocation:
    def test_the_index_moves_with_its_target(self) -> None:
        moved = relocate_statement(erasure(), {5: 9})
        assert moved is not None
        assert (moved["key"], moved["body"]["index"], moved["body"]["reason"]) == ("9", 9, "客户要求")
        assert parse_statement(moved, index=10) == Erasure(9, TARGET, "客户要求")

    def test_without_its_target_it_is_dropped(self) -> None:
        assert relocate_statement(grant(), {4: 8}) is None

    def test_the_given_content_stays(self) -> None:
        before = grant()
        relocate_statement(before, {5: 9})
        assert before == grant()
