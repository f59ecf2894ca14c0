"""The signed formats: JSON, records, notes, proofs, keys, envelopes, cards, rosters, bundles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from cli.alliance_file import AllianceFile, format_alliance_file, parse_alliance_file, parse_card_file
from node.core.alliance import format_card, format_roster, load_alliance
from node.core.bundle import format_bundle, parse_bundle
from node.core.canonical import dumps_canonical, format_canonical, parse_canonical, parse_strict
from node.core.card import CARD_TYPE, card_content, parse_card
from node.core.certificate import certificate_name, parse_certificate, require_name
from node.core.checkpoint import parse_checkpoint, verify_cosignature
from node.core.dsse import format_envelope, parse_envelope
from node.core.keys import format_base64, parse_base64, parse_public_key, parse_verifier_key
from node.core.merkle import format_frontier, parse_frontier, verify_inclusion
from node.core.names import parse_alliance, parse_kind, parse_member, parse_record_id
from node.core.note import parse_note
from node.core.proof import TlogProof, format_tlog_proof, parse_tlog_proof
from node.core.record import parse_draft, parse_record, prepare_content
from node.core.roster import ROSTER_TYPE, parse_roster, roster_content
from node.core.times import format_milliseconds, format_seconds, parse_milliseconds, parse_seconds
from node.core.verdict import verdict_content
from node.errors import FormatError, GovernanceError, InvalidRecordError, ProofError, SignatureError
from tests.alliance import NOON
from tests.attacks.scene import BODY, HELD, JINAN, PROVED, SIZE, YANTAI
from tests.builders import ALLIANCE, build_bundle_case
from tests.fuzz.target import Finding, target
from tests.fuzz.world import scene, shipped_kinds, text
from tests.verifiers import agreed_verdict


def texts(*examples: str) -> Callable[[], Sequence[bytes]]:
    """Examples that are text."""
    return lambda: [example.encode() for example in examples]


# JSON and records


JSON = texts(
    '{"a":[1,-5,null,true,"x"],"b":{"c":"é","d":{}}}',
    "[]",
    '"\\u00e9\\n"',
    "9007199254740991",
    '{"b":1,"a":2}',
    '{ "a" : 1.5 }',
)


@target("json as people write it", InvalidRecordError, seeds=JSON)
def strict_json(raw: bytes) -> None:
    value = parse_strict(raw)
    if parse_canonical(format_canonical(value)) != value:
        raise Finding("accepted, but it cannot be made canonical")


@target("canonical json", InvalidRecordError, seeds=JSON, write=dumps_canonical)
def canonical_json(raw: bytes) -> Any:
    return parse_canonical(raw)


def record_seeds() -> list[bytes]:
    return [opening.record for opening in scene().jinan.store.logs.read_page(
        scene().jinan.ledger.log, start=0, stop=SIZE, reader="jinan").openings]  # fmt: skip


@target("record", InvalidRecordError, seeds=record_seeds, write=lambda record: dumps_canonical(record.content))
def record(raw: bytes) -> Any:
    return parse_record(raw, author="jinan", kinds=shipped_kinds())


def draft_seeds() -> list[bytes]:
    small = {"key": "K", "body": BODY}
    whole = {**small, "audience": ["yantai"], "thread": "jinan/result/A", "replaces": "jinan/result/A@1"}
    return [orjson.dumps(one) for one in (small, whole, {**whole, "revision": 3})]


@target("draft of a record", InvalidRecordError, seeds=draft_seeds)
def draft(raw: bytes) -> None:
    made = parse_draft(parse_strict(raw))
    prepare_content(made, author="jinan", kind="result", published=NOON, kinds=shipped_kinds())


# Notes, checkpoints, proofs


def note_seeds() -> list[bytes]:
    held = [scene().checkpoint(size) for size in (HELD, 8, SIZE)]
    return [*(bytes(one) for one in held), bytes(build_bundle_case().newest)]


@target("note", FormatError, seeds=note_seeds, write=bytes)
def note(raw: bytes) -> Any:
    return parse_note(raw)


@target("checkpoint", FormatError, seeds=note_seeds, write=bytes)
def checkpoint(raw: bytes) -> Any:
    return parse_checkpoint(raw)


@target("cosignature", FormatError, SignatureError, seeds=note_seeds)
def cosignature(raw: bytes) -> None:
    signed = parse_checkpoint(raw)
    for line in signed.note.signatures:
        verify_cosignature(signed.checkpoint, line, YANTAI.witness.key)


def proof_seeds() -> list[bytes]:
    bundle = scene().case
    return [bundle.proof, bundle.first_proof or b"", build_bundle_case().bundle().proof]


def proof_bytes(proof: TlogProof) -> bytes:
    return format_tlog_proof(proof).encode("utf-8", "surrogateescape")


@target("tlog-proof", FormatError, seeds=proof_seeds, write=proof_bytes)
def tlog_proof(raw: bytes) -> Any:
    return parse_tlog_proof(text(raw))


@target("inclusion", FormatError, ProofError, seeds=proof_seeds)
def inclusion(raw: bytes) -> None:
    proof = parse_tlog_proof(text(raw))
    signed = parse_checkpoint(proof.checkpoint.encode("utf-8", "surrogateescape"))
    verify_inclusion(bytes(32), proof.index, signed.size, proof.path, signed.root)


@target("frontier", FormatError, seeds=lambda: [b"\x0b" + format_frontier(scene().jinan.ledger.log.head_frontier)],
        write=lambda frontier: bytes([frontier.size]) + format_frontier(frontier))  # fmt: skip
def frontier(raw: bytes) -> Any:
    return parse_frontier(int.from_bytes(raw[:1], "big"), raw[1:]) if raw else parse_frontier(-1, b"")


# Keys and names


def written(value: object) -> bytes:
    """The text of a value, as it came."""
    return str(value).encode("utf-8", "surrogateescape")


KEYS = texts(str(JINAN.log.key), str(YANTAI.witness.key))
for _name, _parse, _write, _seeds in (
    ("verifier key", parse_verifier_key, written, KEYS),
    ("base64", parse_base64, lambda raw: format_base64(raw).encode(), texts("", "AA==", "AAA=", "AAAA", "_-8=")),
    ("public key", parse_public_key, lambda raw: format_base64(raw).encode(), texts(format_base64(JINAN.identity_key))),
    ("record id", parse_record_id, written, texts(PROVED, f"{PROVED}@2", "a/b/水 质/x@1")),
    ("member id", parse_member, written, texts("jinan", "a-1")),
    ("alliance name", parse_alliance, written, texts(ALLIANCE, "a.b")),
    ("kind name", parse_kind, written, texts("result", "a-1")),
    ("time in seconds", parse_seconds, lambda moment: format_seconds(moment).encode(), texts("2026-11-20T08:30:00Z")),
    ("time in milliseconds", parse_milliseconds, lambda moment: format_milliseconds(moment).encode(),
     texts("2026-11-20T08:30:00.123Z", "0001-01-01T00:00:00.000Z")),
):  # fmt: skip

    def _read(raw: bytes, parse: Callable[[str], Any] = _parse) -> Any:
        return parse(text(raw))

    target(_name, FormatError, seeds=_seeds, write=_write)(_read)


def certificate_seeds() -> list[bytes]:
    return [format_base64(JINAN.certificate).encode(), format_base64(YANTAI.certificate).encode()]


@target("certificate", FormatError, seeds=certificate_seeds)
def certificate(raw: bytes) -> None:
    require_name(parse_certificate(text(raw)), certificate_name(ALLIANCE, "jinan"))


@target("certificate in der", FormatError, seeds=lambda: [JINAN.certificate, YANTAI.certificate])
def certificate_der(raw: bytes) -> None:
    require_name(parse_certificate(format_base64(raw)), certificate_name(ALLIANCE, "jinan"))


# Envelopes


def roster_seeds() -> list[bytes]:
    return [format_roster(signed) for signed in scene().joined.rosters]


def card_seeds() -> list[bytes]:
    return [format_card(signed) for signed in scene().joined.cards.values()]


def payloads(seeds: Callable[[], list[bytes]], payload_type: str) -> Callable[[], list[bytes]]:
    """What the envelopes hold, so that mutations reach it."""
    return lambda: [parse_envelope(raw, payload_type)[0].payload for raw in seeds()]


def sealed(payload: bytes, payload_type: str) -> bytes:
    """Any payload in a well-formed envelope with one signature."""
    signatures = [{"sig": format_base64(bytes(64))}]
    return dumps_canonical({"payload": format_base64(payload), "payloadType": payload_type, "signatures": signatures})


@target("envelope", FormatError, seeds=roster_seeds, write=lambda parsed: format_envelope(parsed[0]))
def envelope(raw: bytes) -> Any:
    return parse_envelope(raw, ROSTER_TYPE)


@target("card's envelope", FormatError, seeds=card_seeds, write=lambda parsed: format_envelope(parsed[0]))
def card_envelope(raw: bytes) -> Any:
    return parse_card(raw)


@target(
    "card",
    FormatError,
    seeds=payloads(card_seeds, CARD_TYPE),
    write=lambda parsed: format_canonical(card_content(parsed[1])),
)
def card(raw: bytes) -> Any:
    return parse_card(sealed(raw, CARD_TYPE))


@target("roster", FormatError, seeds=payloads(roster_seeds, ROSTER_TYPE),
        write=lambda parsed: format_canonical(roster_content(parsed[1])))  # fmt: skip
def roster(raw: bytes) -> Any:
    return parse_roster(sealed(raw, ROSTER_TYPE))


# Files


def bundle_seeds() -> list[bytes]:
    return [format_bundle(scene().case), format_bundle(build_bundle_case().bundle())]


@target("bundle", FormatError, seeds=bundle_seeds)
def bundle(raw: bytes) -> None:
    parsed = parse_bundle(raw)
    if parse_bundle(format_bundle(parsed)) != parsed:
        raise Finding("accepted, but it is another bundle when it is written again")
    verdict_content(agreed_verdict(parsed, fingerprint=scene().joined.fingerprint, kinds=shipped_kinds()))


def alliance_file_seeds() -> list[bytes]:
    rosters, cards = scene().alliance.exported("jinan")
    return [format_alliance_file(AllianceFile(rosters, cards)), format_alliance_file(AllianceFile(rosters[:1], []))]


@target("alliance file", FormatError, GovernanceError, SignatureError, seeds=alliance_file_seeds)
def alliance_file(raw: bytes) -> None:
    content = parse_alliance_file(raw, "alliance.json")
    load_alliance(content.rosters, content.cards)


@target("card file", FormatError, seeds=lambda: [*card_seeds(), *alliance_file_seeds()])
def card_file(raw: bytes) -> Any:
    return parse_card(parse_card_file(raw, "card.json"))
