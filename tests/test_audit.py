"""Bundles from a store: what they contain, what they prove, and when there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.audit import build_bundle
from node.core.bundle import Bundle, format_bundle, parse_bundle
from node.core.names import parse_record_id
from node.core.verdict import Verdict
from node.errors import NotFoundError, UnconfirmedError
from tests.alliance import SimulatedAlliance, SimulatedMember, draft, drafts
from tests.builders import build_log, record_bytes
from tests.store.filling import JINAN, Mirrored
from tests.verifiers import agreed_verdict


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[SimulatedAlliance]:
    """Seven members (a quorum of three); jinan pushed three times, and qingdao holds all of it."""
    made = SimulatedAlliance(tmp_path, 7)
    jinan = made["jinan"]
    for i in range(3):
        jinan.push(*drafts(2, f"B{i}"), draft(f"PRIVATE-{i}", audience=[]))
    made.catch_up("qingdao", "jinan")
    yield made
    made.close()


def bundle_of(member: SimulatedMember, text: str, *, ceiling: int | None = None) -> Bundle:
    return build_bundle(
        member.store,
        member.membership.joined,
        parse_record_id(text),
        member=member.name,
        ceiling=member.confirmation.ceiling if ceiling is None else ceiling,
    )


def verdict_of(member: SimulatedMember, bundle: Bundle) -> Verdict:
    assert parse_bundle(format_bundle(bundle)) == bundle
    return agreed_verdict(bundle, fingerprint=member.membership.joined.fingerprint, kinds=member.kinds)


def cosign_heads(alliance: SimulatedAlliance, *witnesses: str) -> None:
    """Let these members verify the author's head and cosign it, and tell the author."""
    alliance.catch_up("qingdao", "jinan")
    for name in witnesses:
        member = alliance[name]
        alliance.catch_up(name, "jinan")
        member.clock.turn(10)
        assert member.exchange.cosign_head(JINAN.origin)
        for reader in ("jinan", "qingdao"):
            saved, splits = alliance[reader].exchange.accept_notes(member.exchange.held_notes(), peer=name)
            assert (saved, splits) == (0 if reader == name else 1, [])


def test_a_bundle_verifies(alliance: SimulatedAlliance) -> None:
    for name in ("jinan", "qingdao"):  # the own record, and a peer's
        member = alliance[name]
        bundle = bundle_of(member, "jinan/result/B0-000001")
        verdict = verdict_of(member, bundle)
        assert verdict.verified
        assert (verdict.signer, verdict.signed_size, verdict.quorum_met) == ("jinan", 9, False)
        assert verdict.record["key"] == "B0-000001"
        assert (set(bundle.cards), len(bundle.rosters), bundle.first_proof) == ({"jinan"}, 2, None)


def test_the_first_quorum_says_when_it_was_seen(alliance: SimulatedAlliance) -> None:
    jinan = alliance["jinan"]
    cosign_heads(alliance, "qingdao", "yantai")
    assert not verdict_of(jinan, bundle_of(jinan, "jinan/result/B0-000001")).quorum_met
    third = int(jinan.clock().timestamp()) + 10
    cosign_heads(alliance, "weifang")
    jinan.push(*drafts(3, "LATER"))
    cosign_heads(alliance, "zibo", "linyi", "dezhou")
    for member in (jinan, alliance["qingdao"]):
        bundle = bundle_of(member, "jinan/result/B0-000001")
        verdict = verdict_of(member, bundle)
        assert bundle.first_proof is not None
        assert verdict.verified
        assert (verdict.quorum_met, verdict.quorum_needed, verdict.seen_by, verdict.signed_size) == (True, 3, third, 12)
        assert sorted(verdict.cosigners) == ["dezhou", "linyi", "qingdao", "weifang", "yantai", "zibo"]
        assert set(bundle.cards) == {"jinan", *verdict.cosigners}
        later = bundle_of(member, "jinan/result/LATER-000000")
        assert later.first_proof == later.proof
        assert verdict_of(member, later).verified


def test_cosigners_that_left_count_no_longer(alliance: SimulatedAlliance) -> None:
    jinan = alliance["jinan"]
    cosign_heads(alliance, "qingdao", "yantai", "weifang", "zibo", "linyi")
    for name in ("yantai", "weifang"):
        jinan.membership.remove_member(name)
    verdict = verdict_of(jinan, bundle_of(jinan, "jinan/result/B0-000001"))
    assert verdict.verified
    assert sorted(verdict.cosigners) == ["linyi", "qingdao", "zibo"]


def test_a_revision_can_be_picked(alliance: SimulatedAlliance) -> None:
    jinan = alliance["jinan"]
    jinan.push(draft("B0-000001", "changed"), revise=True)
    values = {
        text: verdict_of(jinan, bundle_of(jinan, f"jinan/result/B0-000001{text}")).record["body"]["value"]
        for text in ("", "@1", "@2")
    }
    assert values == {"": "changed", "@1": "0.10", "@2": "changed"}


def test_no_such_record(alliance: SimulatedAlliance) -> None:
    for text in ("jinan/result/UNKNOWN", "jinan/result/B0-000001@2", "yantai/result/B0-000001", "jinan/notice/B0-000001"):
        with pytest.raises(NotFoundError, match=f"there is no record {text} ") as caught:
            bundle_of(alliance["jinan"], text)
        assert caught.value.hint == "type: labmesh list"


def test_what_a_peer_may_not_read_it_cannot_prove(alliance: SimulatedAlliance) -> None:
    assert verdict_of(alliance["jinan"], bundle_of(alliance["jinan"], "jinan/result/PRIVATE-0")).verified
    with pytest.raises(NotFoundError):
        bundle_of(alliance["qingdao"], "jinan/result/PRIVATE-0")


def test_quarantined_bytes_prove_nothing(alliance: SimulatedAlliance) -> None:
    yantai = alliance["yantai"]
    log = build_log(JINAN, 2)
    log.append(record_bytes(key="BROKEN", body={"unit": "mg/L"}))
    Mirrored(yantai.store, log, reader="yantai").accept()
    assert verdict_of(yantai, bundle_of(yantai, "jinan/result/WJ-000001")).verified
    with pytest.raises(NotFoundError):
        bundle_of(yantai, "jinan/result/BROKEN")


def test_nothing_is_exported_beyond_what_may_be_published(alliance: SimulatedAlliance) -> None:
    jinan = alliance["jinan"]
    for ceiling, size in ((9, 9), (8, 6), (6, 6), (3, 3)):
        verdict = verdict_of(jinan, bundle_of(jinan, "jinan/result/B0-000001", ceiling=ceiling))
        assert (verdict.verified, verdict.signed_size) == (True, size)
    for text, ceiling in (("B0-000001", 0), ("B0-000001", 2), ("B1-000000", 3), ("B2-000000", 8)):
        with pytest.raises(UnconfirmedError, match="cannot be published yet") as caught:
            bundle_of(jinan, f"jinan/result/{text}", ceiling=ceiling)
        assert "labmesh confirm" in caught.value.hint


def test_the_ceiling_is_about_the_own_log_alone(alliance: SimulatedAlliance) -> None:
    qingdao = alliance["qingdao"]
    assert verdict_of(qingdao, bundle_of(qingdao, "jinan/result/B2-000000", ceiling=0)).verified


def test_a_quorum_beyond_the_ceiling_is_not_shown(alliance: SimulatedAlliance) -> None:
    cosign_heads(alliance, "qingdao", "yantai", "weifang")
    jinan = alliance["jinan"]
    bundle = bundle_of(jinan, "jinan/result/B0-000001", ceiling=6)
    assert bundle.first_proof is None
    assert verdict_of(jinan, bundle).verified
