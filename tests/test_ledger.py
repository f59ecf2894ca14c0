"""The own log: what a push appends, what it refuses, and that the log verifies after any sequence of pushes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from node.core.checkpoint import Checkpoint, verify_checkpoint
from node.core.entry import committer, split_commitments
from node.core.merkle import EMPTY_ROOT
from node.core.names import RecordId
from node.core.record import RECORD_SIZE_MAX, parse_record
from node.errors import NotFoundError, StoreError
from node.push import PushOptions, PushOutcome
from node.store.logs import LogState
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts, examples, list_all, visible
from tests.builders import build_labs
from tests.core.naive import mth

JINAN = build_labs(1)[0]


@pytest.fixture
def jinan(alliance: SimulatedAlliance) -> SimulatedMember:
    return alliance["jinan"]


def push(member: SimulatedMember, *records: bytes, **options: Any) -> PushOutcome:
    return member.ledger.push_records(PushOptions(**{"kind": "result", **options}), records)


def counts(outcome: PushOutcome) -> tuple[int, int, int]:
    return outcome.accepted, outcome.unchanged, outcome.rejected


def newest(member: SimulatedMember, key: str) -> dict[str, Any]:
    stored = member.store.records.find(RecordId("jinan", "result", key))
    assert stored is not None
    content: dict[str, Any] = orjson.loads(stored.record)
    return content


def verify_log(member: SimulatedMember) -> int:
    """Everything that an auditor would check of the whole log; returns its size."""
    log = member.store.logs.load_log(member.ledger.log.id)
    assert log == member.ledger.log
    if log.head is None:
        assert log.head_size == 0
        return 0
    verify_checkpoint(log.head, member.lab.log.key)
    commitments: list[bytes] = []
    commit = committer(log.origin)
    revisions: dict[tuple[str, str], int] = {}
    while len(commitments) < log.head_size:
        page = member.store.logs.read_page(log, start=len(commitments), stop=log.head_size, reader=member.name)
        added = split_commitments(page.commitments)
        for opening in page.openings:
            assert commit(opening.salt, opening.record) == added[opening.index - len(commitments)]
            record = parse_record(opening.record, author=member.name, kinds=member.kinds)
            name = (record.kind, record.key)
            assert record.revision == revisions.get(name, 0) + 1
            revisions[name] = record.revision
        assert len(page.openings) == len(added)
        commitments += added
    assert (log.head_size, log.head.root) == (len(commitments), mth(commitments))
    return log.head_size


class TestAppend:
    def test_an_empty_log(self, jinan: SimulatedMember) -> None:
        assert jinan.ledger.checkpoint == Checkpoint(JINAN.origin, 0, EMPTY_ROOT)
        assert push(jinan).checkpoint.size == 0

    def test_one_checkpoint_covers_the_batch(self, jinan: SimulatedMember) -> None:
        told: list[LogState] = []
        jinan.ledger.subscribe(told.append)
        outcome = push(jinan, *drafts(3))
        assert counts(outcome) == (3, 0, 0)
        assert outcome.checkpoint == jinan.ledger.checkpoint
        assert (outcome.checkpoint.origin, outcome.checkpoint.size) == (JINAN.origin, 3)
        assert verify_log(jinan) == 3
        assert jinan.store.checkpoints.find(jinan.ledger.log.id, 1) is None
        assert told == [jinan.ledger.log]

    def test_it_is_there_after_a_restart(self, jinan: SimulatedMember) -> None:
        push(jinan, *drafts(3))
        checkpoint = jinan.ledger.checkpoint
        jinan.reopen()
        assert jinan.ledger.checkpoint == checkpoint
        jinan.confirm()
        push(jinan, draft("A"))
        assert verify_log(jinan) == 4

    def test_equal_records_have_different_commitments(self, jinan: SimulatedMember) -> None:
        push(jinan, draft("A"))
        push(jinan, draft("A", "1"), revise=True)
        push(jinan, draft("A"), revise=True)
        log = jinan.ledger.log
        page = jinan.store.logs.read_page(log, start=0, stop=3, reader="jinan")
        assert len({opening.salt for opening in page.openings}) == 3

    def test_published_is_when_the_push_arrived(self, jinan: SimulatedMember) -> None:
        call = jinan.ledger.begin_push(PushOptions("result"))
        jinan.clock.turn(60)
        call.add([draft("A")])
        jinan.ledger.push(call)
        assert newest(jinan, "A")["published"] == "2026-11-20T12:00:00.000Z"

    def test_an_unknown_kind(self, jinan: SimulatedMember) -> None:
        with pytest.raises(NotFoundError):
            jinan.ledger.begin_push(PushOptions("unknown"))


class TestRefusal:
    @pytest.mark.parametrize(
        "bad",
        [b"{", draft("A", audience=["weifang"]), draft("B", extra=1), draft("WJ-000000", "other"), draft("C\n")],
        ids=["no JSON", "stranger", "unknown member", "two contents", "control character"],
    )
    def test_one_bad_record_refuses_the_call(self, jinan: SimulatedMember, bad: bytes) -> None:
        push(jinan, draft("BEFORE"))
        before = visible(jinan.store)
        told: list[LogState] = []
        jinan.ledger.subscribe(told.append)
        outcome = push(jinan, *drafts(3), bad, draft("BEFORE"))
        assert counts(outcome) == (0, 0, 1)
        assert [error.record for error in outcome.errors] == [4]
        assert visible(jinan.store) == before
        assert outcome.checkpoint.size == 1
        assert told == []

    def test_the_good_ones_are_appended_on_demand(self, jinan: SimulatedMember) -> None:
        outcome = push(jinan, draft("A"), b"{", draft("B"), draft("A", "other"), draft("A"), keep_going=True)
        assert counts(outcome) == (2, 1, 2)
        assert [error.record for error in outcome.errors] == [2, 4]
        assert "as record 1 with other content" in outcome.errors[1].message
        assert verify_log(jinan) == 2
        assert newest(jinan, "A")["body"] == {"value": "0.10"}

    def test_a_record_that_is_too_large_when_written_canonically(self, jinan: SimulatedMember) -> None:
        body = {"value": "1", "notes": ["x" * 1000] * 1050}
        raw = orjson.dumps({"key": "A", "body": body})
        assert RECORD_SIZE_MAX < len(raw) < 2 * RECORD_SIZE_MAX
        outcome = push(jinan, raw)
        assert counts(outcome) == (0, 0, 1)
        assert "larger content belongs into a blob" in outcome.errors[0].message
        assert verify_log(jinan) == 0

    def test_escapes_do_not_count(self, jinan: SimulatedMember) -> None:
        body = b'{"value":"1","notes":[' + b",".join([b'"' + b"\\u0041" * 1000 + b'"'] * 200) + b"]}"
        raw = b'{"key":"A","body":' + body + b"}"
        assert len(raw) > RECORD_SIZE_MAX
        assert counts(push(jinan, raw)) == (1, 0, 0)


class TestRepetition:
    def test_the_same_content_is_unchanged(self, jinan: SimulatedMember) -> None:
        push(jinan, draft("A", audience=["qingdao"], thread="jinan/result/T"), draft("B"))
        jinan.clock.turn(60)
        again = push(jinan, draft("A", thread="jinan/result/T"), b' { "body" : {"value":"0.10"}, "key" : "B" } ')
        assert counts(again) == (0, 2, 0)
        assert verify_log(jinan) == 2

    @pytest.mark.parametrize(
        "other",
        [draft("A", "0.1"), draft("A", audience=["qingdao"]), draft("A", audience=[]), draft("A", thread="jinan/result/T"),
         draft("A", replaces="jinan/result/T@1")],
        ids=["body", "audience", "private", "thread", "replaces"],
    )  # fmt: skip
    def test_other_content_needs_revise(self, jinan: SimulatedMember, other: bytes) -> None:
        push(jinan, draft("A"))
        outcome = push(jinan, other)
        assert counts(outcome) == (0, 0, 1)
        assert outcome.errors[0].path == "/key"
        assert "as revision 1; use --revise" in outcome.errors[0].message
        assert counts(push(jinan, other, revise=True)) == (1, 0, 0)
        assert newest(jinan, "A")["revision"] == 2
        assert counts(push(jinan, other, revise=True)) == (0, 1, 0)
        assert verify_log(jinan) == 2

    def test_a_revision_keeps_the_audience_unless_told_otherwise(self, jinan: SimulatedMember) -> None:
        push(jinan, draft("A", audience=["qingdao"]), draft("B", audience=[]), draft("C", audience=["yantai"]))
        push(jinan, draft("A", "1"), draft("B", "1"), draft("C", "1", audience=["*"]), revise=True)
        assert [newest(jinan, key)["audience"] for key in "ABC"] == [["qingdao"], [], ["*"]]
        push(jinan, draft("A", "2"), revise=True, audience=("yantai",))
        assert newest(jinan, "A")["audience"] == ["yantai"]

    def test_one_record_twice_in_a_call_counts_once(self, jinan: SimulatedMember) -> None:
        assert counts(push(jinan, draft("A"), draft("A"))) == (1, 1, 0)
        assert counts(push(jinan, draft("A"), draft("A"))) == (0, 2, 0)

    def test_one_record_twice_in_a_call_when_its_audience_is_restricted(self, jinan: SimulatedMember) -> None:
        push(jinan, draft("A", audience=["qingdao"]))
        assert counts(push(jinan, draft("A"), draft("A"))) == (0, 2, 0)
        assert counts(push(jinan, draft("A", "1"), draft("A", "1"), revise=True)) == (1, 1, 0)
        assert newest(jinan, "A")["audience"] == ["qingdao"]

    def test_two_contents_for_one_key_in_a_call(self, jinan: SimulatedMember) -> None:
        outcome = push(jinan, draft("A"), draft("A", "1"), revise=True)
        assert counts(outcome) == (0, 0, 1)
        assert "'A' stands in this call as record 1" in outcome.errors[0].message

    def test_kinds_have_keys_of_their_own(self, jinan: SimulatedMember) -> None:
        push(jinan, draft("A"))
        assert counts(push(jinan, b'{"key":"A","body":{"x":1}}', kind="notice")) == (1, 0, 0)


class TestCompareAndSet:
    def test_the_expected_revision_must_come_next(self, jinan: SimulatedMember) -> None:
        outcome = push(jinan, draft("A", revision=2))
        assert [(error.path, error.message) for error in outcome.errors] == [
            ("/revision", "revision 2 of 'A' cannot come next: there is none yet")
        ]
        assert counts(push(jinan, draft("A", revision=1))) == (1, 0, 0)
        assert counts(push(jinan, draft("A", "1", revision=2))) == (1, 0, 0)
        for late in (1, 2, 4):
            outcome = push(jinan, draft("A", "2", revision=late), revise=True)
            assert outcome.errors[0].message == f"revision {late} of 'A' cannot come next: the newest is 2"
        assert verify_log(jinan) == 2

    def test_a_repeated_push_with_a_revision_is_unchanged(self, jinan: SimulatedMember) -> None:
        push(jinan, draft("A", revision=1))
        assert counts(push(jinan, draft("A", revision=1))) == (0, 1, 0)
        assert counts(push(jinan, draft("A", revision=2))) == (0, 1, 0)
        assert counts(push(jinan, draft("A", revision=3))) == (0, 0, 1)


class TestFailure:
    def test_a_store_that_refuses_acknowledges_nothing(
        self, jinan: SimulatedMember, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        push(jinan, draft("A"))
        before = visible(jinan.store)
        told: list[LogState] = []
        jinan.ledger.subscribe(told.append)

        def refuse(*_: object) -> None:
            raise StoreError("the database refused: disk I/O error")

        # Fails after the entries are in, inside the transaction.
        monkeypatch.setattr("node.store.logs.move_head", refuse)
        with pytest.raises(StoreError):
            push(jinan, draft("B"))
        monkeypatch.undo()
        assert visible(jinan.store) == before
        assert (jinan.ledger.checkpoint.size, told) == (1, [])
        assert counts(push(jinan, draft("B"))) == (1, 0, 0)
        assert verify_log(jinan) == 2

    def test_two_ledgers_on_one_store_never_fork(self, jinan: SimulatedMember) -> None:
        push(jinan, draft("A"))
        stale = jinan.ledger.log
        push(jinan, draft("B"))
        before = visible(jinan.store)
        jinan.ledger._log = stale
        with pytest.raises(StoreError, match="grew to 2"):
            push(jinan, draft("C"))
        assert visible(jinan.store) == before


def test_pushes_from_many_threads(jinan: SimulatedMember) -> None:
    outcomes: list[PushOutcome] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for i in range(4):
            records = [draft(f"T{number}-{i}-{j}") for j in range(5)]
            outcomes.append(push(jinan, *records, draft("SHARED", f"{number}.{i}"), revise=True))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counts(outcome) for outcome in outcomes] == [(6, 0, 0)] * 32
    assert sorted(outcome.checkpoint.size for outcome in outcomes) == [6 * (i + 1) for i in range(32)]
    assert verify_log(jinan) == 192
    assert newest(jinan, "SHARED")["revision"] == 32
    assert len(list_all(jinan.store)) == 161


@dataclass
class Expected:
    """What the naive model knows of a key."""

    revision: int
    value: str
    audience: list[str]


class PushMachine(RuleBasedStateMachine):
    """Any sequence of pushes, refusals and restarts, beside a model that is a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.member = SimulatedMember(JINAN, Path(self.folder.name) / "home")
        self.model: dict[str, Expected] = {}
        self.size = 0

    records = st.lists(
        st.tuples(
            st.sampled_from("ABCDE"),
            st.sampled_from(["0", "1", "2"]),
            st.sampled_from([None, [], ["*"]]),
            st.sampled_from([None, None, 1, 2]),
        ),
        max_size=4,
    )

    @rule(items=records, revise=st.booleans(), keep_going=st.booleans(), broken=st.sampled_from([0, 0, 1]))
    def push(self, items: list[Any], revise: bool, keep_going: bool, broken: int) -> None:
        raws = [self._raw(*item) for item in items] + [b"{"] * broken
        outcome = push(self.member, *raws, revise=revise, keep_going=keep_going)
        expected, model = self._judge(items, revise)
        accepted, unchanged, rejected = (expected.count(verdict) for verdict in ("new", "same", "bad"))
        rejected += broken
        if rejected and not keep_going:
            accepted = unchanged = 0
        else:
            self.model = model
        self.size += accepted
        assert counts(outcome) == (accepted, unchanged, rejected)
        assert outcome.checkpoint.size == self.size

    @rule()
    def restart(self) -> None:
        self.member.reopen()

    @invariant()
    def everything_verifies(self) -> None:
        assert verify_log(self.member) == self.size
        shown = {stored.key: orjson.loads(stored.record) for stored in list_all(self.member.store)}
        assert {
            key: Expected(content["revision"], content["body"]["value"], content["audience"])
            for key, content in shown.items()
        } == self.model

    def teardown(self) -> None:
        self.member.store.close()
        self.folder.cleanup()

    def _raw(self, key: str, value: str, audience: list[str] | None, revision: int | None) -> bytes:
        members = {"audience": audience, "revision": revision}
        return draft(key, value, **{name: member for name, member in members.items() if member is not None})

    def _judge(self, items: list[Any], revise: bool) -> tuple[list[str], dict[str, Expected]]:
        verdicts: list[str] = []
        in_call: dict[str, tuple[str, list[str]]] = {}
        model = dict(self.model)
        for key, value, audience, revision in items:
            held = self.model.get(key)
            kept = audience if audience is not None else held.audience if held else ["*"]
            said = (value, kept)
            if key in in_call:
                verdicts.append("same" if in_call[key] == said else "bad")
                continue
            following = held.revision + 1 if held else 1
            if held and said == (held.value, held.audience) and revision in (None, held.revision, following):
                verdicts.append("same")
            elif revision not in (None, following) or (held and revision is None and not revise):
                verdicts.append("bad")
                continue
            else:
                verdicts.append("new")
                model[key] = Expected(following, value, kept)
            in_call[key] = said
        return verdicts, model


TestPushes = PushMachine.TestCase
TestPushes.settings = examples(8)
