"""Give a finished file its name: whole or not at all, and never in the place of another one in silence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


def put_in_place(draft: Path, target: Path, *, replace: bool) -> None:
    """Name `draft`, a finished file in the folder of `target`, as `target`, and make that survive a power cut.

    Without `replace` also the race is lost to whoever was there first. What is not a plain file (a folder, a device) is
    never replaced.

    Raises:
        FileExistsError: something is there already; it is as it was, and so is the draft.
    """
    if replace:
        if target.exists() and not target.is_file():
            raise FileExistsError(f"{target} is not a plain file")
        draft.replace(target)
    else:
        _name_first(draft, target)
    sync_folder(target.parent)


def create_private(path: Path) -> IO[bytes]:
    """Open a new file that only its owner may read, to write into.

    Raises:
        FileExistsError: something is there already.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name_first(draft: Path, target: Path) -> None:
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links (a USB stick, some network folders): the name is taken first, then filled.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        draft.replace(target)
    else:
        draft.unlink()
