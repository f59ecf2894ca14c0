"""The schema of capability bodies: what it takes, what it refuses, and whether its errors name the member."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import node
from tests.schemas.walking import walk_schemas

SCHEMA: dict[str, Any] = json.loads((Path(node.__path__[0]) / "schemas" / "capability-1.json").read_bytes())
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)


def build_body(**members: object) -> dict[str, Any]:
    full: dict[str, Any] = {
        "object": "食品",
        "parameter": "铅",
        "methods": [{"standard": "GB/T 5009.12-2003", "selector": "第一法"}, {"standard": "GB 5009.12-2017"}],
        "aliases": ["lead", "Pb"],
        "range": {"low": "0.005", "high": "10.0", "unit": "mg/kg"},
        "limitation": "只用第一法",
        "remark": "by appointment",
        "site": "Building 2",
        "region": "深圳",
        "accreditations": [build_accreditation()],
        "turnaround_days": 5,
        "price": {"amount": "120.00", "currency": "CNY"},
        "status": "active",
        "attributes": {"检出限": "0.005 mg/kg"},
    }
    return full | members


def build_accreditation(**members: str) -> dict[str, str]:
    full = {
        "scheme": "CNAS",
        "certificate": "L0867",
        "field_code": "0226",
        "row": "1.1",
        "valid_from": "2009-02-10",
        "valid_to": "2012-02-09",
    }
    return full | members


def list_errors(body: object) -> list[tuple[str, str]]:
    return [("/".join(map(str, e.instance_path)), e.message) for e in VALIDATOR.iter_errors(body)]


def test_schema_is_valid_and_has_its_name() -> None:
    assert jsonschema_rs.meta.is_valid(SCHEMA)
    assert (SCHEMA["$id"], SCHEMA["title"]) == ("urn:labmesh:schema:capability:1", "capability/1")


def test_every_member_is_described_and_every_object_is_closed() -> None:
    seen = 0
    for schema in walk_schemas(SCHEMA):
        assert "format" not in schema
        assert schema.get("type") != "number"
        if schema.get("type") == "array":
            assert schema["maxItems"] <= 1000
        if schema.get("type") == "object":
            assert "additionalProperties" in schema
            assert all(member.get("description") for member in schema.get("properties", {}).values())
            seen += len(schema.get("properties", {}))
    assert seen > 20


def test_takes_everything_and_the_least() -> None:
    assert list_errors(build_body()) == []
    assert list_errors({"object": "食品", "parameter": "水分", "methods": [{"standard": "GB/T 5009.3-2003"}]}) == []


@pytest.mark.parametrize("name", ["object", "parameter", "methods"])
def test_names_a_missing_member(name: str) -> None:
    body = build_body()
    del body[name]
    assert list_errors(body) == [("", f'"{name}" is a required property')]


@pytest.mark.parametrize("place", ["", "methods/0", "range", "accreditations/0", "price"])
def test_refuses_unknown_members(place: str) -> None:
    body = build_body()
    target: Any = body
    for step in filter(None, place.split("/")):
        target = target[int(step)] if step.isdecimal() else target[step]
    target["extra"] = "x"
    assert list_errors(body) == [(place, "Additional properties are not allowed ('extra' was unexpected)")]


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"object": ""}, "object"),
        ({"object": " \t\u3000"}, "object"),
        ({"object": "x" * 2001}, "object"),
        ({"parameter": None}, "parameter"),
        ({"methods": []}, "methods"),
        ({"methods": [{"selector": "第一法"}]}, "methods/0"),
        ({"methods": [{"standard": "x" * 201}]}, "methods/0/standard"),
        ({"methods": ["GB/T 5009.12-2003"]}, "methods/0"),
        ({"aliases": "lead"}, "aliases"),
        ({"aliases": ["lead"] * 1001}, "aliases"),
        ({"range": {"unit": "mg/kg"}}, "range"),
        ({"range": {"low": "1"}}, "range"),
        ({"range": {"low": 1, "unit": "mg/kg"}}, "range/low"),
        ({"range": {"high": "1e3", "unit": "mg/kg"}}, "range/high"),
        ({"accreditations": [{"scheme": "CNAS"}]}, "accreditations/0"),
        ({"accreditations": [build_accreditation(valid_to="2009-02-30")]}, "accreditations/0/valid_to"),
        ({"accreditations": [build_accreditation(valid_from="2009/02/10")]}, "accreditations/0/valid_from"),
        ({"accreditations": [build_accreditation(valid_from="2009-02-10T00:00Z")]}, "accreditations/0/valid_from"),
        ({"accreditations": [build_accreditation() | {"field_code": 226}]}, "accreditations/0/field_code"),
        ({"turnaround_days": -1}, "turnaround_days"),
        ({"turnaround_days": "5"}, "turnaround_days"),
        ({"turnaround_days": 1.5}, "turnaround_days"),
        ({"turnaround_days": True}, "turnaround_days"),
        ({"price": {"amount": "120.00", "currency": "cny"}}, "price/currency"),
        ({"price": {"amount": "120.00", "currency": "CNYX"}}, "price/currency"),
        ({"price": {"amount": "-1", "currency": "CNY"}}, "price/amount"),
        ({"price": {"amount": 120, "currency": "CNY"}}, "price/amount"),
        ({"price": {"amount": "1"}}, "price"),
        ({"status": "retired"}, "status"),
        ({"attributes": {"a": 1}}, "attributes/a"),
        ({"attributes": {"a": " "}}, "attributes/a"),
        ({"attributes": {f"n{i}": "x" for i in range(101)}}, "attributes"),
    ],
)
def test_one_fault_gives_one_error_that_names_the_place(members: dict[str, Any], path: str) -> None:
    assert [found for found, _ in list_errors(build_body(**members))] == [path]


@pytest.mark.parametrize("bound", ["low", "high"])
def test_one_bound_is_enough(bound: str) -> None:
    assert list_errors(build_body(range={bound: "-0.5", "unit": "℃"})) == []


@pytest.mark.parametrize("status", ["active", "suspended", "withdrawn"])
def test_takes_every_status(status: str) -> None:
    assert list_errors(build_body(status=status)) == []


@given(st.text(min_size=1, max_size=200).filter(lambda text: bool(text.strip("\ufeff").strip())))
def test_takes_any_text_that_is_not_blank(text: str) -> None:
    if any(not (c.isspace() or c == "\ufeff") for c in text):
        assert list_errors(build_body(parameter=text, limitation=text, attributes={text: text})) == []


@given(st.text("\t\n\r \u00a0\u2003\u3000\ufeff", max_size=20))
def test_refuses_any_blank_text(text: str) -> None:
    assert [path for path, _ in list_errors(build_body(remark=text))] == ["remark"]
