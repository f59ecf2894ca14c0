"""What people carry between machines: proposals, backups, tokens and the names of clients."""

from __future__ import annotations

import base64
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli.outcome import UsageFault
from cli.remote import parse_address
from node.backup import create_backup, read_manifest, restore_backup
from node.core.evidence import Consistency, format_consistency, format_evidence, parse_consistency, parse_evidence
from node.core.misconduct import judge_evidence, judgement_content
from node.core.proposal import Proposal, format_proposal, parse_proposal, review_proposal
from node.core.token import format_token, parse_client_name, parse_token
from node.errors import ConfigError, FormatError, GovernanceError, HomeError, PeerFaultError
from node.home import Home, create_home
from node.keyfiles import KeyFiles, format_key
from tests.alliance import NOON
from tests.attacks import accusations
from tests.attacks.scene import COUNCIL
from tests.builders import sign_roster
from tests.fuzz.formats import card_seeds, texts, written
from tests.fuzz.target import Finding, target
from tests.fuzz.world import scene, text

PASSPHRASE = b"correct horse"


def proposal_seeds() -> list[bytes]:
    raw = sign_roster(scene().next_roster(title="Next"), COUNCIL[1])
    return [format_proposal(Proposal(raw, ())), format_proposal(Proposal(raw, tuple(card_seeds()[:2])))]


@target("proposal", FormatError, seeds=proposal_seeds, write=format_proposal)
def proposal(raw: bytes) -> Proposal:
    return parse_proposal(raw)


@target("what a proposal says", FormatError, GovernanceError, PeerFaultError, seeds=proposal_seeds)
def proposal_review(raw: bytes) -> None:
    review_proposal(scene().joined, parse_proposal(raw)).awaited()


def evidence_seeds() -> list[bytes]:
    honest, guilty = accusations.honest(scene()), accusations.guilty()
    return [format_evidence(honest), format_evidence(accusations.with_notes(honest, *guilty))]


@target("evidence", FormatError, seeds=evidence_seeds)
def evidence(raw: bytes) -> None:
    parsed = parse_evidence(raw)
    if parse_evidence(format_evidence(parsed)) != parsed:
        raise Finding("accepted, but it is other evidence when it is written again")
    judgement_content(judge_evidence(parsed, held=scene().joined))
    judgement_content(judge_evidence(parsed, fingerprint=scene().joined.fingerprint))


def consistency_seeds() -> list[bytes]:
    return [accusations.honest(scene()).statements["consistency.txt"]]


@target("consistency", FormatError, seeds=consistency_seeds, write=lambda proof: format_consistency(proof).encode())
def consistency(raw: bytes) -> Consistency:
    return parse_consistency(raw)


@lru_cache(maxsize=1)
def new_home() -> Path:
    """The folder of a new home, beside a backup of it."""
    folder = Path(tempfile.mkdtemp(prefix="home-", dir=scene().folder))
    create_home(folder / "home", member="jinan", alliance="a.example", name="N", region="R", address="h:1", listen="h:1")
    create_backup(Home(folder / "home"), folder / "backup", keys=True, passphrase=PASSPHRASE, made=NOON)
    return folder / "home"


def backup_file() -> bytes:
    """The backup."""
    return (new_home().parent / "backup").read_bytes()


def backup_seeds() -> list[bytes]:
    """The backup is larger than an input may be: its beginning and its end, where the directory and the manifest are."""
    whole = backup_file()
    return [whole[:4000] + whole[-4000:], whole[-8000:], whole[:8000]]


@target("backup", HomeError, seeds=backup_seeds)
def backup(raw: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=scene().folder) as folder:
        file = Path(folder, "backup")
        file.write_bytes(raw)
        read_manifest(file)
        restore_backup(file, Path(folder, "home"), keys_from=None, ask_passphrase=lambda: PASSPHRASE)


def token_seeds() -> list[bytes]:
    return [format_token(bytes(32)).encode()]


def key_seeds() -> list[bytes]:
    """Keys, plain and under the passphrase; one of a kind that nobody knows, and one on a curve that is not used."""
    ed25519, ecdsa = Ed25519PrivateKey.from_private_bytes(bytes(range(32))), ec.derive_private_key(7, ec.SECP256R1())
    plain = [format_key(ed25519), format_key(ecdsa)]
    unknown = _with_other_bytes(plain[0], "2b6570", "2b6575")
    unused = _with_other_bytes(plain[1], "2a8648ce3d030107", "2a8648ce3d030103")
    mixed = _with_other_bytes(plain[0], "2b6570", "2b6571")
    return [*plain, format_key(ed25519, PASSPHRASE), format_key(ecdsa, PASSPHRASE), unknown, unused, mixed]


def _with_other_bytes(pem: bytes, old: str, new: str) -> bytes:
    """A key in PEM with an identifier replaced by another one of the same length."""
    first, *lines, last = pem.splitlines()
    der = base64.b64decode(b"".join(lines)).replace(bytes.fromhex(old), bytes.fromhex(new))
    return b"\n".join((first, base64.b64encode(der), last, b""))


@target("private key", HomeError, seeds=key_seeds)
def private_key(raw: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=scene().folder) as folder:
        files = KeyFiles(Path(folder), PASSPHRASE)
        files.path("log").touch(mode=0o600)
        files.path("log").write_bytes(raw)
        try:
            files.load_ed25519(files.path("log"))
        except HomeError:
            files.load_tls(files.path("log"))


def home_key_seeds() -> list[bytes]:
    return [(new_home() / "keys" / "identity.pem").read_bytes(), *key_seeds()]


@target("keys for a restored home", HomeError, seeds=home_key_seeds)
def keys_for_a_restored_home(raw: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=scene().folder) as folder:
        file, keys = Path(folder, "backup"), Path(folder, "keys")
        file.write_bytes(backup_file())
        shutil.copytree(new_home() / "keys", keys)
        (keys / "identity.pem").write_bytes(raw)
        restore_backup(file, Path(folder, "home"), keys_from=keys, ask_passphrase=lambda: PASSPHRASE)


@target("token", FormatError, seeds=token_seeds, write=written)
def token(raw: bytes) -> str:
    return parse_token(text(raw))


@target("name of a client", FormatError, seeds=texts("lims", "a-1"), write=written)
def client_name(raw: bytes) -> str:
    return parse_client_name(text(raw))


@target("remote address", UsageFault, ConfigError, seeds=texts("lab.example:7444"), write=written)
def remote_address(raw: bytes) -> str:
    return parse_address(text(raw))
