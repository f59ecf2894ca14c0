"""A program by somebody who has nothing but the .proto files and a member's key: it checks a log without Labmesh.

usage: independent_client.py PROTOS HOST:PORT SERVER-NAME FOLDER ORIGIN

PROTOS is the folder with labmesh/v1/*.proto. FOLDER holds key.pem, certificate.pem and server.pem. Everything the server
says about the log of ORIGIN is checked with hashlib and Ed25519 alone; what was found is printed as JSON.
"""

import base64
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def compile_protos(folder):
    """Compile the .proto files into a descriptor pool of our own."""
    with tempfile.TemporaryDirectory() as out:
        target = Path(out, "set.bin")
        sources = sorted(str(path) for path in Path(folder, "labmesh", "v1").glob("*.proto"))
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", folder, "--include_imports"]
        subprocess.run([*command, f"--descriptor_set_out={target}", *sources], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


def message(pool, name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"labmesh.v1.{name}"))


def method(pool, channel, name, *, stream):
    """A method of PeerService as a callable."""
    make = channel.unary_stream if stream else channel.unary_unary
    answer = message(pool, f"{name}Response")
    return make(
        f"/labmesh.v1.PeerService/{name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=answer.FromString,
    )


def tree_hash(leaves):
    """MTH of RFC 9162 section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def commitment(origin, salt, record):
    """C of the specification."""
    name = origin.encode()
    data = b"labmesh/commitment/v1" + b"\x00" + len(name).to_bytes(2, "big") + name
    return hashlib.sha256(data + salt + len(record).to_bytes(8, "big") + record).digest()


def log_key(cards, origin):
    """The log key in the author's card: `name+id+base64(type and key)`."""
    for raw in cards:
        card = json.loads(base64.b64decode(json.loads(raw)["payload"]))
        if card["log_key"].startswith(origin + "+"):
            return base64.b64decode(card["log_key"].split("+", 2)[2])
    raise SystemExit(f"no card for {origin}")


def verify_note(note, origin, key):
    """Check the author's signature on a C2SP checkpoint; returns size and root."""
    text, _, signatures = note.decode().partition("\n\n")
    text += "\n"
    key_id = hashlib.sha256(origin.encode() + b"\n" + key).digest()[:4]
    for line in signatures.splitlines():
        dash, name, encoded = line.split(" ")
        raw = base64.b64decode(encoded)
        if (dash, name, raw[:4]) == ("\N{EM DASH}", origin, key_id):
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(raw[4:], text.encode())
            lines = text.split("\n")
            assert lines[0] == origin
            return int(lines[1]), base64.b64decode(lines[2])
    raise SystemExit("the author has not signed this")


def main(protos, address, server_name, folder, origin):
    pool = compile_protos(protos)
    pem = {name: Path(folder, f"{name}.pem").read_bytes() for name in ("server", "key", "certificate")}
    credentials = grpc.ssl_channel_credentials(pem["server"], pem["key"], pem["certificate"])
    with grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", server_name)]) as channel:
        roster = method(pool, channel, "GetRoster", stream=False)(message(pool, "GetRosterRequest")(), timeout=30)
        request = message(pool, "ReadLogRequest")(origin=origin, entries_max=1000)
        messages = list(method(pool, channel, "ReadLog", stream=True)(request, timeout=30))
    size, root = verify_note(messages[0].checkpoint, origin, log_key(roster.cards, origin))
    opened, keys, commitments = 0, [], list[bytes]()
    for page in (item.page for item in messages if item.HasField("page")):
        assert page.start == len(commitments)
        commitments += [page.commitments[i : i + 32] for i in range(0, len(page.commitments), 32)]
        for opening in page.openings:
            opened += commitment(origin, opening.salt, opening.record) == commitments[opening.index]
            keys.append(json.loads(opening.record)["key"])
    strangers = sorted(name for name in sys.modules if name.split(".")[0] in ("labmesh", "node", "cli", "tests"))
    found = {
        "size": size,
        "root_is_right": tree_hash(commitments) == root,
        "root": root.hex(),
        "commitments": len(commitments),
        "openings_that_fit": opened,
        "keys": keys,
        "rosters": len(roster.rosters),
        "own_modules": strangers,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
