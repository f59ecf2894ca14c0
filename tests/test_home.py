"""A home: made whole or not at all, with keys that nobody else can read, and used by one process at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from node import home as home_module
from node.core.card import Card, parse_card, verify_card
from node.core.certificate import certificate_name, parse_certificate, require_name
from node.core.keys import format_base64
from node.core.names import log_origin, witness_name
from node.errors import ConfigError, FormatError, HomeError, LabmeshError
from node.home import SOCKET_PATH_MAX, Home, create_home
from node.keyfiles import KEY_NAMES, build_certificate, is_protected
from node.membership import Membership

ALLIANCE = "quality.jinan.example"
ARGUMENTS: dict[str, str] = {
    "member": "jinan",
    "alliance": ALLIANCE,
    "name": '济南 "Quality" Institute',
    "region": "CN-37",
    "address": "lab.example:7443",
}


def create(path: Path, **changes: Any) -> Card:
    return create_home(path, **{**ARGUMENTS, **changes})


def tree(path: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(path)): sha256(file.read_bytes()).digest() for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that no test changes."""
    path = tmp_path_factory.mktemp("made") / "deeper" / "home"
    create(path)
    return Home(path)


@pytest.fixture
def home(made: Home, tmp_path: Path) -> Home:
    """A home of one's own."""
    shutil.copytree(made.path, tmp_path / "home")
    return Home(tmp_path / "home")


class TestCreating:
    def test_what_is_in_it(self, made: Home) -> None:
        assert sorted(tree(made.path)) == sorted(
            ["labmesh.sqlite", "labmesh.toml", "search.sqlite", *(f"keys/{name}.pem" for name in KEY_NAMES)]
        )
        settings = made.load_settings()
        assert (settings.name, settings.region) == (ARGUMENTS["name"], "CN-37")
        assert (settings.address, settings.listen) == (("lab.example:7443",), "0.0.0.0:7443")

    def test_only_its_owner_may_look(self, made: Home) -> None:
        assert made.path.stat().st_mode & 0o077 == 0
        for name in KEY_NAMES:
            assert made.key_path(name).stat().st_mode & 0o777 == 0o600
        assert made.database_path.stat().st_mode & 0o077 == 0

    def test_the_first_card(self, tmp_path: Path) -> None:
        card = create(tmp_path / "home")
        home = Home(tmp_path / "home")
        keys = home.load_keys("jinan", ALLIANCE)
        store = home.open_store()
        raw = store.membership.load_own_card("jinan")
        assert raw is not None
        envelope, stored = parse_card(raw)
        verify_card(envelope, stored, keys.identity.public_key)
        assert stored == card
        assert (card.member, card.alliance, card.seq, card.previous) == ("jinan", ALLIANCE, 1, None)
        assert (card.name, card.region, card.endpoints) == (ARGUMENTS["name"], "CN-37", ("lab.example:7443",))
        assert (card.log_key, card.witness_key) == (keys.log.key, keys.witness.key)
        assert (card.log_key.name, card.witness_key.name) == (log_origin(ALLIANCE, "jinan"), witness_name(ALLIANCE, "jinan"))
        identity = store.membership.load_identity()
        assert (identity.member, identity.alliance, identity.fingerprint) == ("jinan", ALLIANCE, None)
        membership = Membership(store.membership, identity=keys.identity, clock=lambda: datetime.now(UTC))
        assert membership.found("Alone").active_members() == ["jinan"]
        store.close()

    def test_one_key_has_one_role(self, made: Home) -> None:
        keys = made.load_keys("jinan", ALLIANCE)
        publics = {keys.identity.public_key, keys.log.key.public_key, keys.witness.key.public_key}
        assert len(publics) == 3

    def test_an_empty_folder_may_be_there(self, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        create(tmp_path / "home", listen="127.0.0.1:0")
        assert Home(tmp_path / "home").load_settings().listen == "127.0.0.1:0"

    def test_nothing_is_overwritten(self, home: Home) -> None:
        before = tree(home.path)
        with pytest.raises(HomeError, match="exists already; nothing was changed"):
            create(home.path, member="qingdao")
        assert tree(home.path) == before

    @pytest.mark.parametrize("content", [b"", b"a file"])
    def test_a_file_in_its_place_stays(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "home").write_bytes(content)
        with pytest.raises(HomeError, match="exists already"):
            create(tmp_path / "home")
        assert tree(tmp_path) == {"home": sha256(content).digest()}

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"member": "Jinan"}, FormatError),
            ({"member": ""}, FormatError),
            ({"alliance": "jinan"}, FormatError),
            ({"address": "lab.example"}, FormatError),
            ({"listen": "everywhere"}, ConfigError),
            ({"name": ""}, FormatError),
            ({"name": "a\nb"}, FormatError),
            ({"region": "x" * 101}, FormatError),
            ({"name": "a\ud800"}, LabmeshError),
        ],
    )
    def test_impossible_names_leave_nothing(
        self, tmp_path: Path, changes: dict[str, str], error: type[LabmeshError]
    ) -> None:
        with pytest.raises(error):
            create(tmp_path / "home", **changes)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("step", ["build_certificate", "create_store", "parse_card", "format_settings", "load_settings"])
    def test_a_half_made_home_never_appears(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        real: Callable[..., Any] = getattr(home_module, step)

        def fail_afterwards(*args: Any, **named: Any) -> None:
            result = real(*args, **named)
            if step == "create_store":
                result.close()
            assert not (tmp_path / "home").exists()
            raise OSError("no space left on device")

        monkeypatch.setattr(home_module, step, fail_afterwards)
        with pytest.raises(OSError, match="no space left"):
            create(tmp_path / "home")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("letter", "over"), [("x", 1), ("检", 0)], ids=["characters", "bytes"])
    def test_a_path_that_is_too_long_for_a_socket(self, tmp_path: Path, letter: str, over: int) -> None:
        room = SOCKET_PATH_MAX - len(str(tmp_path / "x" / "labmesh.sock")) + 1
        path = tmp_path / (letter * (room + over))
        assert len(str(path / "labmesh.sock")) == SOCKET_PATH_MAX + over
        with pytest.raises(HomeError, match="too long for a Unix socket") as caught:
            create(path)
        assert "shorter" in caught.value.hint
        assert list(tmp_path.iterdir()) == []


class TestOpening:
    def test_what_is_no_home(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "missing"):
            for use in (Home(path).require, Home(path).open_store):
                with pytest.raises(HomeError, match="is not the home of a Labmesh node") as caught:
                    use()
                assert f"labmesh --home {path} init" in caught.value.hint
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["labmesh.toml", "labmesh.sqlite"])
    def test_a_home_without_its_settings_or_database(self, home: Home, name: str) -> None:
        (home.path / name).unlink()
        with pytest.raises(HomeError, match=f"without {name}; keep the folder") as caught:
            home.require()
        assert "init" not in caught.value.hint

    @pytest.mark.parametrize("name", KEY_NAMES)
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_keys_that_others_can_read(self, home: Home, name: str, mode: int) -> None:
        path = home.key_path(name)
        path.chmod(mode)
        with pytest.raises(HomeError, match="can be read by others") as caught:
            home.load_keys("jinan", ALLIANCE)
        assert caught.value.hint == f"type: chmod 600 {path}"
        path.chmod(0o400)
        home.load_keys("jinan", ALLIANCE)

    def test_a_missing_identity_key(self, home: Home) -> None:
        home.key_path("identity").unlink()
        with pytest.raises(HomeError, match="no card and no roster can be signed") as caught:
            home.load_keys("jinan", ALLIANCE)
        assert "backup" in caught.value.hint and "labmesh roster rekey" in caught.value.hint

    @pytest.mark.parametrize("name", ["log", "witness", "tls"])
    def test_another_missing_key_is_stood_in_for(self, home: Home, name: str) -> None:
        """By one that no card names: the node runs, and signs nothing with it."""
        card = home.load_keys("jinan", ALLIANCE)
        home.key_path(name).unlink()
        first, second = home.load_keys("jinan", ALLIANCE), home.load_keys("jinan", ALLIANCE)
        assert not home.key_path(name).exists()
        for keys in (first, second):
            assert (keys.log.key == card.log.key, keys.witness.key == card.witness.key) == (name != "log", name != "witness")
            assert (keys.tls_key_pem == card.tls_key_pem) == (name != "tls")
        assert first.tls_key_pem == second.tls_key_pem or name == "tls"

    def test_a_file_that_is_no_key(self, home: Home) -> None:
        home.key_path("log").write_bytes(b"no key")
        with pytest.raises(HomeError, match="is not a private key in PEM"):
            home.load_keys("jinan", ALLIANCE)

    def test_a_key_of_another_type(self, home: Home) -> None:
        home.key_path("log").write_bytes(home.key_path("tls").read_bytes())
        with pytest.raises(HomeError, match="is not an Ed25519 key"):
            home.load_keys("jinan", ALLIANCE)

    def test_a_key_with_a_passphrase(self, home: Home) -> None:
        key = serialization.load_pem_private_key(home.key_path("log").read_bytes(), None)
        home.key_path("log").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        with pytest.raises(HomeError, match="is protected by a passphrase") as refusal:
            home.load_keys("jinan", ALLIANCE)
        assert "LABMESH_PASSPHRASE" in refusal.value.hint
        with pytest.raises(HomeError, match=r"the passphrase does not open .*log\.pem"):
            home.load_keys("jinan", ALLIANCE, b"Secret")
        # The other keys have none: what opens one key does no harm to another.
        assert home.load_keys("jinan", ALLIANCE, b"secret").log.sign(b"x")

    def test_a_protected_home(self, tmp_path: Path) -> None:
        card = create(tmp_path / "home", passphrase="口令 correct horse".encode())
        home = Home(tmp_path / "home")
        for name in KEY_NAMES:
            raw = home.key_path(name).read_bytes()
            assert is_protected(raw)
            serialization.load_pem_private_key(raw, "口令 correct horse".encode())
        keys = home.load_keys("jinan", ALLIANCE, "口令 correct horse".encode())
        assert keys.log.key == card.log_key
        assert not is_protected(keys.tls_key_pem)
        assert home.key_files().protected()

    @pytest.mark.parametrize(
        ("name", "mode", "mended"), [(".", 0o755, "700"), ("keys", 0o750, "700"), ("labmesh.sqlite", 0o644, "600"),
                                     ("keys/tls.pem", 0o640, "600"), ("keys/log.next.pem", 0o604, "600")]
    )  # fmt: skip
    def test_a_home_that_others_can_look_into(self, home: Home, name: str, mode: int, mended: str) -> None:
        home.require_private()
        path = home.path / name
        if not path.exists():
            path.touch()
        path.chmod(mode)
        with pytest.raises(HomeError, match="can be read by others") as refusal:
            home.require_private()
        assert refusal.value.hint == f"type: chmod {mended} {home.path / name}"
        subprocess.run(refusal.value.hint.removeprefix("type: ").split(), check=True)
        home.require_private()

    def test_a_group_may_pass_through_to_the_socket(self, home: Home) -> None:
        home.path.chmod(0o710)
        home.require_private()
        home.path.chmod(0o711)
        with pytest.raises(HomeError, match="can be read by others"):
            home.require_private()


LOCKING = """
import sys
from pathlib import Path
from node.errors import HomeError
from node.home import Home
try:
    with Home(Path(sys.argv[1])).lock():
        print("locked")
except HomeError as error:
    print(error.message + " | " + error.hint)
"""


class TestLock:
    def test_a_second_process_is_kept_out(self, home: Home) -> None:
        command = [sys.executable, "-c", LOCKING, str(home.path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with home.lock():
            said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        hint = "a daemon runs already: labmesh status; for what needs it stopped, stop it first"
        assert said == f"another process is using {home.path} | {hint}\n"

    def test_a_second_use_in_one_process_is_kept_out(self, home: Home) -> None:
        with home.lock(), pytest.raises(HomeError, match="another process is using"), home.lock():
            pass
        with home.lock():
            pass

    def test_it_is_let_go_when_the_work_fails(self, home: Home) -> None:
        with pytest.raises(ZeroDivisionError), home.lock():
            raise ZeroDivisionError
        with home.lock():
            assert home.lock_path.stat().st_mode & 0o777 == 0o600


class TestCertificate:
    def test_it_is_what_the_card_says(self, made: Home) -> None:
        store = made.open_store()
        raw = store.membership.load_own_card("jinan")
        store.close()
        assert raw is not None
        (der,) = parse_card(raw)[1].tls_certificates
        certificate = x509.load_der_x509_certificate(der)
        key = serialization.load_pem_private_key(made.key_path("tls").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.public_key() == certificate.public_key()
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [certificate_name(ALLIANCE, "jinan")]
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        certificate.verify_directly_issued_by(certificate)
        now = datetime.now(UTC)
        assert certificate.not_valid_before_utc < now - timedelta(hours=23)
        assert certificate.not_valid_after_utc > now + timedelta(days=3640)

    @pytest.mark.parametrize("member", ["a", "m" * 31])
    def test_the_longest_names_fit(self, member: str) -> None:
        alliance = ".".join(["x" * 63] * 3) + ".example"
        der = build_certificate(ec.generate_private_key(ec.SECP256R1()), alliance, member, datetime.now(UTC))
        assert parse_certificate(format_base64(der)) == der
        require_name(der, certificate_name(alliance, member))
