"""A kind or an author that does not exist is refused by a real node; one without a record is an empty list."""

from __future__ import annotations

import grpc
import pytest

from labmesh.v1 import node_pb2
from tests.end_to_end.harness import code_of, open_mesh, result_record


def test_a_kind_or_author_that_does_not_exist_is_no_empty_list() -> None:
    with open_mesh("jinan") as mesh:
        jinan = mesh["jinan"].start()
        jinan.push([result_record("ONE")])
        for ask in (
            lambda **named: jinan.stub.ListRecords(node_pb2.ListRecordsRequest(**named), timeout=30),
            lambda **named: jinan.stub.SearchRecords(node_pb2.SearchRecordsRequest(text="地下水", **named), timeout=30),
        ):
            assert list(ask(kind="capability", author="jinan").records) == []
            for named, words in (
                ({"kind": "zork"}, "there is no kind 'zork'"),
                ({"author": "zork"}, "there is no member zork"),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    ask(**named)
                assert code_of(refused.value) is grpc.StatusCode.NOT_FOUND
                assert refused.value.details() == words
