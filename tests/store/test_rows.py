"""Tests of node.store.rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.store.rows import format_audience, parse_audience, split_audience, widen_audience


class TestAudienceColumn:
    members = st.lists(st.sampled_from(["qingdao", "yantai", "weifang", "zibo", "a", "b-1"]), unique=True).map(sorted)

    @given(members, members)
    def test_own_and_granted_are_told_apart(self, own: list[str], granted: list[str]) -> None:
        column = widen_audience(format_audience(own), granted)
        assert split_audience(column) == (tuple(own), tuple(sorted(set(granted) - set(own))))
        assert parse_audience(column) == tuple(sorted({*own, *granted}))
        assert widen_audience(column, granted) == column

    @given(members, members, members)
    def test_grants_add_up_in_any_order(self, own: list[str], first: list[str], second: list[str]) -> None:
        column = format_audience(own)
        assert widen_audience(widen_audience(column, first), second) == widen_audience(widen_audience(column, second), first)

    def test_what_is_for_everyone_stays_so(self) -> None:
        assert widen_audience("*", ["qingdao"]) == "*"
        assert parse_audience("*") == ("*",)
        assert parse_audience("") == ()
