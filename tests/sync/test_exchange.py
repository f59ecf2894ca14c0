"""Checkpoints that nodes tell each other: what is told, what is taken, and what proves misconduct."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from node.core.card import FormerWitnessKey
from node.core.checkpoint import Checkpoint, SignedCheckpoint, cosign_checkpoint, parse_checkpoint, sign_checkpoint
from node.core.note import SignatureLine
from node.core.witness import accept_cosignatures
from node.errors import StoreError
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts, visible
from tests.builders import NOW_S, Lab, build_labs, cosign, sign_card
from tests.simulated_client import Tampering

JINAN, QINGDAO, YANTAI, STRANGER = build_labs(4)


@pytest.fixture
def jinan(alliance: SimulatedAlliance) -> SimulatedMember:
    """The author of five entries under the checkpoints of sizes 2 and 5, which qingdao and yantai hold."""
    alliance["jinan"].push(*drafts(2, "A"))
    for reader in ("qingdao", "yantai"):
        alliance.catch_up(reader, "jinan")
    alliance["jinan"].push(*drafts(3, "B"))
    for reader in ("qingdao", "yantai"):
        alliance.catch_up(reader, "jinan")
    return alliance["jinan"]


def head(member: SimulatedMember) -> SignedCheckpoint:
    held = member.mirror_of("jinan").head
    assert held is not None
    return held


def lines_at(member: SimulatedMember, size: int) -> list[str]:
    """Names of the keys whose signatures a held checkpoint carries."""
    return [line.name.removeprefix(f"{JINAN.alliance}/") for line in stored(member, size).note.signatures]


def stored(member: SimulatedMember, size: int) -> SignedCheckpoint:
    """A held checkpoint of jinan's log, with the cosignatures."""
    found = member.store.checkpoints.find(member.mirror_of("jinan").id, size)
    assert found is not None
    return found


def give_way(member: SimulatedMember, until_s: int) -> bytes:
    """Yantai cosigns a member's own head, and then ends its key a moment before; returns the note that counts no more."""
    envelope, card = member.membership.joined.cards["yantai"]
    late, newer = bytes(cosign(head(member), {YANTAI: until_s + 9})), replace(YANTAI, generation=2)
    assert member.exchange.accept_notes([late], peer="yantai") == (1, [])
    ended = (FormerWitnessKey(card.witness_key, datetime.fromtimestamp(until_s, UTC)),)
    successor = replace(
        card, witness_key=newer.witness.key, former_witness_keys=ended, seq=card.seq + 1, previous=envelope.hash
    )
    assert member.membership.accept_update([], [sign_card(successor, YANTAI)]).changed
    return late


def refuse_to_write(*_: object, **_named: object) -> int:
    raise StoreError("the disk is full")


class TestTelling:
    def test_the_newest_checkpoint_of_every_log(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        yantai = alliance["yantai"]
        yantai.push(*drafts(1))
        told = [parse_checkpoint(note) for note in yantai.exchange.held_notes()]
        assert [(note.origin, note.size) for note in told] == [(JINAN.origin, 5), (YANTAI.origin, 1)]

    def test_the_digest_is_over_the_sorted_notes(self, jinan: SimulatedMember) -> None:
        notes = [b"b", b"a"]
        expected = sha256(sha256(b"a").digest() + sha256(b"b").digest()).digest()
        assert jinan.exchange.digest(notes) == jinan.exchange.digest(notes[::-1]) == expected
        assert jinan.exchange.digest([]) == sha256(b"").digest()

    def test_what_is_held_of_a_member(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        assert alliance["qingdao"].exchange.note_for("jinan") == jinan.ledger.log.head_note
        assert alliance["qingdao"].exchange.note_for("yantai") == b""
        assert alliance["qingdao"].exchange.note_for("weifang") == b""

    def test_a_new_head_and_a_new_cosignature_are_told_at_once(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember
    ) -> None:
        qingdao = alliance["qingdao"]
        told = [qingdao.exchange.held_notes()]
        assert qingdao.exchange.held_notes() == told[0]
        qingdao.exchange.cosign_head(JINAN.origin)
        told.append(qingdao.exchange.held_notes())
        jinan.push(*drafts(1, "C"))
        alliance.catch_up("qingdao", "jinan")
        told.append(qingdao.exchange.held_notes())
        assert [parse_checkpoint(note).size for (note,) in told] == [5, 5, 6]
        assert [len(parse_checkpoint(note).note.signatures) for (note,) in told] == [1, 2, 1]


class TestCosigning:
    def test_a_head_is_cosigned_once(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        qingdao = alliance["qingdao"]
        assert qingdao.exchange.cosign_head(JINAN.origin)
        first = qingdao.exchange.held_notes()
        alliance.clock.turn(100)
        assert not qingdao.exchange.cosign_head(JINAN.origin)
        assert qingdao.exchange.held_notes() == first
        assert lines_at(qingdao, 5) == ["log/jinan", "witness/qingdao"]
        expected = cosign_checkpoint(head(qingdao).checkpoint, QINGDAO.witness, int(alliance.clock().timestamp()) - 100)
        assert str(expected.line) in first[0].decode()

    def test_nobody_cosigns_its_own_log_or_what_it_does_not_hold(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember
    ) -> None:
        assert not jinan.exchange.cosign_head(JINAN.origin)
        assert not jinan.exchange.cosign_head(YANTAI.origin)
        alliance["qingdao"].mirror_of("yantai")
        assert not alliance["qingdao"].exchange.cosign_head(YANTAI.origin)
        assert lines_at(jinan, 5) == ["log/jinan"]

    def test_what_is_only_staged_is_not_cosigned_and_what_was_verified_waits_for_no_announcement(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember
    ) -> None:
        qingdao = alliance["qingdao"]
        jinan.push(*drafts(4, "C"))
        alliance.tampering.stream = lambda messages: [
            item if isinstance(item, bytes) else replace(item, commitments=item.commitments[:32], openings=[])
            for item in messages
        ]
        alliance.follow("qingdao", "jinan", lambda _: qingdao.mirror_of("jinan").staged.size == 6)
        assert qingdao.exchange.cosign_head(JINAN.origin)
        (told,) = map(parse_checkpoint, qingdao.exchange.held_notes())
        assert (told.size, len(told.note.signatures)) == (5, 2)
        alliance.tampering.stream = Tampering().stream
        alliance.catch_up("qingdao", "jinan")
        alliance.clock.turn(1)
        assert qingdao.exchange.cosign_head(JINAN.origin)
        assert [parse_checkpoint(note).size for note in qingdao.exchange.held_notes()] == [9]


class TestTaking:
    def test_cosignatures_on_what_is_held(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        note = bytes(cosign(head(alliance["qingdao"]), {QINGDAO: NOW_S, YANTAI: NOW_S + 1}))
        for member in alliance.members.values():
            assert member.exchange.accept_notes([note], peer="qingdao") == (2, [])
            assert member.exchange.accept_notes([note, note], peer="qingdao") == (0, [])
            assert lines_at(member, 5) == ["log/jinan", "witness/qingdao", "witness/yantai"]

    def test_cosignatures_on_an_older_checkpoint(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        older = jinan.store.checkpoints.find(jinan.ledger.log.id, 2)
        assert older is not None
        assert jinan.exchange.accept_notes([bytes(cosign(older, {YANTAI: NOW_S}))], peer="yantai") == (1, [])
        assert (lines_at(jinan, 2), lines_at(jinan, 5)) == (["log/jinan", "witness/yantai"], ["log/jinan"])

    def test_what_counts_no_more_gives_way(self, jinan: SimulatedMember) -> None:
        """Yantai cosigned before a newer card of it was known here, which ends that key earlier. The next key signs."""
        late, newer = give_way(jinan, NOW_S), replace(YANTAI, generation=2)
        assert jinan.exchange.accept_notes([late], peer="yantai") == (0, [])
        again = bytes(cosign(head(jinan), {newer: NOW_S + 20}))
        assert jinan.exchange.accept_notes([again], peer="yantai") == (1, [])
        assert list(accept_cosignatures(jinan.membership.joined, "jinan", stored(jinan, 5))) == ["yantai"]
        assert jinan.exchange.accept_notes([bytes(cosign(head(jinan), {newer: NOW_S + 30}))], peer="yantai") == (0, [])

    def test_what_gives_way_is_forgotten_together_with_what_it_gives_way_to(
        self, jinan: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        give_way(jinan, NOW_S)
        newer = bytes(cosign(head(jinan), {replace(YANTAI, generation=2): NOW_S + 20}))
        with monkeypatch.context() as patch:
            patch.setattr(jinan.store.database, "insert_rows", refuse_to_write)
            with pytest.raises(StoreError):
                jinan.exchange.accept_notes([newer], peer="yantai")
        assert lines_at(jinan, 5) == ["log/jinan", "witness/yantai"]
        assert jinan.exchange.accept_notes([newer], peer="yantai") == (1, [])

    @pytest.mark.parametrize(("ahead_s", "saved"), [(0, 1), (300, 1), (301, 0), (10**9, 0)])
    def test_of_its_own_a_node_takes_none_from_times_to_come(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, ahead_s: int, saved: int
    ) -> None:
        """A thief of the witness key made it: the next rotation would let that key count until then."""
        yantai = alliance["yantai"]
        note = bytes(cosign(head(jinan), {YANTAI: int(yantai.clock().timestamp()) + ahead_s}))
        assert yantai.exchange.accept_notes([note], peer="qingdao") == (saved, [])
        assert alliance["qingdao"].exchange.accept_notes([note], peer="yantai") == (1, [])

    def test_the_first_cosignature_of_a_witness_stays(self, jinan: SimulatedMember) -> None:
        for time, saved in ((NOW_S + 9, 1), (NOW_S, 0)):
            note = bytes(cosign(head(jinan), {YANTAI: time}))
            assert jinan.exchange.accept_notes([note], peer="yantai") == (saved, [])
        assert (NOW_S + 9).to_bytes(8, "big") in {
            line.signature[:8] for line in parse_checkpoint(jinan.exchange.held_notes()[0]).note.signatures
        }

    def test_what_does_not_count_is_left_out(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        signed = head(jinan)
        good = cosign_checkpoint(signed.checkpoint, YANTAI.witness, NOW_S).line
        other = cosign_checkpoint(Checkpoint(JINAN.origin, 5, bytes(32)), QINGDAO.witness, NOW_S).line
        lines = (
            SignatureLine(good.name, good.key_id, good.signature[:8] + bytes(64)),
            SignatureLine(good.name, bytes(4), good.signature),
            other,
            cosign_checkpoint(signed.checkpoint, STRANGER.witness, NOW_S).line,
            cosign_checkpoint(signed.checkpoint, JINAN.witness, NOW_S).line,
            cosign_checkpoint(signed.checkpoint, Lab("yantai", generation=2).witness, NOW_S).line,
        )
        before = visible(jinan.store)
        assert jinan.exchange.accept_notes([bytes(signed.with_lines(lines))], peer="yantai") == (0, [])
        assert jinan.exchange.accept_notes([bytes(signed.with_lines((*lines, good)))], peer="yantai") == (1, [])
        assert lines_at(jinan, 5) == ["log/jinan", "witness/yantai"]
        assert visible(jinan.store) == before

    def test_notes_that_say_nothing_here(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        qingdao = alliance["qingdao"]
        signed = head(qingdao)
        line = signed.note.signatures[0]
        ahead = sign_checkpoint(Checkpoint(JINAN.origin, 9, bytes(32)), JINAN.log)
        tree = qingdao.store.logs.tree(qingdao.mirror_of("jinan").id)
        between = sign_checkpoint(Checkpoint(JINAN.origin, 3, tree.root(3)), JINAN.log)
        empty = sign_checkpoint(Checkpoint(JINAN.origin, 0, sha256(b"").digest()), JINAN.log)
        forged = replace(signed, note=replace(signed.note, signatures=(replace(line, signature=bytes(64)),)))
        foreign = sign_checkpoint(Checkpoint(STRANGER.origin, 1, bytes(32)), STRANGER.log)
        notes = [b"", b"nonsense", b"x" * 20_000, bytes(foreign)]
        notes += [bytes(cosign(item, {YANTAI: NOW_S})) for item in (ahead, between, empty, forged)]
        before = qingdao.exchange.held_notes()
        assert qingdao.exchange.accept_notes(notes, peer="yantai") == (0, [])
        assert qingdao.exchange.held_notes() == before

    def test_one_bad_note_does_not_hide_the_others(self, jinan: SimulatedMember) -> None:
        good = bytes(cosign(head(jinan), {YANTAI: NOW_S}))
        assert jinan.exchange.accept_notes([b"nonsense", good, b"nonsense"], peer="yantai") == (1, [])


class TestSplitView:
    @pytest.mark.parametrize(("size", "held_size"), [(5, 5), (2, 2), (3, 5)])
    def test_two_histories_are_evidence(
        self, alliance: SimulatedAlliance, jinan: SimulatedMember, size: int, held_size: int
    ) -> None:
        other = bytes(sign_checkpoint(Checkpoint(JINAN.origin, size, bytes(32)), JINAN.log))
        for member in alliance.members.values():
            before = visible(member.store)
            saved, (split,) = member.exchange.accept_notes([other], peer="qingdao")
            held = member.store.checkpoints.find(member.mirror_of("jinan").id, held_size)
            assert held is not None
            assert (saved, split.origin, split.size, split.offered_note) == (0, JINAN.origin, size, other)
            assert split.held_note == bytes(held)
            assert visible(member.store) == before

    def test_it_comes_with_the_contact(self, alliance: SimulatedAlliance, jinan: SimulatedMember) -> None:
        other = bytes(sign_checkpoint(Checkpoint(JINAN.origin, 5, bytes(32)), JINAN.log))
        alliance.tampering.exchange = lambda answer: replace(answer, digest=bytes(32), notes=[other])
        qingdao = alliance["qingdao"]
        state = alliance.follow("qingdao", "yantai", lambda _: qingdao.splits)
        assert state.state == "connected"
        assert [(split.origin, split.offered_note) for split in qingdao.splits] == [(JINAN.origin, other)]
