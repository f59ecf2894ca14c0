"""Search normalisation: the words a record is found by, and the question a person asks.

Index and query go through the same steps, so that only the meaning of a text counts and not its typing:

1. NFKC (full-width forms become plain ones), case folding, one kind of dash and of slash, no invisible characters.
2. Citations of standards become tokens of their own, one with the year and one without: ``GB T 5009.12—2003`` gives
   ``gb/t5009.12-2003`` and ``gb/t5009.12``. The issuer is part of the token, so ``GB 5009.12`` stays another standard;
   so is the part, so ``228.1`` is not ``228``. The bare number, the year and the issuer are ordinary words beside it.
   An adoption is found by what it adopts (``EN ISO 6892-1`` by ``ISO 6892-1``), never the reverse.
3. Runs of Han characters and kana, which have no spaces, become single characters (column ``words``) and overlapping
   bigrams in order (column ``bigrams``), where ``BREAK`` keeps a phrase from crossing two runs.
4. Whatever else is a letter or a digit is a word; decimals stay whole.

The FTS5 table must have the columns ``words`` and ``bigrams`` and ``tokenize="ascii tokenchars '-./'"``. Only tokens of
letters, digits and ``-./`` ever leave this module, so no text can become FTS5 syntax.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import add
from typing import Final

BREAK: Final = "."
"""Token between two runs in ``bigrams``; no bigram equals it."""

MAX_QUERY_TERMS: Final = 64
"""A query is cut after this many terms, so that a pasted page costs no more than a sentence."""

# Han, its compatibility forms and extensions, the iteration marks, and kana.
_HAN: Final = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_RUN: Final = re.compile(f"[{_HAN}]+")
_DASHES: Final = re.compile("[\u2010-\u2015\u2212\u2043\ufe58]")
_SLASHES: Final = re.compile("[\u2044\u2215]")
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
# Kept whole beside plain words: an issuer with its slash (gb/t), a number with its part (6892-1), a decimal.
_WHOLE: Final = r"[a-z]+[0-9]*/[tz](?![a-z0-9])|(?<![a-z0-9-])[0-9]{3,5}(?:-[0-9]{1,2}(?![a-z0-9]))+"
_FRACTION: Final = r"(?:(?<=[0-9])\.[0-9]+)*"
_WORD: Final = re.compile(rf"{_WHOLE}|[^\W_{_HAN}]+{_FRACTION}")
_ASCII_WORD: Final = re.compile(rf"{_WHOLE}|[a-z0-9]+{_FRACTION}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9:]{5}))?")
# Members that measure, and what in them is a number or a fixed word.
_MEASURED: Final = frozenset({"quantity", "range", "price"})
_MEASURES: Final = frozenset({"form", "value", "comparator", "limit", "U", "k", "low", "high", "amount"})
_BETWEEN_RUNS: Final = f" {BREAK} "
_SHORT: Final = 100
_DELIVERABLES: Final = frozenset({"guide", "nzs", "pas", "tr", "ts"})
_LETTERS: Final = re.compile("[a-z]+")

# Chinese issuers: national, occupational, metrology, ministry notices, then the sectors by first letter.
_CHINESE: Final = (
    "gbz|gbj|gb|jj[fg]|bjs|aq|bb|c[bhjy]|d[alz]|e[jn]|fz|g[achmy]|h[bgjsy]|j[bcgrty]|ka|l[bdsy]|m[hrtz]"
    "|n[bfy]|q[bcjx]|rb|s[bcfhjlnwy]|t[bdy]|w[bhjmsw]|x[bfs]|y[bcdsyz]|zy"
)
_PUBLISHER: Final = "aoac|ansi|as/nzs|bs|cen|din|en|epa|gost|iec|ieee|iso|iwa|nf|oiml|une|uni"
_YEAR: Final = "(?:19|20)[0-9]{2}"
_END: Final = "(?![0-9a-z])"
# GB/T 5009.12-2003, GBT5009.12, HJ 700-2014, GB 7718-94, DB43/T 1234-2020, T/CSTM 00123-2020.
_CHINESE_CITATION: Final = (
    rf"(?:(?P<code>{_CHINESE}|db ?s?[0-9]{{2,4}}(?= ?[/t])) ?(?P<slash>/)? ?(?P<mark>[tz])?(?![a-z])"
    rf"|(?P<group>(?<!/)[tq]/[a-z]{{2,12}})) {{0,2}}(?P<cn>[0-9]{{1,6}}+(?:\.[0-9]{{1,3}})*+)"
    rf"(?: ?[-:] ?(?P<cn_year>{_YEAR}|[5-9][0-9]){_END}|{_END})"
)
# ISO 6892-1:2019, ISO6892-1-2019, DIN EN ISO 6892-1:2020-06, JIS Z 2241:2022.
_WORLD_CITATION: Final = (
    rf"(?P<chain>jis {{0,2}}[a-z]|(?:{_PUBLISHER})(?:[/ -]{{1,2}}(?:{_PUBLISHER}|astm|guide|pas|tr|ts)(?![a-z])){{0,4}}+)"
    rf" {{0,2}}(?P<world>[0-9]++(?:\.[0-9]++|-[0-9]{{1,3}}(?![0-9]))*+)"
    rf"(?: ?[-:] ?(?P<world_year>{_YEAR})(?:-[0-9]{{2}})?{_END}|{_END})"
)
# ASTM E8/E8M-21, D3359-2023, A370-23a, E8/E8M-16aε1.
_ASTM_CITATION: Final = (
    r"astm {0,2}(?P<astm>[a-z] ?[0-9]{1,5}+m?)(?:/(?P<dual>[a-z] ?[0-9]{1,5}+m?))?"
    rf"(?: ?- ?(?:19|20)?(?P<astm_year>[0-9]{{2}}[a-z]?(?:ε[0-9])?){_END}|{_END})"
)
_CITATION: Final = re.compile(rf"(?<![0-9a-z])(?:{_CHINESE_CITATION}|{_WORLD_CITATION}|{_ASTM_CITATION})")


@dataclass(frozen=True, slots=True)
class IndexText:
    """The two columns of the search index for one record; tokens are separated by one space.

    Attributes:
        words: words, single Han characters and standards, each once.
        bigrams: pairs of neighbouring Han characters in order, with ``BREAK`` between runs.
    """

    words: str
    bigrams: str


@dataclass(frozen=True, slots=True)
class _Citation:
    """One cited standard: issuers and numbers to find it by (the exact ones first), year or ``""``, and plain words."""

    issuers: Sequence[str]
    numbers: Sequence[str]
    year: str
    words: Sequence[str]

    def query_token(self) -> str:
        """Return the one token that means this standard, with its year if it has one."""
        return f"{self.issuers[0]}{self.numbers[0]}" + (f"-{self.year}" if self.year else "")

    def index_tokens(self) -> Iterator[str]:
        """Yield every token by which a query may find this citation."""
        for number in self.numbers:
            yield number
            for issuer in self.issuers:
                yield f"{issuer}{number}"
                if self.year:
                    yield f"{issuer}{number}-{self.year}"
        yield from self.words
        if self.year:
            yield self.year


def index_terms(texts: Iterable[str]) -> IndexText:
    """Return what the search index holds for one record with these texts."""
    words: dict[str, None] = {}
    bigrams: list[str] = []
    for text in texts:
        found, pairs = _index_short(text) if len(text) <= _SHORT else _index_text(text)
        words.update(found)
        if pairs:
            bigrams.append(pairs)
    return IndexText(" ".join(words), _BETWEEN_RUNS.join(bigrams))


def query_expression(text: str) -> str:
    """Return the FTS5 MATCH expression for what a person typed, or ``""`` if nothing in it can be looked for.

    Every term must occur. A word of three or more characters with a letter in it matches as a prefix; numbers and
    standards match exactly. The text is only ever data: nothing in it acts as FTS5 syntax.
    """
    terms: dict[str, None] = {}

    def take_citation(match: re.Match[str]) -> str:
        terms[f'words : "{_build_citation(match).query_token()}"'] = None
        return "\n"

    rest = _CITATION.sub(take_citation, _normalise(text))
    terms.update(dict.fromkeys(map(_run_term, _RUN.findall(rest))))
    terms.update(dict.fromkeys(map(_word_term, _find_words(rest))))
    return " AND ".join(islice(terms, MAX_QUERY_TERMS))


def searchable_texts(body: Mapping[str, object]) -> Iterator[str]:
    """Yield every string of a record's body worth searching, in the order of the body.

    Left out are dates, dates with time, and the numbers and form of the members that measure (``quantity``, ``range``,
    ``price``). Decimals elsewhere are identifiers, such as a sample's number, and stay.
    """
    texts: list[str] = []
    _collect_texts(body, texts, False)
    return iter(texts)


# Records are JSON, so exact types suffice; this sees every value of every record and is written for speed.
def _collect_texts(node: Mapping[str, object] | Mapping[int, object], texts: list[str], measured: bool) -> None:
    for name, value in node.items():
        if type(value) is str:
            if not (measured and name in _MEASURES) and not (value < ":" and _DATE.fullmatch(value)):
                texts.append(value)
        elif type(value) is dict:
            _collect_texts(value, texts, measured or name in _MEASURED)
        elif type(value) is list:
            _collect_texts(dict(enumerate(value)), texts, measured)


def _index_text(text: str) -> tuple[dict[str, None], str]:
    words: dict[str, None] = {}

    def take_citation(match: re.Match[str]) -> str:
        words.update(dict.fromkeys(_build_citation(match).index_tokens()))
        return "\n"

    rest = _CITATION.sub(take_citation, _normalise(text))
    words.update(dict.fromkeys(_find_words(rest)))
    runs = [] if rest.isascii() else _RUN.findall(rest)
    words.update(dict.fromkeys("".join(runs)))
    return words, _BETWEEN_RUNS.join(_bigrams(run) for run in runs if len(run) > 1)


# The names of parameters, methods, units and matrices recur in almost every record.
_index_short = lru_cache(maxsize=4096)(_index_text)


def forget_texts() -> None:
    """Drop what is kept of texts seen before: one of them may belong to a record that was erased."""
    _index_short.cache_clear()


def _find_words(text: str) -> list[str]:
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text)


def _normalise(text: str) -> str:
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _SLASHES.sub("/", _DASHES.sub("-", _INVISIBLE.sub("", folded)))


def _build_citation(match: re.Match[str]) -> _Citation:
    if match["cn"]:
        return _build_chinese(match)
    if match["world"]:
        return _build_world(match)
    numbers = [part.replace(" ", "") for part in match.group("astm", "dual") if part]
    both = ["/".join(numbers)] if len(numbers) > 1 else []
    return _Citation(("astm",), both + numbers, match["astm_year"] or "", ("astm",))


def _build_chinese(match: re.Match[str]) -> _Citation:
    year = match["cn_year"] or ""
    year = f"19{year}" if len(year) == 2 else year
    if match["group"]:
        return _Citation((match["group"],), (match["cn"],), year, match["group"].split("/"))
    code, mark = match["code"].replace(" ", ""), match["mark"]
    issuer = f"{code}/{mark}" if mark else code
    # A regional code ends in digits, so the slash keeps it apart from the number: db11/307.
    local = "/" if code[-1].isdecimal() and not mark else ""
    return _Citation((issuer + local,), (match["cn"],), year, (issuer,))


def _build_world(match: re.Match[str]) -> _Citation:
    atoms = _LETTERS.findall(match["chain"])
    year = match["world_year"] or ""
    if atoms[0] == "jis":
        return _Citation(("jis",), (atoms[1] + match["world"],), year, ("jis",))
    issuers = ["/".join(atoms[start:]) for start in range(len(atoms)) if atoms[start] not in _DELIVERABLES]
    # ISO numbers its documents in one series whoever joins in: ISO/IEC 17025 is cited as ISO 17025 too.
    if "iso" in atoms and atoms[-1] != "iso":
        issuers.append("iso")
    return _Citation(issuers, (match["world"],), year, atoms)


def _bigrams(run: str) -> str:
    return " ".join(map(add, run, run[1:]))


def _run_term(run: str) -> str:
    return f'words : "{run}"' if len(run) == 1 else f'bigrams : "{_bigrams(run)}"'


def _word_term(word: str) -> str:
    is_prefix = len(word) >= 3 and any(map(str.isalpha, word))
    return f'words : "{word}"' + ("*" if is_prefix else "")
