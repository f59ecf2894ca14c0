"""Files that a person names: read whole, written whole or not at all, and never in the place of another without --force."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from cli.app import App
from cli.outcome import UsageFault
from cli.output import print_note
from node.errors import LimitError
from node.placement import put_in_place

FILE_MODE = 0o644
SECRET_MODE = 0o600
INPUT_SIZE_MAX = 3 * 1024 * 1024 * 1024
STDIN = "-"


class HomeInput(click.Path):
    """A file for a command that works in a home: for a far node it does not matter whether the file is there."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """The file's name.

        Raises:
            UsageFault: a node on another machine is meant.
            click.BadParameter: there is no such file.
        """
        if ctx is not None:
            ctx.ensure_object(App).home_path  # noqa: B018 -- refuses
        return super().convert(value, param, ctx)


INPUT_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)
HOME_INPUT_FILE = HomeInput(exists=True, dir_okay=False, allow_dash=True)
OUTPUT_FILE = click.Path(dir_okay=False)


def _set_force(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.ensure_object(App).force = value


FORCE_OPTION = click.option(
    "--force",
    is_flag=True,
    expose_value=False,
    callback=_set_force,
    help="Replace the file that is written, if it exists already.",
)
"""Decorator: sets `app.force`. Every command that writes a file takes it."""


def read_input(name: str, *, size_max: int = INPUT_SIZE_MAX) -> bytes:
    """The bytes of a file; `-` is stdin, and a person who sits there is told that it is read.

    Raises:
        LimitError: more than `size_max` bytes; reading stops there.
    """
    if name == STDIN:
        if sys.stdin.isatty():
            print_note("Reading from the terminal; end with Ctrl-D.")
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


def write_output(name: str, content: bytes, *, replace: bool) -> None:
    """Write a file through a temporary one beside it, so that nobody finds half of it.

    What is not a plain file (a pipe, /dev/stdout) is written to, never replaced.

    Raises:
        UsageFault: there is a file already and it is not to be replaced, or this is no place for one.
    """
    path = Path(os.path.realpath(name))
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    require_place(name, replace=replace)
    with _whole_file(path, name, mode=FILE_MODE, replace=replace) as file:
        file.write(content)


def require_place(name: str, *, replace: bool) -> None:
    """Refuse a place where `write_output` would fail, before anything is done that could not be written down.

    Raises:
        UsageFault: there is a file already and it is not to be replaced, or this is no place for one.
    """
    if name == STDIN:
        raise UsageFault("this is not printed but written to a file", hint="name a file")
    path = Path(os.path.realpath(name))
    if path.exists() and not path.is_file():
        return
    _require_place(path)
    if path.exists() and not replace:
        raise _taken(name)


@contextmanager
def _whole_file(path: Path, name: str, *, mode: int, replace: bool) -> Iterator[IO[bytes]]:
    """A file that gets its name when the block has ended well, and is gone when it has not."""
    import tempfile

    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name[:50]}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        try:
            put_in_place(Path(draft), path, replace=replace)
        except FileExistsError:
            raise _taken(name) from None
    finally:
        Path(draft).unlink(missing_ok=True)


def _taken(name: str) -> UsageFault:
    return UsageFault(
        f"{display_name(name)} exists already; nothing was written",
        hint="choose another name, or add --force to replace the file",
    )


def _require_place(path: Path) -> None:
    if any((folder / "labmesh.sqlite").exists() for folder in (path.parent, path.parent.parent)):
        raise UsageFault(f"{path} lies in the home of a node, whose files must not be replaced", hint="name another place")
    if not path.parent.is_dir():
        raise UsageFault(f"there is no folder {path.parent}", hint="make it, or name another file")


@contextmanager
def new_secret_file(name: str, *, replace: bool) -> Iterator[Callable[[bytes], None]]:
    """A file that only this account can read; yields how to write it. It is made before the secret: so none is lost.

    Raises:
        UsageFault: it exists already and is not to be replaced, or cannot be made.
    """
    path = Path(name)
    if replace and path.is_file():
        with _whole_file(path, name, mode=SECRET_MODE, replace=True) as file:
            yield lambda content: _write_through(file, content)
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE)
    except FileExistsError:
        raise _taken(name) from None
    except OSError as error:
        raise UsageFault(f"{display_name(name)} cannot be made: {error.strerror}", hint="name a new file with -o") from error
    written = False
    try:
        with os.fdopen(descriptor, "wb") as file:

            def write(content: bytes) -> None:
                nonlocal written
                _write_through(file, content)
                written = True

            yield write
    finally:
        if not written:
            path.unlink(missing_ok=True)


def _write_through(file: IO[bytes], content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def display_name(name: str) -> str:
    """A file's name as text that JSON can carry, also when its bytes are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")
