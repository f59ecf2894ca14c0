"""C2SP tlog-proof texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.keys import format_base64
from node.core.proof import HEADER, PATH_MAX, TlogProof, format_tlog_proof, parse_tlog_proof
from node.errors import FormatError
from tests.builders import build_labs, build_log
from tests.core import strategies

HASH = format_base64(bytes(range(32)))


@given(
    st.builds(
        TlogProof,
        st.integers(0, 10**19 - 1),
        st.lists(strategies.hashes, max_size=PATH_MAX).map(tuple),
        st.text(min_size=1, max_size=60),
        st.none() | st.binary(max_size=40),
    )
)
def test_round_trip(proof: TlogProof) -> None:
    text = format_tlog_proof(proof)
    assert parse_tlog_proof(text) == proof
    assert format_tlog_proof(parse_tlog_proof(text)) == text


def test_a_real_proof() -> None:
    log = build_log(build_labs(1)[0], 5)
    proof = log.proof(3, log.checkpoint())
    text = format_tlog_proof(proof)
    assert text.startswith(f"{HEADER}\nextra {format_base64(log.salts[3])}\nindex 3\n")
    assert text.endswith("\n\n" + bytes(log.checkpoint()).decode())
    assert parse_tlog_proof(text) == proof


@given(st.text(alphabet="\n =AQ1extraind-", max_size=40))
def test_text_is_one_of_a_kind(tail: str) -> None:
    text = f"{HEADER}\n{tail}"
    try:
        assert format_tlog_proof(parse_tlog_proof(text)) == text
    except FormatError as error:
        assert error.message


def test_the_proof_to_be_broken_is_good() -> None:
    assert parse_tlog_proof(f"{HEADER}\nextra {HASH}\nindex 7\n{HASH}\n\nnote\n") == TlogProof(
        7, (bytes(range(32)),), "note\n", bytes(range(32))
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        f"{HEADER}\nindex 7\n",
        f"{HEADER}\nindex 7\n\n",
        f"{HEADER}\n\nnote\n",
        f"{HEADER}\n{HASH}\n\nnote\n",
        f"\n{HEADER}\nindex 7\n\nnote\n",
        f"{HEADER.replace('v1', 'v2')}\nindex 7\n\nnote\n",
        f"{HEADER} \nindex 7\n\nnote\n",
        f"{HEADER}\nindex 7\nextra {HASH}\n\nnote\n",
        f"{HEADER}\nextra {HASH}\nextra {HASH}\nindex 7\n\nnote\n",
        f"{HEADER}\nextra\nindex 7\n\nnote\n",
        f"{HEADER}\nextra {HASH[:-1]}\nindex 7\n\nnote\n",
        f"{HEADER}\nextra AB==\nindex 7\n\nnote\n",
        f"{HEADER}\nindex 7\nindex 8\n\nnote\n",
        f"{HEADER}\nIndex 7\n\nnote\n",
        f"{HEADER}\nindex  7\n\nnote\n",
        f"{HEADER}\nindex 7 \n\nnote\n",
        f"{HEADER}\nindex 7\n{HASH} \n\nnote\n",
        f"{HEADER}\nindex 7\n{format_base64(bytes(31))}\n\nnote\n",
        f"{HEADER}\nindex 7\n{format_base64(bytes(33))}\n\nnote\n",
        f"{HEADER}\nindex 7\n{HASH[:-2]}9=\n\nnote\n",
        f"{HEADER}\r\nindex 7\r\n\r\nnote\n",
        f"{HEADER}\nindex 7\n" + f"{HASH}\n" * (PATH_MAX + 1) + "\nnote\n",
    ],
    ids=lambda text: ascii(text[22:60]),
)
def test_other_proofs_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_tlog_proof(text)


@pytest.mark.parametrize("index", ["", "007", "+7", "-7", "7_3", "7.0", "\uff17", "\u0667", "00", "9" * 20])
def test_other_indexes_are_refused(index: str) -> None:
    with pytest.raises(FormatError):
        parse_tlog_proof(f"{HEADER}\nindex {index}\n\nnote\n")
