"""`--remote`: another machine's node over TLS, and what is said when it is not that node."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cli.main import COMMANDS
from cli.pasting import REMOTE
from labmesh.v1 import node_pb2, node_pb2_grpc
from node.core.token import format_token
from node.errors import DeniedError, NotFoundError, UnauthenticatedError
from node.remote_certificate import LIFETIME, build_certificate
from tests.cli.conftest import Ended, run
from tests.cli.fake_node import FakeNode

TOKEN = format_token(bytes(range(32)))


class TokenNode(FakeNode):
    """A fake node that keeps what authorised each call."""

    def _answer(self, name: str, context: Any) -> Any:
        self.tokens = [*getattr(self, "tokens", []), dict(context.invocation_metadata()).get("authorization")]
        return super()._answer(name, context)


@dataclass
class Remote:
    """A served fake node, and the files that lead to it."""

    fake: TokenNode
    port: int
    folder: Path

    def run(self, *args: object, **options: Any) -> Ended:
        """Run the command line on this node; `remote`, `token_file`, `ca`, `env` and `home` may be changed."""
        given: dict[str, Any] = {"--remote": f"localhost:{self.port}"}
        given |= {"--token-file": self.folder / "token", "--ca": self.folder / "ca.crt"}
        given |= {f"--{name.replace('_', '-')}": value for name, value in options.items() if name not in ("env", "home")}
        typed = [word for name, value in given.items() if value is not None for word in (name, value)]
        return run(*typed, *args, env=options.get("env"), home=options.get("home"))


def _option(name: str, value: object) -> dict[str, Any]:
    return {name: value}


@contextmanager
def serve_tls(folder: Path, *, names: tuple[str, ...] = ("localhost",), now: datetime | None = None) -> Iterator[Remote]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = build_certificate(key, names, now or datetime.now(UTC)).public_bytes(Encoding.PEM)
    (folder / "ca.crt").write_bytes(certificate)
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "token").chmod(0o600)
    fake, server = TokenNode(), grpc.server(ThreadPoolExecutor(max_workers=4))
    node_pb2_grpc.add_NodeServiceServicer_to_server(fake, server)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, certificate)]))
    server.start()
    try:
        yield Remote(fake, port, folder)
    finally:
        server.stop(0).wait()


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    with serve_tls(tmp_path) as served:
        served.fake.answers["GetStatus"] = node_pb2.GetStatusResponse(member="jinan", state="ready")
        yield served


class TestReaching:
    def test_it_works_without_a_home(self, remote: Remote, tmp_path: Path) -> None:
        ended = remote.run("status", "--json", env={"HOME": str(tmp_path / "nobody")})
        assert ended.document["member"] == "jinan"
        assert remote.fake.tokens == [f"Bearer {TOKEN}"]

    def test_records_are_pushed(self, remote: Remote) -> None:
        remote.fake.answers["Push"] = node_pb2.PushResponse(accepted=1)
        file = remote.folder / "r.jsonl"
        file.write_text('{"key":"a","body":{}}\n')
        assert remote.run("push", file, "--kind", "result", "--json").document["accepted"] == 1
        assert list(remote.fake.calls[0][1].batch.records) == [b'{"key":"a","body":{}}']

    def test_the_roster_is_shown_and_exported(self, remote: Remote, founded: Path) -> None:
        from cli.governance import read_held_alliance
        from node.core.alliance import format_card, format_roster
        from node.home import Home

        alliance = read_held_alliance(Home(founded)).alliance
        assert alliance is not None
        remote.fake.answers["ExportAlliance"] = node_pb2.ExportAllianceResponse(
            rosters=[format_roster(signed) for signed in alliance.rosters],
            cards=[format_card(card) for card in alliance.cards.values()],
        )
        assert remote.run("roster", "show", "--json").document == run("roster", "show", "--json", home=founded).document
        assert remote.run("roster", "export").out == run("roster", "export", home=founded).out
        remote.fake.answers["ExportAlliance"] = node_pb2.ExportAllianceResponse(rosters=[b"{}"])
        assert remote.run("roster", "show", "--json").exit_code == 1

    def test_options_may_stand_behind_the_command(self, remote: Remote) -> None:
        words = ["--remote", f"localhost:{remote.port}", "--token-file", remote.folder / "token"]
        assert run("status", *words, "--ca", remote.folder / "ca.crt", "--json").exit_code == 0
        assert run("client", "list", "--ca", remote.folder / "ca.crt", *words, "--json").exit_code == 1
        assert len(remote.fake.tokens) == 2

    def test_the_environment_is_enough(self, remote: Remote) -> None:
        env = {
            "LABMESH_REMOTE": f"localhost:{remote.port}",
            "LABMESH_TOKEN_FILE": str(remote.folder / "token"),
            "LABMESH_CA": str(remote.folder / "ca.crt"),
        }
        assert run("status", "--json", env=env).document["member"] == "jinan"
        assert run("status", "--json", env={**env, "LABMESH_HOME": "/nowhere"}).document["member"] == "jinan"
        ended = run("status", home=remote.folder / "nobody", env=env)
        assert ended.exit_code == 3 and str(remote.folder / "nobody") in ended.err
        assert len(remote.fake.tokens) == 2

    def test_an_address_in_the_certificate(self, tmp_path: Path) -> None:
        with serve_tls(tmp_path, names=("node.example", "127.0.0.1")) as served:
            served.fake.answers["GetStatus"] = node_pb2.GetStatusResponse(member="jinan")
            assert served.run("status", "--json", remote=f"127.0.0.1:{served.port}").document["member"] == "jinan"

    @pytest.mark.parametrize(
        "error", [UnauthenticatedError("the client lims was revoked", hint="ask"), DeniedError("not for you", hint="ask")]
    )
    def test_a_refusal_of_the_node(self, remote: Remote, error: UnauthenticatedError | DeniedError) -> None:
        remote.fake.answers["GetStatus"] = error
        ended = remote.run("status", "--json")
        assert ended.exit_code == 1
        assert ended.error == {"reason": error.reason, "message": error.message, "hint": "ask"}


class TestNotThatNode:
    def refused(self, ended: Ended, *words: str, code: int = 1) -> None:
        assert ended.exit_code == code, ended
        text = ended.err if code == 3 else ended.error["message"] + " hint: " + ended.error["hint"]
        assert (ended.out == "") == (code == 3)
        assert TOKEN not in ended.out + ended.err
        for word in words:
            assert word in text, text

    def test_nobody_there(self, remote: Remote) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ended = remote.run("status", "--json", remote=f"localhost:{free.getsockname()[1]}")
        self.refused(ended, "no node can be reached on localhost:", "Connection refused", "remote.listen", code=3)
        assert not hasattr(remote.fake, "tokens"), "nor does it ask another node"

    def test_no_such_host(self, remote: Remote) -> None:
        self.refused(remote.run("status", "--json", remote="nobody.invalid:7444"), "nobody.invalid:7444", code=3)
        assert not hasattr(remote.fake, "tokens")

    def test_it_does_not_speak_tls(self, remote: Remote) -> None:
        heard: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as plain:

            def answer() -> None:
                connection, _ = plain.accept()
                with connection:
                    heard.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            talking = threading.Thread(target=answer)
            talking.start()
            ended = remote.run("status", "--json", remote=f"localhost:{plain.getsockname()[1]}")
            talking.join()
        self.refused(ended, "does not speak TLS as a node does", "not the one for peers", code=3)
        assert len(heard) == 1 and TOKEN.encode() not in heard[0]

    def test_another_certificate(self, remote: Remote, tmp_path_factory: pytest.TempPathFactory) -> None:
        other = tmp_path_factory.mktemp("other")
        with serve_tls(other):
            ended = remote.run("status", "--json", ca=other / "ca.crt")
        self.refused(ended, "does not vouch for the certificate of localhost", "get remote.crt")
        assert not hasattr(remote.fake, "tokens")

    def test_another_name(self, tmp_path: Path) -> None:
        with serve_tls(tmp_path, names=("node.lab.example", "10.0.0.5")) as served:
            ended = served.run("status", "--json")
        self.refused(ended, "shows a certificate for node.lab.example, 10.0.0.5, not for localhost", "remote.names")
        assert not hasattr(served.fake, "tokens")

    @pytest.mark.parametrize(
        ("made", "word"), [(-LIFETIME - timedelta(days=1), "has expired"), (timedelta(days=30), "is not valid yet")]
    )
    def test_another_time(self, tmp_path: Path, made: timedelta, word: str) -> None:
        with serve_tls(tmp_path, now=datetime.now(UTC) + made) as served:
            ended = served.run("status", "--json")
        self.refused(ended, word, "clock")
        assert not hasattr(served.fake, "tokens")

    def test_a_node_that_ends_in_between(self, tmp_path: Path) -> None:
        from node.errors import PeerUnreachableError
        from node.rpc.connection import RemoteConnection
        from node.rpc.node_client import NodeClient

        with serve_tls(tmp_path) as served:
            served.fake.answers["GetStatus"] = node_pb2.GetStatusResponse()
            way = RemoteConnection(f"localhost:{served.port}", TOKEN, (tmp_path / "ca.crt").read_bytes(), "ca.crt")
            client = NodeClient(way).__enter__()
            client.get_status()
        with pytest.raises(PeerUnreachableError, match="no node can be reached"):
            client.get_status()
        client.__exit__(None, None, None)
        assert TOKEN not in repr(way)


class TestFiles:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
    def test_a_token_that_others_can_read(self, remote: Remote, mode: int) -> None:
        (remote.folder / "token").chmod(mode)
        ended = remote.run("status", "--json")
        assert ended.exit_code == 1
        assert ended.error["message"] == f"{remote.folder}/token can be read by others"
        assert ended.error["hint"] == f"type: chmod 600 {remote.folder}/token"

    @pytest.mark.parametrize("raw", [b"", b"secret", TOKEN.encode() * 2, b"\xff\xfe", TOKEN[:-1].encode() + b" x"])
    def test_a_file_without_a_token(self, remote: Remote, raw: bytes) -> None:
        (remote.folder / "token").write_bytes(raw)
        ended = remote.run("status", "--json")
        assert ended.exit_code == 1 and "this is no token" in ended.error["message"]
        assert "secret" not in ended.error["message"]

    def test_spaces_around_a_token_do_no_harm(self, remote: Remote) -> None:
        (remote.folder / "token").write_text(f"  {TOKEN}\r\n\n")
        assert remote.run("status", "--json").exit_code == 0

    @pytest.mark.parametrize("name", ["token_file", "ca"])
    def test_a_file_that_is_not_there(self, remote: Remote, name: str) -> None:
        ended = remote.run("status", "--json", **_option(name, remote.folder / "none"))
        assert ended.exit_code == 1 and "No such file" in ended.error["message"]

    def test_a_file_that_is_no_certificate(self, remote: Remote) -> None:
        for raw in (b"", b"junk", "证书".encode(), b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n"):
            (remote.folder / "junk").write_bytes(raw)
            ended = remote.run("status", "--json", ca=remote.folder / "junk")
            assert ended.exit_code == 1 and "no file of certificates" in ended.error["message"]

    def test_a_file_without_an_end(self, remote: Remote) -> None:
        assert "more than" in remote.run("status", "--json", ca="/dev/zero").error["message"]


class TestOptions:
    @pytest.mark.parametrize("name", ["token_file", "ca"])
    def test_what_is_missing_is_named(self, remote: Remote, name: str) -> None:
        ended = remote.run("status", "--json", **_option(name, None))
        assert ended.exit_code == 2 and f"--{name.replace('_', '-')}" in ended.error["message"]

    @pytest.mark.parametrize("address", ["localhost", "localhost:0", ":7444", "http://localhost:1", "a b:1"])
    def test_what_is_no_address(self, remote: Remote, address: str) -> None:
        assert remote.run("status", "--json", remote=address).exit_code == 2

    @pytest.mark.parametrize("name", ["remote", "token_file", "ca"])
    def test_what_is_empty(self, remote: Remote, name: str) -> None:
        assert remote.run("status", "--json", **_option(name, "")).exit_code == 2

    def test_two_nodes_are_one_too_many(self, remote: Remote) -> None:
        ended = remote.run("status", "--json", home=remote.folder)
        assert ended.exit_code == 2 and "two nodes" in ended.error["message"]

    @pytest.mark.parametrize("name", ["token_file", "ca"])
    def test_half_of_it_does_not_fall_back_to_the_home(self, node, node_home, name) -> None:
        option = "--" + name.replace("_", "-")
        ended = run("status", "--json", option, "x", env={"LABMESH_HOME": str(node_home)})
        assert ended.exit_code == 2 and option in ended.error["message"]
        assert node.calls == []

    @pytest.mark.parametrize(
        "args",
        [
            ["init", "x", "--alliance", "a.example", "--name", "n", "--region", "r", "--address", "h:1"],
            ["card"],
            ["run"],
            ["upgrade"],
            ["doctor"],
            ["roster", "create", "--title", "t"],
            # Not that a file is missing, which would not help.
            ["roster", "sign", "missing"],
            ["roster", "add", "missing"],
            ["roster", "settle", "missing", "--keep", "first"],
            ["roster", "rekey", "qingdao", "missing"],
            ["join", "missing"],
            ["restore", "missing"],
            ["restore", "--keys", "missing", "missing"],
            ["keys", "identity", "-o", "/missing/card"],
        ],
        ids=lambda args: args[0],
    )
    def test_what_needs_the_home_says_so(self, remote: Remote, args: list[str]) -> None:
        ended = remote.run(*args, "--json")
        assert ended.exit_code == 2, ended
        assert (
            f"labmesh {' '.join(args[: 2 if args[0] in ('roster', 'keys') else 1])} works in the home"
            in ended.error["message"]
        )
        assert "LABMESH_REMOTE" in ended.error["hint"]
        assert remote.fake.calls == []

    def test_hints_are_completed_for_commands_that_work_from_afar(self, remote: Remote) -> None:
        """Each is tried; what it is answered does not matter, as long as it asks the node."""
        words: dict[str, list[object]] = {
            "list": [],
            "status": [],
            "peers": [],
            "confirm": [],
            "client list": [],
            "evidence list": [],
            "roster show": [],
        }
        words |= {"roster export": ["-o", remote.folder / "roster"], "client revoke": ["nix"], "audit": ["jinan"]}
        words |= {"show": ["jinan/result/R"], "search": ["x"], "prove": ["jinan/result/R", "-o", remote.folder / "bundle"]}
        words |= {"grant": ["jinan/result/R", "--to", "qingdao"], "erase": ["jinan/result/R", "--reason", "x"]}
        words |= {"evidence export": ["aabbccdd", "-o", remote.folder / "evidence"]}
        words |= {"push": ["--kind", "result", remote.folder / "records"]}
        (remote.folder / "records").write_text('{"key":"R","body":{}}')
        assert set(words) == REMOTE
        for command, arguments in words.items():
            assert "works in the home" not in remote.run(*command.split(), *arguments).err
            assert remote.fake.calls, command
            remote.fake.calls.clear()

    @pytest.mark.parametrize("args", [["client", "revoke", "nix"], ["evidence", "export", "aabbccdd", "-o", "x"]])
    def test_the_hint_of_a_far_refusal_can_be_pasted(
        self, remote: Remote, args: list[str], tmp_path: Path, monkeypatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        refusal = NotFoundError("there is none", hint=f"type: labmesh {args[0]} list")
        remote.fake.answers |= {"RevokeClient": refusal, "ExportEvidence": refusal}
        typed = f"labmesh --remote localhost:{remote.port} --token-file {remote.folder}/token --ca {remote.folder}/ca.crt"
        assert f"hint: type: {typed} {args[0]} list\n" in remote.run(*args).err

    def test_no_command_takes_a_token_as_a_value(self) -> None:
        for command in COMMANDS:
            assert "--token " not in run(command, "--help").out
