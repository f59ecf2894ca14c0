"""Who may change the roster, what a card is good for now, whose card is missing, and whose file this is: said in words."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from pathlib import Path

import pytest

from cli.governance import read_held_alliance
from cli.seat import describe_card_use, explain_missing
from node.core.alliance import format_card
from node.errors import GovernanceError
from node.home import Home
from tests.cli.conftest import ALLIANCE, init
from tests.cli.conftest import run as run_alone
from tests.cli.conftest import run_offline as run
from tests.cli.fake_node import serve


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two homes in one alliance, of which jinan is the council; made once, to be copied."""
    folder = tmp_path_factory.mktemp("seats")
    jinan, qingdao = init(folder / "jinan"), init(folder / "qingdao", "qingdao")
    assert run("roster", "create", "--title", "T", home=jinan).exit_code == 0
    assert run("card", "-o", folder / "qingdao.card", home=qingdao).exit_code == 0
    assert run("roster", "add", folder / "qingdao.card", home=jinan).exit_code == 0
    return folder


@pytest.fixture
def pair(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the homes, with the file of the alliance, in the current folder."""
    shutil.copytree(made, tmp_path / "pair")
    monkeypatch.chdir(tmp_path / "pair")
    assert run("roster", "export", "-o", "alliance.json", home=Path("jinan").absolute()).exit_code == 0
    shutil.copytree("qingdao", "fresh")
    return tmp_path / "pair"


def fingerprint(home: Path) -> str:
    return str(run("roster", "show", "--json", home=home).document["fingerprint"])


def join(pair: Path, file: str = "alliance.json") -> None:
    ended = run("join", file, "--fingerprint", fingerprint(pair / "jinan"), home=pair / "qingdao")
    assert ended.exit_code == 0, ended


class TestSeat:
    @pytest.mark.parametrize(
        "args",
        [
            ("renew",),
            ("quorum", "1"),
            ("threshold", "1"),
            ("council", "qingdao"),
            ("remove", "jinan"),
            ("add", "qingdao.card"),
            ("rekey", "qingdao", "qingdao.card"),
            ("settle", "qingdao.card", "--keep", "first"),
        ],
        ids=" ".join,
    )
    def test_who_has_none_is_told_before_anything_is_asked(self, pair: Path, args: tuple[str, ...], monkeypatch) -> None:
        """Without its node this home would else be asked for a risk that it cannot take."""
        join(pair)
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
        ended = run_alone("roster", *args, home=pair / "qingdao")
        assert (ended.exit_code, ended.out) == (1, "")
        assert ended.err == (
            f"error: qingdao does not sit on the council of {ALLIANCE}, so it cannot change the roster\n"
            "hint: send the card or the wish to a member of the council: jinan\n"
        )

    def test_before_an_alliance_there_is_no_council(self, pair: Path) -> None:
        ended = run("roster", "renew", "--json", home=pair / "qingdao")
        assert ended.exit_code == 1 and "does not belong to an alliance yet" in ended.error["message"]


class TestCard:
    def test_a_newcomer_sends_it_to_the_council(self, pair: Path) -> None:
        ended = run("card", "-o", "new.card", home=pair / "qingdao")
        assert "who types: labmesh roster add FILE" in ended.out

    def test_a_member_needs_nobody(self, pair: Path) -> None:
        join(pair)
        ended = run("card", "-o", "new.card", home=pair / "qingdao")
        assert "roster add" not in ended.out and "labmesh join FILE" in ended.out
        assert f"qingdao is a member of {ALLIANCE}: running nodes get this card by themselves" in ended.out

    def test_a_removed_member_reads_who_decides(self, pair: Path) -> None:
        join(pair)
        assert run("roster", "remove", "qingdao", home=pair / "jinan").exit_code == 0
        assert run("roster", "export", "-o", "later.json", home=pair / "jinan").exit_code == 0
        assert run("join", "later.json", home=pair / "qingdao").exit_code == 0
        ended = run("card", "-o", "new.card", home=pair / "qingdao")
        assert "was removed" in ended.out and "council (jinan)" in ended.out and "labmesh" not in ended.out

    def test_another_identity_key_needs_the_council(self, pair: Path) -> None:
        join(pair)
        assert run("keys", "identity", "-o", "q2.card", home=pair / "qingdao").exit_code == 0
        assert run("roster", "rekey", "qingdao", "q2.card", home=pair / "jinan").exit_code == 0
        held = read_held_alliance(Home(pair / "jinan"))
        before = read_held_alliance(Home(pair / "qingdao"))
        told = describe_card_use(type(held)(before.identity, before.own_card, held.alliance))
        assert "council (jinan)" in told and "labmesh roster rekey qingdao FILE" in told

    def test_a_new_one_in_force_waits_for_a_restart_and_is_no_accident(self, pair: Path) -> None:
        join(pair)
        assert run("keys", "identity", "-o", "q2.card", home=pair / "qingdao").exit_code == 0
        assert "the new identity key" not in run("doctor", home=pair / "qingdao").out
        assert run("roster", "rekey", "qingdao", "q2.card", home=pair / "jinan").exit_code == 0
        assert run("roster", "export", "-o", "later.json", home=pair / "jinan").exit_code == 0
        assert run("join", "later.json", home=pair / "qingdao").exit_code == 0
        told = run("doctor", home=pair / "qingdao").out
        assert "the roster names the new identity key of this home" in told and "restart the node" in told
        assert "cut off" not in told


class TestMissingCards:
    @pytest.fixture
    def lacking(self, pair: Path) -> Path:
        """Qingdao has joined with a file from which the card of jinan was left out."""
        content = json.loads(Path("alliance.json").read_bytes())
        content["cards"] = [card for card in content["cards"] if card != json.loads(self.card_of(pair, "jinan"))]
        assert len(content["cards"]) == 1
        Path("lacking.json").write_text(json.dumps(content))
        return pair

    def card_of(self, pair: Path, member: str) -> bytes:
        alliance = read_held_alliance(Home(pair / "jinan")).alliance
        assert alliance is not None
        return format_card(alliance.cards[member])

    def test_every_command_that_knows_says_so(self, lacking: Path) -> None:
        qingdao = lacking / "qingdao"
        joined = run("join", "lacking.json", "--fingerprint", fingerprint(lacking / "jinan"), home=qingdao)
        shown, exported = run("roster", "show", home=qingdao), run("roster", "export", "-o", "again.json", home=qingdao)
        for ended in (joined, shown, exported):
            assert ended.exit_code == 0
            assert ended.err == (
                "no card of jinan counts here (none has arrived yet), so this node neither reaches it nor verifies its log; "
                f"ask jinan to type: labmesh card -o FILE; with that file type: labmesh --home {qingdao} join FILE\n"
            )
        findings = run("doctor", "--json", home=qingdao).document["findings"]
        (found,) = [finding for finding in findings if finding["check"] == "cards"]
        assert found["level"] == "warning" and found["message"].startswith("no card of jinan counts here")

    def test_what_the_hint_says_helps(self, lacking: Path) -> None:
        join(lacking, "lacking.json")
        assert run("card", "-o", "jinan.card", home=lacking / "jinan").exit_code == 0
        assert run("join", "jinan.card", home=lacking / "qingdao").err == ""
        assert run("roster", "show", home=lacking / "qingdao").err == ""

    def test_a_stored_card_that_counts_no_longer_says_why(self, pair: Path) -> None:
        """Its member has another identity key by now."""
        old = self.card_of(pair, "qingdao")
        assert run("keys", "identity", "-o", "q2.card", home=pair / "qingdao").exit_code == 0
        assert run("roster", "rekey", "qingdao", "q2.card", home=pair / "jinan").exit_code == 0
        alliance = read_held_alliance(Home(pair / "jinan")).alliance
        assert alliance is not None
        assert "qingdao" in explain_missing(alliance, [old]) and "signed" in explain_missing(alliance, [old])
        assert explain_missing(alliance, []) == "none has arrived yet"


class TestOthersFiles:
    @pytest.mark.parametrize("joined", [False, True])
    def test_the_file_of_another_alliance(self, pair: Path, joined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody is asked to compare a fingerprint that cannot be the right one."""
        if joined:
            join(pair)
        other = init(pair / "other", "tianjin", "food.tianjin.example")
        assert run("roster", "create", "--title", "T", home=other).exit_code == 0
        assert run("roster", "export", "-o", "other.json", home=other).exit_code == 0
        assert run("card", "-o", "other.card", home=other).exit_code == 0
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
        for file in ("other.json", "other.card"):
            ended = run("join", file, home=pair / "qingdao")
            assert (ended.exit_code, ended.out) == (1, "")
            assert f"{file} is for the alliance food.tianjin.example, this home was made for {ALLIANCE}" in ended.err
            assert "hint: ask a member of quality.jinan.example for its file" in ended.err

    def test_a_fingerprint_that_is_in_no_roster(self, pair: Path) -> None:
        join(pair)
        ended = run("join", "alliance.json", "--fingerprint", "0" * 64, "--json", home=pair / "qingdao")
        assert ended.exit_code == 1 and "labmesh roster export -o FILE" in ended.error["hint"]

    def test_the_same_through_a_running_node(self, pair: Path) -> None:
        """What the node refuses without a hint gets one, and its own hints stay."""
        join(pair)
        home = Path(tempfile.mkdtemp(prefix="lm"))
        shutil.copytree(pair / "qingdao", home, dirs_exist_ok=True)
        with Home(home).lock(), serve(home / "labmesh.sock") as node:
            for hint, shown in (("", "labmesh roster export -o FILE"), ("type: x", "type: x")):
                node.answers["ImportAlliance"] = GovernanceError("no roster has it", hint=hint)
                ended = run("join", "alliance.json", "--json", home=home)
                assert (ended.exit_code, ended.error["message"]) == (1, "no roster has it")
                assert shown in ended.error["hint"]
        shutil.rmtree(home)

    def test_a_file_with_nothing_new_and_one_with_a_newer_card(self, pair: Path) -> None:
        join(pair)
        assert "; the file holds nothing that is newer.\n" in run("join", "alliance.json", home=pair / "qingdao").out
        content = json.loads(Path("alliance.json").read_bytes())
        lacking = [card for card in content["cards"] if b'"member":"jinan"' not in base64.b64decode(card["payload"])]
        assert len(lacking) == 1
        Path("lacking.json").write_text(json.dumps({**content, "cards": lacking}))
        fresh = pair / "fresh"
        assert run("join", "lacking.json", "--fingerprint", fingerprint(pair / "jinan"), home=fresh).exit_code == 0
        assert "; newer cards were taken of jinan.\n" in run("join", "alliance.json", home=fresh).out

    def test_who_declines_a_fingerprint_reads_whom_to_ask(self, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
        ended = run("join", "alliance.json", home=pair / "qingdao", stdin="n\n")
        assert ended.exit_code == 1 and "hint: ask a member you know for the file that `labmesh roster export" in ended.err


class TestProposer:
    def test_the_proposer_reads_what_follows_from_a_change(self, pair: Path) -> None:
        """The default quorum goes with the number of members."""
        yantai = init(pair / "yantai", "yantai")
        assert run("card", "-o", "yantai.card", home=yantai).exit_code == 0
        weifang = init(pair / "weifang", "weifang")
        assert run("card", "-o", "weifang.card", home=weifang).exit_code == 0
        added = run("roster", "add", "yantai.card", "weifang.card", home=pair / "jinan")
        assert "  yantai (Yantai 检验院, CN-37) joins, with the identity key " in added.out
        assert "  the quorum becomes 2; it was 1\n" in added.out
        removed = run("roster", "remove", "yantai", home=pair / "jinan")
        assert "  yantai is removed, for good; " in removed.out and "  the quorum becomes 1; it was 2\n" in removed.out

    def test_also_where_others_must_sign(self, pair: Path) -> None:
        join(pair)
        jinan = pair / "jinan"
        assert run("roster", "council", "jinan", "qingdao", "--threshold", "2", "-o", "p.json", home=jinan).exit_code == 0
        assert run("roster", "sign", "p.json", home=pair / "qingdao").exit_code == 0
        assert run("join", "p.json", home=jinan).exit_code == 0
        for name in ("yantai", "weifang"):
            assert run("card", "-o", f"{name}.card", home=init(pair / name, name)).exit_code == 0
        proposed = run("roster", "add", "yantai.card", "weifang.card", "-o", "add.json", home=jinan)
        lines = [line for line in proposed.out.splitlines() if line.startswith("  ")]
        assert "  the quorum becomes 2; it was 1" in lines
        signed = run("roster", "sign", "add.json", home=pair / "qingdao")
        assert [line for line in signed.out.splitlines() if line.startswith("  ")] == lines
