"""Grant and erase through the ledger: what is appended, what is refused and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.core.disclosure import ERASURE, erasure_body
from node.core.names import parse_record_id
from node.core.record import Draft, build_record
from node.disclosure import Disclosure
from node.errors import ConflictError, InvalidRecordError, LabmeshError, NotFoundError, UserError
from node.ledger import Ledger
from node.push import PushOptions
from tests.alliance import draft, visible
from tests.disclosing import KINDS, MEMBERS, Author, Reader, content_of, held_openings, result_id


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    """Jinan with three records: for all, for qingdao, for nobody else."""
    made = Author(tmp_path / "jinan")
    made.push("ALL")
    made.push("ONE", audience=["qingdao"])
    made.push("NONE", audience=[])
    yield made
    made.store.close()


def last(author: Author) -> dict[str, object]:
    """The newest record of the log."""
    return content_of(held_openings(author.store)[author.log.head_size - 1])


class TestGrant:
    def test_what_is_appended(self, author: Author) -> None:
        outcome = author.disclosure.grant(result_id("ONE"), ["yantai", "weifang", "yantai"])
        assert (outcome.id, outcome.index) == ("jinan/result/ONE@1", 1)
        assert (outcome.granted, outcome.readers) == (("weifang", "yantai"), ("qingdao", "weifang", "yantai"))
        record = last(author)
        assert (record["kind"], record["key"], record["revision"]) == ("grant", "1", 1)
        assert record["audience"] == ["qingdao", "weifang", "yantai"]
        assert record["body"] == {"id": "jinan/result/ONE@1", "index": 1, "to": ["weifang", "yantai"]}

    def test_a_second_grant_says_all_of_them(self, author: Author) -> None:
        author.grant("result/ONE", "yantai")
        author.disclosure.grant(result_id("ONE"), ["weifang", "yantai", "qingdao"])
        record = last(author)
        assert (record["key"], record["revision"]) == ("1", 2)
        assert record["body"] == {"id": "jinan/result/ONE@1", "index": 1, "to": ["weifang", "yantai"]}
        assert author.store.records.find(result_id("ONE")).granted == ("weifang", "yantai")  # type: ignore[union-attr]

    @pytest.mark.parametrize(("key", "members"), [("ALL", ["weifang"]), ("ONE", ["qingdao"])])
    def test_nothing_where_all_may_read_it(self, author: Author, key: str, members: list[str]) -> None:
        before = visible(author.store)
        assert author.disclosure.grant(result_id(key), members).granted == ()
        assert visible(author.store) == before

    def test_the_author_always_may(self, author: Author) -> None:
        before = visible(author.store)
        assert author.disclosure.grant(result_id("NONE"), ["jinan"]).granted == ()
        assert visible(author.store) == before

    def test_exactly_one_revision_is_opened(self, author: Author, tmp_path: Path) -> None:
        author.push("ONE", "two", revise=True)
        author.grant("result/ONE@1", "weifang")
        author.push("ONE", "three", revise=True)
        reader = Reader(tmp_path / "weifang", "weifang")
        reader.read(author.store)
        assert set(held_openings(reader.store)) == {0, 1, 4}
        assert author.store.records.find(result_id("ONE")).granted == ()  # type: ignore[union-attr]
        reader.store.close()

    @pytest.mark.parametrize(
        ("record_id", "members", "error", "words"),
        [
            ("qingdao/result/ONE", ["weifang"], UserError, "only its author can have it granted"),
            ("jinan/result/OTHER", ["weifang"], NotFoundError, "no record jinan/result/OTHER in this member's log"),
            ("jinan/result/ONE@2", ["weifang"], NotFoundError, "no record"),
            ("jinan/grant/1", ["weifang"], UserError, "cannot be granted"),
            ("jinan/erasure/1", ["weifang"], UserError, "cannot be granted"),
            ("jinan/result/ONE", [], UserError, "nobody"),
            ("jinan/result/ONE", ["*"], UserError, "names its members"),
            ("jinan/result/ONE", ["zibo"], UserError, "zibo is not an active member"),
            ("jinan/result/ONE", ["weifang", "Zibo"], LabmeshError, "is not a member id"),
        ],
    )
    def test_what_is_refused(
        self, author: Author, record_id: str, members: list[str], error: type[LabmeshError], words: str
    ) -> None:
        before = visible(author.store)
        with pytest.raises(error, match=words) as caught:
            author.disclosure.grant(parse_record_id(record_id), members)
        assert caught.value.hint
        assert visible(author.store) == before

    def test_what_is_erased_cannot_be_granted(self, author: Author) -> None:
        author.erase("result/ONE")
        with pytest.raises(ConflictError, match=r"was erased by its author at 2026-11-20T12:00:00\.000Z: wrong customer"):
            author.disclosure.grant(result_id("ONE"), ["weifang"])


class TestErase:
    def test_what_is_appended(self, author: Author) -> None:
        author.grant("result/ONE", "yantai")
        outcome = author.disclosure.erase(result_id("ONE"), "客户要求")
        assert (outcome.erased, outcome.already) == (("jinan/result/ONE@1",), ())
        assert outcome.readers == ("qingdao", "yantai")
        record = last(author)
        assert (record["kind"], record["key"]) == ("erasure", "1")
        assert record["audience"] == ["qingdao", "yantai"]
        assert record["body"] == {"id": "jinan/result/ONE@1", "index": 1, "reason": "客户要求"}

    def test_every_revision_in_one_step(self, author: Author) -> None:
        for value in ("two", "three"):
            author.push("ONE", value, revise=True)
        author.erase("result/ONE@2")
        sizes: list[int] = []
        author.ledger.subscribe(lambda log: sizes.append(log.head_size))
        outcome = author.disclosure.erase(result_id("ONE"), "all of it")
        assert outcome.erased == ("jinan/result/ONE@1", "jinan/result/ONE@3")
        assert sizes == [8]
        assert [content_of(raw)["key"] for raw in held_openings(author.store).values()] == ["ALL", "NONE", "3", "1", "4"]

    def test_a_preview_does_nothing(self, author: Author) -> None:
        before = visible(author.store)
        outcome = author.disclosure.erase(result_id("ALL"), "x", preview=True)
        assert (outcome.erased, outcome.readers) == (("jinan/result/ALL@1",), ("qingdao", "weifang", "yantai"))
        assert visible(author.store) == before

    def test_again_is_no_harm(self, author: Author) -> None:
        author.erase("result/ONE")
        before = visible(author.store)
        outcome = author.disclosure.erase(result_id("ONE"), "again")
        assert (outcome.erased, outcome.already) == ((), ("jinan/result/ONE@1",))
        assert visible(author.store) == before

    @pytest.mark.parametrize(
        ("record_id", "reason", "error", "words"),
        [
            ("qingdao/result/ONE", "x", UserError, "only its author can have it erased"),
            ("jinan/result/OTHER", "x", NotFoundError, "no record jinan/result/OTHER"),
            ("jinan/grant/1", "x", UserError, "cannot be erased"),
            ("jinan/erasure/1", "x", UserError, "cannot be erased"),
            ("jinan/result/ONE", "", InvalidRecordError, "/body/reason"),
            ("jinan/result/ONE", "two\nlines", InvalidRecordError, "/body/reason"),
            ("jinan/result/ONE", "x" * 1001, InvalidRecordError, "/body/reason"),
        ],
    )
    def test_what_is_refused(
        self, author: Author, record_id: str, reason: str, error: type[LabmeshError], words: str
    ) -> None:
        before = visible(author.store)
        with pytest.raises(error, match=words):
            author.disclosure.erase(parse_record_id(record_id), reason)
        assert visible(author.store) == before

    def test_a_restricted_record_comes_back_only_for_whom_somebody_names(self, author: Author) -> None:
        author.erase("result/ONE")
        refused = author.push("ONE", revise=True)
        assert [(item.path, "say who may read" in item.message) for item in refused.errors] == [("/audience", True)]
        assert author.push("ONE", revise=True, audience=["yantai"]).accepted == 1
        found = author.store.records.find(result_id("ONE"))
        assert found is not None
        assert (found.revision, content_of(found.record)["audience"]) == (2, ["yantai"])

    def test_a_revision_that_expects_the_erased_one(self, author: Author) -> None:
        author.erase("result/ALL")
        assert author.push("ALL", revision=1).errors[0].message.endswith("cannot come next: the newest is 1")
        assert author.push("ALL", revision=2).accepted == 1


class TestAcknowledgements:
    def test_who_is_expected(self, author: Author) -> None:
        author.erase("result/ALL")
        author.erase("result/ONE")
        author.erase("result/NONE")
        expected = {"ALL": ("qingdao", "weifang", "yantai"), "ONE": ("qingdao",), "NONE": ()}
        for key, missing in expected.items():
            erased = author.store.erasures.find(result_id(key))
            assert erased is not None
            assert author.disclosure.acknowledgements(erased).missing == missing

    def test_who_has_done_it(self, author: Author) -> None:
        author.erase("result/ALL")
        origin = author.lab.origin
        assert author.disclosure.accept_acknowledgement(origin, [0, 1, 77], member="yantai", now_ms=5) == [0]
        erased = author.store.erasures.find(result_id("ALL"))
        assert erased is not None
        known = author.disclosure.acknowledgements(erased)
        assert (known.acknowledged, known.missing) == (("yantai",), ("qingdao", "weifang"))

    def test_of_another_log_nobody_is_told(self, author: Author) -> None:
        with pytest.raises(NotFoundError, match="is not the log of this node"):
            author.disclosure.accept_acknowledgement("quality.jinan.example/log/zibo", [0], member="yantai", now_ms=5)

    def test_only_the_author_knows(self, author: Author, tmp_path: Path) -> None:
        author.erase("result/ALL")
        reader = Reader(tmp_path / "weifang", "weifang")
        reader.read(author.store)
        erased = reader.store.erasures.find(result_id("ALL"))
        assert erased is not None
        assert erased.sentence() == "jinan/result/ALL@1 was erased by its author at 2026-11-20T12:00:00.000Z: wrong customer"
        reader.store.close()


@pytest.mark.parametrize(("kind", "command"), [("grant", "labmesh grant ID --to"), ("erasure", "labmesh erase ID --reason")])
def test_statements_are_not_pushed(author: Author, kind: str, command: str) -> None:
    before = visible(author.store)
    with pytest.raises(UserError, match=f"records of the kind {kind} are not pushed") as caught:
        author.ledger.push_records(PushOptions(kind), [draft("1")])
    assert command in caught.value.hint
    assert visible(author.store) == before


def test_everything_is_there_after_a_restart(author: Author) -> None:
    author.grant("result/ONE", "yantai")
    author.erase("result/ALL")
    before = visible(author.store)
    author.reopen()
    assert visible(author.store) == before
    assert author.store.records.find(result_id("ONE")).granted == ("yantai",)  # type: ignore[union-attr]
    assert author.store.erasures.find(result_id("ALL")) is not None


def erase_for(author: Author, index: int, key: str, audience: list[str]) -> None:
    """An erasure by a home that does not know of every grant, or of every reader."""
    body = erasure_body(index, result_id(key, 1), "wrong customer")
    draft_ = Draft(str(index), body, tuple(audience))
    record = build_record(draft_, author="jinan", kind=ERASURE, revision=1, published=author.clock(), kinds=KINDS)
    author.ledger.append_statements(lambda: [record])


class TestWhoWasLeftOut:
    """A home that was rolled back erased without knowing of a grant, or granted what it did not know to be erased."""

    def test_is_told_by_another_erasure(self, author: Author) -> None:
        author.grant("result/ONE", "yantai")
        erase_for(author, 1, "ONE", ["qingdao"])
        [left] = author.store.erasures.left_out(author.log.id)
        assert (left.erased.audience, left.members) == (("qingdao",), ("yantai",))
        # As it is done at the start: once, and not again.
        assert author.disclosure.complete_erasures() == ["jinan/result/ONE@1"]
        record = last(author)
        assert (record["kind"], record["key"], record["revision"]) == ("erasure", "1", 2)
        assert record["audience"] == ["qingdao", "yantai"]
        assert record["body"] == {"id": "jinan/result/ONE@1", "index": 1, "reason": "wrong customer"}
        size = author.log.head_size
        author.reopen()
        assert (author.disclosure.complete_erasures(), author.log.head_size) == ([], size)

    def test_is_looked_for_once_until_something_comes_back(self, author: Author) -> None:
        assert author.disclosure.complete_erasures() == []
        author.grant("result/ONE", "yantai")
        erase_for(author, 1, "ONE", ["qingdao"])
        assert author.disclosure.complete_erasures() == []
        author.ledger.save_openings([])
        assert author.disclosure.complete_erasures() == ["jinan/result/ONE@1"]

    def test_is_told_when_it_is_erased_again_by_hand(self, author: Author) -> None:
        author.grant("result/ONE", "yantai")
        author.grant("result/NONE", "weifang")
        erase_for(author, 1, "ONE", ["qingdao"])
        erase_for(author, 2, "NONE", [])
        outcome = author.disclosure.erase(result_id("ONE"), "again")
        assert (outcome.erased, outcome.already, outcome.readers) == ((), ("jinan/result/ONE@1",), ("yantai",))
        assert last(author)["audience"] == ["qingdao", "yantai"]
        assert [left.members for left in author.store.erasures.left_out(author.log.id)] == [("weifang",)]

    def test_is_nobody_where_all_are_told_or_another_record_was_granted(self, author: Author) -> None:
        author.grant("result/ONE", "yantai")
        author.erase("result/ONE")
        author.grant("result/NONE", "weifang")
        erase_for(author, 2, "NONE", ["*"])
        assert author.store.erasures.left_out(author.log.id) == []


class TestGrantAfterALoss:
    def lossy(self, author: Author, unheard: list[str]) -> Disclosure:
        """An author whose home lacks the opening of its first entry."""
        with author.store.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM opening WHERE key='ALL'")
        return Disclosure(
            author.store, author.ledger, author="jinan", kinds=KINDS, clock=author.clock, members=lambda: MEMBERS,
            unheard=lambda: unheard,
        )  # fmt: skip

    def test_is_refused_while_an_erasure_may_come_back(self, author: Author) -> None:
        unheard = ["yantai", "qingdao"]
        disclosure, before = self.lossy(author, unheard), author.log.head_size
        with pytest.raises(ConflictError, match=r"may say that jinan/result/ONE@1 was erased.*: qingdao, yantai"):
            disclosure.grant(result_id("ONE"), ["weifang"])
        assert author.log.head_size == before
        unheard.clear()
        assert disclosure.grant(result_id("ONE"), ["weifang"]).granted == ("weifang",)

    def test_is_refused_while_nothing_is_published(self, author: Author) -> None:
        """After a start this home may have been rolled back, and does not even know yet what it lacks."""
        unheard, sure = ["yantai"], list[bool]()
        ledger = Ledger(
            author.store, author=author.lab.member, signer=author.lab.log, kinds=KINDS, clock=author.clock,
            members=lambda: MEMBERS, may_sign=lambda: bool(sure),
        )  # fmt: skip
        disclosure = Disclosure(
            author.store, ledger, author="jinan", kinds=KINDS, clock=author.clock, members=lambda: MEMBERS,
            unheard=lambda: unheard,
        )  # fmt: skip
        before = ledger.log.head_size
        with pytest.raises(ConflictError, match=r"may say that jinan/result/ONE@1 was erased; .*: yantai") as caught:
            disclosure.grant(result_id("ONE"), ["weifang"])
        assert caught.value.hint == "try again when labmesh status says ready"
        assert ledger.log.head_size == before
        sure.append(True)
        assert disclosure.grant(result_id("ONE"), ["weifang"]).granted == ("weifang",)

    def test_is_a_persons_word(self, author: Author) -> None:
        disclosure = self.lossy(author, ["yantai"])
        author.store.losses.save_seen(author.log, total=1, now_ms=1)
        assert disclosure.grant(result_id("ONE"), ["weifang"]).granted == ("weifang",)
