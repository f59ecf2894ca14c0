"""Files that a person names: read whole, written whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cli.outcome import UsageFault
from node.errors import LimitError

FILE_MODE = 0o644
INPUT_SIZE_MAX = 3 * 1024 * 1024 * 1024
STDIN = "-"

INPUT_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)
OUTPUT_FILE = click.Path(dir_okay=False)


def read_input(name: str, *, size_max: int = INPUT_SIZE_MAX) -> bytes:
    """The bytes of a file; `-` is stdin.

    Raises:
        LimitError: more than `size_max` bytes; reading stops there.
    """
    if name == STDIN:
        content = sys.stdin.buffer.read(size_max + 1)
    else:
        with Path(name).open("rb") as file:
            content = file.read(size_max + 1)
    if len(content) > size_max:
        raise LimitError(f"{display_name(name)} has more than {size_max} bytes", hint="split it, or name another file")
    return content


def require_one_stdin(names: tuple[str, ...]) -> None:
    """Refuse a command line that names stdin twice: the second time it would be empty."""
    if names.count(STDIN) > 1:
        raise UsageFault("'-' stands twice, but stdin can be read once", hint="give each file once")


def write_output(name: str, content: bytes) -> None:
    """Write a file through a temporary one beside it, so that nobody finds half of it.

    What is not a plain file (a pipe, /dev/stdout) is written to, never replaced.
    """
    path = Path(os.path.realpath(name))
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    _require_place(path)
    import tempfile

    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name[:50]}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), FILE_MODE)
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def require_place(name: str, *, free: bool) -> None:
    """Refuse a place where `write_output` would fail; with `free`, also one where a file lies already."""
    path = Path(os.path.realpath(name))
    if free and path.exists():
        raise UsageFault(f"{display_name(name)} exists already", hint="name another file with -o, or remove this one")
    if not path.exists() or path.is_file():
        _require_place(path)


def _require_place(path: Path) -> None:
    if any((folder / "labmesh.sqlite").exists() for folder in (path.parent, path.parent.parent)):
        raise UsageFault(f"{path} lies in the home of a node, whose files must not be replaced", hint="name another place")
    if not path.parent.is_dir():
        raise UsageFault(f"there is no folder {path.parent}", hint="make it, or name another file with -o")


@contextmanager
def new_secret_file(name: str) -> Iterator[Callable[[bytes], None]]:
    """A new file that only this account can read; yields how to write it. It is made before the secret: so none is lost.

    Raises:
        UsageFault: it exists already, or cannot be made; nothing is overwritten.
    """
    path = Path(name)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageFault(f"{display_name(name)} cannot be made: {error.strerror}", hint="name a new file with -o") from error
    written = False
    try:
        with os.fdopen(descriptor, "wb") as file:

            def write(content: bytes) -> None:
                nonlocal written
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                written = True

            yield write
    finally:
        if not written:
            path.unlink(missing_ok=True)


def display_name(name: str) -> str:
    """A file's name as text that JSON can carry, also when its bytes are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")
