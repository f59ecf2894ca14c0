"""One entry opened in two ways, and two rosters of one version: evidence, told only to those who may read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node import evidence as evidence_module
from node import held_evidence
from node.core.card import FormerLogKey
from node.core.disclosure import erasure_body
from node.core.evidence import Evidence
from node.core.merkle import Frontier
from node.core.misconduct import Judgement, judge_evidence
from node.core.names import RecordId
from node.core.roster import Head
from node.errors import NotFoundError
from node.evidence import TOLD_AT_ONCE_MAX
from node.sync.revoked import forget_uncounted
from tests.alliance import SimulatedAlliance
from tests.builders import MemoryLog, build_log, record_bytes, sign_card
from tests.disclosing import KINDS
from tests.evidence_cases import other_card
from tests.sync.disputes import JINAN, QINGDAO, settle
from tests.sync.equivocation import contact, holders, show


class TestContradictions:
    @pytest.fixture
    def told_twice(self, four: SimulatedAlliance) -> SimulatedAlliance:
        """Jinan says one id twice, to qingdao and yantai but not to weifang; qingdao reads both."""
        log = build_log(JINAN)
        log.append_numbered(3, audience=["qingdao", "yantai"])
        log.append(record_bytes("jinan", "WJ-000001", body={"value": "9"}, audience=["qingdao", "yantai"]))
        show(four, "qingdao", log)
        return four

    def test_who_reads_both_has_evidence(self, told_twice: SimulatedAlliance) -> None:
        qingdao = told_twice["qingdao"]
        (piece,) = qingdao.evidence.pieces()
        assert (piece.kind, piece.member) == ("contradiction", "jinan")
        assert (
            piece.judgement.summary == "jinan signed two records with the id jinan/result/WJ-000001@1: its entries 1 and 3"
        )
        assert holders(told_twice, "jinan") == []  # one history all the same: it is followed
        assert qingdao.evidence.alarms()

    def test_it_goes_when_one_of_its_records_is_erased(self, tmp_path: Path) -> None:
        alliance = SimulatedAlliance(tmp_path, 3, schemas=KINDS)
        log, readers = build_log(JINAN), ["qingdao", "yantai"]
        secret = record_bytes("jinan", "WJ-000001", body={"value": "unsagbar"}, audience=readers)
        log.append_numbered(3, audience=readers)
        log.append(secret)
        show(alliance, "qingdao", log)
        show(alliance, "yantai", log, 3)
        qingdao, yantai = alliance["qingdao"], alliance["yantai"]
        (piece,) = qingdao.evidence.pieces()
        raw = qingdao.evidence.export(piece.id)[1]
        assert yantai.evidence.accept(raw, peer="qingdao") and len(yantai.evidence.pieces()) == 1
        assert b"unsagbar" in raw and b"unsagbar" in qingdao.stored_bytes()
        said = erasure_body(3, RecordId("jinan", "result", "WJ-000001", 1), "wrong customer")
        log.append(record_bytes("jinan", "3", kind="erasure", schema="erasure/1", body=said, audience=readers))
        for reader in (qingdao, yantai):
            show(alliance, reader.name, log)
            assert reader.store.evidence.load() == [] and reader.evidence.untold("weifang") == []
            with pytest.raises(NotFoundError, match="was erased"):
                reader.evidence.export(piece.id)
            assert reader.store.sweeper.sweep() is True
            reader.evidence.forget_dropped()
            assert (reader.evidence.pieces(), reader.evidence.alarms()) == ((), [])
            assert reader.evidence.accept(raw, peer="weifang") and reader.evidence.pieces() == ()
            assert b"unsagbar" not in reader.stored_bytes()
        alliance.close()

    def test_it_is_told_to_those_who_may_read_both(self, told_twice: SimulatedAlliance) -> None:
        for server in ("weifang", "yantai"):
            contact(told_twice, "qingdao", server)
            contact(told_twice, server, "qingdao")
        assert [name for name, member in told_twice.members.items() if member.evidence.pieces()] == ["qingdao", "yantai"]
        _, raw = told_twice["qingdao"].evidence.export(told_twice["qingdao"].evidence.pieces()[0].id)
        from node.errors import VerificationError

        with pytest.raises(VerificationError, match="not for weifang"):
            told_twice["weifang"].evidence.accept(raw, peer="yantai")
        assert told_twice["weifang"].evidence.pieces() == ()
        assert b"WJ-000001" not in told_twice["weifang"].stored_bytes()

    def test_not_even_its_id_is_told_to_others(self, told_twice: SimulatedAlliance) -> None:
        qingdao, yantai = told_twice["qingdao"], told_twice["yantai"]
        (piece,) = qingdao.evidence.pieces()
        _, raw = qingdao.evidence.export(piece.id)
        yantai.evidence.accept(raw, peer="qingdao")
        for holder in (qingdao, yantai):
            assert holder.evidence.known_ids("weifang") == []
        assert qingdao.evidence.known_ids("yantai") == yantai.evidence.known_ids("qingdao") == [piece.id]

    def test_a_crash_before_the_evidence_is_made_up_for(self, told_twice: SimulatedAlliance) -> None:
        qingdao = told_twice["qingdao"]
        with qingdao.store.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM evidence")
        qingdao.reopen()
        assert qingdao.evidence.pieces() == ()
        qingdao.evidence.search_all()
        assert len(qingdao.evidence.pieces()) == 1

    def test_the_same_words_twice_are_none(self, alliance: SimulatedAlliance) -> None:
        log = build_log(JINAN, 3)
        log.append(log.records[1])
        show(alliance, "qingdao", log)
        assert alliance["qingdao"].evidence.pieces() == ()

    def test_a_flood_of_them_is_bounded(self, alliance: SimulatedAlliance) -> None:
        log = build_log(JINAN, 100)
        log.append(*(record_bytes("jinan", f"WJ-{i:06d}", body={"value": "9"}) for i in range(100)))
        show(alliance, "qingdao", log)
        assert len(alliance["qingdao"].evidence.pieces()) == 16
        assert len(alliance["qingdao"].evidence.untold("yantai")) == TOLD_AT_ONCE_MAX

    def test_those_that_stand_no_more_give_way(self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
        """Twenty contradictions, then a card that ends the key before them all, again and again: a disk is not filled."""
        qingdao, held = alliance["qingdao"], list[tuple[int, int]]()
        for generation in (1, 2, 3):
            log = MemoryLog(replace(JINAN, generation=generation))
            for i in range(20):
                log.append(*(record_bytes("jinan", f"K{i}", body={"value": f"{generation}{word}"}) for word in "ab"))
            show(alliance, "qingdao", log)
            while qingdao.evidence.search_contradictions(qingdao.mirror_of("jinan")):
                pass
            pieces, stored = qingdao.evidence.pieces(), qingdao.store.evidence.load()
            assert {piece.id for piece in pieces} == {row.id for row in stored}
            held.append((len(pieces), sum(piece.stands for piece in pieces)))
            envelope, card = qingdao.membership.joined.cards["jinan"]
            newer, ended = replace(JINAN, generation=generation + 1), FormerLogKey(card.log_key, 0, Frontier().root())
            former, seq = (*card.former_log_keys, ended), card.seq + 1
            successor = replace(card, log_key=newer.log.key, former_log_keys=former, seq=seq, previous=envelope.hash)
            alliance.clock.turn(600)
            assert qingdao.membership.accept_update([], [sign_card(successor, JINAN)]).changed
            assert forget_uncounted(qingdao.store, qingdao.exchange, successor)
            assert not any(piece.stands for piece in qingdao.evidence.pieces())
        assert held == [(16, 16)] * 3
        monkeypatch.setattr(evidence_module, "judge_evidence", None)
        qingdao.evidence.refresh()  # nothing has changed, so nothing is judged
        assert len(qingdao.evidence.pieces()) == 16

    def test_a_card_has_only_its_own_members_pieces_judged(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log, qingdao = build_log(JINAN, 2), alliance["qingdao"]
        log.append(record_bytes("jinan", "WJ-000001", body={"value": "9"}))
        show(alliance, "qingdao", log)
        judged: list[str] = []

        def count(evidence: Evidence, **options: Any) -> Judgement:
            judged.append(evidence.kind)
            return judge_evidence(evidence, **options)

        monkeypatch.setattr(held_evidence, "judge_evidence", count)
        for author, expected in (("yantai", []), ("jinan", ["contradiction"])):
            envelope, card = qingdao.membership.joined.cards[author]
            successor = replace(card, region="elsewhere", seq=card.seq + 1, previous=envelope.hash)
            assert qingdao.membership.accept_update([], [sign_card(successor, alliance[author].lab)]).changed
            assert judged == expected and [piece.stands for piece in qingdao.evidence.pieces()] == [True]

    @pytest.mark.parametrize("reopened", [False, True])
    def test_settled_ones_hide_none_that_come_later(self, alliance: SimulatedAlliance, reopened: bool) -> None:
        """The council has settled a hundred; what the member says twice from then on is found all the same."""
        qingdao, log = alliance["qingdao"], build_log(JINAN, 100)
        log.append(*(record_bytes("jinan", f"WJ-{i:06d}", body={"value": "9"}) for i in range(100)))
        show(alliance, "qingdao", log)
        settle(alliance, Head(200, log.tree.root(200)))
        assert not [piece for piece in qingdao.evidence.pieces() if piece.stands]
        if reopened:
            qingdao.reopen()
        log.append(record_bytes("jinan", "WJ-000099", body={"value": "10"}))
        log.append(record_bytes("jinan", "NEW"), record_bytes("jinan", "NEW", body={"value": "9"}))
        show(alliance, "qingdao", log)
        found = [piece.judgement.subject for piece in qingdao.evidence.pieces() if piece.stands]
        assert found == ["jinan/result/WJ-000099@1", "jinan/result/NEW@1"]

    def test_room_that_is_made_is_used(self, alliance: SimulatedAlliance) -> None:
        """Sixteen stand, and more are known to the openings: when some go, others are kept instead."""
        qingdao, log = alliance["qingdao"], build_log(JINAN, 30)
        log.append(*(record_bytes("jinan", f"WJ-{i:06d}", body={"value": "9"}) for i in range(30)))
        show(alliance, "qingdao", log)
        gone = [piece.id for piece in qingdao.evidence.pieces()[:10]]
        with qingdao.store.database.write() as connection:
            for evidence_id in gone:
                connection.exec_driver_sql("DELETE FROM evidence WHERE id = ?", (evidence_id,))
        qingdao.evidence.forget_dropped()
        assert not qingdao.evidence.search_contradictions(qingdao.mirror_of("jinan"))
        subjects = [piece.judgement.subject for piece in qingdao.evidence.pieces()]
        assert subjects == [f"jinan/result/WJ-{i:06d}@1" for i in range(10, 26)]

    def test_one_search_looks_at_a_bounded_number(
        self, alliance: SimulatedAlliance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Known pairs cost no judging; a call that ends early says so, and the next one goes on behind it."""
        monkeypatch.setattr("node.store.evidence.CONTRADICTIONS_MAX", 2)
        monkeypatch.setattr("node.evidence.SEARCHED_PAGES_MAX", 2)
        qingdao, log = alliance["qingdao"], build_log(JINAN, 10)
        log.append(*(record_bytes("jinan", f"WJ-{i:06d}", body={"value": "9"}) for i in range(10)))
        show(alliance, "qingdao", log)
        assert len(qingdao.evidence.pieces()) == 4
        judged: list[object] = []
        real = judge_evidence

        def count(*args: Any, **options: Any) -> Any:
            judged.append(args)
            return real(*args, **options)

        monkeypatch.setattr("node.evidence.judge_evidence", count)
        found = []
        while qingdao.evidence.search_contradictions(qingdao.mirror_of("jinan")):
            found.append(len(qingdao.evidence.pieces()))
        assert (found, len(qingdao.evidence.pieces()), len(judged)) == ([8], 10, 6)
        assert not qingdao.evidence.search_contradictions(qingdao.mirror_of("jinan"))
        qingdao.reopen()
        judged.clear()
        qingdao.evidence.search_all()
        assert (len(qingdao.evidence.pieces()), judged) == (10, [])


class TestConflicts:
    def test_two_cards_of_one_number(self, alliance: SimulatedAlliance) -> None:
        alliance.tampering.cards = lambda cards: [*cards, other_card(QINGDAO)]
        alliance.tampering.exchange = lambda answer: replace(answer, cards_digest=bytes(32))
        contact(alliance, "jinan", "yantai")
        (piece,) = alliance["jinan"].evidence.pieces()
        assert (piece.kind, piece.member) == ("card", "qingdao")
        assert piece.judgement.summary == "qingdao signed two cards with seq 1"
        assert holders(alliance, "qingdao") == []
        assert [name for name, member in alliance.members.items() if member.evidence.pieces()] == ["jinan", "yantai"]
