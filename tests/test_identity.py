"""A new identity key for a home: made beside the old one, in its place when the roster that names it has arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from node.core.alliance import format_card
from node.core.amendment import AddMembers, ReplaceIdentity, SeatCouncil
from node.core.card import parse_card, verify_card
from node.errors import GovernanceError, HomeError
from node.home import Home, create_home
from node.identity import abandon_identity, is_identity_pending, propose_identity, settle_identity
from node.keyfiles import KeyFiles
from node.membership import Membership
from node.store import Store
from tests.alliance import NOON
from tests.cli.conftest import run
from tests.rotating import Rotating, RotatingAlliance

MEMBERS = ("jinan", "qingdao", "yantai")


class Opened:
    """A home that is open, as the command line opens it."""

    def __init__(self, folder: Path, member: str) -> None:
        self.home = Home(folder / member)
        create_home(
            self.home.path,
            member=member,
            alliance="q.example",
            name=member,
            region="CN-37",
            address=f"{member}.example:7443",
        )
        self.files: KeyFiles = self.home.key_files()
        self.member = member
        self.store: Store
        self.membership: Membership
        self.open()

    def open(self) -> None:
        """As after a start."""
        self.store = self.home.open_store()
        raw = self.store.membership.load_own_card(self.member)
        assert raw is not None
        self.settled = settle_identity(self.files, parse_card(raw)[1])
        keys = self.home.load_keys(self.member, "q.example")
        self.membership = Membership(self.store.membership, identity=keys.identity, clock=lambda: NOON)

    def reopen(self) -> None:
        self.store.close()
        self.open()

    def propose(self) -> bytes:
        return propose_identity(self.files, self.membership.own_card)


@pytest.fixture
def council(tmp_path: Path) -> dict[str, Opened]:
    """Three homes, all of them the council; two must sign."""
    homes = {member: Opened(tmp_path, member) for member in MEMBERS}
    jinan = homes["jinan"].membership
    jinan.found("Quality")
    jinan.add_members([format_card(homes[member].membership.own_card) for member in MEMBERS[1:]])
    for member in MEMBERS[1:]:
        homes[member].membership.import_alliance(*jinan.newer_than(0, {}), fingerprint=jinan.joined.fingerprint)
    ballot = jinan.amend(SeatCouncil(MEMBERS, 2))
    homes["qingdao"].membership.sign_proposal(ballot.proposal)
    spread(homes, "qingdao")
    return homes


@pytest.fixture
def alliance(tmp_path: Path) -> Iterator[RotatingAlliance]:
    """Running nodes."""
    made = RotatingAlliance(tmp_path, 2)
    yield made
    made.close()


def spread(homes: dict[str, Opened], source: str) -> None:
    for opened in homes.values():
        opened.membership.accept_update(*homes[source].membership.newer_than(0, {}))


def rekey(homes: dict[str, Opened], card: bytes) -> None:
    ballot = homes["jinan"].membership.amend(ReplaceIdentity("yantai", card))
    assert homes["qingdao"].membership.sign_proposal(ballot.proposal).complete
    spread(homes, "qingdao")


def test_the_whole_way(council: dict[str, Opened]) -> None:
    yantai = council["yantai"]
    old = yantai.membership.identity_key
    raw = yantai.propose()
    envelope, card = parse_card(raw)
    verify_card(envelope, card, card.identity_key)
    assert card.identity_key != old
    held = yantai.membership.own_card[1]
    assert (card.seq, card.log_key, card.tls_certificates) == (2, held.log_key, held.tls_certificates)
    assert parse_card(yantai.propose())[1].identity_key == card.identity_key, "one key waits, however often it is asked for"
    yantai.reopen()
    assert (yantai.settled, yantai.membership.identity_key) == (False, old), "nothing changes before the council has spoken"
    rekey(council, raw)
    assert yantai.membership.identity_key == old
    yantai.reopen()
    assert (yantai.settled, yantai.membership.identity_key) == (True, card.identity_key)
    assert not yantai.files.next_path("identity").exists()
    yantai.reopen()
    assert (yantai.settled, yantai.membership.identity_key) == (False, card.identity_key)
    assert yantai.membership.reissue_card(name="Yantai, with a new key", region="CN-37", endpoints=())
    spread(council, "yantai")
    assert council["jinan"].membership.joined.card("yantai").name == "Yantai, with a new key"
    ballot = council["jinan"].membership.amend(SeatCouncil(("jinan", "yantai"), 2))
    assert yantai.membership.sign_proposal(ballot.proposal).complete, "the seat has moved with the key"


def test_a_lost_key(council: dict[str, Opened]) -> None:
    """The home can take the council's roster although its identity key is gone."""
    yantai = council["yantai"]
    yantai.files.path("identity").unlink()
    yantai.store.close()
    with pytest.raises(HomeError):
        yantai.home.load_keys("yantai", "q.example")
    raw = yantai.propose()
    yantai.open()
    key = parse_card(raw)[1].identity_key
    assert (yantai.settled, yantai.membership.identity_key) == (True, key)
    rekey(council, raw)
    assert yantai.membership.joined.card("yantai").identity_key == key


def test_a_card_that_the_council_did_not_take_changes_nothing(council: dict[str, Opened]) -> None:
    yantai = council["yantai"]
    raw, old = yantai.propose(), yantai.membership.identity_key
    update = council["jinan"].membership.accept_update([], [raw])
    assert (update.changed, len(update.faults)) == (False, 1)
    assert not yantai.membership.accept_update([], [raw]).changed
    yantai.reopen()
    assert yantai.membership.identity_key == old


def test_a_crash_after_the_key_was_written(council: dict[str, Opened], monkeypatch: pytest.MonkeyPatch) -> None:
    yantai = council["yantai"]
    monkeypatch.setattr("node.identity.format_envelope", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        yantai.propose()
    monkeypatch.undo()
    waiting = yantai.files.load_ed25519(yantai.files.next_path("identity")).public_key().public_bytes_raw()
    assert parse_card(yantai.propose())[1].identity_key == waiting


def test_the_waiting_key_is_as_private_as_the_others(council: dict[str, Opened]) -> None:
    yantai = council["yantai"]
    yantai.propose()
    assert yantai.files.next_path("identity").stat().st_mode & 0o777 == 0o600
    yantai.files.protect(b"correct horse battery")
    with pytest.raises(HomeError, match="passphrase"):
        yantai.propose()
    opened = yantai.home.key_files(b"correct horse battery")
    assert parse_card(propose_identity(opened, yantai.membership.own_card))[1].seq == 2


def test_the_same_command_again_signs_the_same_card(council: dict[str, Opened]) -> None:
    """Two cards of one `seq` under one key would be evidence; also when a backup was restored in between."""
    yantai = council["yantai"]
    raw = yantai.propose()
    assert yantai.propose() == raw
    yantai.reopen()
    assert yantai.propose() == raw
    rekey(council, raw)
    assert yantai.files.next_path("identity").exists() and yantai.propose() == raw, "in force, and not yet in its place"
    yantai.reopen()
    assert yantai.settled and yantai.membership.own_card[1] == parse_card(raw)[1]
    assert parse_card(yantai.propose())[1].seq == parse_card(raw)[1].seq + 1, "another key, another card"


def test_a_newer_own_card_makes_another_card_of_another_seq(council: dict[str, Opened]) -> None:
    """A restored home that has taken its newer card from a peer proposes again."""
    yantai = council["yantai"]
    first = parse_card(yantai.propose())[1]
    assert yantai.membership.reissue_card(name="Newer", region="CN-37", endpoints=())
    second = parse_card(yantai.propose())[1]
    assert (second.identity_key, second.seq, second.name) == (first.identity_key, first.seq + 1, "Newer")


def test_a_waiting_key_is_given_up(council: dict[str, Opened]) -> None:
    yantai = council["yantai"]
    old, raw = yantai.membership.identity_key, yantai.propose()
    abandon_identity(yantai.files, "yantai", yantai.membership.alliance)
    assert not is_identity_pending(yantai.files)
    yantai.reopen()
    assert (yantai.settled, yantai.membership.identity_key) == (False, old)
    assert yantai.membership.reissue_card(name="With the old key", region="CN-37", endpoints=())
    spread(council, "yantai")
    assert council["jinan"].membership.joined.card("yantai").name == "With the old key"
    # The council signs the abandoned card all the same: nobody has its key, and another one is made.
    rekey(council, raw)
    again = yantai.propose()
    assert parse_card(again)[1].identity_key not in (old, parse_card(raw)[1].identity_key)
    rekey(council, again)
    yantai.reopen()
    assert (yantai.settled, yantai.membership.identity_key) == (True, parse_card(again)[1].identity_key)


def test_what_cannot_be_given_up(council: dict[str, Opened]) -> None:
    yantai = council["yantai"]
    with pytest.raises(GovernanceError, match="no new identity key waits"):
        abandon_identity(yantai.files, "yantai", yantai.membership.alliance)
    raw = yantai.propose()
    kept = yantai.files.path("identity").rename(yantai.files.folder / "elsewhere")
    with pytest.raises(GovernanceError, match="the old identity key is gone"):
        abandon_identity(yantai.files, "yantai", yantai.membership.alliance)
    kept.rename(yantai.files.path("identity"))
    rekey(council, raw)
    with pytest.raises(GovernanceError, match="names the new identity key already") as refused:
        abandon_identity(yantai.files, "yantai", yantai.membership.alliance)
    assert "restart" in refused.value.hint and is_identity_pending(yantai.files)


def test_a_roster_that_comes_while_the_question_stands(council: dict[str, Opened], monkeypatch: pytest.MonkeyPatch) -> None:
    """The new key is the member's only one then."""
    yantai = council["yantai"]
    raw = yantai.propose()
    monkeypatch.setattr("cli.commands.keys.require_consent", lambda _app, _question: rekey(council, raw))
    refused = run("keys", "identity", "--abandon", "--json", home=yantai.home.path)
    assert refused.exit_code == 1 and "names the new identity key already" in refused.error["message"]
    assert is_identity_pending(yantai.files)


def test_no_roster_comes_in_between(alliance: RotatingAlliance, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the look at the roster to the end of the file, a roster that names the new key is kept waiting."""
    jinan, qingdao = alliance["jinan"].member.membership, alliance["qingdao"]
    old = qingdao.member.membership.identity_key
    raw = propose_identity(qingdao.files, qingdao.member.membership.own_card)
    jinan.amend(ReplaceIdentity("qingdao", raw))
    told = jinan.newer_than(0, {})
    teller = Thread(target=qingdao.member.membership.accept_update, args=told)
    drop, seen = KeyFiles.drop_next, []

    def stall(files: KeyFiles, name: str) -> None:
        teller.start()
        teller.join(0.3)
        seen.append(qingdao.member.membership.joined.roster.members["qingdao"].identity_key)
        drop(files, name)

    monkeypatch.setattr(KeyFiles, "drop_next", stall)
    qingdao.rotation.abandon_identity()
    teller.join(10)
    assert seen == [old] and not is_identity_pending(qingdao.files)
    assert qingdao.member.membership.joined.roster.members["qingdao"].identity_key != old, "it came after"


@pytest.mark.parametrize("change", [lambda node: node.rotation.rotate("log"), lambda node: node.rotation.revoke_log(0)])
def test_other_keys_wait_and_are_told_for_what(alliance: RotatingAlliance, change: Callable[[Rotating], object]) -> None:
    jinan, qingdao = alliance["jinan"].member.membership, alliance["qingdao"]
    raw = propose_identity(qingdao.files, qingdao.member.membership.own_card)
    with pytest.raises(GovernanceError, match="waits for the council") as refused:
        change(qingdao)
    assert "roster rekey" in refused.value.hint and "--abandon" in refused.value.hint
    jinan.amend(ReplaceIdentity("qingdao", raw))
    qingdao.member.membership.accept_update(*jinan.newer_than(0, {}))
    with pytest.raises(GovernanceError, match="the roster names the new identity key of this home already") as refused:
        change(qingdao)
    assert refused.value.hint.startswith("restart the node") and "--abandon" not in refused.value.hint


def test_a_running_node_keeps_a_key_that_the_roster_names(alliance: RotatingAlliance) -> None:
    jinan, qingdao = alliance["jinan"].member.membership, alliance["qingdao"]
    jinan.amend(ReplaceIdentity("qingdao", propose_identity(qingdao.files, qingdao.member.membership.own_card)))
    qingdao.member.membership.accept_update(*jinan.newer_than(0, {}))
    with pytest.raises(GovernanceError, match="names the new identity key already"):
        qingdao.rotation.abandon_identity()
    assert is_identity_pending(qingdao.files)


def test_a_new_identity_key_of_a_home_that_has_forgotten_its_newest_cards(council: dict[str, Opened]) -> None:
    """Its card has a smaller `seq` than the one that everybody held: that one is by a key that counts no longer."""
    yantai = council["yantai"]
    raw = yantai.propose()
    yantai.files.next_path("identity").rename(yantai.files.folder / "waiting")
    for name in ("One", "Two", "Three"):
        assert yantai.membership.reissue_card(name=name, region="CN-37", endpoints=())
    (yantai.files.folder / "waiting").rename(yantai.files.next_path("identity"))
    spread(council, "yantai")
    rekey(council, raw)
    for opened in council.values():
        opened.reopen()
        assert opened.membership.joined.card("yantai") == parse_card(raw)[1]
    assert yantai.settled and yantai.membership.own_card[1] == parse_card(raw)[1]
    assert yantai.membership.reissue_card(name="Four", region="CN-37", endpoints=())
    spread(council, "yantai")
    assert council["jinan"].membership.joined.card("yantai").name == "Four"


def test_a_newer_card_with_the_same_key_needs_no_council(council: dict[str, Opened]) -> None:
    yantai = council["yantai"]
    assert yantai.membership.reissue_card(name="Newer", region="CN-37", endpoints=())
    raw = format_card(yantai.membership.own_card)
    for amendment in (ReplaceIdentity("yantai", raw), AddMembers((raw,))):
        with pytest.raises(GovernanceError) as refused:
            council["jinan"].membership.amend(amendment)
        assert "labmesh join CARD" in refused.value.hint
    council["jinan"].membership.import_alliance([], [raw], fingerprint=None)
    assert council["jinan"].membership.joined.card("yantai").name == "Newer"
