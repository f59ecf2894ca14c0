"""Stores for tests: copied from one that was made once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from node.store import Store, create_store, open_store

Files = Mapping[str, bytes]
"""A home's store at rest: what lies in the files of these names."""


@cache
def _empty_store() -> Files:
    with TemporaryDirectory() as folder:
        create_store(Path(folder)).close()
        return files_in(Path(folder))


def files_in(folder: Path) -> Files:
    """The files of a store that is closed."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def new_store(path: Path, files: Files | None = None) -> Store:
    """A store in a new folder, empty unless copied from `files`; the migrations ran once for all tests."""
    path.mkdir(parents=True)
    for name, raw in (files or _empty_store()).items():
        (path / name).touch(mode=0o600)
        (path / name).write_bytes(raw)
    return open_store(path)
