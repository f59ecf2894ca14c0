"""Clocks: a day off either way. Validity goes by size and root, so no clock decides what counts."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from functools import partial

from cli.doctor import examine
from cli.facts import DaemonFacts, Facts, PeerFacts
from node.core.note import SignatureLine
from node.sync.peer import Exchange
from tests.alliance import NOON, draft, drafts, list_all
from tests.attacks.keys import NOON_S, with_line
from tests.attacks.scene import QINGDAO, SIZE, Scene, bundle_file
from tests.attacks.surfaces import BUNDLE, PROPERTY
from tests.attacks.table import attack

FAMILY = "clocks"
DAY_S = 86_400


@attack(FAMILY, BUNDLE, "cosignatures", "no possible time")
def a_cosignature_from_before_all_time(bundle, scene):
    line = SignatureLine(QINGDAO.witness.key.name, QINGDAO.witness.key.key_id, bytes(8 + 64))
    return replace(with_line(bundle, scene, QINGDAO, lines=0), proof=bundle.proof + f"{line}\n".encode())


@attack(FAMILY, BUNDLE, "cosignatures", "impossible time")
def a_cosignature_from_the_year_ten_thousand(bundle, scene):
    return with_line(bundle, scene, QINGDAO, 253402300800)


@attack(FAMILY, BUNDLE, "cosignatures", "no possible time")
def a_cosignature_from_the_end_of_the_integers(bundle, scene):
    return with_line(bundle, scene, QINGDAO, 2**63)


@attack(FAMILY, BUNDLE, "cosignatures", "does not verify")
def a_cosignature_moved_to_another_day(bundle, scene):
    lines = bundle.proof.decode().rstrip("\n").split("\n")
    name, raw = lines[-1].removeprefix("— ").split(" ")
    moved = bytearray(base64.b64decode(raw))
    moved[4:12] = (NOON_S - DAY_S).to_bytes(8, "big")
    lines[-1] = f"— {name} {base64.b64encode(bytes(moved)).decode()}"
    return replace(bundle, proof=("\n".join(lines) + "\n").encode())


def exchange_off_by(scene: Scene, seconds: float) -> None:
    """An author whose clock is wrong is followed like any other; its records say what its clock said."""
    with scene.other() as alliance:
        jinan = alliance["jinan"]
        jinan.push(*drafts(1, "BEFORE"))
        jinan.clock.turn(seconds)
        jinan.push(*drafts(2, "WRONG"))
        jinan.clock.turn(-seconds)
        state = alliance.catch_up("qingdao", "jinan")
        assert (state.state, state.verified) == ("connected", 3)
        assert len(list_all(alliance["qingdao"].store)) == 3
        assert alliance["qingdao"].mirror_of("jinan").head_note == jinan.ledger.log.head_note


@attack(FAMILY, PROPERTY, "", "")
def an_author_a_day_ahead(scene: Scene):
    exchange_off_by(scene, DAY_S)


@attack(FAMILY, PROPERTY, "", "")
def an_author_a_day_behind(scene: Scene):
    exchange_off_by(scene, -DAY_S)


def turned(answer: Exchange, seconds: int) -> Exchange:
    """The answer of a peer whose clock is off."""
    return replace(answer, time_ms=answer.time_ms + 1000 * seconds)


@attack(FAMILY, PROPERTY, "", "")
def a_peer_whose_clock_is_a_day_off(scene: Scene):
    """It is followed all the same, and `doctor` tells the operator."""
    for seconds, direction in ((DAY_S, "behind"), (-DAY_S, "ahead")):
        scene.peer.exchange = partial(turned, seconds=seconds)
        state = scene.alliance.follow("qingdao", "yantai", lambda state: state.clock_offset_ms is not None)
        assert (state.state, state.clock_offset_ms) == ("connected", 1000 * seconds)
        peer = PeerFacts("yantai", state.state, clock_offset_ms=state.clock_offset_ms)
        facts = Facts(home="home", now=NOON, version="1", daemon=DaemonFacts("ready", "1", peers=[peer]))
        (finding,) = [one for one in examine(facts).findings if one.check == "clock"]
        assert finding.level != "ok" and direction in finding.message and "timedatectl" in finding.hint


@attack(FAMILY, PROPERTY, "", "")
def a_roster_expired_by_a_day(scene: Scene):
    """The members it names go on exchanging; nothing that was signed under it becomes invalid."""
    with scene.other() as alliance:
        expires = alliance["jinan"].membership.joined.roster.expires
        alliance.clock.now = expires + timedelta(days=1)
        alliance["jinan"].push(draft("LATE"))
        state = alliance.catch_up("qingdao", "jinan")
        assert (state.state, state.verified) == ("connected", 1)


@attack(FAMILY, PROPERTY, "", "")
def an_auditor_whose_clock_is_wrong(scene: Scene):
    """No step of a verdict reads a clock; expiry is reported, and fails nothing."""
    from node.core import verdict

    exit_code, shown = scene.verify(bundle_file(scene.case))
    assert exit_code == 0 and "expire" in shown.lower() and f"one of {SIZE} entries" in shown
    assert not {"time", "utc_now", "now"} & set(vars(verdict))
