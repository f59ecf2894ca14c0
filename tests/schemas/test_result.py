"""The schema of result bodies: what it takes, what it refuses, and whether its errors name the member."""

import copy
import datetime
import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import node
from tests.schemas.walking import walk_schemas

SCHEMA: dict[str, Any] = json.loads((Path(node.__path__[0]) / "schemas" / "result-1.json").read_bytes())
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
WHENS = ("2024-05-01", "2024-05-01T09:30Z", "2024-05-01T09:30:15+08:00", "2024-02-29T23:59:59-05:30")
NOT_WHENS = (
    "",
    "2024-5-1",
    "2024-02-30",
    "2024-04-31",
    "2024-13-01",
    "0024-01-01",
    "2024-05-01T09:30",
    "2024-05-01 09:30Z",
    "2024-05-01T24:00Z",
    "2024-05-01T09:30:60Z",
    "2024-05-01T09:30+0800",
    "2024-05-01\n",
    "２０２４-05-01",
)
QUANTITIES: dict[str, dict[str, Any]] = {
    "numeric": {
        "form": "numeric",
        "value": "0.10",
        "unit": "mg/kg",
        "basis": "as P",
        "uncertainty": {"U": "0.02", "k": "2"},
    },
    "censored": {"form": "censored", "comparator": "<", "limit": "0.005", "limit_type": "LOD", "unit": "mg/kg"},
    "qualitative": {"form": "qualitative", "text": "not detected in 25 g"},
    "not_determined": {"form": "not_determined", "reason": "too little sample"},
}


def build_body(quantity: object = None) -> dict[str, Any]:
    quantity = copy.deepcopy(QUANTITIES["numeric"]) if quantity is None else quantity
    sample = {"id": "S-1", "description": "rice", "matrix": "food", "collected": WHENS[0], "received": WHENS[2]}
    result = {
        "parameter": "铅",
        "method": "GB 5009.12-2017",
        "quantity": quantity,
        "tested": WHENS[1],
        "conformity": "pass",
        "remark": "duplicate",
    }
    return {
        "report": "R-1",
        "sample": sample,
        "results": [result],
        "issued": WHENS[0],
        "attributes": {"客户": "某公司"},
    }


def list_errors(body: object) -> list[tuple[str, str]]:
    return [("/".join(map(str, e.instance_path)), e.message) for e in VALIDATOR.iter_errors(body)]


def list_quantity_errors(quantity: object) -> list[tuple[str, str]]:
    return [(path.removeprefix("results/0/quantity"), message) for path, message in list_errors(build_body(quantity))]


def test_schema_is_valid_and_has_its_name() -> None:
    assert jsonschema_rs.meta.is_valid(SCHEMA)
    assert (SCHEMA["$id"], SCHEMA["title"]) == ("urn:labmesh:schema:result:1", "result/1")


def test_every_member_is_described_and_every_string_is_bounded() -> None:
    seen = 0
    for schema in walk_schemas(SCHEMA):
        assert "format" not in schema
        assert schema.get("type") != "number"
        # The pattern of dates and times bounds their length itself.
        if schema.get("type") == "string" and schema is not SCHEMA["$defs"]["when"]:
            assert "maxLength" in schema
        if schema.get("type") == "array":
            assert schema["maxItems"] <= 1000
        # The members inside an `if` only select; they are described where they are declared.
        if isinstance(schema.get("properties"), dict) and set(schema) != {"required", "properties"}:
            assert all(member.get("description") for member in schema["properties"].values())
            seen += len(schema["properties"])
    assert seen > 30


def test_every_object_refuses_unknown_members() -> None:
    closed = [schema for schema in walk_schemas(SCHEMA) if schema.get("type") == "object"]
    assert all("additionalProperties" in schema for schema in closed if schema is not SCHEMA["$defs"]["quantity"])
    for place in ("", "sample", "results/0", "results/0/quantity", "results/0/quantity/uncertainty"):
        body = build_body()
        target: Any = body
        for step in filter(None, place.split("/")):
            target = target[int(step)] if step.isdecimal() else target[step]
        target["extra"] = "x"
        assert list_errors(body) == [(place, "Additional properties are not allowed ('extra' was unexpected)")]


@pytest.mark.parametrize("form", QUANTITIES)
def test_takes_every_form(form: str) -> None:
    assert list_quantity_errors(QUANTITIES[form]) == []


def test_takes_the_least() -> None:
    quantity = {"form": "numeric", "value": "-0.0", "unit": "1"}
    assert list_errors({"report": "R", "sample": {"id": "S"}, "results": [{"parameter": "p", "quantity": quantity}]}) == []


@pytest.mark.parametrize("name", ["report", "sample", "results"])
def test_names_a_missing_member(name: str) -> None:
    body = build_body()
    del body[name]
    assert list_errors(body) == [("", f'"{name}" is a required property')]


OPTIONAL = {"basis", "uncertainty", "limit_type"}


@pytest.mark.parametrize(("form", "name"), [(f, n) for f, q in QUANTITIES.items() for n in q if n not in OPTIONAL])
def test_names_a_missing_member_of_a_quantity(form: str, name: str) -> None:
    quantity = {key: value for key, value in QUANTITIES[form].items() if key != name}
    assert list_quantity_errors(quantity) == [("", f'"{name}" is a required property')]


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"form": "number"}, "/form", '"number" is not one of "numeric", "censored" or '),
        ({"form": None}, "/form", "null is not one of "),
        ({"value": 0.1}, "/value", '0.1 is not of type "string"'),
        ({"value": 1}, "/value", '1 is not of type "string"'),
        ({"value": "1,5"}, "/value", '"1,5" does not match '),
        ({"unit": " "}, "/unit", '" " does not match '),
        ({"unit": "x" * 201}, "/unit", "is longer than 200 characters"),
        ({"comparator": "<"}, "", "('comparator' was unexpected)"),
        ({"uncertainty": {"U": "0.1"}}, "/uncertainty", '"k" is a required property'),
        ({"uncertainty": {"U": "-0.1", "k": "2"}}, "/uncertainty/U", '"-0.1" does not match '),
        ({"uncertainty": {"U": "0.1", "k": "0.00"}}, "/uncertainty/k", '"0.00" does not match '),
        ({"uncertainty": {"U": "0.1", "k": 2}}, "/uncertainty/k", '2 is not of type "string"'),
    ],
)
def test_one_fault_gives_one_error_that_names_it(change: dict[str, Any], path: str, message: str) -> None:
    [(found_path, found_message)] = list_quantity_errors(QUANTITIES["numeric"] | change)
    assert found_path == path
    assert message in found_message


@pytest.mark.parametrize("comparator", ["<=", "≤", "", "lt"])
def test_refuses_other_comparators(comparator: str) -> None:
    [(path, message)] = list_quantity_errors(QUANTITIES["censored"] | {"comparator": comparator})
    assert (path, message) == ("/comparator", f'"{comparator}" is not one of "<" or ">"')


@pytest.mark.parametrize("quantity", ["1.5", 1, None, [], True])
def test_refuses_a_quantity_that_is_no_object(quantity: object) -> None:
    body = build_body()
    body["results"][0]["quantity"] = quantity
    [(path, message)] = list_errors(body)
    assert path == "results/0/quantity"
    assert 'is not of type "object"' in message


@given(st.one_of(st.text("0123456789.-+eE, \n", max_size=45), st.decimals(allow_nan=False).map(str)))
def test_decimals_follow_one_grammar(value: str) -> None:
    quantity = QUANTITIES["numeric"] | {"value": value}
    assert (list_quantity_errors(quantity) == []) == bool(DECIMAL.fullmatch(value) and len(value) <= 40)


@pytest.mark.parametrize("place", ["collected", "received", "tested", "issued"])
@pytest.mark.parametrize("when", WHENS + NOT_WHENS)
def test_dates_and_times(place: str, when: str) -> None:
    body = build_body()
    where = {"collected": body["sample"], "received": body["sample"], "tested": body["results"][0], "issued": body}[place]
    where[place] = when
    assert [path.rpartition("/")[2] for path, _ in list_errors(body)] == ([] if when in WHENS else [place])


@given(st.dates(datetime.date(1000, 1, 1), datetime.date(2999, 12, 31)))
def test_takes_every_date(date: datetime.date) -> None:
    assert list_errors(build_body() | {"issued": date.isoformat()}) == []


@pytest.mark.parametrize(
    "conformity", ["pass", "fail", "conditional_pass", "conditional_fail", "not_assessed", "ok", "Pass"]
)
def test_conformity_is_a_closed_list(conformity: str) -> None:
    body = build_body()
    body["results"][0]["conformity"] = conformity
    refused = conformity in ("ok", "Pass")
    assert [path for path, _ in list_errors(body)] == (["results/0/conformity"] if refused else [])


def test_limits() -> None:
    body = build_body()
    body["results"] *= 1000
    body["attributes"] = {f"n{i}": "x" * 2000 for i in range(100)}
    assert list_errors(body) == []
    body["results"] *= 2
    body["attributes"]["n100"] = "x"
    assert sorted(path for path, _ in list_errors(body)) == ["attributes", "results"]
    assert [path for path, _ in list_errors(build_body() | {"results": []})] == ["results"]


@pytest.mark.parametrize(
    "attributes", [{"": "x"}, {"a": ""}, {"a": " \u3000"}, {"a": 1}, {"a": {"b": "c"}}, {"x" * 201: "y"}]
)
def test_attributes_are_named_text(attributes: dict[str, Any]) -> None:
    [(path, _)] = list_errors(build_body() | {"attributes": attributes})
    assert path.startswith("attributes")
