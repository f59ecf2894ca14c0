"""A rotation that is cut off at any step is healed by the next start, and no life of a log ends in two keys."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.config import Settings
from node.core.witness import accept_cosignatures
from node.daemon.building import Daemon
from node.errors import GovernanceError
from node.home import Home
from node.keyfiles import KeyFiles, is_certificate_of, is_protected
from node.rotation import KeyRotation
from node.store.checkpoints import CheckpointStore
from node.store.membership import MembershipStore
from tests.rotating import NAMES, Rotating, RotatingAlliance, cosigned, push


class Crash(BaseException):
    """The power fails."""


STEPS: dict[str, tuple[type[Any], str, bool]] = {
    "before the key is written": (KeyFiles, "write", False),
    "after the key is written": (KeyFiles, "write", True),
    "before the card is saved": (MembershipStore, "save_card", False),
    "after the card is saved": (MembershipStore, "save_card", True),
    "after the file is renamed": (KeyFiles, "promote", True),
    "before peers are told": (MembershipStore, "save_alliance", False),
    "before checkpoints are renewed": (CheckpointStore, "renew", False),
}
CHANGES: dict[str, Callable[[Rotating], object]] = {
    "log": lambda node: node.rotation.rotate("log"),
    "witness": lambda node: node.rotation.rotate("witness"),
    "tls": lambda node: node.rotation.rotate("tls"),
    "revoke": lambda node: node.rotation.revoke_log(2),
    "tls switch": lambda node: finish_tls(node),
}


def finish_tls(node: Rotating) -> None:
    card = node.member.membership.own_card[1]
    for name in ("qingdao", "yantai"):
        node.spread.note(name, card.seq)
    node.rotation.advance_tls()


def crash_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    owner, name, afterwards = STEPS[step]
    real = getattr(owner, name)

    def die(*args: Any, **named: Any) -> None:
        if afterwards:
            real(*args, **named)
        # Nothing runs after a power cut, no clearing up either.
        monkeypatch.setattr(KeyRotation, "_settle", lambda _: False)
        raise Crash

    monkeypatch.setattr(owner, name, die)


@pytest.mark.parametrize(
    ("change", "protected"), [*((change, False) for change in CHANGES), ("log", True), ("tls switch", True)]
)
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_is_healed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, change: str, protected: bool
) -> None:
    alliance = RotatingAlliance(tmp_path, passphrase=b"correct horse" if protected else None)
    jinan = alliance["jinan"]
    push(jinan, 2, "A")
    push(jinan, 2, "B")
    if change == "tls switch":
        jinan.rotation.rotate("tls")
    envelope, held = jinan.member.membership.own_card
    with monkeypatch.context() as patch:
        crash_at(patch, step)
        with suppress(Crash):
            CHANGES[change](jinan)
    jinan.restart()
    saved = jinan.member.membership.own_card[1]
    assert saved == held or saved.previous == envelope.hash, "one card at most"
    jinan.require_sound()
    certificates = saved.tls_certificates
    assert jinan.names() == (NAMES | {"tls.next.pem"} if len(certificates) > 1 else NAMES)
    assert any(is_certificate_of(der, jinan.files.load_tls(jinan.files.path("tls"))) for der in certificates)
    assert all(is_protected(path.read_bytes()) == protected for path in jinan.files.present())
    # And the node goes on: every change can be made now.
    push(jinan, 1, "C")
    for role in ("log", "witness"):
        jinan.rotation.rotate(role)
    if len(certificates) == 1:
        jinan.rotation.rotate("tls")
    finish_tls(jinan)
    push(jinan, 1, "D")
    jinan.require_sound()
    assert jinan.names() == NAMES and len(jinan.member.membership.own_card[1].tls_certificates) == 1
    alliance.close()


def start_daemon(node: Rotating, path: Path) -> None:
    """Build the daemon of a member's home, as a start does, and let it do what comes before it serves."""
    path.mkdir()
    (path / "keys").symlink_to(node.files.folder)
    member, home = node.member, Home(path)
    keys = home.load_keys(member.name, member.lab.alliance)
    card = member.membership.own_card[1]
    settings = Settings(name=card.name, region=card.region, address=card.endpoints, listen="127.0.0.1:0")

    async def build() -> None:
        Daemon(home, settings, member.store, keys, clock=member.clock, loop=asyncio.get_running_loop())

    asyncio.run(build())


def test_what_an_ended_key_signed_for_later_is_forgotten_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trio: RotatingAlliance
) -> None:
    """The clock was days ahead, and a crash came between the card and what the change of it brings about."""
    jinan, qingdao, clock = trio["jinan"], trio["qingdao"].member, trio.simulated.clock
    push(trio["qingdao"], 2, "Q")
    trio.simulated.catch_up("jinan", "qingdao")
    clock.turn(3 * 86400)
    assert jinan.member.exchange.cosign_head(qingdao.lab.origin)
    clock.turn(-3 * 86400)
    with monkeypatch.context() as patch:
        crash_at(patch, "before peers are told")
        with suppress(Crash):
            jinan.rotation.rotate("witness")
    jinan.restart()
    jinan.rotation.rotate("witness")
    log = jinan.member.mirror_of("qingdao")
    assert not jinan.member.exchange.cosign_head(qingdao.lab.origin)
    start_daemon(jinan, tmp_path / "home")
    assert jinan.member.store.checkpoints.largest_cosigned(log.id, ["jinan"]) == {}
    clock.turn(60)
    assert jinan.member.exchange.cosign_head(qingdao.lab.origin)
    signed = jinan.member.store.checkpoints.find(log.id, 2)
    assert signed is not None and list(accept_cosignatures(jinan.member.membership.joined, "qingdao", signed)) == ["jinan"]


def test_a_key_that_was_half_written_is_taken_away(jinan: Rotating) -> None:
    for name in ("log", "witness", "tls"):
        path = jinan.files.next_path(name)
        path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nMC4CAQ")
        path.chmod(0o600)
    assert len(jinan.restart()) == 3 and jinan.names() == NAMES


life = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["log", "witness", "tls", "restart"]), st.just(0)),
        st.tuples(st.sampled_from(["revoke", "cosign"]), st.integers(0, 12)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(life)
def test_any_life_of_a_log(steps: list[tuple[str, int]]) -> None:
    """However pushes, changes of keys and restarts follow one another: one history, and every checkpoint of it verifies."""
    with tempfile.TemporaryDirectory() as folder:
        alliance = RotatingAlliance(Path(folder))
        jinan = alliance["jinan"]
        roots: dict[int, bytes] = {}
        seen = 0
        for number, (step, count) in enumerate(steps):
            size = jinan.member.ledger.log.head_size
            if step == "push":
                push(jinan, count, f"P{number}")
            elif step == "restart":
                jinan.restart()
            elif step == "cosign" and size and size > seen:
                cosigned(jinan, size, "qingdao")
                seen = size
            elif step == "revoke":
                try:
                    jinan.rotation.revoke_log(count)
                except GovernanceError:
                    formers = jinan.member.membership.own_card[1].former_log_keys
                    assert count > size or count < max(seen, formers[-1].size if formers else 0)
                else:
                    assert seen <= count <= size
            elif step in ("log", "witness") or (step == "tls" and not jinan.rotation.tls_waits_for()):
                jinan.rotation.rotate(step)
            jinan.require_sound()
            for signed in jinan.checkpoints():
                assert roots.setdefault(signed.size, signed.root) == signed.root
        assert {signed.size for signed in jinan.checkpoints()} == set(roots)
        alliance.close()


def test_a_disk_that_refuses_to_forget_keeps_no_node_from_starting(tmp_path: Path, trio: RotatingAlliance) -> None:
    jinan, qingdao, clock = trio["jinan"], trio["qingdao"].member, trio.simulated.clock
    push(trio["qingdao"], 2, "Q")
    trio.simulated.catch_up("jinan", "qingdao")
    clock.turn(3 * 86400)
    assert jinan.member.exchange.cosign_head(qingdao.lab.origin)
    clock.turn(-3 * 86400)
    jinan.rotation.rotate("witness")
    log, database = jinan.member.mirror_of("qingdao"), jinan.member.store.database
    with database.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE DELETE ON cosignature BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    start_daemon(jinan, tmp_path / "full")
    assert jinan.member.store.checkpoints.largest_cosigned(log.id, ["jinan"]) == {"jinan": 2}
    with database.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    start_daemon(jinan, tmp_path / "home")
    assert jinan.member.store.checkpoints.largest_cosigned(log.id, ["jinan"]) == {}
