"""The certificate of the remote port: made once, made again only for a new name, never taken when it cannot be used."""

from __future__ import annotations

import os
import ssl
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from node.config import RemoteSettings
from node.errors import ConfigError
from node.remote_certificate import LIFETIME, RemoteFiles, build_certificate, prepare_files

NOW = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
NAMED = RemoteSettings("0.0.0.0:7444", ("node.lab.example", "10.0.0.5"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    return tmp_path


def write_pair(
    home: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, names: tuple[str, ...] = ("a.example",)
) -> None:
    """A certificate and its key, as an authority hands them out."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (home / "own.key").write_bytes(pem)
    (home / "own.key").chmod(0o600)
    (home / "own.pem").write_bytes(build_certificate(key, names, NOW).public_bytes(Encoding.PEM))


def shown_names(served: ssl.SSLContext, trusting: ssl.SSLContext, name: str) -> set[tuple[str, str]]:
    """Shake hands in memory, as a client that asks for `name`; returns the names in the certificate it was shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    server = served.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    certificate = client.getpeercert()
    assert certificate is not None
    return set(certificate["subjectAltName"])  # type: ignore[arg-type]


OWN = RemoteSettings("0.0.0.0:7444", (), "own.pem", "own.key")


class TestMade:
    def test_it_is_for_the_names_in_the_settings(self, home: Path) -> None:
        shown = prepare_files(NAMED, home, now=NOW).load()
        assert shown.names == ("node.lab.example", "10.0.0.5")
        assert shown.expires == NOW + LIFETIME
        certificate = x509.load_pem_x509_certificate(shown.chain_pem)
        assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
        certificate.verify_directly_issued_by(certificate)

    def test_only_the_owner_reads_the_key(self, home: Path) -> None:
        before = os.umask(0)
        try:
            files = prepare_files(NAMED, home, now=NOW)
        finally:
            os.umask(before)
        assert (files.chain_path, files.key_path) == (home / "remote.crt", home / "keys" / "remote.pem")
        assert stat.S_IMODE(files.key_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(files.chain_path.stat().st_mode) == 0o644
        assert sorted(path.name for path in home.rglob("*") if path.is_file()) == ["remote.crt", "remote.pem"]

    def test_it_is_made_once(self, home: Path) -> None:
        first = prepare_files(NAMED, home, now=NOW).load()
        assert prepare_files(NAMED, home, now=NOW + timedelta(days=700)).load() == first

    def test_a_new_name_makes_a_new_one_of_the_same_key(self, home: Path) -> None:
        first = prepare_files(NAMED, home, now=NOW).load()
        more = RemoteSettings(NAMED.listen, (*NAMED.names, "other.lab.example"))
        second = prepare_files(more, home, now=NOW).load()
        assert set(second.names) == set(more.names)
        assert second.key_pem == first.key_pem and second.chain_pem != first.chain_pem
        # A name that is not wanted any more does no harm: whoever has the file need not get another.
        assert prepare_files(NAMED, home, now=NOW).load() == second

    def test_a_lost_certificate_is_made_again_of_the_same_key(self, home: Path) -> None:
        first = prepare_files(NAMED, home, now=NOW).load()
        (home / "remote.crt").unlink()
        assert prepare_files(NAMED, home, now=NOW).load().key_pem == first.key_pem

    @pytest.mark.parametrize(
        ("listen", "names", "expected"),
        [
            ("127.0.0.1:0", (), ("127.0.0.1",)),
            ("Node.Lab.example:7444", (), ("node.lab.example",)),
            ("[2001:DB8:0::1]:7444", ("a.example",), ("a.example", "2001:db8::1")),
            ("10.0.0.5:7444", ("10.0.0.5", "A.example", "a.example"), ("a.example", "10.0.0.5")),
        ],
    )
    def test_the_host_it_listens_on_is_a_name_too(
        self, home: Path, listen: str, names: tuple[str, ...], expected: tuple[str, ...]
    ) -> None:
        files = prepare_files(RemoteSettings(listen, names), home, now=NOW)
        assert files.load().names == expected
        before = files.state()
        assert prepare_files(RemoteSettings(listen, names), home, now=NOW).state() == before

    @pytest.mark.parametrize("listen", ["0.0.0.0:7444", "[::]:7444"])
    def test_without_a_name_nobody_could_know_it(self, home: Path, listen: str) -> None:
        with pytest.raises(ConfigError, match=r"remote\.names is empty") as caught:
            prepare_files(RemoteSettings(listen), home, now=NOW)
        assert "names = [" in caught.value.hint
        assert not list((home / "keys").iterdir())

    def test_a_key_that_others_can_read_is_refused(self, home: Path) -> None:
        files = prepare_files(NAMED, home, now=NOW)
        files.key_path.chmod(0o640)
        with pytest.raises(ConfigError, match="can be read by others") as caught:
            prepare_files(NAMED, home, now=NOW).load()
        assert caught.value.hint == f"type: chmod 600 {files.key_path}"

    def test_pythons_tls_takes_it(self, home: Path) -> None:
        files = prepare_files(NAMED, home, now=datetime.now(UTC))
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain(files.chain_path, files.key_path)
        trusting = ssl.create_default_context(cafile=files.chain_path)
        for name in NAMED.names:
            assert shown_names(served, trusting, name) == {("DNS", "node.lab.example"), ("IP Address", "10.0.0.5")}
        with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example"):
            shown_names(served, trusting, "other.example")


class TestOwn:
    @pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
    def test_it_is_taken_as_it_is(self, home: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        write_pair(home, key)
        shown = prepare_files(OWN, home, now=NOW).load()
        assert shown.names == ("a.example",)
        assert shown.chain_pem == (home / "own.pem").read_bytes()
        assert not (home / "remote.crt").exists()

    def test_a_path_outside_the_home(self, home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        other = tmp_path_factory.mktemp("other")
        write_pair(other, ec.generate_private_key(ec.SECP256R1()))
        settings = RemoteSettings(OWN.listen, (), str(other / "own.pem"), str(other / "own.key"))
        assert prepare_files(settings, home, now=NOW).load().names == ("a.example",)

    def test_a_change_is_noticed(self, home: Path) -> None:
        write_pair(home, ec.generate_private_key(ec.SECP256R1()))
        files = prepare_files(OWN, home, now=NOW)
        seen = [files.state()]
        (home / "own.key").chmod(0o640)
        seen.append(files.state())
        write_pair(home, ec.generate_private_key(ec.SECP256R1()))
        seen.append(files.state())
        (home / "own.pem").unlink()
        seen.append(files.state())
        assert len(set(seen)) == 4 and seen[-1] == ()

    @pytest.mark.parametrize(
        ("break_it", "message"),
        [
            (lambda home: (home / "own.pem").unlink(), "own.pem cannot be read: No such file"),
            (lambda home: (home / "own.key").unlink(), "own.key cannot be read: No such file"),
            (lambda home: (home / "own.key").chmod(0o644), "own.key can be read by others"),
            (lambda home: (home / "own.pem").write_bytes(b""), "own.pem is not a certificate in PEM"),
            (lambda home: (home / "own.pem").write_bytes((home / "own.key").read_bytes()), "own.pem is not a certificate"),
            (lambda home: (home / "own.key").write_bytes(b"junk"), "own.key is not a private key in PEM"),
            (lambda home: write_other_key(home, ed25519.Ed25519PrivateKey.generate()), "neither an ECDSA nor an RSA key"),
            (lambda home: write_other_key(home, ec.generate_private_key(ec.SECP256R1())), "does not belong to the key"),
            (lambda home: write_other_key(home, ec.generate_private_key(ec.SECP256R1()), b"secret"), "has a passphrase"),
            (lambda home: write_pair(home, ec.generate_private_key(ec.SECP256R1()), names=()), "no DNS name and no address"),
        ],
    )
    def test_what_cannot_be_used(self, home: Path, break_it, message: str) -> None:
        write_pair(home, ec.generate_private_key(ec.SECP256R1()))
        break_it(home)
        with pytest.raises(ConfigError, match=message) as caught:
            prepare_files(OWN, home, now=NOW).load()
        assert caught.value.hint


def write_other_key(home: Path, key, passphrase: bytes = b"") -> None:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    (home / "own.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_refused_in_words(tmp_path_factory, chain: bytes, key: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "c").write_bytes(b"-----BEGIN CERTIFICATE-----\n" + chain)
    (folder / "k").write_bytes(key)
    (folder / "k").chmod(0o600)
    with pytest.raises(ConfigError):
        RemoteFiles(folder / "c", folder / "k").load()
