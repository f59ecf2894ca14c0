"""The verifier that shares no code with the node: it stands alone, agrees with the node, and no byte escapes the two."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.bundle import Bundle, format_bundle, parse_bundle
from node.core.card import Card, FormerLogKey, FormerWitnessKey
from node.core.checkpoint import SignedCheckpoint, sign_checkpoint
from node.core.dsse import Envelope, build_envelope, format_envelope, parse_envelope
from node.core.keys import LOW_ORDER_ENCODINGS
from node.core.kinds import Kinds
from node.core.roster import ROSTER_TYPE, Head, roster_content
from node.core.times import parse_seconds
from tests import verifiers
from tests.builders import (
    NOW_S,
    START,
    BundleCase,
    Lab,
    build_bundle_case,
    build_card,
    build_members,
    build_roster,
    cosign,
    kinds,
    record_bytes,
    sign_card,
    sign_content,
    sign_roster,
)
from tests.verifiers import (
    SCRIPT,
    agreed_verdict,
    changed,
    first_verdict_on,
    members_of,
    places,
    second_verdict_on,
    second_verifier,
    surviving_changes,
)

JINAN, QINGDAO, YANTAI = (Lab(name) for name in ("jinan", "qingdao", "yantai"))


@lru_cache(maxsize=1)
def rich_case() -> BundleCase:
    """Everything that a bundle can hold: a blob, two proofs, rotated log and witness keys, three signatures on a roster."""
    case = build_bundle_case(threshold=3)
    second = replace(case.labs[0], generation=2)
    rotated = build_card(second, former_log_keys=(FormerLogKey(JINAN.log.key, 4, case.log.tree.root(4)),))
    case.log.append_numbered(1)
    newest = case.log.checkpoint()
    resigned = cosign(replace_signer(newest, second), {QINGDAO: NOW_S + 60, YANTAI: NOW_S + 61})
    witness = replace(QINGDAO, generation=2).witness.key
    until = parse_seconds("2027-01-01T00:00:00Z")
    retired = build_card(QINGDAO, witness_key=witness, former_witness_keys=(FormerWitnessKey(QINGDAO.witness.key, until),))
    cards = {**case.cards, "jinan": sign_card(rotated, JINAN), "qingdao": sign_card(retired, QINGDAO)}
    return replace(case, cards=cards, newest=resigned)


def replace_signer(signed: SignedCheckpoint, lab: Lab) -> SignedCheckpoint:
    return sign_checkpoint(signed.checkpoint, lab.log)


@lru_cache(maxsize=1)
def rich_members() -> dict[str, bytes]:
    return members_of(format_bundle(rich_case().bundle()))


@lru_cache(maxsize=1)
def known_kinds() -> Kinds:
    return kinds()


@lru_cache(maxsize=1)
def removed_case() -> BundleCase:
    """A record of an author that was removed, whose log key was rotated before; without the blob."""
    labs = [JINAN, QINGDAO, YANTAI]
    members, log = build_members(labs), build_bundle_case().log
    head = Head(5, log.tree.root(5))
    line = replace(members["jinan"], status="removed", left=START + timedelta(days=3), head=head)
    case = build_bundle_case(members={**members, "jinan": line}, title="Jinan 联盟")
    second = replace(JINAN, generation=2)
    rotated = build_card(second, former_log_keys=(FormerLogKey(JINAN.log.key, 5, head.root),))
    return replace(case, cards={**case.cards, "jinan": sign_card(rotated, JINAN)}, blobs={})


def both_accept(members: dict[str, bytes]) -> tuple[bool, bool]:
    return verifiers.both_accept(members, rich_case().fingerprint, known_kinds())


# It stands alone


def test_it_is_short_and_imports_nothing_but_the_standard_library_and_cryptography() -> None:
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 250
    tree = ast.parse(text)
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots = {name.partition(".")[0] for name in imported}
    assert roots - {"cryptography"} <= set(sys.stdlib_module_names)
    assert "cryptography" in roots


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "one.labmesh"
    path.write_bytes(format_bundle(rich_case().bundle()))
    return path


def script(*args: object) -> subprocess.CompletedProcess[str]:
    """As an auditor runs it: in a folder of its own, with nothing of the node to be found."""
    return subprocess.run(
        [sys.executable, "-I", SCRIPT, *map(str, args)], capture_output=True, text=True, timeout=60, cwd="/"
    )


def test_as_a_process_it_prints_the_steps_and_what_it_proves(file: Path) -> None:
    ended = script(file, "--fingerprint", rich_case().fingerprint)
    assert ended.returncode == 0, ended.stdout
    steps = ["roster", "cards", "checkpoint", "cosignatures", "commitment", "inclusion", "schema", "blobs"]
    assert [line.split()[1] for line in ended.stdout.splitlines() if line.startswith("ok ")] == steps
    assert "2026-11-20T08:30:07Z" in ended.stdout and "WJ-BLOB" in ended.stdout and ended.stdout.endswith("VERIFIED\n")


def test_as_a_process_it_says_why_not(file: Path) -> None:
    wrong = script(file, "--fingerprint", "0" * 64)
    assert wrong.returncode == 1 and "no roster has the fingerprint" in wrong.stdout
    assert wrong.stdout.endswith("NOT VERIFIED\n")
    file.write_bytes(file.read_bytes()[:-1])
    assert script(file, "--fingerprint", rich_case().fingerprint).returncode == 1


@pytest.mark.parametrize("args", [(), ("a",), ("a", "--finger", "b"), ("a", "b", "c", "d")], ids=str)
def test_as_a_process_without_its_arguments_it_says_how(args: tuple[str, ...]) -> None:
    ended = script(*args)
    assert ended.returncode == 2 and "--fingerprint HEX" in ended.stdout


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    tried = script(tmp_path / "none.labmesh", "--fingerprint", "0" * 64)
    assert tried.returncode == 1 and "none.labmesh" in tried.stdout and "NOT VERIFIED" in tried.stdout


# It agrees


def test_the_rich_bundle_is_one_that_both_accept() -> None:
    case = rich_case()
    verdict = agreed_verdict(case.bundle(), fingerprint=case.fingerprint, kinds=kinds())
    assert verdict.verified, verdict.steps
    assert verdict.signed_size == 6 and verdict.quorum_met and len(case.rosters) == 2
    assert sorted(rich_members()) == [
        "README.txt",
        next(name for name in rich_members() if name.startswith("blobs/")),
        "cards/jinan.json",
        "cards/qingdao.json",
        "cards/yantai.json",
        "first.tlog-proof",
        "record.json",
        "record.tlog-proof",
        "roster/1.json",
        "roster/2.json",
    ]


def test_the_readme_names_it() -> None:
    assert b"scripts/verify_bundle.py" in rich_members()["README.txt"]


def test_it_knows_the_same_keys_of_low_order() -> None:
    low_order = second_verifier().LOW_ORDER
    assert {int.from_bytes(key, "little") % 2**255 for key in LOW_ORDER_ENCODINGS} == low_order


def added_signature(raw: bytes, payload_type: str, signature: bytes) -> bytes:
    envelope, _ = parse_envelope(raw, payload_type)
    return format_envelope(Envelope(envelope.payload, envelope.payload_type, (*envelope.signatures, signature)))


CARD_TYPE = "application/vnd.labmesh.card.v1+json"
SURPLUS: dict[str, Callable[[Bundle], Bundle]] = {
    "a stray signature on a roster": lambda b: replace(
        b, rosters=(b.rosters[0], added_signature(b.rosters[1], ROSTER_TYPE, bytes(64)))
    ),
    "a roster's signature twice": lambda b: replace(
        b, rosters=(added_signature(b.rosters[0], ROSTER_TYPE, parse_envelope(b.rosters[0], ROSTER_TYPE)[0].signatures[0]),
                    b.rosters[1])
    ),
    "a stray signature on a card": lambda b: replace(
        b, cards={**b.cards, "jinan": added_signature(b.cards["jinan"], CARD_TYPE, bytes(64))}
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutate", SURPLUS.values(), ids=SURPLUS)
def test_a_signature_that_nobody_can_check_is_refused_by_both(mutate: Callable[[Bundle], Bundle]) -> None:
    bundle = mutate(rich_case().bundle())
    assert not agreed_verdict(bundle, fingerprint=rich_case().fingerprint, kinds=kinds()).verified


def test_retired_keys_are_judged_alike() -> None:
    case = rich_case()
    too_early = parse_seconds("2026-11-20T08:30:06Z")
    witness = replace(QINGDAO, generation=2).witness.key
    card = build_card(QINGDAO, witness_key=witness, former_witness_keys=(FormerWitnessKey(QINGDAO.witness.key, too_early),))
    late = replace(case, cards={**case.cards, "qingdao": sign_card(card, QINGDAO)})
    assert not agreed_verdict(late.bundle(), fingerprint=case.fingerprint, kinds=kinds()).verified
    for size, root in ((4, bytes(32)), (6, case.log.tree.root(6)), (2, case.log.tree.root(2)), (5, case.log.tree.root(5))):
        former = (FormerLogKey(JINAN.log.key, size, root),)
        rotated = sign_card(build_card(replace(JINAN, generation=2), former_log_keys=former), JINAN)
        other = replace(case, cards={**case.cards, "jinan": rotated})
        agreed_verdict(other.bundle(), fingerprint=case.fingerprint, kinds=kinds())


def test_former_keys_whose_sizes_shrink_are_refused_by_both() -> None:
    case = rich_case()
    formers = tuple(
        FormerLogKey(replace(JINAN, generation=10 + i).log.key, size, case.log.tree.root(2)) for i, size in enumerate((3, 2))
    )
    card = sign_card(build_card(replace(JINAN, generation=2), former_log_keys=formers), JINAN)
    other = replace(case, cards={**case.cards, "jinan": card})
    assert not agreed_verdict(other.bundle(), fingerprint=case.fingerprint, kinds=kinds()).verified


@pytest.mark.parametrize("status", ["active", "removed"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("fits", [True, False])
def test_the_roster_s_head_of_a_log_is_judged_alike(status: Literal["active", "removed"], size: int, fits: bool) -> None:
    """A removed member's log ends there; an active one's has this root there."""
    members = build_members([JINAN, QINGDAO, YANTAI])
    head = Head(size, build_bundle_case().log.tree.root(size) if fits else bytes(32))
    left = START + timedelta(days=3) if status == "removed" else None
    line = replace(members["jinan"], status=status, left=left, head=head)
    case = build_bundle_case(members={**members, "jinan": line})
    verdict = agreed_verdict(case.bundle(), fingerprint=case.fingerprint, kinds=kinds())
    assert verdict.verified == ((fits or size not in (3, 5)) and (status == "active" or size >= 2))


def test_a_removed_member_is_not_taken_back() -> None:
    labs = [JINAN, QINGDAO, YANTAI]
    members = build_members(labs)
    gone = replace(members["yantai"], status="removed", left=START + timedelta(days=3))
    first = build_roster(labs, members={**members, "yantai": gone})
    previous = build_envelope(roster_content(first), ROSTER_TYPE).hash
    second = build_roster(labs, version=2, previous=previous)
    case = replace(rich_case(), rosters=[sign_roster(first, *labs), sign_roster(second, *labs)])
    fingerprint = build_envelope(roster_content(second), ROSTER_TYPE).hash
    assert not agreed_verdict(case.bundle(), fingerprint=fingerprint, kinds=kinds()).verified


RECORDS = [
    record_bytes(body={"value": "0.10", "n": 2**53 - 1}),
    record_bytes(key="检 1"),
    record_bytes(key="x" * 200),
    record_bytes(audience=[]),
    record_bytes(audience=["qingdao", "yantai"]),
    record_bytes(audience=["*", "qingdao"]),
    record_bytes(audience=["jinan"]),
    record_bytes(audience=["Qingdao"]),
    record_bytes(key="x" * 201),
    record_bytes(key=""),
    record_bytes(key=" x"),
    record_bytes(key="x\u3000"),
    record_bytes(key="a\u0301"),
    record_bytes(key="a\u200b"),
    record_bytes(key="a\u0085"),
    record_bytes(published="2026-11-20T08:30:00Z"),
    record_bytes(published="2026-02-30T08:30:00.000Z"),
    record_bytes(published="2026-11-20T24:00:00.000Z"),
    record_bytes(published="２026-11-20T08:30:00.000Z"),
    record_bytes(revision=0),
    record_bytes(revision=True),
    record_bytes(revision="1"),
    record_bytes(schema="result/01"),
    record_bytes(schema="notice/1"),
    record_bytes(kind="Result", schema="Result/1"),
    record_bytes(other=1),
    record_bytes(body=[]),
    record_bytes().replace(b'"0.10"', b"0.10"),
    record_bytes().replace(b'"0.10"', b"1e400"),
    record_bytes().replace(b'"0.10"', b"NaN"),
    record_bytes().replace(b'"0.10"', b"-0"),
    record_bytes().replace(b'"0.10"', b"9007199254740992"),
    record_bytes().replace(b'"0.10"', b'"0.10","value":"0.10"'),
    record_bytes().replace(b'"0.10"', b'"\\u0030.10"'),
    record_bytes().replace(b'"0.10"', b'"\\ud800"'),
    record_bytes().replace(b'"0.10"', b"[" * 62 + b"]" * 62),
    record_bytes().replace(b'"0.10"', b"[" * 63 + b"]" * 63),
    record_bytes().replace(b'"0.10"', b"[" * 5000 + b"]" * 5000),
    record_bytes().replace(b'"value"', '"\U0001f9ea"'.encode()),
    record_bytes() + b"\n",
]


@pytest.mark.parametrize("raw", RECORDS, ids=lambda raw: ascii(raw)[-40:])
def test_records_are_judged_alike(raw: bytes) -> None:
    """Each truly committed to and signed; `agreed_verdict` asserts, the builders' schema of a body aside."""
    case = build_bundle_case()
    case.log.append(raw)
    index = len(case.log.records) - 1
    newest = cosign(case.log.checkpoint(), {QINGDAO: NOW_S})
    other = replace(case, index=index, newest=newest, first=newest, blobs={})
    agreed_verdict(other.bundle(), fingerprint=case.fingerprint, kinds=kinds())


@pytest.mark.parametrize(("revision", "holds"), [(6, True), (7, False), (2**53 - 1, False)])
def test_a_revision_that_its_place_in_the_log_has_no_room_for_is_refused_by_both(revision: int, holds: bool) -> None:
    case = build_bundle_case()
    case.log.append(record_bytes(revision=revision))
    assert case.log.size == 6
    newest = cosign(case.log.checkpoint(), {QINGDAO: NOW_S})
    other = replace(case, index=5, newest=newest, first=newest, blobs={})
    verdict = agreed_verdict(other.bundle(), fingerprint=case.fingerprint, kinds=kinds())
    assert verdict.verified == holds
    assert holds or f"revision {revision} cannot be entry 5" in verdict.steps[6].detail


def resealed(raw: bytes, payload_type: str, *labs: Lab, **changes: object) -> bytes:
    """A card or roster with other members, signed again."""
    content = {**parse_envelope(raw, payload_type)[1], **changes}
    return sign_content(content, payload_type, *(lab.sign for lab in labs))


@pytest.mark.parametrize("value", [True, False, 0, -4, "1", None, 2**31 + 1])
@pytest.mark.parametrize("name", ["version", "quorum", "seq"])
def test_what_is_no_number_there_is_refused_by_both(name: str, value: object) -> None:
    """Signed by whoever must sign it; in a chain of one roster, where `true` would pass for version 1."""
    case = build_bundle_case()
    roster = resealed(case.rosters[0], ROSTER_TYPE, JINAN, members=roster_content(case.alliance.roster)["members"])
    good = replace(case, rosters=[roster]).bundle()
    assert agreed_verdict(good, fingerprint=parse_envelope(roster, ROSTER_TYPE)[0].hash, kinds=kinds()).verified
    cards = dict(case.cards)
    if name == "seq":
        cards["qingdao"] = resealed(cards["qingdao"], CARD_TYPE, QINGDAO, seq=value)
    else:
        roster = resealed(roster, ROSTER_TYPE, JINAN, **{name: value})
    fingerprint = parse_envelope(roster, ROSTER_TYPE)[0].hash
    other = replace(case, rosters=[roster], cards=cards)
    raw = format_bundle(other.bundle())
    first, second = first_verdict_on(raw, fingerprint, known_kinds()), second_verdict_on(raw, fingerprint)
    assert (first is not None and first.verified, second.result) == (False, None)
    assert "number" in second.refusal


@pytest.mark.parametrize("thief", [JINAN, YANTAI], ids=["before it", "behind it"])
def test_whoever_lists_another_s_keys_as_former_ones_makes_no_bundle_fail(thief: Lab) -> None:
    """Nodes take such a card, because only current keys are compared; qingdao's card stands in the bundle beside it."""
    case = build_bundle_case()
    stolen = (FormerLogKey(replace(QINGDAO.log.key, name=thief.origin), 0, case.log.tree.root(0)),)
    cards = {**case.cards, thief.member: sign_card(build_card(thief, former_log_keys=stolen), thief)}
    verdict = agreed_verdict(replace(case, cards=cards).bundle(), fingerprint=case.fingerprint, kinds=kinds())
    assert verdict.verified and "qingdao" in verdict.cosigners


# Every byte


CASES = {"everything that a bundle can hold": (rich_case, 500), "a removed author with a rotated key": (removed_case, 500)}


@pytest.mark.parametrize(("build", "count"), CASES.values(), ids=CASES)
def test_both_refuse_the_same_changes_of_a_byte(build: Callable[[], BundleCase], count: int) -> None:
    case = build()
    raw = format_bundle(case.bundle())
    assert surviving_changes(raw, case.fingerprint, known_kinds(), count=count, seed=500) == []


@settings(max_examples=100)
@given(st.data())
def test_both_refuse_any_change_of_a_byte(data: st.DataObject) -> None:
    name, at = data.draw(st.sampled_from(places(rich_members())))
    assert both_accept(changed(rich_members(), (name, at, data.draw(st.integers(1, 255))))) == (False, False)


def test_both_refuse_members_that_are_gone_or_too_many() -> None:
    members = rich_members()
    for name in members:
        rest = {other: raw for other, raw in members.items() if other != name}
        first, second = both_accept(rest)
        assert first == second, name
        assert first == (name in ("README.txt", "first.tlog-proof") or name.startswith("blobs/")), name
    for name in ("other.txt", "roster/3.json", "roster/0.json", "cards/Jinan.json", "blobs/ab", "cards/linyi.json"):
        assert both_accept({**members, name: members["cards/jinan.json"]}) == (False, False), name


@pytest.mark.parametrize(
    "change", [lambda r: r[:-1], lambda r: r + b"\n", lambda r: b" " + r, lambda r: r + r], ids=range(4)
)
def test_both_refuse_members_cut_or_prolonged(change: Callable[[bytes], bytes]) -> None:
    for name, raw in rich_members().items():
        if name != "README.txt":
            assert both_accept({**rich_members(), name: change(raw)}) == (False, False), name


def test_both_refuse_bytes_beside_the_members() -> None:
    raw = format_bundle(rich_case().bundle())
    for other in (b"\x00" + raw, raw + b"\x00", raw[:-1], raw[:-22], b"", raw + raw):
        assert first_verdict_on(other, rich_case().fingerprint, kinds()) is None
        assert second_verdict_on(other, rich_case().fingerprint).result is None
    assert parse_bundle(raw) == rich_case().bundle()


@pytest.mark.parametrize("role", ["log", "witness", "former log"])
def test_both_agree_on_a_card_with_a_key_of_the_roster(role: str) -> None:
    """As its current key it fills two roles, and the card does not count; as a former one it claims nothing."""
    case = build_bundle_case()
    log, witness = (replace(lab, public_key=YANTAI.identity_key) for lab in (QINGDAO.log.key, QINGDAO.witness.key))
    roles: dict[str, Card] = {
        "log": build_card(QINGDAO, log_key=log),
        "witness": build_card(QINGDAO, witness_key=witness),
        "former log": build_card(QINGDAO, former_log_keys=(FormerLogKey(log, 0, case.log.tree.root(0)),)),
    }
    one = replace(case.bundle(), cards={**case.cards, "qingdao": sign_card(roles[role], QINGDAO)})
    verdict = agreed_verdict(one, fingerprint=case.fingerprint, kinds=kinds())
    assert verdict.verified is (role == "former log")
