"""Erased means gone: what deleting a row leaves behind in the files of a home, and how it is got rid of.

| where | what is left | what is done |
| --- | --- | --- |
| freed cells and pages | nothing: `secure_delete` writes zeros | |
| unused room inside pages | copies left when a tree was balanced, which `secure_delete` does not see | VACUUM |
| `search.sqlite` | the terms, also in older segments of the index | deleted, the segments merged into one, VACUUM |
| write-ahead logs | older versions of pages | checkpointed and cut to nothing, once no reader needs them |

The deletion itself is one transaction and done; sweeping comes behind it. It looks only at what the files say, so after a
crash it is simply done again. A VACUUM writes the whole file anew and keeps other writers waiting for that long, so all that
waits is swept together.
"""

from __future__ import annotations

import logging

from node.lab.text import forget_texts
from node.store.database import Database
from node.store.erasures import ErasureStore
from node.store.search import SearchIndex

logger = logging.getLogger(__name__)


class Sweeper:
    """Sweeps behind erasures. One thread at a time."""

    def __init__(self, database: Database, erasures: ErasureStore, search: SearchIndex) -> None:
        """Sweep these two files."""
        self._database, self._erasures, self._search = database, erasures, search
        self._rewritten: set[int] = set()
        self._owed = 0

    def sweep(self) -> bool | None:
        """Sweep what waits: True when it is done, False when a reader has to end first, None when nothing waits.

        Raises:
            StoreError: a database refused, for example for want of room; try again later.
        """
        positions, owed = self._erasures.unswept(), self._erasures.count_owed()
        if not positions and not owed:
            return None
        if owed != self._owed or not self._rewritten.issuperset(positions):
            forget_texts()
            self._search.remove(positions)
            self._database.rewrite()
            self._rewritten.update(positions)
            self._owed = owed
        if not (self._search.truncate() and self._database.truncate()):
            return False
        self._erasures.save_swept(positions, owed)
        self._rewritten.clear()
        self._owed = 0
        logger.info("event=swept entries=%d", len(positions))
        return True
