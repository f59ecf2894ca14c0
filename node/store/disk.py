"""What the disk refused: told from other faults of the database, and remembered until a write has succeeded again."""

from __future__ import annotations

import logging
import sqlite3

logger = logging.getLogger(__name__)

DISK_HINT = (
    "is the disk full or read-only, or the size of files limited (ulimit -f, a quota)? nothing of this was acknowledged, "
    "and all that was acknowledged before stays; make room, then type it again; to look at the node: labmesh doctor"
)

_DISK_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


def is_disk_fault(error: BaseException | None) -> bool:
    """Whether the file system is what failed; the low byte of SQLite's extended code says so."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in _DISK_CODES


class WriteFaults:
    """Whether the last write that had something to write has failed for want of the disk."""

    def __init__(self) -> None:
        """Nothing has failed yet."""
        self._reason = ""

    def note_failure(self, error: sqlite3.Error) -> None:
        """A transaction was undone because of this."""
        if is_disk_fault(error):
            self._reason = str(error)
            logger.error("event=write_failed error=%r code=%s", self._reason, getattr(error, "sqlite_errorname", ""))

    def note_success(self) -> None:
        """A transaction has written something."""
        if self._reason:
            logger.warning("event=write_succeeded after=%r", self._reason)
        self._reason = ""

    def sentences(self) -> list[str]:
        """The alarm, while there is one."""
        if not self._reason:
            return []
        return [
            f"the database could not be written ({self._reason}): the disk is full or read-only, or the size of files is "
            "limited; what was acknowledged is kept, nothing new is; make room: this ends with the next write that succeeds"
        ]
