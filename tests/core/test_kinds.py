"""Kinds: schemas by name and version, and every violation at once."""

from __future__ import annotations

from typing import Any

import pytest

from node.core.kinds import MESSAGE_LENGTH_MAX, Kinds
from node.errors import NotFoundError
from tests.builders import NOTICE_1, RESULT_1, kinds, record_content


def test_names_and_versions() -> None:
    assert kinds().names() == ["notice", "result"]
    assert kinds().newest_schema("result") == "result/1"
    assert kinds().newest_schema("notice") == "notice/2"
    assert kinds().knows("notice/1")
    assert not kinds().knows("notice/3")
    assert not kinds().knows(None)
    assert not kinds().knows(1)


def test_versions_are_numbers() -> None:
    many = Kinds({f"notice/{version}": NOTICE_1 for version in (9, 10, 2)})
    assert many.newest_schema("notice") == "notice/10"


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(NotFoundError) as caught:
        kinds().newest_schema("recipe")
    assert caught.value.hint == "the kinds are notice, result"


def test_a_valid_record_has_no_violation() -> None:
    assert kinds().validate_content(record_content()) == []


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"body": {}}, ["/body"]),
        ({"body": {"value": 1}}, ["/body/value"]),
        ({"body": {"value": "1", "extra": 1}}, ["/body"]),
        ({"body": {"value": "1", "notes": ["a", 1, 2]}}, ["/body/notes/1", "/body/notes/2"]),
        ({"body": {"value": "1", "count": True}}, ["/body/count"]),
        ({"body": {"value": "1", "count": "1"}}, ["/body/count"]),
        ({"body": []}, ["/body"]),
        ({"body": None}, [""]),
        ({"extra/~": 1}, [""]),
        ({"revision": 0}, ["/revision"]),
        ({"revision": 2**53}, ["/revision"]),
        ({"revision": True}, ["/revision"]),
        ({"audience": "*"}, ["/audience"]),
        ({"audience": [1]}, ["/audience/0"]),
        ({"audience": ["m" * 32]}, ["/audience/0"]),
        ({"author": "Jinan"}, ["/author"]),
        ({"author": "jinan\n"}, ["/author"]),
        ({"key": ""}, ["/key"]),
        ({"key": "x" * 201}, ["/key"]),
        ({"kind": "Result"}, ["/kind"]),
        ({"published": "2026"}, ["/published"]),
        ({"schema": "result"}, ["/schema"]),
        ({"schema": "result/0"}, ["/schema"]),
        ({"schema": "result/01"}, ["/schema"]),
        ({"schema": 1}, ["/schema"]),
        ({"thread": "x"}, ["/thread"]),
        ({"thread": "jinan/result/a@1"}, ["/thread"]),
        ({"replaces": "jinan/result/a"}, ["/replaces"]),
        ({"replaces": "jinan/result/a@0"}, ["/replaces"]),
        ({"blobs": []}, ["/blobs"]),
        ({"blobs": [{"name": "a", "sha256": "AB" * 32, "size": 0, "type": "a/b"}]}, ["/blobs/0/sha256"]),
        ({"blobs": [{"name": "a", "sha256": "ab" * 32, "size": -1, "type": "a/b"}]}, ["/blobs/0/size"]),
        ({"blobs": [{"name": "a", "sha256": "ab" * 32, "size": 2**31 + 1, "type": "a/b"}]}, ["/blobs/0/size"]),
        ({"blobs": [{"name": "", "sha256": "ab" * 32, "size": 0, "type": "a/b"}]}, ["/blobs/0/name"]),
        ({"blobs": [{"name": "a", "sha256": "ab" * 32, "size": 0}]}, ["/blobs/0"]),
        ({"blobs": [{"name": "a", "sha256": "ab" * 32, "size": 0, "type": "a/b", "x": 1}]}, ["/blobs/0"]),
        ({"schemas": ["a", "a"]}, ["/schemas"]),
        ({"schemas": [1]}, ["/schemas/0"]),
    ],
    ids=str,
)
def test_where_a_record_breaks_a_rule(changes: dict[str, Any], paths: list[str]) -> None:
    violations = kinds().validate_content(record_content(**changes))
    assert sorted(violation.path for violation in violations) == paths
    assert all(violation.message for violation in violations)


def test_every_violation_is_found_in_one_pass() -> None:
    content = record_content(author="A", revision=0, body={"value": 1, "count": "1"})
    paths = sorted(violation.path for violation in kinds().validate_content(content))
    assert paths == ["/author", "/body/count", "/body/value", "/revision"]


@pytest.mark.parametrize("name", ["audience", "author", "body", "key", "kind", "published", "revision", "schema"])
def test_every_member_is_needed(name: str) -> None:
    content = record_content()
    del content[name]
    assert [violation.path for violation in kinds().validate_content(content)] == [""]


@pytest.mark.parametrize("content", [[], "record", None, 1, {}])
def test_a_record_is_an_object_with_members(content: Any) -> None:
    assert kinds().validate_content(content)


def test_an_unknown_schema_still_checks_the_record_around_the_body() -> None:
    content = record_content(kind="recipe", schema="recipe/7", body={"anything": [1, {"goes": None}]})
    assert kinds().validate_content(content) == []
    content["revision"] = 0
    assert [violation.path for violation in kinds().validate_content(content)] == ["/revision"]


def test_optional_members() -> None:
    blob = {"name": "a.pdf", "sha256": "ab" * 32, "size": 2**31, "type": "application/pdf"}
    content = record_content(
        thread="jinan/result/济质检/1", replaces="jinan/result/a b@12", blobs=[blob], schemas=["urn:x"], audience=[]
    )
    assert kinds().validate_content(content) == []


def test_pointers_are_escaped() -> None:
    odd = Kinds({"odd/1": {"type": "object", "properties": {"a/b~c": {"type": "string"}}}})
    content = record_content(kind="odd", schema="odd/1", body={"a/b~c": 1})
    assert [violation.path for violation in odd.validate_content(content)] == ["/body/a~1b~0c"]


def test_messages_are_short() -> None:
    content = record_content(body={"value": ["x" * 10_000]})
    (violation,) = kinds().validate_content(content)
    assert len(violation.message) <= MESSAGE_LENGTH_MAX + 1


def test_a_reference_inside_a_schema_still_resolves() -> None:
    schema = {
        **RESULT_1,
        "properties": {"value": {"$ref": "#/$defs/text"}},
        "$id": "urn:x:1",
        "$defs": {"text": {"type": "string"}},
    }
    referring = Kinds({"result/1": schema})
    assert referring.validate_content(record_content(body={"value": "1"})) == []
    assert [v.path for v in referring.validate_content(record_content(body={"value": 1}))] == ["/body/value"]
