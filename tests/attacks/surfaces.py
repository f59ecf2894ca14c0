"""Where attacks strike: the stream of a log, what is told beside it, a bundle in a file, and the calls of a node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from node.core.bundle import format_bundle
from node.core.entry import LogPage
from node.core.proof import format_tlog_proof, parse_tlog_proof
from node.errors import LabmeshError, SplitViewError
from node.sync.peer import Exchange, PeerState
from tests.alliance import SimulatedAlliance, drafts
from tests.attacks.scene import SIZE, Scene, dump_tables
from tests.attacks.table import Perform, Refusal, Surface
from tests.simulated_client import Tampering
from tests.sync.equivocation import contact, show


def failed(state: PeerState) -> bool:
    """Whether the follower has given up on what it was sent."""
    return state.state in ("refused", "quarantined")


# The log as its author's node serves it


def _strike_stream(scene: Scene, perform: Perform) -> Refusal:
    perform(scene.peer, scene)
    state = scene.alliance.follow("qingdao", "jinan", failed)
    assert state.state == ("quarantined" if state.reason == "SPLIT_VIEW" else "refused")
    assert len(scene.reader.splits) == (state.reason == "SPLIT_VIEW")
    return Refusal(state.reason, state.error)


def _follow_honestly(scene: Scene) -> None:
    scene.alliance.tampering = Tampering()
    if scene.reader.evidence.split_view_of("jinan"):
        # Proof that jinan signed two histories stays, however honest it is now: contact goes on, its log is not followed.
        state = scene.alliance.follow("qingdao", "jinan", lambda state: state.last_contact_ms)
        assert (state.state, state.reason, state.verified) == ("quarantined", "SPLIT_VIEW", 0)
        return
    state = scene.alliance.catch_up("qingdao", "jinan")
    assert (state.state, state.error, state.verified) == ("connected", "", SIZE)


def _strike_note(scene: Scene, perform: Perform) -> Refusal:
    def change(peer: Tampering, scene: Scene) -> None:
        peer.announcement = perform

    return _strike_stream(scene, change)


def _strike_page(scene: Scene, perform: Perform) -> Refusal:
    def change(peer: Tampering, scene: Scene) -> None:
        peer.page = perform

    return _strike_stream(scene, change)


def _strike_messages(scene: Scene, perform: Perform) -> Refusal:
    def change(peer: Tampering, scene: Scene) -> None:
        def changed(messages: Sequence[bytes | LogPage]) -> Sequence[bytes | LogPage]:
            return list(perform(messages)) if messages else []

        peer.stream = changed

    return _strike_stream(scene, change)


STREAM = Surface("stream", _strike_stream, _follow_honestly)
"""`perform(peer, scene)` replaces what a peer's answers go through."""
NOTE = Surface("note", _strike_note, _follow_honestly)
"""`perform(note)` returns the checkpoint that is announced instead."""
PAGE = Surface("page", _strike_page, _follow_honestly)
"""`perform(page)` returns the page that is sent instead."""
MESSAGES = Surface("messages", _strike_messages, _follow_honestly)
"""`perform(messages)` returns everything that is sent instead."""


# Checkpoints that a third member tells


def _strike_told(scene: Scene, perform: Perform) -> Refusal:
    told, reader = perform(scene), scene.reader
    scene.peer.exchange = lambda answer: replace(answer, digest=bytes(32), notes=told)
    scene.alliance.follow("qingdao", "yantai", lambda state: reader.splits)
    assert reader.splits[0].offered_note == told[0] and reader.splits[0].held_note
    return Refusal(reader.splits[0].reason, "; ".join(reader.evidence.alarms()))


TOLD = Surface("told notes", _strike_told, _follow_honestly)
"""`perform(scene)` returns the notes that yantai tells qingdao."""


# A witness that has forgotten what it cosigned


def _strike_witness(scene: Scene, perform: Perform) -> Refusal:
    """yantai has cosigned seven entries and was then rolled back to three; qingdao holds what is true."""
    with scene.other() as alliance:
        snapshot = _let_cosign(alliance)
        yantai = alliance["yantai"]
        yantai.roll_back(snapshot)
        fork = perform(alliance)
        show(alliance, "yantai", fork)
        assert not yantai.exchange.cosign_head(fork.lab.origin)
        contact(alliance, "yantai", "qingdao")
        assert yantai.confirmation.confirmed
        assert not yantai.exchange.cosign_head(fork.lab.origin)
        fork.append_numbered(5)
        with suppress(SplitViewError):
            show(alliance, "yantai", fork)
        assert not yantai.exchange.cosign_head(fork.lab.origin)
        assert yantai.exchange.take_held_back() == [] and not dump_tables(yantai.store)["cosignature"]
        piece = yantai.evidence.split_view_of("jinan")
        return Refusal("SPLIT_VIEW" if piece else "", "; ".join(yantai.evidence.alarms()))


def _let_cosign(alliance: SimulatedAlliance) -> Path:
    """What yantai is rolled back to, before it cosigned more."""
    jinan, yantai = alliance["jinan"], alliance["yantai"]
    jinan.push(*drafts(3, "COMMON"))
    for name in ("qingdao", "yantai"):
        alliance.catch_up(name, "jinan")
    snapshot = yantai.snapshot(yantai.path.parent / "old")
    jinan.push(*drafts(4, "TRUE"))
    for name in ("qingdao", "yantai"):
        alliance.catch_up(name, "jinan")
    assert yantai.exchange.cosign_head(jinan.ledger.origin)
    return snapshot


WITNESS = Surface("witness", _strike_witness)
"""`perform(alliance)` returns the history that yantai is shown after it was rolled back."""


# Rosters and cards: told by a peer, and brought by a person


def _strike_rosters(scene: Scene, perform: Perform) -> Refusal:
    told = perform(scene)
    told = told if isinstance(told, list) else [told]
    scene.peer.exchange = lambda answer: _differing(answer)
    scene.peer.rosters = lambda _: told
    return _tell_and_import(scene, rosters=told)


def _strike_card(scene: Scene, perform: Perform) -> Refusal:
    told = perform(scene)
    scene.peer.exchange = lambda answer: _differing(answer)
    scene.peer.cards = lambda _: [told]
    return _tell_and_import(scene, cards=[told])


def _differing(answer: Exchange) -> Exchange:
    return replace(answer, roster_version=99, cards_digest=bytes(32))


def _tell_and_import(scene: Scene, rosters: Sequence[bytes] = (), cards: Sequence[bytes] = ()) -> Refusal:
    """A peer's word raises an alarm, of who passed it on or of who signed two; in a person's file it is an error."""
    reader = scene.reader
    scene.alliance.follow("qingdao", "yantai", lambda state: reader.alarms or reader.evidence.alarms())
    proved = [sentence for sentence in reader.evidence.alarms() if " signed two " in sentence]
    told = re.compile(
        r"yantai passed on a roster or card that|(yantai signed a card that|\w+ signed a card that .* \(yantai )"
    )
    assert proved or told.match(reader.alarms[0])
    scene.alliance.tampering = Tampering()
    try:
        reader.membership.import_alliance(list(rosters), cards, fingerprint=None)
    except LabmeshError as error:
        if proved:
            assert not reader.alarms
            return Refusal(error.reason, f"{error.message}; {proved[0]}")
        assert reader.alarms[0].endswith(error.message)
        return Refusal(error.reason, reader.alarms[0])
    raise AssertionError("the file was taken")


ROSTER = Surface("roster", _strike_rosters, _follow_honestly)
"""`perform(scene)` returns one roster's envelope, or several."""
CARD = Surface("card", _strike_card, _follow_honestly)
"""`perform(scene)` returns a card's envelope."""


# Bundles


def _strike_file(scene: Scene, perform: Perform) -> Refusal:
    """What `labmesh verify` says about a file."""
    exit_code, shown = scene.verify(perform(format_bundle(scene.case), scene))
    assert exit_code == 1 and "NOT VERIFIED" in shown and "it says" not in shown, shown
    step = re.search(r"^  FAILED +(\w+)", shown, re.MULTILINE)
    assert step is not None
    return Refusal(step[1], shown)


def _strike_bundle(scene: Scene, perform: Perform) -> Refusal:
    return _strike_file(scene, lambda _, scene: format_bundle(perform(scene.case, scene)))


def _strike_proof(scene: Scene, perform: Perform) -> Refusal:
    proof = perform(parse_tlog_proof(scene.case.proof.decode()))
    return _strike_bundle(scene, lambda bundle, _: replace(bundle, proof=format_tlog_proof(proof).encode()))


def _verify_honestly(scene: Scene) -> None:
    exit_code, shown = scene.verify(format_bundle(scene.case))
    assert exit_code == 0 and "NOT" not in shown, shown


FILE = Surface("file", _strike_file, _verify_honestly)
"""`perform(file, scene)` returns the bytes that `labmesh verify` is given."""
BUNDLE = Surface("bundle", _strike_bundle, _verify_honestly)
"""`perform(bundle, scene)` returns another bundle."""
PROOF = Surface("proof", _strike_proof, _verify_honestly)
"""`perform(proof)` returns another `record.tlog-proof`."""


# Calls, and what no message can refuse


def _strike_call(scene: Scene, perform: Perform) -> Refusal:
    try:
        perform(scene)
    except LabmeshError as error:
        return Refusal(error.reason, f"{error.message}; {error.hint}")
    raise AssertionError("it was not refused")


def _look(scene: Scene, perform: Perform) -> Refusal:
    perform(scene)
    return Refusal("", "")


CALL = Surface("call", _strike_call)
"""`perform(scene)` makes a call that must raise."""
PROPERTY = Surface("property", _look)
"""`perform(scene)` asserts what makes the attack pointless; there is no message to refuse."""
