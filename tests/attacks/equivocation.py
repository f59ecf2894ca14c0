"""Equivocation: two histories of one log, told to two groups, after a restore, by two daemons, or around a crash."""

from __future__ import annotations

import threading
from dataclasses import replace

from node.core.checkpoint import parse_checkpoint
from node.core.merkle import EMPTY_ROOT
from node.errors import StoreError
from node.home import Home
from node.ledger import Ledger
from node.store import DATABASE_NAME
from node.store.logs import LogStore
from node.sync.peer import Exchange
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts, list_all, visible
from tests.attacks.scene import HELD, JINAN, QINGDAO, SEEN, SIZE, Scene, dump_tables, signed_by_jinan
from tests.attacks.surfaces import CALL, MESSAGES, NOTE, PROPERTY, STREAM, TOLD, WITNESS
from tests.attacks.table import attack
from tests.builders import MemoryLog, build_log, record_bytes
from tests.simulated_client import Tampering
from tests.sync.test_survivor import fork_of

FAMILY = "equivocation"
OTHER = bytes(range(32))


def hide_notes(answer: Exchange) -> Exchange:
    """An answer that tells nothing of the checkpoints that its member has signed."""
    return replace(answer, notes=[])


@attack(FAMILY, NOTE, "SPLIT_VIEW", "signed two different roots for size 3 of its log")
def another_history_of_the_verified_size(note):
    return signed_by_jinan(HELD, OTHER)


@attack(FAMILY, NOTE, "SPLIT_VIEW", "signed two different roots for size 11")
def another_root(note):
    """The contact before the announcement has told the true one."""
    return signed_by_jinan(SIZE, OTHER)


@attack(FAMILY, MESSAGES, "SPLIT_VIEW", "signed two different roots for size 11")
def another_history_that_is_longer(messages):
    fork = build_log(JINAN, SIZE)
    return [bytes(fork.checkpoint()), fork.page(HELD, SIZE)]


@attack(FAMILY, STREAM, "ROLLBACK", "offered size 2, but size 3 was already verified")
def a_shrunken_log(peer, scene):
    true = scene.jinan.store.logs.tree(scene.jinan.ledger.log.id).root(2)
    peer.announcement = lambda _: signed_by_jinan(2, true)


@attack(FAMILY, STREAM, "SPLIT_VIEW", "its checkpoint of size 3 does not contain its checkpoint of size 2")
def a_shrunken_log_with_other_entries(peer, scene):
    peer.announcement = lambda _: signed_by_jinan(2, OTHER)


@attack(FAMILY, STREAM, "ROLLBACK", "offered size 0")
def an_emptied_log(peer, scene):
    peer.announcement = lambda _: signed_by_jinan(0, EMPTY_ROOT)


@attack(FAMILY, TOLD, "SPLIT_VIEW", "two different roots for size 3 .*labmesh evidence export")
def two_groups_that_meet(scene):
    """yantai was shown another history of the same size, and tells what it holds."""
    return [signed_by_jinan(HELD, OTHER)]


@attack(FAMILY, TOLD, "SPLIT_VIEW", "does not contain its checkpoint of size 2.*labmesh evidence export")
def two_groups_that_meet_after_one_has_gone_on(scene):
    """No checkpoint of size 2 was ever shown here, but the verified entries say what its root must be."""
    return [signed_by_jinan(2, OTHER)]


@attack(FAMILY, WITNESS, "SPLIT_VIEW", "two different roots for size 7 .*labmesh evidence export")
def another_history_for_a_witness_that_was_rolled_back(alliance):
    """Of the size that it has cosigned, which it does not know any more."""
    return fork_of(alliance, 4)


@attack(FAMILY, WITNESS, "SPLIT_VIEW", "two different roots for size 7 .*labmesh evidence export")
def another_history_for_a_witness_that_was_rolled_back_while_the_log_went_on(alliance):
    """Nobody tells of a checkpoint of that size any more, but of a larger one; who holds it knows the root there."""
    fork = fork_of(alliance, 4)
    alliance["jinan"].push(*drafts(2, "ON"))
    alliance.catch_up("qingdao", "jinan")
    return fork


@attack(FAMILY, STREAM, "MALFORMED", "told a checkpoint of our log that is none")
def a_note_of_our_own_log_that_is_none(peer, scene):
    peer.exchange = lambda answer: replace(answer, caller_note=b"nonsense")


@attack(FAMILY, STREAM, "SIGNATURE", "does not verify|no signature by a known key")
def a_note_of_our_own_log_that_we_did_not_sign(peer, scene):
    peer.exchange = lambda answer: replace(answer, caller_note=signed_by_jinan(9, OTHER, origin=QINGDAO.origin))


@attack(FAMILY, CALL, "HOME", "another process is using .*labmesh status")
def two_daemons_on_one_home(scene: Scene):
    home = Home(scene.folder)
    with home.lock(), home.lock():
        pass


@attack(FAMILY, CALL, "STORE", "grew to 12 while entries were made for 11")
def two_ledgers_on_one_store(scene: Scene):
    jinan, options = scene.jinan, scene.push_options()
    second = Ledger(
        jinan.store, author="jinan", signer=JINAN.log, kinds=jinan.kinds, clock=jinan.clock, members=lambda: ["jinan"]
    )
    with scene.undone():
        jinan.push(scene.draft("FIRST"))
        before = dump_tables(jinan.store)
        try:
            second.push_records(options, [scene.draft("SECOND")])
        finally:
            assert dump_tables(jinan.store) == before


@attack(FAMILY, PROPERTY, "", "")
def a_stale_note_is_no_fork(scene: Scene):
    stale = bytes(scene.checkpoint(SEEN))
    assert scene.yantai.exchange.accept_notes([stale, signed_by_jinan(0, OTHER)], peer="jinan")[1] == []


@attack(FAMILY, PROPERTY, "", "")
def a_fork_in_a_restricted_entry_only(scene: Scene):
    """What qingdao may not read was told to it in another version: the sizes are equal, so the roots betray it."""
    with scene.other() as alliance:
        honest, fork = MemoryLog(JINAN), MemoryLog(JINAN)
        for log, words in ((honest, "pass"), (fork, "fail")):
            hidden = record_bytes(key="HIDDEN", audience=["yantai"], body={"value": words})
            log.append(record_bytes(key="OPEN"), hidden)
        for reader, log in (("qingdao", fork), ("yantai", honest)):
            show(alliance, log, openings=[0, 1] if reader == "yantai" else [0])
            alliance.follow(reader, "jinan", lambda state: state.verified == 2)
        alliance.tampering = Tampering()
        before = visible(alliance["qingdao"].store)
        alliance.follow("qingdao", "yantai", lambda state: alliance["qingdao"].splits)
        (split,) = alliance["qingdao"].splits
        assert (split.size, split.held_note, split.offered_note) == (2, bytes(fork.checkpoint()), bytes(honest.checkpoint()))
        assert visible(alliance["qingdao"].store) == before


def show(alliance: SimulatedAlliance, log: MemoryLog, openings: list[int]) -> None:
    """Serve a log that its author made by hand."""
    alliance["jinan"].push(*drafts(1, f"BAIT-{log.size}-{len(openings)}"))
    alliance.tampering.exchange = hide_notes
    alliance.tampering.stream = lambda messages: (
        [bytes(log.checkpoint()), log.page(0, log.size, openings=openings)] if messages else []
    )


@attack(FAMILY, PROPERTY, "", "")
def a_restore_from_an_old_backup_and_then_new_entries(scene: Scene):
    """Nothing is published of what would be a second history; a peer that holds more is believed."""
    with scene.other() as alliance:
        jinan = alliance["jinan"]
        jinan.push(*drafts(2, "OLD"))
        restore = remember(jinan)
        jinan.push(*drafts(3, "LOST"))
        alliance.catch_up("qingdao", "jinan")
        restore()
        jinan.push(*drafts(4, "NEW"))
        assert jinan.exchange.held_notes() == []
        jinan.confirmation.accept_told("qingdao", alliance["qingdao"].exchange.note_for("jinan"))
        assert published(jinan) == (False, 0)
        assert (jinan.confirmation.longer or jinan.confirmation.conflict) is not None
        assert all(parse_checkpoint(note).size <= 2 for note in jinan.exchange.held_notes())
        alliance.meet("jinan", "qingdao", "yantai")
        assert published(jinan) == (True, 9)
        alliance.catch_up("qingdao", "jinan")
        assert {stored.key for stored in list_all(alliance["qingdao"].store)} == {
            *(f"OLD-{i:06d}" for i in range(2)),
            *(f"LOST-{i:06d}" for i in range(3)),
            *(f"NEW-{i:06d}" for i in range(4)),
        }


def published(member: SimulatedMember) -> tuple[bool, int]:
    """Whether a member is confirmed, and how much of its log it tells."""
    sizes = [note.size for note in map(parse_checkpoint, member.exchange.held_notes()) if note.origin == member.lab.origin]
    return member.confirmation.confirmed, max(sizes, default=0)


def remember(member: SimulatedMember):
    """Copy a member's disk; calling the result brings it back and starts the member again."""
    copy = member.path.parent / f"{member.name}.copy"
    member.store.database.backup(copy)

    def restore() -> None:
        member.store.close()
        for path in member.path.iterdir():
            path.unlink()
        (member.path / DATABASE_NAME).write_bytes(copy.read_bytes())
        member.reopen()

    return restore


@attack(FAMILY, PROPERTY, "", "")
def a_crash_between_signing_and_saving(scene: Scene):
    """What was signed but not written is signed again for other entries; it never left the process."""
    with scene.other() as alliance:
        jinan = alliance["jinan"]
        jinan.push(*drafts(1, "BEFORE"))
        before, signed = dump_tables(jinan.store), []

        def crash(*args, **named):
            signed.append(named["signed"])
            raise StoreError("the machine stopped")

        real = LogStore.append
        setattr(LogStore, "append", crash)  # noqa: B010 -- a method is replaced, which is what this is about
        try:
            jinan.push(*drafts(1, "CRASHED"))
        except StoreError as error:
            assert error.reason == "STORE"
        finally:
            setattr(LogStore, "append", real)  # noqa: B010
        assert dump_tables(jinan.store) == before
        jinan.reopen()
        jinan.confirmation.override()
        jinan.push(*drafts(1, "AFTER"))
        alliance.catch_up("qingdao", "jinan")
        (lost,), held = signed, alliance["qingdao"].mirror_of("jinan").head
        assert held is not None and (lost.size, held.size) == (2, 2) and lost.root != held.root


@attack(FAMILY, PROPERTY, "", "")
def a_race_between_two_requests_to_cosign(scene: Scene):
    """One head, one cosignature, however many ask."""
    with scene.other() as alliance:
        alliance["jinan"].push(*drafts(2))
        alliance.catch_up("qingdao", "jinan")
        made: list[bool] = []
        exchange = alliance["qingdao"].exchange
        threads = [threading.Thread(target=lambda: made.append(exchange.cosign_head(JINAN.origin))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(made) == [False] * 7 + [True]
        assert len(dump_tables(alliance["qingdao"].store)["cosignature"]) == 1
