#!/usr/bin/env python3
"""Check one Labmesh bundle without trusting Labmesh: a second verifier that shares no code with the node.
Usage: python3 verify_bundle.py FILE --fingerprint HEX, which must come from a person, not from the file. Needs Python 3.11
and `cryptography`; follows node/DESIGN.md: Bytes. NOT checked: the body by its JSON Schema, the form of what decides nothing
(names, addresses, certificates, references, dates), the greatest numbers. Exit code: 0 verified, 1 refused, 2 usage."""

import base64
import io
import json
import re
import sys
import unicodedata
import zipfile
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace as Bundle

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NAMES = r"README\.txt|blobs/[0-9a-f]{64}|cards/[a-z0-9-]+\.json|(first|record)\.tlog-proof|(record|roster/[1-9][0-9]*)\.json"
MEMBER, KIND, TIME = "[a-z0-9][a-z0-9-]{0,30}", "[a-z][a-z0-9-]{0,30}", r"\d{4}-\d\d-\d\dT(?!24)\d\d:\d\d:\d\d"
HASH, SIZE, NAME = "[A-Za-z0-9+/]{43}=\n", "(?:0|[1-9][0-9]{0,12})\n", "[!-*,-~]+"
NOTE = rf"((?P<origin>{NAME})\n(?P<size>{SIZE})(?P<root>{HASH}))\n(?P<lines>(?:— {NAME} [A-Za-z0-9+/]+=*\n){{1,64}})"
PROOF = rf"c2sp\.org/tlog-proof@v1\nextra (?P<salt>{HASH})index (?P<index>{SIZE})(?P<path>(?:{HASH})*)\n(?P<note>{NOTE})"
ROSTER = "alliance council expires issued members previous quorum threshold title version"
CARD = "alliance endpoints former_log_keys former_witness_keys identity_key issued log_key member name previous region seq"
P, Y8 = 2**255 - 19, 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
LOW_ORDER = {0, 1, P - 1, P, P + 1, Y8, P - Y8}  # with one of these y coordinates, one signature fits every message


def need(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


def read_zip(raw: bytes) -> dict[str, bytes]:
    """Bundle: stored members, sorted, each once, no byte beside them: packed again, it must be the same file."""
    found, again = {}, io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive, zipfile.ZipFile(again, "w") as packed:
        for entry in archive.infolist():
            name, plain = entry.filename, not (entry.compress_type or entry.extra or entry.comment)
            need(plain and re.fullmatch(NAMES, name) and name > max(found, default=""), f"a member {name!r} here")
            found[name] = archive.read(entry)
            packed.writestr(entry, found[name])
    need(again.getvalue() == raw, "the ZIP has bytes that belong to no member")
    return found


def unbase64(text: str, size: int | None = None) -> bytes:
    raw = base64.b64decode(text, validate=True)
    need(base64.b64encode(raw).decode() == text and size in (None, len(raw)), f"{text[:50]!r}: not base64 of {size} bytes")
    return raw


def canonical(raw: bytes, where: str) -> dict:
    """Record, canonical JSON: read, write again, compare, which shows doubled names; then what this lets through."""

    def plain(value: object, depth: int) -> bool:
        if isinstance(value, dict):
            return max("".join(value), default="") <= "\uffff" and plain(list(value.values()), depth)
        if isinstance(value, list):
            return depth < 64 and all(plain(item, depth + 1) for item in value)
        return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**53)

    again = json.dumps(value := json.loads(raw.decode()), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    need(again == raw and len(raw) <= 2**20 and isinstance(value, dict) and plain(value, 0), f"{where}: not canonical JSON")
    return dict(value)


def signed(key: bytes, signature: bytes, message: bytes) -> bool:
    need(int.from_bytes(key, "little") % 2**255 not in LOW_ORDER, "a key of low order")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def vkey(text: str, name: str, kind: int) -> tuple[bytes, bytes]:
    """Keys, C2SP signed-note: `<name>+<hex of key id>+<base64 of type and key>`. Gives key id and key."""
    raw = unbase64(text.split("+", 2)[2], 33)
    key_id = sha256(name.encode() + b"\n" + raw).digest()[:4]
    need(text.startswith(f"{name}+{key_id.hex()}+") and raw[0] == kind, f"{text} is not a key of {name}")
    return key_id, raw[1:]


def envelope(raw: bytes, kind: str, names: str, where: str) -> tuple[dict, str, bytes, list[bytes]]:
    """Card and roster, DSSE v1.0.2. Gives the payload, its hash, the bytes that are signed, and the signatures."""
    outer, kind = canonical(raw, where), f"application/vnd.labmesh.{kind}.v1+json"
    need(sorted(outer) == ["payload", "payloadType", "signatures"] and outer["payloadType"] == kind, f"{where}: envelope")
    need(all(list(item) == ["sig"] for item in outer["signatures"]), f"{where}: signatures")
    content = canonical(payload := unbase64(outer["payload"]), where)
    whole = all(type(content[n]) is int and 0 < content[n] <= 2**31 for n in {"quorum", "seq", "version"} & {*content})
    need(sorted(content) == names.split() and whole, f"{where} has not exactly the members {names}, or no number there")
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    return content, sha256(payload).hexdigest(), message, [unbase64(item["sig"], 64) for item in outer["signatures"]]


def read_proof(raw: bytes, where: str) -> Bundle:
    """Bundle: C2SP tlog-proof v1 with the salt as extra; then the checkpoint, a C2SP signed note over three lines."""
    match = re.fullmatch(PROOF, raw.decode())
    need(match and len(match["note"].encode()) <= 2**14, f"{where} is not a tlog-proof with salt and checkpoint")
    salt, root, *path = [unbase64(text, 32) for text in (match["salt"] + match["root"] + match["path"]).split()]
    proof = Bundle(where=where, origin=match["origin"], size=int(match["size"]), index=int(match["index"]), path=path)
    proof.salt, proof.root, proof.body = salt, root, match["note"].partition("\n\n")[0].encode() + b"\n"
    proof.lines = [(line.split(" ")[1], unbase64(line.split(" ")[2])) for line in match["lines"].splitlines()]
    need(proof.index < proof.size < 2**40, f"{where}: there is no entry {proof.index} in a log of size {proof.size}")
    return proof


def roster(b: Bundle) -> None:
    """Step 1: version N+1 names N's hash and carries both councils' thresholds, over distinct keys; one is pinned."""
    names = sorted((name for name in b.files if name[:7] == "roster/"), key=lambda name: int(name[7:-5]))
    chain = [envelope(b.files[where], "roster", ROSTER, where) for where in names]
    hashes = [None, *(digest for _, digest, _, _ in chain)]
    for i, (where, (new, _, message, signatures)) in enumerate(zip(names, chain, strict=True)):
        held = chain[max(0, i - 1)][0]
        need((new["version"], new["previous"]) == (i + 1, hashes[i]), f"{where} does not follow the one before")
        back = [m for m, line in held["members"].items() if new["members"][m]["status"] != "removed" == line["status"]]
        need(new["alliance"] == held["alliance"] and not back, f"{where}: another alliance, or {back} taken back")
        councils = [({unbase64(key, 32) for key in each["council"]}, each["threshold"]) for each in (held, new)]
        need(len(councils[1][0]) == len(new["council"]) < 2 * new["threshold"], f"{where}: council and threshold")
        signers = {key for key in councils[0][0] | councils[1][0] if any(signed(key, each, message) for each in signatures)}
        need(len(signers) == len(signatures), f"{where}: a signature is not by a council key, or there twice")
        need(all(len(council & signers) >= least for council, least in councils), f"{where}: below a council's threshold")
    need(b.fingerprint in hashes, f"no roster has the fingerprint {b.fingerprint}")
    b.roster = chain[-1][0]


def cards(b: Bundle) -> None:
    """Step 2: each card is signed, once, by the identity key that the newest roster gives its member."""
    b.log_keys, b.witness_keys, members = {}, {}, b.roster["members"]
    seats = {unbase64(key, 32) for key in [*b.roster["council"], *(line["identity_key"] for line in members.values())]}
    for where in (name for name in b.files if name.startswith("cards/")):
        card, _, message, signatures = envelope(b.files[where], "card", f"{CARD} tls_certificates witness_key", where)
        member, key = card["member"], members[card["member"]]["identity_key"]
        same = (where, card["alliance"], card["identity_key"]) == (f"cards/{member}.json", b.roster["alliance"], key)
        need(same and len(signatures) == 1 and signed(unbase64(key, 32), signatures[0], message), f"{where}: not its own")
        log, witness = f"{card['alliance']}/log/{member}", f"{card['alliance']}/witness/{member}"
        former = [(old["size"], unbase64(old["root"], 32), vkey(old["key"], log, 1)) for old in card["former_log_keys"]]
        need([old[0] for old in former] == sorted(old[0] for old in former), f"{where}: sizes of former keys shrink")
        b.log_keys[log] = [*former, (2**40, b"", vkey(card["log_key"], log, 1))]
        retired = [(old["until"], vkey(old["key"], witness, 4)) for old in card["former_witness_keys"]]
        b.witness_keys[witness] = [*retired, ("9999-12-31T23:59:59Z", vkey(card["witness_key"], witness, 4))]
        keys = [unbase64(key), *(each[-1][1] for each in b.log_keys[log] + b.witness_keys[witness])]
        need(len(set(keys)) == len(keys) and all(re.fullmatch(TIME + "Z", until, re.ASCII) for until, _ in retired), where)
        need(seats.isdisjoint({keys[-1], keys[1 + len(former)]}), f"{where}: one key in two roles")


def checkpoint(b: Bundle) -> None:
    """Step 3: signed by the log key that holds at this size and root; the entry is before the roster's end of the log."""
    b.proofs = [read_proof(b.files[name], name) for name in ("record.tlog-proof", *({"first.tlog-proof"} & b.files.keys()))]
    newest, first, b.author = b.proofs[0], b.proofs[-1], b.proofs[0].origin.rpartition("/")[2]
    need(first.origin == newest.origin == f"{b.roster['alliance']}/log/{b.author}", "a checkpoint of another log")
    need(first.size < newest.size or (first.size, first.root) == (newest.size, newest.root), "first.tlog-proof is later")
    head = (line := b.roster["members"][b.author]).get("head", {"size": 2**40, "root": ""})
    for proof in b.proofs:
        end, root, (key_id, key) = next(item for item in b.log_keys[proof.origin] if proof.size <= item[0])
        need(proof.size < end or proof.root == root, f"{proof.where}: the key retired at size {end} had another root")
        (own,) = [line for name, line in proof.lines if name == proof.origin]
        need(own[:4] == key_id and signed(key, own[4:], proof.body), f"{proof.where} is not signed by the log key")
        need(line["status"] == "active" or proof.index < head["size"], f"the roster ends this log at size {head['size']}")
        need(proof.size != head["size"] or proof.root == unbase64(head["root"], 32), f"{proof.where}: not the roster's root")


def cosignatures(b: Bundle) -> None:
    """Step 4: every other line is by a witness key, not retired by then, of another member. All are active."""
    b.times = []
    for proof in b.proofs:
        times, used = {}, set()
        for name, line in (each for each in proof.lines if each[0] != proof.origin):
            member, seconds = name.rpartition("/")[2], int.from_bytes(line[4:12], "big")
            need(member not in (b.author, *times) and seconds > 0, f"{proof.where}: {name} cannot cosign here")
            need(b.roster["members"][member]["status"] == "active", f"{proof.where}: {member} is not active")
            time = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            message = b"cosignature/v1\ntime %d\n%s" % (seconds, proof.body)
            keys = [key for until, (key_id, key) in b.witness_keys[name] if key_id == line[:4] and time <= until]
            need(any(signed(key, line[12:], message) for key in {*keys} - used), f"{proof.where}: cosignature of {member}")
            times[member], used = time, used.union(keys)
        b.times.append(times)


def commitment(b: Bundle) -> None:
    """Step 5: both proofs are about one commitment, of salt and record to this log."""
    newest, first, record = b.proofs[0], b.proofs[-1], b.files["record.json"]
    need((first.salt, first.index) == (newest.salt, newest.index), "the two proofs are about different entries")
    bound = len(newest.origin).to_bytes(2, "big") + newest.origin.encode() + newest.salt
    b.commitment = sha256(b"labmesh/commitment/v1\x00" + bound + len(record).to_bytes(8, "big") + record).digest()


def inclusion(b: Bundle) -> None:
    """Step 6: RFC 9162, section 2.1.3.2."""
    for proof in b.proofs:
        fn, sn, found = proof.index, proof.size - 1, sha256(b"\x00" + b.commitment).digest()
        for sibling in proof.path:
            need(sn > 0, f"{proof.where}: the path is too long")
            on_right = fn % 2 == 1 or fn == sn
            found = sha256(b"\x01" + (sibling + found if on_right else found + sibling)).digest()
            while on_right and fn and fn % 2 == 0:
                fn, sn = fn >> 1, sn >> 1
            fn, sn = fn >> 1, sn >> 1
        need(sn == 0 and found == proof.root, f"{proof.where}: the path does not reach the root")


def schema(b: Bundle) -> None:
    """Step 7: canonical form, author, members and limits of the record; not the JSON Schema of its body."""
    b.record = record = canonical(b.files["record.json"], "record.json")
    names = {"audience", "author", "body", "key", "kind", "published", "revision", "schema"}
    need(names <= set(record) <= names | {"blobs", "replaces", "schemas", "thread"}, "the record's members")
    kind, key, audience, published = record["kind"], record["key"], record["audience"], record["published"]
    need(record["author"] == b.author and isinstance(record["body"], dict), "another author, or no body")
    need(re.fullmatch(KIND, kind) and re.fullmatch(kind + "/[1-9][0-9]{0,5}", record["schema"]), "kind or schema")
    need(re.fullmatch(TIME + r"\.\d{3}Z", published, re.ASCII) and datetime.fromisoformat(published), "published")
    people = audience == sorted({*audience} - {b.author}) and all(re.fullmatch(MEMBER, member) for member in audience)
    need(people or audience == ["*"], "the audience is not a sorted list of others")
    need(type(record["revision"]) is int and 0 < record["revision"] <= b.proofs[0].index + 1, "no revision of this entry")
    need(all(c != "@" and unicodedata.category(c)[0] != "C" for c in key), "the key has @ or control characters")
    need(key == key.strip() == unicodedata.normalize("NFC", key) and 0 < len(key) <= 200, "the key is not in its one form")


def blobs(b: Bundle) -> None:
    """Step 8: what is here is what the record names; a large blob may travel on its own."""
    named = {f"blobs/{blob['sha256']}": blob["size"] for blob in b.record.get("blobs", [])}
    for name, raw in ((name, raw) for name, raw in b.files.items() if name.startswith("blobs/")):
        need((name[6:], named.get(name)) == (sha256(raw).hexdigest(), len(raw)), f"{name} is not what the record names")


def verify(raw: bytes, fingerprint: str) -> dict:
    """Run the steps in order, saying how each ends. Raises ValueError, or what else a wrong file provokes."""
    b = Bundle(files=read_zip(raw), fingerprint=fingerprint)
    for step in (roster, cards, checkpoint, cosignatures, commitment, inclusion, schema, blobs):
        step(b)
        print(f"ok      {step.__name__}")
    quorum, seen = b.roster["quorum"], sorted(b.times[1].values()) if len(b.times) > 1 else []
    cosigners = {m: min(each[m] for each in b.times if m in each) for m in set().union(*b.times)}
    met = {"needed": quorum, "met": any(len(each) >= quorum for each in b.times)}
    said = {"signer": b.author, "signed_size": b.proofs[0].size, "expires": b.roster["expires"], "record": b.record}
    return said | {"quorum": met, "cosigners": cosigners, "seen_by": seen[quorum - 1] if len(seen) >= quorum else None}


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[2] != "--fingerprint":
        sys.exit(print(__doc__) or 2)
    try:
        result = verify(Path(sys.argv[1]).read_bytes(), sys.argv[3].lower())
        print(json.dumps(result, ensure_ascii=False, indent=2), "VERIFIED", sep="\n")
    except Exception as error:  # whatever a wrong file provokes is a refusal
        sys.exit(print(f"FAILED  {type(error).__name__}: {error}", "NOT VERIFIED", sep="\n") or 1)
