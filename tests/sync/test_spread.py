"""Who is known to hold our newest card."""

from __future__ import annotations

from functools import partial

from node.sync.spread import CardSpread
from tests.alliance import SimulatedAlliance


def test_what_a_peer_has_shown_counts_once_and_never_backwards():
    news = []
    spread = CardSpread(lambda: news.append(1))
    assert spread.missing(["a", "b"], 1) == ["a", "b"] and spread.missing(["a"], 0) == []
    spread.note("a", 3)
    spread.note("a", 3)
    spread.note("a", 2)
    assert len(news) == 1 and spread.missing(["a", "b"], 3) == ["b"]
    assert spread.missing(["a"], 4) == ["a"] and spread.missing([], 9) == []


def _is_known(held: dict[str, int], seq: int, _state: object) -> bool:
    return held.get("qingdao") == seq


def test_followers_notice_who_holds_it(tmp_path):
    """A contact with equal digests says so, also one at which the card was only told."""
    alliance = SimulatedAlliance(tmp_path, 2)
    jinan, held = alliance["jinan"].membership, dict[str, int]()
    for change in ("first", "second"):
        jinan.reissue_card(name=change, region="CN-37", endpoints=())
        seq = jinan.own_card[1].seq
        is_known = partial(_is_known, held, seq)
        alliance.follow("jinan", "qingdao", is_known, on_card_held=held.__setitem__)
        assert alliance["qingdao"].membership.joined.card("jinan").name == change
    alliance.close()
