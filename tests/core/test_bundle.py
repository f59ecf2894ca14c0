"""The bundle as a file: one form of ZIP, exact names."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.bundle import MEMBER_SIZE_MAX, README, Bundle, format_bundle, parse_bundle
from node.errors import FormatError
from tests.builders import build_bundle_case
from tests.core import strategies

RECORD, PROOF, ROSTER = b"{}", b"proof", b"roster"
BUNDLE = Bundle(RECORD, PROOF, (ROSTER, ROSTER), {"jinan": b"card"}, b"first", {"ab" * 32: b"blob"})


def members_of(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return buffer.getvalue()


MEMBERS = members_of(format_bundle(BUNDLE))

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
contents = st.binary(max_size=40)


@given(
    st.builds(
        Bundle,
        contents,
        contents,
        st.lists(contents, min_size=1, max_size=12).map(tuple),
        st.dictionaries(strategies.members, contents, max_size=4),
        st.none() | contents,
        st.dictionaries(digests, contents, max_size=3),
    )
)
def test_round_trip(bundle: Bundle) -> None:
    raw = format_bundle(bundle)
    assert parse_bundle(raw) == bundle
    assert format_bundle(parse_bundle(raw)) == raw


def test_a_real_bundle_round_trips() -> None:
    bundle = build_bundle_case().bundle()
    assert parse_bundle(format_bundle(bundle)) == bundle


def test_members_are_stored_sorted_and_dated_alike() -> None:
    with zipfile.ZipFile(io.BytesIO(format_bundle(BUNDLE))) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == [
        "README.txt",
        "blobs/" + "ab" * 32,
        "cards/jinan.json",
        "first.tlog-proof",
        "record.json",
        "record.tlog-proof",
        "roster/1.json",
        "roster/2.json",
    ]
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_the_readme_tells_the_commands_and_the_formula() -> None:
    assert members_of(format_bundle(BUNDLE))["README.txt"] == README.encode()
    assert "labmesh verify FILE --fingerprint HEX" in README
    assert "labmesh/commitment/v1" in README


def test_the_readme_is_not_part_of_the_evidence() -> None:
    assert parse_bundle(zip_of({**MEMBERS, "README.txt": b"another text"})) == BUNDLE
    assert parse_bundle(zip_of({name: raw for name, raw in MEMBERS.items() if name != "README.txt"})) == BUNDLE


def renamed(old: str, new: str) -> bytes:
    return zip_of(dict(sorted((new if name == old else name, raw) for name, raw in MEMBERS.items())))


def without(*names: str) -> bytes:
    return zip_of({name: raw for name, raw in MEMBERS.items() if name not in names})


def doubled() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for name in [*MEMBERS, "roster/2.json"]:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


REFUSED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no ZIP": lambda: b"hello",
    "an empty ZIP": lambda: zip_of({}),
    "cut short": lambda: format_bundle(BUNDLE)[:-1],
    "half of it": lambda: format_bundle(BUNDLE)[: len(format_bundle(BUNDLE)) // 2],
    "deflated": lambda: zip_of(MEMBERS, compression=zipfile.ZIP_DEFLATED),
    "compressed with bzip2": lambda: zip_of(MEMBERS, compression=zipfile.ZIP_BZIP2),
    "not sorted": lambda: zip_of(dict(reversed(MEMBERS.items()))),
    "a member twice": doubled,
    "a damaged member": lambda: flipped(format_bundle(BUNDLE), format_bundle(BUNDLE).index(b"proof")),
    "no record": lambda: without("record.json"),
    "no proof": lambda: without("record.tlog-proof"),
    "no rosters": lambda: without("roster/1.json", "roster/2.json"),
    "no first roster": lambda: without("roster/1.json"),
    "a roster with a leading zero": lambda: renamed("roster/2.json", "roster/02.json"),
    "a roster 0": lambda: renamed("roster/1.json", "roster/0.json"),
    "a gap in the rosters": lambda: renamed("roster/2.json", "roster/3.json"),
    "a roster with another ending": lambda: renamed("roster/2.json", "roster/2.json.bak"),
    "full-width digits": lambda: renamed("roster/2.json", "roster/\uff12.json"),
    "an unknown member": lambda: renamed("first.tlog-proof", "second.tlog-proof"),
    "another case": lambda: renamed("record.json", "Record.json"),
    "a path upwards": lambda: renamed("first.tlog-proof", "../first.tlog-proof"),
    "an absolute path": lambda: renamed("first.tlog-proof", "/first.tlog-proof"),
    "a folder": lambda: zip_of(dict(sorted({**MEMBERS, "cards/": b""}.items()))),
    "a card of no member id": lambda: renamed("cards/jinan.json", "cards/Jinan.json"),
    "a card in a deeper folder": lambda: renamed("cards/jinan.json", "cards/a/jinan.json"),
    "a blob named in capitals": lambda: renamed("blobs/" + "ab" * 32, "blobs/" + "AB" * 32),
    "a blob with a short name": lambda: renamed("blobs/" + "ab" * 32, "blobs/abab"),
    "an enormous member": lambda: zip_of({**MEMBERS, "record.json": bytes(MEMBER_SIZE_MAX + 1)}),
    "members that overlap": lambda: overlapping(40),
}


def overlapping(count: int) -> bytes:
    """Each member's data runs over all members after it, so that the whole is much larger than the file."""
    names = [f"cards/m{i:05d}.json".encode() for i in range(count)]
    body, directory, offsets = b"", [], []
    for name in reversed(names):
        head = pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 33, zlib.crc32(body), len(body), len(body), len(name), 0)
        directory.append((name, zlib.crc32(body), len(body)))
        body = head + name + body
        offsets.append(len(body))
    central = b"".join(
        pack(
            "<4sHHHHHHIIIHHHHHII",
            b"PK\x01\x02",
            20,
            20,
            0,
            0,
            0,
            33,
            crc,
            size,
            size,
            len(name),
            0,
            0,
            0,
            0,
            0,
            len(body) - end,
        )
        + name
        for (name, crc, size), end in reversed(list(zip(directory, offsets, strict=True)))
    )
    return body + central + pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(central), len(body), 0)


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_other_files_are_refused(make: Callable[[], bytes]) -> None:
    assert parse_bundle(format_bundle(BUNDLE)) == BUNDLE
    with pytest.raises(FormatError):
        parse_bundle(make())


def test_members_that_overlap_are_not_read() -> None:
    raw = overlapping(40)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert sum(entry.file_size for entry in archive.infolist()) > len(raw)
    with pytest.raises(FormatError, match="overlap"):
        parse_bundle(raw)


def test_a_deflated_member_is_refused_even_when_it_has_the_same_size() -> None:
    def deflated_size(raw: bytes) -> int:
        packer = zlib.compressobj(wbits=-15)
        return len(packer.compress(raw) + packer.flush())

    record = next(
        raw for raw in (bytes(range(i)) + bytes(j) for i in range(60) for j in range(12)) if deflated_size(raw) == len(raw)
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, raw in {**MEMBERS, "record.json": record}.items():
            kind = zipfile.ZIP_DEFLATED if name == "record.json" else zipfile.ZIP_STORED
            archive.writestr(name, raw, compress_type=kind)
    assert members_of(buffer.getvalue())["record.json"] == record
    with pytest.raises(FormatError, match="not stored plainly"):
        parse_bundle(buffer.getvalue())


def test_only_blobs_may_be_large() -> None:
    large = replace(BUNDLE, blobs={"cd" * 32: bytes(MEMBER_SIZE_MAX + 1)})
    assert parse_bundle(format_bundle(large)) == large


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_bundle(raw)


@given(st.data())
def test_a_damaged_file_is_refused_or_says_the_same(data: st.DataObject) -> None:
    """Dates and versions in the ZIP's own headers carry nothing; everything else is checked."""
    raw = format_bundle(BUNDLE)
    at = data.draw(st.integers(0, len(raw) - 1))
    try:
        parsed = parse_bundle(raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :])
    except FormatError as error:
        assert error.message
    else:
        assert parsed == BUNDLE


@pytest.mark.parametrize(
    "disguise",
    [
        lambda raw: b"hello" + raw,
        lambda raw: raw + b"hello",
        lambda raw: zip_of({"record.json": b"another"}) + raw,
        lambda raw: raw + raw,
        lambda raw: raw[:-2] + b"\x05\x00hello",
    ],
    ids=["before", "behind", "another archive before", "twice", "a comment"],
)
def test_bytes_that_belong_to_no_member_are_refused(disguise: Callable[[bytes], bytes]) -> None:
    raw = format_bundle(build_bundle_case().bundle())
    assert format_bundle(parse_bundle(raw)) == raw
    with pytest.raises(FormatError):
        parse_bundle(disguise(raw))


def test_a_member_that_says_different_things_in_two_places_is_refused() -> None:
    raw = bytearray(format_bundle(build_bundle_case().bundle()))
    raw[14] ^= 1  # the CRC-32 in the first local header
    with pytest.raises(FormatError, match="different things"):
        parse_bundle(bytes(raw))
