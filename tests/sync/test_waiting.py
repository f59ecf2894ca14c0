"""Entries that wait for a signature speak against nothing that peers hold: a home that was rolled back is used meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.audit import build_bundle
from node.core.amendment import NameSurvivor
from node.core.names import parse_record_id
from node.core.roster import Head
from node.cutoff import find_other_histories
from node.disowning import find_disowned
from tests.alliance import spread
from tests.rotating import Rotating, RotatingAlliance, push
from tests.soundness import require_sound

PEERS = ("qingdao", "weifang", "yantai")


def spread_log(alliance: RotatingAlliance) -> None:
    for peer in PEERS:
        alliance.simulated.catch_up(peer, "jinan")


def roll_back(jinan: Rotating, backup: Path, *, keys: dict[str, bytes] | None = None) -> None:
    """The home is of an earlier day, and nobody has told it yet."""
    jinan.member.roll_back(backup)
    for name, content in (keys or {}).items():
        jinan.files.path(name).write_bytes(content)
    jinan.lose()


def has_heard(jinan: Rotating, peer: str) -> bool:
    """Whether a contact with this peer is over, and what may be signed after it is signed."""
    log, confirmed = jinan.member.ledger.log, jinan.member.confirmation.confirmed
    waits = log.signed_size < log.head_size and confirmed and not jinan.rotation.lost_roles()
    return peer in jinan.member.confirmation.peers_heard() and not waits


def forget_rotation(alliance: RotatingAlliance, folder: Path, *, old_keys: bool) -> Rotating:
    """Jinan's peers hold 5 entries by a retired key and 2 by the next; its home is back at 2 entries and the first key."""
    jinan = alliance["jinan"]
    push(jinan, 2, "A")
    spread_log(alliance)
    backup, old = jinan.member.snapshot(folder / "backup"), jinan.files.path("log").read_bytes()
    push(jinan, 3, "B")
    jinan.rotation.rotate("log")
    push(jinan, 2, "C")
    spread_log(alliance)
    roll_back(jinan, backup, keys={"log": old} if old_keys else None)
    return jinan


@pytest.mark.parametrize("waiting", [0, 3, 6])
@pytest.mark.parametrize("old_keys", [True, False])
def test_a_forgotten_rotation_comes_back_whatever_was_pushed_meanwhile(
    rotating: RotatingAlliance, tmp_path: Path, old_keys: bool, waiting: int
) -> None:
    jinan = forget_rotation(rotating, tmp_path, old_keys=old_keys)
    if waiting:
        push(jinan, waiting, "W")
    assert jinan.member.ledger.log.signed_size == 2
    for peer in PEERS:
        rotating.simulated.follow("jinan", peer, lambda state: has_heard(jinan, state.member))
    assert jinan.member.alarms == [] and jinan.member.ledger.log.head_size == 7 + waiting
    if old_keys:
        assert jinan.rotation.lost_roles() == ["log"]
        jinan.rotation.rotate("log")
    assert jinan.member.confirmation.confirmed and jinan.member.ledger.log.signed_size == 7 + waiting
    require_sound(jinan.member)
    jinan.require_sound()
    spread_log(rotating)
    for peer in PEERS:
        member = rotating[peer].member
        assert member.mirror_of("jinan").head_size == 7 + waiting
        assert not member.alarms and not member.splits and not member.evidence.pieces()


def test_only_what_is_signed_objects_to_a_card(rotating: RotatingAlliance, tmp_path: Path) -> None:
    jinan = forget_rotation(rotating, tmp_path, old_keys=False)
    member, told = jinan.member, rotating["qingdao"].member.membership.joined.card("jinan")
    push(jinan, 9, "W")
    held = member.membership.own_card[1]
    assert find_disowned(member.store, member.membership.joined, held, told) is None
    jinan.member.ledger._may_sign = lambda: True
    member.confirm()
    reason = find_disowned(member.store, member.membership.joined, held, told)
    assert reason is not None and "with another root than its log has there" in reason


def test_what_waits_is_no_other_history_than_the_roster_names(rotating: RotatingAlliance, tmp_path: Path) -> None:
    """The council settles a log whose home was rolled back, and takes records meanwhile."""
    jinan, qingdao = rotating["jinan"], rotating["qingdao"].member
    push(jinan, 2, "A")
    backup = jinan.member.snapshot(tmp_path / "backup")
    push(jinan, 3, "B")
    spread_log(rotating)
    roll_back(jinan, backup)
    push(jinan, 9, "W")
    head = Head(4, qingdao.store.logs.tree(qingdao.mirror_of("jinan").id).root(4))
    member = jinan.member
    member.membership.amend(NameSurvivor("jinan", head))
    assert list(find_other_histories(member.store, member.membership.joined, own="jinan")) == []
    record = parse_record_id("jinan/result/A-000000")
    built = build_bundle(member.store, member.membership.joined, record, member="jinan", ceiling=2)
    assert built.record
    spread(rotating.simulated, "jinan")
