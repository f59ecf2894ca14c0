"""Disclosure: what a commitment, an error, a duration or a log line may tell somebody who may not read."""

from __future__ import annotations

import base64
import itertools
import logging
from dataclasses import replace
from typing import Any

from sqlalchemy import event

from labmesh.v1 import node_pb2
from node.core.disclosure import erasure_body
from node.core.entry import SALT_SIZE, LogPage, Opening, committer
from node.core.mirror import StagingLimits
from node.core.names import parse_record_id
from node.core.record import parse_record
from node.store.tables import OpeningRow, table_of
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts, list_all, wait_until
from tests.attacks.calling import call, caller, node_servicer, refused
from tests.attacks.scene import HELD, JINAN, YANTAI, Scene, dump_tables, signed_by_jinan
from tests.attacks.surfaces import CALL, MESSAGES, PAGE, PROOF, PROPERTY, STREAM
from tests.attacks.table import attack
from tests.builders import record_bytes
from tests.simulated_client import Tampering

FAMILY = "disclosure"
COMMITMENT = bytes(range(32))


def change_opening(page: LogPage, **changes: Any) -> LogPage:
    """The page with its first opening changed."""
    first, *others = page.openings
    return replace(page, openings=[replace(first, **changes), *others])


def openings_of(member: SimulatedMember) -> list[tuple[int, bytes, bytes]]:
    """Position, salt and record of everything that lies open in a member's store."""
    columns = [column.name for column in table_of(OpeningRow).columns]
    rows = [dict(zip(columns, row, strict=True)) for row in dump_tables(member.store)["opening"]]
    return [(row["position"], row["salt"], row["record"]) for row in rows]


@attack(FAMILY, PAGE, "MALFORMED", "impossible size")
def a_short_salt(page):
    return change_opening(page, salt=page.openings[0].salt[:-1])


@attack(FAMILY, PAGE, "MALFORMED", "impossible size")
def no_salt(page):
    return change_opening(page, salt=b"")


@attack(FAMILY, PAGE, "PROOF", "does not fit its commitment")
def the_salt_of_another_entry(page):
    return change_opening(page, salt=page.openings[1].salt)


@attack(FAMILY, PROOF, "commitment", "no salt of 32 bytes")
def a_proof_without_its_salt(proof):
    return replace(proof, extra=None)


@attack(FAMILY, PROOF, "commitment", "no salt of 32 bytes")
def a_proof_with_a_short_salt(proof):
    return replace(proof, extra=proof.extra[:16])


@attack(FAMILY, PAGE, "PROOF", "does not fit its commitment")
def a_copied_commitment(page):
    """Salt and record of an entry of yantai's log, opened in jinan's: the origin is in the commitment."""
    first = page.openings[0]
    copied = committer(YANTAI.origin)(first.salt, first.record)
    return replace(page, commitments=copied + page.commitments[32:])


@attack(FAMILY, PAGE, "PROOF", "does not fit its commitment")
def other_words_for_a_commitment(page):
    return change_opening(page, record=page.openings[0].record.replace(b'"0.10"', b'"0.01"'))


@attack(FAMILY, PAGE, "MALFORMED", "not in the page")
def one_index_opened_in_two_ways(page):
    first = page.openings[0]
    return replace(page, openings=[first, replace(first, record=b"{}"), *page.openings[1:]])


@attack(FAMILY, MESSAGES, "PROOF", "opening of entry 0 does not fit its commitment")
def a_held_entry_opened_again_with_other_words(messages):
    return [messages[0], LogPage(HELD, b"", [Opening(0, bytes(32), b"{}", 99)])]


@attack(FAMILY, PAGE, "MALFORMED", "which is not in the page")
def an_opening_of_no_entry(page):
    return change_opening(page, index=2**63)


@attack(FAMILY, STREAM, "MALFORMED", "is not for qingdao")
def an_opening_for_another_reader(peer, scene):
    peer.reader = lambda _: "yantai"


@attack(FAMILY, PROPERTY, "", "")
def a_low_entropy_result_guessed_from_its_commitment(scene: Scene):
    """Who knows every word but the value tries every value, with every salt that it has ever seen, and finds nothing."""
    seen = {salt for _, salt, _ in openings_of(scene.reader)} | {bytes(SALT_SIZE), b""}
    hidden = next(record for _, _, record in openings_of(scene.jinan) if b'"PRIVATE"' in record)
    commitments = {row[1] for row in dump_tables(scene.jinan.store)["entry"]}
    commit = committer(JINAN.origin)
    guesses = [hidden.replace(b'"0.10"', b'"0.%02d"' % value) for value in range(100)]
    assert hidden in guesses
    assert not commitments & {commit(salt, guess) for salt, guess in itertools.product(seen, guesses)}


@attack(FAMILY, PROPERTY, "", "")
def a_salt_used_twice(scene: Scene):
    """The same words again and again, in one push and in many, on two nodes: never the same salt."""
    with scene.other() as alliance:
        for member in (alliance["jinan"], alliance["yantai"]):
            member.push(*drafts(300))
            for i in range(20):
                member.push(draft("AGAIN", str(i % 2)), revise=True)
        salts = [salt for name in ("jinan", "yantai") for _, salt, _ in openings_of(alliance[name])]
        assert len(set(salts)) == len(salts) == 640
        assert {len(salt) for salt in salts} == {SALT_SIZE}
        # Random bytes: none of the 256 values is missing among twenty thousand.
        assert len(set(b"".join(salts))) == 256


@attack(FAMILY, PROPERTY, "", "")
def restricted_openings_asked_for_at_every_peer(scene: Scene):
    """Whoever serves the log, nothing of what is not for qingdao reaches it."""
    scene.alliance.catch_up("qingdao", "jinan")
    for server in (scene.jinan, scene.yantai):
        log = server.mirror_of("jinan")
        page = server.store.logs.read_page(log, start=0, stop=log.head_size, reader="qingdao")
        late = server.store.late.late_pages(log.id, before=log.head_size, after=0, upto=log.last_sequence, reader="qingdao")
        sent = b"".join(opening.record for part in (page, *late) for opening in part.openings)
        assert b"NEW-1" in sent and b"FOR-YANTAI" not in sent and b"PRIVATE" not in sent
    assert b"FOR-YANTAI" not in scene.reader.stored_bytes() and b"PRIVATE" not in scene.reader.stored_bytes()
    scene.reset()


@attack(FAMILY, PROPERTY, "", "")
def openings_enumerated_by_their_errors(scene: Scene):
    """What is not there and what is not for this member are refused in the same words."""
    servicer, asked = node_servicer(scene.reader), caller()
    calls: list[tuple[Any, Any]] = [
        (servicer.GetRecord, node_pb2.GetRecordRequest),
        (servicer.ExportBundle, node_pb2.ExportBundleRequest),
    ]
    for method, request in calls:
        told = set()
        for key in ("FOR-YANTAI", "PRIVATE", "NEVER-MADE"):
            error = refused(method(request(id=f"jinan/result/{key}"), asked))
            told.add((error.reason, error.message.replace(key, "KEY"), error.hint))
        assert len(told) == 1 and next(iter(told))[0] == "NOT_FOUND"


@attack(FAMILY, PROPERTY, "", "")
def openings_enumerated_by_timing(scene: Scene):
    """The same statements are executed for both, over the same indexes: no work depends on whether the entry exists."""
    work = [statements(scene, key) for key in ("FOR-YANTAI", "PRIVATE", "NEVER-MADE")]
    assert work[0] and work[0] == work[1] == work[2]


def statements(scene: Scene, key: str) -> list[str]:
    """What the database is asked when qingdao's lab looks for a record of jinan's."""
    found: list[str] = []

    def note(connection, cursor, statement, parameters, context, executemany):
        found.append(statement)

    engine = scene.reader.store.database._reader
    event.listen(engine, "before_cursor_execute", note)
    try:
        refused(node_servicer(scene.reader).GetRecord(node_pb2.GetRecordRequest(id=f"jinan/result/{key}"), caller()))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return found


@attack(FAMILY, PROPERTY, "", "")
def salts_and_records_in_the_logs(scene: Scene):
    """A whole run, honest and attacked, at the most talkative level: no salt, no key, no word of a record is in the logs."""
    listener = Listener()
    logging.getLogger().addHandler(listener)
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        with scene.other() as alliance:
            run_and_attack(alliance)
            secrets = [item for name in alliance.members for item in secrets_of(alliance[name])]
    finally:
        logging.getLogger().setLevel(before)
        logging.getLogger().removeHandler(listener)
    text = "\n".join(listener.lines)
    assert "event=verified" in text and "event=peer_fault" in text
    assert [secret for secret in secrets if secret in text] == []


class Listener(logging.Handler):
    """Keeps every line, with what `exc_info` adds."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(self.format(record))


def run_and_attack(alliance: SimulatedAlliance) -> None:
    """Everyone exchanges; then two lies about a page, and one limit, are refused."""

    async def work() -> None:
        async with alliance.all_connected():
            for name in alliance.members:
                alliance[name].push(
                    draft(f"SECRET-KEY-{name}", "SECRET-VALUE", audience=["jinan"] if name != "jinan" else ["*"])
                )
            await wait_until(lambda: all(alliance[name].mirror_of("jinan").head_size == 1 for name in alliance.members))

    alliance.run(work)
    alliance["jinan"].push(draft("SECRET-KEY-more", "SECRET-VALUE"), draft("SECRET-KEY-last", "SECRET-VALUE"))
    for lie in (
        lambda page: change_opening(page, salt=COMMITMENT),
        lambda page: change_opening(page, record=b"SECRET-VALUE"),
    ):
        alliance.tampering = Tampering(page=lie)
        alliance.follow("qingdao", "jinan", lambda state: state.state == "refused")
    alliance.tampering = Tampering(announcement=lambda _: signed_by_jinan(9, COMMITMENT))
    alliance.follow("yantai", "jinan", lambda state: state.state == "refused", limits=StagingLimits(entries=2))
    refused(node_servicer(alliance["qingdao"]).GetRecord(node_pb2.GetRecordRequest(id="jinan/result/NONE"), caller()))
    assert call(node_servicer(alliance["jinan"]).GetRecord(_id_of("jinan"), caller())).record.record


def _id_of(name: str) -> node_pb2.GetRecordRequest:
    return node_pb2.GetRecordRequest(id=f"{name}/result/SECRET-KEY-{name}")


def secrets_of(member: SimulatedMember) -> list[str]:
    """What must not be in a log line, in every spelling that Python gives bytes."""
    salts = [salt for _, salt, _ in openings_of(member)]
    spelled = [form for salt in salts for form in (salt.hex(), base64.b64encode(salt).decode(), repr(salt)[2:-1])]
    return [*spelled, "SECRET-KEY", "SECRET-VALUE", "PRIVATE KEY"]


# Grants and erasures


@attack(FAMILY, CALL, "INVALID_REQUEST", "is a record of jinan; only its author can have it granted")
def a_grant_of_anothers_record(scene: Scene):
    scene.reader.disclosure.grant(parse_record_id("jinan/result/HELD-0"), ["yantai"])


@attack(FAMILY, CALL, "INVALID_REQUEST", "is a record of jinan; only its author can have it erased")
def an_erasure_of_anothers_record(scene: Scene):
    scene.reader.disclosure.erase(parse_record_id("jinan/result/HELD-0"), "it displeases us")


@attack(FAMILY, CALL, "INVALID_REQUEST", "weifang is not an active member")
def a_grant_to_a_former_member(scene: Scene):
    scene.jinan.disclosure.grant(parse_record_id("jinan/result/PRIVATE"), ["weifang"])


@attack(FAMILY, CALL, "NOT_FOUND", "is not the log of this node")
def a_deletion_acknowledged_to_somebody_else(scene: Scene):
    scene.jinan.disclosure.accept_acknowledgement(YANTAI.origin, [0], member="qingdao", now_ms=1)


@attack(FAMILY, PROPERTY, "", "")
def a_deletion_acknowledged_that_nobody_asked_for(scene: Scene):
    assert scene.jinan.disclosure.accept_acknowledgement(JINAN.origin, [0, 1, 2**40], member="qingdao", now_ms=1) == []


@attack(FAMILY, PROPERTY, "", "")
def an_erasure_of_an_entry_that_says_something_else(scene: Scene):
    """The author's own words decide: an erasure that names another record than the entry holds deletes nothing."""
    with scene.other() as alliance:
        jinan, qingdao = alliance["jinan"], alliance["qingdao"]
        jinan.push(draft("KEPT"), draft("OTHER"))
        wrong = erasure_body(0, parse_record_id("jinan/result/OTHER@1"), "by mistake")
        append_statement(jinan, "erasure", wrong)
        alliance.catch_up("qingdao", "jinan")
        assert {stored.key for stored in list_all(qingdao.store)} >= {"KEPT", "OTHER"}


def append_statement(author: SimulatedMember, kind: str, body: Any) -> None:
    """Let an author state what its own node would refuse to."""
    raw = record_bytes(author.name, str(body["index"]), kind=kind, schema=f"{kind}/1", body=body)
    record = parse_record(raw, author=author.name, kinds=author.kinds)
    author.ledger.append_statements(lambda: [record])
