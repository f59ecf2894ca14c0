"""What evidence proves: real misconduct always, an honest history never, and one changed byte nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.alliance import Alliance, load_alliance
from node.core.card import CARD_TYPE, FormerLogKey, card_content
from node.core.checkpoint import Checkpoint, sign_checkpoint
from node.core.dsse import build_envelope
from node.core.evidence import (
    Consistency,
    Evidence,
    build_split_view,
    format_consistency,
    format_evidence,
    parse_consistency,
    parse_evidence,
    rebase_evidence,
)
from node.core.misconduct import STEPS, Judgement, find_settlement, judge_evidence, judgement_content
from node.core.proof import format_tlog_proof, parse_tlog_proof
from node.core.roster import ROSTER_TYPE, Head, Member, roster_content
from node.errors import LabmeshError
from tests.builders import (
    NOW_S,
    START,
    Lab,
    MemoryLog,
    build_card,
    build_roster,
    build_roster_chain,
    cosign,
    private_key,
    sign_card,
    sign_content,
    sign_roster,
)
from tests.evidence_cases import (
    ALLIANCE,
    JINAN,
    KINDS,
    LABS,
    QINGDAO,
    YANTAI,
    build_fork,
    contradiction,
    other_card,
    other_roster,
    said_twice,
    same_size,
    split_view,
    two_cards,
    two_rosters,
    two_sizes,
)

FINGERPRINT = ALLIANCE.fingerprint


def judge(evidence: Evidence) -> Judgement:
    """As an auditor with the fingerprint; a node, which has its own rosters and cards, says the same of the statements."""
    judgement = judge_evidence(evidence, fingerprint=FINGERPRINT)
    held = judge_evidence(rebase_evidence(evidence, ALLIANCE) if not judgement.verified else evidence, held=ALLIANCE)
    if judgement.verified or judgement.steps[1].ok:
        assert [step.ok for step in held.steps] == [step.ok for step in judgement.steps]
        assert (held.member, held.summary, held.subject) == (judgement.member, judgement.summary, judgement.subject)
    return judgement


def failed_step(evidence: Evidence) -> str:
    judgement = judge(evidence)
    assert not judgement.verified
    assert (judgement.member, judgement.summary, judgement.statements) == ("", "", ())
    (failed,) = [step for step in judgement.steps if step.ok is False]
    assert failed.detail
    later = judgement.steps[STEPS.index(failed.step) + 1 :]
    assert all(step.ok is None for step in later)
    return failed.step


def changed(evidence: Evidence, **statements: bytes) -> Evidence:
    """The evidence with other statements; `first_note` means first.note."""
    given_ = {name.replace("_", ".", 1).replace("_", "-"): raw for name, raw in statements.items()}
    assert set(given_) <= {*evidence.statements, "consistency.txt"}
    return replace(evidence, statements={**evidence.statements, **given_})


def successor(*labs: Lab, **lines: Member) -> Alliance:
    """The alliance with roster version 2, in which these members' lines are others."""
    first = ALLIANCE.roster
    members = MappingProxyType({**first.members, **lines})
    second = replace(first, version=2, previous=ALLIANCE.fingerprint, members=members)
    return ALLIANCE.accept_roster(sign_roster(second, JINAN))


class TestProof:
    WORDS: ClassVar = {
        "same size": ("split-view", "jinan", "jinan signed two different roots for size 5 of its log"),
        "two sizes": (
            "split-view",
            "jinan",
            "jinan signed two histories of its log: its checkpoint of size 12 does not contain its checkpoint of size 7",
        ),
        "contradiction": (
            "contradiction",
            "jinan",
            "jinan signed two records with the id jinan/result/WJ-000001@1: its entries 1 and 4",
        ),
        "rosters": ("roster", "jinan", "jinan signed two rosters of version 1"),
        "cards": ("card", "qingdao", "qingdao signed two cards with seq 1"),
    }

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_kind(self, kind: str) -> None:
        judgement = judge(parse_evidence(format_evidence(KINDS[kind]())))
        assert judgement.verified
        assert [step.step for step in judgement.steps] == list(STEPS)
        assert (judgement.kind, judgement.member, judgement.summary) == self.WORDS[kind]
        assert len(judgement.statements) == 2
        assert judgement.may_be_told("yantai")

    def test_as_json(self) -> None:
        content = judgement_content(judge(same_size()))
        assert list(content) == ["verified", "kind", "member", "summary", "steps"]
        assert (content["verified"], content["kind"], content["member"]) == (True, "split-view", "jinan")
        failed = judgement_content(judge_evidence(same_size(), fingerprint="0" * 64))
        assert (failed["verified"], failed["member"], failed["summary"]) == (False, None, None)

    def test_without_a_pin_nothing_is_proved(self) -> None:
        assert not judge_evidence(same_size()).verified

    def test_a_wrong_pin(self) -> None:
        assert judge_evidence(same_size(), fingerprint="0" * 64).steps[0].ok is False
        assert judge_evidence(same_size(), fingerprint="0" * 64, held=ALLIANCE).steps[0].ok is False

    def test_a_restricted_contradiction_is_for_those_who_may_read_both(self) -> None:
        judgement = judge(contradiction(audience=["qingdao"]))
        assert judgement.verified
        assert [judgement.may_be_told(name) for name in ("jinan", "qingdao", "yantai")] == [True, True, False]

    @given(st.integers(1, 40), st.integers(0, 40), st.data())
    @settings(max_examples=60)
    def test_two_histories_are_proved_wherever_they_part(self, small: int, more: int, data: st.DataObject) -> None:
        common = data.draw(st.integers(0, small - 1))
        one, other = build_fork(JINAN, common, small, small + more)
        judgement = judge_evidence(parse_evidence(format_evidence(split_view((one, other)))), held=ALLIANCE)
        assert judgement.verified, judgement.steps
        assert judgement.covered == small


class TestHonesty:
    @given(st.integers(1, 300), st.data())
    @settings(max_examples=60)
    def test_two_checkpoints_of_one_history_prove_nothing(self, size: int, data: st.DataObject) -> None:
        """With log keys that were rotated anywhere, and the proof that leads from one to the other."""
        log, card, rotated = (
            MemoryLog(JINAN),
            build_card(JINAN),
            sorted(data.draw(st.sets(st.integers(1, size), max_size=2))),
        )
        log.append_numbered(size)
        labs = [replace(JINAN, generation=i + 1) for i in range(len(rotated) + 1)]
        formers = tuple(FormerLogKey(lab.log.key, at, log.tree.root(at)) for lab, at in zip(labs, rotated, strict=False))
        card = replace(card, log_key=labs[-1].log.key, former_log_keys=formers, seq=2, previous="0" * 64)
        alliance = load_alliance([*evidence_rosters()], [sign_card(card, JINAN)])
        signed = []
        for at in sorted((data.draw(st.integers(1, size)), data.draw(st.integers(1, size)))):
            generation = sum(at > former.size for former in formers)
            signed.append(sign_checkpoint(Checkpoint(JINAN.origin, at, log.tree.root(at)), labs[generation].log))
        judgement = judge_evidence(build_split_view(alliance, "jinan", signed[0], signed[1], log.tree), held=alliance)
        assert [step.ok for step in judgement.steps] == [True, True, True, True, False]

    def test_one_record_twice_in_the_same_words(self) -> None:
        assert failed_step(said_twice().evidence(2, 5)) == "conflict"

    def test_two_revisions_are_no_contradiction(self) -> None:
        assert failed_step(said_twice().evidence(0, 1)) == "conflict"

    def test_one_roster_or_card_with_two_signatures(self) -> None:
        roster = two_rosters().statements["first.roster"]
        assert (
            failed_step(replace(two_rosters(), statements={"first.roster": roster, "second.roster": roster})) == "conflict"
        )
        card = two_cards().statements["first.card"]
        assert failed_step(replace(two_cards(), statements={"first.card": card, "second.card": card})) == "conflict"

    def test_rosters_of_two_versions(self) -> None:
        alliance = load_alliance(build_roster_chain(LABS))
        rosters = tuple(build_roster_chain(LABS))
        second = build_envelope(roster_content(alliance.roster), ROSTER_TYPE, JINAN.sign)
        first = sign_roster(build_roster(LABS[:1]), JINAN)
        pair = {
            "first.roster": first,
            "second.roster": sign_content(roster_content(alliance.roster), ROSTER_TYPE, JINAN.sign),
        }
        judgement = judge_evidence(Evidence("roster", rosters, pair), fingerprint=second.hash)
        assert judgement.steps[-1].ok is False


def evidence_rosters() -> tuple[bytes, ...]:
    return same_size().rosters


class TestKeys:
    def test_what_a_retired_key_signs_beyond_its_size_proves_nothing(self) -> None:
        """A stolen log key: the member has named the last good checkpoint, and who reads this knows the newer card."""
        honest, thief = build_fork(JINAN, 3, 6, 9)
        evidence = split_view((honest, thief))
        assert judge(evidence).verified
        former = FormerLogKey(JINAN.log.key, 6, honest.tree.root(6))
        newer = replace(JINAN, generation=2)
        card = build_card(
            JINAN, log_key=newer.log.key, former_log_keys=(former,), seq=2, previous=ALLIANCE.cards["jinan"][0].hash
        )
        revoked = ALLIANCE.accept_card(sign_card(card, JINAN))
        judgement = judge_evidence(evidence, held=revoked)
        assert [step.ok for step in judgement.steps] == [True, True, True, False, None]

    def test_what_it_signed_up_to_its_size_still_counts(self) -> None:
        """Nobody disowns by a rotation what it signed before."""
        one, other = build_fork(JINAN, 3, 5, 6)
        former = FormerLogKey(JINAN.log.key, 6, other.tree.root(6))
        newer = replace(JINAN, generation=2)
        card = build_card(
            JINAN, log_key=newer.log.key, former_log_keys=(former,), seq=2, previous=ALLIANCE.cards["jinan"][0].hash
        )
        rotated = ALLIANCE.accept_card(sign_card(card, JINAN))
        assert judge_evidence(split_view((one, other)), held=rotated).verified
        assert judge_evidence(split_view((one, other), rotated), held=rotated).verified
        assert judge_evidence(split_view((one, other), rotated), held=ALLIANCE).verified

    def test_a_roster_that_is_newer_than_the_file(self) -> None:
        alliance = successor(yantai=replace(ALLIANCE.roster.members["yantai"], status="removed", left=START))
        for make in KINDS.values():
            assert judge_evidence(make(), held=alliance).verified
        assert judge_evidence(same_size(), held=alliance, fingerprint=alliance.fingerprint).verified

    def test_a_file_that_is_newer_than_the_roster(self) -> None:
        alliance = successor(yantai=replace(ALLIANCE.roster.members["yantai"], status="removed", left=START))
        evidence = split_view(build_fork(JINAN, 2, 5, 5), alliance)
        assert judge_evidence(evidence, held=ALLIANCE).verified
        assert judge_evidence(evidence, fingerprint=FINGERPRINT).verified
        assert judge_evidence(evidence, fingerprint=alliance.fingerprint).verified

    def test_another_chain_of_rosters(self) -> None:
        other = load_alliance([other_roster()], [sign_card(build_card(JINAN), JINAN)])
        evidence = split_view(build_fork(JINAN, 2, 5, 5), other)
        assert failed_step(evidence) == "roster"

    def test_a_replaced_identity_key(self) -> None:
        """The log was signed twice all the same: the card held here counts, whoever signed the older one."""
        key = private_key("jinan again").public_key().public_bytes_raw()
        alliance = successor(jinan=replace(ALLIANCE.roster.members["jinan"], identity_key=key))
        card = replace(build_card(JINAN), identity_key=key, seq=2, previous="0" * 64)
        raw = sign_content(
            card_content(card),
            CARD_TYPE,
            private_key("jinan again").sign,
        )
        assert not judge_evidence(same_size(), held=alliance).verified
        assert judge_evidence(same_size(), held=alliance.accept_card(raw)).verified


NOTE = same_size().statements["first.note"]
HONEST = build_fork(JINAN, 9, 9)[0]


def note(log: MemoryLog, size: int | None = None) -> bytes:
    return bytes(log.checkpoint(size))


SURGERY: dict[str, tuple[Callable[[], Evidence], str]] = {
    "the same note twice": (lambda: changed(same_size(), second_note=NOTE), "conflict"),
    "a forged signature": (lambda: changed(same_size(), first_note=forged(NOTE)), "first"),
    "another member's note": (lambda: changed(same_size(), second_note=note(build_fork(QINGDAO, 0, 5)[0])), "second"),
    "a note with a cosignature": (
        lambda: changed(same_size(), first_note=bytes(cosign(HONEST.checkpoint(5), {QINGDAO: NOW_S}))),
        "first",
    ),
    "no note": (lambda: changed(same_size(), first_note=b"nonsense"), "first"),
    "two sizes without a proof": (lambda: changed(same_size(), second_note=note(HONEST, 9)), "conflict"),
    "one size with a proof": (
        lambda: changed(same_size(), consistency_txt=format_consistency(Consistency(bytes(32), ())).encode()),
        "conflict",
    ),
    "the larger note first": (
        lambda: changed(
            two_sizes(),
            first_note=two_sizes().statements["second.note"],
            second_note=two_sizes().statements["first.note"],
        ),
        "conflict",
    ),
    "a consistency proof that leads nowhere": (lambda: with_path(lambda path: path[:-1]), "conflict"),
    "a consistency proof with a hash too many": (lambda: with_path(lambda path: (*path, bytes(32))), "conflict"),
    "a consistency proof in another order": (lambda: with_path(lambda path: path[::-1]), "conflict"),
    "another root before the proof": (lambda: with_root(bytes(32)), "conflict"),
    "the root that was signed": (lambda: with_root(build_fork(JINAN, 3, 7)[0].tree.root(7)), "conflict"),
    "nonsense for a proof": (lambda: changed(two_sizes(), consistency_txt=b"nonsense\n"), "conflict"),
    "another card's name": (lambda: replace(same_size(), cards={"qingdao": same_size().cards["jinan"]}), "key"),
    "no card at all": (lambda: replace(same_size(), cards={"jinan": b"{}"}), "key"),
    "a card by somebody else": (lambda: replace(same_size(), cards={"jinan": sign_card(build_card(JINAN), YANTAI)}), "key"),
    "a roster by somebody else": (
        lambda: replace(same_size(), rosters=(sign_roster(build_roster(LABS), YANTAI),)),
        "roster",
    ),
    "a record with another word": (
        lambda: changed(contradiction(), second_json=said_twice().log.records[4].replace(b"9.99", b"9.98")),
        "second",
    ),
    "another salt": (lambda: with_proof("first", extra=bytes(32)), "first"),
    "no salt": (lambda: with_proof("first", extra=None), "first"),
    "another index": (lambda: with_proof("second", index=5), "second"),
    "a hash too few": (lambda: with_proof("second", path=()), "second"),
    "another's checkpoint": (lambda: with_proof("first", checkpoint=note(build_fork(QINGDAO, 0, 9)[0]).decode()), "first"),
    "the entries in the wrong order": (lambda: swapped(contradiction()), "conflict"),
    "nonsense for a tlog-proof": (lambda: changed(contradiction(), first_tlog_proof=b"\xff"), "first"),
    "a second signature on a roster": (
        lambda: changed(two_rosters(), first_roster=other_roster((JINAN, YANTAI))),
        "key",
    ),
    "a roster of no council member": (lambda: changed(two_rosters(), second_roster=other_roster((YANTAI,))), "key"),
    "a roster of another alliance": (
        lambda: changed(two_rosters(), second_roster=other_roster(alliance="other.example")),
        "second",
    ),
    "cards of two members": (lambda: changed(two_cards(), second_card=other_card(YANTAI)), "key"),
    "cards with two numbers": (
        lambda: changed(two_cards(), second_card=other_card(QINGDAO, seq=2, previous="0" * 64)),
        "conflict",
    ),
    "a card signed by another": (lambda: changed(two_cards(), second_card=sign_card(build_card(QINGDAO), JINAN)), "key"),
}


def forged(raw: bytes) -> bytes:
    """The note with one bit of its signature changed, still in canonical base64."""
    at = raw.rindex(b" ") + 30
    return raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :]


def with_path(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Evidence:
    proof = parse_consistency(two_sizes().statements["consistency.txt"])
    return changed(two_sizes(), consistency_txt=format_consistency(replace(proof, path=change(proof.path))).encode())


def with_root(root: bytes) -> Evidence:
    proof = parse_consistency(two_sizes().statements["consistency.txt"])
    return changed(two_sizes(), consistency_txt=format_consistency(replace(proof, root=root)).encode())


def with_proof(name: str, **changes: object) -> Evidence:
    evidence = contradiction()
    proof = parse_tlog_proof(evidence.statements[f"{name}.tlog-proof"].decode())
    raw = format_tlog_proof(replace(proof, **changes)).encode()  # type: ignore[arg-type]
    return replace(evidence, statements={**evidence.statements, f"{name}.tlog-proof": raw})


def swapped(evidence: Evidence) -> Evidence:
    other = {"first": "second", "second": "first"}
    names = {
        name: name.replace(*next(item for item in other.items() if name.startswith(item[0]))) for name in evidence.statements
    }
    return replace(evidence, statements={names[name]: raw for name, raw in evidence.statements.items()})


@pytest.mark.parametrize("name", SURGERY)
def test_surgery_proves_nothing(name: str) -> None:
    make, step = SURGERY[name]
    assert failed_step(make()) == step


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
@settings(max_examples=40)
def test_one_changed_byte_proves_nothing(kind: str, data: st.DataObject) -> None:
    evidence = KINDS[kind]()
    parts = {
        **evidence.statements,
        **{f"cards/{name}": raw for name, raw in evidence.cards.items()},
        "roster": evidence.rosters[0],
    }
    name = data.draw(st.sampled_from(sorted(parts)))
    at = data.draw(st.integers(0, len(parts[name]) - 1))
    raw = parts[name][:at] + bytes([parts[name][at] ^ data.draw(st.integers(1, 255))]) + parts[name][at + 1 :]
    if name == "roster":
        spoiled = replace(evidence, rosters=(raw,))
    elif name.startswith("cards/"):
        spoiled = replace(evidence, cards={name.removeprefix("cards/"): raw})
    else:
        spoiled = replace(evidence, statements={**evidence.statements, name: raw})
    try:
        judgement = judge_evidence(parse_evidence(format_evidence(spoiled)), fingerprint=FINGERPRINT)
    except LabmeshError:
        return
    assert not judgement.verified


class TestSettlement:
    LINE = ALLIANCE.roster.members["jinan"]

    def test_nothing_is_settled_by_itself(self) -> None:
        for make in KINDS.values():
            assert find_settlement(judge(make()), ALLIANCE) == ""

    def test_a_removal_settles_everything(self) -> None:
        removed = replace(self.LINE, status="removed", left=START + timedelta(days=3))
        for kind in ("same size", "two sizes", "contradiction", "rosters"):
            assert find_settlement(judge(KINDS[kind]()), successor(jinan=removed)) == "jinan was removed"

    def test_a_replaced_key_settles_what_it_signed_twice(self) -> None:
        """It may have been stolen. What the log key signed is another matter."""
        rekeyed = successor(jinan=replace(self.LINE, identity_key=Lab("anew").identity_key))
        assert "replaced the identity key of jinan" in find_settlement(judge(two_rosters()), rekeyed)
        for make in (same_size, contradiction):
            assert find_settlement(judge(make()), rekeyed) == ""
        others = successor(yantai=replace(ALLIANCE.roster.members["yantai"], identity_key=Lab("anew").identity_key))
        assert find_settlement(judge(two_rosters()), others) == ""

    @pytest.mark.parametrize(("size", "settled"), [(6, False), (7, True), (12, True), (100, True)])
    def test_a_surviving_history_must_reach_the_fork(self, size: int, settled: bool) -> None:
        line = replace(self.LINE, head=Head(size, bytes(32)))
        assert bool(find_settlement(judge(two_sizes()), successor(jinan=line))) is settled

    def test_no_history_settles_what_is_not_in_the_log(self) -> None:
        line = replace(self.LINE, head=Head(100, bytes(32)))
        assert find_settlement(judge(two_rosters()), successor(jinan=line)) == ""
        assert find_settlement(judge(contradiction()), successor(jinan=line)) != ""


def test_what_a_node_keeps_convinces_others_whatever_came_with_it() -> None:
    """A spoiled roster or card beside good statements: the statements count here, and go on with what this node verified."""
    for spoiled in (
        replace(same_size(), rosters=(sign_roster(build_roster(LABS), YANTAI),)),
        replace(same_size(), cards={"jinan": sign_card(build_card(JINAN), YANTAI)}),
    ):
        judgement = judge_evidence(spoiled, held=ALLIANCE)
        assert judgement.verified and judgement.alliance is not None
        kept = rebase_evidence(spoiled, judgement.alliance)
        assert judge_evidence(parse_evidence(format_evidence(kept)), fingerprint=FINGERPRINT).verified
