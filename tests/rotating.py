"""Simulated members whose keys lie in files and can change, as in a home."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.core.checkpoint import SignedCheckpoint, parse_checkpoint, verify_checkpoint
from node.core.keys import Signer, VerifierKey
from node.core.witness import accept_cosignatures
from node.disowning import Objector
from node.keyfiles import KeyFiles, format_key, settle_keys
from node.rotation import KeyRotation, RotationParts
from node.sync.spread import CardSpread
from tests.alliance import SimulatedAlliance, SimulatedMember, drafts
from tests.builders import Lab, build_labs, cosign, private_key

# The key files of a home in which no key is about to change.
NAMES = {"identity.pem", "log.pem", "witness.pem", "tls.pem"}


def tls_key(lab: Lab) -> ec.EllipticCurvePrivateKey:
    """The key of `Lab.certificate`."""
    label = f"{lab.origin}/{lab.generation}"
    return ec.derive_private_key(int.from_bytes(sha256(label.encode()).digest(), "big") >> 1, ec.SECP256R1())


class Rotating:
    """A simulated member with key files and a `KeyRotation`."""

    def __init__(self, member: SimulatedMember, folder: Path, passphrase: bytes | None = None) -> None:
        """Write the member's keys into `folder`."""
        folder.mkdir()
        self.member, self.news = member, 0
        self.files = KeyFiles(folder, passphrase)
        lab = member.lab
        self.files.write(self.files.path("identity"), private_key(lab.identity_label))
        self.files.write(self.files.path("log"), private_key(f"{lab.origin}/{lab.generation}"))
        self.files.write(self.files.path("witness"), private_key(f"{lab.witness.key.name}/{lab.generation}"))
        self.files.write(self.files.path("tls"), tls_key(lab))
        self._wire()

    def restart(self) -> list[str]:
        """Stop and start as the daemon does; returns what became of keys that a crash left."""
        self.member.reopen()
        self.member.confirmation.override()
        done = settle_keys(self.files, self.member.membership.own_card[1])
        self._wire()
        self.rotation.renew_checkpoints()
        return done

    def lose(self, *names: str) -> None:
        """Other keys lie in these files from now on, as if old ones had been restored; start again with them."""
        for name in names:
            self.files.path(name).unlink()
            other = ec.generate_private_key(ec.SECP256R1()) if name == "tls" else Ed25519PrivateKey.generate()
            self.files.write(self.files.path(name), other)
        self._wire()
        member = self.member
        member.ledger._may_sign = lambda: (
            member.membership.own_card[1].log_key == member.ledger.log_key and member.confirmation.confirmed
        )

    def signer(self, name: str) -> Signer:
        """The key on disk, under the name that the card gives it."""
        card = self.member.membership.own_card[1]
        held = {"log": card.log_key, "witness": card.witness_key}[name]
        key = self.files.load_ed25519(self.files.path(name))
        return Signer(VerifierKey(held.name, held.signature_type, key.public_key().public_bytes_raw()), key.sign)

    def names(self) -> set[str]:
        """The key files there are."""
        return {path.name for path in self.files.folder.iterdir()}

    def checkpoints(self) -> list[SignedCheckpoint]:
        """Every checkpoint of the own log in the store."""
        with self.member.store.database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT note FROM checkpoint WHERE log_id=? ORDER BY size", (self.member.ledger.log.id,)
            )
            return [parse_checkpoint(row[0]) for row in rows]

    def require_sound(self) -> None:
        """Every key fits the card, every checkpoint verifies under it, and the tree has the roots that it names."""
        member, card = self.member, self.member.membership.own_card[1]
        assert self.signer("log").key == card.log_key and self.signer("witness").key == card.witness_key
        for signed in self.checkpoints():
            verify_checkpoint(signed, card.log_key_at(signed.size, signed.root))
        if (head := member.ledger.log.head) is not None:
            verify_checkpoint(head, card.log_key_at(head.size, head.root))
        tree = member.store.logs.tree(member.ledger.log.id)
        assert [former.root for former in card.former_log_keys] == [tree.root(f.size) for f in card.former_log_keys]

    def _wire(self) -> None:
        member = self.member
        member.membership._objector = Objector(member.store, lambda: member.membership.alliance)
        member.ledger.change_key(lambda log: (self.signer("log"), log.head_size))
        member.exchange.change_witness(lambda: self.signer("witness"))
        self.spread = CardSpread(self._count_news)
        parts = RotationParts(
            files=self.files,
            store=member.store,
            membership=member.membership,
            ledger=member.ledger,
            exchange=member.exchange,
            confirmation=member.confirmation,
            spread=self.spread,
            clock=member.clock,
        )
        self.rotation = KeyRotation(parts, tls_key_pem=format_key(self.files.load_tls(self.files.path("tls"))))

    def _count_news(self) -> None:
        self.news += 1


class RotatingAlliance:
    """An alliance whose members can change their keys."""

    def __init__(self, folder: Path, count: int = 3, passphrase: bytes | None = None) -> None:
        """Found it, and put everyone's keys into files."""
        self.simulated = SimulatedAlliance(folder / "members", count)
        (folder / "keys").mkdir()
        self.members = {
            name: Rotating(member, folder / "keys" / name, passphrase) for name, member in self.simulated.members.items()
        }

    def __getitem__(self, name: str) -> Rotating:
        """A member by its id."""
        return self.members[name]

    def tell_card(self, author: str, *readers: str) -> list[str]:
        """Tell the newest card of a member; returns why it was not taken."""
        faults: list[str] = []
        for reader in readers:
            update = self[reader].member.membership.accept_update([], [self[author].member.card], teller=author)
            faults += [*update.faults, *(f"two cards of {conflict}" for conflict in update.conflicts)]
        return faults

    def close(self) -> None:
        """Close every store."""
        self.simulated.close()


def push(node: Rotating, count: int, prefix: str) -> None:
    """Append this many drafts to the node's own log."""
    node.member.push(*drafts(count, prefix))


def cosigned(node: Rotating, size: int, *names: str) -> None:
    """The checkpoint of this size as if these members had cosigned it."""
    log, labs = node.member.ledger.log, {lab.member: lab for lab in build_labs(5)}
    signed = node.member.store.checkpoints.find(log.id, size)
    assert signed is not None
    signed = cosign(signed, {labs[name]: 1_800_000_000 for name in names})
    found = accept_cosignatures(node.member.membership.joined, node.member.name, signed)
    assert node.member.store.checkpoints.save_cosignatures(log.id, size, found) == len(names)
