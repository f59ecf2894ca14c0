"""The example records are what scripts/examples makes, keep what the sources say, and obey their schemas."""

import csv
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import node

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "config" / "examples"
WINES = {f"wine-producer-{producer}.jsonl": count for producer, count in (("0", 59), ("1", 71), ("2", 48))}
KINDS = dict.fromkeys(WINES, "result") | {"cnas-l0867.jsonl": "capability"}


def load_records(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / name).read_text(encoding="utf-8").splitlines()]


def load_table(name: str) -> list[dict[str, str]]:
    with (EXAMPLES / name).open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def test_files_are_what_the_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "examples"), str(tmp_path)], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(KINDS)
    for name in KINDS:
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()


@pytest.mark.parametrize("name", KINDS)
def test_records_obey_their_schema(name: str) -> None:
    schema = json.loads((Path(node.__path__[0]) / "schemas" / f"{KINDS[name]}-1.json").read_bytes())
    validator = jsonschema_rs.Draft202012Validator(schema)
    for record in load_records(name):
        assert record.keys() == {"key", "body"}
        assert [error.message for error in validator.iter_errors(record["body"])] == []


@pytest.mark.parametrize("name", KINDS)
def test_keys_are_unique_and_follow_the_rules(name: str) -> None:
    keys = [record["key"] for record in load_records(name)]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert 1 <= len(key) <= 200
        assert key == key.strip() == unicodedata.normalize("NFC", key)
        assert "@" not in key
        assert not any(unicodedata.category(character).startswith("C") for character in key)


def test_wines_are_shared_out_by_producer() -> None:
    keys: list[str] = []
    for name, count in WINES.items():
        records = load_records(name)
        assert len(records) == count
        assert {f"wine-producer-{r['body']['attributes']['producer']}.jsonl" for r in records} == {name}
        keys += [record["key"] for record in records]
    assert sorted(keys) == [f"WINE-{number:03}" for number in range(1, 179)]


def test_wine_digits_are_those_of_the_source() -> None:
    wines = {record["key"]: record["body"] for name in WINES for record in load_records(name)}
    for number, row in enumerate(load_table("uci_wine_178x13.csv"), start=1):
        results = wines[f"WINE-{number:03}"]["results"]
        assert [result["quantity"]["value"] for result in results] == list(row.values())[:13]
        assert [result["quantity"]["unit"] for result in results] == ["%vol"] + ["1"] * 12
    assert wines["WINE-001"]["results"][4] == {
        "parameter": "magnesium",
        "quantity": {"form": "numeric", "value": "127.0", "unit": "1"},
    }


def test_scope_rows_keep_what_the_source_says() -> None:
    rows = load_table("cnas_L0867_2009_excerpt_zh.csv")
    records = load_records("cnas-l0867.jsonl")
    assert len(records) == len(rows) == 11
    for row, body in zip(rows, (record["body"] for record in records), strict=True):
        assert (body["object"], body["parameter"]) == (row["检测对象"], row["项目/参数"])
        assert body["accreditations"][0]["field_code"] == row["领域代码"]
        assert body["attributes"]["method_title"] == row["检测标准（方法）名称及编号（含年号）"]
        assert body["methods"][0]["standard"].replace(" ", "") in body["attributes"]["method_title"]
        assert (body.get("limitation", ""), body.get("remark", "")) == (row["限制范围"], row["说明"])


def test_scope_records_in_full() -> None:
    records = {record["key"]: record["body"] for record in load_records("cnas-l0867.jsonl")}
    body = records["L0867:1.1:水分:GB/T 5413.8-1997"]
    assert body["methods"] == [{"standard": "GB/T 5413.8-1997", "selector": "第一法"}]
    assert body["limitation"] == "只用第一法"
    assert body["accreditations"] == [
        {
            "scheme": "CNAS",
            "certificate": "L0867",
            "field_code": "0226",
            "row": "1.1",
            "valid_from": "2009-02-10",
            "valid_to": "2012-02-09",
        }
    ]
    assert {"L0867:1.5:蔗糖:GB/T 5009.8-2003", "L0867:1.5:总砷:GB/T 5009.11-2003"} <= records.keys()


def test_readme_names_every_file_and_the_licence() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in ("uci_wine_178x13.csv", "cnas_L0867_2009_excerpt_zh.csv", "wine-producer-0.jsonl", "cnas-l0867.jsonl"):
        assert name in readme
    for fact in ("10.24432/C5PC7J", "CC BY 4.0", "Aeberhard", "Forina", "L0867"):
        assert fact in readme
