"""The schemas of grants and erasures: what they take and what they refuse."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from node.schemas import load_schemas

GRANT: dict[str, Any] = {"index": 5, "id": "jinan/result/WJ-2024-000123@1", "to": ["qingdao", "yantai"]}
ERASURE: dict[str, Any] = {"index": 5, "id": "jinan/result/检 测@12", "reason": "客户要求：sent to the wrong one"}
BODIES = {"grant/1": GRANT, "erasure/1": ERASURE}


def is_valid(schema: str, **changes: Any) -> bool:
    body = {name: value for name, value in {**BODIES[schema], **changes}.items() if value is not None}
    return jsonschema_rs.Draft202012Validator(load_schemas()[schema]).is_valid(body)


@pytest.mark.parametrize("schema", BODIES)
class TestBoth:
    def test_a_body(self, schema: str) -> None:
        assert is_valid(schema)

    @pytest.mark.parametrize("index", [0, 2**40 - 1])
    def test_any_index_of_a_log(self, schema: str, index: int) -> None:
        assert is_valid(schema, index=index)

    @pytest.mark.parametrize("index", [None, -1, 2**40, "5", 1.5, True])
    def test_no_other_index(self, schema: str, index: object) -> None:
        assert not is_valid(schema, index=index) if index is not None else not is_valid(schema, index=None)

    @pytest.mark.parametrize(
        "record_id", [None, "jinan/result/A", "jinan/result/A@0", "jinan/result/A@01", "jinan/A@1", "JINAN/result/A@1", 7]
    )
    def test_no_id_without_a_revision(self, schema: str, record_id: object) -> None:
        assert not is_valid(schema, id=record_id)

    def test_nothing_else(self, schema: str) -> None:
        assert not is_valid(schema, remark="x")


@pytest.mark.parametrize("to", [None, [], ["*"], ["Qingdao"], ["qingdao", "qingdao"], "qingdao", [""]])
def test_a_grant_names_members_once(to: object) -> None:
    assert not is_valid("grant/1", to=to)


@pytest.mark.parametrize("reason", [None, "", "x" * 1001, "two\nlines", "\x07", 5])
def test_an_erasure_says_why_in_one_line(reason: object) -> None:
    assert not is_valid("erasure/1", reason=reason)


def test_the_longest_reason() -> None:
    assert is_valid("erasure/1", reason="因" * 1000)
