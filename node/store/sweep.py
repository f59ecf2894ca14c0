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
from node.store.owed import Owed
from node.store.search import SearchIndex

logger = logging.getLogger(__name__)


class Sweeper:
    """Sweeps behind erasures. One thread at a time."""

    def __init__(self, database: Database, erasures: ErasureStore, search: SearchIndex) -> None:
        """Sweep these two files."""
        self._database, self._erasures, self._search = database, erasures, search
        self._rewritten: set[int] = set()
        self._owed = Owed()

    def sweep(self, *, with_staged: bool = True) -> bool | None:
        """Sweep what waits: True when it is done, False when a reader has to end first, None when nothing waits.

        Args:
            with_staged: whether what was only staged is a reason to sweep. It is swept with anything else in any case.

        Raises:
            StoreError: a database refused, for example for want of room; try again later.
        """
        positions, owed = self._erasures.unswept(), self._erasures.owed()
        if not positions and not owed.urgent and not (with_staged and owed.staged):
            return None
        more_staged = with_staged and owed.staged != self._owed.staged
        if more_staged or owed.urgent != self._owed.urgent or not self._rewritten.issuperset(positions):
            forget_texts()
            self._search.remove(positions)
            self._database.rewrite()
            self._rewritten.update(positions)
            self._owed = owed
        if not (self._search.truncate() and self._database.truncate()):
            return False
        self._erasures.save_swept(positions, self._owed)
        self._rewritten.clear()
        self._owed = Owed()
        logger.info("event=swept entries=%d", len(positions))
        return True
