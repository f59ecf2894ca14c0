"""A card that this home has signed and forgotten: while it is not taken, nothing is signed, whatever a person types."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from node.clients import SOCKET
from node.core.amendment import RemoveMember
from node.core.card import CARD_TYPE, Card, card_content
from node.core.dsse import build_envelope, format_envelope
from node.core.roster import Head
from node.disowning import Objector
from node.errors import GovernanceError, UnconfirmedError
from node.rpc import access
from node.rpc.calls.parts import NodeServiceParts
from node.rpc.calls.records import RecordCalls
from node.rpc.waiting import describe_waiting
from node.shown_cards import is_unheld
from tests.rotating import Rotating, RotatingAlliance, push

PEERS = ("qingdao", "yantai")
Tell = Callable[[], object]


def own_card(node: Rotating) -> Card:
    return node.member.membership.own_card[1]


def forget(trio: RotatingAlliance, folder: Path, *, signed: int) -> Card:
    """Peers hold a card that ends jinan's log key at 5; its home is back at 2 entries, and has signed `signed` others."""
    jinan = trio["jinan"]
    push(jinan, 2, "A")
    backup, old = jinan.member.snapshot(folder / "backup"), jinan.files.path("log").read_bytes()
    push(jinan, 3, "B")
    told = jinan.rotation.rotate("log")
    push(jinan, 2, "C")
    assert trio.tell_card("jinan", *PEERS) == []
    for peer in PEERS:
        trio.simulated.catch_up(peer, "jinan")
    jinan.member.roll_back(backup)
    jinan.files.path("log").write_bytes(old)
    jinan.lose()
    if signed:
        jinan.member.confirm()
        push(jinan, signed, "W")
        jinan.member.reopen()
        jinan.lose()
    return told


def tell(trio: RotatingAlliance, *tellers: str) -> None:
    for teller in tellers:
        exported = trio.simulated.exported(teller)
        trio["jinan"].member.membership.accept_update(*exported, teller=teller)


def require_silent(jinan: Rotating, said: str) -> None:
    """A person's word does not count, no card is signed, and what is pushed waits."""
    member, size = jinan.member, jinan.member.ledger.log.signed_size
    for _ in range(2):
        member.confirm()
        outcome = member.push(*[f'{{"key":"S{size}","body":{{"value":"1"}}}}'.encode()], revise=True)
        assert not outcome.signed and member.ledger.log.signed_size == size and not member.confirmation.confirmed
    assert not member.confirmation.presumed, "nor does the word stand for later"
    assert said in str(member.confirmation.outdated) and "labmesh confirm" not in member.confirmation.remedy
    assert said in describe_waiting(member.confirmation, [])
    with pytest.raises(UnconfirmedError, match="cannot be published yet") as unproved:
        prove_own(jinan, f"S{size}")
    assert unproved.value.hint == member.confirmation.remedy
    for change in (lambda: jinan.rotation.rotate("log"), lambda: jinan.rotation.revoke_log(1)):
        with pytest.raises(UnconfirmedError, match=said) as refused:
            change()
        assert "labmesh confirm" not in refused.value.hint


def prove_own(node: Rotating, key: str) -> None:
    """What `labmesh prove` asks the node for."""
    parts = SimpleNamespace(
        store=node.member.store, membership=node.member.membership, confirmation=node.member.confirmation
    )

    def ask() -> None:
        access._CALLER.set(SOCKET)
        RecordCalls(cast(NodeServiceParts, parts))._build_bundle(f"jinan/result/{key}")

    copy_context().run(ask)


@pytest.mark.parametrize("signed", [1, 3, 6])
def test_a_card_that_cannot_be_taken_stops_everything(trio: RotatingAlliance, tmp_path: Path, signed: int) -> None:
    """The home went on by itself, and its log is another one: two histories, and no third signature."""
    jinan = trio["jinan"]
    told = forget(trio, tmp_path, signed=signed)
    if signed == 1:  # the log here ends before: the card can be taken, so hold it back
        object_always(jinan)
    held = own_card(jinan)
    tell(trio, "yantai")
    assert own_card(jinan) == held and is_unheld(held, told)
    size = jinan.member.ledger.log.signed_size
    require_silent(jinan, f"yantai has shown a card of this member, seq {told.seq}, ")
    assert ("with another root" if size >= 5 else f"only {size} entries") in str(jinan.member.confirmation.outdated)
    # A restart forgets it; the next contact shows it again.
    jinan.member.reopen()
    assert jinan.member.confirmation.outdated is None
    jinan.lose()
    if signed == 1:
        object_always(jinan)
    trio.simulated.follow("jinan", "qingdao", lambda _: jinan.member.confirmation.outdated is not None)
    require_silent(jinan, "qingdao has shown")


class Objecting(Objector):
    """Objects to every card that would take the place of another."""

    def judge_successor(self, held: Card, card: Card) -> str | None:
        return "no"


def object_always(node: Rotating) -> None:
    node.member.membership._objector = Objecting(node.member.store, lambda: node.member.membership.alliance)


def test_a_file_counts_like_a_peer(trio: RotatingAlliance, tmp_path: Path) -> None:
    jinan = trio["jinan"]
    forget(trio, tmp_path, signed=6)
    with pytest.raises(GovernanceError, match="another root"):
        jinan.member.membership.import_alliance(*trio.simulated.exported("qingdao"), fingerprint=None)
    require_silent(jinan, "a file has shown")


def test_a_card_that_was_taken_lets_nothing_be_signed_before_its_entries_are_back(
    trio: RotatingAlliance, tmp_path: Path
) -> None:
    """No key vouches for another checkpoint up to the size that it names; also after a restart."""
    jinan = trio["jinan"]
    told = forget(trio, tmp_path, signed=0)
    push(jinan, 9, "W")
    jinan.member.membership.import_alliance(*trio.simulated.exported("qingdao"), fingerprint=None)
    assert own_card(jinan) == told
    for _ in range(2):
        require_silent(jinan, "ends a log key at size 5, and only 2 entries are signed here")
        jinan.member.reopen()
        jinan.lose()
    for peer in PEERS:
        trio.simulated.meet("jinan", peer)
    assert jinan.member.confirmation.outdated is None and jinan.member.confirmation.confirmed
    assert jinan.rotation.lost_roles() == ["log"] and "keys rotate log" in describe_waiting(
        jinan.member.confirmation, jinan.rotation.lost_roles()
    )
    jinan.rotation.rotate("log")
    assert jinan.member.ledger.log.unsigned == 0
    jinan.require_sound()


def test_only_the_own_identity_key_speaks(trio: RotatingAlliance, tmp_path: Path) -> None:
    """Otherwise any peer could keep a member from publishing."""
    jinan, liar = trio["jinan"], trio["qingdao"]
    told = forget(trio, tmp_path, signed=6)
    for card in (told, replace(told, identity_key=liar.member.lab.identity_key)):
        forged = format_envelope(build_envelope(card_content(card), CARD_TYPE, liar.member.lab.sign))
        jinan.member.membership.accept_update([], [forged, b"{}", liar.member.card], teller="qingdao")
    jinan.member.confirm()
    assert jinan.member.confirmation.outdated is None and jinan.member.confirmation.confirmed


def test_who_was_removed_or_shows_what_is_held_stops_nothing(trio: RotatingAlliance, tmp_path: Path) -> None:
    jinan = trio["jinan"]
    forget(trio, tmp_path, signed=6)
    tell(trio, *PEERS)
    jinan.member.membership.accept_update([], [jinan.member.card], teller="yantai")
    assert "qingdao has shown" in str(jinan.member.confirmation.outdated), "each for itself"
    jinan.member.membership.amend(RemoveMember("qingdao", Head(0, jinan.member.store.logs.head_of("qingdao").root)))
    assert jinan.member.confirmation.outdated is None


def test_older_cards_and_those_that_say_nothing_of_the_log_key_stop_nothing(trio: RotatingAlliance) -> None:
    jinan = trio["jinan"]
    push(jinan, 2, "A")
    older = [own_card(jinan)]
    for role in ("witness", "log", "tls"):
        older.append(jinan.rotation.rotate(role))
        push(jinan, 1, role)
    for card in older:
        raw = format_envelope(build_envelope(card_content(card), CARD_TYPE, jinan.member.lab.sign))
        jinan.member.membership.accept_update([], [raw], teller="qingdao")
        assert jinan.member.membership.unheld_cards() == [] and jinan.member.confirmation.confirmed
    held = own_card(jinan)
    assert not is_unheld(held, replace(held, name="Other", seq=held.seq))
    assert is_unheld(held, replace(held, name="Other", seq=held.seq + 1))
    assert is_unheld(held, replace(held, log_key=older[0].log_key, seq=1))
    assert not is_unheld(replace(held, identity_key=bytes(32)), replace(held, seq=held.seq + 9))


def test_of_two_cards_that_part_neither_file_is_recommended_but_a_new_identity_key(
    trio: RotatingAlliance, tmp_path: Path
) -> None:
    """To take the one is answered with the other, and that with the first, for ever."""
    jinan = trio["jinan"]
    push(jinan, 2, "A")
    backup = jinan.member.snapshot(tmp_path / "fork")
    jinan.rotation.rotate("log")
    assert trio.tell_card("jinan", "qingdao") == []
    jinan.member.roll_back(backup)
    jinan.lose()
    jinan.member.confirm()
    jinan.member.clock.turn(60)
    jinan.rotation.rotate("log", without_peers=True)  # at the same size and root: one history, two cards
    assert trio.tell_card("jinan", "yantai") == []
    for chosen, other in (PEERS, PEERS[::-1]):
        jinan.member.membership.import_alliance(*trio.simulated.exported(chosen), fingerprint=None)
        tell(trio, other)
        require_silent(jinan, f"{other} has shown")
        remedy = jinan.member.confirmation.remedy
        assert "labmesh keys identity -o FILE" in remedy and "labmesh roster rekey MEMBER FILE --offline" in remedy
        assert "labmesh join" not in remedy
