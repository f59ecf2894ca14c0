"""What a peer may ask for at once; the calls themselves are in tests/end_to_end and tests/rpc/test_log_stream.py."""

from __future__ import annotations

import pytest

from node.errors import LimitError
from node.rpc.peer_service import _one_at_a_time


def test_a_second_call_of_one_kind_waits_for_the_end_of_the_first() -> None:
    busy: set[str] = set()
    with _one_at_a_time(busy, "jinan", "telling its checkpoints"):
        second = _one_at_a_time(busy, "jinan", "telling its checkpoints")
        with pytest.raises(LimitError, match="jinan is telling its checkpoints already"), second:
            raise AssertionError("not reached")
        with _one_at_a_time(busy, "qingdao", "telling its checkpoints"):
            assert busy == {"jinan", "qingdao"}
    assert not busy


def test_a_call_that_fails_is_over() -> None:
    busy: set[str] = set()
    with pytest.raises(LimitError, match="too much"), _one_at_a_time(busy, "jinan", "reporting evidence"):
        raise LimitError("too much")
    assert not busy
