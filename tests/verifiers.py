"""Both verifiers on one bundle: the node's, and the one in `scripts/verify_bundle.py` that shares no code with it.

A test that makes a bundle asks here for the verdict; a disagreement fails it.
"""

from __future__ import annotations

import importlib.util
import io
import random
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from node.core.bundle import Bundle, format_bundle, parse_bundle
from node.core.kinds import Kinds
from node.core.record import validate_record
from node.core.verdict import Verdict, verdict_content, verify_bundle
from node.errors import FormatError

SCRIPT = Path(__file__).parent.parent / "scripts" / "verify_bundle.py"


@lru_cache(maxsize=1)
def second_verifier() -> ModuleType:
    """The script as a module: imported by its path, as it belongs to no package."""
    spec = importlib.util.spec_from_file_location("second_verifier", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class SecondVerdict:
    """What the script says: its result, or why it refused."""

    result: dict[str, Any] | None
    refusal: str = ""


def second_verdict_on(raw: bytes, fingerprint: str) -> SecondVerdict:
    """The script's verdict. Whatever it raises is a refusal, as when it runs as a process."""
    try:
        return SecondVerdict(second_verifier().verify(raw, fingerprint))
    except Exception as error:
        return SecondVerdict(None, f"{type(error).__name__}: {error}")


def first_verdict_on(raw: bytes, fingerprint: str, kinds: Kinds) -> Verdict | None:
    """The node's verdict; None where the file is no bundle."""
    try:
        return verify_bundle(parse_bundle(raw), fingerprint=fingerprint, kinds=kinds)
    except FormatError:
        return None


def agreed_verdict(bundle: Bundle, *, fingerprint: str, kinds: Kinds) -> Verdict:
    """The node's verdict on a bundle, after the script has come to the same."""
    verdict = verify_bundle(bundle, fingerprint=fingerprint, kinds=kinds)
    try:
        raw = format_bundle(bundle)
        parse_bundle(raw)
    except FormatError:
        assert not verdict.verified, "what cannot be packed must not verify"
        return verdict
    require_agreement(verdict, second_verdict_on(raw, fingerprint), kinds)
    return verdict


def require_agreement(first: Verdict, second: SecondVerdict, kinds: Kinds) -> None:
    """Both accept and say the same, or both refuse; the schema of a body is the one thing that the script does not know."""
    if second.result is None:
        assert not first.verified, f"the second verifier alone refuses: {second.refusal}"
        return
    if not first.verified:
        failed = next(step for step in first.steps if not step.ok)
        assert failed.step == "schema", f"the second verifier accepts what fails at {failed.step}: {failed.detail}"
        content = second.result["record"]
        violations = validate_record(content, author=second.result["signer"], kinds=kinds)
        assert violations and all(violation.path.startswith("/body") for violation in violations), violations
        return
    said = verdict_content(first)
    for name in ("record", "signer", "signed_size", "quorum", "seen_by"):
        assert second.result[name] == said[name], name
    assert second.result["cosigners"] == {item["member"]: item["time"] for item in said["cosigners"]}
    assert second.result["expires"] == said["roster"]["expires"]


def members_of(raw: bytes) -> dict[str, bytes]:
    """The members of a bundle."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(members: Mapping[str, bytes]) -> bytes:
    """Members as a valid ZIP in the bundle's form, whatever they contain: every length and CRC is right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), members[name])
    return buffer.getvalue()


Change = tuple[str, int, int]
"""One byte of one member of a bundle: the member, where, and the bits that are turned."""


def places(members: Mapping[str, bytes]) -> list[tuple[str, int]]:
    """Every byte of a bundle that says something: the words of the README are free."""
    return [(name, at) for name, raw in members.items() if name != "README.txt" for at in range(len(raw))]


def changed(members: Mapping[str, bytes], change: Change) -> dict[str, bytes]:
    """The members with one byte changed."""
    name, at, mask = change
    raw = members[name]
    return {**members, name: raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]}


def surviving_changes(raw: bytes, fingerprint: str, kinds: Kinds, *, count: int, seed: int) -> list[Change]:
    """Of `count` random changes of a byte those that either verifier accepts; both must accept the bundle itself."""
    members, rng = members_of(raw), random.Random(seed)
    assert both_accept(members, fingerprint, kinds) == (True, True)
    changes = [(name, at, rng.randint(1, 255)) for name, at in rng.sample(places(members), count)]
    return [one for one in changes if both_accept(changed(members, one), fingerprint, kinds) != (False, False)]


def both_accept(members: Mapping[str, bytes], fingerprint: str, kinds: Kinds) -> tuple[bool, bool]:
    """Whether the node's verifier and the script accept a bundle with these members."""
    raw = pack(members)
    first = first_verdict_on(raw, fingerprint, kinds)
    return first is not None and first.verified, second_verdict_on(raw, fingerprint).result is not None
