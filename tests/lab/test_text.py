"""Search normalisation against a real FTS5 table: what finds what, and that a query is only ever data."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.lab.text import BREAK, MAX_QUERY_TERMS, IndexText, index_terms, query_expression, searchable_texts

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "examples"
LEAD = "食品中铅的测定 GB/T5009.12-2003"
ROWS = (
    LEAD,
    "食品中水分的测定 GB/T5009.3-2003",
    "lead in drinking water ISO 17294-2:2016",
    "food safety: lead GB 5009.12-2017 第一法",
    "金属材料 拉伸试验 第1部分:室温试验方法 GB/T 228.1-2021",
    "GB/T 228-2002",
)


class Index:
    """A search index as the store keeps it."""

    def __init__(self, rows: Iterable[str] = ()) -> None:
        self.db = sqlite3.connect(":memory:", check_same_thread=False)
        self.db.execute("CREATE VIRTUAL TABLE t USING fts5(words, bigrams, tokenize=\"ascii tokenchars '-./'\")")
        self.rows: list[str] = []
        for row in rows:
            self.add([row])

    def add(self, texts: list[str]) -> None:
        terms = index_terms(texts)
        self.rows.append("\n".join(texts))
        self.db.execute(
            "INSERT INTO t(rowid, words, bigrams) VALUES (?, ?, ?)", (len(self.rows), terms.words, terms.bigrams)
        )

    def find(self, text: str) -> list[str]:
        expression = query_expression(text)
        if not expression:
            return []
        hits = self.db.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rowid", (expression,))
        return [self.rows[rowid - 1] for (rowid,) in hits]


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    yield Index(ROWS)


def finds(query: str, *texts: str) -> bool:
    one = Index()
    one.add(list(texts))
    return bool(one.find(query))


@pytest.mark.parametrize("query", ["铅", "ＧＢ／Ｔ 5009.12", "gb/t5009.12-2003", "食品 GB/T 5009.12", "铅的测定", LEAD])
def test_finds_the_lead_row(index: Index, query: str) -> None:
    assert LEAD in index.find(query)


def test_finds_its_own_row_only(index: Index) -> None:
    assert index.find("水分") == [ROWS[1]]
    assert index.find("gb/t5009.12-2003") == [LEAD]
    assert index.find("GB 5009.12") == [ROWS[3]]
    assert index.find("ISO 17294-2") == [ROWS[2]]


@pytest.mark.parametrize(
    "spelling",
    [
        "GB/T 5009.12-2003",
        "GB/T5009.12-2003",
        "ＧＢ／Ｔ　５００９．１２－２００３",
        "gb/t5009.12-2003",
        "GB/T5009.12—2003",
        "gb/t 5009.12–2003",
        "GB／T 5009.12 - 2003",
        "GB T 5009.12-2003",
        "GBT5009.12-2003",
        "GB\u2215T 5009.12\u22122003",
        "《食品中铅的测定》GB/T 5009.12-2003",
        "GB/T\u200b5009.12-2003",
    ],
)
def test_spellings_of_one_standard_are_one_token(spelling: str) -> None:
    tokens = index_terms([spelling]).words.split(" ")
    assert {"gb/t5009.12-2003", "gb/t5009.12", "5009.12", "2003"} <= set(tokens)
    assert 'words : "gb/t5009.12-2003"' in query_expression(spelling)
    for other in ("GB/T 5009.12-2003", "GB/T 5009.12", "5009.12", "5009.12-2003", "GB/T"):
        assert finds(other, spelling)
    for other in (
        "GB 5009.12",
        "GB 5009.12-2003",
        "GB/T 5009",
        "5009",
        "GB/T 5009.1",
        "GB/T 5009.12-2017",
        "GB/Z 5009.12",
    ):
        assert not finds(other, spelling)


@pytest.mark.parametrize(
    ("citation", "dated", "undated"),
    [
        ("ISO 6892-1:2019", "iso6892-1-2019", "iso6892-1"),
        ("ISO6892-1-2019", "iso6892-1-2019", "iso6892-1"),
        ("HJ 700-2014", "hj700-2014", "hj700"),
        ("HJ/T 91-2002", "hj/t91-2002", "hj/t91"),
        ("HJT 91-2002", "hj/t91-2002", "hj/t91"),
        ("EN ISO 17294-2:2016", "en/iso17294-2-2016", "en/iso17294-2"),
        ("DIN EN ISO 6892-1:2020-06", "din/en/iso6892-1-2020", "din/en/iso6892-1"),
        ("ISO/IEC 17025:2017", "iso/iec17025-2017", "iso/iec17025"),
        ("IEC 60068-2-1:2007", "iec60068-2-1-2007", "iec60068-2-1"),
        ("ISO 1996-2:2007", "iso1996-2-2007", "iso1996-2"),
        ("AS/NZS 4020:2018", "as/nzs4020-2018", "as/nzs4020"),
        ("JIS Z 2241:2022", "jisz2241-2022", "jisz2241"),
        ("ASTM E8/E8M-21", "astme8/e8m-21", "astme8/e8m"),
        ("ASTM E8/E8M-2021", "astme8/e8m-21", "astme8/e8m"),
        ("ASTM D3359-23 Method B", "astmd3359-23", "astmd3359"),
        ("ASTM A370-23a", "astma370-23a", "astma370"),
        ("ASTM E8/E8M-16aε1", "astme8/e8m-16aε1", "astme8/e8m"),
        ("GB 7718-94", "gb7718-1994", "gb7718"),
        ("GBZ/T 160.10-2004", "gbz/t160.10-2004", "gbz/t160.10"),
        ("DB43/T 1234-2020", "db43/t1234-2020", "db43/t1234"),
        ("DB11/ 307-2013", "db11/307-2013", "db11/307"),
        ("T/CSTM 00123-2020", "t/cstm00123-2020", "t/cstm00123"),
        ("Q/ABC 001-2020", "q/abc001-2020", "q/abc001"),
        ("JJG 139-2014", "jjg139-2014", "jjg139"),
        ("YB/T 081-2013", "yb/t081-2013", "yb/t081"),
        ("GB/T 17657-2013 4.60", "gb/t17657-2013", "gb/t17657"),
        ("GB/T 2423.1-2008/IEC 60068-2-1:2007", "gb/t2423.1-2008", "iec60068-2-1-2007"),
    ],
)
def test_other_issuers(citation: str, dated: str, undated: str) -> None:
    words = index_terms([f"测定 {citation}，第一法"]).words.split(" ")
    assert dated in words
    assert undated in words
    assert f'words : "{dated}"' in query_expression(citation)
    assert finds(citation, citation)


def test_an_adoption_is_found_by_what_it_adopts_and_not_the_reverse() -> None:
    assert finds("ISO 6892-1", "DIN EN ISO 6892-1:2020")
    assert finds("EN ISO 6892-1:2020", "DIN EN ISO 6892-1:2020")
    assert not finds("EN ISO 6892-1", "ISO 6892-1:2019")
    assert not finds("DIN 6892-1", "DIN EN ISO 6892-1:2020")
    assert finds("ISO 17025", "ISO/IEC 17025:2017")
    assert finds("ASTM E8", "ASTM E8/E8M-21")


def test_a_part_is_not_its_whole(index: Index) -> None:
    assert index.find("GB/T 228.1") == index.find("228.1") == [ROWS[4]]
    assert index.find("GB/T 228") == index.find("228") == [ROWS[5]]
    assert not finds("6892", "ISO 6892-1:2019")
    assert finds("6892-1", "ISO 6892-1:2019")


@pytest.mark.parametrize("text", ["GB 5009.12x", "GB/T 5009.1234", "rugby 5009", "agb 5009.12-2003", "gb/t"])
def test_what_is_no_citation_stays_words(text: str) -> None:
    assert query_expression(text).count(" : ") == len(index_terms([text]).words.split(" "))
    assert finds(text, text)


def test_columns_of_a_mixed_text() -> None:
    assert index_terms(["食品中铅 Lead", "水分"]) == IndexText("lead 食 品 中 铅 水 分", f"食品 品中 中铅 {BREAK} 水分")
    assert index_terms([]) == index_terms(["", "…<>"]) == IndexText("", "")


def test_a_phrase_does_not_cross_two_runs() -> None:
    assert not finds("品水", "食品", "水分")
    assert not finds("品水分", "食品 水分")
    assert finds("食品 水分", "水分", "食品")
    # 水分 and 分析 are both there, but 水分析 is not.
    assert not finds("水分析", "水分", "分析")


def test_words_match_by_prefix_from_three_characters() -> None:
    assert finds("cad", "Cadmium")
    assert not finds("ca", "Cadmium")
    assert finds("PB", "Pb")
    assert not finds("200", "2003")
    assert finds("STRASSE", "Straße")
    assert finds("каd", "КАDМИЙ")


def test_all_terms_must_match(index: Index) -> None:
    assert index.find("lead ISO 17294-2") == [ROWS[2]]
    assert index.find("lead 水分") == []


@pytest.mark.parametrize("text", ["", "   ", '"*()', "《》—…", "_", "\x00", "\ud800", "-./", "\u200b"])
def test_a_query_without_words_is_empty(text: str) -> None:
    assert query_expression(text) == ""


SYNTAX = (
    "AND",
    "OR",
    "NOT",
    "NEAR(a b, 2)",
    "words:lead",
    "{words bigrams} : a",
    "- words : a",
    "^a",
    "a + b",
    '"a',
    "a*",
    "(",
)


@pytest.mark.parametrize("text", SYNTAX)
def test_syntax_is_data(text: str) -> None:
    words = index_terms([text]).words.split()
    assert query_expression(text).count("words : ") == len(words)
    assert finds(text, text) == bool(words)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.text(st.characters()),
        st.text(st.sampled_from("gbtisohj/.-: 0123456789水分铅ａＧ“\"'*(){}^+\x00\ud83d\n")),
        st.lists(st.sampled_from([*SYNTAX, "水分", "GB/T", "5009.12", "\x00", "'"])).map(" ".join),
    )
)
@example('" OR words : "lead')
@example("水" * 3000)
@example("ab " * 5000)
@example(" ".join(f"w{i}" for i in range(5000)))
def test_no_query_raises_and_every_text_finds_itself(index: Index, text: str) -> None:
    index.find(text)
    expression = query_expression(text)
    assert expression.count(" AND ") < MAX_QUERY_TERMS
    assert finds(text, text) == bool(expression)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=5))
def test_index_columns_are_clean_tokens(texts: list[str]) -> None:
    terms = index_terms(texts)
    for column in (terms.words, terms.bigrams):
        tokens = column.split(" ") if column else []
        assert all(token and all(c.isalnum() or c in "-./" or not c.isascii() for c in token) for token in tokens)
    words = terms.words.split(" ")
    assert len(set(words)) == len(words)


HAN = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x4E20), min_size=1, max_size=6)


@given(HAN, st.lists(HAN, min_size=1, max_size=4))
def test_a_han_query_finds_exactly_the_substrings(query: str, runs: list[str]) -> None:
    assert finds(query, *runs) == any(query in run for run in runs)


def test_searchable_texts_of_a_result() -> None:
    quantity = {
        "form": "numeric",
        "value": "1.50",
        "unit": "mg/kg",
        "uncertainty": {"U": "0.1", "k": "2"},
        "basis": "as P",
    }
    censored = {"form": "censored", "comparator": "<", "limit": "0.005", "limit_type": "LOD", "unit": "mg/L"}
    body = {
        "report": "20240001",
        "issued": "2024-05-03",
        "sample": {"id": "12.5", "collected": "2024-05-01T08:00+08:00", "received": "2024-05-01T08:00:59Z"},
        "results": [{"parameter": "铅", "quantity": quantity}, {"parameter": "镉", "quantity": censored}],
        "attributes": {"form": "A4", "batch": "2024-05-03-A"},
        "days": 5,
    }
    assert list(searchable_texts(body)) == [
        *("20240001", "12.5", "铅", "mg/kg", "as P", "镉", "LOD", "mg/L", "A4", "2024-05-03-A"),
    ]


def test_searchable_texts_of_a_capability() -> None:
    body = {
        "aliases": ["lead", ["nested", "2024-01-01"]],
        "range": {"low": "0.1", "unit": "mg/kg"},
        "price": {"amount": "120.00", "currency": "CNY"},
        "accreditations": [{"row": "1.5", "field_code": "0226", "valid_to": "2012-02-09"}],
    }
    assert list(searchable_texts(body)) == ["lead", "nested", "mg/kg", "CNY", "1.5", "0226"]


def test_example_scope_is_found() -> None:
    index = Index()
    for line in (EXAMPLES / "cnas-l0867.jsonl").read_text(encoding="utf-8").splitlines():
        index.add(list(searchable_texts(json.loads(line)["body"])))
    assert len(index.find("水分")) == 2
    for query in ("铅", "ＧＢ／Ｔ 5009.12", "gb/t5009.12-2003"):
        assert len(index.find(query)) == 1
    assert len(index.find("CNAS 0226")) == 8
    assert index.find("GB 5009.12") == []
