"""Valid examples of everything, and one prepared alliance whose stores the targets read and write."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from node.core.kinds import Kinds
from node.schemas import load_schemas
from tests.attacks.scene import Scene


@lru_cache(maxsize=1)
def scene() -> Scene:
    """The alliance that the attacks use too; made once."""
    folder = Path(tempfile.mkdtemp(prefix="labmesh-fuzz-"))
    made = Scene(folder)

    def remove() -> None:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return made


@lru_cache(maxsize=1)
def shipped_kinds() -> Kinds:
    """The kinds that this software knows."""
    return Kinds(load_schemas())


def text(raw: bytes) -> str:
    """Bytes as the text that Python makes of the command line: what is not UTF-8 becomes lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def sent_text(raw: bytes) -> str:
    """Bytes as text that travelled through protobuf, which is always UTF-8."""
    return raw.decode("utf-8", "replace")
