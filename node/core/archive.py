"""The one form of ZIP in which bundles and evidence travel: stored members, exact names, each once, sorted.

No byte lies before, between or behind the members, and each local header says what the directory says, so that no other
ZIP reader can find other contents in the file.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping

from node.errors import FormatError

# Signature, (version, flags, method, time, date), CRC-32, stored and plain size, lengths of name and extra field.
_LOCAL_HEADER = struct.Struct("<4s10xIIIHH")
_END_RECORD_SIZE = 22
_EPOCH = (1980, 1, 1, 0, 0, 0)


def format_archive(members: Mapping[str, bytes]) -> bytes:
    """The file with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), members[name])
    return buffer.getvalue()


def parse_archive(raw: bytes, *, noun: str, size_max: int, member_size_max: Callable[[str], int]) -> dict[str, bytes]:
    """Read every member.

    Args:
        raw: the file.
        noun: what the file should be, for messages: `bundle`.
        size_max: the most bytes of the file.
        member_size_max: the most bytes of the member with this name.

    Raises:
        FormatError: another ZIP, a damaged one, or one in another form.
    """
    if len(raw) > size_max:
        raise FormatError(f"a file of {len(raw)} bytes cannot be this {noun}; at most {size_max} are taken")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return _read_members(raw, archive, noun, member_size_max)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise FormatError(f"no {noun}, or damaged: {error}") from error


def _read_members(
    raw: bytes, archive: zipfile.ZipFile, noun: str, member_size_max: Callable[[str], int]
) -> dict[str, bytes]:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if names != sorted(set(names)):
        raise FormatError(f"the members of the {noun} are not sorted, or one stands twice")
    for entry in entries:
        _require_stored(entry, member_size_max(entry.filename))
    # Entries that overlap would let a small file fill the memory; not every Python's zipfile sees it.
    if sum(entry.file_size for entry in entries) > len(raw):
        raise FormatError(f"the members of the {noun} overlap")
    _require_nothing_between(raw, archive, noun)
    return {entry.filename: archive.read(entry) for entry in entries}


def _require_nothing_between(raw: bytes, archive: zipfile.ZipFile, noun: str) -> None:
    """Refuse bytes before, between and behind the members: another reader could find other members in them."""
    at = 0
    for entry in archive.infolist():
        header = raw[at : at + _LOCAL_HEADER.size]
        if entry.header_offset != at or len(header) != _LOCAL_HEADER.size or entry.flag_bits & 8:
            raise FormatError(f"the {noun} has bytes that belong to no member")
        signature, crc, stored, size, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        name = raw[at + _LOCAL_HEADER.size :][:name_length]
        claimed = (b"PK\x03\x04", entry.CRC, entry.file_size, entry.file_size, entry.filename.encode())
        if (signature, crc, stored, size, name) != claimed:
            raise FormatError(f"the member {entry.filename[:80]!r} says different things in two places")
        at += _LOCAL_HEADER.size + name_length + extra_length + size
    end = len(raw) - _END_RECORD_SIZE
    if archive.start_dir != at or archive.comment or raw[max(0, end) :][:4] != b"PK\x05\x06":
        raise FormatError(f"the {noun} has bytes that belong to no member")


def _require_stored(entry: zipfile.ZipInfo, limit: int) -> None:
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
        raise FormatError(f"the member {entry.filename[:80]!r} is not stored plainly")
    if entry.file_size > limit:
        raise FormatError(f"the member {entry.filename[:80]!r} has {entry.file_size} bytes; at most {limit} are taken")
