"""A kind that does not exist is refused by a real node; a kind without a record is an empty list."""

from __future__ import annotations

import grpc
import pytest

from labmesh.v1 import node_pb2
from tests.end_to_end.harness import code_of, open_mesh, result_record


def test_a_kind_that_does_not_exist_is_no_empty_list() -> None:
    with open_mesh("jinan") as mesh:
        jinan = mesh["jinan"].start()
        jinan.push([result_record("ONE")])
        for ask in (
            lambda kind: jinan.stub.ListRecords(node_pb2.ListRecordsRequest(kind=kind), timeout=30),
            lambda kind: jinan.stub.SearchRecords(node_pb2.SearchRecordsRequest(text="地下水", kind=kind), timeout=30),
        ):
            assert list(ask("capability").records) == []
            with pytest.raises(grpc.RpcError) as refused:
                ask("zork")
            assert code_of(refused.value) is grpc.StatusCode.NOT_FOUND
            assert refused.value.details() == "there is no kind 'zork'"
