"""Beyond the head that the roster names for a removed member nothing counts, and before it everything does."""

from __future__ import annotations

from pathlib import Path

import pytest

from labmesh.v1 import peer_pb2
from node.audit import build_bundle
from node.core.amendment import RemoveMember
from node.core.bundle import Bundle
from node.core.checkpoint import parse_checkpoint
from node.core.entry import LogPage
from node.core.merkle import EMPTY_ROOT
from node.core.names import parse_record_id
from node.core.proof import parse_tlog_proof
from node.core.roster import Head
from node.cutoff import find_other_histories
from node.errors import NotFoundError
from node.lab.text import query_expression
from node.rpc.convert import message_from_wire
from node.rpc.log_stream import LogStream
from node.store.records import Filter
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts, spread
from tests.verifiers import agreed_verdict


def prove(member: SimulatedMember, key: str) -> Bundle:
    """The bundle of one record of qingdao."""
    record_id, joined = parse_record_id(f"qingdao/result/{key}"), member.membership.joined
    return build_bundle(member.store, joined, record_id, member=member.name, ceiling=member.confirmation.ceiling)


class TestRemoval:
    """Beyond the head that the roster names nothing counts, whatever this node had verified."""

    def test_records_from_the_cut_on_are_neither_listed_nor_found_nor_proven(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(5))

        def keys(name: str) -> list[str]:
            return [stored.key for stored in made[name].store.records.list(Filter(author="qingdao"), limit=50).records]

        for reader in ("jinan", "yantai"):
            made.catch_up(reader, "qingdao")
            assert made[reader].store.search.advance() == 5
        head = made["jinan"].store.logs.head_of("qingdao", 3)
        made["jinan"].membership.amend(RemoveMember("qingdao", head))
        spread(made, "jinan")
        for reader in ("jinan", "yantai"):
            member = made[reader]
            assert keys(reader) == ["WJ-000000", "WJ-000001", "WJ-000002"]
            assert member.store.records.count() == 3
            member.store.search.advance()
            hits = member.store.records.search(query_expression("0.10"), Filter(), limit=50).records
            assert sorted(hit.index for hit in hits) == [0, 1, 2]
            for key in ("WJ-000003", "WJ-000004@1"):
                assert member.store.records.find(parse_record_id(f"qingdao/result/{key}")) is None
                with pytest.raises(NotFoundError):
                    prove(member, key)
            fingerprint = member.membership.joined.fingerprint
            assert agreed_verdict(prove(member, "WJ-000002"), fingerprint=fingerprint, kinds=member.kinds).verified
            assert list(find_other_histories(made[reader].store, made[reader].membership.joined)) == []
        made["yantai"].reopen()
        assert keys("yantai") == ["WJ-000000", "WJ-000001", "WJ-000002"]

    def test_the_removed_member_s_own_records_stay_and_its_pushes_are_taken(self, tmp_path: Path) -> None:
        """What its laboratories measured is theirs, whatever the alliance decides; but nobody accepts a proof of it."""
        made = SimulatedAlliance(tmp_path, 3)
        qingdao = made["qingdao"]
        qingdao.push(*drafts(3))
        made["jinan"].membership.amend(RemoveMember("qingdao", Head(2, qingdao.store.logs.tree(1).root(2))))
        spread(made, "jinan")
        assert qingdao.push(*drafts(1, "LATER")).accepted == 1
        qingdao.reopen()
        qingdao.confirm()
        listed = qingdao.store.records.list(Filter(author="qingdao"), limit=50).records
        assert [stored.key for stored in listed] == ["WJ-000000", "WJ-000001", "WJ-000002", "LATER-000000"]
        fingerprint = qingdao.membership.joined.fingerprint
        assert agreed_verdict(prove(qingdao, "WJ-000001"), fingerprint=fingerprint, kinds=qingdao.kinds).verified
        for key in ("WJ-000002", "LATER-000000"):
            with pytest.raises(NotFoundError, match="ends the log of qingdao at size 2"):
                prove(qingdao, key)

    def test_nothing_beyond_the_cut_is_told_served_or_cosigned(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        jinan, yantai, origin = made["jinan"], made["yantai"], made["qingdao"].lab.origin
        for prefix in "AB":
            made["qingdao"].push(*drafts(2, prefix))
            for reader in ("jinan", "yantai"):
                made.catch_up(reader, "qingdao")
        beyond = jinan.exchange.held_notes()
        jinan.membership.amend(RemoveMember("qingdao", jinan.store.logs.head_of("qingdao", 3)))
        spread(made, "jinan")

        def told(member: SimulatedMember) -> list[int]:
            notes = map(parse_checkpoint, member.exchange.held_notes())
            return [signed.size for signed in notes if signed.origin == origin]

        assert told(jinan) == told(yantai) == [2], "the largest checkpoint that does not go beyond"
        assert yantai.exchange.tellable_size(yantai.mirror_of("qingdao")) == 3
        assert not yantai.exchange.cosign_head(origin)
        assert yantai.exchange.accept_notes(beyond, peer="jinan") == (0, []) and yantai.evidence.pieces() == ()
        request = peer_pb2.ReadLogRequest(origin=origin, follow=True, entries_max=1000)
        stream = LogStream(jinan.store, request, reader="yantai", ceiling=jinan.exchange.tellable_size)
        messages = [message_from_wire(message) for message in (*stream.advance(), *stream.advance())]
        assert [parse_checkpoint(item).size for item in messages if isinstance(item, bytes)] == [2]
        assert [len(item.openings) for item in messages if isinstance(item, LogPage)] == [2]
        # A bundle rests on a checkpoint that counts, where one is held.
        newest = parse_tlog_proof(prove(jinan, "A-000001").proof.decode())
        assert parse_checkpoint(newest.checkpoint.encode()).size == 2
        # None ends between this entry and the cut: the next one proves it, and says nothing of what lies beyond.
        assert agreed_verdict(
            prove(jinan, "B-000000"), fingerprint=jinan.membership.joined.fingerprint, kinds=jinan.kinds
        ).verified

    def test_an_open_stream_goes_no_further(self, tmp_path: Path) -> None:
        """It had announced more when the cut came: the rest of those entries is not sent, nor what is opened late."""
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(1200))
        jinan, origin = made["jinan"], made["qingdao"].lab.origin
        made.catch_up("jinan", "qingdao")
        request = peer_pb2.ReadLogRequest(origin=origin, follow=True, entries_max=10_000)
        stream = LogStream(jinan.store, request, reader="yantai", ceiling=jinan.exchange.tellable_size)
        assert len(stream.advance()) == 2
        jinan.membership.amend(RemoveMember("qingdao", jinan.store.logs.head_of("qingdao", 1100)))
        assert stream.advance() == [] == stream.advance()

    def test_another_history_than_the_one_that_ends_is_neither_told_nor_proven(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(4))
        yantai = made["yantai"]
        made.catch_up("yantai", "qingdao")
        made["jinan"].membership.amend(RemoveMember("qingdao", Head(3, bytes(32))))
        spread(made, "jinan")
        assert yantai.exchange.tellable_size(yantai.mirror_of("qingdao")) == 0
        assert all(parse_checkpoint(note).origin != made["qingdao"].lab.origin for note in yantai.exchange.held_notes())
        with pytest.raises(NotFoundError, match="another history of the log of qingdao"):
            prove(yantai, "WJ-000000")

    def test_without_a_head_everyone_keeps_what_it_had_verified(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(2))
        made.catch_up("yantai", "qingdao")
        made["jinan"].membership.amend(RemoveMember("qingdao", None))
        spread(made, "jinan")
        assert made["yantai"].store.records.count() == 2

    def test_a_remover_that_verified_nothing_lets_nothing_count(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(2))
        made.catch_up("yantai", "qingdao")
        head = made["jinan"].store.logs.head_of("qingdao")
        made["jinan"].membership.amend(RemoveMember("qingdao", head))
        spread(made, "jinan")
        joined = made["yantai"].membership.joined
        assert joined.roster.members["qingdao"].cut == Head(0, EMPTY_ROOT)
        assert made["yantai"].store.records.count() == 0
        with pytest.raises(NotFoundError):
            prove(made["yantai"], "WJ-000000")
        assert list(find_other_histories(made["yantai"].store, joined)) == []

    def test_a_node_with_another_history_raises_an_alarm(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 3)
        made["qingdao"].push(*drafts(4))
        made.catch_up("yantai", "qingdao")
        made["jinan"].membership.amend(RemoveMember("qingdao", Head(3, bytes(32))))
        spread(made, "jinan")
        (sentence,) = find_other_histories(made["yantai"].store, made["yantai"].membership.joined)
        assert "qingdao" in sentence and "size 3" in sentence and "two histories" in sentence
        assert list(find_other_histories(made["jinan"].store, made["jinan"].membership.joined)) == []

    def test_a_smaller_head_must_be_verified_here(self, tmp_path: Path) -> None:
        made = SimulatedAlliance(tmp_path, 2)
        made["qingdao"].push(*drafts(2))
        logs = made["jinan"].store.logs
        assert logs.head_of("qingdao") == Head(0, EMPTY_ROOT)
        with pytest.raises(NotFoundError, match="0 entries of qingdao are verified here, not 1"):
            logs.head_of("qingdao", 1)
        made.catch_up("jinan", "qingdao")
        assert logs.head_of("qingdao", 2) == logs.head_of("qingdao")
        assert logs.head_of("qingdao", 0) == Head(0, made["qingdao"].store.logs.tree(1).root(0))
        with pytest.raises(NotFoundError):
            logs.head_of("qingdao", 3)
